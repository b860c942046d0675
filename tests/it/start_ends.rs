//! Ends that nobody wishes for under `al start`: a container that cannot be killed, one without memory, an image that
//! cannot be built; and each signal that ends the scheduler (scheduler.md §2.2, §2.4, §4.3, §4.4).

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::al::hangups_count;
use crate::support::daemon::{Daemon, free_port};
use crate::support::docker::containers;
use crate::support::project::{GATE, HOOK, NEVER, Project};
use crate::support::wait;

#[test]
fn every_first_signal_leaves_the_runs_to_the_next_start() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "");
    let mut daemon = Daemon::start(&project);
    daemon.work("e", &format!("echo up; {GATE}; al-return kept"));
    project.wait_said(&agent, "up");
    let instance = daemon.wait_for_runs(&agent, 1).remove(0);
    for signal in [Signal::HUP, Signal::INT].into_iter().filter(|signal| hangups_count() || *signal != Signal::HUP) {
        daemon.work(&format!("{signal:?}"), "exit 0");
        daemon.running().signal(signal);
        let port = daemon.port;
        let done = daemon.finish();
        done.expect(0);
        assert!(done.stderr.contains("1 run goes on") && done.stderr.contains("al start"), "{}", done.stderr);
        daemon = Daemon::on(&project, port);
        daemon.wait_for(&format!("{instance} re-adopted"));
        assert!(!daemon.items("queued").is_empty(), "what waited waits");
    }
    project.open_gate(&instance);
    wait::until("all work to be done", || daemon.items("queued,running").len(), |open| *open == 0);
    let done = daemon.items("done");
    assert!(done.iter().all(|item| item["attempts"] == 1) && done.len() > 1, "{done:?}");
    daemon.stop().expect(0);
    project.assert_clean();
}

/// The next process could do nothing with it: it is cleaned up, and nobody is told that it goes on.
#[test]
fn a_stop_cleans_up_what_was_killed_just_before() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "");
    let daemon = Daemon::start(&project);
    daemon.work("e", "echo up; sleep 600");
    project.wait_said(&agent, "up");
    let instance = daemon.wait_for_runs(&agent, 1).remove(0);
    assert_eq!(daemon.post(&format!("/control/kill/{instance}"), &json!({})).status, 200);
    daemon.running().signal(Signal::TERM);
    let done = daemon.finish();
    done.expect(0);
    assert!(!done.stderr.contains("goes on"), "{}", done.stderr);
    assert_eq!(containers(&format!("al.agent={agent}")), Vec::<String>::new());
    project.assert_clean();
}

/// A search path on which `docker` refuses these commands while the file is there.
fn refusing(project: &Project, commands: &str, file: &std::path::Path) -> String {
    let refusal = "Error response from daemon: cannot kill container: permission denied";
    project.docker_that(&format!("{commands}) if [ -e {} ]; then echo '{refusal}' >&2; exit 1; fi", file.display()))
}

#[test]
fn a_container_that_cannot_be_killed_is_told_and_killed_as_soon_as_it_can_be() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "");
    let obstacle = project.outer().join("obstacle");
    let path = refusing(&project, "kill", &obstacle);
    let daemon = Daemon::launch(&project, free_port(), &[], &[("PATH", &path)]);
    daemon.wait_for("scheduler started");
    fs::write(&obstacle, "").unwrap();
    daemon.work("e", "rlock k; al-shutdown leaking; al-shutdown again; echo over; sleep 60");
    project.wait_said(&agent, "over");
    let answers = project.logged(&agent, "output");
    let answers: Vec<Value> =
        answers.iter().filter_map(|entry| serde_json::from_str(entry["text"].as_str()?).ok()).collect();
    let failed = answers[1]["error"].as_str().unwrap();
    assert!(failed.starts_with("failed to kill container: ") && failed.contains("permission denied"), "{failed}");
    assert_eq!(answers[2], json!({"error": "invalid secret"}), "it has none any more");
    // The wish of a person is taken in all the same, and the run still counts as one.
    let instance = daemon.wait_for_runs(&agent, 1).remove(0);
    assert_eq!(daemon.post(&format!("/control/kill/{instance}"), &json!({})).status, 200);
    assert_eq!(containers(&format!("al.agent={agent}")).len(), 1);
    fs::remove_file(&obstacle).unwrap();
    let failed = daemon.wait_for_items("failed", 1);
    assert_eq!(
        json!([failed[0]["reason"], failed[0]["lastError"]]),
        json!(["killed", "Container exited with code 137 (killed: shutdown requested: leaking)"])
    );
    daemon.stop().expect(0);
    project.assert_clean();
}

#[test]
#[ignore = "slow: waits until a container is given up, 2 min"]
fn a_container_that_does_not_end_is_given_up_and_removed_later() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "");
    let obstacle = project.outer().join("obstacle");
    let path = refusing(&project, "kill|rm", &obstacle);
    let daemon = Daemon::launch(&project, free_port(), &[], &[("PATH", &path)]);
    daemon.wait_for("scheduler started");
    daemon.work("e", "rlock k; echo up; sleep 600");
    project.wait_said(&agent, "up");
    let instance = daemon.wait_for_runs(&agent, 1).remove(0);
    wait::until("no other container", || containers(&project.label()).len(), |count| *count == 1);
    fs::write(&obstacle, "").unwrap();
    daemon.work("next", "rlock k; echo next");
    assert_eq!(daemon.post(&format!("/control/kill/{instance}"), &json!({})).status, 200);
    let minutes = std::time::Duration::from_secs(90);
    let one = |wanted: Vec<Value>| if wanted.len() == 1 { Ok(wanted) } else { Err(format!("{wanted:?}")) };
    let failed = wait::within(minutes, "it to be given up", || one(daemon.items("failed")));
    assert_eq!(json!([failed[0]["reason"], failed[0]["lastError"]]), json!(["killed", "Container killed"]));
    let told = project.logged(&agent, "container does not end");
    assert_eq!(json!([told[0]["level"], told[0]["container"]]), json!([50, format!("al-{instance}")]));
    // Neither its place nor its lock is kept for it.
    daemon.wait_for_items("done", 1);
    assert_eq!(containers(&format!("al.agent={agent}")).len(), 2);
    fs::remove_file(&obstacle).unwrap();
    let left = || containers(&format!("al.agent={agent}"));
    wait::within(
        minutes,
        "both to be removed",
        || if left().is_empty() { Ok(()) } else { Err(format!("{:?}", left())) },
    );
    daemon.stop().expect(0);
    project.assert_clean();
}

