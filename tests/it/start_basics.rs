//! `al start`: what starts a run, what a stop leaves, what a start refuses.

use std::net::TcpListener;

use rustix::process::Signal;
use serde_json::json;

use crate::support::daemon::{Daemon, free_port};
use crate::support::docker::containers;
use crate::support::project::Project;
use crate::support::wait;

const SOURCE: &str = "[webhooks.hook]\ntype = \"test\"\n";
const NEVER: &str = "schedule = \"0 0 31 2 *\"\n";
const ON_HOOK: &str = "[[webhooks]]\nsource = \"hook\"\n";

/// A project with a source of webhooks and one worker that takes them.
fn project_with_hook(script: &str) -> (Project, String) {
    let project = Project::with_settings(&format!("workRetryDelay = 0\n{SOURCE}"));
    let agent = project.agent("dev", script);
    project.configure(&agent, ON_HOOK);
    (project, agent)
}

#[test]
fn a_scheduled_agent_runs_at_the_start_and_everything_is_shown() {
    let project = Project::new();
    let agent = project.agent("dev", "echo hello; al-status working; exit 0");
    project.configure(&agent, NEVER);
    let daemon = Daemon::start(&project);
    daemon.wait_for(&format!("{agent}: completed"));
    let status = daemon.status();
    assert_eq!(status["scheduler"]["gatewayPort"], daemon.port);
    assert_eq!(status["scheduler"]["cronJobCount"], 1);
    assert_eq!(status["agents"][0]["name"], agent.as_str());
    assert_eq!(status["agents"][0]["state"], "idle");
    assert_eq!(status["running"], 0);
    let done = daemon.stop();
    done.expect(0);
    assert!(done.stdout.contains("scheduler initializing") && done.stdout.contains("scheduler stopped"));
    assert_eq!(containers(&format!("al.agent={agent}")), [""; 0]);
    assert!(project.staging().is_empty());
}

#[test]
fn a_webhook_starts_a_run_and_a_repeated_one_does_not() {
    let (project, agent) = project_with_hook("grep -o '\"title\":\"[^\"]*\"' \"$AL_PROMPT_FILE\"; exit 0");
    let daemon = Daemon::start(&project);
    let body = json!({"event": "deploy", "title": "one"});
    let first = daemon.deliver("d1", &body);
    assert_eq!((first.status, &first.json()["matched"]), (200, &json!(1)), "{}", first.body);
    let again = daemon.deliver("d1", &body).json();
    assert_eq!((&again["duplicate"], &again["receiptId"]), (&json!(true), &first.json()["receiptId"]));
    let items = daemon.wait_for_items("done", 1);
    assert_eq!((&items[0]["agent"], &items[0]["attempts"]), (&json!(agent), &json!(1)));
    project.log(&agent).iter().find(|entry| entry["text"] == "\"title\":\"one\"").expect("the agent saw the event");
    daemon.stop().expect(0);
}

#[test]
fn items_wait_for_their_turn_in_order() {
    let (project, _) = project_with_hook("sleep 0.2; exit 0");
    let daemon = Daemon::start(&project);
    for number in 0..4 {
        assert_eq!(daemon.deliver(&format!("d{number}"), &json!({"event": format!("e{number}")})).status, 200);
    }
    let items = daemon.wait_for_items("done", 4);
    let mut started: Vec<(String, String)> = items
        .iter()
        .map(|item| (item["startedAt"].as_str().unwrap().to_owned(), item["source"].as_str().unwrap().to_owned()))
        .collect();
    started.sort();
    let order: Vec<&str> = started.iter().map(|(_, source)| source.as_str()).collect();
    assert_eq!(order, ["e0", "e1", "e2", "e3"]);
    daemon.stop().expect(0);
}

#[test]
fn a_run_by_hand_has_its_task_and_a_busy_agent_refuses() {
    let project = Project::new();
    let agent = project.worker("dev");
    project.configure(&agent, &format!("timeout = 60\n{NEVER}"));
    let daemon = Daemon::start(&project);
    daemon.wait_for_initial_run(&agent);
    let instance = daemon.trigger(&agent, "echo at work; sleep 30");
    wait::until("output", || project.log(&agent), |log| log.iter().any(|entry| entry["text"] == "at work"));
    let busy = daemon.post(&format!("/control/trigger/{agent}"), &json!({}));
    assert_eq!((busy.status, busy.json()), (409, json!({"error": format!("Agent {agent} has no free runner")})));
    let queued = daemon.post(&format!("/control/trigger/{agent}"), &json!({"prompt": "exit 0", "queue": true}));
    assert_eq!((queued.status, &queued.json()["queued"]), (202, &json!(true)));
    let killed = daemon.post(&format!("/control/kill/{instance}"), &json!({}));
    assert_eq!(killed.json(), json!({"success": true, "message": format!("Instance {instance} killed")}));
    daemon.wait_for_items("done", 1);
    daemon.stop().expect(0);
}

