//! `al new`: a project from nothing, on a terminal and without one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::support::project::Project;
use crate::support::pty::{CTRL_C, ENTER};

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_project_is_made_without_questions_when_they_are_answered() {
    let project = Project::without_docker("");
    let done = project.al(&["new", "../demo", "-H"]).run();
    let dir = project.outer().join("demo");
    let path = dir.display();
    let mut expected = "  anthropic_key is not stored; add it with `al creds add anthropic_key`\n".to_owned();
    for name in ["config.toml", "Dockerfile", "AGENTS.md", "CLAUDE.md", ".env.toml", ".gitignore"] {
        expected += &format!("  Wrote {path}/{name}\n");
    }
    let credentials = project.home().join(".action-llama/credentials");
    expected += &format!(
        "\n  Provider:    anthropic\n  Model:       claude-sonnet-5-5\n  Credentials: {}/\n  Project:     {path}/\n\nNext \
         steps:\n  cd ../demo\n  al chat\n  al agent new\n  al start\n",
        credentials.display()
    );
    assert_eq!(done.expect(0).stdout, expected);
    let files =
        [".env.toml", ".gitignore", ".workspace", "AGENTS.md", "CLAUDE.md", "Dockerfile", "agents", "config.toml"];
    assert_eq!(names(&dir), files);
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    assert_eq!(
        read("config.toml"),
        "[model]\nprovider = \"anthropic\"\nmodel = \"claude-sonnet-5-5\"\nthinkingLevel = \"medium\"\nauthType = \"api_key\"\n"
    );
    assert_eq!(read(".env.toml"), "projectName = \"demo\"\n");
    assert_eq!(fs::metadata(dir.join(".env.toml")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(read(".gitignore"), "node_modules/\n.workspace/\n.al/\n.env.toml\n*.log\n.DS_Store\n");
    assert!(read("AGENTS.md").contains("Action Llama Project") && read("AGENTS.md") == read("CLAUDE.md"));
    let mark = format!("<!-- action-llama {} -->\n", env!("CARGO_PKG_VERSION"));
    assert!(read("AGENTS.md").ends_with(&mark));
    let instructions: Vec<String> =
        read("Dockerfile").lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
    assert_eq!(instructions, ["FROM al-agent:latest"]);
    // What was made is a project that nothing is wrong with.
    let doctor = project.al(&["doctor", "-H", "-p", "../demo"]).run();
    assert!(doctor.expect(0).stdout.contains("No agents found"), "{}", doctor.stderr);
}

/// The scripted model had an id that no script has, so that the first run failed.
#[test]
fn a_project_whose_model_is_scripted_names_a_script_that_there_is() {
    let project = Project::without_docker("");
    project.al(&["new", "x", "--provider", "mock", "-H"]).run().expect(0);
    let config = fs::read_to_string(project.root().join("x/config.toml")).unwrap();
    assert!(config.starts_with("[model]\nprovider = \"mock\"\nmodel = \"echo\"\n"), "{config}");
}

#[test]
fn flags_say_which_model() {
    let project = Project::without_docker("");
    let new = ["new", "x", "--provider", "openai", "--model", "m\"1", "--thinking=high"];
    project.al(&new).run().expect(0);
    let config = fs::read_to_string(project.root().join("x/config.toml")).unwrap();
    assert_eq!(
        config,
        "[model]\nprovider = \"openai\"\nmodel = 'm\"1'\nthinkingLevel = \"high\"\nauthType = \"api_key\"\n"
    );
    let done = project.al(&["new", "y", "--no-interactive", "--provider", "groq"]).run();
    assert!(done.expect(0).stdout.contains("openai/gpt-oss-120b"));
    for (args, part) in [
        (["--provider", "bogus"], "option '--provider <p>' argument 'bogus' is invalid. It must be one of anthropic"),
        (["--thinking", "hard"], "option '--thinking <level>' argument 'hard' is invalid. It must be one of off"),
    ] {
        let done = project.al(&[&["new", "z", "-H"], &args[..]].concat()).run();
        assert!(done.expect(1).stderr.contains(part), "{}", done.stderr);
    }
    assert!(!project.root().join("z").exists());
}

#[test]
fn what_a_project_with_a_server_of_its_own_still_lacks_is_said() {
    let project = Project::without_docker("");
    let done = project.al(&["new", "x", "-H", "--provider", "custom"]).run();
    // The server may want no key; an address it has to have.
    let told = "  Write the address of the server into config.toml: baseUrl = \"http://…\", below [model]\n";
    assert!(done.expect(0).stdout.contains(told) && !done.stdout.contains("custom_key"), "{}", done.stdout);
    let done = project.al(&["new", "y", "-H", "--provider", "xai"]).run();
    assert!(!done.expect(0).stdout.contains("baseUrl"), "{}", done.stdout);
}

#[test]
fn without_a_terminal_the_missing_flags_are_named() {
    let project = Project::without_docker("");
    let done = project.al(&["new", "x"]).run();
    assert!(done.expect(1).stderr.contains("missing: --provider <p>, --model <m>"), "{}", done.stderr);
    let done = project.al(&["new", "x", "--provider", "xai"]).run();
    assert!(done.expect(1).stderr.contains("missing: --model <m>\n"), "{}", done.stderr);
    assert!(!project.root().join("x").exists());
}

#[test]
fn a_project_that_is_there_stays_as_it_is() {
    let project = Project::without_docker("");
    let before = fs::read(project.root().join("config.toml")).unwrap();
    for name in [".", "../project"] {
        let done = project.al(&["new", name, "-H"]).run();
        assert!(done.expect(1).stderr.contains(&project.root().display().to_string()), "{}", done.stderr);
    }
    assert_eq!(fs::read(project.root().join("config.toml")).unwrap(), before);
    for name in ["", "a b", "..", "ü"] {
        let done = project.al(&["new", name, "-H"]).run();
        assert!(done.status == 1 && done.stderr.starts_with("Error: "), "{name}: {}", done.stderr);
    }
    // A directory that is no project keeps what it has.
    let dir = project.outer().join("half");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join(".gitignore"), "target\n.al/").unwrap();
    fs::write(dir.join("Dockerfile"), "mine").unwrap();
    project.al(&["new", "../half", "-H"]).run().expect(0);
    let ignored = fs::read_to_string(dir.join(".gitignore")).unwrap();
    assert_eq!(ignored, "target\n.al/\nnode_modules/\n.workspace/\n.env.toml\n*.log\n.DS_Store\n");
    assert_eq!(fs::read_to_string(dir.join("Dockerfile")).unwrap(), "mine");
}

#[test]
fn a_person_is_asked_for_provider_model_and_key() {
    let project = Project::without_docker("");
    let mut al = project.al(&["new", "../demo"]).on_pty();
    al.wait_for("Provider:").wait_for("> anthropic").type_in("g").wait_for("> groq").type_in(ENTER);
    al.answer("Model: (openai/gpt-oss-120b)", "").answer("Groq API Credential — API Key:", "gsk_secret");
    al.wait_for("Wrote").wait_for("groq_key/default/").wait_for("Next steps:");
    let (status, screen) = al.finish();
    assert_eq!(status, 0);
    assert!(screen.iter().any(|line| line == "  Provider:    groq"), "{screen:?}");
    let stored = project.home().join(".action-llama/credentials/groq_key/default/token");
    assert_eq!(fs::read_to_string(stored).unwrap(), "gsk_secret\n");

    let mut al = project.al(&["new", "../again", "--provider", "groq"]).on_pty();
    al.wait_for("> groq").type_in(ENTER).answer("Model:", "other/model").answer("Use it? (Y/n)", "");
    al.wait_for("unchanged").wait_for("al start");
    assert_eq!(al.finish().0, 0);
}

#[test]
fn an_oauth_token_is_recognised() {
    let project = Project::without_docker("");
    let mut al = project.al(&["new", "../demo"]).on_pty();
    al.wait_for("> anthropic")
        .type_in(ENTER)
        .wait_for("> claude-sonnet-5-5")
        .wait_for("other")
        .type_in("o")
        .type_in(ENTER);
    al.answer("Model id:", "claude-next")
        .wait_for("OAuth token")
        .type_in("o\r")
        .answer("OAuth token:", "sk-ant-oat01-x");
    al.wait_for("al start");
    assert_eq!(al.finish().0, 0);
    let config = fs::read_to_string(project.outer().join("demo/config.toml")).unwrap();
    let expected = "model = \"claude-next\"\nthinkingLevel = \"medium\"\nauthType = \"oauth_token\"\n";
    assert!(config.ends_with(expected), "{config}");
}

#[test]
fn breaking_off_leaves_neither_project_nor_credential() {
    let project = Project::without_docker("");
    let mut al = project.al(&["new", "../demo"]).on_pty();
    al.wait_for("Provider:").type_in("x").wait_for("> xai").type_in(ENTER).wait_for("Model:").type_in(ENTER);
    al.wait_for("API Key:").type_in("xai-x").type_in(CTRL_C);
    assert_eq!(al.finish().0, 130);
    assert!(!project.outer().join("demo").exists() && !project.home().join(".action-llama").exists());
}
