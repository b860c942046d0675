//! Calls between agents under `al start` (scheduler.md §6, gateway.md §10).

use action_llama::store::Store;
use action_llama::store::calls::{self, CallState};
use serde_json::{Value, json};

use crate::support::daemon::{Daemon, free_port};
use crate::support::docker::docker;
use crate::support::project::{GATE, HOOK, ON_HOOK, Project};
use crate::support::wait;

/// `start NAME [TEXT]` calls and prints the call's id; `value ID` waits and prints the state of the call as JSON.
const CALL: &str = r#"
start() {
  answer=$(printf '%s' "${2-}" | al-call "$1") || { echo "refused $? $answer" >&2; return 1; }
  echo "$answer" | jq -r .callId
}
value() { al-wait "$1" --timeout 60 | jq -c --arg id "$1" '.[$id]'; }
call() { id=$(start "$@" 2>&1) && value "$id" || echo "$id"; }
"#;

/// A project whose agent `dev` carries out tasks, and its other agents with their scripts and settings.
fn bed(settings: &str, others: &[(&str, String)]) -> (Project, String) {
    let project = Project::with_settings(&format!("{settings}{HOOK}"));
    let dev = project.worker("dev");
    // Something has to be able to start each; a person and calls do.
    project.configure(&dev, ON_HOOK);
    for (name, script) in others {
        project.configure(&project.agent(name, script), ON_HOOK);
    }
    (project, dev)
}

/// Text lines that an agent wrote.
fn said(project: &Project, agent: &str) -> Vec<String> {
    let lines = project.logged(agent, "output");
    lines.iter().map(|entry| entry["text"].as_str().unwrap_or_default().to_owned()).collect()
}

/// A script that can call others.
fn script(lines: &str) -> String {
    format!("{CALL}{lines}\n")
}

#[test]
fn a_chain_of_three_calls_works_and_a_fourth_is_refused() {
    let project = Project::with_settings(HOOK);
    let names: Vec<String> = ["dev", "b", "c", "d", "e"].iter().map(|name| project.name(name)).collect();
    let [dev, b, c, d, e] = &names[..] else { unreachable!() };
    project.worker("dev");
    project.agent("b", &script(&format!("al-return \"b<$(call {c} x | jq -r .returnValue)>\"")));
    project.agent("c", &script(&format!("al-return \"c<$(call {d} x | jq -r .returnValue)>\"")));
    project.agent("d", &script(&format!("al-return \"d<$(call {e} x)>\"")));
    project.agent("e", "exit 0");
    names.iter().for_each(|name| project.configure(name, ON_HOOK));
    let daemon = Daemon::start(&project);
    daemon.trigger(dev, &script(&format!("call {b} x; echo end")));
    project.wait_said(dev, "end");
    let reason = r#"{"ok":false,"reason":"trigger depth limit reached"}"#;
    let answer: Value = serde_json::from_str(&said(&project, dev)[0]).unwrap();
    assert_eq!(answer, json!({"status": "completed", "returnValue": format!("b<c<d<refused 1 {reason}>>>")}));
    let items = daemon.wait_for_items("done", 3);
    assert!(items.iter().all(|item| item["kind"] == "call"), "{items:?}");
    let rejected = project.logged("gateway", "call rejected");
    assert_eq!(rejected.len(), 1);
    assert_eq!(
        json!([rejected[0]["level"], rejected[0]["caller"], rejected[0]["target"], rejected[0]["reason"]]),
        json!([40, d, e, "trigger depth limit reached"])
    );
    let depths: Vec<Value> =
        project.logged("scheduler", "dispatching call").iter().map(|entry| entry["depth"].clone()).collect();
    assert_eq!(depths, [0, 1, 2]);
    daemon.wait_for(&format!("{b}: running (triggered by {dev})"));
    daemon.stop().expect(0);
}

#[test]
fn calls_that_must_not_be_are_refused_without_a_record() {
    let project = Project::with_settings(HOOK);
    let (dev, back) = (project.name("dev"), project.name("back"));
    project.worker("dev");
    project.configure(&dev, ON_HOOK);
    project.agent("back", &script(&format!("al-return \"$(call {dev} x)\"")));
    project.configure(&back, ON_HOOK);
    let off = project.agent("off", "exit 0");
    project.configure(&off, "scale = 0\n");
    let paused = project.agent("paused", "exit 0");
    project.configure(&paused, ON_HOOK);
    let ghost = project.name("ghost");
    let daemon = Daemon::start(&project);
    assert_eq!(daemon.post(&format!("/control/agents/{paused}/pause"), &json!({})).status, 200);
    let targets = [&dev, &ghost, &off, &paused, &back];
    let lines: String = targets.map(|target| format!("call {target} x\n")).concat();
    daemon.trigger(&dev, &script(&format!("{lines}echo end")));
    project.wait_said(&dev, "end");
    let refused = |reason: &str| format!("refused 1 {}", json!({"ok": false, "reason": reason}));
    let said = said(&project, &dev);
    assert_eq!(
        said[..4],
        [
            refused("agent cannot call itself"),
            refused(&format!("target agent \"{ghost}\" not found")),
            refused(&format!("target agent \"{off}\" is disabled")),
            refused(&format!("target agent \"{paused}\" is paused")),
        ]
    );
    let cycle: Value = serde_json::from_str(&said[4]).unwrap();
    assert_eq!(cycle["returnValue"], refused(&format!("call cycle: {dev} → {back} → {dev}")));
    daemon.wait_until_idle();
    assert_eq!(daemon.items("queued,running,done,failed,dead").len(), 1);
    daemon.stop().expect(0);
}

