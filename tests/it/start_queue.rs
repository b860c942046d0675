//! Work items under `al start`: order, limits, the full queue, retries, repeated deliveries (scheduler.md §4.4, §5).

use std::thread;

use serde_json::{Value, json};

use crate::support::daemon::{Daemon, free_port};
use crate::support::docker::docker;
use crate::support::project::{GATE, HOOK, ON_HOOK, Project};
use crate::support::wait;

/// Most of these items that were running at the same time.
fn most_at_once(items: &[Value]) -> usize {
    let instant =
        |item: &Value, name: &str| item[name].as_str().unwrap_or_else(|| panic!("{name} of {item}")).to_owned();
    let mut moments: Vec<(String, bool)> = items
        .iter()
        .flat_map(|item| [(instant(item, "startedAt"), true), (instant(item, "finishedAt"), false)])
        .collect();
    // What ends in the same millisecond has made room for what starts in it.
    moments.sort();
    let mut now = 0usize;
    let counts = moments.iter().map(|(_, starts)| {
        now = if *starts { now + 1 } else { now - 1 };
        now
    });
    counts.max().unwrap_or(0)
}

/// Sources of items in the order in which they were started.
fn order(items: &[Value]) -> Vec<String> {
    let mut started: Vec<(String, String)> = items
        .iter()
        .map(|item| (item["startedAt"].as_str().unwrap().to_owned(), item["source"].as_str().unwrap().to_owned()))
        .collect();
    started.sort();
    started.into_iter().map(|(_, source)| source).collect()
}

#[test]
fn five_webhooks_and_one_slot_are_five_runs_in_order_one_at_a_time() {
    let project = Project::with_settings(HOOK);
    project.on_hook("dev", "");
    let daemon = Daemon::start(&project);
    let ids = ["e0", "e1", "e2", "e3", "e4"];
    ids.iter().for_each(|id| drop(daemon.work(id, "exit 0")));
    let items = daemon.wait_for_items("done", 5);
    assert_eq!(order(&items), ids);
    assert_eq!(most_at_once(&items), 1);
    daemon.stop().expect(0);
    project.assert_clean();
}

#[test]
fn an_agent_never_has_more_runs_than_its_scale() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "scale = 3\n");
    let daemon = Daemon::start(&project);
    thread::scope(|scope| {
        let daemon = &daemon;
        (0..7).for_each(|number| drop(scope.spawn(move || daemon.work(&format!("e{number}"), "sleep 0.7"))));
    });
    daemon.wait_for_runs(&agent, 3);
    assert_eq!(daemon.agent(&agent)["runningCount"], 3);
    assert_eq!(most_at_once(&daemon.wait_for_items("done", 7)), 3);
    daemon.stop().expect(0);
}

#[test]
fn a_project_never_has_more_runs_than_its_scale() {
    let project = Project::with_settings(&format!("scale = 2\n{HOOK}"));
    let agents: Vec<String> = ["a", "b", "c", "d"].iter().map(|name| project.on_hook(name, "")).collect();
    let daemon = Daemon::start(&project);
    for id in ["first", "second"] {
        assert_eq!(daemon.work(id, "sleep 0.3").json()["matched"], 4);
    }
    let items = daemon.wait_for_items("done", 8);
    assert_eq!(most_at_once(&items), 2);
    // Oldest first over all agents.
    let mut order = order(&items);
    order.dedup();
    assert_eq!(order, ["first", "second"]);
    for agent in agents {
        assert_eq!(items.iter().filter(|item| item["agent"] == agent.as_str()).count(), 2);
    }
    daemon.stop().expect(0);
}

#[test]
fn a_full_queue_makes_the_oldest_a_dead_letter_that_can_be_brought_back() {
    let port = free_port();
    let project = Project::with_settings(&format!("workQueueSize = 2\n{HOOK}[gateway]\nport = {port}\n"));
    let agent = project.on_hook("dev", "");
    let daemon = Daemon::on(&project, port);
    daemon.work("e0", GATE);
    let busy = daemon.wait_for_runs(&agent, 1);
    for id in ["e1", "e2", "e3"] {
        assert_eq!(daemon.work(id, "exit 0").json()["matched"], 1);
    }
    let dead = daemon.wait_for_items("dead", 1);
    assert_eq!(json!([dead[0]["source"], dead[0]["reason"], dead[0]["attempts"]]), json!(["e1", "queue_full", 0]));
    assert_eq!(daemon.agent(&agent)["queuedWebhooks"], 2);
    let warnings = project.logged("scheduler", "queue full, oldest item moved to dead letters");
    assert_eq!(warnings.len(), 1);
    let warning = &warnings[0];
    assert_eq!(
        json!([
            warning["level"],
            warning["agent"],
            warning["kind"],
            warning["source"],
            warning["id"],
            warning["queueSize"],
            warning["reason"],
            warning["attempts"]
        ]),
        json!([40, agent, "webhook", "e1", dead[0]["id"], 2, "queue_full", 0])
    );
    daemon.wait_for(&format!("{agent}: item {} dead (queue_full)", dead[0]["id"]));
    project.open_gate(&busy[0]);
    assert_eq!(order(&daemon.wait_for_items("done", 3)), ["e0", "e2", "e3"]);
    let retried = project.al(&["queue", "retry", &dead[0]["id"].to_string()]).run();
    retried.expect(0);
    assert_eq!(retried.stdout, format!("Item {} queued\n", dead[0]["id"]));
    assert_eq!(daemon.wait_for_items("done", 4).iter().filter(|item| item["source"] == "e1").count(), 1);
    daemon.stop().expect(0);
}

