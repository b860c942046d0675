//! What starts runs: schedules, starts, reruns, people, signals of other runs (scheduler.md §3.5, §4.2, §4.5, §4.6).

use action_llama::base::clock::UnixMs;
use serde_json::{Value, json};

use crate::support::daemon::{Daemon, free_port};
use crate::support::project::{GATE, HOOK, NEVER, ON_HOOK, Project};
use crate::support::wait;

const TICKING: &str = "schedule = \"* * * * * *\"\n";

/// What started the runs of an agent, in order.
fn starts(project: &Project, agent: &str) -> Vec<String> {
    let prefix = format!("Starting {agent} container run (triggered by ");
    let log = project.log(agent);
    let messages = log.iter().filter_map(|entry| entry["msg"].as_str()?.strip_prefix(&prefix)?.strip_suffix(')'));
    messages.map(str::to_owned).collect()
}

/// Ends a scheduler whose runs would go on.
fn end(daemon: Daemon<'_>) {
    daemon.post("/control/stop", &json!({"kill": true}));
    daemon.finish().expect(0);
}

#[test]
fn an_agent_runs_whenever_its_schedule_fires() {
    let project = Project::new();
    let agent = project.agent("dev", "exit 0");
    project.configure(&agent, TICKING);
    let daemon = Daemon::launch(&project, free_port(), &[], &[("TZ", "UTC")]);
    daemon.wait_for("scheduler started");
    let ticks = || project.logged("scheduler", "triggering scheduled run");
    let seen = wait::until("three ticks", ticks, |ticks| ticks.len() >= 3);
    assert_eq!(json!([seen[0]["level"], seen[0]["agent"], seen[0]["scale"]]), json!([30, agent, 1]));
    let next = UnixMs::now().0;
    let shown = daemon.agent(&agent)["nextRunAt"].as_str().unwrap().to_owned();
    assert!(shown.ends_with(".000Z") && shown.as_str() >= UnixMs(next - 1000).to_iso().as_str(), "{shown}");
    let armed: Vec<Value> = project.log("scheduler").iter().map(|entry| entry["msg"].clone()).collect();
    assert!(armed.contains(&json!(format!("Scheduled {agent}: \"* * * * * *\" (UTC)"))), "{armed:?}");
    assert!(starts(&project, &agent).iter().all(|start| start == "schedule"));
    end(daemon);
    project.assert_clean();
}

#[test]
fn a_firing_uses_another_slot_and_is_lost_when_there_is_none() {
    let project = Project::new();
    let agent = project.agent("dev", GATE);
    project.configure(&agent, &format!("scale = 2\n{TICKING}"));
    let daemon = Daemon::start(&project);
    daemon.wait_for_runs(&agent, 2);
    let lost = || project.logged("scheduler", "all agent runners busy, skipping scheduled run");
    let lost = wait::until("two lost ticks", lost, |lost| lost.len() >= 2);
    assert_eq!(
        json!([lost[0]["level"], lost[0]["agent"], lost[0]["running"], lost[0]["scale"]]),
        json!([40, agent, 2, 2])
    );
    assert_eq!(starts(&project, &agent), ["schedule", "schedule"]);
    end(daemon);
    project.assert_clean();
}

#[test]
fn a_firing_without_room_in_the_project_waits_for_its_turn() {
    let project = Project::with_settings(&format!("scale = 1\n{HOOK}"));
    let busy = project.on_hook("busy", "");
    let agent = project.agent("dev", "exit 0");
    project.configure(&agent, NEVER);
    let daemon = Daemon::start(&project);
    daemon.wait_for_initial_run(&agent);
    daemon.work("e1", GATE);
    let instance = daemon.wait_for_runs(&busy, 1).remove(0);
    daemon.work("e2", "exit 0");
    // Fires once.
    let instant = UnixMs(UnixMs::now().0 / 1000 * 1000 + 6000).to_iso();
    project.configure(&agent, &format!("schedule = \"{instant}\"\n"));
    let next = || daemon.agent(&agent)["nextRunAt"].clone();
    wait::until("the schedule", next, |next| *next == instant.as_str());
    wait::until("the firing", next, Value::is_null);
    daemon.work("e3", "exit 0");
    assert_eq!(starts(&project, &agent).len(), 1, "only the initial run");
    project.open_gate(&instance);
    daemon.wait_for_items("done", 3);
    wait::until("the run", || starts(&project, &agent).len(), |count| *count == 2);
    // Accepted before it, fired, accepted after it.
    let begin = |name: &str, nth: usize| {
        let msg = format!("Starting {name} container run");
        let log = project.log(name);
        let times = log.iter().filter(|entry| entry["msg"].as_str().is_some_and(|text| text.starts_with(&msg)));
        times.map(|entry| entry["time"].as_i64().unwrap()).nth(nth).unwrap()
    };
    let order = [begin(&busy, 1), begin(&agent, 1), begin(&busy, 2)];
    assert!(order.is_sorted(), "{order:?}");
    daemon.stop().expect(0);
}

