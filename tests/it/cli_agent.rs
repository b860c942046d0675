//! `al agent`: templates, and changes to an agent's configuration.

use std::fs;

use expect_test::expect;
use serde_json::{Value, json};

use crate::support::project::Project;
use crate::support::pty::{CTRL_C, DOWN, ENTER};

const TYPES: [&str; 5] = ["dev", "reviewer", "planner", "reddit-moderator", "devops"];

/// Sources that templates name.
const SOURCES: &str = "[webhooks.github]\ntype = \"github\"\n[webhooks.sentry]\ntype = \"sentry\"\n";

fn config(project: &Project, agent: &str) -> String {
    fs::read_to_string(project.root().join(format!("agents/{agent}/agent-config.toml"))).unwrap()
}

fn store(project: &Project, kind: &str) {
    let known = shims::credential_types::find(kind).unwrap();
    for field in known.fields.iter().filter(|field| field.is_mandatory()) {
        project.credential(kind, field.name, "value-for-tests");
    }
}

#[test]
fn every_template_passes_the_doctor_as_it_is() {
    let project = Project::without_docker(SOURCES);
    for kind in TYPES {
        let done = project.al(&["agent", "new", "--type", kind, "--name", kind, "--no-config"]).run();
        assert_eq!(done.expect(0).stdout, format!("Created agent \"{kind}\" from {kind} template.\n"));
    }
    let again = project.al(&["agent", "new", "--type", "dev", "--name", "dev"]).run();
    let dir = project.root().join("agents/dev");
    assert!(
        again.expect(1).stderr.contains("\"dev\"") && again.stderr.contains(&dir.display().to_string()),
        "{}",
        again.stderr
    );
    let kinds = ["github_token", "git_ssh", "anthropic_key", "reddit_oauth", "sentry_token"];
    let missing = project.al(&["doctor", "-H"]).run();
    assert!(missing.expect(1).stderr.contains("5 credential(s) missing"), "{}", missing.stderr);
    kinds.iter().for_each(|kind| store(&project, kind));
    let done = project.al(&["doctor", "-H"]).run();
    assert!(done.expect(0).stdout.contains("5 credential(s) verified."), "{}", done.stderr);
    assert!(!done.stdout.contains("no longer served"), "{}", done.stdout);
}

#[test]
fn every_template_runs_as_generated() {
    // The package manager of the real base image is not there; what it would install is not used by the mock.
    let project = Project::with_settings(SOURCES);
    project.write(
        "Dockerfile",
        "FROM al-agent:latest\nUSER root\nRUN printf '#!/bin/sh\\n' >/usr/bin/apk && chmod 755 /usr/bin/apk\nUSER node\n",
    );
    for kind in TYPES {
        let name = project.name(kind);
        project.al(&["agent", "new", "--type", kind, "--name", &name, "--no-config"]).run().expect(0);
        if kind == "planner" {
            let mock = ["--set", "model.provider=\"mock\"", "--set", "model.model=\"echo\""];
            project.al(&[&["agent", "config", &name], &mock[..]].concat()).run().expect(0);
        }
    }
    ["github_token", "git_ssh", "reddit_oauth", "sentry_token"].iter().for_each(|kind| store(&project, kind));
    for kind in TYPES {
        project.run(&project.name(kind), &["-H"]).expect(0);
    }
}

#[test]
fn what_a_template_needs_beside_its_files_is_said() {
    let project = Project::without_docker("");
    let done = project.al(&["agent", "new", "--type", "devops", "--name", "ops"]).run();
    for source in ["[webhooks.github]", "[webhooks.sentry]"] {
        assert!(done.expect(0).stdout.contains(source), "{}", done.stdout);
    }
    let done = project.al(&["agent", "new", "--type", "custom", "--name", "mine"]).run();
    assert_eq!(done.expect(0).stdout, "Created agent \"mine\" (custom).\n");
    let actions = fs::read_to_string(project.root().join("agents/mine/ACTIONS.md")).unwrap();
    assert!(actions.starts_with("# mine Agent\n") && config(&project, "mine").starts_with("credentials = []\n"));
}

