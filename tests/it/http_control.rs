//! `/control/*` and `/locks/status` over real HTTP: what is asked of the scheduler, and how its answers are told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use action_llama::base::clock::UnixMs;
use action_llama::base::{Secret, ids};
use action_llama::model::names::{AgentName, InstanceId};
use action_llama::model::status::{InstanceState, InstanceStatus};
use action_llama::model::wire::run_file::TriggerKind;
use action_llama::scheduler::handle::{Control, Done, Refusal, Snapshot, StopWish};
use action_llama::store::containers::{self, Identity, Origin};
use action_llama::store::items::{self, Kind, NewItem};
use action_llama::store::locks;
use serde_json::{Value, json};

use crate::support::gateway::Bed;
use crate::support::wait;

fn error(text: &str) -> Value {
    json!({ "error": text })
}

fn message(text: &str) -> Value {
    json!({ "success": true, "message": text })
}

/// Posts while the scheduler answers `decision`; checks what it was asked and what came back.
#[track_caller]
fn case(
    bed: &Bed,
    target: &str,
    body: &str,
    wish: &Control,
    decision: Result<Done, Refusal>,
    (status, expected): (u16, Value),
) {
    let shown = format!("{target} {body} {decision:?}");
    bed.seen().answers.push_back(decision);
    let answer = bed.post(target, body);
    assert_eq!((answer.status, answer.json()), (status, expected), "{shown}");
    assert_eq!(bed.seen().wishes.pop().as_ref(), Some(wish), "{shown}");
}