#[test]
fn a_stop_leaves_runs_to_the_next_start() {
    let (project, agent) = project_with_hook("echo begun; sleep 6; al-return done; exit 0");
    let daemon = Daemon::start(&project);
    daemon.deliver("d1", &json!({"event": "x"}));
    wait::until("output", || project.log(&agent), |log| log.iter().any(|entry| entry["text"] == "begun"));
    let port = daemon.port;
    let done = daemon.stop();
    done.expect(0);
    assert!(done.stderr.contains("1 run goes on"), "{}", done.stderr);
    assert_eq!(containers(&format!("al.agent={agent}")).len(), 1);
    let daemon = Daemon::launch(&project, port, &[], &[]);
    daemon.wait_for("re-adopted").wait_for("scheduler started");
    let items = daemon.wait_for_items("done", 1);
    assert_eq!(items[0]["attempts"], 1);
    wait::until("no container", || containers(&format!("al.agent={agent}")), Vec::is_empty);
    daemon.stop().expect(0);
}

#[test]
fn a_second_signal_kills_what_runs() {
    let (project, agent) = project_with_hook("echo begun; sleep 60");
    let daemon = Daemon::start(&project);
    daemon.deliver("d1", &json!({"event": "x"}));
    wait::until("output", || project.log(&agent), |log| log.iter().any(|entry| entry["text"] == "begun"));
    let stopped = daemon.post("/control/stop", &json!({"kill": true}));
    assert_eq!(stopped.json(), json!({"success": true, "message": "Scheduler stopping"}));
    daemon.finish().expect(0);
    assert_eq!(containers(&format!("al.agent={agent}")), [""; 0]);
}

#[test]
fn a_second_start_fails_without_effect() {
    let (project, agent) = project_with_hook("echo begun; sleep 20");
    let daemon = Daemon::start(&project);
    daemon.deliver("d1", &json!({"event": "x"}));
    wait::until("output", || project.log(&agent), |log| log.iter().any(|entry| entry["text"] == "begun"));
    let second = Daemon::launch(&project, free_port(), &[], &[]).finish();
    second.expect(1);
    assert!(second.stderr.contains("scheduler.lock") && second.stderr.contains(&daemon.port.to_string()));
    assert_eq!(containers(&format!("al.agent={agent}")).len(), 1);
    daemon.post("/control/stop", &json!({"kill": true}));
    daemon.finish().expect(0);
}

#[test]
fn a_port_in_use_is_one_clear_line() {
    let project = Project::new();
    let agent = project.agent("dev", "exit 0");
    project.configure(&agent, NEVER);
    let port = free_port();
    let _taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let done = Daemon::launch(&project, port, &[], &[]).finish();
    done.expect(1);
    let line = done.stderr.lines().find(|line| line.starts_with("Error: ")).unwrap_or_default();
    assert!(line.contains("in use") && line.contains("127.0.0.1") && line.contains(&port.to_string()), "{line}");
}

#[test]
fn without_agents_nothing_starts() {
    let project = Project::new();
    let done = Daemon::launch(&project, free_port(), &[], &[]).finish();
    done.expect(1);
    assert!(done.stderr.starts_with("Configuration error: ") && done.stderr.contains("al new"), "{}", done.stderr);
}

#[test]
fn a_signal_during_the_start_ends_it() {
    let project = Project::new();
    let agent = project.agent("dev", "exit 0");
    project.configure(&agent, NEVER);
    let daemon = Daemon::launch(&project, free_port(), &[], &[]);
    daemon.wait_for("scheduler initializing");
    daemon.running().signal(Signal::INT);
    daemon.finish().expect(0);
}

/// Regression: the container that asks for the gateway was left to the next start.
#[test]
fn a_stop_right_after_the_start_leaves_no_container() {
    let (project, _) = project_with_hook("exit 0");
    // It takes a moment to start, so that the stop finds it.
    let path = project.docker_that("start) case \"$*\" in *gateway-check*) sleep 1;; esac");
    let daemon = Daemon::launch(&project, free_port(), &[], &[("PATH", &path)]);
    wait::until(
        "the container",
        || containers(&project.label()),
        |all| all.iter().any(|name| name.contains("gateway-check")),
    );
    daemon.stop().expect(0);
    project.assert_clean();
}
