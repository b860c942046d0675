//! `/api/webhooks` and `/api/stats` over real HTTP: what was delivered, what ran, and trying both out.

use std::path::Path;

use action_llama::config::webhook::{Filter, Source};
use serde_json::{Value, json};

use crate::support::gateway::{Bed, Setup, source};
use crate::support::http::request;
use crate::support::wait;

fn fixture(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/webhooks").join(file);
    std::fs::read_to_string(path).unwrap()
}

fn of_event(event: &str) -> Filter {
    Filter { events: vec![event.to_owned()], ..Filter::default() }
}

fn setup() -> Setup {
    Setup {
        secrets: vec![("github_webhook_secret", "MyOrg", "s1".into())],
        sources: vec![
            source("t", "test"),
            source("any", "github"),
            Source { credential: Some("MyOrg".into()), ..source("own", "github") },
        ],
        triggers: vec![
            ("dev", "t", of_event("go")),
            ("dev", "own", Filter { labels: vec!["bug".into()], ..of_event("issues") }),
            ("resting", "any", of_event("issues")),
            ("reviewer", "any", Filter::default()),
        ],
        ..Setup::default()
    }
}

#[track_caller]
fn deliver(bed: &Bed, id: &str, body: &Value) -> String {
    let fields = format!("X-Delivery-Id: {id}\r\nAuthorization: Bearer x\r\nCookie: a=b\r\nX-Custom: kept\r\n");
    let answer = request(bed.public, "POST", "/webhooks/test", &fields, &body.to_string());
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()["receiptId"].as_str().unwrap().to_owned()
}

fn error(text: &str) -> Value {
    json!({ "error": text })
}