#[test]
fn pause_resume_and_stop() {
    let bed = Bed::new();
    let stop = |clear_queue, kill| Control::Stop(StopWish { clear_queue, kill });
    case(&bed, "/control/pause", "", &Control::Pause, Ok(Done::Yes), (200, message("Scheduler paused")));
    case(&bed, "/control/resume", "{", &Control::Resume, Ok(Done::Yes), (200, message("Scheduler resumed")));
    let failed = || Err(Refusal::Failed("disk full".into()));
    let text = "Failed to pause scheduler: disk full";
    case(&bed, "/control/pause", "", &Control::Pause, failed(), (500, error(text)));
    let text = "Failed to resume scheduler: storage unavailable";
    let unavailable = Err(Refusal::StorageUnavailable);
    case(&bed, "/control/resume", "", &Control::Resume, unavailable, (500, error(text)));
    let stopping = || (200, message("Scheduler stopping"));
    case(&bed, "/control/stop", "", &stop(false, false), Ok(Done::Yes), stopping());
    case(&bed, "/control/stop", "not JSON", &stop(false, false), Ok(Done::Yes), stopping());
    case(&bed, "/control/stop", r#"{"clearQueue":true}"#, &stop(true, false), Ok(Done::Yes), stopping());
    case(&bed, "/control/stop", r#"{"clearQueue":1,"kill":true}"#, &stop(false, true), Ok(Done::Yes), stopping());
    let not_available = Err(Refusal::NotAvailable);
    case(&bed, "/control/stop", "", &stop(false, false), not_available, (503, error("Stop not available")));
}

#[test]
fn agents_are_enabled_disabled_and_killed_by_name() {
    let bed = Bed::new();
    let agent = || "dev".to_owned();
    for (verb, done, wish) in [
        ("enable", "enabled", Control::Enable { agent: agent() }),
        ("resume", "resumed", Control::Enable { agent: agent() }),
        ("disable", "disabled", Control::Disable { agent: agent() }),
        ("pause", "paused", Control::Disable { agent: agent() }),
    ] {
        let target = format!("/control/agents/dev/{verb}");
        let capital = verb[..1].to_uppercase() + &verb[1..];
        let case = |decision, expected| case(&bed, &target, "", &wish, decision, expected);
        case(Ok(Done::Yes), (200, message(&format!("Agent dev {done}"))));
        case(Err(Refusal::UnknownAgent), (404, error("Agent dev not found")));
        case(Err(Refusal::NotAvailable), (503, error(&format!("{capital} not available"))));
        case(Err(Refusal::Failed("boom".into())), (500, error(&format!("Failed to {verb} agent: boom"))));
    }
    let kill = Control::KillAgent { agent: agent() };
    let killed = |count: u64| {
        let text = format!("Killed {count} instance(s) of dev");
        (200, json!({"success": true, "message": text, "killed": count}))
    };
    let target = "/control/agents/dev/kill";
    case(&bed, target, "", &kill, Ok(Done::Killed(2)), killed(2));
    case(&bed, target, "", &kill, Ok(Done::Killed(0)), killed(0));
    case(&bed, target, "", &kill, Err(Refusal::UnknownAgent), (404, error("Agent dev not found")));
    let failed = Err(Refusal::Failed("no".into()));
    case(&bed, target, "", &kill, failed, (500, error("Failed to kill agent: no")));
    let odd = Control::KillAgent { agent: "a/b \"c\"".into() };
    let unknown = (404, error("Agent a/b \"c\" not found"));
    case(&bed, "/control/agents/a%2Fb%20%22c%22/kill", "", &odd, Err(Refusal::UnknownAgent), unknown);
}

#[test]
fn instances_are_killed_by_id() {
    let bed = Bed::new();
    let wish = Control::KillInstance { instance: "dev-a1b2c3d4".into() };
    let target = "/control/kill/dev-a1b2c3d4";
    case(&bed, target, "", &wish, Ok(Done::Yes), (200, message("Instance dev-a1b2c3d4 killed")));
    let unknown = (404, error("Instance dev-a1b2c3d4 not found"));
    case(&bed, target, "", &wish, Err(Refusal::UnknownInstance), unknown);
    let failed = Err(Refusal::Failed("no daemon".into()));
    case(&bed, target, "", &wish, failed, (500, error("Failed to kill instance: no daemon")));
}

#[test]
fn a_run_by_hand() {
    let bed = Bed::new();
    let wish = |prompt: Option<&str>, queue| Control::Trigger {
        agent: "dev".into(),
        prompt: prompt.map(str::to_owned),
        queue,
    };
    let target = "/control/trigger/dev";
    let started = || Ok(Done::Started { instance: "dev-a1b2c3d4".into() });
    let triggered = || (200, json!({"success": true, "message": "Agent dev triggered", "instanceId": "dev-a1b2c3d4"}));
    for body in ["", "{", "[]", r#"{"prompt":null}"#, r#"{"prompt":" \n"}"#, r#"{"queue":"yes"}"#] {
        case(&bed, target, body, &wish(None, false), started(), triggered());
    }
    case(&bed, target, r#"{"prompt":"  do it\n"}"#, &wish(Some("do it"), false), started(), triggered());
    let longest = "x".repeat(65_536);
    let body = json!({"prompt": longest, "queue": true}).to_string();
    let queued = (202, json!({"success": true, "message": "Agent dev queued", "queued": true}));
    case(&bed, target, &body, &wish(Some(&longest), true), Ok(Done::Queued), queued);
    for (refusal, status, text) in [
        (Refusal::UnknownAgent, 404, "Agent dev not found"),
        (Refusal::NoFreeRunner, 409, "Agent dev has no free runner"),
        (Refusal::ProjectLimit(5), 409, "Project limit of 5 runs reached"),
        (Refusal::Disabled, 409, "Agent dev is disabled (scale 0)"),
        (Refusal::NoImage, 409, "Agent dev has no image"),
        (Refusal::NotAvailable, 503, "Trigger not available"),
        (Refusal::StorageUnavailable, 500, "Failed to trigger agent: storage unavailable"),
        (Refusal::Failed("boom".into()), 500, "Failed to trigger agent: boom"),
    ] {
        case(&bed, target, "", &wish(None, false), Err(refusal), (status, error(text)));
    }
    let answer = bed.post(target, r#"{"prompt":7}"#);
    assert_eq!((answer.status, answer.json()), (400, error("invalid prompt")));
    let answer = bed.post(target, &json!({"prompt": longest + "x"}).to_string());
    assert_eq!((answer.status, answer.json()), (413, error("payload too large")));
    assert!(bed.seen().wishes.is_empty());
}

/// A manual item of an agent, with this prompt; gives its id.
fn queue_item(bed: &Bed, agent: &str, prompt: &str) -> i64 {
    let item = NewItem {
        agent: agent.to_owned(),
        kind: Kind::Manual,
        source: String::new(),
        context: json!({ "prompt": prompt }),
        receipt_id: None,
        call_id: None,
        depth: 0,
        chain: Vec::new(),
    };
    bed.store.write(move |tx| items::insert(tx, &item, UnixMs(1_767_322_800_000))).unwrap()
}

fn identity(agent: &str) -> Identity {
    let agent = AgentName::parse(agent).unwrap();
    Identity { instance: InstanceId::generate(&agent), secret: Secret::new(ids::uuid_v4()) }
}

/// Takes the next item of an agent, as the scheduler does; gives the instance.
fn claim(bed: &Bed, agent: &'static str) -> String {
    let identity = identity(agent);
    let instance = identity.instance.to_string();
    let claimed = bed.store.write(move |tx| items::claim_next(tx, agent, &identity, UnixMs(1_767_322_801_000)));
    assert!(claimed.unwrap().is_some());
    instance
}

#[test]
fn the_status_has_the_scheduler_its_agents_and_what_waits() {
    let bed = Bed::new();
    queue_item(&bed, "dev", "a");
    queue_item(&bed, "dev", "b");
    let before = bed.handle.snapshot();
    let instance = InstanceStatus {
        id: "dev-a1b2c3d4".into(),
        agent_name: "dev".into(),
        status: InstanceState::Running,
        started_at: UnixMs(1_767_323_045_000),
        trigger: "webhook:github".into(),
        status_text: None,
        depth: 0,
        rerun_requested: false,
    };
    bed.handle.publish(Snapshot { instances: vec![Arc::new(instance)], ..Snapshot::clone(&before) });
    let instances = json!([{
        "id": "dev-a1b2c3d4", "agentName": "dev", "status": "running", "startedAt": "2026-01-02T03:04:05.000Z",
        "trigger": "webhook:github", "statusText": null, "depth": 0, "rerunRequested": false,
    }]);
    let answer = bed.get("/control/instances");
    assert_eq!((answer.status, answer.json()), (200, json!({ "instances": instances })));
    let status = bed.get("/control/status").json();
    assert_eq!(status["scheduler"]["projectName"], "acme");
    assert_eq!((&status["instances"], &status["running"]), (&instances, &json!(1)));
    assert_eq!(status["queueSizes"], json!({"dev": 2}));
    let waiting: Vec<_> =
        status["agents"].as_array().unwrap().iter().map(|a| (&a["name"], &a["queuedWebhooks"])).collect();
    assert_eq!(json!(waiting), json!([["dev", 2], ["off", 0], ["resting", 0], ["reviewer", 0]]));
    let members: Vec<&String> = status.as_object().unwrap().keys().collect();
    assert_eq!(members, ["scheduler", "instances", "agents", "running", "queueSizes"]);

    bed.handle.publish(Snapshot { scheduler: None, ..Snapshot::clone(&before) });
    for target in ["/control/status", "/control/instances"] {
        let answer = bed.get(target);
        assert_eq!((answer.status, answer.json()), (503, error("Status tracker not available")), "{target}");
    }
}

#[test]
fn items_are_listed_newest_first_and_by_state_and_agent() {
    let bed = Bed::new();
    let (first, second, third) =
        (queue_item(&bed, "dev", "a"), queue_item(&bed, "dev", "b"), queue_item(&bed, "reviewer", "c"));
    let instance = claim(&bed, "dev");
    let list = |query: &str| bed.get(&format!("/control/queue{query}")).json();
    let ids = |query: &str| {
        list(query)["items"].as_array().unwrap().iter().map(|item| item["id"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(ids(""), [third, second, first]);
    assert_eq!((ids("?limit=2"), &list("?limit=2")["total"]), (vec![third, second], &json!(3)));
    assert_eq!(ids("?limit=0"), [third, second, first]);
    assert_eq!(ids("?agent=dev"), [second, first]);
    assert_eq!(ids("?agent=dev&state=queued"), [second]);
    assert_eq!(ids("?state=running,%20dead"), [first]);
    assert_eq!(ids("?state=done"), Vec::<i64>::new());
    let answer = bed.get("/control/queue?state=sleeping");
    assert_eq!((answer.status, answer.json()), (400, error("Invalid state")));
    let expected = json!({
        "id": first, "agent": "dev", "kind": "manual", "source": "", "state": "running", "attempts": 1,
        "enqueuedAt": "2026-01-02T03:00:00.000Z", "notBefore": null, "startedAt": "2026-01-02T03:00:01.000Z",
        "finishedAt": null, "instanceId": instance, "callId": null, "reason": null, "lastError": null,
    });
    assert_eq!(list("?state=running")["items"][0], expected);
    let mut shown = expected;
    shown["context"] = json!({"prompt": "a"});
    assert_eq!(bed.get(&format!("/control/items/{first}")).json(), shown);
    let waiting = json!({"items": [{
        "id": second, "kind": "manual", "summary": "", "enqueuedAt": "2026-01-02T03:00:00.000Z", "attempts": 0,
    }]});
    assert_eq!(bed.get("/control/queue/dev").json(), waiting);
    for target in ["/control/items/4711", "/control/items/x", "/control/items/-1"] {
        let answer = bed.get(target);
        let text = format!("Item {} not found", target.rsplit('/').next().unwrap());
        assert_eq!((answer.status, answer.json()), (404, error(&text)));
    }
}

#[test]
fn items_are_dropped_and_brought_back() {
    let bed = Bed::new();
    let (running, waiting) = (queue_item(&bed, "dev", "a"), queue_item(&bed, "dev", "b"));
    claim(&bed, "dev");
    let post = |id: i64, verb: &str| {
        let answer = bed.post(&format!("/control/items/{id}/{verb}"), "");
        (answer.status, answer.json())
    };
    assert_eq!(post(running, "drop"), (409, error(&format!("Item {running} is running"))));
    assert_eq!(post(running, "retry"), (409, error(&format!("Item {running} is running"))));
    assert_eq!(post(waiting, "retry"), (409, error(&format!("Item {waiting} is queued"))));
    assert_eq!(post(4711, "drop"), (404, error("Item 4711 not found")));
    assert_eq!(post(4711, "retry"), (404, error("Item 4711 not found")));
    assert_eq!(bed.seen().queue_changes, 0);
    assert_eq!(post(waiting, "drop"), (200, message(&format!("Item {waiting} dropped"))));
    let item = bed.get(&format!("/control/items/{waiting}")).json();
    assert_eq!((&item["state"], &item["reason"]), (&json!("dead"), &json!("cleared")));
    let note = format!("dev | item {waiting} dead (cleared)");
    wait::until("note", || bed.seen().notes.clone(), |notes| notes.contains(&note));
    let dead = bed.logged("work item dead");
    assert_eq!(
        (&dead[0]["name"], &dead[0]["id"], &dead[0]["reason"]),
        (&json!("scheduler"), &json!(waiting), &json!("cleared"))
    );
    wait::until("the scheduler is told", || bed.seen().queue_changes, |count| *count > 0);
    assert_eq!(post(waiting, "retry"), (200, message(&format!("Item {waiting} queued"))));
    assert_eq!(bed.store.queued("dev"), 1);
}

#[test]
fn queues_are_cleared() {
    let bed = Bed::new();
    for (agent, prompt) in [("dev", "a"), ("dev", "b"), ("dev", "c"), ("reviewer", "d")] {
        queue_item(&bed, agent, prompt);
    }
    claim(&bed, "dev");
    let cleared =
        |count: u64| json!({"success": true, "message": format!("Cleared {count} item(s)"), "cleared": count});
    assert_eq!(bed.post("/control/queue/dev/clear", "").json(), cleared(2));
    assert_eq!(bed.store.queued_counts(), BTreeMap::from([("reviewer".to_owned(), 1)]));
    assert_eq!(bed.post("/control/queue/clear", "").json(), cleared(1));
    assert_eq!(bed.post("/control/queue/clear", "").json(), cleared(0));
    let states = bed.get("/control/queue").json();
    let states: Vec<&Value> = states["items"].as_array().unwrap().iter().map(|item| &item["state"]).collect();
    assert_eq!(states, ["dead", "dead", "dead", "running"]);
}

#[test]
fn all_locks_are_shown_in_the_order_in_which_they_were_taken() {
    let bed = Bed::new();
    let run = |agent: &str| {
        let identity = identity(agent);
        let instance = identity.instance.to_string();
        let origin = Origin {
            trigger: TriggerKind::Manual,
            source: None,
            rerun: 0,
            depth: 0,
            chain: vec![agent.to_owned()],
            call_id: None,
        };
        bed.store.write(move |tx| containers::register(tx, &identity, &origin, None, UnixMs::now())).unwrap();
        instance
    };
    let lock = |key: &'static str, holder: &str, since: i64, seconds: u64| {
        let (holder, key) = (holder.to_owned(), locks::Key::new(key, key));
        let life = Duration::from_secs(seconds);
        bed.store.write(move |tx| locks::acquire(tx, &key, &holder, life, UnixMs(since))).unwrap();
    };
    assert_eq!(bed.get("/locks/status").json(), json!({"locks": []}));
    let (dev, two_words) = (run("dev"), run("code-review"));
    let now = UnixMs::now().0;
    lock("b", &dev, now - 2000, 600);
    lock("a", &two_words, now - 1000, 600);
    lock("c", "gone-0a0a0a0a", now - 500, 600);
    let expected = json!({"locks": [
        {"resourceKey": "b", "agentName": "dev", "holder": dev, "heldSince": now - 2000, "expiresAt": now + 598_000},
        {"resourceKey": "a", "agentName": "code-review", "holder": two_words, "heldSince": now - 1000,
         "expiresAt": now + 599_000},
        {"resourceKey": "c", "agentName": "gone", "holder": "gone-0a0a0a0a", "heldSince": now - 500,
         "expiresAt": now + 599_500},
    ]});
    assert_eq!(bed.get("/locks/status").json(), expected);
    lock("d", "late-0a0a0a0a", now - 5000, 1);
    assert_eq!(bed.get("/locks/status").json(), expected, "one of them has expired");
}

#[test]
fn what_cannot_be_stored_is_said_so() {
    let bed = Bed::new();
    let id = queue_item(&bed, "dev", "a");
    bed.store.close().unwrap();
    for target in [
        "/control/queue/clear",
        "/control/queue/dev/clear",
        &format!("/control/items/{id}/drop"),
        &format!("/control/items/{id}/retry"),
    ] {
        let answer = bed.post(target, "");
        assert_eq!((answer.status, answer.json()), (503, error("storage unavailable")), "{target}");
        assert_eq!(answer.header("Retry-After"), Some("60"), "{target}");
    }
    assert_eq!(bed.get("/control/queue").status, 503);
    assert_eq!(bed.get("/control/status").status, 200, "what is in memory is still shown");
}
