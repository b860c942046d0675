//! The adapter against scripted servers.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::bench::{ask, image, prompt, send};
use super::super::connect;
use super::*;
use crate::session::error::Kind;
use crate::session::fake::{Fake, Given};
use crate::session::message::{Block, Content, Message, Stop, ToolCall, ToolResult};
use crate::wire::usage::Usage;

const FIRST_REQUEST: &str = include_str!("../testdata/google-request.json");
const SECOND_CONTENTS: &str = include_str!("../testdata/google-contents-2.json");
const TOOL_TURN: &str = include_str!("../testdata/google.sse");
const SIGNATURE: &str = "CiQBVKhc7kEXAMPLE0a1b2c3d4e5f6g7hw==";

/// A provider at `url`; `config` changes the model table.
fn provider(url: &str, config: Value) -> Box<dyn Provider> {
    let mut table = json!({"provider": "google", "model": "gemini-2.5-pro", "baseUrl": url});
    table.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    let choice = ModelChoice { config: serde_json::from_value(table).unwrap(), key: Some(Secret::new(" AIza-KEY\n")) };
    connect(&choice, &Environment::default(), &mut |_| {}).unwrap_or_else(|error| panic!("{error}"))
}

fn result(id: &str, content: Vec<Content>, is_error: bool) -> Message {
    Message::ToolResult(ToolResult { call_id: id.into(), tool: "bash".into(), content, is_error })
}

fn said(text: &str) -> Vec<Content> {
    vec![Content::Text(text.into())]
}

