//! The Messages API against the transcripts, and against everything that servers send besides.

use std::time::Duration;

use serde_json::{Value, json};

use super::VENDOR_PROMPT;
use crate::cancel::Cancel;
use crate::env::Environment;
use crate::secret::Secret;
use crate::session::ModelChoice;
use crate::session::error::{Kind, ModelError};
use crate::session::fake::{Fake, Given};
use crate::session::message::{Assistant, Block, Content, Image, Message, Stop, ToolCall, ToolResult};
use crate::session::provider::{Provider, Request};
use crate::session::providers::bench::{ask, event_ends, user};
use crate::session::providers::connect;
use crate::wire::usage::Usage;

const FIRST_REQUEST: &str = include_str!("../testdata/anthropic-request.json");
const SECOND_MESSAGES: &str = include_str!("../testdata/anthropic-messages-2.json");
const TOOL_TURN: &str = include_str!("../testdata/anthropic.sse");
const OVERLOADED: &str = include_str!("../testdata/anthropic-error.sse");

/// A provider at `url`; `config` changes the model table.
fn provider(url: &str, config: Value, key: &str) -> (Box<dyn Provider>, Vec<String>) {
    let mut table = json!({"provider": "anthropic", "model": "claude-sonnet-4-20250514", "baseUrl": url});
    table.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    let choice = ModelChoice { config: serde_json::from_value(table).unwrap(), key: Some(Secret::new(key)) };
    let mut notices = Vec::new();
    let provider = connect(&choice, &Environment::default(), &mut |notice| notices.push(format!("{notice:?}")));
    (provider.unwrap(), notices)
}

fn prompt() -> Message {
    let text = "<agent-config>\n{\"repos\":[\"acme/app\"]}\n</agent-config>\n\nYou are running on a schedule.";
    user(text)
}

/// The answer to one stream.
fn read(sse: impl Into<Vec<u8>>) -> (Vec<String>, Result<Assistant, ModelError>) {
    let server = Fake::start(vec![Given::stream(sse)]);
    ask(&mut *provider(&server.url, json!({}), "k").0, &[prompt()], &[])
}

/// The body of the request for one conversation.
fn body(config: Value, messages: &[Message], refused: &[&str]) -> Value {
    let server = Fake::start(vec![Given::stream(TOOL_TURN)]);
    ask(&mut *provider(&server.url, config, "k").0, messages, refused).1.unwrap();
    server.received().remove(0).body
}

fn sse(events: &[Value]) -> String {
    let text = |event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap());
    events.iter().map(text).collect()
}

fn block(index: u64, start: Value, deltas: &[Value]) -> Vec<Value> {
    let delta = |delta: &Value| json!({"type": "content_block_delta", "index": index, "delta": delta});
    let mut events = vec![json!({"type": "content_block_start", "index": index, "content_block": start})];
    events.extend(deltas.iter().map(delta));
    events.push(json!({"type": "content_block_stop", "index": index}));
    events
}

/// A whole response of these blocks.
fn response(blocks: Vec<Vec<Value>>, stop_reason: &str) -> String {
    let mut events = vec![json!({"type": "message_start", "message": {"usage": {"input_tokens": 1}}})];
    events.extend(blocks.into_iter().flatten());
    events.push(json!({"type": "message_delta", "delta": {"stop_reason": stop_reason}}));
    events.push(json!({"type": "message_stop"}));
    sse(&events)
}

#[test]
fn any_pieces_give_the_same_response() {
    for stream in [TOOL_TURN, OVERLOADED] {
        let whole = read(stream);
        for size in (1..24).chain([61, 333, 1024]) {
            let server = Fake::start(vec![Given::stream(stream).in_pieces(size)]);
            let (mut provider, _) = provider(&server.url, json!({}), "k");
            assert_eq!(ask(&mut *provider, &[prompt()], &[]), whole, "pieces of {size} bytes");
        }
    }
}

#[test]
fn a_stream_that_ends_anywhere_before_its_end_is_no_answer() {
    let stop = TOOL_TURN.rfind("event: message_stop").unwrap();
    for end in event_ends(TOOL_TURN).into_iter().chain((0..stop).step_by(7)).filter(|end| *end <= stop) {
        let (_, answer) = read(&TOOL_TURN[..end]);
        assert!(answer.is_err(), "after {end} bytes: {answer:?}");
    }
}