#[test]
fn a_run_without_memory_says_so_and_is_not_repeated() {
    let project = Project::with_settings(&format!("{HOOK}[local]\nmemory = \"64m\"\n"));
    let agent = project.on_hook("dev", "");
    let daemon = Daemon::start(&project);
    daemon.work("e", "echo up; exec tail /dev/zero");
    let failed = daemon.wait_for_items("failed", 1);
    assert_eq!(
        json!([failed[0]["reason"], failed[0]["lastError"], failed[0]["attempts"]]),
        json!(["oom", "Container exited with code 137 (out of memory)", 1])
    );
    let told = project.logged(&agent, "container exited with error");
    assert_eq!(json!([told[0]["exitCode"], told[0]["oomKilled"]]), json!([137, true]));
    daemon.stop().expect(0);
    project.assert_clean();
}

#[test]
fn a_base_image_that_cannot_be_built_ends_the_start_and_no_run() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "");
    let daemon = Daemon::start(&project);
    daemon.work("e", &format!("echo up; {GATE}"));
    project.wait_said(&agent, "up");
    let instance = daemon.wait_for_runs(&agent, 1).remove(0);
    let port = daemon.port;
    daemon.stop().expect(0);
    let settings = fs::read_to_string(project.root().join("config.toml")).unwrap();
    let base = settings.lines().find(|line| line.starts_with("base = ")).unwrap();
    project.write("config.toml", settings.replace(base, "base = \"al-no-such-image:1\""));
    let done = Daemon::launch(&project, port, &[], &[]).finish();
    done.expect(1);
    assert!(done.stderr.contains("Agent error: ") && done.stderr.contains("al-no-such-image:1"), "{}", done.stderr);
    assert_eq!(containers(&format!("al.agent={agent}")), [format!("al-{instance}")]);
    project.write("config.toml", settings);
    let daemon = Daemon::on(&project, port);
    project.open_gate(&instance);
    assert_eq!(daemon.wait_for_items("done", 1)[0]["attempts"], 1);
    daemon.stop().expect(0);
    project.assert_clean();
}

#[test]
fn a_stop_leaves_no_build_behind() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "");
    project.write(&format!("agents/{agent}/Dockerfile"), "FROM al-agent:latest\nRUN true\n");
    let file = project.outer().join("build");
    let path = project.docker_that(&format!("build) echo $$ > {}; exec sleep 60", file.display()));
    let daemon = Daemon::launch(&project, free_port(), &[], &[("PATH", &path)]);
    let builder = || fs::read_to_string(&file).unwrap_or_default().trim().to_owned();
    wait::until("the build", builder, |pid| !pid.is_empty());
    daemon.stop().expect(0);
    assert!(!fs::exists(format!("/proc/{}", builder())).unwrap(), "it goes on");
    project.assert_clean();
}

#[test]
fn an_agent_whose_image_cannot_be_built_waits_and_no_other_does() {
    let project = Project::with_settings(HOOK);
    let (good, bad) = (project.on_hook("good", ""), project.on_hook("bad", ""));
    project.write(&format!("agents/{bad}/Dockerfile"), "FROM al-agent:latest\nRUN exit 9\n");
    let daemon = Daemon::start(&project);
    daemon.work("e", "exit 0");
    assert_eq!(daemon.wait_for_items("done", 1)[0]["agent"], good.as_str());
    let shown = daemon.agent(&bad);
    assert_eq!(shown["state"], "error", "{shown}");
    // What failed, and nothing of what the builder said before.
    let error = shown["lastError"].as_str().unwrap();
    assert!(error.starts_with("Image build failed: ") && error.contains(": Docker build failed (exit "), "{shown}");
    assert!(error.contains(": The command '/bin/sh -c exit 9'") || error.contains(": ERROR: "), "{shown}");
    assert!(!error.contains("Step 1"), "{shown}");
    // What a table has no room for.
    let kept = project.root().join(format!(".al/logs/build-{bad}.log"));
    let printed = fs::read_to_string(&kept).unwrap();
    assert!(printed.contains("Docker build failed (exit ") && printed.contains("exit 9"), "{printed}");
    assert_eq!(kept.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(daemon.items("queued")[0]["agent"], bad.as_str());
    // Repaired, it does what waited.
    fs::remove_file(project.root().join(format!("agents/{bad}/Dockerfile"))).unwrap();
    daemon.wait_for_items("done", 2);
    daemon.stop().expect(0);
    // Without any other there is nothing to start.
    project.configure(&good, "scale = 0\n");
    project.configure(&bad, NEVER);
    project.write(&format!("agents/{bad}/Dockerfile"), "FROM al-agent:latest\nRUN exit 8\n");
    let done = Daemon::launch(&project, free_port(), &[], &[]).finish();
    done.expect(1);
    assert!(done.stderr.contains("Agent error: ") && done.stderr.contains(&bad), "{}", done.stderr);
}