#[test]
fn a_firing_that_waits_is_forgotten_when_the_agent_is_paused() {
    let project = Project::with_settings(&format!("scale = 1\n{HOOK}"));
    let busy = project.on_hook("busy", "");
    let agent = project.agent("dev", "exit 0");
    project.configure(&agent, NEVER);
    let daemon = Daemon::start(&project);
    daemon.wait_for_initial_run(&agent);
    daemon.work("e1", GATE);
    let instance = daemon.wait_for_runs(&busy, 1).remove(0);
    let instant = UnixMs(UnixMs::now().0 / 1000 * 1000 + 6000).to_iso();
    project.configure(&agent, &format!("schedule = \"{instant}\"\n"));
    let next = || daemon.agent(&agent)["nextRunAt"].clone();
    wait::until("the schedule", next, |next| *next == instant.as_str());
    wait::until("the firing", next, Value::is_null);
    daemon.post(&format!("/control/agents/{agent}/pause"), &json!({}));
    daemon.post(&format!("/control/agents/{agent}/resume"), &json!({}));
    project.open_gate(&instance);
    daemon.work("e2", "exit 0");
    daemon.wait_for_items("done", 2);
    daemon.wait_until_idle();
    assert_eq!(starts(&project, &agent).len(), 1, "only the initial run");
    daemon.stop().expect(0);
}

#[test]
fn agents_with_a_schedule_run_once_at_the_start_in_the_order_of_their_names() {
    let project = Project::with_settings(HOOK);
    let names: Vec<String> = ["c", "a", "b"].iter().map(|name| project.agent(name, "exit 0")).collect();
    names.iter().for_each(|name| project.configure(name, NEVER));
    let hooked = project.on_hook("d", "");
    let off = project.agent("e", "exit 0");
    project.configure(&off, &format!("scale = 0\n{NEVER}"));
    let daemon = Daemon::start(&project);
    for name in &names {
        daemon.wait_for(&format!("{name}: completed"));
    }
    let log = project.log("scheduler");
    let initial: Vec<&str> =
        log.iter().filter_map(|entry| entry["msg"].as_str()?.strip_prefix("Initial run for ")).collect();
    let mut expected: Vec<&str> = names.iter().map(String::as_str).collect();
    expected.sort_unstable();
    assert_eq!(initial, expected);
    assert!(starts(&project, &hooked).is_empty() && starts(&project, &off).is_empty());
    daemon.stop().expect(0);
}

#[test]
fn after_a_crash_there_is_no_second_initial_run_at_once() {
    let project = Project::new();
    let agent = project.agent("dev", "exit 0");
    project.configure(&agent, NEVER);
    let mut daemon = Daemon::start(&project);
    daemon.wait_for_initial_run(&agent);
    daemon.crash();
    let daemon = daemon.again();
    let said = || project.log("scheduler").into_iter().filter(|entry| entry["agent"] == agent.as_str()).collect();
    wait::until("a word about it", said, |log: &Vec<Value>| {
        log.iter().any(|entry| entry["level"] == 30 && entry["msg"].as_str().unwrap().contains("skipping initial run"))
    });
    assert_eq!(starts(&project, &agent).len(), 1);
    let port = daemon.port;
    daemon.stop().expect(0);
    // An orderly end is followed by one.
    let daemon = Daemon::on(&project, port);
    daemon.wait_for_initial_run(&agent);
    assert_eq!(starts(&project, &agent).len(), 2);
    daemon.stop().expect(0);
}

