//! Standard output that takes nothing: every command says so and fails; a reader who has enough is no error.

use std::fs;

use crate::support::al::Done;
use crate::support::fake_scheduler::{FakeScheduler, json, not_found};
use crate::support::project::Project;
use serde_json::json;

/// Runs a command whose output goes to a full disk.
fn to_full_disk(project: &Project, words: &[&str]) -> Done {
    let al = project.al(words);
    al.through("sh", &["-c", "exec \"$0\" \"$@\" >/dev/full"], env!("CARGO_BIN_EXE_al").as_ref()).run()
}

#[test]
fn what_cannot_be_written_is_named() {
    let project = Project::without_docker("");
    project.write("agents/dev/agent-config.toml", "schedule = \"0 8 * * *\"\n");
    fs::create_dir_all(project.root().join(".al/logs")).unwrap();
    project.write(".al/logs/dev-2026-03-05.log", "{\"level\":30,\"time\":1772700000000,\"msg\":\"hello\"}\n");
    for words in [
        &["stat"][..],
        &["logs", "dev", "-r"],
        &["logs", "dev", "--json"],
        &["stats"],
        &["cron", "dev"],
        &["version"],
        &["man"],
        &["docs"],
        &["completions", "bash"],
        &["creds", "types"],
        &["agent", "list"],
        &["config", "show"],
        &["doctor", "--json", "--skip-host"],
        &["--help"],
    ] {
        let done = to_full_disk(&project, words);
        let expected = "Error: cannot write to standard output: No space left on device (os error 28)\n";
        assert_eq!((done.expect(1).stderr.as_str(), words), (expected, words));
    }
}

#[test]
fn a_run_that_was_started_but_not_shown_is_a_failure() {
    let project = Project::without_docker("");
    project.write("agents/dev/agent-config.toml", "schedule = \"0 8 * * *\"\n");
    let _scheduler = FakeScheduler::start(&project, |request| match request.target.as_str() {
        "/control/trigger/dev" => json(&json!({"success": true, "message": "triggered", "instanceId": "dev-a1b2c3d4"})),
        _ => not_found(),
    });
    for words in [&["run", "dev"][..], &["run", "dev", "--json"]] {
        let done = to_full_disk(&project, words);
        let told = "Warning: cannot write to standard output: No space left on device (os error 28)\n";
        assert_eq!(done.expect(1).stderr, told);
    }
}
