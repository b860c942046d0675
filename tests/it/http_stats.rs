//! `/api/stats/*` over real HTTP: what ran, what it cost, where it came from.

use action_llama::base::clock::UnixMs;
use action_llama::base::{Secret, ids};
use action_llama::config::webhook::Filter;
use action_llama::model::names::{AgentName, InstanceId};
use action_llama::model::outcome::{Class, Outcome, RunResult};
use action_llama::model::wire::run_file::TriggerKind;
use action_llama::model::wire::usage::Usage;
use action_llama::store::containers::{self, Identity, Origin};
use action_llama::store::items;
use action_llama::store::runs::{RetryPolicy, finish_run};
use serde_json::{Value, json};

use crate::support::gateway::{Bed, Setup, source};
use crate::support::http::request;

const START: i64 = 1_772_700_000_000;

fn identity(agent: &str) -> Identity {
    let agent = AgentName::parse(agent).unwrap();
    Identity { instance: InstanceId::generate(&agent), secret: Secret::new(ids::uuid_v4()) }
}

/// Starts a run that no item asked for; gives its instance.
fn start(bed: &Bed, agent: &str, trigger: TriggerKind, caller: Option<&str>) -> String {
    let identity = identity(agent);
    let instance = identity.instance.to_string();
    let source = caller.map(str::to_owned);
    let chain = vec![agent.to_owned()];
    let origin = Origin { trigger, source, rerun: 0, depth: u32::from(caller.is_some()), chain, call_id: None };
    bed.store.write(move |tx| containers::register(tx, &identity, &origin, None, UnixMs(START))).unwrap();
    instance
}

/// Starts a run for the next item of an agent.
fn claim(bed: &Bed, agent: &'static str) -> String {
    let identity = identity(agent);
    let instance = identity.instance.to_string();
    let claimed = bed.store.write(move |tx| items::claim_next(tx, agent, &identity, UnixMs(START)));
    assert!(claimed.unwrap().is_some());
    instance
}

fn finish(bed: &Bed, instance: &str, result: RunResult, seconds: i64, tokens: u64) {
    let usage = Usage { total_tokens: tokens, cost: 0.5, ..Usage::default() };
    let outcome = Outcome {
        class: if result == RunResult::Error { Class::AgentError } else { Class::Ok },
        result,
        exit_code: Some(0),
        exit_reason: None,
        error: (result == RunResult::Error).then(|| "it broke".to_owned()),
        return_value: None,
        usage: Some(usage),
        model_failure: None,
        started_at: UnixMs(START),
        finished_at: UnixMs(START + seconds * 1000),
    };
    let policy = RetryPolicy { max_attempts: 3, delay_seconds: 30, retry_errors: false };
    let instance = instance.to_owned();
    let finished = bed.store.write(move |tx| finish_run(tx, &instance, &outcome, &policy, UnixMs(START + 60_000)));
    assert!(finished.unwrap().is_some());
}

#[test]
fn runs_are_summed_up_by_agent() {
    let bed = Bed::new();
    let nothing =
        json!({"totalRuns": 0, "okRuns": 0, "errorRuns": 0, "avgDurationMs": 0, "totalTokens": 0, "totalCost": 0.0});
    assert_eq!(bed.get("/api/stats/summary").json(), json!({"agents": [], "total": nothing}));
    for (agent, result, seconds) in
        [("dev", RunResult::Completed, 1), ("dev", RunResult::Error, 3), ("reviewer", RunResult::Rerun, 5)]
    {
        let instance = start(&bed, agent, TriggerKind::Schedule, None);
        finish(&bed, &instance, result, seconds, 100);
    }
    let sums = |runs, ok, errors, average, tokens, cost| {
        json!({"totalRuns": runs, "okRuns": ok, "errorRuns": errors, "avgDurationMs": average, "totalTokens": tokens,
            "totalCost": cost})
    };
    let answer = bed.get("/api/stats/summary").json();
    assert_eq!(answer["total"], sums(3, 2, 1, 3000, 300, 1.5));
    let named = |name: &str, sums: Value| {
        let mut all = json!({"agentName": name});
        all.as_object_mut().unwrap().extend(sums.as_object().unwrap().clone());
        all
    };
    assert_eq!(answer["agents"][0], named("dev", sums(2, 1, 1, 2000, 200, 1.0)));
    assert_eq!(answer["agents"][1], named("reviewer", sums(1, 1, 0, 5000, 100, 0.5)));
    assert_eq!(bed.get(&format!("/api/stats/summary?since={}", START + 1)).json()["total"], nothing);
}

