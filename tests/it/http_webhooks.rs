//! `POST /webhooks/:source` over real HTTP: from what a sender posts to the items that wait for runs.

use std::net::Ipv4Addr;
use std::path::Path;

use action_llama::base::Secret;
use action_llama::base::clock::UnixMs;
use action_llama::base::ids;
use action_llama::config::webhook::{Filter, Source};
use action_llama::model::names::{AgentName, InstanceId};
use action_llama::model::outcome::{Class, Outcome, RunResult};
use action_llama::store::containers::Identity;
use action_llama::store::items;
use action_llama::store::runs::{RetryPolicy, finish_run};
use serde_json::{Value, json};

use crate::support::gateway::{Bed, Setup, bindings, source};
use crate::support::http::{Answer, exchange, request, request_bytes, request_from};
use crate::support::wait;

/// Providers in the fixtures that are not built.
const LATER: [&str; 3] = ["slack", "discord", "twitter"];

fn fixture(file: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/webhooks").join(file);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn json_fixture(file: &str) -> Value {
    serde_json::from_slice(&fixture(file)).unwrap()
}

fn secret_type(provider: &str) -> &'static str {
    match provider {
        "github" => "github_webhook_secret",
        "sentry" => "sentry_client_secret",
        "linear" => "linear_webhook_secret",
        "mintlify" => "mintlify_webhook_secret",
        other => panic!("{other} does not sign"),
    }
}

/// Header lines of an object.
fn lines(fields: &Value) -> String {
    let fields = fields.as_object().unwrap();
    fields.iter().map(|(name, value)| format!("{name}: {}\r\n", value.as_str().unwrap())).collect()
}

#[track_caller]
fn deliver(bed: &Bed, provider: &str, fields: &str, body: &[u8]) -> Answer {
    let bytes = request_bytes("POST", &format!("/webhooks/{provider}"), fields, body);
    Answer::parse(&exchange(bed.public, &bytes).unwrap())
}

/// A `test` delivery with this id and event.
#[track_caller]
fn deliver_test(bed: &Bed, id: &str, event: &str) -> Value {
    let body = json!({"event": event, "action": "done"}).to_string();
    let answer = deliver(bed, "test", &format!("x-delivery-id: {id}\r\n"), body.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

fn of_event(event: &str) -> Filter {
    Filter { events: vec![event.to_owned()], ..Filter::default() }
}

/// Two sources, `test` and signed `github`, for the agents `dev` and `resting` (which is paused).
fn setup() -> Setup {
    Setup {
        secrets: vec![("github_webhook_secret", "MyOrg", "s1".into())],
        sources: vec![source("t", "test"), Source { credential: Some("MyOrg".into()), ..source("hub", "github") }],
        triggers: vec![
            ("dev", "t", of_event("go")),
            ("dev", "t", of_event("both")),
            ("dev", "hub", Filter::default()),
            ("reviewer", "t", of_event("both")),
            ("reviewer", "t", Filter { actions: vec!["done".into()], ..of_event("both") }),
            ("resting", "t", of_event("both")),
            ("resting", "t", of_event("rest")),
        ],
        ..Setup::default()
    }
}

/// The items, newest first.
fn queue(bed: &Bed) -> Vec<Value> {
    bed.get("/control/queue?state=queued,running,done,failed,dead").json()["items"].as_array().unwrap().clone()
}

/// The receipts once there are so many of them, newest first.
#[track_caller]
fn receipts(bed: &Bed, count: usize) -> Vec<Value> {
    let all = || bed.get("/api/webhooks").json()["receipts"].as_array().unwrap().clone();
    wait::until("receipts", all, |receipts| receipts.len() == count)
}

#[test]
fn every_payload_of_every_provider_becomes_its_context() {
    let expected = json_fixture("expected.json");
    let mut setup = Setup { webhook_rate_limit: 0, ..Setup::default() };
    for provider in ["github", "sentry", "linear", "mintlify", "test"] {
        setup.sources.push(source(provider, provider));
        setup.triggers.push((
            "dev",
            ["github", "sentry", "linear", "mintlify", "test"].into_iter().find(|name| *name == provider).unwrap(),
            Filter::default(),
        ));
        if let Some(secret) = expected["secrets"][provider].as_str() {
            setup.secrets.push((secret_type(provider), "default", format!("{secret}\n")));
        }
    }
    let bed = Bed::with(setup);
    let files = expected["files"].as_object().unwrap();
    let built = files.iter().filter(|(file, _)| !LATER.iter().any(|later| file.starts_with(later)));
    let mut count = 0;
    for (file, case) in built {
        let provider = file.split_once('/').unwrap().0;
        let answer = deliver(&bed, provider, &lines(&case["headers"]), &fixture(file));
        assert_eq!(answer.status, 200, "{file}: {}", answer.body);
        let answer = answer.json();
        let context = case.get("contextRich").unwrap_or(&case["context"]);
        if context.is_null() {
            assert_eq!((&answer["matched"], &answer["skipped"]), (&json!(0), &json!(0)), "{file}");
            continue;
        }
        assert_eq!(answer["matched"], 1, "{file}: {answer}");
        let id = queue(&bed)[0]["id"].as_i64().unwrap();
        let mut stored = bed.get(&format!("/control/items/{id}")).json()["context"].clone();
        assert_eq!(stored["receiptId"], answer["receiptId"], "{file}");
        stored.as_object_mut().unwrap().shift_remove("receiptId");
        if context["timestamp"] == "*" {
            stored["timestamp"] = json!("*");
        }
        assert_eq!(&stored, context, "{file}");
        let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&stored), names(context), "{file}: order of members");
        count += 1;
    }
    assert_eq!(count, 42);
}