fn call(id: &str, signature: Option<&str>) -> Block {
    let call = ToolCall::from_raw(id, "bash", r#"{"command":"uptime"}"#);
    Block::ToolCall(ToolCall { signature: signature.map(str::to_owned), ..call })
}

fn response(model: &str, content: Vec<Block>) -> Message {
    Message::Assistant(Assistant {
        content,
        provider: "google".into(),
        model: model.into(),
        api: "google",
        ..Assistant::default()
    })
}

/// The answer to one stream.
fn read(sse: impl Into<Vec<u8>>) -> (Vec<String>, Result<Assistant, ModelError>) {
    let server = Fake::start(vec![Given::stream(sse)]);
    ask(&mut *provider(&server.url, json!({})), &[prompt()], &[])
}

/// The request for one conversation.
fn body(config: Value, messages: &[Message]) -> Value {
    let server = Fake::start(vec![Given::stream(TOOL_TURN)]);
    ask(&mut *provider(&server.url, config), messages, &[]).1.unwrap();
    server.received().remove(0).body
}

fn sse(chunks: &[Value]) -> String {
    chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect()
}

/// A chunk with these parts.
fn chunk(parts: Value) -> Value {
    json!({"candidates": [{"content": {"role": "model", "parts": parts}, "index": 0}]})
}

fn end(reason: &str) -> Value {
    json!({"candidates": [{"finishReason": reason, "index": 0}]})
}

/// The answer of the transcript; its call has an id that was made here.
#[track_caller]
fn assert_tool_turn(answer: &Assistant) {
    let [Block::Thinking { text, signature: None, redacted: false }, said, Block::ToolCall(call)] = &*answer.content
    else {
        panic!("{:?}", answer.content)
    };
    assert_eq!(text, "**Planning**\nCheck the load.");
    assert_eq!(*said, Block::Text { text: "Checking the load.".into(), signature: None });
    assert!(answer::is_made_id(&call.id, "bash"), "{}", call.id);
    let expected = ToolCall::from_raw(call.id.clone(), "bash", r#"{"command":"uptime"}"#);
    assert_eq!(*call, ToolCall { signature: Some(SIGNATURE.into()), ..expected });
    assert_eq!((answer.provider.as_str(), answer.model.as_str()), ("google", "gemini-2.5-pro"));
    assert_eq!(answer.stop, Stop::ToolUse);
    assert_eq!(answer.usage, Usage { input_tokens: 812, output_tokens: 47, ..Usage::default() });
}

#[test]
fn transcript() {
    for chunk in [1, 7, 4096] {
        for line_end in ["\n", "\r\n"] {
            let stream = TOOL_TURN.replace('\n', line_end);
            let server = Fake::start(vec![Given::stream(stream).in_pieces(chunk), Given::stream(TOOL_TURN)]);
            let mut provider = provider(&server.url, json!({}));

            let mut messages = vec![prompt()];
            let (deltas, answer) = ask(&mut *provider, &messages, &[]);
            let answer = answer.unwrap();
            assert_eq!(deltas, ["thinking **Planning**\nCheck the load.", "text Checking the load."]);
            assert_tool_turn(&answer);

            let id = answer.calls().next().unwrap().id.clone();
            messages.push(Message::Assistant(answer));
            messages.push(result(&id, said(" 14:02:11 up 3 days\n"), false));
            let second = ask(&mut *provider, &messages, &[]).1.unwrap();
            assert_ne!(second.calls().next().unwrap().id, id);

            let requests = server.received();
            for request in &requests {
                let line = "post /models/gemini-2.5-pro:streamgeneratecontent?alt=sse http/1.1\r\n";
                assert!(request.head.starts_with(line), "{}", request.head);
                for header in [
                    ("content-type", Some("application/json")),
                    ("accept", Some("text/event-stream")),
                    ("accept-encoding", Some("identity")),
                    ("user-agent", Some(concat!("action-llama/", env!("CARGO_PKG_VERSION")))),
                    ("x-goog-api-key", Some("aiza-key")),
                    ("authorization", None),
                ] {
                    assert_eq!(request.header(header.0), header.1);
                }
            }
            // As text: the order of the members is that of the transcript, too.
            let mut expected: Value = serde_json::from_str(FIRST_REQUEST).unwrap();
            assert_eq!(requests[0].body.to_string(), expected.to_string());
            let added: Value = serde_json::from_str(SECOND_CONTENTS).unwrap();
            expected["contents"].as_array_mut().unwrap().extend(added.as_array().unwrap().clone());
            assert_eq!(requests[1].body.to_string(), expected.to_string());
        }
    }
}

#[test]
fn a_stream_that_ends_at_any_byte_is_an_error_until_the_answer_is_complete() {
    // Wherever the last chunk's line is complete, its end of line may be missing.
    let complete = TOOL_TURN.trim_end().len();
    let server = Fake::start((0..TOOL_TURN.len()).map(|at| Given::stream(&TOOL_TURN.as_bytes()[..at])).collect());
    let mut provider = provider(&server.url, json!({}));
    for at in 0..TOOL_TURN.len() {
        let (_, answer) = ask(&mut *provider, &[prompt()], &[]);
        match answer {
            Ok(answer) if at >= complete => assert_tool_turn(&answer),
            Err(error) if at < complete => {
                assert!(matches!(error.kind, Kind::Network | Kind::Malformed), "{at}: {error}");
            }
            other => panic!("{at}: {other:?}"),
        }
    }
}

#[test]
fn a_connection_that_breaks_after_the_last_chunk_costs_nothing() {
    let server = Fake::start(vec![Given::stream(TOOL_TURN).cut(), Given::stream(&TOOL_TURN[..600]).cut()]);
    let mut provider = provider(&server.url, json!({}));
    assert_tool_turn(&ask(&mut *provider, &[prompt()], &[]).1.unwrap());
    assert_eq!(ask(&mut *provider, &[prompt()], &[]).1.unwrap_err().kind, Kind::Network);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_split_gives_the_same_answer(piece in 1usize..900, crlf in any::<bool>()) {
        let stream = TOOL_TURN.replace('\n', if crlf { "\r\n" } else { "\n" });
        let server = Fake::start(vec![Given::stream(stream).in_pieces(piece)]);
        assert_tool_turn(&ask(&mut *provider(&server.url, json!({})), &[prompt()], &[]).1.unwrap());
    }

    #[test]
    fn a_damaged_stream_gives_an_error_or_an_answer_with_complete_calls(at in 0usize..900, byte in any::<u8>()) {
        let mut stream = TOOL_TURN.as_bytes().to_vec();
        let at = at % stream.len();
        stream[at] = byte;
        if let Ok(answer) = read(stream).1 {
            prop_assert!(matches!(answer.stop, Stop::ToolUse | Stop::Stop | Stop::Length));
            prop_assert!(answer.calls().all(|call| call.complete));
        }
    }
}

#[test]
fn a_server_of_ones_own_needs_no_key_and_its_id_is_one_segment() {
    let server = Fake::start(vec![Given::stream(TOOL_TURN); 2]);
    let custom = json!({"provider": "custom", "api": "google", "model": "team/x y:ü", "headers": {"X-Team": "a"}});
    let mut table = custom.as_object().unwrap().clone();
    table.insert("baseUrl".into(), server.url.clone().into());
    let config = serde_json::from_value(Value::Object(table)).unwrap();
    let mut keyless = connect(&ModelChoice { config, key: None }, &Environment::default(), &mut |_| {}).ok().unwrap();
    ask(&mut *keyless, &[prompt()], &[]).1.unwrap();
    let mut named = custom;
    named["authHeader"] = json!("X-Key");
    ask(&mut *provider(&server.url, named), &[prompt()], &[]).1.unwrap();
    let requests = server.received();
    assert!(requests[0].head.starts_with("post /models/team%2fx%20y%3a%c3%bc:streamgeneratecontent?alt=sse "));
    assert_eq!((requests[0].header("x-goog-api-key"), requests[0].header("x-team")), (None, Some("a")));
    assert_eq!((requests[1].header("x-key"), requests[1].header("x-goog-api-key")), (Some("aiza-key"), None));
    assert_eq!(requests[0].body["generationConfig"], json!({"maxOutputTokens": 16_384}));
}

#[test]
fn how_much_thinking_is_asked_for() {
    #[track_caller]
    fn case(id: &str, expected: [Value; 5]) {
        let names = ["off", "minimal", "low", "medium", "high"];
        for (level, expected) in names.iter().zip(&expected).chain([(&"xhigh", &expected[4])]) {
            let level = Thinking::from_word(level).unwrap();
            assert_eq!(serde_json::to_value(thought(id, level)).unwrap(), *expected, "{id} {level:?}");
        }
    }
    let budgets = |row: [i64; 5]| row.map(|tokens| json!({"thinkingBudget": tokens}));
    let levels = |row: [&str; 5]| row.map(|level| json!({"thinkingLevel": level}));
    case("gemini-2.5-pro", budgets([128, 128, 2048, 8192, 32_768]));
    case("gemini-2.5-pro-preview-06-05", budgets([128, 128, 2048, 8192, 32_768]));
    case("gemini-2.5-flash-lite", budgets([0, 512, 2048, 8192, 24_576]));
    case("gemini-2.5-flash-preview-09-2025", budgets([0, 128, 2048, 8192, 24_576]));
    for id in ["gemini-3-pro-preview", "gemini-3.1-pro-preview", "gemini-3.9-pro"] {
        case(id, levels(["LOW", "LOW", "LOW", "HIGH", "HIGH"]));
    }
    for id in ["gemini-3.7-flash", "gemini-3.8-flash", "gemini-3.8-flash-lite", "gemini-4-argon"] {
        case(id, levels(["LOW", "LOW", "LOW", "MEDIUM", "HIGH"]));
    }
    for id in ["gemini-3-flash-preview", "gemini-3.1-flash-lite-preview", "gemini-3.5-flash", "gemini-3.6-flash"] {
        case(id, levels(["MINIMAL", "MINIMAL", "LOW", "MEDIUM", "HIGH"]));
    }
    case("gemma-4-31b-it", levels(["MINIMAL", "MINIMAL", "MINIMAL", "HIGH", "HIGH"]));
    for id in ["gemini-flash-latest", "gemini-flash-lite-latest", "gemini-5", "other"] {
        case(id, budgets([0, -1, -1, -1, -1]));
    }
}

#[test]
fn thinking_is_left_out_where_it_does_not_exist_or_was_refused_and_off_for_summaries() {
    let config = |config, refused: &[&str], tools| {
        let server = Fake::start(vec![Given::stream(TOOL_TURN)]);
        send(&mut *provider(&server.url, config), &[prompt()], refused, tools).1.unwrap();
        server.received().remove(0).body
    };
    let old = config(json!({"model": "gemini-2.0-flash"}), &[], true);
    assert_eq!(old["generationConfig"], json!({"maxOutputTokens": 8192}));
    let refused = config(json!({}), &[THINKING], true);
    assert_eq!(refused["generationConfig"], json!({"maxOutputTokens": 32_000}));
    let summary = config(json!({"thinkingLevel": "high"}), &[], false);
    assert_eq!(summary["generationConfig"]["thinkingConfig"], json!({"thinkingBudget": 128}));
    assert_eq!(summary.get("tools"), None);
}

#[test]
fn signatures_stay_on_the_part_they_came_with() {
    let stream = sse(&[
        chunk(json!([{"text": "A", "thought": true, "thoughtSignature": "AAAA"}])),
        chunk(json!([{"text": "Hel"}])),
        chunk(json!([{"text": "lo"}])),
        chunk(json!([{"text": "", "thoughtSignature": "BBBB"}])),
        chunk(json!([{"text": "signed", "thoughtSignature": "CCCC"}, {"text": " and not"}])),
        chunk(json!([
            {"functionCall": {"name": "bash", "args": {"command": "a"}}, "thoughtSignature": "DDDD"},
            {"functionCall": {"name": "bash", "args": {"command": "b"}, "id": "call-7"}},
            {"thoughtSignature": "EEEE"},
        ])),
        end("STOP"),
    ]);
    let (deltas, answer) = read(stream);
    let answer = answer.unwrap();
    assert_eq!(answer.text(), "Hellosigned and not");
    assert_eq!(deltas, ["thinking A", "text Hel", "text lo", "text signed", "text  and not"]);
    let calls: Vec<_> = answer.calls().map(|call| call.id.clone()).collect();
    assert_eq!((answer::is_made_id(&calls[0], "bash"), calls[1].as_str()), (true, "call-7"));

    let messages = [
        prompt(),
        Message::Assistant(answer),
        result("call-7", said("two"), true),
        result(&calls[0], said("one"), false),
    ];
    let expected = json!([
        {"role": "model", "parts": [
            {"text": "Hello"},
            {"text": "", "thoughtSignature": "BBBB"},
            {"text": "signed", "thoughtSignature": "CCCC"},
            {"text": " and not"},
            {"functionCall": {"name": "bash", "args": {"command": "a"}}, "thoughtSignature": "DDDD"},
            {"functionCall": {"id": "call-7", "name": "bash", "args": {"command": "b"}}},
            {"text": "", "thoughtSignature": "EEEE"},
        ]},
        {"role": "user", "parts": [
            {"functionResponse": {"name": "bash", "response": {"output": "one"}}},
            {"functionResponse": {"id": "call-7", "name": "bash", "response": {"error": "two"}}},
        ]},
    ]);
    let sent = body(json!({}), &messages);
    assert_eq!(json!(&sent["contents"].as_array().unwrap()[1..]), expected);
}

#[test]
fn calls_without_a_signature_get_a_substitute_where_one_is_demanded() {
    #[track_caller]
    fn case(id: &str, from: &str, signatures: [Option<&str>; 2], expected: [Value; 2]) {
        let calls = vec![call("a", signatures[0]), call("b", signatures[1])];
        let sent = body(json!({"model": id}), &[prompt(), response(from, calls)]);
        let parts = &sent["contents"][1]["parts"];
        let seen = [0, 1].map(|at| parts[at].get("thoughtSignature").cloned().unwrap_or(Value::Null));
        assert_eq!(seen, expected, "{id} {from}");
    }
    let (three, flash) = ("gemini-3.8-flash", "gemini-2.5-flash");
    let substitute = || json!("skip_thought_signature_validator");
    case(three, three, [Some(SIGNATURE), None], [json!(SIGNATURE), Value::Null]);
    case(three, three, [None, None], [substitute(), substitute()]);
    case(three, flash, [Some(SIGNATURE), None], [substitute(), substitute()]);
    case(three, three, [Some("not base64!"), None], [substitute(), substitute()]);
    case(flash, flash, [Some(SIGNATURE), Some("A")], [json!(SIGNATURE), Value::Null]);
    case(flash, three, [Some(SIGNATURE), None], [Value::Null, Value::Null]);
}

#[test]
fn what_another_model_said() {
    let blocks = vec![
        Block::Thinking { text: "thought".into(), signature: Some("s".into()), redacted: false },
        Block::Thinking { text: String::new(), signature: Some("s".into()), redacted: true },
        Block::Text { text: " ".into(), signature: Some(SIGNATURE.into()) },
        call("toolu_01", None),
    ];
    let foreign = Message::Assistant(Assistant {
        content: blocks,
        provider: "anthropic".into(),
        model: "claude-opus-5-5".into(),
        ..Assistant::default()
    });
    let messages = [prompt(), foreign, result("toolu_01", said("ok"), false), Message::User(said("Go on."))];
    let sent = body(json!({}), &messages);
    let call = json!({"functionCall": {"name": "bash", "args": {"command": "uptime"}}});
    let answer = json!({"functionResponse": {"name": "bash", "response": {"output": "ok"}}});
    let expected = json!([
        {"role": "user", "parts": [{"text": "You have been triggered manually."}]},
        {"role": "model", "parts": [{"text": "thought"}, call]},
        {"role": "user", "parts": [answer]},
        {"role": "user", "parts": [{"text": "Go on."}]},
    ]);
    assert_eq!(sent["contents"], expected);
}

#[test]
fn images_are_inside_results_or_follow_them() {
    let messages = |model: &str| {
        vec![
            Message::User(vec![Content::Text("See.".into()), image()]),
            response(model, vec![call("bash_1_1", Some(SIGNATURE)), call("bash_1_2", None), call("bash_1_3", None)]),
            result("bash_1_1", vec![image()], false),
            result("bash_1_2", vec![Content::Text("Read image".into()), image()], false),
        ]
    };
    let data = || json!({"inlineData": {"mimeType": "image/png", "data": "AA=="}});
    let reply = |text: &str| json!({"name": "bash", "response": {"output": text}});
    let missing =
        json!({"functionResponse": {"name": "bash", "response": {"error": "No result is available for this call."}}});

    let sent = body(json!({}), &messages("gemini-2.5-pro"));
    assert_eq!(sent["contents"][0]["parts"], json!([{"text": "See."}, data()]));
    let results = json!([
        {"functionResponse": reply("(see attached image)")}, {"functionResponse": reply("Read image")}, missing]);
    assert_eq!(sent["contents"][2], json!({"role": "user", "parts": results}));
    let images = json!([{"text": "Tool result image:"}, data(), data()]);
    assert_eq!(sent["contents"][3], json!({"role": "user", "parts": images}));

    for model in ["gemini-3.8-flash", "gemini-4-argon"] {
        let sent = body(json!({"model": model}), &messages(model));
        let with_image = |text: &str| {
            let mut reply = reply(text);
            reply["parts"] = json!([data()]);
            json!({"functionResponse": reply})
        };
        let results = json!([with_image("(see attached image)"), with_image("Read image"), missing]);
        assert_eq!(sent["contents"][2], json!({"role": "user", "parts": results}), "{model}");
        assert_eq!(sent["contents"].as_array().unwrap().len(), 3);
    }
    let blind = body(json!({"model": "gemini-2.5-pro", "images": false}), &messages("gemini-2.5-pro"));
    assert!(!blind.to_string().contains("inlineData"));
}

#[test]
fn finish_reasons() {
    #[track_caller]
    fn case(reason: &str, expected: Result<Stop, Kind>) {
        let (_, answer) = read(sse(&[chunk(json!([{"text": "x"}])), end(reason)]));
        assert_eq!(answer.map(|answer| answer.stop).map_err(|error| error.kind), expected, "{reason}");
    }
    case("STOP", Ok(Stop::Stop));
    case("MAX_TOKENS", Ok(Stop::Length));
    case("CONTINUATION", Ok(Stop::Length));
    for reason in
        ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MALFORMED_RESPONSE", "OTHER"]
    {
        case(reason, Err(Kind::Malformed));
    }
    case("FINISH_REASON_UNSPECIFIED", Err(Kind::Malformed));
    case("BORED", Err(Kind::Malformed));
    for reason in ["SAFETY", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "RECITATION", "LANGUAGE", "ESCALATION"] {
        case(reason, Err(Kind::Refusal));
    }
    for reason in ["MODEL_ARMOR", "IMAGE_SAFETY", "IMAGE_OTHER", "NO_IMAGE"] {
        case(reason, Err(Kind::Refusal));
    }
    case("PUP_LIMITED_DISABLED", Err(Kind::Permission));
    case("MISSING_THOUGHT_SIGNATURE", Err(Kind::InvalidRequest));

    let why = json!({"candidates": [{"finishReason": "SAFETY", "finishMessage": "too spicy"}]});
    let error = read(sse(&[why])).1.unwrap_err();
    assert_eq!(error.message, "gemini-2.5-pro ended its answer with SAFETY: too spicy");
    let blocked = json!({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}});
    let error = read(sse(&[blocked])).1.unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (Kind::Refusal, "the prompt was blocked with PROHIBITED_CONTENT"));
}