#[test]
fn calls_are_counted_by_who_called_whom() {
    let bed = Bed::new();
    assert_eq!(bed.get("/api/stats/calls").json(), json!({"calls": []}));
    let called = |target: &str, caller: &str, seconds: i64| {
        let instance = start(&bed, target, TriggerKind::Agent, Some(caller));
        finish(&bed, &instance, RunResult::Completed, seconds, 7);
    };
    called("docs", "dev", 2);
    called("reviewer", "dev", 1);
    called("reviewer", "dev", 4);
    called("dev", "reviewer", 8);
    // One that goes on, and runs that nobody called.
    start(&bed, "reviewer", TriggerKind::Agent, Some("dev"));
    finish(&bed, &start(&bed, "reviewer", TriggerKind::Schedule, None), RunResult::Completed, 9, 7);
    let edge = |caller: &str, target: &str, count: u64, average: u64| json!({"callerAgent": caller, "targetAgent": target, "count": count, "avgDurationMs": average});
    let expected = [edge("dev", "reviewer", 2, 2500), edge("dev", "docs", 1, 2000), edge("reviewer", "dev", 1, 8000)];
    assert_eq!(bed.get("/api/stats/calls").json(), json!({ "calls": expected }));
    assert_eq!(bed.get(&format!("/api/stats/calls?since={}", START + 1)).json(), json!({"calls": []}));
}

#[test]
fn runs_of_an_agent_come_in_pages() {
    let bed = Bed::new();
    for _ in 0..12 {
        let instance = start(&bed, "dev", TriggerKind::Schedule, None);
        finish(&bed, &instance, RunResult::Completed, 1, 7);
    }
    let page = |query: &str| bed.get(&format!("/api/stats/agents/dev/runs{query}")).json();
    let first = page("");
    assert_eq!((&first["total"], &first["page"], &first["limit"]), (&json!(12), &json!(1), &json!(10)));
    assert_eq!((first["runs"].as_array().unwrap().len(), page("?page=2")["runs"].as_array().unwrap().len()), (10, 2));
    assert_eq!(
        (page("?limit=500")["limit"].clone(), page("?page=x&limit=0")["limit"].clone()),
        (json!(100), json!(10))
    );
    let run = first["runs"][0].clone();
    assert_eq!(
        (&run["agentName"], &run["triggerType"], &run["result"], &run["durationMs"], &run["usage"]["totalTokens"]),
        (&json!("dev"), &json!("schedule"), &json!("completed"), &json!(1000), &json!(7))
    );
    let id = run["instanceId"].as_str().unwrap();
    assert_eq!(bed.get(&format!("/api/stats/agents/dev/runs/{id}")).json(), json!({"run": run}));
    for other in [format!("/api/stats/agents/reviewer/runs/{id}"), "/api/stats/agents/dev/runs/dev-00000000".into()] {
        assert_eq!(bed.get(&other).json(), json!({"run": null}), "{other}");
    }
    assert_eq!(page("?page=18446744073709551615")["runs"], json!([]));
    assert_eq!(bed.get("/api/stats/agents/nobody/runs").json()["runs"], json!([]));
}