#[test]
fn signatures_are_checked_against_every_secret_of_the_type() {
    let vectors = json_fixture("signatures.json");
    for vector in vectors["vectors"].as_array().unwrap() {
        let (name, provider) = (&vector["name"], vector["provider"].as_str().unwrap());
        if LATER.contains(&provider) {
            continue;
        }
        let provider =
            ["github", "sentry", "linear", "mintlify", "test"].into_iter().find(|name| *name == provider).unwrap();
        let secrets = vector["secrets"].as_object().into_iter().flatten();
        let secrets = secrets.map(|(instance, value)| {
            let instance: &'static str = Box::leak(instance.clone().into_boxed_str());
            (secret_type(provider), instance, value.as_str().unwrap().to_owned())
        });
        let bed =
            Bed::with(Setup { secrets: secrets.collect(), sources: vec![source("s", provider)], ..Setup::default() });
        let fields = lines(&vector["headers"]);
        let answer = deliver(&bed, provider, &fields, vector["body"].as_str().unwrap().as_bytes());
        match vector["result"].as_str() {
            None => {
                assert_eq!(
                    (answer.status, answer.json()),
                    (401, json!({"error": "signature validation failed"})),
                    "{name}"
                );
                let failures = bed.logged("webhook signature invalid");
                assert_eq!((&failures[0]["source"], &failures[0]["level"]), (&json!(provider), &json!(40)), "{name}");
            }
            Some(instance) => {
                assert_eq!(answer.status, 200, "{name}: {}", answer.body);
                receipts(&bed, 1);
                let matched: Option<String> = bed
                    .store
                    .read(|db| Ok(db.query_row("SELECT matched_source FROM webhook_receipts", [], |row| row.get(0))?))
                    .unwrap();
                assert_eq!(matched.as_deref(), Some(instance), "{name}");
            }
        }
        assert!(!bed.log().contains("sha256="), "signatures are not logged");
    }
}

#[test]
fn a_signature_that_is_not_ascii_is_a_wrong_one() {
    let bed = Bed::with(setup());
    let head =
        b"POST /webhooks/github HTTP/1.1\r\nContent-Length: 2\r\nX-Hub-Signature-256: sha256=\xfc\xff\x80".as_slice();
    let answer = Answer::parse(&exchange(bed.public, &[head, b"\r\n\r\n{}"].concat()).unwrap());
    assert_eq!((answer.status, answer.json()), (401, json!({"error": "signature validation failed"})));
}