#[test]
fn transcript() {
    for chunk in [1, 7, 4096] {
        for line_end in ["\n", "\r\n"] {
            let stream = TOOL_TURN.replace('\n', line_end);
            let server = Fake::start(vec![Given::stream(stream).in_pieces(chunk), Given::stream(TOOL_TURN)]);
            let (mut provider, notices) = provider(&server.url, json!({}), "sk-ant-api03-EXAMPLE");
            assert!(notices.is_empty(), "{notices:?}");

            let mut messages = vec![prompt()];
            let (deltas, answer) = ask(&mut *provider, &messages, &[]);
            let answer = answer.unwrap();
            let thought = "I should list the open issues first.";
            let all = [&format!("thinking {thought}"), "text Checking ", "text open issues."];
            assert_eq!(deltas, all);
            let blocks = [
                Block::Thinking { text: thought.into(), signature: Some("EqQBCkYIBxgCKkDa9=".into()), redacted: false },
                Block::Text { text: "Checking open issues.".into(), signature: None },
                Block::ToolCall(ToolCall::from_raw(
                    "toolu_01XyZ",
                    "bash",
                    r#"{"command": "gh issue list -R acme/app --json number"}"#,
                )),
            ];
            assert_eq!(answer.content, blocks);
            assert_eq!(answer.stop, Stop::ToolUse);
            let usage = Usage { input_tokens: 12, output_tokens: 118, cache_write_tokens: 1834, ..Usage::default() };
            assert_eq!(answer.usage, usage);

            messages.push(Message::Assistant(answer));
            messages.push(Message::ToolResult(ToolResult {
                call_id: "toolu_01XyZ".into(),
                tool: "bash".into(),
                content: vec![Content::Text("[{\"number\":42}]\n".into())],
                is_error: false,
            }));
            ask(&mut *provider, &messages, &[]).1.unwrap();

            let requests = server.received();
            for request in &requests {
                assert!(request.head.starts_with("post /v1/messages http/1.1\r\n"));
                for header in [
                    ("content-type", "application/json"),
                    ("accept", "text/event-stream"),
                    ("accept-encoding", "identity"),
                    ("user-agent", "action-llama/0.13.2"),
                    ("anthropic-version", "2023-06-01"),
                    ("anthropic-beta", "interleaved-thinking-2025-05-14"),
                    ("x-api-key", "sk-ant-api03-example"),
                ] {
                    assert_eq!(request.header(header.0), Some(header.1));
                }
                assert_eq!(request.header("authorization"), None);
            }
            let mut expected: Value = serde_json::from_str(FIRST_REQUEST).unwrap();
            assert_eq!(requests[0].body, expected);
            expected["messages"] = serde_json::from_str(SECOND_MESSAGES).unwrap();
            assert_eq!(requests[1].body, expected);
        }
    }
}

