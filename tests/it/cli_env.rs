//! `al env`: named environments, and the configuration that comes of them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::json;

use crate::support::project::Project;

pub(crate) fn file(project: &Project, name: &str) -> PathBuf {
    project.home().join(format!(".action-llama/environments/{name}.toml"))
}

fn mode(path: PathBuf) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_new_environment_is_private_and_never_written_over() {
    let project = Project::without_docker("");
    let done = project.al(&["env", "init", "prod", "-t", "server"]).run();
    let path = file(&project, "prod");
    assert_eq!(done.expect(0).stdout, format!("Created server environment \"prod\" at {}\n", path.display()));
    let expected = "[server]\nhost = \"REPLACE_ME\"\nuser = \"root\"\nport = 22\nbasePath = \"/opt/action-llama\"\n";
    assert_eq!(fs::read_to_string(&path).unwrap(), expected);
    assert_eq!(mode(path.clone()), 0o600);
    assert_eq!(mode(path.parent().unwrap().into()), 0o700);
    assert_eq!(mode(project.home().join(".action-llama")), 0o700);
    fs::write(&path, "mine").unwrap();
    let again = project.al(&["env", "init", "prod", "-t", "server"]).run();
    let problem = format!("Configuration error: environment \"prod\" is already there: {}\n", path.display());
    assert_eq!(again.expect(1).stderr, problem);
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
}

#[test]
fn names_and_types_are_checked_before_anything_is_written() {
    let project = Project::without_docker("");
    for name in ["../x", "a/b", ".x", ""] {
        let done = project.al(&["env", "init", name, "-t", "server"]).run();
        assert!(done.expect(1).stderr.contains(&format!("\"{name}\" is not an environment name")), "{}", done.stderr);
        project.al(&["env", "show", name]).run().expect(1);
        project.al(&["env", "set", name]).run().expect(1);
    }
    let done = project.al(&["env", "init", "x", "--type", "cloud"]).run();
    assert!(done.expect(1).stderr.contains("\"cloud\"") && done.stderr.contains("server"), "{}", done.stderr);
    let done = project.al(&["env", "init", "x"]).run();
    assert_eq!(done.expect(1).stderr, "error: required option '-t, --type <type>' not specified\n");
    assert!(fs::read_dir(project.home()).unwrap().next().is_none());
    assert!(!project.root().join(".env.toml").exists());
}

#[test]
fn environments_are_listed_with_what_they_are() {
    let project = Project::without_docker("");
    let none = project.al(&["env", "list"]).run();
    assert!(none.expect(0).stdout.starts_with("No environments configured.\n"));
    project.al(&["env", "init", "prod", "-t", "server"]).run().expect(0);
    fs::write(file(&project, "odd"), "x = 1").unwrap();
    fs::write(file(&project, "bad"), "x = ").unwrap();
    let done = project.al(&["env", "list"]).run();
    assert_eq!(done.expect(0).stdout, "Environments:\n  bad (invalid config)\n  odd (unknown)\n  prod (server)\n");
    let document: serde_json::Value =
        serde_json::from_str(&project.al(&["env", "list", "--json"]).run().stdout).unwrap();
    let types: Vec<_> = document["environments"].as_array().unwrap().iter().map(|one| one["type"].clone()).collect();
    assert_eq!(types, ["invalid", "unknown", "server"]);
    assert_eq!(document["environments"][2]["host"], "REPLACE_ME");
}

#[test]
fn an_environment_is_shown_as_it_is() {
    let project = Project::without_docker("");
    project.al(&["env", "init", "prod", "-t", "server"]).run().expect(0);
    let path = file(&project, "prod");
    fs::write(&path, "# a comment\n[gateway]\nurl = 'https://a.example'\n").unwrap();
    let done = project.al(&["env", "show", "prod"]).run();
    let head = format!("Environment: prod\nFile: {}\n\n", path.display());
    assert_eq!(done.expect(0).stdout, format!("{head}# a comment\n[gateway]\nurl = 'https://a.example'\n"));
    let done = project.al(&["env", "show", "nowhere"]).run();
    assert!(done.expect(1).stderr.starts_with("Configuration error: environment \"nowhere\" does not exist"));
    assert!(done.stderr.contains("al env list"));
}