#[test]
fn a_delivery_makes_one_item_for_every_agent_that_waits_for_it() {
    let bed = Bed::with(setup());
    let answer = deliver_test(&bed, "d1", "both");
    assert_eq!((&answer["matched"], &answer["skipped"], &answer["ok"]), (&json!(2), &json!(1), &json!(true)));
    let members: Vec<&String> = answer.as_object().unwrap().keys().collect();
    assert_eq!(members, ["ok", "matched", "skipped", "receiptId"]);
    let agents: Vec<Value> = queue(&bed).iter().map(|item| item["agent"].clone()).collect();
    assert_eq!(agents, ["reviewer", "dev"]);
    wait::until("the scheduler is told", || bed.seen().queue_changes, |count| *count > 0);
    let note = "webhook | test: dispatched to 2 agents".to_owned();
    wait::until("note", || bed.seen().notes.clone(), |notes| *notes == [note.clone()]);
    let answer = deliver_test(&bed, "d2", "go");
    assert_eq!(answer["matched"], 1);
    wait::until("note", || bed.seen().notes.clone(), |notes| notes.len() == 2 && notes[1].ends_with("to 1 agent"));
    let dispatched = bed.logged("webhook dispatched");
    assert_eq!(
        (&dispatched[0]["source"], &dispatched[0]["matched"], &dispatched[0]["skipped"]),
        (&json!("test"), &json!(2), &json!(1))
    );
    for msg in ["provider registered", "binding added", "webhook secrets loaded"] {
        assert!(!bed.logged(msg).is_empty(), "{msg}");
    }
    assert_eq!((&bed.logged("binding added")[0]["agent"], bed.logged("binding added").len()), (&json!("dev"), 7));
}

#[test]
fn what_makes_no_work_is_answered_and_recorded() {
    let bed = Bed::with(setup());
    let nobody = deliver_test(&bed, "d1", "other");
    let resting = deliver_test(&bed, "d2", "rest");
    assert_eq!((&nobody["matched"], &nobody["skipped"]), (&json!(0), &json!(0)));
    assert_eq!((&resting["matched"], &resting["skipped"]), (&json!(0), &json!(1)));
    let no_object = deliver(&bed, "test", "", b"[1]").json();
    assert_eq!((&no_object["ok"], &no_object["matched"], &no_object["skipped"]), (&json!(true), &json!(0), &json!(0)));
    let all = receipts(&bed, 3);
    let status = |answer: &Value| {
        let receipt = all.iter().find(|receipt| receipt["id"] == answer["receiptId"]).unwrap();
        receipt["status"].as_str().unwrap().to_owned()
    };
    assert_eq!([status(&nobody), status(&resting), status(&no_object)], ["no_match", "skipped", "ignored"]);
    assert!(queue(&bed).is_empty() && bed.seen().queue_changes == 0 && bed.seen().notes.is_empty());
}

#[test]
fn what_is_refused_is_recorded_without_its_body() {
    let bed = Bed::with(setup());
    #[track_caller]
    fn case(bed: &Bed, provider: &str, fields: &str, body: &str, status: u16, text: &str) {
        let answer = deliver(bed, provider, fields, body.as_bytes());
        assert_eq!((answer.status, answer.json()), (status, json!({"error": text})), "{provider} {body}");
        assert_eq!(answer.header("Content-Type"), Some("application/json"));
    }
    let form = "Content-Type: Application/X-WWW-Form-URLencoded\r\n";
    case(&bed, "nobody", "", "{}", 404, "unknown webhook source: nobody");
    case(&bed, "linear", "", "{}", 404, "unknown webhook source: linear");
    case(&bed, "github", "X-GitHub-Event: push\r\n", "{}", 401, "signature validation failed");
    case(&bed, "test", "", "{", 400, "invalid JSON body");
    case(&bed, "test", form, "other=1", 400, "missing payload in form body");
    case(&bed, "test", form, "payload=%7B", 400, "invalid JSON body");
    let notes = [
        "webhook | Rejected: unknown source \"nobody\"",
        "webhook | Rejected: unknown source \"linear\"",
        "webhook | github: signature validation failed",
        "webhook | test: invalid JSON body",
        "webhook | test: missing payload in form body",
        "webhook | test: invalid JSON body",
    ];
    wait::until("notes", || bed.seen().notes.clone(), |seen| *seen == notes);
    let all = receipts(&bed, 6);
    assert!(all.iter().all(|receipt| receipt["status"] == "rejected"));
    let reasons: Vec<&Value> = all.iter().map(|receipt| &receipt["deadLetterReason"]).collect();
    assert_eq!(reasons[3], "validation_failed");
    assert_eq!(reasons[0], "parse_error");
    let shown = bed.get(&format!("/api/stats/webhooks/{}", all[0]["id"].as_str().unwrap())).json();
    assert_eq!(shown["receipt"]["body"], Value::Null);
    assert_eq!(deliver(&bed, "test", form, b"payload=%7B%22event%22%3A%22go%22%7D").json()["matched"], 1);
    assert_eq!(request(bed.public, "GET", "/webhooks/github", "", "").status, 404);
}