/// Two webhooks for `dev`: one runs, one waits; a third is dead.
fn busy() -> (Bed, [String; 3]) {
    let bed = Bed::with(Setup {
        sources: vec![source("t", "test")],
        triggers: vec![("dev", "t", Filter::default())],
        ..Setup::default()
    });
    let deliver = |id: &str| {
        let fields = format!("x-delivery-id: {id}\r\n");
        let answer = request(bed.public, "POST", "/webhooks/test", &fields, r#"{"event":"go","action":"now"}"#);
        answer.json()["receiptId"].as_str().unwrap().to_owned()
    };
    let dead = deliver("d1");
    bed.post("/control/queue/clear", "");
    let ids = [deliver("d2"), deliver("d3"), dead];
    (bed, ids)
}

#[test]
fn a_run_knows_what_triggered_it() {
    let (bed, [running, ..]) = busy();
    let trigger = |instance: &str| bed.get(&format!("/api/stats/triggers/{instance}")).json()["trigger"].clone();
    let instance = claim(&bed, "dev");
    let shown = trigger(&instance);
    let started = shown["startedAt"].clone();
    assert!(started.is_i64());
    let expected = json!({
        "instanceId": instance, "agentName": "dev", "triggerType": "webhook", "triggerSource": "test", "startedAt": started,
        "webhook": {"receiptId": running, "source": "test", "eventSummary": "go now", "deliveryId": "d2"},
    });
    assert_eq!(shown, expected);
    let called = start(&bed, "reviewer", TriggerKind::Agent, Some("dev"));
    finish(&bed, &called, RunResult::Completed, 1, 1);
    let shown = trigger(&called);
    assert_eq!((&shown["callerAgent"], &shown["callDepth"]), (&json!("dev"), &json!(1)));
    assert!(shown.get("webhook").is_none());
    let answer = bed.get("/api/stats/triggers/dev-00000000");
    assert_eq!((answer.status, answer.json()), (404, json!({"trigger": null})));
}

#[test]
fn activity_lists_what_waits_what_runs_and_what_is_over() {
    let (bed, [running, waiting, dead]) = busy();
    let instance = claim(&bed, "dev");
    let done = start(&bed, "reviewer", TriggerKind::Schedule, None);
    finish(&bed, &done, RunResult::Completed, 1, 1);
    let list = |query: &str| bed.get(&format!("/api/stats/activity{query}")).json();
    let all = list("");
    assert_eq!(
        (&all["total"], &all["pendingCount"], &all["limit"], &all["offset"]),
        (&json!(4), &json!(1), &json!(50), &json!(0))
    );
    let results = |answer: &Value| {
        let rows = answer["rows"].as_array().unwrap().iter();
        rows.map(|row| row["result"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(results(&all), "pending running dead-letter completed");
    let row = |rank: usize| {
        let mut row = all["rows"][rank].clone();
        assert!(row.as_object_mut().unwrap().shift_remove("ts").unwrap().is_i64());
        row
    };
    let webhook = |agent: Value, instance: Value, result: &str, receipt: &str, reason: Value| {
        json!({"triggerType": "webhook", "triggerSource": "test", "eventSummary": "go now", "agentName": agent,
            "instanceId": instance, "result": result, "webhookReceiptId": receipt, "deadLetterReason": reason})
    };
    assert_eq!(row(0), webhook(json!("dev"), Value::Null, "pending", &waiting, Value::Null));
    assert_eq!(row(1), webhook(json!("dev"), json!(instance), "running", &running, Value::Null));
    assert_eq!(row(2), webhook(Value::Null, Value::Null, "dead-letter", &dead, json!("cleared")));
    assert_eq!(row(3)["instanceId"], done);
    assert_eq!(results(&list("?status=running,completed")), "running completed");
    assert_eq!(results(&list("?status=all&limit=2&offset=1")), "running dead-letter");
    assert_eq!(results(&list("?agent=dev")), "pending running");
    assert_eq!(results(&list("?triggerType=schedule")), "completed");
    assert_eq!(list("?status=completed")["pendingCount"], 1);
    for name in ["status", "triggerType"] {
        let answer = bed.get(&format!("/api/stats/activity?{name}=x"));
        assert_eq!((answer.status, answer.json()), (400, json!({"error": format!("Invalid {name}")})));
    }
}