#[test]
fn binding_a_project_changes_one_line() {
    let project = Project::without_docker("");
    let local = "# mine\nprojectName = 'x' # behind\n\n# which one\nenvironment = 'old'\n\n[gateway]\nport = 9090\n";
    project.write(".env.toml", local);
    let done = project.al(&["env", "set", "prod"]).run();
    assert_eq!(done.expect(0).stdout, "Project bound to environment \"prod\".\n");
    assert!(done.stderr.contains("\"prod\"") && done.stderr.contains("al env init"), "{}", done.stderr);
    let read = || fs::read_to_string(project.root().join(".env.toml")).unwrap();
    assert_eq!(read(), local.replace("'old'", "\"prod\""));
    project.al(&["env", "init", "prod", "-t", "server"]).run().expect(0);
    assert_eq!(project.al(&["env", "set", "prod"]).run().expect(0).stderr, "");
    let done = project.al(&["env", "set"]).run();
    assert!(done.expect(0).stdout.contains("local scheduler"));
    assert_eq!(read(), local.replace("environment = 'old'\n", ""));
    fs::remove_file(project.root().join(".env.toml")).unwrap();
    project.al(&["env", "set", "prod", "-p", "."]).run().expect(0);
    assert_eq!(read(), "environment = \"prod\"\n");
    assert_eq!(mode(project.root().join(".env.toml")), 0o600);
    fs::remove_file(file(&project, "prod")).unwrap();
    project.al(&["doctor", "-H"]).run().expect(1);
    project.al(&["env", "set"]).run().expect(0);
    assert_eq!(read(), "");
}

#[test]
fn merged_values_name_their_file_and_hide_secrets() {
    let project = Project::without_docker("");
    project.write("config.toml", "[gateway]\nport = 8080\n[webhooks.gh]\ntype = 'github'\n[model]\nprovider = 'mock'\nmodel = 'm'\nheaders = { a = 'hush' }\n[[model.fallback]]\nprovider = 'mock'\nmodel = 'n'\nheaders = { b = 'hush' }\n");
    project.write(".env.toml", "environment = 'stage'\nprojectName = 'p'\n[gateway]\nport = 9090\n");
    project.al(&["env", "init", "stage", "-t", "server"]).run().expect(0);
    let stage = file(&project, "stage");
    fs::write(
        &stage,
        "[gateway]\nurl = 'https://a.example'\n[server]\nhost = '192.0.2.7'\n[telemetry.headers]\nkey = 'hush'\n",
    )
    .unwrap();
    let done = project.al(&["env", "show", "--merged"]).run();
    let stage = stage.display();
    let expected = format!(
        "gateway.port = 9090  # .env.toml\ngateway.url = \"https://a.example\"  # {stage}\nmodel.fallback = [{{ headers = \
         {{ b = \"***\" }}, model = \"n\", provider = \"mock\" }}]  # config.toml\nmodel.headers.a = \"***\"  # \
         config.toml\nmodel.model = \"m\"  # config.toml\nmodel.provider = \"mock\"  # config.toml\nprojectName = \"p\"  # \
         .env.toml\nserver.host = \"192.0.2.7\"  # {stage}\ntelemetry.headers.key = \"***\"  # \
         {stage}\nwebhooks.gh.type = \"github\"  # config.toml\n"
    );
    assert_eq!(done.expect(0).stdout, expected);
    let document: serde_json::Value =
        serde_json::from_str(&project.al(&["env", "show", "--merged", "--json"]).run().stdout).unwrap();
    assert_eq!(document["environment"], "stage");
    assert_eq!(document["values"][0], json!({"key": "gateway.port", "value": 9090, "file": ".env.toml"}));
    project.al(&["env", "set"]).run().expect(0);
    let local = project.al(&["env", "show", "--merged", "--json"]).run();
    assert!(local.expect(0).stdout.starts_with("{\"environment\":null,"), "{}", local.stdout);
    assert!(project.al(&["env", "show", "stage", "--merged"]).run().stdout.contains("server.host"));
}