#[test]
fn an_item_that_can_start_pushes_nothing_out() {
    let project = Project::with_settings(&format!("workQueueSize = 1\n{HOOK}"));
    let agent = project.on_hook("dev", "");
    let daemon = Daemon::start(&project);
    daemon.work("e0", GATE);
    let busy = daemon.wait_for_runs(&agent, 1);
    daemon.work("e1", "exit 0");
    assert_eq!(daemon.items("queued").len(), 1);
    project.open_gate(&busy[0]);
    daemon.wait_for_items("done", 2);
    daemon.work("e2", "exit 0");
    daemon.wait_for_items("done", 3);
    assert_eq!(daemon.items("dead").len(), 0);
    daemon.stop().expect(0);
}

#[test]
fn a_run_that_was_killed_from_outside_is_repeated_and_knows_it() {
    let project = Project::with_settings(&format!("workRetryDelay = 0\n{HOOK}"));
    let agent = project.on_hook("dev", "");
    let daemon = Daemon::start(&project);
    let script =
        format!("if grep -q 'attempt 2 [o]f 3' \"$AL_PROMPT_FILE\"; then echo again; exit 0; fi; echo up; {GATE}");
    daemon.work("e", &script);
    project.wait_said(&agent, "up");
    let first = daemon.wait_for_runs(&agent, 1).remove(0);
    docker(&["kill", &format!("al-{first}")]);
    let items = daemon.wait_for_items("done", 1);
    assert_eq!(items[0]["attempts"], 2);
    assert_ne!(items[0]["instanceId"], first);
    project.wait_said(&agent, "again");
    daemon.stop().expect(0);
    project.assert_clean();
}

#[test]
fn what_ends_a_run_decides_what_becomes_of_its_item() {
    let project = Project::with_settings(&format!("workRetryDelay = 0\nworkMaxAttempts = 2\n{HOOK}"));
    let agent = project.on_hook("dev", "scale = 4\n");
    let daemon = Daemon::start(&project);
    for code in [1, 3, 10, 11, 12, 13, 14, 15, 16, 124, 255] {
        daemon.work(&format!("{code}"), &format!("exit {code}"));
    }
    for code in [0, 42] {
        daemon.work(&format!("{code}"), &format!("exit {code}"));
    }
    for code in [137, 143] {
        daemon.work(&format!("{code}"), &format!("exit {code}"));
    }
    let failed = daemon.wait_for_items("failed", 11);
    for item in &failed {
        let source = item["source"].as_str().unwrap();
        let (class, meaning) = match source {
            "124" => ("timeout", " (timeout)"),
            "10" => ("agent_error", " (authentication/credentials)"),
            _ => ("agent_error", ""),
        };
        assert_eq!(json!([item["attempts"], item["reason"]]), json!([1, class]), "{item}");
        let error = item["lastError"].as_str().unwrap();
        assert!(error.starts_with(&format!("Container exited with code {source}")), "{item}");
        assert!(!("11"..="16").contains(&source) || error.ends_with(')'), "{item}");
        assert!(source != "124" || error.ends_with(meaning), "{item}");
    }
    let dead = daemon.wait_for_items("dead", 2);
    for item in &dead {
        assert_eq!(json!([item["attempts"], item["reason"]]), json!([2, "attempts_exhausted"]), "{item}");
        let error = format!("Container exited with code {}", item["source"].as_str().unwrap());
        assert_eq!(item["lastError"], error.as_str());
        daemon.wait_for(&format!("{agent}: item {} dead after 2 attempts", item["id"]));
    }
    assert_eq!(
        daemon.wait_for_items("done", 2).iter().map(|item| item["attempts"].clone()).collect::<Vec<_>>(),
        [1, 1]
    );
    assert_eq!(project.logged("scheduler", "work item failed").len(), 11);
    let buried = project.logged("scheduler", "work item dead");
    assert_eq!(buried.len(), 2);
    assert_eq!(json!([buried[0]["level"], buried[0]["agent"], buried[0]["attempts"]]), json!([50, agent, 2]));
    daemon.stop().expect(0);
    project.assert_clean();
}

#[test]
fn failures_of_webhook_runs_are_repeated_when_the_project_says_so() {
    let settings = format!("workRetryDelay = 0\nworkMaxAttempts = 2\nworkRetryErrors = true\n{HOOK}");
    let project = Project::with_settings(&settings);
    project.on_hook("dev", "");
    let daemon = Daemon::start(&project);
    daemon.work("own", "exit 3");
    daemon.work("told", "exit 11");
    let dead = daemon.wait_for_items("dead", 1);
    assert_eq!(json!([dead[0]["source"], dead[0]["attempts"]]), json!(["own", 2]));
    let failed = daemon.wait_for_items("failed", 1);
    assert_eq!(json!([failed[0]["source"], failed[0]["attempts"]]), json!(["told", 1]));
    daemon.stop().expect(0);
}