#[test]
fn receipts_are_listed_and_shown() {
    let bed = Bed::with(setup());
    let first = deliver(&bed, "d1", &json!({"event": "go", "action": "now"}));
    let second = deliver(&bed, "d2", &json!({"event": "other"}));
    request(bed.public, "POST", "/webhooks/github", "", "{}");
    let list = |query: &str| bed.get(&format!("/api/webhooks{query}")).json();
    let all = wait::until("receipts", || list(""), |all| all["total"] == 3);
    assert_eq!((&all["limit"], &all["offset"]), (&json!(50), &json!(0)));
    let ids = |answer: &Value| {
        answer["receipts"].as_array().unwrap().iter().map(|receipt| receipt["id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&all)[1..], [json!(second), json!(first)]);
    let expected = json!({
        "id": first, "deliveryId": "d1", "source": "test", "eventSummary": "go now",
        "timestamp": all["receipts"][2]["timestamp"], "matchedAgents": 1, "status": "queued", "deadLetterReason": null,
        "workItems": [{"agent": "dev", "state": "queued", "attempts": 0, "instanceId": null}],
    });
    assert_eq!(all["receipts"][2], expected);
    assert!(expected["timestamp"].is_i64());
    assert_eq!(ids(&list("?status=queued")), [json!(first)]);
    assert_eq!(ids(&list("?provider=test&limit=1&offset=1")), [json!(first)]);
    assert_eq!((list("?limit=1000")["limit"].clone(), list("?limit=0")["limit"].clone()), (json!(100), json!(50)));
    let answer = bed.get("/api/webhooks?status=lost");
    assert_eq!((answer.status, answer.json()), (400, error("Invalid status")));

    let shown = bed.get(&format!("/api/stats/webhooks/{first}")).json()["receipt"].clone();
    assert_eq!(shown["body"], r#"{"event":"go","action":"now"}"#);
    let headers: Value = serde_json::from_str(shown["headers"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&headers["x-custom"], &headers["x-delivery-id"], &headers["host"]),
        (&json!("kept"), &json!("d1"), &json!("test"))
    );
    for private in ["authorization", "cookie", "x-al-peer", "connection"] {
        assert_eq!(headers.get(private), None, "{private}");
    }
    let answer = bed.get("/api/stats/webhooks/nothing");
    assert_eq!((answer.status, answer.json()), (404, json!({"receipt": null})));

    bed.post("/control/queue/clear", "");
    let dead = list("?status=dead-letter");
    assert_eq!((ids(&dead), &dead["receipts"][0]["deadLetterReason"]), (vec![json!(first)], &json!("cleared")));
}

#[test]
fn a_receipt_is_delivered_again_to_whom_it_may_concern_now() {
    let bed = Bed::with(setup());
    let first = deliver(&bed, "d1", &json!({"event": "go", "action": "now"}));
    let replay = |id: &str| bed.post(&format!("/api/webhooks/{id}/replay"), "");
    let answer = replay(&first).json();
    assert_eq!((&answer["ok"], &answer["matched"], &answer["skipped"]), (&json!(true), &json!(1), &json!(0)));
    let again = answer["replayReceiptId"].as_str().unwrap();
    assert_ne!(again, first);
    assert_eq!(bed.store.queued("dev"), 2, "no duplicate check");
    let shown = bed.get(&format!("/api/stats/webhooks/{again}")).json()["receipt"].clone();
    assert_eq!((&shown["eventSummary"], &shown["source"]), (&json!("replay:go now"), &json!("test")));
    let item = bed.get("/control/queue?limit=1").json()["items"][0]["id"].clone();
    assert_eq!(bed.get(&format!("/control/items/{item}")).json()["context"]["receiptId"], again);

    // What nobody wanted may be wanted now.
    let second = deliver(&bed, "d2", &json!({"event": "later"}));
    wait::until("receipt", || replay(&second).status, |status| *status == 200);
    let mut other = setup();
    other.triggers = vec![("reviewer", "t", of_event("later"))];
    bed.handle.set_bindings(crate::support::gateway::bindings(&other));
    assert_eq!(replay(&second).json()["matched"], 1);
    assert_eq!((replay(&first).json()["matched"].clone(), bed.store.queued("reviewer")), (json!(0), 1));
}

#[test]
fn what_cannot_be_delivered_again_says_why() {
    let bed = Bed::with(setup());
    request(bed.public, "POST", "/webhooks/github", "", "{}");
    let rejected = wait::until("receipt", || bed.get("/api/webhooks").json(), |all| all["total"] == 1);
    let large = deliver(&bed, "d1", &json!({"event": "go", "x": "y".repeat(300_000)}));
    for (id, status, text) in [
        ("nothing", 404, "receipt not found"),
        (rejected["receipts"][0]["id"].as_str().unwrap(), 400, "receipt was rejected"),
        (large.as_str(), 400, "receipt has no stored payload"),
    ] {
        let answer = bed.post(&format!("/api/webhooks/{id}/replay"), "");
        assert_eq!((answer.status, answer.json()), (status, error(text)));
    }
    bed.store.close().unwrap();
    assert_eq!(bed.post(&format!("/api/webhooks/{large}/replay"), "").status, 503);
}

#[test]
fn a_delivery_can_be_tried_out() {
    let bed = Bed::with(setup());
    let simulate = |body: &Value| bed.post("/api/webhooks/simulate", &body.to_string());
    let mut given: Value = serde_json::from_str(&fixture("simulate/github-issues-labeled.json")).unwrap();
    let answer = simulate(&given);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let simulation = answer.json();
    assert_eq!((&simulation["ok"], &simulation["parseError"]), (&json!(true), &Value::Null));
    assert_eq!(
        (&simulation["context"]["source"], &simulation["context"]["event"]),
        (&json!("github"), &json!("issues"))
    );
    let members: Vec<&String> = simulation.as_object().unwrap().keys().collect();
    assert_eq!(members, ["ok", "context", "parseError", "bindings"]);
    let of = |agent: &str, simulation: &Value| {
        let bindings = simulation["bindings"].as_array().unwrap();
        bindings.iter().filter(|binding| binding["agentName"] == agent).cloned().collect::<Vec<_>>()
    };
    let is_bug = simulation["context"]["labels"].as_array().unwrap().contains(&json!("bug"));
    let (matched, reasons) = if is_bug { (true, json!(["matched"])) } else { (false, json!(["filter"])) };
    let own = json!({"agentName": "dev", "matched": matched, "reasons": reasons,
        "filterDetails": {"events": true, "labels": is_bug}});
    let test = json!({"agentName": "dev", "matched": false, "reasons": ["type"], "filterDetails": {}});
    assert_eq!(of("dev", &simulation), [own, test]);
    let paused =
        json!({"agentName": "resting", "matched": false, "reasons": ["paused"], "filterDetails": {"events": true}});
    assert_eq!(of("resting", &simulation), [paused]);
    let all = json!({"agentName": "reviewer", "matched": true, "reasons": ["matched"], "filterDetails": {}});
    assert_eq!(of("reviewer", &simulation), [all]);

    given["source"] = json!("test");
    given["body"] = json!("{");
    let simulation = simulate(&given).json();
    assert_eq!((&simulation["context"], &simulation["parseError"]), (&Value::Null, &json!("invalid JSON body")));
    given["body"] = json!([1]);
    let simulation = simulate(&given).json();
    assert_eq!(simulation, json!({"ok": true, "context": null, "parseError": null, "bindings": []}));

    for (body, text) in [
        (json!({"source": "nobody", "headers": {}, "body": {}}), "unknown webhook source: nobody"),
        (json!({"headers": {}}), "`body` is missing"),
        (json!({"body": {}}), "`headers` is not an object"),
    ] {
        let answer = simulate(&body);
        assert_eq!((answer.status, answer.json()), (400, error(text)));
    }
    let unknown = simulate(&json!({"headers": {}, "body": {}}));
    assert!(unknown.status == 400 && unknown.body.contains("x-github-event"), "{}", unknown.body);
    assert_eq!(bed.post("/api/webhooks/simulate", "[]").json(), error("invalid JSON body"));
    assert_eq!(bed.get("/api/webhooks").json()["total"], 0);
    assert_eq!(bed.store.queued_counts().len(), 0);
}

#[test]
fn a_signed_delivery_that_is_tried_out_is_from_who_signed_it() {
    let expected: Value = serde_json::from_str(&fixture("expected.json")).unwrap();
    let secret = expected["secrets"]["github"].as_str().unwrap().to_owned();
    let reasons_of_dev = |instance: &'static str| {
        let bed = Bed::with(Setup { secrets: vec![("github_webhook_secret", instance, secret.clone())], ..setup() });
        let file = "github/issues.labeled.json";
        let given = json!({"headers": expected["files"][file]["headers"], "body": fixture(file)});
        let simulation = bed.post("/api/webhooks/simulate", &given.to_string()).json();
        let bindings = simulation["bindings"].as_array().unwrap();
        bindings.iter().find(|binding| binding["filterDetails"]["labels"].is_boolean()).unwrap()["reasons"].clone()
    };
    assert_eq!(reasons_of_dev("MyOrg"), json!(["matched"]));
    assert_eq!(reasons_of_dev("Other"), json!(["source"]));
}