/// The first message that a template leads to, followed to the letter.
#[test]
fn what_the_doctor_says_about_a_missing_source_is_all_there_is_to_write() {
    let project = Project::without_docker("");
    project.al(&["agent", "new", "--type", "dev", "--name", "dev"]).run().expect(0);
    let doctor = || project.al(&["doctor", "-H", "--skip-host", "--skip-creds"]).run();
    let told = doctor().expect(1).stderr.clone();
    let (_, advice) = told.split_once("or add [webhooks.github] with ").expect("an advice");
    let (setting, _) = advice.split_once(" to config.toml").unwrap();
    let settings = fs::read_to_string(project.root().join("config.toml")).unwrap();
    project.write("config.toml", format!("{settings}\n[webhooks.github]\n{setting}\n"));
    doctor().expect(0);
}

#[test]
fn without_a_terminal_the_missing_flags_are_named() {
    let project = Project::without_docker("");
    let done = project.al(&["agent", "new"]).run();
    assert!(done.expect(1).stderr.contains("missing: --type <t>, --name <n>"), "{}", done.stderr);
    let done = project.al(&["agent", "new", "--type", "devs", "--name", "x"]).run();
    assert!(done.expect(1).stderr.contains("did you mean dev?"), "{}", done.stderr);
    for (name, part) in [("Big", "lowercase"), ("default", "reserved"), ("../x", "lowercase"), ("-x", "hyphens")] {
        let done = project.al(&["agent", "new", "--type", "dev", "--name", name]).run();
        assert!(
            done.expect(1).stderr.contains(part) && done.stderr.contains(&format!("\"{name}\"")),
            "{}",
            done.stderr
        );
    }
    assert!(!project.root().join("agents").exists());
    project.al(&["agent", "new", "--type", "dev", "--name", "dev"]).run().expect(0);
    let done = project.al(&["agent", "config", "dev"]).run();
    assert!(done.expect(1).stderr.contains("--set <key>=<toml value>"), "{}", done.stderr);
    let done = project.al(&["agent", "config", "dve"]).run();
    assert!(done.expect(1).stderr.starts_with("Error: Agent \"dve\" not found."), "{}", done.stderr);
}

#[test]
fn keys_are_set_and_unset_with_everything_else_as_it_was() {
    let project = Project::without_docker("");
    let before =
        "# on top\nschedule = '@daily' # behind\n\ncredentials = [ 'git_ssh:bot' ]\n\n[params]\na = 1\n# at the end\n";
    project.write("agents/x/agent-config.toml", before);
    project.write("agents/x/ACTIONS.md", "x");
    let set = |args: &[&str]| project.al(&[&["agent", "config", "x"], args].concat()).run();
    set(&["--set", "params.b=[1, 'two']", "--set", "schedule=\"0 9 * * *\"", "--unset", "params.a"]).expect(0);
    let after = before.replace("'@daily'", "\"0 9 * * *\"").replace("a = 1", "b = [1, \"two\"]");
    assert_eq!(config(&project, "x"), after);
    for (args, part) in [
        (["--set", "schedule=\"0 9 *\""], "schedule"),
        (["--set", "schedule=0 9 * * *"], "needs quotes"),
        (["--set", "timeout=-1"], "timeout"),
        (["--set", "shedule=\"@daily\""], "did you mean \"schedule\"?"),
        (["--set", "model.provider=\"bogus\""], "bogus"),
        (["--set", "nothing"], "has no \"=\""),
        (["--unset", "schedule"], "neither a schedule nor a trigger"),
    ] {
        let done = set(&args);
        assert!(done.expect(1).stderr.contains(part), "{args:?}: {}", done.stderr);
        assert_eq!(config(&project, "x"), after, "{args:?}");
    }
    let done = set(&["--set", "schedule=\"0 9 * * *\""]);
    assert!(done.expect(0).stdout.starts_with("Nothing changed in "), "{}", done.stdout);
}

