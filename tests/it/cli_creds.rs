//! `al creds`: listing, adding, removing, on a terminal and without one.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::support::project::Project;
use crate::support::pty::{CTRL_C, DOWN, ENTER};

/// The beginning and the end of a private key, in two parts so that nobody takes this file for one.
const KEY: &str = concat!("-----BEGIN OPENSSH ", "PRIVATE KEY-----\nAAAA\nBBBB\n-----END OPENSSH PRIVATE KEY-----");

fn root(project: &Project) -> PathBuf {
    project.home().join(".action-llama/credentials")
}

fn read(project: &Project, path: &str) -> String {
    fs::read_to_string(root(project).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every path below a directory with its mode and content.
fn tree(dir: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let mode = path.symlink_metadata().unwrap().permissions().mode() & 0o777;
        found.insert(path.clone(), (mode, fs::read(&path).unwrap_or_default()));
        found.extend(tree(&path));
    }
    found
}

#[test]
fn nothing_stored_is_said_with_the_place() {
    let project = Project::without_docker("");
    let done = project.al(&["creds", "ls"]).run();
    assert_eq!(done.expect(0).stdout, format!("No credentials found at {}\n", root(&project).display()));
    assert_eq!(project.al(&["creds", "ls", "--json"]).run().stdout, "{\"credentials\":[]}\n");
}

#[test]
fn the_listing_has_the_specified_layout_and_no_value() {
    let project = Project::without_docker("");
    for (reference, value) in [("github_webhook_secret:myapp", "one"), ("github_webhook_secret", "two"), ("x_own", "")]
    {
        if value.is_empty() {
            project.credential(reference, "field", "three");
            continue;
        }
        let done = project.al(&["creds", "add", reference, "--from-env", "secret=V"]).env("V", value).run();
        assert_eq!(done.expect(0).stdout, format!("Credential \"{reference}\" saved.\n"));
    }
    let done = project.al(&["creds", "ls"]).run();
    assert_eq!(
        done.expect(0).stdout,
        "\n  GitHub Webhook Secret (github_webhook_secret)\n    github_webhook_secret  (secret)\n    \
         github_webhook_secret:myapp  (secret)\n\n  x_own (x_own)\n    x_own  (field)\n\n"
    );
    let json = project.al(&["creds", "ls", "--json"]).run().stdout;
    assert!(
        json.contains(r#"{"ref":"github_webhook_secret:myapp","type":"github_webhook_secret","instance":"myapp""#),
        "{json}"
    );
    assert!(!json.contains("one") && !json.contains("three"), "{json}");
}

#[test]
fn references_cannot_leave_the_folder() {
    let project = Project::without_docker("");
    project.credential("github_token", "token", "ghp_kept");
    fs::create_dir_all(project.home().join(".action-llama/environments")).unwrap();
    let before = tree(&project.home());
    for reference in [":", "github_token:", "..:environments", "../x", "a/b:c", "a:b:c", "github_token:..", ""] {
        for verb in ["rm", "add"] {
            let done = project.al(&["creds", verb, reference]).run();
            let expected = format!("Credential error: \"{reference}\" is not a credential reference");
            assert!(done.expect(1).stderr.starts_with(&expected), "{}", done.stderr);
        }
    }
    assert_eq!(tree(&project.home()), before);
}

#[test]
fn removing_takes_the_instance_and_an_empty_type_away() {
    let project = Project::without_docker("");
    for reference in ["linear_token:a", "linear_token:b"] {
        project.al(&["creds", "add", reference, "--no-verify", "--stdin"]).stdin("x\n").run().expect(0);
    }
    let done = project.al(&["creds", "rm", "linear_token:a"]).run();
    assert_eq!(done.expect(0).stdout, "Credential \"linear_token:a\" removed.\n");
    let again = project.al(&["creds", "rm", "linear_token:a"]).run();
    assert_eq!(again.expect(1).stderr, "Error: Credential \"linear_token:a\" not found.\n");
    project.al(&["creds", "rm", " linear_token : b "]).run().expect(0);
    assert!(!root(&project).join("linear_token").exists());
}

#[test]
fn removing_a_link_leaves_what_it_leads_to() {
    let project = Project::without_docker("");
    let elsewhere = project.outer().join("elsewhere");
    fs::create_dir_all(&elsewhere).unwrap();
    fs::write(elsewhere.join("token"), "x").unwrap();
    fs::create_dir_all(root(&project).join("linear_token")).unwrap();
    std::os::unix::fs::symlink(&elsewhere, root(&project).join("linear_token/default")).unwrap();
    project.al(&["creds", "rm", "linear_token"]).run().expect(1);
    assert!(elsewhere.join("token").exists());
}

#[test]
fn without_a_terminal_everything_that_is_missing_is_listed() {
    let project = Project::without_docker("");
    let done = project.al(&["creds", "add", "reddit_oauth"]).run();
    for part in
        ["\"reddit_oauth\"", "client_id, client_secret, username, password, user_agent", "--from-env", "--stdin"]
    {
        assert!(done.expect(1).stderr.contains(part), "{}", done.stderr);
    }
    let add = [
        "creds",
        "add",
        "reddit_oauth",
        "--from-env",
        "client_id=ID",
        "--from-env=username=NOBODY",
        "--from-file",
        "x=/y",
    ];
    let done = project.al(&add).env("ID", "1").run();
    for part in [
        "client_secret: is missing",
        "NOBODY is not set",
        "--from-file x: there is no such field",
        "user_agent: is missing",
    ] {
        assert!(done.expect(1).stderr.contains(part), "{}", done.stderr);
    }
    let unknown = project.al(&["creds", "add", "bogus"]).run();
    assert!(
        unknown.expect(1).stderr.starts_with("Error: \"bogus\" is not a credential type; known types: github_token, ")
    );
    assert!(unknown.stderr.contains(", cloudflare_origin_cert"));
    assert!(!root(&project).exists());
}

/// Whoever types the example after the message has done what was asked for.
#[test]
fn the_example_for_scripts_gives_everything_that_a_type_needs() {
    let project = Project::without_docker("");
    project.write("my_id_rsa", KEY);
    project.write("my_private_key", KEY);
    for (reference, value) in
        [("git_ssh", "bot"), ("aws", "ABCDEFGHIJKLMNOP"), ("reddit_oauth", "x"), ("openai_key", "sk-1")]
    {
        let told = project.al(&["creds", "add", reference]).run();
        let (_, example) = told.expect(1).stderr.trim_end().split_once("for example: al ").expect("an example");
        let words: Vec<&str> = example.split(' ').chain(["--no-verify"]).collect();
        let variables = words.iter().filter_map(|word| Some(word.split_once("=MY_")?.1));
        let al = variables.fold(project.al(&words), |al, name| al.env(&format!("MY_{name}"), value));
        assert_eq!(al.run().expect(0).stdout, format!("Credential \"{reference}\" saved.\n"), "{example}");
    }
}

#[test]
fn a_field_that_was_given_in_vain_is_complained_about_once() {
    let project = Project::without_docker("");
    for (option, problem) in [
        ("--from-env=token=NOBODY", "token: the variable NOBODY is not set"),
        ("--from-file=token=/nowhere", "token: /nowhere: No such file or directory (os error 2)"),
    ] {
        let done = project.al(&["creds", "add", "github_token", option]).run();
        let expected = format!("Credential error: \"github_token\" has the fields token:\n  - {problem}\n");
        assert_eq!(done.expect(1).stderr, expected);
    }
    let done = project.al(&["creds", "add", "git_ssh", "--stdin"]).stdin("x").run();
    assert!(
        done.expect(1).stderr.ends_with(":\n  - --stdin: is not a JSON object of the fields as strings\n"),
        "{}",
        done.stderr
    );
}

#[test]
fn what_only_provisioning_writes_cannot_be_added() {
    let project = Project::without_docker("");
    let add = ["creds", "add", "cloudflare_origin_cert:a.example"];
    let object = r#"{"certificate":"c","private_key":"k"}"#;
    let by_script = project.al(&[&add[..], &["--stdin", "--no-verify"]].concat()).stdin(object).run();
    let (status, screen) = project.al(&add).on_pty().finish();
    for text in [&by_script.expect(1).stderr, &screen.join("\n")] {
        assert!(text.contains("\"cloudflare_origin_cert\" is written by provisioning only"), "{text}");
    }
    assert!(status == 1 && !root(&project).exists());
}

#[test]
fn several_fields_come_as_a_json_object_and_old_ones_go() {
    let project = Project::without_docker("");
    let add = |json: &str| project.al(&["creds", "add", "git_ssh", "--stdin"]).stdin(json).run();
    let object =
        |key: &str| serde_json::json!({"username": "Ann", "email": "ann@example.com", "id_rsa": key}).to_string();
    add(&object(KEY)).expect(0);
    assert_eq!(read(&project, "git_ssh/default/id_rsa"), format!("{KEY}\n"));
    for file in tree(&root(&project)) {
        let expected = if file.0.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(file.1.0, expected, "{}", file.0.display());
    }
    fs::write(root(&project).join("git_ssh/default/known_hosts"), "example.com ssh-ed25519 AAAA\n").unwrap();
    add(r#"{"username": "Bob", "email": "bob@example.com"}"#).expect(0);
    assert!(!root(&project).join("git_ssh/default/id_rsa").exists());
    assert_eq!(read(&project, "git_ssh/default/username"), "Bob\n");
    assert_eq!(read(&project, "git_ssh/default/known_hosts"), "example.com ssh-ed25519 AAAA\n");
    for (json, part) in [
        ("{", "--stdin: is not a JSON object"),
        (r#"{"username": "A", "email": "b", "id_rsa": "hunter2-hunter2"}"#, "id_rsa: This is no private key"),
        (r#"{"username": "A", "email": "b", "more": "c"}"#, "there is no field more"),
    ] {
        let done = add(json);
        assert!(done.expect(1).stderr.contains(part) && !done.stderr.contains("hunter2"), "{}", done.stderr);
    }
}

#[test]
fn the_directory_of_a_user_is_private_from_the_beginning() {
    let project = Project::without_docker("");
    project.al(&["creds", "add", "mintlify_token", "--from-env", "token=V"]).env("V", "x").run().expect(0);
    assert_eq!(fs::metadata(project.home().join(".action-llama")).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn loose_modes_are_closed_by_writing() {
    let project = Project::without_docker("");
    project.credential("mintlify_token", "token", "old");
    for path in ["", "mintlify_token", "mintlify_token/default", "mintlify_token/default/token"] {
        let path = root(&project).join(path);
        let mode = if path.is_dir() { 0o755 } else { 0o644 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    project.al(&["creds", "add", "mintlify_token", "--from-env", "token=V"]).env("V", "new").run().expect(0);
    for (path, (mode, _)) in tree(&root(&project)) {
        assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
    }
    assert_eq!(fs::metadata(root(&project)).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn types_are_a_table_without_a_terminal() {
    let project = Project::without_docker("");
    let done = project.al(&["creds", "types"]).run();
    let lines: Vec<&str> = done.expect(0).stdout.lines().collect();
    assert_eq!(lines.len(), 30);
    assert!(lines[0].starts_with("TYPE ") && lines[0].contains(" LABEL ") && lines[0].ends_with(" ENV VARS"));
    assert!(lines[1].starts_with("github_token ") && lines[1].ends_with(" GITHUB_TOKEN"), "{}", lines[1]);
    let json: serde_json::Value =
        serde_json::from_str(&project.al(&["creds", "types", "--json"]).run().stdout).unwrap();
    assert_eq!(json["types"].as_array().unwrap().len(), 29);
    assert_eq!(json["types"][0]["fields"][0]["variable"], "GITHUB_TOKEN");
}

#[test]
fn a_secret_that_is_typed_is_not_shown() {
    let project = Project::without_docker("");
    let mut al = project.al(&["creds", "add", "openai_key:team"]).on_pty();
    al.answer("OpenAI API Credential — API Key:", "").answer("Please enter a value.", "hunter2");
    al.wait_for("begin with sk-.").wait_for("API Key:").type_in("sk-very-secreT\x7ft").type_in(ENTER);
    al.wait_for("saved.");
    let (status, screen) = al.bytes_and_finish();
    assert_eq!(status, 0);
    assert!(screen.contains("**************") && !screen.contains("very") && !screen.contains("hunter2"), "{screen}");
    assert_eq!(read(&project, "openai_key/team/token"), "sk-very-secret\n");
}

#[test]
fn breaking_off_stores_nothing() {
    let project = Project::without_docker("");
    let mut al = project.al(&["creds", "add", "reddit_oauth"]).on_pty();
    al.answer("Client ID:", "id").wait_for("Client Secret:").type_in(CTRL_C);
    let (status, screen) = al.finish();
    assert_eq!(status, 130);
    assert!(screen.last().unwrap().is_empty(), "{screen:?}");
    assert!(!root(&project).exists());
}

#[test]
fn a_key_for_ssh_is_pasted_read_or_skipped() {
    let project = Project::without_docker("");
    let mut al = project.al(&["creds", "add", "git_ssh"]).on_pty();
    al.answer("Git Author Name:", "Ann").answer("Git Author Email:", "ann@example.com");
    al.wait_for("SSH key:").wait_for("Skip").type_in(DOWN).type_in(ENTER);
    al.wait_for("Paste the private key").type_in(&KEY.replace('\n', "\r")).type_in(ENTER);
    al.wait_for("saved.");
    assert_eq!(al.finish().0, 0);
    assert_eq!(read(&project, "git_ssh/default/id_rsa"), format!("{KEY}\n"));

    let mut al = project.al(&["creds", "add", "git_ssh"]).on_pty();
    al.wait_for("already exists. Re-running setup to update it.");
    al.answer("Found existing: Ann <ann@example.com> with SSH key. Keep it? (Y/n)", "n");
    al.answer("Git Author Name: (Ann)", "").answer("Git Author Email: (ann@example.com)", "bob@example.com");
    al.answer("Keep the existing SSH key? (Y/n)", "n");
    al.wait_for("Skip").type_in("s").type_in(ENTER).wait_for("saved.");
    assert_eq!(al.finish().0, 0);
    assert!(!root(&project).join("git_ssh/default/id_rsa").exists());
    assert_eq!(read(&project, "git_ssh/default/email"), "bob@example.com\n");

    fs::create_dir(project.home().join(".ssh")).unwrap();
    fs::write(project.home().join(".ssh/id_ed25519"), KEY).unwrap();
    let mut al = project.al(&["creds", "add", "git_ssh:bot"]).on_pty();
    al.answer("Name:", "Bot").answer("Email:", "bot@example.com").wait_for("Skip").type_in(ENTER);
    al.answer("File of the private key: (~/.ssh/id_ed25519)", "").wait_for("saved.");
    assert_eq!(al.finish().0, 0);
    assert_eq!(read(&project, "git_ssh/bot/id_rsa"), format!("{KEY}\n"));
}

#[test]
fn types_are_searched_shown_and_added_on_a_terminal() {
    let project = Project::without_docker("");
    let mut al = project.al(&["creds", "types"]).on_pty();
    al.wait_for("Credential type:").type_in("mintlify w").wait_for("search: mintlify w").type_in(ENTER);
    al.wait_for("Mintlify Webhook Secret (mintlify_webhook_secret)").wait_for("Fields: secret");
    al.answer("Add it now? (y/N)", "y").answer("Webhook Secret:", "tea and cake").wait_for("saved.");
    assert_eq!(al.finish().0, 0);
    assert_eq!(read(&project, "mintlify_webhook_secret/default/secret"), "tea and cake\n");
}

#[test]
fn without_colour_no_escape_sequence_is_written() {
    let project = Project::without_docker("");
    for (name, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let mut al = project.al(&["creds", "types"]);
        if name == "NO_COLOR" {
            al = al.env(name, value);
        }
        let mut al = if name == "TERM" { al.on_dumb_pty() } else { al.on_pty() };
        al.wait_for(" 1) GitHub Personal Access Token").answer("Number:", "99").answer("from 1 to 29.", "1");
        al.wait_for("Env vars: token → GITHUB_TOKEN, token → GH_TOKEN").answer("Add it now?", "");
        let (status, bytes) = al.bytes_and_finish();
        assert!(status == 0 && !bytes.contains('\x1b'), "{name}: {bytes:?}");
    }
}

#[test]
fn ci_is_nobody_to_ask_even_on_a_terminal() {
    let project = Project::without_docker("");
    for (name, value) in [("CI", "true"), ("AL_NO_INPUT", "1")] {
        let (status, screen) = project.al(&["creds", "add", "github_token"]).env(name, value).on_pty().finish();
        assert_eq!(status, 1);
        assert!(screen.join("\n").contains("cannot be asked for without a terminal"), "{screen:?}");
    }
}

#[test]
fn the_gateway_key_is_replaced_only_when_that_is_wanted() {
    let project = Project::without_docker("");
    project.credential("gateway_api_key", "key", "old-key-old-key");
    let mut al = project.al(&["creds", "add", "gateway_api_key"]).on_pty();
    al.answer("(y/N)", "").wait_for("Aborted.");
    assert_eq!(al.finish().0, 0);
    assert_eq!(read(&project, "gateway_api_key/default/key"), "old-key-old-key");
    let mut al = project.al(&["creds", "add", "gateway_api_key"]).on_pty();
    al.answer("(y/N)", "y").wait_for("saved.");
    assert_eq!(al.finish().0, 0);
    assert_eq!(read(&project, "gateway_api_key/default/key").trim().len(), 43);
}

#[test]
fn a_signal_leaves_the_terminal_of_a_question_as_it_was() {
    let project = Project::without_docker("");
    for signal in [Signal::TERM, Signal::HUP, Signal::QUIT, Signal::INT] {
        let mut al = project.al(&["creds", "add", "reddit_oauth"]).on_pty();
        al.answer("Client ID:", "id").wait_for("Client Secret:").type_in("sec").wait_for("***").signal(signal);
        assert_eq!(al.finish().0, -signal.as_raw());
        assert!(!root(&project).exists());
    }
}

#[test]
fn a_signal_that_is_to_be_ignored_is_while_a_question_is_open() {
    let project = Project::without_docker("");
    let al = project.al(&["creds", "add", "openai_key"]);
    let mut al = al.through("env", &["--ignore-signal=HUP"], env!("CARGO_BIN_EXE_al").as_ref()).on_pty();
    al.wait_for("API Key:").signal(Signal::HUP);
    al.type_in(CTRL_C);
    assert_eq!(al.finish().0, 130);
}