#[test]
fn a_wait_ends_when_the_call_does_and_a_failure_is_told() {
    let (project, dev) = bed("", &[("slow", script("sleep 1; al-return late")), ("bad", script("exit 7"))]);
    let (slow, bad) = (project.name("slow"), project.name("bad"));
    let daemon = Daemon::start(&project);
    let lines = format!(
        "id=$(start {slow} x); al-check $id; value $id; call {bad} x; al-check nonsense; echo \"check $?\"; echo end"
    );
    daemon.trigger(&dev, &script(&lines));
    project.wait_said(&dev, "end");
    let said = said(&project, &dev);
    let first: Value = serde_json::from_str(&said[0]).unwrap_or(Value::Null);
    assert!(first["status"] == "running" || first["status"] == "pending", "{said:?}");
    assert_eq!(said[1], r#"{"status":"completed","returnValue":"late"}"#);
    assert_eq!(said[2], r#"{"status":"error","errorMessage":"agent run failed"}"#);
    assert!(said.contains(&"check 2".to_owned()), "{said:?}");
    let failed = daemon.wait_for_items("failed", 1);
    assert_eq!(failed[0]["reason"], "agent_error");
    daemon.stop().expect(0);
}

#[test]
fn a_return_value_may_have_a_mebibyte() {
    let big = script("head -c 1048576 /dev/zero | tr '\\0' x > /tmp/v; al-return < /tmp/v; echo \"returned $?\"");
    let (project, dev) = bed("", &[("big", big)]);
    let agent = project.name("big");
    let daemon = Daemon::start(&project);
    let lines =
        format!("call {agent} x > /tmp/answer; jq -r '.returnValue | length' /tmp/answer; cut -c1-300 /tmp/answer");
    daemon.trigger(&dev, &script(&lines));
    project.wait_said(&dev, "1048576");
    daemon.wait_for_items("done", 1);
    daemon.stop().expect(0);
}

#[test]
fn who_calls_and_ends_is_no_matter_to_the_called() {
    let (project, dev) = bed("", &[("called", script(&format!("echo up; {GATE}; echo over; al-return x")))]);
    let called = project.name("called");
    let daemon = Daemon::start(&project);
    let caller = daemon.trigger(&dev, &script(&format!("start {called} x")));
    project.wait_said(&called, "up");
    wait::until("the caller to end", || daemon.instances(&dev), Vec::is_empty);
    let run = daemon.wait_for_runs(&called, 1);
    project.open_gate(&run[0]);
    let items = daemon.wait_for_items("done", 1);
    let call = items[0]["callId"].as_str().unwrap().to_owned();
    daemon.stop().expect(0);
    let store = Store::open(&project.root().join(".al")).unwrap().store;
    let state = store.read(|db| calls::get(db, &call, &caller)).unwrap();
    assert_eq!(state, Some(CallState::Completed { return_value: Some("x".into()) }));
}

#[test]
fn a_killed_caller_is_no_matter_to_a_call_that_waits() {
    let (project, dev) = bed("", &[("called", script("echo done"))]);
    let called = project.name("called");
    let daemon = Daemon::start(&project);
    assert_eq!(daemon.post("/control/pause", &json!({})).status, 200);
    let caller = daemon.trigger(&dev, &script(&format!("start {called} x; echo called; sleep 60")));
    project.wait_said(&dev, "called");
    assert_eq!(daemon.items("queued").len(), 1);
    daemon.post(&format!("/control/kill/{caller}"), &json!({}));
    daemon.wait_until_idle();
    assert_eq!(daemon.post("/control/resume", &json!({})).status, 200);
    daemon.wait_for_items("done", 1);
    project.wait_said(&called, "done");
    daemon.stop().expect(0);
}

#[test]
fn a_caller_does_not_wait_for_ever_in_a_project_that_is_full() {
    let (project, dev) = bed("scale = 1\n", &[("called", script("al-return x")), ("other", script("exit 0"))]);
    let called = project.name("called");
    let daemon = Daemon::start(&project);
    daemon.trigger(&dev, &script(&format!("call {called} x; echo end")));
    project.wait_said(&dev, "end");
    assert_eq!(said(&project, &dev), [r#"{"status":"completed","returnValue":"x"}"#, "end"]);
    daemon.stop().expect(0);
}

#[test]
fn a_busy_agent_answers_its_calls_one_after_the_other() {
    let (project, dev) =
        bed("", &[("called", script("sleep 0.3; al-return \"$(grep -c 'text [0-9]' \"$AL_PROMPT_FILE\")\""))]);
    let called = project.name("called");
    let daemon = Daemon::start(&project);
    daemon.trigger(
        &dev,
        &script(&format!("a=$(start {called} 'text 1'); b=$(start {called} 'text 2'); value $b; value $a; echo end")),
    );
    project.wait_said(&dev, "end");
    let expected = r#"{"status":"completed","returnValue":"1"}"#;
    assert_eq!(said(&project, &dev), [expected, expected, "end"]);
    assert_eq!(project.logged("scheduler", "all runners busy, call queued").len(), 1);
    let drained = project.logged("scheduler", "draining queued trigger");
    assert_eq!(json!([drained[0]["source"], drained[0]["target"]]), json!([dev, called]));
    assert!(drained[0]["ageMs"].as_u64().unwrap() > 0);
    daemon.stop().expect(0);
}

#[test]
fn calls_pushed_out_cleared_or_without_an_agent_are_errors_of_the_caller() {
    let port = free_port();
    let settings = format!("workQueueSize = 1\ngateway.port = {port}\n");
    let (project, dev) = bed(&settings, &[("called", script("exit 0")), ("leaving", script("exit 0"))]);
    let (called, leaving) = (project.name("called"), project.name("leaving"));
    let daemon = Daemon::on(&project, port);
    daemon.post("/control/pause", &json!({}));
    let lines = format!(
        "a=$(start {called} x); b=$(start {called} x); c=$(start {leaving} x); value $a; echo waiting; value $b; value $c; echo end"
    );
    daemon.trigger(&dev, &script(&lines));
    project.wait_said(&dev, "waiting");
    let cleared = project.al(&["queue", "clear", &called]).run();
    cleared.expect(0);
    assert_eq!(cleared.stdout, "Cleared 1 item(s)\n");
    std::fs::remove_dir_all(project.root().join("agents").join(&leaving)).unwrap();
    project.wait_said(&dev, "end");
    let error = |text: &str| json!({"status": "error", "errorMessage": text});
    let answers: Vec<Value> = said(&project, &dev).iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let gone = format!("target agent \"{leaving}\" not found");
    assert_eq!(answers, [error("queue full, call dropped"), error("queue cleared"), error(&gone)]);
    let dead = daemon.items("dead");
    assert_eq!(dead.len(), 3);
    // Tried again, it fails again at once.
    let item = dead.iter().find(|item| item["agent"] == leaving.as_str()).unwrap();
    assert_eq!(daemon.post(&format!("/control/items/{}/retry", item["id"]), &json!({})).status, 200);
    daemon.wait_for_items("dead", 3);
    daemon.stop().expect(0);
}

#[test]
fn a_call_that_is_lost_is_repeated_and_its_caller_learns_the_end() {
    let (project, dev) = bed(
        "workRetryDelay = 0\n",
        &[(
            "called",
            script(&format!(
                "grep -q 'attempt 2 [o]f 3' \"$AL_PROMPT_FILE\" && {{ al-return twice; exit 0; }}; echo up; {GATE}"
            )),
        )],
    );
    let called = project.name("called");
    let daemon = Daemon::start(&project);
    daemon.trigger(&dev, &script(&format!("call {called} x; echo end")));
    project.wait_said(&called, "up");
    let run = daemon.wait_for_runs(&called, 1);
    docker(&["kill", &format!("al-{}", run[0])]);
    project.wait_said(&dev, "end");
    assert_eq!(said(&project, &dev)[0], r#"{"status":"completed","returnValue":"twice"}"#);
    daemon.stop().expect(0);
}

#[test]
fn a_lost_call_names_its_attempts_at_the_end() {
    let (project, dev) = bed("workRetryDelay = 0\nworkMaxAttempts = 2\n", &[("called", script("exit 143"))]);
    let called = project.name("called");
    let daemon = Daemon::start(&project);
    daemon.trigger(&dev, &script(&format!("call {called} x; echo end")));
    project.wait_said(&dev, "end");
    let answer: Value = serde_json::from_str(&said(&project, &dev)[0]).unwrap();
    let text = answer["errorMessage"].as_str().unwrap();
    assert!(answer["status"] == "error" && text.contains('2') && text.contains("143"), "{answer}");
    daemon.stop().expect(0);
}

#[test]
fn a_rerun_of_a_called_agent_is_its_end() {
    let (project, dev) = bed("", &[("called", script("al-return v; al-rerun"))]);
    let called = project.name("called");
    let daemon = Daemon::start(&project);
    daemon.trigger(&dev, &script(&format!("call {called} x; echo end")));
    project.wait_said(&dev, "end");
    assert_eq!(said(&project, &dev)[0], r#"{"status":"completed","returnValue":"v"}"#);
    daemon.wait_until_idle();
    let msg = format!("Starting {called} container run (triggered by agent ({dev}))");
    assert_eq!(project.logged(&called, &msg).len(), 1);
    daemon.stop().expect(0);
}
