//! Deliveries of all providers, with the payloads, signatures and filters in `tests/fixtures/webhooks` as data
//! (gateway.md §17–§21, §27.5; scheduler.md §15.3 item 3).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use action_llama::base::Secret;
use action_llama::base::clock::UnixMs;
use action_llama::config::webhook::{Filter, PROVIDERS, Source};
use action_llama::model::webhook_context::Context;
use action_llama::webhooks::secrets::Stored;
use action_llama::webhooks::{Bindings, Delivery, Genuine, Headers, Refusal, delivery, filter, providers, read};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::support::project::Project;

/// Providers in the fixtures that are not built.
const LATER: [&str; 3] = ["slack", "discord", "twitter"];
const NOW: UnixMs = UnixMs(1_772_700_000_000);

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/webhooks")
}

fn bytes(file: &str) -> Vec<u8> {
    std::fs::read(fixtures().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn fixture(file: &str) -> Value {
    serde_json::from_slice(&bytes(file)).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn members(value: &Value) -> &Map<String, Value> {
    value.as_object().unwrap()
}

fn headers(fields: &Value) -> Headers {
    Headers::from_json(members(fields)).unwrap()
}

/// Reads a delivery as the gateway of a project with one source of the provider does.
fn deliver(provider: &str, headers: &Headers, body: &[u8], secrets: &[(&str, &str)]) -> Result<Genuine, Refusal> {
    let kind = PROVIDERS.iter().find(|known| known.name == provider).unwrap();
    let source = Source { name: "s".into(), provider: kind, credential: None, allow_unsigned: Some(true) };
    let bindings = Bindings::new([&source], []);
    let stored = secrets
        .iter()
        .map(|(instance, secret)| Stored { instance: (*instance).to_owned(), secret: Some(Secret::new(*secret)) });
    let stored: Vec<Stored> = stored.collect();
    let delivery = Delivery { headers, body, now: NOW };
    read(providers::find(provider).unwrap(), &delivery, &stored, bindings.unsigned(provider))
}

/// The payloads of providers that are built: name, request header, expected context.
fn payloads() -> Vec<(String, Value, Value)> {
    let expected = fixture("expected.json");
    let files = members(&expected["files"]).iter();
    let built = files.filter(|(file, _)| !LATER.iter().any(|later| file.starts_with(&format!("{later}/"))));
    let context = |case: &Value| case.get("contextRich").unwrap_or(&case["context"]).clone();
    built.map(|(file, case)| (file.clone(), case["headers"].clone(), context(case))).collect()
}

fn provider_of(file: &str) -> &str {
    file.split_once('/').unwrap().0
}

#[test]
fn every_payload_gives_its_context() {
    let expected = fixture("expected.json");
    let files = payloads();
    assert_eq!((files.len(), members(&expected["files"]).len()), (45, 56));
    for (file, fields, context) in files {
        let provider = provider_of(&file);
        let secret = expected["secrets"].get(provider).map(text);
        let secrets: Vec<(&str, &str)> = secret.map(|secret| ("default", secret)).into_iter().collect();
        let source = if secret.is_some() { "default" } else { "test" };
        let genuine = deliver(provider, &headers(&fields), &bytes(&file), &secrets).unwrap();
        assert_eq!(genuine.matched_source, source, "{file}");
        let id = ["x-github-delivery", "request-id", "linear-delivery"].iter().find_map(|name| fields.get(*name));
        assert_eq!(genuine.delivery_id.as_deref(), id.map(text), "{file}");
        let Some(told) = genuine.context else {
            assert_eq!(context, Value::Null, "{file}");
            continue;
        };
        let mut told = told.into_json("r");
        assert_eq!(told.shift_remove("receiptId"), Some("r".into()));
        if context["timestamp"] == "*" {
            assert_eq!(told["timestamp"], "2026-03-05T08:40:00.000Z", "{file}");
            told["timestamp"] = "*".into();
        }
        // As texts, because the order matters, too.
        assert_eq!(Value::Object(told).to_string(), context.to_string(), "{file}");
    }
}

#[test]
fn every_signature_has_its_verdict() {
    let vectors = fixture("signatures.json");
    let vectors = vectors["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), 18);
    for vector in vectors {
        let secrets: Vec<(&str, &str)> =
            members(&vector["secrets"]).iter().map(|(name, secret)| (name.as_str(), text(secret))).collect();
        let body = text(&vector["body"]).as_bytes();
        let read = deliver(text(&vector["provider"]), &headers(&vector["headers"]), body, &secrets);
        let matched = match &read {
            Ok(genuine) => Some(genuine.matched_source.as_str()),
            Err(refusal) => {
                assert_eq!(refusal, &Refusal::Signature, "{vector}");
                None
            }
        };
        assert_eq!(matched, vector["result"].as_str(), "{vector}");
    }
}

/// A filter by the names of its fields.
fn filter_of(given: &Map<String, Value>) -> Filter {
    let mut filter = Filter::default();
    for (field, value) in given {
        let list = || value.as_array().unwrap().iter().map(|word| text(word).to_owned()).collect();
        match field.as_str() {
            "events" => filter.events = list(),
            "actions" => filter.actions = list(),
            "repos" => filter.repos = list(),
            "projects" => filter.projects = list(),
            "orgs" => filter.orgs = list(),
            "organizations" => filter.organizations = list(),
            "labels" => filter.labels = list(),
            "branches" => filter.branches = list(),
            "conclusions" => filter.conclusions = list(),
            "resources" => filter.resources = list(),
            "assignee" => filter.assignee = Some(text(value).to_owned()),
            "author" => filter.author = Some(text(value).to_owned()),
            other => panic!("unknown field {other}"),
        }
    }
    filter
}

#[test]
fn every_filter_has_its_verdict() {
    let cases = fixture("filters.json");
    let cases = cases["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 47);
    for case in cases {
        assert!(providers::find(text(&case["provider"])).is_some(), "{case}");
        let filter = filter_of(members(&case["filter"]));
        let context = Context::from_json(members(&case["context"]), NOW).unwrap();
        assert_eq!(filter::matches(&filter, &context), case["match"].as_bool().unwrap(), "{case}");
        let details: BTreeSet<&str> = filter::details(&filter, &context).map(|(field, _)| field).collect();
        let given = members(&case["filter"]).iter().filter(|(_, value)| *value != &json!([]));
        assert_eq!(details, given.map(|(field, _)| field.as_str()).collect(), "{case}");
    }
}

/// The context of a payload whatever its signature.
#[track_caller]
fn context(file: &str, fields: &Value, body: &[u8]) -> Option<Context> {
    let headers = headers(fields);
    let delivery = Delivery { headers: &headers, body, now: NOW };
    delivery::context(providers::find(provider_of(file)).unwrap(), &delivery).unwrap_or_else(|refusal| {
        panic!("{file}: {refusal}: {}", String::from_utf8_lossy(body));
    })
}

/// Paths of all members of an object, elements of lists included.
fn paths(value: &Value, at: &str, found: &mut Vec<String>) {
    let mut step = |name: &str, child: &Value, is_member: bool| {
        let at = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
        if is_member {
            found.push(at.clone());
        }
        paths(child, &at, found);
    };
    match value {
        Value::Object(members) => members.iter().for_each(|(name, child)| step(name, child, true)),
        Value::Array(items) => items.iter().enumerate().for_each(|(n, child)| step(&n.to_string(), child, false)),
        _ => {}
    }
}

fn without(body: &Value, path: &str) -> Value {
    let (parent, name) = path.rsplit_once('/').unwrap();
    let mut body = body.clone();
    let name = name.replace("~1", "/").replace("~0", "~");
    body.pointer_mut(parent).unwrap().as_object_mut().unwrap().shift_remove(&name);
    body
}

/// JSON as it may come, with names that providers look for.
fn any_json() -> impl Strategy<Value = Value> {
    let name = prop::sample::select(vec![
        "action",
        "repository",
        "full_name",
        "sender",
        "login",
        "issue",
        "labels",
        "name",
        "number",
        "title",
        "body",
        "pull_request",
        "head",
        "ref",
        "comment",
        "data",
        "type",
        "organizationId",
        "team",
        "organization",
        "id",
        "actor",
        "status",
        "project",
        "projects",
        "error",
        "url",
        "event",
        "source",
        "text",
        "slug",
        "metric_alert",
        "x",
        "",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,5}".prop_map(Value::from),
        prop::sample::select(vec!["Issue", "Comment", "failed", "refs/heads/", "a-1", "x/projects/a"])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((name.clone(), inner), 0..8).prop_map(|members| {
                members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>().into()
            }),
        ]
    })
}

/// Every header field that makes some provider look closer.
fn telling(event: &str) -> Value {
    json!({"x-github-event": event, "sentry-hook-resource": event, "x-delivery-id": "1"})
}

proptest! {
    #[test]
    fn any_json_is_an_event_or_none(
        body in any_json(),
        event in prop::sample::select(vec![
            "issues", "pull_request", "issue_comment", "pull_request_review", "push", "workflow_run", "discussion",
            "check_run", "create", "event_alert", "metric_alert", "issue", "error", "comment", "other",
        ]),
    ) {
        let body = body.to_string();
        for provider in ["github", "sentry", "linear", "mintlify", "test"] {
            let Some(context) = context(&format!("{provider}/"), &telling(event), body.as_bytes()) else { continue };
            let is_object = body.starts_with('{');
            prop_assert!(is_object);
            for (member, value) in context.into_json("r") {
                let may_be_empty = member == "repo" || member == "labels";
                prop_assert!(may_be_empty || (value != "" && !value.is_null()), "{} of {}", member, provider);
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..200), form in any::<bool>()) {
        let kind = if form { "application/x-www-form-urlencoded" } else { "application/json" };
        let headers = Headers::new([("content-type", kind), ("x-github-event", "push"), ("sentry-hook-resource", "x")]);
        for provider in ["github", "sentry", "linear", "mintlify", "test"] {
            let delivery = Delivery { headers: &headers, body: &body, now: NOW };
            let read = delivery::context(providers::find(provider).unwrap(), &delivery);
            prop_assert!(!matches!(read, Err(Refusal::Signature)));
        }
    }

    /// Whatever member has the wrong type: it is as if it were not there.
    #[test]
    fn a_member_of_the_wrong_type_is_left_out(
        file in prop::sample::select(payloads()),
        path in any::<prop::sample::Index>(),
        wrong in prop::sample::select(vec![json!(true), json!(null), json!(1.5), json!("")]),
    ) {
        let (file, fields, _) = file;
        let body = fixture(&file);
        let mut found = Vec::new();
        paths(&body, "", &mut found);
        prop_assume!(!found.is_empty());
        let path = path.get(&found);
        let mut changed = body.clone();
        *changed.pointer_mut(path).unwrap() = wrong;
        let lacking = without(&body, path);
        prop_assert_eq!(
            context(&file, &fields, changed.to_string().as_bytes()),
            context(&file, &fields, lacking.to_string().as_bytes()),
            "{} {}", file, path
        );
    }
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_delivery_in_a_file_starts_a_run() {
    let project = Project::new();
    let agent = project.agent("dev", "sed -n '/^<webhook-trigger>$/,/^<.webhook-trigger>$/p' \"$AL_PROMPT_FILE\"");
    let delivery = bytes("simulate/github-issues-labeled.json");
    let done = project.al(&["run", &agent, "--json", "--webhook", "-"]).stdin(delivery).run();
    done.expect(0);
    let told: Value = serde_json::from_str(&done.said()[1]).unwrap();
    assert!(told["timestamp"].is_string());
    let expected = json!({
        "source": "github", "event": "issues", "action": "labeled", "repo": "acme/app", "sender": "maintainer-mia",
        "timestamp": told["timestamp"], "number": 42, "title": "Add a dark theme",
        "body": "The settings page should offer a dark theme.", "url": "https://github.com/acme/app/issues/42",
        "author": "reporter-rob", "assignee": "acme-bot", "labels": ["ready-for-dev", "ui"], "receiptId": "local",
    });
    assert_eq!(told.to_string(), expected.to_string());
}

#[test]
fn a_delivery_that_starts_nothing_is_refused() {
    let project = Project::without_docker("");
    let agent = project.worker("dev");
    for (delivery, parts) in [
        (json!({"headers": {"x-github-event": "ping"}, "body": {"zen": "x"}}), ["github", "without an event"]),
        (json!({"headers": {"user-agent": "x"}, "body": {}}), ["which provider", "x-github-event"]),
        (json!({"headers": "none", "body": {}}), ["`headers`", "webhook context"]),
    ] {
        let al = project.al(&["run", &agent, "--webhook", "-"]).env("DOCKER_HOST", "unix:///nonexistent");
        let done = al.stdin(delivery.to_string()).run();
        done.expect(1);
        assert_eq!(done.stdout, "");
        for part in parts {
            assert!(done.stderr.contains(part), "{part:?} is not in {}", done.stderr);
        }
    }
}