#[test]
fn a_call_without_arguments_is_complete() {
    for call in [json!({"name": "bash"}), json!({"name": "bash", "args": null}), json!({"name": "bash", "args": {}})] {
        let answer = read(sse(&[chunk(json!([{"functionCall": call}])), end("STOP")])).1.unwrap();
        let call = answer.calls().next().unwrap();
        assert!(call.complete && call.args.is_empty() && call.raw == "{}", "{call:?}");
        assert_eq!(answer.stop, Stop::ToolUse);
    }
    let odd = read(sse(&[chunk(json!([{"functionCall": {"name": "bash", "args": [1]}}])), end("STOP")])).1.unwrap();
    assert!(!odd.calls().next().unwrap().complete);
}

#[test]
fn unknown_members_parts_and_further_candidates_are_skipped() {
    let stream = sse(&[
        json!({"responseId": "r"}),
        json!({"candidates": []}),
        chunk(json!([{"executableCode": {"code": "1"}}, {"text": "y", "mood": 1}, {"text": 5}])),
        json!({"candidates": [
            {"content": {"parts": [{"text": "es"}]}, "finishReason": "STOP"},
            {"content": {"parts": [{"text": "no"}]}, "finishReason": "SAFETY"}]}),
        json!({"usageMetadata": {"promptTokenCount": 100, "cachedContentTokenCount": 60, "thoughtsTokenCount": 3,
            "candidatesTokenCount": 2, "totalTokenCount": 105}}),
    ]);
    let answer = read(format!(": hello\nevent: ping\n\n{stream}")).1.unwrap();
    assert_eq!(answer.text(), "yes");
    // What comes after the finish reason still counts.
    let usage = Usage { input_tokens: 40, output_tokens: 5, cache_read_tokens: 60, ..Usage::default() };
    assert_eq!(answer.usage, usage);
}