#[test]
fn what_needs_no_environment_works_when_it_is_missing() {
    let project = Project::without_docker("");
    project.write("agents/dev/agent-config.toml", "");
    project.write(".env.toml", "environment = 'gone'\n");
    assert!(project.al(&["stat"]).run().expect(1).stderr.contains("\"gone\" does not exist"));
    project.al(&["stats"]).env("AL_ENV", "lost").run().expect(0);
    project.al(&["agent", "rm", "dev", "--yes"]).run().expect(0);
    assert!(!project.root().join("agents/dev").exists());
}

#[test]
fn name_and_password_in_a_url_are_shown_nowhere() {
    let project = Project::without_docker("");
    project.write(
        "config.toml",
        "[model]\nprovider = 'custom'\nmodel = 'm'\nbaseUrl = 'https://ann:hunter2pw@m.example/v1'\n",
    );
    project.write("agents/dev/ACTIONS.md", "Work.");
    let agent = |step: &str| {
        project.write("agents/dev/agent-config.toml", format!("schedule = '0 0 * * *'\n[[preflight]]\n{step}\n"));
    };
    agent("provider = 'git-clone'\nparams = { repo = 'https://ann:hunter2pw@git.example/x', dest = 'y' }");
    project.al(&["env", "init", "stage", "-t", "server"]).run().expect(0);
    let stage = |url: &str| fs::write(file(&project, "stage"), format!("[gateway]\nurl = {url}\n")).unwrap();
    let said = |args: &[&str]| {
        let done = project.al(args).run();
        let said = done.stdout + &done.stderr;
        assert!(!said.contains("hunter2pw") && !said.contains("ann"), "{args:?}: {said}");
        said
    };
    stage("'https://ann:hunter2pw@127.0.0.1:1'");
    for args in [&["env", "show", "--merged", "stage"][..], &["config", "show", "--origin", "-E", "stage"]] {
        let shown = said(args);
        for part in ["model.baseUrl = \"https://***@m.example/v1\"", "gateway.url = \"https://***@127.0.0.1:1\""] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }
    assert!(said(&["env", "show", "--merged", "stage", "--json"]).contains("https://***@m.example/v1"));
    assert!(said(&["agent", "show", "dev"]).contains("repo = \"https://***@git.example/x\""));
    assert!(said(&["stat", "-E", "stage"]).contains("https://127.0.0.1:1"));

    // Nor where it is wrong: for the configuration, for who connects, for TOML.
    for (url, part) in [
        ("'https://ann:hunter2pw@a.example?x'", "\"https://***@a.example?x\" is not"),
        ("'https://ann:hunter2pw@a|b'", "\"https://***@a|b\" is not"),
        ("'https://ann:hunter2pw/@a.example'", "\"https://***@a.example\" is not"),
        ("'https://ann:hunter2pw@a.example' x", "'https://***@a.example' x"),
    ] {
        stage(url);
        let shown = said(&["stat", "-E", "stage"]);
        assert!(shown.contains(part), "{url}: {shown}");
    }
    agent("provider = 'https://ann:hunter2pw@a.example'");
    assert!(said(&["doctor", "-H"]).contains("https://***@a.example"));
}

#[test]
fn a_group_alone_prints_its_help_as_a_failure() {
    let project = Project::without_docker("");
    for group in ["env", "creds"] {
        let done = project.al(&[group]).run();
        assert!(done.expect(1).stdout.is_empty() && done.stderr.starts_with(&format!("Usage: al {group} <command>")));
        assert!(project.al(&["help", group]).run().expect(0).stderr.is_empty());
    }
    let done = project.al(&["env", "lst"]).run();
    assert_eq!(done.expect(1).stderr, "error: unknown command 'lst'\n(Did you mean list?)\n");
}