#[test]
fn an_editor_that_changes_nothing_leaves_the_file_byte_for_byte() {
    let project = Project::without_docker("");
    let before = "schedule='@daily'   # odd\ncredentials = ['git_ssh:botty',\"own_type\"]\n";
    project.write("agents/x/agent-config.toml", before);
    project.write("agents/x/ACTIONS.md", "x");
    let mut al = project.al(&["agent", "config", "x"]).on_pty();
    al.wait_for("> Credentials [2 configured]").wait_for("Model [inherited]").wait_for("Schedule [@daily]");
    al.wait_for("Webhooks [0 trigger(s)]").wait_for("Params [0 key(s)]").wait_for("Done — save and run doctor");
    al.type_in(ENTER).wait_for("[x] git_ssh:botty").type_in(ENTER);
    al.wait_for("Agent x:").type_in("d").wait_for("> Done").type_in(ENTER).wait_for("Nothing changed in ");
    assert_eq!(al.finish().0, 1, "doctor finds the unknown type");
    assert_eq!(config(&project, "x"), before);
}

#[test]
fn the_editor_writes_what_was_changed_and_asks_the_doctor() {
    let project = Project::without_docker("");
    project.write("agents/x/ACTIONS.md", "x");
    project.write("agents/x/agent-config.toml", "# mine\ncredentials = ['aws']\n");
    let mut al = project.al(&["agent", "config", "x"]).on_pty();
    // Credentials: aws is off, the first type is on.
    al.wait_for("> Credentials")
        .type_in(ENTER)
        .wait_for("> [ ] github_token")
        .type_in(" ")
        .wait_for("> [x] github_token");
    al.type_in(&"k".repeat(3)).wait_for("> [ ]").type_in(ENTER);
    al.wait_for("Credentials [2 configured]");
    // Schedule, wrong at first.
    al.type_in("s").wait_for("> Schedule [none]").type_in(ENTER);
    al.answer("Schedule, for example", "0 9 *").answer("fields", "0 9 * * 1-5").wait_for("> Schedule [0 9 * * 1-5]");
    // A trigger, with a source for it.
    al.type_in("w")
        .wait_for("> Webhooks")
        .type_in(ENTER)
        .wait_for("> Back")
        .type_in("a")
        .wait_for("> Add a trigger")
        .type_in(ENTER);
    al.answer("No webhook source is defined. Add one? (Y/n)", "").answer("Name of the source:", "hub");
    al.wait_for("> github").type_in(ENTER).wait_for("> Add a new secret").type_in(ENTER);
    al.answer("Name of the instance: (default)", "").answer("Webhook Secret:", "tea and cake");
    al.wait_for("Credential \"github_webhook_secret:default\" saved.")
        .wait_for("Added source \"hub\" (github) to config.toml");
    al.wait_for("> hub (github)").type_in(ENTER).answer("events (", "issues, push").answer("actions (", "");
    for filter in ["repos", "org", "orgs", "labels", "assignee"] {
        al.answer(&format!("{filter} ("), "");
    }
    al.answer("author (", "ann").answer("branches (", "").answer("conclusions (", "");
    al.wait_for("> Back").type_in(ENTER).wait_for("> Webhooks [1 trigger(s)]");
    // A param.
    al.type_in("p")
        .wait_for("> Params")
        .type_in(ENTER)
        .wait_for("> Back")
        .type_in("a")
        .wait_for("> Add a param")
        .type_in(ENTER);
    al.answer("Name:", "depth").answer("Value:", "3").wait_for("depth = 3").wait_for("> Back").type_in(ENTER);
    al.wait_for("> Params [1 key(s)]").type_in(DOWN).wait_for("> Done").type_in(ENTER).wait_for("Saved ");
    // The doctor asks for what the agent needs now.
    al.wait_for("Checking 3 credential(s)...").wait_for("Access Key ID:").type_in(CTRL_C);
    assert_eq!(al.finish().0, 130);
    let expected = "# mine\ncredentials = [\"aws\", \"github_token\"]\nschedule = \"0 9 * * 1-5\"\n\n[[webhooks]]\nsource = \
                    \"hub\"\nevents = [\"issues\", \"push\"]\nauthor = \"ann\"\n\n[params]\ndepth = 3\n";
    assert_eq!(config(&project, "x"), expected);
    let project_config = fs::read_to_string(project.root().join("config.toml")).unwrap();
    assert!(
        project_config.ends_with("[webhooks.hub]\ntype = \"github\"\ncredential = \"default\"\n"),
        "{project_config}"
    );
}

