//! `al version`, `al completions`, `al man`, and suggestions for what was mistyped.

use serde_json::{Value, json};

use crate::support::fake_scheduler::{FakeScheduler, json};
use crate::support::project::Project;

fn complete(project: &Project, words: &[&str]) -> Vec<String> {
    let done = project.al(&[&["__complete"], words].concat()).run();
    done.expect(0).stdout.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
}

fn with_agents() -> Project {
    let project = Project::without_docker("");
    for agent in ["dev", "deploy", "review"] {
        project.write(&format!("agents/{agent}/agent-config.toml"), "schedule = '@daily'\n");
    }
    project
}

#[test]
fn the_version_is_told_exactly() {
    let project = Project::without_docker("");
    assert_eq!(project.al(&["-V"]).run().expect(0).stdout, format!("{}\n", env!("CARGO_PKG_VERSION")));
    let long = project.al(&["version"]).run();
    for part in [
        &format!("al {}\n", env!("CARGO_PKG_VERSION")),
        "  revision:  ",
        "  built:     2",
        "  target:    ",
        "in images: ",
    ] {
        assert!(long.expect(0).stdout.contains(part), "{}", long.stdout);
    }
    assert_eq!(project.al(&["--version", "--verbose"]).run().stdout, long.stdout);
    let document: Value = serde_json::from_str(&project.al(&["version", "--json"]).run().stdout).unwrap();
    assert_eq!(document["version"], env!("CARGO_PKG_VERSION"));
    assert!(long.stdout.contains(document["revision"].as_str().unwrap()) && document["shims"]["sha256"].is_string());
}

#[test]
fn names_of_this_project_and_user_are_completed() {
    let project = with_agents();
    assert_eq!(complete(&project, &["run", "de"]), ["deploy", "dev"]);
    assert_eq!(complete(&project, &["pause", "r"]), ["review"]);
    assert_eq!(complete(&project, &["chat", "-m", "hi", "r"]), ["review"]);
    assert_eq!(complete(&project, &["kill", ""]), ["deploy", "dev", "review"]);
    assert!(complete(&project, &["run", "-p", "/nowhere", ""]).is_empty());
    project.al(&["env", "init", "prod", "-t", "server"]).run().expect(0);
    assert_eq!(complete(&project, &["start", "-E", ""]), ["prod"]);
    assert_eq!(complete(&project, &["env", "show", "p"]), ["prod"]);
    project.credential("git_ssh", "username", "x");
    project.al(&["creds", "add", "mintlify_token:a", "--stdin"]).stdin("x").run().expect(0);
    assert_eq!(complete(&project, &["creds", "rm", ""]), ["git_ssh", "mintlify_token:a"]);
    assert_eq!(complete(&project, &["creds", "check", "git"]), ["git_ssh"]);
    assert_eq!(complete(&project, &["agent", "rm", "r"]), ["review"]);
    assert_eq!(complete(&project, &["logs", ""]), ["deploy", "dev", "review", "scheduler", "gateway"]);
    let fake = FakeScheduler::start(&project, |_| json(&json!({"instances": [{"id": "dev-a1b2c3d4"}]})));
    for words in [&["kill", "dev-"][..], &["logs", "dev-"], &["logs", "dev", "-i", ""]] {
        assert_eq!(complete(&project, words), ["dev-a1b2c3d4"], "{words:?}");
    }
    drop(fake);
    // A project that is broken is no reason to disturb the line.
    project.write("config.toml", "[[[");
    let done = project.al(&["__complete", "run", ""]).run();
    assert_eq!((done.expect(0).stdout.as_str(), done.stderr.as_str()), ("", ""));
}

#[test]
fn bash_completes_words_with_colons_too() {
    let project = with_agents();
    project.al(&["creds", "add", "mintlify_token:team", "--stdin"]).stdin("x").run().expect(0);
    let script = project.al(&["completions", "bash"]).run().expect(0).stdout.clone();
    let al = std::path::Path::new(env!("CARGO_BIN_EXE_al")).parent().unwrap();
    for (line, expected) in
        [("al run de", "deploy dev"), ("al creds rm mintlify_token:t", "team"), ("al sta", "stat stats status start")]
    {
        let test = format!(
            "PATH={}:$PATH; {script}\nCOMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}; COMP_WORDBREAKS=$' \\t\\n:='; _al; echo \
             \"${{COMPREPLY[*]}}\"\n",
            al.display()
        );
        let output = std::process::Command::new("bash")
            .args(["--norc", "-c", &test])
            .current_dir(project.root())
            .env("HOME", project.home())
            .output()
            .unwrap();
        let words = |text: &str| {
            let mut words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            words.sort();
            words
        };
        assert_eq!(words(&String::from_utf8_lossy(&output.stdout)), words(expected), "{line}: {output:?}");
    }
    for shell in ["zsh", "fish"] {
        assert!(project.al(&["completions", shell]).run().expect(0).stdout.contains("al __complete"));
    }
    let done = project.al(&["completions", "tcsh"]).run();
    assert!(done.expect(1).stderr.contains("'tcsh'") && done.stderr.contains("bash, zsh, fish"), "{}", done.stderr);
}

#[test]
fn mistyped_agents_get_a_suggestion() {
    let project = with_agents();
    for line in [&["run", "reveiw"][..], &["stat", "reveiw"], &["agent", "config", "reveiw"]] {
        let done = project.al(line).run();
        let expected =
            "Error: Agent \"reveiw\" not found.\nAvailable agents: deploy, dev, review\n(Did you mean review?)\n";
        assert!(done.expect(1).stderr.starts_with(expected), "{line:?}: {}", done.stderr);
    }
}

#[test]
fn the_manual_has_every_command() {
    let project = Project::without_docker("");
    let page = project.al(&["man"]).run().expect(0).stdout.clone();
    assert!(page.starts_with(".TH AL 1 "));
    for words in ["al run <agent> [prompt]", "al creds add <ref>", "al agent config <name>", "al queue ls [agent]"] {
        assert!(page.contains(&format!(".SS {words}\n")), "{words}");
    }
    let page = project.al(&["man", "queue", "show"]).run().expect(0).stdout.clone();
    assert!(page.starts_with(".TH AL\\-QUEUE\\-SHOW 1 ") && !page.contains(".SS al run"));
    for (words, synopsis) in [
        ("", ".B al\n<command> [arguments] [options]\n"),
        ("queue", ".B al queue\n<command> [arguments] [options]\n"),
        ("queue show", ".B al queue show\n<id> [options]\n"),
        ("doctor", ".B al doctor\n[options]\n"),
    ] {
        let words: Vec<&str> = ["man"].into_iter().chain(words.split_whitespace()).collect();
        let page = project.al(&words).run().expect(0).stdout.clone();
        assert!(page.contains(&format!(".SH SYNOPSIS\n{synopsis}.SH COMMANDS\n")), "{words:?}: {page}");
    }
    project.al(&["man", "bogus"]).run().expect(1);
}

#[test]
fn help_fits_the_terminal() {
    let project = Project::without_docker("");
    let help = project.al(&["help"]).run().expect(0).stdout.clone();
    let long: Vec<&str> = help.lines().filter(|line| line.chars().count() > 80).collect();
    assert!(long.len() <= 1, "{long:#?}");
    for command in ["run", "logs", "agent"] {
        assert!(
            project.al(&["help", command]).run().stdout.lines().all(|line| line.chars().count() <= 80),
            "{command}"
        );
    }
}
