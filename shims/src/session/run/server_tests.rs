//! Sessions from their configuration, with a server.

use serde_json::{Value, json};

use super::bench::{Bench, name};
use super::{Session, run};
use crate::cancel::Cancel;
use crate::secret::Secret;
use crate::session::event::Event;
use crate::session::fake::{Fake, Given};
use crate::session::{End, ModelChoice, Outcome};

const OVERLOADED: &str = include_str!("../providers/testdata/anthropic-error.sse");

/// A whole session with a server.
fn run_against(server: &Fake, config: Value) -> (Vec<String>, Outcome) {
    let mut table = json!({"provider": "anthropic", "model": "claude-opus-4-6", "baseUrl": server.url});
    table.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    let config = serde_json::from_value(table).unwrap();
    let mut input = Bench::new(Vec::new()).input();
    input.models = vec![ModelChoice { config, key: Some(Secret::new("k")) }];
    let mut events = Vec::new();
    let outcome = run(input, "do it".into(), Cancel::new(), &mut |event: Event<'_>| events.push(name(&event)));
    (events, outcome)
}

fn text_answer(text: &str) -> String {
    [
        json!({"type": "message_start", "message": {"usage": {"input_tokens": 1_000_000}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": text}}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1000}}),
        json!({"type": "message_stop"}),
    ]
    .map(|event| format!("data: {event}\n\n"))
    .concat()
}

#[test]
fn a_session_with_a_server() {
    let refusal = r#"{"error":{"type":"invalid_request_error","message":"output_config: unknown field"}}"#;
    let limited = Given::json(529, OVERLOADED).header("retry-after-ms", "5");
    let broken = Given::stream(OVERLOADED).header("retry-after-ms", "5");
    let answers = vec![Given::json(400, refusal), limited, broken, Given::stream(text_answer("Done."))];
    let server = Fake::start(answers);
    let (events, outcome) = run_against(&server, json!({}));
    assert!(matches!(outcome.end, End::Completed), "{:?}", outcome.end);
    assert_eq!((outcome.text.as_str(), outcome.usage.cost), ("Done.", 5.025));
    assert!(events[0].starts_with("Created(Created { provider: \"anthropic\", model: \"claude-opus-4-6\""));
    let has_effort: Vec<bool> =
        server.received().iter().map(|request| request.body.get("output_config").is_some()).collect();
    assert_eq!(has_effort, [true, false, false, false]);
}

#[test]
fn a_server_that_knows_the_output_limit_by_another_name() {
    let refusal = r#"{"error":{"message":"Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'."}}"#;
    let finish = r#"{"choices":[{"delta":{"content":"Done."},"finish_reason":"stop"}]}"#;
    let answers = vec![Given::json(400, refusal), Given::stream(format!("data: {finish}\n\n"))];
    let server = Fake::start(answers);
    let (events, outcome) = run_against(&server, json!({"provider": "custom", "model": "m"}));
    assert!(matches!(outcome.end, End::Completed), "{:?}", outcome.end);
    assert!(events.iter().any(|event| event.contains("ParameterRejected { param: \"max_tokens\" }")), "{events:?}");
    let limits = |name: &str| -> Vec<bool> {
        server.received().iter().map(|request| request.body.get(name).is_some()).collect()
    };
    assert_eq!((limits("max_tokens"), limits("max_completion_tokens")), (vec![true, false], vec![false, true]));
}

#[test]
fn what_a_provider_charges_is_the_cost() {
    let cost = |charged: &str| {
        let finish = r#"{"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}]}"#;
        let usage = format!(r#"{{"usage":{{"prompt_tokens":1000000,"completion_tokens":0{charged}}}}}"#);
        let server = Fake::start(vec![Given::stream(format!("data: {finish}\n\ndata: {usage}\n\n"))]);
        run_against(&server, json!({"provider": "openrouter", "model": "x-ai/grok-4.3"})).1.usage.cost
    };
    assert_eq!([cost(""), cost(r#","cost":0.5"#), cost(r#","cost":0"#)], [1.25, 0.5, 0.0]);
}

#[test]
fn the_mock_echoes() {
    let server = Fake::start(Vec::new());
    let (events, outcome) = run_against(&server, json!({"provider": "mock", "model": "echo"}));
    assert!(matches!(outcome.end, End::Completed));
    assert_eq!((outcome.text.as_str(), outcome.usage.turn_count, server.received().len()), ("done", 2, 0));
    // The first event and the deltas are not counted among those of a conversation.
    assert_eq!(events[1..].iter().filter(|event| *event != "text").count(), 16);
}

#[test]
fn a_limit_on_the_cost_needs_a_price() {
    #[track_caller]
    fn case(model: Value, starts: bool) {
        let mut input = Bench::new(Vec::new()).input();
        let config = serde_json::from_value(model.clone()).unwrap();
        input.models = vec![ModelChoice { config, key: Some(Secret::new("k")) }];
        input.limits.max_cost = Some(1.0);
        let error = Session::start(input, &mut |_: Event<'_>| {}).err();
        assert_eq!(error.is_none(), starts, "{model} {error:?}");
        assert!(error.is_none_or(|error| error.contains("model.cost")));
    }
    case(json!({"provider": "anthropic", "model": "claude-opus-4-6"}), true);
    case(json!({"provider": "anthropic", "model": "claude-haiku-3-5"}), true);
    case(json!({"provider": "anthropic", "model": "claude-opus-99"}), false);
    case(json!({"provider": "anthropic", "model": "claude-opus-99", "cost": {"input": 1}}), true);
    case(json!({"provider": "mock", "model": "echo"}), true);
}

#[test]
fn a_fallback_model_that_cannot_work_is_named() {
    let mut input = Bench::new(Vec::new()).input();
    let choice = |model: Value| ModelChoice { config: serde_json::from_value(model).unwrap(), key: None };
    let broken = json!({"provider": "custom", "api": "google", "model": "g"});
    input.models = vec![choice(json!({"provider": "mock", "model": "echo"})), choice(broken)];
    let error = Session::start(input, &mut |_: Event<'_>| {}).err().unwrap();
    assert!(error.starts_with("fallback model custom:g: model.baseUrl is missing"), "{error}");
}

#[test]
fn a_configuration_that_cannot_work_starts_nothing() {
    let server = Fake::start(Vec::new());
    let (events, outcome) = run_against(&server, json!({"authType": "x", "model": "claude-haiku-3-5"}));
    assert!(matches!(outcome.end, End::NotStarted { reason } if reason.contains("authType")));
    assert!(events.is_empty() && server.received().is_empty());
}