#[test]
fn an_agent_is_made_on_a_terminal() {
    let project = Project::without_docker(SOURCES);
    let mut al = project.al(&["agent", "new"]).on_pty();
    al.wait_for("Type of agent:").wait_for("> dev — ").type_in("r").wait_for("> reviewer — ").type_in(ENTER);
    al.answer("Name: (reviewer)", "Bad")
        .answer("lowercase", "")
        .wait_for("Created agent \"reviewer\" from reviewer template.");
    al.wait_for("> Credentials [2 configured]")
        .wait_for("Schedule [0 * * * *]")
        .type_in("m")
        .wait_for("> Model")
        .type_in(ENTER);
    al.wait_for("> inherit from project").type_in(DOWN).type_in(ENTER).wait_for("> anthropic").type_in("m");
    al.wait_for("> mistral")
        .type_in(ENTER)
        .answer("Model: (mistral-large-latest)", "")
        .wait_for("> medium")
        .type_in("h\r");
    al.wait_for("> Model [mistral]").type_in(CTRL_C);
    assert_eq!(al.finish().0, 130);
    // Breaking off the editor leaves what was made.
    assert!(config(&project, "reviewer").contains("check_suite") && !config(&project, "reviewer").contains("mistral"));
}

/// A project with a model, an agent that inherits nearly everything, one with all of its own, and one that is broken.
fn with_agents() -> Project {
    let project = Project::without_docker("");
    let config = "[model]\nprovider = \"anthropic\"\nmodel = \"claude-sonnet-4-20250514\"\nheaders = { x-key = \"hidden\" }\n\
                  [webhooks.gh]\ntype = \"test\"\n[limits]\nmaxTurns = 7\nmaxTokens = 9\n[local]\ntimeout = 60\n";
    project.write("config.toml", config);
    project.write(".env.toml", "[model]\nthinkingLevel = \"high\"\n");
    project.write("agents/dev/agent-config.toml", "schedule = \"0 8 * * *\"\n[limits]\nmaxTurns = 3\n");
    let own = "scale = 0\ntimeout = 5\ncredentials = [\"github_token\"]\n[model]\nprovider = \"mock\"\nmodel = \"echo\"\n\
               [[webhooks]]\nsource = \"gh\"\n[params]\na = \"b\"\n";
    project.write("agents/own/agent-config.toml", own);
    project.write("agents/wrong/agent-config.toml", "schedule = [\n");
    project
}