#[test]
fn half_characters_and_long_texts() {
    let stream = sse(&[chunk(json!([{"text": "LONE"}])), end("STOP")]).replace("LONE", r"a\ud83d!");
    assert_eq!(read(stream).1.unwrap().text(), "a\u{fffd}!");
    let long = "ü".repeat(512 << 10);
    assert_eq!(read(sse(&[chunk(json!([{"text": long}])), end("STOP")])).1.unwrap().text(), long);
}

#[test]
fn errors_of_answers() {
    #[track_caller]
    fn case(given: Given, kind: Kind, text: &str) -> ModelError {
        let server = Fake::start(vec![given.header("x-request-id", "req_1")]);
        let config = json!({"idleTimeout": 1, "model": "gemini-2.0-flash-exp", "reasoning": true});
        let error = ask(&mut *provider(&server.url, config), &[prompt()], &[]).1.unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(text), "{error}");
        assert_eq!(error.request_id.as_deref(), Some("req_1"));
        error
    }
    let body = |code: u16, status: &str, message: &str, details: Value| {
        json!({"error": {"code": code, "message": message, "status": status, "details": details}}).to_string()
    };
    let info = json!([{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]);
    let no_key = body(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", info);
    case(Given::json(400, &no_key), Kind::Auth, "API key not valid");
    case(Given::json(400, &format!("[{no_key}]")), Kind::Auth, "API key not valid");
    case(Given::json(401, &body(401, "UNAUTHENTICATED", "no", json!([]))), Kind::Auth, "no");
    case(Given::json(403, &body(403, "PERMISSION_DENIED", "not yours", json!([]))), Kind::Permission, "not yours");
    let gone = case(
        Given::json(404, &body(404, "NOT_FOUND", "models/gemini-2.0-flash-exp is not found", json!([]))),
        Kind::InvalidRequest,
        "consider gemini-3.8-flash",
    );
    assert_eq!(gone.status, Some(404));
    let info = json!([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "37s"}]);
    let quota = body(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota", info);
    for given in [Given::json(429, &quota), Given::stream(format!("data: {quota}\n\n")), Given::json(200, &quota)] {
        let limited = case(given, Kind::RateLimit, "exceeded your current quota");
        assert_eq!(limited.wait, Some(Duration::from_secs(37)));
    }
    case(Given::json(500, &body(500, "INTERNAL", "oops", json!([]))), Kind::Server, "oops");
    case(Given::json(503, &body(503, "UNAVAILABLE", "busy", json!([]))), Kind::Overloaded, "busy");
    case(Given::json(504, &body(504, "DEADLINE_EXCEEDED", "late", json!([]))), Kind::Server, "late");
    let long = "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).";
    case(Given::json(400, &body(400, "INVALID_ARGUMENT", long, json!([]))), Kind::ContextOverflow, "1200000");
    let level = "Thinking level MINIMAL is not supported for this model.";
    let refused = case(Given::json(400, &body(400, "INVALID_ARGUMENT", level, json!([]))), Kind::InvalidRequest, level);
    assert_eq!(refused.rejected.as_deref(), Some("thinkingConfig"));
    let place = body(400, "FAILED_PRECONDITION", "User location is not supported", json!([]));
    case(Given::json(400, &place), Kind::InvalidRequest, "location");

    case(Given::stream("data: {\"candidates\":\n\n"), Kind::Malformed, "JSON");
    case(Given::stream("data: 7\n\n"), Kind::Malformed, "objects");
    case(Given::stream(""), Kind::Network, "stream ended early");
    case(Given::stream(&TOOL_TURN[..600]).hang(), Kind::Network, "nothing received for 1 s");
    case(Given::json(200, "pong"), Kind::Malformed, "JSON");
    case(Given::json(200, "{}"), Kind::Malformed, "neither");
    case(Given::json(302, ""), Kind::InvalidRequest, "302");
}

#[test]
fn a_server_that_does_not_stream() {
    let whole = json!({"candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 4}});
    let parts = json!([chunk(json!([{"text": "H"}])), chunk(json!([{"text": "i"}])), whole]);
    for (answer, text) in [(&whole, "Hi"), (&parts, "HiHi")] {
        let server = Fake::start(vec![Given::json(200, &answer.to_string())]);
        let answer = ask(&mut *provider(&server.url, json!({})), &[prompt()], &[]).1.unwrap();
        assert_eq!((answer.text().as_str(), answer.usage.input_tokens, answer.stop), (text, 3, Stop::Stop));
    }
}