#[test]
fn an_initial_run_is_left_out_when_an_adopted_run_has_the_slot() {
    let project = Project::new();
    let agent = project.agent("dev", &format!("echo up; {GATE}; exit 0"));
    project.configure(&agent, NEVER);
    let daemon = Daemon::start(&project);
    project.wait_said(&agent, "up");
    let port = daemon.port;
    daemon.stop().expect(0);
    let daemon = Daemon::on(&project, port);
    let msg = format!("{agent}: all runners busy, skipping initial run");
    wait::until("the warning", || project.logged("scheduler", &msg), |found| found.len() == 1);
    assert_eq!(starts(&project, &agent).len(), 1);
    end(daemon);
    project.assert_clean();
}

#[test]
fn a_chain_of_reruns_ends_at_its_limit_and_keeps_its_slot() {
    let project = Project::with_settings(&format!("maxReruns = 2\n{HOOK}"));
    // A webhook run ends well, all others want to go on.
    let script = r#"[ "$AL_TRIGGER_TYPE" = webhook ] && exit 0; sleep 0.5; exit 42"#;
    let agent = project.agent("dev", script);
    project.configure(&agent, ON_HOOK);
    let daemon = Daemon::start(&project);
    daemon.trigger(&agent, "x");
    assert_eq!(daemon.work("e", "").json()["matched"], 1);
    daemon.wait_for_items("done", 1);
    assert_eq!(starts(&project, &agent), ["manual", "manual (rerun 1/2)", "manual (rerun 2/2)", "webhook"]);
    let asked = project.logged("scheduler", &format!("{agent} requested rerun"));
    let seen: Vec<Value> = asked.iter().map(|entry| json!([entry["rerun"], entry["maxReruns"]])).collect();
    assert_eq!(seen, [json!([1, 2]), json!([2, 2])]);
    let limit = project.logged("scheduler", &format!("{agent} hit max reruns limit"));
    assert_eq!(json!([limit.len(), limit[0]["level"], limit[0]["maxReruns"]]), json!([1, 40, 2]));
    daemon.wait_for(&format!("{agent}: running (manual (rerun 1/2))"));
    daemon.stop().expect(0);
    project.assert_clean();
}

#[test]
fn a_chain_of_reruns_ends_with_an_error_or_a_pause() {
    let project = Project::with_settings(HOOK);
    let agent = project.worker("dev");
    project.configure(&agent, ON_HOOK);
    let daemon = Daemon::start(&project);
    // Its reruns have the same task, and its place in the chain decides.
    daemon.trigger(&agent, "[ -z \"${AL_RERUN-}\" ]; al-rerun; exit 3");
    daemon.wait_for(&format!("{agent}: error: Container exited with code 3"));
    daemon.wait_until_idle();
    assert_eq!(starts(&project, &agent), ["manual"], "a failure is not repeated");
    let instance = daemon.trigger(&agent, &format!("echo up; {GATE}; al-rerun"));
    project.wait_said(&agent, "up");
    daemon.post(&format!("/control/agents/{agent}/pause"), &json!({}));
    project.open_gate(&instance);
    daemon.wait_for(&format!("{agent}: {instance} rerun ("));
    daemon.wait_until_idle();
    assert_eq!(starts(&project, &agent), ["manual", "manual"]);
    daemon.stop().expect(0);
}

#[test]
fn a_rerun_of_a_webhook_run_is_its_end() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "");
    let daemon = Daemon::start(&project);
    daemon.work("e", "al-rerun; exit 0");
    daemon.wait_for_items("done", 1);
    daemon.wait_until_idle();
    assert_eq!(starts(&project, &agent), ["webhook"]);
    daemon.stop().expect(0);
}

#[test]
fn a_chain_that_was_adopted_goes_on() {
    let project = Project::with_settings(&format!("maxReruns = 2\n{HOOK}"));
    let agent = project.worker("dev");
    project.configure(&agent, ON_HOOK);
    let mut daemon = Daemon::start(&project);
    let first = daemon.trigger(&agent, &format!("echo up; {GATE}; al-rerun"));
    project.wait_said(&agent, "up");
    daemon.crash();
    let daemon = daemon.again();
    project.open_gate(&first);
    let next = || daemon.instances(&agent).into_iter().find(|instance| *instance != first);
    let second = wait::until("the rerun", next, Option::is_some).unwrap();
    // With the task of the first.
    wait::until(
        "its output",
        || project.logged(&agent, "output"),
        |lines| lines.iter().any(|line| line["instance"] == second.as_str() && line["text"] == "up"),
    );
    assert_eq!(starts(&project, &agent), ["manual", "manual (rerun 1/2)"]);
    daemon.post(&format!("/control/kill/{second}"), &json!({}));
    daemon.wait_until_idle();
    assert_eq!(starts(&project, &agent).len(), 2, "a killed run ends the chain");
    daemon.stop().expect(0);
    project.assert_clean();
}