#[test]
fn subscription_tokens_look_different() {
    let server = Fake::start(vec![Given::stream(TOOL_TURN), Given::json(403, r#"{"error":{"message":"no"}}"#)]);
    let (mut provider, notices) = provider(&server.url, json!({}), " sk-ant-oat01-X\n");
    assert!(notices.len() == 1 && notices[0].contains("oauth_token"), "{notices:?}");
    ask(&mut *provider, &[prompt()], &[]).1.unwrap();
    let request = server.received().remove(0);
    assert_eq!(request.header("authorization"), Some("bearer sk-ant-oat01-x"));
    assert_eq!(request.header("x-api-key"), None);
    let betas = "claude-code-20250219,oauth-2025-04-20,interleaved-thinking-2025-05-14";
    assert_eq!(request.header("anthropic-beta"), Some(betas));
    assert_eq!(request.body["system"][0]["text"], VENDOR_PROMPT);
    assert_eq!(request.body["system"].as_array().unwrap().len(), 2);
    assert!(request.body["system"].as_array().unwrap().iter().all(|block| block.get("cache_control").is_some()));

    let error = ask(&mut *provider, &[prompt()], &[]).1.unwrap_err();
    assert_eq!(error.kind, Kind::Permission);
    assert!(error.message.contains("harness"), "{error}");
}

#[test]
fn a_server_of_ones_own_needs_no_key() {
    let server = Fake::start(vec![Given::stream(TOOL_TURN); 3]);
    let custom = json!({"provider": "custom", "api": "anthropic", "headers": {"X-Team": "a", "accept": "*/*"}});
    ask(&mut *provider(&server.url, custom.clone(), "").0, &[prompt()], &[]).1.unwrap();
    ask(&mut *provider(&server.url, custom.clone(), "sk-ant-oat1").0, &[prompt()], &[]).1.unwrap();
    let mut named = custom;
    named["authHeader"] = json!("X-Key");
    ask(&mut *provider(&server.url, named, "k1").0, &[prompt()], &[]).1.unwrap();
    let requests = server.received();
    assert_eq!((requests[0].header("x-api-key"), requests[0].header("authorization")), (None, None));
    assert_eq!((requests[0].header("x-team"), requests[0].header("accept")), (Some("a"), Some("*/*")));
    assert_eq!(requests[1].header("x-api-key"), Some("sk-ant-oat1"));
    assert_eq!((requests[2].header("x-key"), requests[2].header("x-api-key")), (Some("k1"), None));
    assert_eq!(requests[0].body["max_tokens"], 16_384);
    assert_eq!(requests[0].body.get("thinking"), None);
}

#[test]
fn how_much_thinking_is_asked_for() {
    #[track_caller]
    fn case(model: &str, level: &str, max_tokens: u64, thinking: Value, effort: Value) {
        let body = body(json!({"model": model, "thinkingLevel": level}), &[prompt()], &[]);
        let seen = (body["max_tokens"].as_u64(), &body["thinking"], &body["output_config"]["effort"]);
        assert_eq!(seen, (Some(max_tokens), &thinking, &effort), "{model} {level}");
    }
    let budget = |tokens: u64| json!({"type": "enabled", "budget_tokens": tokens});
    let adaptive = || json!({"type": "adaptive"});
    case("claude-sonnet-4-20250514", "off", 32_000, Value::Null, Value::Null);
    case("claude-sonnet-4-20250514", "minimal", 33_024, budget(1024), Value::Null);
    case("claude-sonnet-4-20250514", "low", 34_048, budget(2048), Value::Null);
    case("claude-sonnet-4-20250514", "medium", 40_192, budget(8192), Value::Null);
    case("claude-sonnet-4-20250514", "high", 48_384, budget(16_384), Value::Null);
    case("claude-sonnet-4-20250514", "xhigh", 48_384, budget(16_384), Value::Null);
    case("claude-opus-4-20250514", "medium", 32_000, budget(8192), Value::Null);
    case("claude-3-haiku-20240307", "high", 4096, Value::Null, Value::Null);
    case("claude-opus-4-6", "off", 32_000, Value::Null, Value::Null);
    case("claude-opus-4-6", "minimal", 32_000, adaptive(), json!("low"));
    case("claude-opus-4-6", "low", 32_000, adaptive(), json!("low"));
    case("claude-opus-4-6", "medium", 32_000, adaptive(), json!("medium"));
    case("claude-opus-4-6", "high", 32_000, adaptive(), json!("high"));
    case("claude-opus-4-6", "xhigh", 32_000, adaptive(), json!("max"));
    case("claude-sonnet-4-6", "off", 32_000, Value::Null, Value::Null);
    case("claude-sonnet-4-6", "xhigh", 32_000, adaptive(), json!("high"));
    case("claude-opus-4-7", "xhigh", 32_000, adaptive(), json!("xhigh"));
    case("claude-opus-4-8", "off", 32_000, Value::Null, Value::Null);
    // New models are not in the table; their output limit is a guess.
    case("claude-opus-4-9", "off", 16_384, json!({"type": "disabled"}), json!("low"));
    for model in ["claude-opus-5", "claude-sonnet-5-5", "claude-fable-5-1"] {
        case(model, "off", 32_000, json!({"type": "disabled"}), json!("low"));
        case(model, "xhigh", 32_000, adaptive(), json!("xhigh"));
    }
}

/// Summaries are asked for without tools and without thinking.
#[test]
fn a_request_without_tools() {
    for (model, thinking) in [
        ("claude-sonnet-4-20250514", None),
        ("claude-opus-4-6", None),
        ("claude-opus-5", Some(json!({"type": "disabled"}))),
    ] {
        let server = Fake::start(vec![Given::stream(TOOL_TURN)]);
        let (mut provider, _) = provider(&server.url, json!({"model": model, "thinkingLevel": "high"}), "k");
        let (cancel, refused) = (Cancel::new(), []);
        let request = Request {
            system: "s",
            messages: &[prompt()],
            max_tokens: 13_107,
            refused: &refused,
            tools: false,
            cancel: &cancel,
            deadline: None,
        };
        provider.send(&request, &mut |_| {}).unwrap();
        let received = server.received().remove(0);
        assert_eq!(received.body.get("thinking"), thinking.as_ref());
        assert_eq!((received.body.get("tools"), &received.body["max_tokens"]), (None, &json!(13_107)));
        assert_eq!(received.header("anthropic-beta"), None);
    }
}

#[test]
fn what_was_refused_is_left_out() {
    let budget = body(json!({}), &[prompt()], &["thinking", "cache_control"]);
    assert_eq!((budget.get("thinking"), budget["max_tokens"].as_u64()), (None, Some(32_000)));
    assert!(!budget.to_string().contains("cache_control"));
    let adaptive = body(json!({"model": "claude-opus-5"}), &[prompt()], &["thinking"]);
    assert_eq!((adaptive.get("thinking"), adaptive.get("output_config").is_some()), (None, true));
    let adaptive = body(json!({"model": "claude-opus-5"}), &[prompt()], &["output_config"]);
    assert_eq!((adaptive.get("thinking").is_some(), adaptive.get("output_config")), (true, None));
}

#[test]
fn cache_marks() {
    let none = body(json!({"cacheRetention": "none"}), &[prompt()], &[]);
    assert!(!none.to_string().contains("cache_control"));
    let long = body(json!({"cacheRetention": "long"}), &[prompt()], &[]);
    assert_eq!(long["system"][0]["cache_control"], json!({"type": "ephemeral", "ttl": "1h"}));
    let (long, _) = provider("http://x", json!({"cacheRetention": "long"}), "k");
    assert_eq!(long.model().facts.price.cache_write, 6.0);
}

#[test]
fn results_with_images_and_all_results_of_a_turn_in_one_message() {
    let call = |id: &str| Block::ToolCall(ToolCall::from_raw(id, "read", r#"{"path":"a"}"#));
    let image = || Content::Image(Image { mime: "image/png", base64: "AA==".into() });
    let result = |id: &str, content, is_error| {
        Message::ToolResult(ToolResult { call_id: id.into(), tool: "read".into(), content, is_error })
    };
    let messages = [
        prompt(),
        Message::Assistant(Assistant {
            content: vec![call("a"), call("b"), call("c")],
            provider: "anthropic".into(),
            model: "claude-sonnet-4-20250514".into(),
            api: "anthropic",
            ..Assistant::default()
        }),
        result("a", vec![image()], false),
        result("b", vec![Content::Text("Read image".into()), image()], false),
        Message::User(vec![Content::Text("And?".into())]),
    ];
    let body = body(json!({}), &messages, &[]);
    let source = json!({"type": "base64", "media_type": "image/png", "data": "AA=="});
    let image = json!({"type": "image", "source": source});
    let text = |text: &str| json!({"type": "text", "text": text});
    let result = |id: &str, content, is_error| json!({"type": "tool_result", "tool_use_id": id, "content": content, "is_error": is_error});
    let expected = json!([
        result("a", json!([text("(see attached image)"), image]), false),
        result("b", json!([text("Read image"), image]), false),
        result("c", json!("No result is available for this call."), true),
        {"type": "text", "text": "And?", "cache_control": {"type": "ephemeral"}},
    ]);
    assert_eq!(body["messages"][2], json!({"role": "user", "content": expected}));
    assert_eq!(body["messages"].as_array().unwrap().len(), 3);
}

#[test]
fn parallel_calls_whose_deltas_are_mixed() {
    let start = |id: &str, index: u64| {
        json!({"type": "content_block_start", "index": index,
        "content_block": {"type": "tool_use", "id": id, "name": "bash", "input": {}}})
    };
    let delta = |index: u64, part: &str| {
        json!({"type": "content_block_delta", "index": index,
        "delta": {"type": "input_json_delta", "partial_json": part}})
    };
    let events = vec![
        start("a", 0),
        start("b", 1),
        delta(1, r#"{"command":"#),
        delta(0, r#"{"command":"one""#),
        delta(1, r#""two"}"#),
        delta(0, "}"),
    ];
    let answer = read(response(vec![events], "tool_use")).1.unwrap();
    let calls: Vec<_> = answer.calls().map(|call| (call.id.as_str(), call.args["command"].as_str())).collect();
    assert_eq!(calls, [("a", Some("one")), ("b", Some("two"))]);
}

#[test]
fn a_call_cut_by_the_output_limit_is_incomplete() {
    let call = json!({"type": "tool_use", "id": "a", "name": "write", "input": {}});
    let cut = json!({"type": "input_json_delta", "partial_json": r#"{"path":"/tmp/x","content":"ha"#});
    let answer = read(response(vec![block(0, call, &[cut])], "max_tokens")).1.unwrap();
    assert_eq!(answer.stop, Stop::Length);
    assert!(!answer.calls().next().unwrap().complete);
}

#[test]
fn unknown_events_blocks_and_deltas_are_skipped() {
    let blocks = vec![
        vec![json!({"type": "weather"})],
        block(0, json!({"type": "server_tool_use", "id": "x"}), &[json!({"type": "text_delta", "text": "no"})]),
        block(
            1,
            json!({"type": "text", "text": "y"}),
            &[json!({"type": "mood_delta"}), json!({"type": "text_delta", "text": "es"})],
        ),
        block(2, json!({"type": "redacted_thinking", "data": "opaque"}), &[]),
        block(3, json!({"type": "tool_use", "id": "a", "name": "read", "input": {"path": "x"}}), &[]),
    ];
    let stream = response(blocks, "pause_turn").replacen("event:", ": hello\nevent: ping\n\nevent:", 1);
    let (deltas, answer) = read(stream);
    let answer = answer.unwrap();
    assert_eq!((deltas, answer.text()), (vec!["text y".to_owned(), "text es".to_owned()], "yes".to_owned()));
    let redacted = Block::Thinking { text: String::new(), signature: Some("opaque".into()), redacted: true };
    assert_eq!(answer.content[1], redacted);
    assert_eq!(answer.calls().next().unwrap().args["path"], "x");
}

#[test]
fn half_characters_become_replacement_characters() {
    let mut text = response(
        vec![block(0, json!({"type": "text", "text": ""}), &[json!({"type": "text_delta", "text": "LONE"})])],
        "end_turn",
    );
    text = text.replace("LONE", r"a\ud83d!");
    assert_eq!(read(text).1.unwrap().text(), "a\u{fffd}!");
    let call = json!({"type": "tool_use", "id": "a", "name": "bash", "input": {}});
    let raw = json!({"type": "input_json_delta", "partial_json": r#"{"command":"\ude00"}"#});
    let answer = read(response(vec![block(0, call, &[raw])], "tool_use")).1.unwrap();
    assert_eq!(answer.calls().next().unwrap().args["command"], "\u{fffd}");
}

#[test]
fn a_long_delta() {
    let long = "ü".repeat(512 << 10);
    let delta = json!({"type": "text_delta", "text": long});
    let stream = response(vec![block(0, json!({"type": "text", "text": ""}), &[delta])], "end_turn");
    assert_eq!(read(stream).1.unwrap().text(), long);
}

#[test]
fn stop_reasons() {
    #[track_caller]
    fn case(reason: &str, text: &str, expected: Result<Stop, Kind>) {
        let stream = response(vec![block(0, json!({"type": "text", "text": text}), &[])], reason);
        let (deltas, answer) = read(stream);
        assert_eq!(answer.map(|answer| answer.stop).map_err(|error| error.kind), expected, "{reason}");
        let warned = deltas.iter().any(|delta| delta.starts_with("warning"));
        assert_eq!(warned, reason == "tired");
    }
    case("end_turn", "x", Ok(Stop::Stop));
    case("stop_sequence", "x", Ok(Stop::Stop));
    case("max_tokens", "x", Ok(Stop::Length));
    case("model_context_window_exceeded", "x", Ok(Stop::Length));
    case("model_context_window_exceeded", "", Err(Kind::ContextOverflow));
    case("refusal", "x", Err(Kind::Refusal));
    case("sensitive", "x", Err(Kind::Refusal));
    case("tired", "x", Ok(Stop::Stop));
    let delta = json!({"stop_reason": "refusal", "stop_details": {"explanation": "too spicy"}});
    let stream = sse(&[json!({"type": "message_delta", "delta": delta}), json!({"type": "message_stop"})]);
    assert!(read(stream).1.unwrap_err().message.contains("too spicy"));
}

#[test]
fn the_last_count_of_each_kind_counts() {
    let stream = sse(&[
        json!({"type": "message_start", "message": {"usage": {"input_tokens": 5, "cache_read_input_tokens": null, "output_tokens": 1}}}),
        json!({"type": "message_delta", "delta": {}, "usage": {"output_tokens": 7, "input_tokens": null}}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9, "cache_read_input_tokens": 3}}),
        json!({"type": "message_stop"}),
    ]);
    let usage = read(stream).1.unwrap().usage;
    assert_eq!((usage.input_tokens, usage.output_tokens, usage.cache_read_tokens), (5, 9, 3));
}

#[test]
fn errors_of_answers() {
    #[track_caller]
    fn case(given: Given, kind: Kind, text: &str) -> ModelError {
        let server = Fake::start(vec![given.header("request-id", "req_1")]);
        let error = ask(&mut *provider(&server.url, json!({"idleTimeout": 1}), "k").0, &[prompt()], &[]).1.unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(text), "{error}");
        error
    }
    let body = |kind: &str, message: &str| {
        json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_2"}).to_string()
    };
    case(Given::json(401, &body("authentication_error", "invalid x-api-key")), Kind::Auth, "invalid x-api-key");
    case(Given::json(403, &body("permission_error", "not yours")), Kind::Permission, "not yours");
    let missing = case(
        Given::json(404, &body("not_found_error", "model: claude-sonnet-4-20250514")),
        Kind::InvalidRequest,
        "consider claude-sonnet-5-5",
    );
    assert_eq!((missing.status, missing.request_id.as_deref()), (Some(404), Some("req_1")));
    let limited = Given::json(429, &body("rate_limit_error", "This request would exceed your limit"));
    let limited = case(limited.header("retry-after", "12"), Kind::RateLimit, "exceed your limit");
    assert_eq!(limited.wait, Some(Duration::from_secs(12)));
    let spent = case(
        Given::json(400, &body("invalid_request_error", "thinking: adaptive is not supported")),
        Kind::InvalidRequest,
        "adaptive",
    );
    assert_eq!(spent.rejected.as_deref(), Some("thinking"));
    case(Given::stream(OVERLOADED), Kind::Overloaded, "Overloaded");
    case(Given::stream(&TOOL_TURN[..900]), Kind::Network, "stream ended early");
    case(Given::stream(&TOOL_TURN[..900]).cut(), Kind::Network, "");
    case(Given::stream(&TOOL_TURN[..900]).hang(), Kind::Network, "nothing received for 1 s");
    case(Given::stream("data: {\"type\":\n\n"), Kind::Malformed, "JSON");
    case(Given::json(200, "pong"), Kind::Malformed, "JSON");
    case(Given::json(200, "{}"), Kind::Malformed, "neither");
    case(Given::json(200, &body("overloaded_error", "busy")), Kind::Overloaded, "busy");
    case(Given::json(302, ""), Kind::InvalidRequest, "302");
}

#[test]
fn a_server_that_does_not_stream() {
    let message = json!({"type": "message", "stop_reason": "tool_use",
        "usage": {"input_tokens": 3, "output_tokens": 4},
        "content": [{"type": "text", "text": "Hi"}, {"type": "tool_use", "id": "a", "name": "bash", "input": {"command": "x"}}]});
    let server = Fake::start(vec![Given::json(200, &message.to_string())]);
    let (deltas, answer) = ask(&mut *provider(&server.url, json!({}), "k").0, &[prompt()], &[]);
    let answer = answer.unwrap();
    assert_eq!(deltas, ["text Hi"]);
    assert_eq!((answer.stop, answer.usage.output_tokens), (Stop::ToolUse, 4));
    assert_eq!(answer.calls().next().unwrap().args["command"], "x");
}