fn claim(bed: &Bed, agent: &'static str) -> String {
    let identity = Identity {
        instance: InstanceId::generate(&AgentName::parse(agent).unwrap()),
        secret: Secret::new(ids::uuid_v4()),
    };
    let instance = identity.instance.to_string();
    let claimed = bed.store.write(move |tx| items::claim_next(tx, agent, &identity, UnixMs::now()));
    assert!(claimed.unwrap().is_some());
    instance
}

fn finish(bed: &Bed, instance: String, class: Class) {
    let outcome = Outcome {
        class,
        result: if class == Class::Ok { RunResult::Completed } else { RunResult::Error },
        exit_code: None,
        exit_reason: None,
        error: None,
        return_value: None,
        usage: None,
        model_failure: None,
        started_at: UnixMs::now(),
        finished_at: UnixMs::now(),
    };
    let policy = RetryPolicy { max_attempts: 3, delay_seconds: 30, retry_errors: false };
    bed.store.write(move |tx| finish_run(tx, &instance, &outcome, &policy, UnixMs::now())).unwrap();
}

#[test]
fn a_repeated_delivery_reaches_only_agents_that_have_not_dealt_with_it() {
    let bed = Bed::with(setup());
    let first = deliver_test(&bed, "d1", "both");
    let duplicate = json!({"ok": true, "matched": 0, "skipped": 1, "duplicate": true, "receiptId": first["receiptId"]});
    assert_eq!(deliver_test(&bed, "d1", "both"), duplicate);
    let (dev, reviewer) = (claim(&bed, "dev"), claim(&bed, "reviewer"));
    assert_eq!(deliver_test(&bed, "d1", "both"), duplicate);
    finish(&bed, dev, Class::Ok);
    finish(&bed, reviewer, Class::AgentError);
    let again = json!({"ok": true, "matched": 1, "skipped": 1, "receiptId": first["receiptId"]});
    assert_eq!(deliver_test(&bed, "d1", "both"), again);
    let states: Vec<(String, String)> = queue(&bed)
        .iter()
        .map(|item| (item["agent"].as_str().unwrap().to_owned(), item["state"].as_str().unwrap().to_owned()))
        .collect();
    assert_eq!(states, [("reviewer".into(), "queued".into()), ("dev".into(), "done".into())]);
    assert_ne!(deliver_test(&bed, "d2", "both")["receiptId"], first["receiptId"]);
    assert_eq!(deliver(&bed, "test", "", br#"{"event":"go"}"#).json()["matched"], 1);
    assert_eq!(
        deliver(&bed, "test", "", br#"{"event":"go"}"#).json()["matched"],
        1,
        "without an id nothing is compared"
    );
}

#[test]
fn of_equal_deliveries_at_the_same_moment_one_makes_work() {
    let bed = Bed::with(setup());
    let answers: Vec<Value> = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..12).map(|_| scope.spawn(|| deliver_test(&bed, "d1", "go"))).collect();
        senders.into_iter().map(|sender| sender.join().unwrap()).collect()
    });
    assert_eq!(answers.iter().filter(|answer| answer["matched"] == 1).count(), 1);
    assert_eq!(answers.iter().filter(|answer| answer["duplicate"] == true).count(), 11);
    assert!(answers.iter().all(|answer| answer["receiptId"] == answers[0]["receiptId"]));
    assert_eq!(queue(&bed).len(), 1);
}