/// A stand-in for `ssh` that runs what is to be run there on this machine, with these programs first on the path.
pub(crate) fn fake_ssh(project: &Project, programs: &[(&str, &str)]) -> PathBuf {
    let write = |path: &PathBuf, text: &str| {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let bin = project.outer().join("there");
    fs::create_dir_all(&bin).unwrap();
    for (name, script) in programs {
        write(&bin.join(name), &format!("#!/bin/sh\n{script}\n"));
    }
    let ssh = project.outer().join("ssh");
    let log = project.outer().join("ssh.log");
    write(
        &ssh,
        &format!(
            "#!/bin/sh\nprintf '%s\\n' \"$*\" >>{}\nfor last; do :; done\nPATH={}:$PATH exec sh -c \"$last\"\n",
            log.display(),
            bin.display()
        ),
    );
    ssh
}

#[test]
fn a_server_is_checked_from_connection_to_service() {
    let project = Project::without_docker("");
    project.al(&["env", "init", "prod", "-t", "server"]).run().expect(0);
    let done = project.al(&["env", "check", "prod"]).run();
    assert!(done.expect(1).stderr.contains("REPLACE_ME"), "{}", done.stderr);
    fs::write(file(&project, "prod"), "[server]\nhost = '192.0.2.7'\nuser = 'ann'\nport = 2222\nkeyPath = '~/key'\n")
        .unwrap();
    let programs = [
        ("id", "echo 1000"),
        ("sudo", "[ \"$1\" = -n ] && shift; exec \"$@\""),
        ("docker", "echo 27.1.1"),
        ("ps", "echo systemd"),
        (
            "systemctl",
            "case $1 in --version) echo 'systemd 252';; show) printf 'LoadState=loaded\\nActiveState=active\\n';; esac",
        ),
        ("df", "printf 'head\\nfs 1 1 8388608 1%% /\\n'"),
    ];
    let ssh = fake_ssh(&project, &programs);
    let check = |args: &[&str]| project.al(&[&["env", "check", "prod"], args].concat()).env("AL_SSH", &ssh).run();
    let expected = "Checking environment \"prod\"...\n  ✓ SSH connectivity (ann@192.0.2.7:2222)\n  ✓ Privileges (sudo)\n  ✓ Docker \
                    (27.1.1)\n  ✓ systemd (systemd 252)\n  ✓ Disk (8192 MiB free)\n  ✓ Service (active)\nAll checks passed.\n";
    assert_eq!(check(&[]).expect(0).stdout, expected);
    let log = fs::read_to_string(project.outer().join("ssh.log")).unwrap();
    let key = project.home().join("key");
    for part in [
        "BatchMode=yes",
        "StrictHostKeyChecking=accept-new",
        "-p 2222",
        &format!("-i {}", key.display()),
        "-- ann@192.0.2.7 sh -s",
    ] {
        assert!(log.contains(part), "{part}: {log}");
    }
    // A configured key is the only one that counts, and its file is gone afterwards, as is that of a killed process.
    let left = project.temp().join("al-ssh.00000000");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("lock"), "").unwrap();
    let pinned = "[server]\nhost = '192.0.2.7'\nport = 2222\nhostKey = 'ssh-ed25519 AAAA'\n";
    let before = fs::read_to_string(file(&project, "prod")).unwrap();
    fs::write(file(&project, "prod"), pinned).unwrap();
    check(&[]).expect(0);
    let log = fs::read_to_string(project.outer().join("ssh.log")).unwrap();
    let last = log.lines().rfind(|line| line.contains("-T ")).unwrap();
    assert!(last.contains("StrictHostKeyChecking=yes") && !last.contains("accept-new"), "{last}");
    assert_eq!(fs::read_dir(project.temp()).unwrap().count(), 0);
    fs::write(file(&project, "prod"), before).unwrap();
    // Things go wrong.
    fake_ssh(
        &project,
        &[
            ("sudo", "echo 'a password is required' >&2; exit 1"),
            ("docker", "echo down >&2; exit 1"),
            ("systemctl", "true"),
            ("df", "printf 'h\\nfs 1 1 1000 1%% /\\n'"),
        ],
    );
    let done = check(&[]);
    for line in [
        "  ✗ Privileges (a password is required)",
        "  ✗ Docker (not running: down)",
        "  ✗ Disk (0 MiB free)",
        "  - Service (not set up yet; 'al docs server' says how)",
        "3 issue(s) found.",
    ] {
        assert!(done.expect(1).stdout.contains(line), "{line}: {}", done.stdout);
    }
    let document: serde_json::Value = serde_json::from_str(&check(&["--json"]).expect(1).stdout).unwrap();
    assert_eq!((&document["environment"], &document["ok"]), (&json!("prod"), &json!(false)));
    assert_eq!(
        document["checks"][2],
        json!({"name": "Docker", "status": "fail", "detail": "not running: down", "fixable": true})
    );
    // No connection: nothing else is asked.
    fs::write(&ssh, "#!/bin/sh\necho 'ssh: connect to host 192.0.2.7 port 2222: Connection refused' >&2\nexit 255\n")
        .unwrap();
    let done = check(&[]);
    let line = "  ✗ SSH connectivity (cannot reach ann@192.0.2.7:2222: unreachable: ssh: connect to host 192.0.2.7 port 2222: \
                Connection refused)\n1 issue(s) found.\n";
    assert!(done.expect(1).stdout.contains(line), "{}", done.stdout);
}