#[test]
fn a_wish_that_has_to_wait_becomes_an_item() {
    let project = Project::with_settings(&format!("maxReruns = 1\n{HOOK}"));
    let agent = project.worker("dev");
    project.configure(&agent, ON_HOOK);
    let daemon = Daemon::start(&project);
    let instance = daemon.trigger(&agent, GATE);
    let target = format!("/control/trigger/{agent}");
    let queued = daemon.post(&target, &json!({"prompt": "echo queued; exit 42", "queue": true}));
    assert_eq!(
        (queued.status, queued.json()),
        (202, json!({"success": true, "message": format!("Agent {agent} queued"), "queued": true}))
    );
    let refused = daemon.post(&target, &json!({"prompt": "exit 0"}));
    assert_eq!(refused.status, 409);
    let item = daemon.items("queued").remove(0);
    assert_eq!(json!([item["kind"], item["source"]]), json!(["manual", ""]));
    project.open_gate(&instance);
    daemon.wait_for_items("done", 1);
    wait::until("the rerun", || starts(&project, &agent), |starts| starts.len() == 3);
    daemon.wait_until_idle();
    assert_eq!(starts(&project, &agent), ["manual", "manual", "manual (rerun 1/1)"]);
    let said = project.logged(&agent, "output");
    assert_eq!(said.iter().map(|entry| entry["text"].clone()).collect::<Vec<_>>(), ["queued", "queued"]);
    daemon.stop().expect(0);
}

#[test]
fn a_run_can_trigger_another_without_waiting_for_it() {
    let project = Project::with_settings(HOOK);
    let agent = project.worker("dev");
    project.configure(&agent, ON_HOOK);
    let other = project.agent("other", "grep -c 'look here' \"$AL_PROMPT_FILE\"; exit 42");
    project.configure(&other, ON_HOOK);
    let daemon = Daemon::start(&project);
    let post = |target: &str, context: &str| {
        format!(
            "curl -s -d '{{\"secret\":\"'$SHUTDOWN_SECRET'\",\"targetAgent\":\"{target}\",\"context\":\"{context}\"}}' \
             $GATEWAY_URL/signals/trigger; echo\n"
        )
    };
    let task = [post(&other, "look here"), post(&agent, "x"), post(&other, "")].concat();
    daemon.trigger(&agent, &format!("{task}echo end"));
    project.wait_said(&agent, "end");
    let said: Vec<Value> = project.logged(&agent, "output").iter().map(|entry| entry["text"].clone()).collect();
    assert_eq!(
        said,
        [
            r#"{"ok":true}"#,
            r#"{"ok":false,"reason":"agent cannot call itself"}"#,
            r#"{"error":"missing context"}"#,
            "end"
        ]
    );
    let items = daemon.wait_for_items("done", 1);
    assert_eq!(json!([items[0]["kind"], items[0]["source"], items[0]["callId"]]), json!(["trigger", agent, null]));
    project.wait_said(&other, "1");
    assert_eq!(starts(&project, &other), [format!("agent ({agent})")]);
    daemon.stop().expect(0);
}

#[test]
fn what_a_run_signals_is_shown_while_it_runs() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "");
    let daemon = Daemon::start(&project);
    daemon.work("e", &format!("al-status 'half way'; al-rerun; echo up; {GATE}"));
    project.wait_said(&agent, "up");
    let status = daemon.status();
    let shown = &status["agents"][0];
    assert_eq!(
        json!([shown["state"], shown["statusText"], shown["runReason"], shown["runningCount"]]),
        json!(["running", "half way", "webhook (e)", 1])
    );
    let instance = &status["instances"][0];
    assert_eq!(
        json!([instance["trigger"], instance["statusText"], instance["rerunRequested"], instance["depth"]]),
        json!(["webhook:test", "half way", true, 0])
    );
    daemon.wait_for(&format!("{agent}: running (webhook (e)): half way"));
    project.open_gate(instance["id"].as_str().unwrap());
    daemon.wait_for_items("done", 1);
    daemon.wait_until_idle();
    let shown = daemon.agent(&agent);
    assert_eq!(json!([shown["state"], shown["statusText"], shown["runReason"]]), json!(["idle", null, null]));
    daemon.stop().expect(0);
}