#[test]
fn each_client_has_its_rate_and_proxies_that_are_trusted_speak_for_theirs() {
    let bed = Bed::with(Setup { webhook_rate_limit: 3, trusted_proxies: vec!["127.0.0.1/32"], ..setup() });
    let post = |client: &str| {
        let answer = deliver(&bed, "test", &format!("X-Forwarded-For: {client}\r\n"), br#"{"event":"other"}"#);
        (answer.status, answer.header("Retry-After").map(str::to_owned))
    };
    for _ in 0..3 {
        assert_eq!(post("198.51.100.7"), (200, None));
    }
    assert_eq!(post("198.51.100.7"), (429, Some("60".into())));
    assert_eq!(post("198.51.100.7, 127.0.0.1"), (429, Some("60".into())), "the proxy itself is skipped");
    assert_eq!(post("203.0.113.5, 198.51.100.8"), (200, None), "what the client wrote does not count");
    // Peers that are no proxies cannot choose who they are.
    let stranger = |forwarded: &str| {
        let fields = format!("X-Forwarded-For: {forwarded}\r\n");
        request_from(Ipv4Addr::new(127, 0, 0, 9), bed.public, "POST", "/webhooks/test", &fields, "{}").status
    };
    let answers: Vec<u16> = (0..5).map(|n| stranger(&format!("203.0.113.{n}"))).collect();
    assert_eq!(answers, [200, 200, 200, 429, 429]);
    let answer = deliver(&bed, "nobody", "X-Forwarded-For: 198.51.100.7\r\n", b"");
    assert_eq!((answer.status, answer.json()), (429, json!({"error": "too many requests"})), "before anything else");
    assert_eq!(bed.get("/control/status").status, 200, "other paths have no such limit");
    wait::until(
        "note",
        || bed.seen().notes.clone(),
        |notes| notes.contains(&"webhook | test: too many requests".into()),
    );
    let refused = bed.logged("request completed with error");
    assert!(refused.iter().any(|entry| entry["status"] == 429 && entry["path"] == "/webhooks/test"));
}

#[test]
fn without_a_limit_everything_is_taken() {
    let bed = Bed::with(Setup { webhook_rate_limit: 0, ..setup() });
    assert!((0..150).all(|n| deliver_test(&bed, &format!("d{n}"), "other")["ok"] == true));
}

#[test]
fn a_thousand_refusals_ask_for_a_check_of_the_receipts() {
    let bed = Bed::with(Setup { webhook_rate_limit: 0, ..setup() });
    let refuse = || assert_eq!(deliver(&bed, "github", "", b"{}").status, 401);
    (0..990).for_each(|_| refuse());
    assert_eq!(bed.seen().receipt_checks, 0);
    (0..10).for_each(|_| refuse());
    // They are recorded at most a second later, and the next one finds them.
    wait::until("a check", || (refuse(), bed.seen().receipt_checks), |(_, checks)| *checks == 1);
}

#[test]
fn what_cannot_be_stored_is_not_accepted() {
    let bed = Bed::with(setup());
    bed.store.close().unwrap();
    let answer = deliver(&bed, "test", "x-delivery-id: d1\r\n", br#"{"event":"go"}"#);
    assert_eq!((answer.status, answer.json()), (503, json!({"error": "storage unavailable"})));
    assert_eq!(answer.header("Retry-After"), Some("60"));
    assert_eq!(deliver(&bed, "github", "", b"{}").status, 401);
    assert!(bed.seen().queue_changes == 0 && !bed.seen().notes.iter().any(|note| note.contains("dispatched")));
}

#[test]
fn new_bindings_and_secrets_count_at_once() {
    let bed = Bed::with(setup());
    assert_eq!(deliver_test(&bed, "d1", "later")["matched"], 0);
    let mut other = setup();
    other.triggers.push(("dev", "t", of_event("later")));
    other.sources.push(source("errors", "sentry"));
    bed.handle.set_bindings(bindings(&other));
    assert_eq!(deliver_test(&bed, "d2", "later")["matched"], 1);
    assert_eq!(deliver(&bed, "sentry", "Sentry-Hook-Resource: issue\r\n", b"{}").status, 200, "nobody has to sign yet");
    let dir = bed.credentials.root().join("sentry_client_secret/default");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("secret"), "x").unwrap();
    let status = || deliver(&bed, "sentry", "Sentry-Hook-Resource: issue\r\n", b"{}").status;
    wait::until("the new secret", status, |status| *status == 401);
}

#[test]
fn large_bodies_make_work_but_are_not_kept() {
    let bed = Bed::with(setup());
    let body = json!({"event": "go", "x": "y".repeat(9_000_000)}).to_string();
    let answer = deliver(&bed, "test", "", body.as_bytes()).json();
    assert_eq!(answer["matched"], 1);
    let receipt = bed.get(&format!("/api/stats/webhooks/{}", answer["receiptId"].as_str().unwrap())).json();
    assert_eq!(receipt["receipt"]["body"], Value::Null);
    let bytes: i64 = bed
        .store
        .read(|db| Ok(db.query_row("SELECT body_bytes FROM webhook_receipts", [], |row| row.get(0))?))
        .unwrap();
    assert_eq!(bytes, body.len() as i64);
}