#[test]
fn files_for_ssh_may_be_anywhere_and_are_where_tmpdir_says() {
    let project = Project::without_docker("");
    let ssh = fake_ssh(&project, &[]);
    fs::create_dir_all(file(&project, "prod").parent().unwrap()).unwrap();
    fs::write(file(&project, "prod"), "[server]\nhost = '192.0.2.7'\nkeyPath = '/keys/100%/id'\n").unwrap();
    let check = || project.al(&["env", "check", "prod"]).env("AL_SSH", &ssh);
    check().run().expect(1);
    let log = fs::read_to_string(project.outer().join("ssh.log")).unwrap();
    assert!(log.contains("-o IdentityFile=\"/keys/100%%/id\" -o IdentitiesOnly=yes"), "{log}");
    fs::write(file(&project, "prod"), "[server]\nhost = '192.0.2.7'\nhostKey = 'ssh-ed25519 AAAA'\n").unwrap();
    let done = check().env("TMPDIR", "/proc/nowhere").run();
    let said = &done.expect(1).stdout;
    assert!(said.contains("cannot use /proc/nowhere for temporary files") && said.contains("TMPDIR"), "{said}");
}

#[test]
fn an_environment_without_a_server_cannot_be_checked() {
    let project = Project::without_docker("");
    let done = project.al(&["env", "check", "nowhere"]).run();
    assert!(done.expect(1).stderr.contains("environment \"nowhere\" does not exist"), "{}", done.stderr);
    project.al(&["env", "init", "x", "-t", "server"]).run().expect(0);
    fs::write(file(&project, "x"), "[gateway]\nport = 1\n").unwrap();
    let done = project.al(&["env", "check", "x"]).run();
    assert!(done.expect(1).stderr.contains("environment \"x\" has no [server]"), "{}", done.stderr);
    fs::write(file(&project, "x"), "[server]\nhost = 'a'\nport = 0\nbasePath = '/x'\n").unwrap();
    let done = project.al(&["env", "check", "x"]).run();
    for key in ["server.port", "server.basePath"] {
        assert!(done.expect(1).stderr.contains(key), "{}", done.stderr);
    }
    // Half of a source is no mistake here: a project has the other half.
    fs::write(file(&project, "x"), "[server]\nhost = '192.0.2.7'\n[webhooks.gh]\ncredential = 'x'\n").unwrap();
    let done = project.al(&["env", "check", "x"]).env("AL_SSH", "/bin/false").run();
    assert!(done.expect(1).stdout.contains("SSH connectivity") && done.stderr.is_empty(), "{}", done.stderr);
}

#[test]
fn the_merged_configuration_is_a_command_of_its_own() {
    let project = Project::without_docker("scale = 3\n");
    project.write(".env.toml", "[gateway]\nport = 9090\n");
    let shown = |args: &[&str]| project.al(&[&["config", "show"], args].concat()).run().expect(0).stdout.clone();
    assert!(shown(&[]).starts_with("gateway.port = 9090\n"), "{}", shown(&[]));
    let with_files = project.al(&["env", "show", "--merged"]).run().expect(0).stdout.clone();
    assert_eq!(shown(&["--origin"]), with_files);
    assert!(with_files.contains("gateway.port = 9090  # .env.toml\n"));
    assert_eq!(shown(&["--json"]), project.al(&["env", "show", "--merged", "--json"]).run().stdout);
}