#[test]
fn agents_are_listed_with_what_counts_for_them() {
    let project = with_agents();
    expect![[r#"
        AGENT  SCHEDULE   WEBHOOKS  SCALE  MODEL                               PROBLEMS
        dev    0 8 * * *  -         1      anthropic:claude-sonnet-4-20250514  -
        own    -          gh        0      mock:echo                           -
        wrong  -          -         -      -                                   1
    "#]]
    .assert_eq(&project.al(&["agent", "list"]).run().expect(0).stdout);
    let document: Value =
        serde_json::from_str(&project.al(&["agent", "list", "--json"]).run().expect(0).stdout).unwrap();
    let own = json!({"name": "own", "enabled": false, "schedule": null, "webhooks": ["gh"], "scale": 0, "timeout": 5,
        "model": {"provider": "mock", "model": "echo"}, "credentials": ["github_token"], "problems": []});
    assert_eq!(document["agents"][1], own);
    assert!(document["agents"][2]["problems"][0].as_str().unwrap().starts_with("agents/wrong/agent-config.toml:1:"));
    let empty = Project::without_docker("");
    let dir = empty.root().join("agents");
    let expected = format!("No agents found in {}.\n", dir.display());
    assert_eq!(empty.al(&["agent", "list"]).run().expect(0).stdout, expected);
}

#[test]
fn every_value_of_an_agent_is_shown_with_its_file() {
    let project = with_agents();
    let shown = |name: &str| project.al(&["agent", "show", name]).run().expect(0).stdout.clone();
    expect![[r#"
        limits.maxTokens = 9  # config.toml
        limits.maxTurns = 3  # agents/dev/agent-config.toml
        model.headers.x-key = "***"  # config.toml
        model.model = "claude-sonnet-4-20250514"  # config.toml
        model.provider = "anthropic"  # config.toml
        model.thinkingLevel = "high"  # .env.toml
        scale = 1  # default
        schedule = "0 8 * * *"  # agents/dev/agent-config.toml
        timeout = 60  # config.toml
    "#]]
    .assert_eq(&shown("dev"));
    expect![[r#"
        credentials = ["github_token"]  # agents/own/agent-config.toml
        limits.maxTokens = 9  # config.toml
        limits.maxTurns = 7  # config.toml
        model.model = "echo"  # agents/own/agent-config.toml
        model.provider = "mock"  # agents/own/agent-config.toml
        params.a = "b"  # agents/own/agent-config.toml
        scale = 0  # agents/own/agent-config.toml
        timeout = 5  # agents/own/agent-config.toml
        webhooks = [{ source = "gh" }]  # agents/own/agent-config.toml
    "#]]
    .assert_eq(&shown("own"));
    let done = project.al(&["agent", "show", "dev", "--json"]).run();
    let document: Value = serde_json::from_str(&done.expect(0).stdout).unwrap();
    assert_eq!(document["agent"], "dev");
    assert_eq!(document["values"][6], json!({"key": "scale", "value": 1, "file": "default"}));
    let wrong = project.al(&["agent", "show", "wrong"]).run();
    assert!(wrong.expect(1).stderr.starts_with("Configuration error: agents/wrong/agent-config.toml:1:"));
    let nobody = project.al(&["agent", "show", "won"]).run();
    assert!(nobody.expect(1).stderr.contains("(Did you mean own?)"), "{}", nobody.stderr);
}

#[test]
fn an_agent_is_removed_only_when_somebody_says_yes() {
    let project = with_agents();
    let dir = project.root().join("agents/own");
    let done = project.al(&["agent", "rm", "own"]).run();
    assert!(done.expect(1).stderr.contains("missing: --yes") && dir.is_dir(), "{}", done.stderr);
    let mut terminal = project.al(&["agent", "rm", "own"]).on_pty();
    terminal.answer("with everything in it?", "n");
    let (status, _) = terminal.finish();
    assert!(status == 0 && dir.is_dir());
    let done = project.al(&["agent", "rm", "own", "--yes"]).run();
    assert_eq!(done.expect(0).stdout, format!("Removed agent \"own\": {}\n", dir.display()));
    assert!(!dir.exists());
    // A link is removed, not what it leads to.
    let elsewhere = project.outer().join("elsewhere");
    fs::rename(project.root().join("agents/dev"), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, project.root().join("agents/dev")).unwrap();
    project.al(&["agent", "rm", "dev", "--yes"]).run().expect(0);
    assert!(elsewhere.join("agent-config.toml").exists() && !project.root().join("agents/dev").exists());
    project.al(&["agent", "rm", "..", "--yes"]).run().expect(1);
}