#[test]
fn a_lost_image_makes_dead_letters_that_run_after_the_repair() {
    let port = free_port();
    let project = Project::with_settings(&format!("workRetryDelay = 0\n{HOOK}[gateway]\nport = {port}\n"));
    let agent = project.on_hook("dev", "");
    let daemon = Daemon::on(&project, port);
    let images = docker(&["images", "-q", "--no-trunc", &format!("al-{agent}")]);
    docker(&["rmi", "-f", images.lines().next().expect("there is an image")]);
    daemon.work("e", "exit 0");
    let dead = daemon.wait_for_items("dead", 1);
    assert_eq!(json!([dead[0]["attempts"], dead[0]["reason"]]), json!([3, "attempts_exhausted"]));
    assert!(dead[0]["lastError"].as_str().unwrap().to_lowercase().contains("image"), "{}", dead[0]);
    wait::until("the error to be shown", || daemon.agent(&agent)["state"].clone(), |state| *state == "error");
    project.write(&format!("agents/{agent}/ACTIONS.md"), "Do it better.\n");
    daemon.wait_for(&format!("{agent}: hot-reloaded"));
    project.al(&["queue", "retry", "--all-dead"]).run().expect(0);
    let done = daemon.wait_for_items("done", 1);
    assert_eq!(done[0]["attempts"], 1);
    daemon.stop().expect(0);
    project.assert_clean();
}

#[test]
fn a_retry_waits_for_its_delay() {
    let project = Project::with_settings(&format!("workRetryDelay = 2\nworkMaxAttempts = 2\n{HOOK}"));
    project.on_hook("dev", "");
    let daemon = Daemon::start(&project);
    daemon.work("e", "exit 143");
    daemon.work("later", "exit 0");
    // Others need not wait for it.
    daemon.wait_for_items("done", 1);
    let waiting = wait::until("the item to wait", || daemon.items("queued"), |items| items.len() == 1);
    assert!(waiting[0]["notBefore"].is_string() && waiting[0]["source"] == "e", "{waiting:?}");
    let dead = daemon.wait_for_items("dead", 1).remove(0);
    assert!(dead["startedAt"].as_str() >= waiting[0]["notBefore"].as_str(), "{dead} {waiting:?}");
    daemon.stop().expect(0);
}

#[test]
fn a_repeated_delivery_reaches_only_those_that_have_not_dealt_with_it() {
    let project = Project::with_settings(HOOK);
    let good = project.on_hook("good", "");
    let bad = project.agent("bad", "exit 3");
    project.configure(&bad, ON_HOOK);
    let daemon = Daemon::start(&project);
    let first = daemon.work("d1", "exit 0").json();
    assert_eq!(first["matched"], 2);
    daemon.wait_for_items("done", 1);
    let failed = daemon.wait_for_items("failed", 1);
    let again = daemon.work("d1", "exit 0").json();
    assert_eq!(again, json!({"ok": true, "matched": 1, "skipped": 0, "receiptId": first["receiptId"]}));
    let runs =
        |agent: &str| project.logged(agent, &format!("Starting {agent} container run (triggered by webhook)")).len();
    wait::until("the second run", || runs(&bad), |count| *count == 2);
    let failed_again = wait::until("its end", || daemon.items("failed"), |items| items.len() == 1);
    assert_eq!((&failed_again[0]["id"], &failed_again[0]["attempts"]), (&failed[0]["id"], &json!(1)));
    assert_eq!(runs(&good), 1);
    assert_eq!(daemon.items("queued,running,done,failed,dead").len(), 2);
    daemon.stop().expect(0);
}

#[test]
fn without_a_delivery_id_every_delivery_counts() {
    let project = Project::with_settings(HOOK);
    project.on_hook("dev", "");
    let daemon = Daemon::start(&project);
    let deliver = || {
        let body = json!({"event": "e", "title": "exit 0"}).to_string();
        crate::support::http::request(daemon.address(), "POST", "/webhooks/test", "", &body)
    };
    assert_eq!([deliver().status, deliver().status], [200, 200]);
    daemon.wait_for_items("done", 2);
    daemon.stop().expect(0);
}

#[test]
fn a_webhook_that_comes_while_images_are_built_runs_afterwards() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "");
    project.write(&format!("agents/{agent}/Dockerfile"), "FROM al-agent:latest\nRUN sleep 3\n");
    let daemon = Daemon::launch(&project, free_port(), &[], &[]);
    daemon.wait_for(&format!("{agent}: building"));
    daemon.work("e", "exit 0");
    let status = daemon.status();
    assert_eq!(json!([status["scheduler"]["initializing"], status["queueSizes"]]), json!([true, { &agent: 1 }]));
    assert_eq!(daemon.post(&format!("/control/trigger/{agent}"), &json!({})).status, 503);
    daemon.wait_for("scheduler started");
    daemon.wait_for_items("done", 1);
    daemon.stop().expect(0);
}
