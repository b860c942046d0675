//! Chat Completions against the transcripts, and against everything that servers send besides.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::compat::Compat;
use super::ids::Ids;
use super::messages::Conversation;
use super::reading::Reading;
use crate::session::error::{Kind, ModelError};
use crate::session::fake::{Fake, Given};
use crate::session::history::for_model;
use crate::session::message::{Assistant, Block, Content, Message, Stop, ToolCall};
use crate::session::provider::Delta;
use crate::session::providers::bench::{ask, delta_text, event_ends, image, prompt, send, user};
use crate::session::providers::openai::bench::{
    End, call, model, provider, received, replay, result, said, text, text_result,
};
use crate::wire::usage::Usage;

const FIRST_REQUEST: &str = include_str!("../testdata/chat-request.json");
const SECOND_MESSAGES: &str = include_str!("../testdata/chat-messages-2.json");
const TOOL_TURN: &str = include_str!("../testdata/chat.sse");
const DONE: &str =
    "data: {\"choices\":[{\"delta\":{\"content\":\"ok\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";

fn body(table: &Value, messages: &[Message], refused: &[&str]) -> Value {
    received(table, messages, refused, DONE).body
}

/// A model table.
fn table(provider: &str, model: &str) -> Value {
    json!({"provider": provider, "model": model})
}

/// What comes of a stream: deltas and result.
fn read(stream: &str) -> (Vec<String>, Result<Assistant, ModelError>) {
    read_from("groq", stream)
}

fn read_from(provider: &str, stream: &str) -> (Vec<String>, Result<Assistant, ModelError>) {
    read_pieces(provider, &[stream.as_bytes()], End::Regular)
}

fn read_pieces(provider: &str, pieces: &[&[u8]], end: End) -> (Vec<String>, Result<Assistant, ModelError>) {
    let (model, mut ids, mut deltas) = (model(provider, "m", "chat"), ids(provider), Vec::new());
    let mut sink = |delta: Delta<'_>| deltas.push(delta_text(&delta));
    let answer = replay(pieces.iter().copied(), end, Reading::new(&model, &mut ids, &mut sink));
    (deltas, answer)
}

fn compat(provider: &str) -> Compat {
    Compat::of(&serde_json::from_value(table(provider, "m")).unwrap()).unwrap()
}

fn ids(provider: &str) -> Ids {
    Ids::new(provider, &compat(provider))
}

fn sse(chunks: &[Value]) -> String {
    chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect::<String>() + "data: [DONE]\n\n"
}

/// A chunk with this delta.
fn delta(delta: Value) -> Value {
    json!({"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
}

fn finish(reason: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
}

/// A response of these deltas.
fn response(deltas: Vec<Value>, reason: &str) -> String {
    let mut chunks: Vec<Value> = deltas.into_iter().map(delta).collect();
    chunks.push(finish(reason));
    sse(&chunks)
}

#[test]
fn transcript() {
    for chunk in [1, 7, 4096] {
        for line_end in ["\n", "\r\n"] {
            let stream = TOOL_TURN.replace('\n', line_end);
            let server = Fake::start(vec![Given::stream(stream).in_pieces(chunk), Given::stream(DONE)]);
            let mut provider = provider(&server.url, &table("groq", "llama-3.3-70b-versatile"), "gsk_EXAMPLE");

            let mut messages = vec![prompt()];
            let (deltas, answer) = ask(&mut *provider, &messages, &[]);
            let answer = answer.unwrap();
            assert_eq!(deltas, ["text Looking."]);
            let calls = [
                ToolCall::from_raw("call_a1b2", "bash", r#"{"command":"uptime"}"#),
                ToolCall::from_raw("call_c3d4", "read", r#"{"path":"ACTIONS.md"}"#),
            ];
            let content: Vec<Block> =
                std::iter::once(text("Looking.")).chain(calls.into_iter().map(Block::ToolCall)).collect();
            assert_eq!((&answer.content, answer.stop, answer.charged), (&content, Stop::ToolUse, None));
            assert_eq!(answer.usage, Usage { input_tokens: 1310, output_tokens: 41, ..Usage::default() });

            messages.push(Message::Assistant(answer));
            messages.push(text_result("call_a1b2", "bash", " 14:02:11 up 3 days\n"));
            messages.push(text_result("call_c3d4", "read", "# Agent\n"));
            ask(&mut *provider, &messages, &[]).1.unwrap();

            let requests = server.received();
            for request in &requests {
                assert!(request.head.starts_with("post /chat/completions http/1.1\r\n"), "{}", request.head);
                for header in [
                    ("content-type", "application/json"),
                    ("accept", "text/event-stream"),
                    ("accept-encoding", "identity"),
                    ("user-agent", "action-llama/0.13.2"),
                    ("authorization", "bearer gsk_example"),
                ] {
                    assert_eq!(request.header(header.0), Some(header.1));
                }
            }
            let mut expected: Value = serde_json::from_str(FIRST_REQUEST).unwrap();
            assert_eq!(requests[0].body, expected);
            let more: Vec<Value> = serde_json::from_str(SECOND_MESSAGES).unwrap();
            expected["messages"].as_array_mut().unwrap().extend(more);
            assert_eq!(requests[1].body, expected);
        }
    }
}

#[test]
fn mistral_transcript() {
    let chunk = json!({"id": "cmpl-1", "object": "chat.completion.chunk", "created": 1773929730, "model": "mistral-large-2411", "choices": [{"index": 0, "delta": {"content": "", "tool_calls": [{"id": "D681PevKs", "function": {"name": "bash", "arguments": "{\"command\": \"uptime\"}"}, "index": 0}]}, "finish_reason": "tool_calls"}], "usage": {"prompt_tokens": 94, "completion_tokens": 20, "total_tokens": 114}});
    let server = Fake::start(vec![Given::stream(sse(&[chunk])), Given::stream(DONE)]);
    let mut provider = provider(&server.url, &table("mistral", "mistral-large-2411"), "k");
    let answer = ask(&mut *provider, &[prompt()], &[]).1.unwrap();
    assert_eq!((answer.stop, answer.usage.input_tokens, answer.usage.output_tokens), (Stop::ToolUse, 94, 20));
    let messages =
        [prompt(), Message::Assistant(answer), text_result("D681PevKs", "bash", " 14:02:11 up 3 days\n"), user("And?")];
    ask(&mut *provider, &messages, &[]).1.unwrap();

    let requests = server.received();
    let expected = json!([
        {"role": "assistant", "content": null, "tool_calls": [{"id": "D681PevKs", "type": "function", "function": {"name": "bash", "arguments": "{\"command\":\"uptime\"}"}}]},
        {"role": "tool", "tool_call_id": "D681PevKs", "name": "bash", "content": " 14:02:11 up 3 days\n"},
        {"role": "assistant", "content": "Continuing."},
        {"role": "user", "content": "And?"}]);
    assert_eq!(requests[1].body["messages"].as_array().unwrap()[2..], *expected.as_array().unwrap());
    assert_eq!((requests[0].body.get("stream_options"), &requests[0].body["max_tokens"]), (None, &json!(16_384)));
    let session = requests[0].header("x-affinity").unwrap();
    assert_eq!((session.len(), requests[1].header("x-affinity")), (36, Some(session)));
}

#[test]
fn a_stream_that_ends_before_its_finish_is_a_network_error() {
    let whole = read(TOOL_TURN).1.unwrap();
    let ends = event_ends(TOOL_TURN);
    // The event with the finish, the one with the usage, and `[DONE]`.
    let [finished, counted, _] = ends[ends.len() - 3..] else { unreachable!() };
    for end in [End::Regular, End::BrokenOff] {
        for cut in 0..TOOL_TURN.len() {
            let answer = read_pieces("groq", &[&TOOL_TURN.as_bytes()[..cut]], end).1;
            match answer {
                Ok(answer) if cut >= counted => assert_eq!(answer, whole, "{cut}"),
                Ok(answer) => assert!(cut >= finished - 2 && answer.content == whole.content, "{cut}"),
                Err(error) => assert!(cut < finished && error.kind == Kind::Network, "{cut}: {error}"),
            }
        }
    }
    let early = read(&TOOL_TURN[..ends[3]]).1.unwrap_err();
    assert_eq!((early.kind, early.message.as_str()), (Kind::Network, "stream ended early"));
}

proptest! {
    #[test]
    fn any_split_gives_the_same_response(cuts in proptest::collection::vec(0usize..2000, 0..12)) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (TOOL_TURN.len() + 1)).collect();
        cuts.extend([0, TOOL_TURN.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &TOOL_TURN.as_bytes()[pair[0]..pair[1]]).collect();
        prop_assert_eq!(read_pieces("groq", &pieces, End::BrokenOff), read(TOOL_TURN));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = read_pieces("openrouter", &[&bytes], End::Regular);
    }

    #[test]
    fn a_damaged_stream_never_makes_it_panic(at in 0usize..1800, with in any::<u8>()) {
        let mut stream = TOOL_TURN.as_bytes().to_vec();
        stream[at] = with;
        let _ = read_pieces("groq", &[&stream], End::Regular);
    }

    #[test]
    fn no_chunks_make_it_panic(deltas in proptest::collection::vec(any_delta(), 0..12), from in 0usize..3) {
        let provider = ["mistral", "openrouter", "custom"][from];
        if let Ok(answer) = read_from(provider, &response(deltas, "stop")).1 {
            // Whatever it was, it can be sent back.
            let (model, compat, mut ids) = (model(provider, "m", "chat"), compat(provider), ids(provider));
            let messages = [prompt(), Message::Assistant(answer)];
            let mut conversation = Conversation::new("", &model, &compat, &mut ids);
            for_model(&messages, &model).into_iter().for_each(|turn| conversation.add(turn));
            serde_json::to_vec(&conversation.finish(None)).unwrap();
        }
    }
}

/// A delta with members that it may have, of types that they may have.
fn any_delta() -> impl Strategy<Value = Value> {
    let content = prop::sample::select(vec![
        json!("text"),
        json!(""),
        json!(null),
        json!([{"type": "text", "text": "x"}, {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, 3]),
        json!([{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "thinking"}, {}]),
        json!({"a": 1}),
    ]);
    let calls = prop::sample::select(vec![
        json!([{"index": 0, "id": "a", "function": {"name": "bash", "arguments": "{\"command\":"}}]),
        json!([{"index": 0, "function": {"arguments": "\"x\"}"}}, {"index": 7, "function": null}]),
        json!([{"id": "b", "function": {"name": "read", "arguments": {"path": "x"}}}, {"function": {"arguments": 3}}]),
        json!([{"index": -1, "id": "null"}, 3, null]),
        json!(null),
    ]);
    let thought = prop::sample::select(vec![json!("hm"), json!(""), json!(null), json!({"text": "x"})]);
    let details = prop::sample::select(vec![
        json!([{"type": "reasoning.text", "index": 0, "text": "a"}, {"type": "reasoning.text", "index": 0, "text": null}]),
        json!([{"type": "reasoning.encrypted", "data": "x"}, {"index": 0, "type": "reasoning.text", "signature": "s"}]),
        json!([3]),
        json!("x"),
    ]);
    (content, calls, thought, details).prop_map(|(content, calls, thought, details)| {
        json!({"content": content, "tool_calls": calls, "reasoning": thought, "reasoning_details": details})
    })
}

#[test]
fn parameters_by_provider() {
    #[track_caller]
    fn case(provider: &str, model: &str, extra: Value) {
        let mut seen = body(&table(provider, model), &[prompt()], &[]);
        let members = seen.as_object_mut().unwrap();
        for everywhere in ["model", "messages", "tools"] {
            assert!(members.remove(everywhere).is_some());
        }
        assert_eq!(seen, extra, "{provider} {model}");
    }
    let usage = json!({"include_usage": true});
    let openai = json!({"provider": "openai", "model": "gpt-5", "api": "chat"});
    let mut seen = body(&openai, &[prompt()], &[]);
    assert_eq!(seen["messages"][0]["role"], "developer");
    assert_eq!(seen["prompt_cache_key"].as_str().map(str::len), Some(36));
    for name in ["model", "messages", "tools", "prompt_cache_key"] {
        seen.as_object_mut().unwrap().remove(name);
    }
    let expected = json!({"stream": true, "stream_options": usage, "max_completion_tokens": 32_000,
        "reasoning_effort": "medium", "store": false});
    assert_eq!(seen, expected);
    let plain = json!({"stream": true, "stream_options": usage, "max_completion_tokens": 32_000});
    let with = |name: &str, value: Value, limit: u64| {
        let mut all = plain.clone();
        all[name] = value;
        all["max_completion_tokens"] = json!(limit);
        all
    };
    case("groq", "llama-3.3-70b-versatile", plain.clone());
    case("groq", "openai/gpt-oss-120b", with("reasoning_effort", json!("medium"), 32_000));
    case("xai", "grok-4.7", plain.clone());
    case("xai", "grok-3-mini", with("reasoning_effort", json!("high"), 8192));
    case(
        "mistral",
        "magistral-medium-latest",
        json!({"stream": true, "max_tokens": 16_384, "prompt_mode": "reasoning"}),
    );
    case("mistral", "mistral-large-4", json!({"stream": true, "max_tokens": 32_000, "reasoning_effort": "high"}));
    let include = json!({"include": true});
    let mut router = with("reasoning", json!({"effort": "medium"}), 16_384);
    router["usage"] = include;
    case("openrouter", "x-ai/grok-4", router);
    case("custom", "m", json!({"stream": true, "stream_options": usage, "max_tokens": 16_384}));
    let developer = json!({"provider": "openai", "model": "gpt-4o", "api": "chat"});
    assert_eq!(body(&developer, &[prompt()], &[])["messages"][0]["role"], "system");
}

#[test]
fn headers_by_provider() {
    let of = |provider: &str, extra: Value| {
        let mut table = table(provider, "m");
        table.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        received(&table, &[prompt()], &[], DONE)
    };
    let router = of("openrouter", json!({}));
    assert_eq!(router.header("http-referer"), Some("https://github.com/action-llama/action-llama"));
    assert_eq!((router.header("x-title"), router.header("authorization")), (Some("action llama"), Some("bearer k")));
    assert_eq!(of("groq", json!({})).header("x-title"), None);
    assert_eq!(of("mistral", json!({"cacheRetention": "none"})).header("x-affinity"), None);
    let custom = of("custom", json!({"authHeader": "X-Key", "headers": {"accept": "*/*"}}));
    assert_eq!((custom.header("x-key"), custom.header("authorization")), (Some("k"), None));
    assert_eq!(custom.header("accept"), Some("*/*"));
    let server = Fake::start(vec![Given::stream(DONE)]);
    ask(&mut *provider(&server.url, &table("custom", "m"), " "), &[prompt()], &[]).1.unwrap();
    assert_eq!(server.received()[0].header("authorization"), None);
}

#[test]
fn switches_of_a_server_of_ones_own() {
    let custom = |compat: Value| json!({"provider": "custom", "model": "m", "reasoning": true, "images": true, "compat": compat});
    let content = vec![call("call-number-one", "read", &json!({}))];
    let said = said("custom", "m", content);
    let messages = [prompt(), said, text_result("call-number-one", "read", "x"), user("And?")];
    let all = json!({"maxTokensField": "max_completion_tokens", "usageInStream": false, "reasoningParam": "reasoning",
        "developerRole": true, "assistantAfterTool": true, "toolResultName": true, "shortToolIds": true,
        "cacheControl": true});
    let body = body(&custom(all), &messages, &[]);
    assert_eq!((body.get("stream_options"), body.get("max_tokens")), (None, None));
    assert_eq!((&body["max_completion_tokens"], &body["reasoning"]), (&json!(16_384), &json!({"effort": "medium"})));
    let [system, _, said, result, between, last] = body["messages"].as_array().unwrap().as_slice() else {
        panic!("{body:#}")
    };
    let mark = json!({"type": "ephemeral"});
    assert_eq!((&system["role"], &system["content"][0]["cache_control"]), (&json!("developer"), &mark));
    let id = said["tool_calls"][0]["id"].as_str().unwrap();
    assert_eq!((id.len(), &result["tool_call_id"], &result["name"]), (9, &json!(id), &json!("read")));
    assert_eq!(*between, json!({"role": "assistant", "content": "Continuing."}));
    assert_eq!(*last, json!({"role": "user", "content": [{"type": "text", "text": "And?", "cache_control": mark}]}));

    let plain = self::body(&custom(json!({})), &messages, &[]);
    assert_eq!((&plain["reasoning_effort"], &plain["messages"][0]["role"]), (&json!("medium"), &json!("system")));
    let ids = [&plain["messages"][2]["tool_calls"][0]["id"], &plain["messages"][3]["tool_call_id"]];
    assert_eq!(ids, ["call-number-one", "call-number-one"]);
    assert_eq!(plain["messages"][4], json!({"role": "user", "content": "And?"}));
}

#[test]
fn cache_marks_for_anthropic_behind_openrouter() {
    let table = table("openrouter", "anthropic/claude-sonnet-4.5");
    let mark = json!({"type": "ephemeral"});
    let one = |text: &str| json!([{"type": "text", "text": text, "cache_control": mark}]);
    let router = |content| said("openrouter", "anthropic/claude-sonnet-4.5", content);
    let calls = || call("a", "bash", &json!({}));
    let result = text_result("a", "bash", "x");
    let first = body(&table, &[prompt()], &[]);
    assert_eq!(first["messages"][0]["content"][0]["cache_control"], mark);
    assert_eq!(first["messages"][1]["content"], one("You have been triggered manually."));
    // The last text that is not a result, even if a result is newer.
    let spoken = body(&table, &[prompt(), router(vec![text("Now."), calls()]), result.clone()], &[]);
    assert_eq!(spoken["messages"][2]["content"], one("Now."));
    assert_eq!(spoken["messages"][1]["content"], "You have been triggered manually.");
    let silent = body(&table, &[prompt(), router(vec![calls()]), result], &[]);
    assert_eq!(silent["messages"][1]["content"], one("You have been triggered manually."));
    assert_eq!(silent.to_string().matches("cache_control").count(), 2);

    let mut none = table.clone();
    none["cacheRetention"] = json!("none");
    assert!(!body(&none, &[prompt()], &[]).to_string().contains("cache_control"));
    assert!(!body(&table, &[prompt()], &["cache_control"]).to_string().contains("cache_control"));
    assert!(!body(&self::table("openrouter", "x-ai/grok-4"), &[prompt()], &[]).to_string().contains("cache_control"));
}

#[test]
fn what_was_refused_is_left_out() {
    let openai = json!({"provider": "openai", "model": "gpt-5", "api": "chat"});
    for (table, name) in [
        (&openai, "stream_options"),
        (&openai, "reasoning_effort"),
        (&openai, "store"),
        (&openai, "prompt_cache_key"),
        (&table("openrouter", "x-ai/grok-4"), "usage"),
        (&table("openrouter", "x-ai/grok-4"), "reasoning"),
        (&table("mistral", "magistral-small"), "prompt_mode"),
    ] {
        assert!(body(table, &[prompt()], &[]).get(name).is_some(), "{name}");
        assert!(body(table, &[prompt()], &[name]).get(name).is_none(), "{name}");
    }
    let limits = |table: &Value, refused: &[&str]| {
        let body = body(table, &[prompt()], refused);
        ["max_completion_tokens", "max_tokens"].map(|name| body.get(name).is_some())
    };
    assert_eq!(limits(&openai, &[]), [true, false]);
    assert_eq!(limits(&openai, &["max_completion_tokens"]), [false, true]);
    assert_eq!(limits(&openai, &["max_tokens"]), [true, false]);
    assert_eq!(limits(&table("custom", "m"), &["max_tokens"]), [true, false]);
    assert_eq!(limits(&openai, &["max_completion_tokens", "max_tokens"]), [false, false]);
}

#[test]
fn a_request_without_tools_has_them_only_for_the_calls_in_it() {
    let without = |messages: &[Message]| {
        let server = Fake::start(vec![Given::stream(DONE)]);
        let table = json!({"provider": "groq", "model": "openai/gpt-oss-120b", "thinkingLevel": "high"});
        send(&mut *provider(&server.url, &table, "k"), messages, &[], false).1.unwrap();
        server.received().remove(0).body
    };
    let body = without(&[prompt()]);
    assert_eq!((body.get("tools"), &body["reasoning_effort"]), (None, &json!("low")));
    let content = vec![call("a", "bash", &json!({}))];
    let body = without(&[prompt(), said("groq", "openai/gpt-oss-120b", content), text_result("a", "bash", "x")]);
    assert_eq!(body["tools"].as_array().map(Vec::len), Some(4));
}

/// The messages of a conversation behind the prompt.
fn messages(table: &Value, rest: &[Message]) -> Vec<Value> {
    let all: Vec<Message> = std::iter::once(prompt()).chain(rest.iter().cloned()).collect();
    body(table, &all, &[])["messages"].as_array().unwrap()[2..].to_vec()
}

#[test]
fn images_of_users_and_results() {
    let turn = |provider: &str| {
        [
            said(provider, "vision", vec![call("a", "read", &json!({})), call("b", "read", &json!({}))]),
            result("a", "read", vec![Content::Text("Read image".into()), image()]),
            result("b", "read", vec![image()]),
            Message::User(vec![Content::Text("See".into()), image()]),
        ]
    };
    let table = |provider: &str| json!({"provider": provider, "model": "vision", "images": true});
    let picture = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}});
    let words = |text: &str| json!({"type": "text", "text": text});
    let shown = messages(&table("groq"), &turn("groq"));
    let attached = words("Attached image(s) from tool result:");
    let expected = [
        json!({"role": "tool", "tool_call_id": "a", "content": "Read image"}),
        json!({"role": "tool", "tool_call_id": "b", "content": "(see attached image)"}),
        json!({"role": "user", "content": [attached, picture, picture, words("See"), picture]}),
    ];
    assert_eq!(shown[1..], expected);

    let bare = json!({"type": "image_url", "image_url": "data:image/png;base64,AA=="});
    let shown = messages(&table("mistral"), &turn("mistral"));
    assert_eq!(shown[1]["content"], json!([words("Read image"), bare]));
    assert_eq!(shown[2]["content"], json!([words("(see attached image)"), bare]));
    assert_eq!(shown[3], json!({"role": "assistant", "content": "Continuing."}));
    assert_eq!(shown[4]["content"], json!([words("See"), picture]));

    let blind = messages(&self::table("groq", "vision"), &turn("groq"));
    assert_eq!(blind[2]["content"], "(image omitted: model has no image input)");
    assert_eq!(blind[3]["content"], "See\n\n(image omitted: model has no image input)");
}

#[test]
fn what_was_said_is_one_text() {
    let groq = |content| said("groq", "m", content);
    let content = vec![text("One, "), text(" "), text("two."), call("a", "bash", &json!({"command": "x"}))];
    let shown = messages(&table("groq", "m"), &[groq(content), groq(vec![text(" ")]), user("a"), user("b")]);
    assert_eq!(shown[0]["content"], "One, two.");
    assert_eq!(
        shown[1],
        json!({"role": "tool", "tool_call_id": "a", "content": "No result is available for this call."})
    );
    assert_eq!(shown[2..], [json!({"role": "user", "content": "a\n\nb"})]);
}

#[test]
fn thinking_goes_back_in_the_form_in_which_it_came() {
    #[track_caller]
    fn case(provider: &str, deltas: Vec<Value>, expected: Value) {
        let mut deltas = deltas;
        let function = json!({"name": "bash", "arguments": "{}"});
        deltas.push(json!({"content": "Now.", "tool_calls": [{"index": 0, "id": "D681PevKs", "function": function}]}));
        let answer = read_from(provider, &response(deltas, "tool_calls")).1.unwrap();
        let shown = messages(&table(provider, "m"), &[Message::Assistant(answer)]);
        let mut said = shown[0].clone();
        for name in ["role", "tool_calls"] {
            assert!(said.as_object_mut().unwrap().remove(name).is_some());
        }
        assert_eq!(said, expected, "{provider}");
    }
    for name in ["reasoning_content", "reasoning", "reasoning_text"] {
        let deltas = vec![json!({name: "Let "}), json!({name: "me."}), json!({name: null, "content": ""})];
        case("groq", deltas, json!({"content": "Now.", name: "Let me."}));
    }
    let both = vec![json!({"reasoning_content": "a", "reasoning": "a"})];
    case("custom", both, json!({"content": "Now.", "reasoning_content": "a"}));

    let thinking = |text: &str, signature: Value| json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": text}], "signature": signature}]});
    let part = |signature: Option<&str>| {
        let mut part = json!({"type": "thinking", "thinking": [{"type": "text", "text": "Let me."}]});
        if let Some(signature) = signature {
            part["signature"] = json!(signature);
        }
        json!({"content": [part, {"type": "text", "text": "Now."}]})
    };
    case("mistral", vec![thinking("Let ", Value::Null), thinking("me.", Value::Null)], part(None));
    case("mistral", vec![thinking("Let ", Value::Null), thinking("me.", json!("sig"))], part(Some("sig")));

    let details = vec![
        json!({"reasoning": "Let ", "reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "Let ", "format": "f"}]}),
        json!({"reasoning": "me.", "reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "me.", "id": null}]}),
        json!({"reasoning_details": [{"type": "reasoning.text", "index": 0, "signature": "s"},
            {"type": "reasoning.encrypted", "index": 0, "data": "x"}, {"type": "reasoning.encrypted", "data": "y"}]}),
        json!({"reasoning_details": [{"type": "reasoning.encrypted", "data": "z"}]}),
    ];
    let merged = json!([
        {"type": "reasoning.text", "index": 0, "text": "Let me.", "format": "f", "signature": "s"},
        {"type": "reasoning.encrypted", "index": 0, "data": "x"},
        {"type": "reasoning.encrypted", "data": "y"},
        {"type": "reasoning.encrypted", "data": "z"}]);
    case("openrouter", details, json!({"content": "Now.", "reasoning_details": merged}));
}

#[test]
fn thinking_of_another_model_becomes_text_and_that_of_another_format_too() {
    let thought =
        |signature: &str| Block::Thinking { text: "Hm.".into(), signature: Some(signature.into()), redacted: false };
    let other = said("groq", "other", vec![thought(r#"{"field":"reasoning"}"#), text(" Now.")]);
    let own = said("groq", "m", vec![thought(r#"{"type":"reasoning","encrypted_content":"e"}"#), text(" Now.")]);
    for message in [other, own] {
        assert_eq!(messages(&table("groq", "m"), &[message]), [json!({"role": "assistant", "content": "Hm. Now."})]);
    }
}

#[test]
fn texts_and_thinking_stream_in() {
    let (deltas, answer) = read(&response(
        vec![
            json!({"role": "assistant", "content": null, "reasoning": ""}),
            json!({"reasoning": "Hm"}),
            json!({"reasoning": "m."}),
            json!({"content": "I "}),
            json!({"refusal": "won't."}),
            json!({"mood": "glad"}),
        ],
        "stop",
    ));
    assert_eq!(deltas, ["thinking Hm", "thinking m.", "text I ", "text won't."]);
    let signature = Some(r#"{"field":"reasoning"}"#.to_owned());
    let thinking = Block::Thinking { text: "Hmm.".into(), signature, redacted: false };
    let answer = answer.unwrap();
    assert_eq!((answer.content, answer.stop), (vec![thinking, text("I won't.")], Stop::Stop));
}

/// Names, ids and arguments of the calls in a response.
fn calls(deltas: Vec<Value>) -> Vec<(String, String, String)> {
    let deltas = deltas.into_iter().map(|calls| json!({"tool_calls": calls})).collect();
    let answer = read(&response(deltas, "stop")).1.unwrap();
    assert_eq!(answer.stop, Stop::ToolUse);
    answer.calls().map(|call| (call.id.clone(), call.name.clone(), call.raw.clone())).collect()
}

#[test]
fn calls_come_in_all_kinds_of_pieces() {
    let call = |id: &str, name: &str, raw: &str| (id.to_owned(), name.to_owned(), raw.to_owned());
    let piece = |index: Value, id: Value, name: Value, arguments: Value| json!({"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
    let null = Value::Null;
    // Two at once, mixed, with the name of one coming late.
    let mixed = calls(vec![
        json!([
            piece(json!(0), json!("a"), json!("bash"), json!("")),
            piece(json!(1), json!("b"), null.clone(), json!(""))
        ]),
        json!([piece(json!(1), null.clone(), json!("read"), json!("{\"path\":"))]),
        json!([
            piece(json!(0), null.clone(), null.clone(), json!("{}")),
            piece(json!(1), json!(""), null.clone(), json!("1}"))
        ]),
    ]);
    assert_eq!(mixed, [call("a", "bash", "{}"), call("b", "read", "{\"path\":1}")]);
    // Without numbers, a new id begins a new call.
    let unnumbered = calls(vec![
        json!([{"id": "a", "function": {"name": "bash", "arguments": "{\"command\":"}}]),
        json!([{"function": {"arguments": "1}"}}]),
        json!([{"id": "b", "function": {"name": "read", "arguments": {"path": "x"}}}]),
    ]);
    assert_eq!(unnumbered, [call("a", "bash", "{\"command\":1}"), call("b", "read", "{\"path\":\"x\"}")]);
    // All whole, and all with the same number.
    let same = calls(vec![json!([
        piece(json!(0), json!("a"), json!("bash"), json!("{\"command\":1}")),
        piece(json!(0), json!("b"), json!("bash"), json!("{\"command\":2}")),
    ])]);
    assert_eq!(same, [call("a", "bash", "{\"command\":1}"), call("b", "bash", "{\"command\":2}")]);
    // A server that gives every piece an id of its own.
    let restless = calls(vec![
        json!([piece(json!(0), json!("a"), json!("bash"), json!("{"))]),
        json!([piece(json!(0), json!("b"), null.clone(), json!("}"))]),
    ]);
    assert_eq!(restless, [call("a", "bash", "{}")]);
    // Ids that are none.
    let nameless = calls(vec![json!([
        piece(json!(0), json!("null"), json!("bash"), json!("{}")),
        piece(json!(1), null.clone(), json!("bash"), null.clone()),
        piece(json!(2), json!("call_2"), json!("bash"), json!("{}")),
    ])]);
    let ids: Vec<&str> = nameless.iter().map(|(id, ..)| id.as_str()).collect();
    assert_eq!(ids[..2], ["call_1", "call_2"]);
    assert!(!ids[..2].contains(&ids[2]), "{ids:?}");
}

#[test]
fn a_call_cut_by_the_output_limit_is_incomplete() {
    let function = json!({"name": "write", "arguments": "{\"path\":\"/tmp/x\",\"content\":\"ha"});
    let answer =
        read(&response(vec![json!({"tool_calls": [{"index": 0, "id": "a", "function": function}]})], "length"));
    let answer = answer.1.unwrap();
    assert_eq!(answer.stop, Stop::Length);
    assert!(!answer.calls().next().unwrap().complete);
}

#[test]
fn finish_reasons() {
    #[track_caller]
    fn case(reason: &str, expected: Result<Stop, Kind>) {
        let (deltas, answer) = read(&response(vec![json!({"content": "x"})], reason));
        assert_eq!(answer.map(|answer| answer.stop).map_err(|error| error.kind), expected, "{reason}");
        let warned = deltas.iter().any(|delta| delta.starts_with("warning"));
        assert_eq!(warned, reason == "tired");
    }
    case("stop", Ok(Stop::Stop));
    case("length", Ok(Stop::Length));
    case("model_length", Ok(Stop::Length));
    case("tool_calls", Ok(Stop::ToolUse));
    case("function_call", Ok(Stop::ToolUse));
    case("content_filter", Err(Kind::Refusal));
    case("error", Err(Kind::Server));
    case("tired", Ok(Stop::Stop));
    let done = read("data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\ndata: [DONE]\n\n").1.unwrap();
    assert_eq!((done.stop, done.text().as_str()), (Stop::Stop, "x"));
}

#[test]
fn comments_keep_alives_and_odd_events_are_skipped() {
    let stream = format!(
        ": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\nevent: ping\n\ndata:\n\n{}{}{}{DONE}",
        "data: {\"choices\":[]}\n\n", "data: {\"choices\":null,\"usage\":null}\n\n", "data: {\"choices\":[{}]}\n\n",
    );
    assert_eq!(read(&stream).1.unwrap().text(), "ok");
    let half = response(vec![json!({"content": "LONE"})], "stop").replace("LONE", r"a\ud83d!");
    assert_eq!(read(&half).1.unwrap().text(), "a\u{fffd}!");
    let long = "ü".repeat(512 << 10);
    assert_eq!(read(&response(vec![json!({"content": long})], "stop")).1.unwrap().text(), long);
}

#[test]
fn counts_do_not_overlap() {
    let count = |usage: Value| {
        let chunk = json!({"choices": [], "usage": usage});
        let usage = read(&sse(&[finish("stop"), chunk])).1.unwrap().usage;
        [usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.cache_write_tokens]
    };
    let prompt = |cached: u64, written: u64| json!({"cached_tokens": cached, "cache_write_tokens": written});
    let reasoning = |tokens: u64| json!({"reasoning_tokens": tokens});
    assert_eq!(count(json!({"prompt_tokens": 100, "completion_tokens": 9})), [100, 9, 0, 0]);
    assert_eq!(count(json!({"prompt_tokens": 100, "prompt_tokens_details": prompt(40, 0)})), [60, 0, 40, 0]);
    assert_eq!(count(json!({"prompt_tokens": 100, "prompt_tokens_details": prompt(40, 30)})), [60, 0, 10, 30]);
    assert_eq!(count(json!({"prompt_tokens": 100, "prompt_tokens_details": prompt(20, 30)})), [70, 0, 0, 30]);
    assert_eq!(count(json!({"prompt_tokens": 100, "prompt_cache_hit_tokens": 70})), [30, 0, 70, 0]);
    assert_eq!(count(json!({"prompt_tokens": 10, "prompt_cache_hit_tokens": 70})), [0, 0, 70, 0]);
    // Counted inside of the completion, and outside of it.
    let inside = json!({"prompt_tokens": 10, "completion_tokens": 9, "total_tokens": 19, "completion_tokens_details": reasoning(5)});
    assert_eq!(count(inside), [10, 9, 0, 0]);
    let outside = json!({"prompt_tokens": 10, "completion_tokens": 9, "total_tokens": 24, "completion_tokens_details": reasoning(5)});
    assert_eq!(count(outside), [10, 14, 0, 0]);
    let silent = json!({"prompt_tokens": 10, "completion_tokens": 9, "completion_tokens_details": reasoning(5)});
    assert_eq!(count(silent), [10, 9, 0, 0]);
    assert_eq!(count(json!({"prompt_tokens": null, "completion_tokens": "x"})), [0, 0, 0, 0]);
}

#[test]
fn counts_come_in_all_kinds_of_places() {
    let usage = json!({"prompt_tokens": 7, "completion_tokens": 3});
    let in_choice = json!({"choices": [{"delta": {}, "finish_reason": "stop", "usage": usage}]});
    let at_groq = json!({"choices": [{"delta": {}, "finish_reason": "stop"}], "x_groq": {"usage": usage}});
    let early =
        json!({"choices": [{"delta": {"content": "x"}}], "usage": {"prompt_tokens": 7, "completion_tokens": 1}});
    for chunks in [vec![in_choice], vec![at_groq], vec![early, json!({"usage": usage}), finish("stop")]] {
        let seen = read(&sse(&chunks)).1.unwrap().usage;
        assert_eq!((seen.input_tokens, seen.output_tokens), (7, 3), "{chunks:?}");
    }
    // What is charged counts where it is in dollars.
    let charged = |provider: &str, cost: Value| {
        let usage = json!({"usage": {"prompt_tokens": 7, "cost": cost}});
        read_from(provider, &sse(&[finish("stop"), usage])).1.unwrap().charged
    };
    assert_eq!(charged("openrouter", json!(0.25)), Some(0.25));
    assert_eq!(charged("openrouter", json!(0)), Some(0.0));
    assert_eq!((charged("openrouter", json!(-1)), charged("openrouter", Value::Null)), (None, None));
    assert_eq!(charged("groq", json!(0.25)), None);
}

#[test]
fn errors_inside_a_stream() {
    #[track_caller]
    fn case(stream: &str, kind: Kind, words: &str) -> ModelError {
        let begun = format!("{}{stream}", &TOOL_TURN[..event_ends(TOOL_TURN)[1]]);
        let error = read_from("openrouter", &begun).1.unwrap_err();
        assert!(error.kind == kind && error.message.contains(words), "{:?} {error}", error.kind);
        error
    }
    let router = json!({"id": "gen-2", "object": "chat.completion.chunk", "created": 1773929731, "model": "anthropic/claude-sonnet-4.5", "error": {"code": 502, "message": "Provider returned error", "metadata": {"provider_name": "Anthropic", "raw": "upstream closed"}}, "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]});
    case(&sse(&[router]), Kind::Server, "Provider returned error: upstream closed");
    let of_code =
        |code: Value| sse(&[json!({"error": {"code": code, "message": "no", "metadata": {}}, "choices": []})]);
    case(&of_code(json!(429)), Kind::RateLimit, "no");
    case(&of_code(json!(402)), Kind::Quota, "no");
    case(&of_code(json!(401)), Kind::Auth, "no");
    case(&of_code(json!(503)), Kind::Overloaded, "no");
    case(&of_code(json!("rate_limit_exceeded")), Kind::RateLimit, "no");
    case(&of_code(json!("tool_use_failed")), Kind::Malformed, "no");
    case(&of_code(json!("brand_new")), Kind::Server, "no");
    let raw = json!({"error": {"code": 400, "message": "Provider returned error",
        "metadata": {"raw": "{\"message\":\"prompt is too long: 9 > 8\"}"}}});
    case(&sse(&[raw]), Kind::ContextOverflow, "prompt is too long");
    case("event: error\ndata: {\"message\":\"late\",\"code\":\"server_error\"}\n\n", Kind::Server, "late");
    let old = json!({"object": "error", "message": "Try again in 2s", "type": "rate_limit_error", "code": null});
    assert_eq!(case(&sse(&[old]), Kind::RateLimit, "Try").wait, Some(Duration::from_secs(2)));
    let in_choice = json!({"choices": [{"error": {"message": "inner", "code": 503}, "finish_reason": "error"}]});
    case(&sse(&[in_choice]), Kind::Overloaded, "inner");
    case("data: {\"choices\":\n\n", Kind::Malformed, "JSON");
    case("data: [1]\n\n", Kind::Malformed, "JSON");
    case("data: pong\n\n", Kind::Malformed, "JSON");
}

#[test]
fn errors_of_answers() {
    #[track_caller]
    fn case(provider: &str, given: Given, kind: Kind, words: &str) -> ModelError {
        let server = Fake::start(vec![given.header("x-request-id", "req_1")]);
        let model = if provider == "openrouter" { "x-ai/grok-4" } else { "mistral-small-latest" };
        let mut table = table(provider, model);
        table["idleTimeout"] = json!(1);
        let error = ask(&mut *self::provider(&server.url, &table, "k"), &[prompt()], &[]).1.unwrap_err();
        assert!(error.kind == kind && error.message.contains(words), "{:?} {error}", error.kind);
        assert_eq!(error.request_id.as_deref(), Some("req_1"));
        error
    }
    let limited = r#"{"error": {"message": "Rate limit reached for model `llama-3.3-70b-versatile`. Please try again in 7.66s.", "type": "tokens", "code": "rate_limit_exceeded"}}"#;
    let error = case("groq", Given::json(429, limited), Kind::RateLimit, "Rate limit reached");
    assert_eq!(error.wait, Some(Duration::from_millis(7660)));
    let error = case("groq", Given::json(429, limited).header("retry-after", "12"), Kind::RateLimit, "");
    assert_eq!(error.wait, Some(Duration::from_secs(12)));
    let unusable = r#"{"error":{"message":"Failed to call a function.","type":"invalid_request_error","code":"tool_use_failed","failed_generation":"<x>"}}"#;
    case("groq", Given::json(400, unusable), Kind::Malformed, "Failed to call");
    let key = r#"{"code":"Client specified an invalid argument","error":"Incorrect API key provided: k. You can obtain one"}"#;
    case("xai", Given::json(400, key), Kind::Auth, "Incorrect API key");
    case(
        "xai",
        Given::json(404, r#"{"code":"x","error":"The model does not exist"}"#),
        Kind::InvalidRequest,
        "does not exist",
    );
    case("mistral", Given::json(401, r#"{"message":"Unauthorized","request_id":"a"}"#), Kind::Auth, "Unauthorized");
    let detail = r#"{"detail":[{"type":"extra_forbidden","loc":["body","reasoning_effort"],"msg":"Extra inputs are not permitted"}]}"#;
    let error = case("mistral", Given::json(422, detail), Kind::InvalidRequest, "extra_forbidden");
    assert_eq!(error.rejected.as_deref(), Some("reasoning_effort"));
    let capacity = r#"{"object":"error","message":"Service tier capacity exceeded","type":"service_tier_capacity_exceeded","code":"3505"}"#;
    case("mistral", Given::json(429, capacity), Kind::RateLimit, "capacity");
    let raw = r#"{"error":{"code":400,"message":"Provider returned error","metadata":{"raw":"maximum context length is 8192 tokens"}}}"#;
    case("openrouter", Given::json(400, raw), Kind::ContextOverflow, "Provider returned error: maximum context");
    case(
        "openrouter",
        Given::json(402, r#"{"error":{"code":402,"message":"Insufficient credits"}}"#),
        Kind::Quota,
        "credits",
    );
    let limit = r#"{"error":{"message":"Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.","param":"max_tokens","code":"unsupported_parameter"}}"#;
    assert_eq!(
        case("custom", Given::json(400, limit), Kind::InvalidRequest, "").rejected.as_deref(),
        Some("max_tokens")
    );
    let options = r#"{"error":{"message":"Unrecognized request argument supplied: stream_options"}}"#;
    assert_eq!(
        case("custom", Given::json(400, options), Kind::InvalidRequest, "").rejected.as_deref(),
        Some("stream_options")
    );
    let full = r#"{"error":{"code":400,"message":"the request exceeds the available context size, try increasing it","type":"exceed_context_size_error"}}"#;
    case("custom", Given::json(400, full), Kind::ContextOverflow, "available context size");
    case("custom", Given::json(500, "boom"), Kind::Server, "HTTP 500: boom");
    case("custom", Given::json(200, "pong"), Kind::Malformed, "neither");
    case("custom", Given::json(200, "{}"), Kind::Malformed, "neither");
    case("custom", Given::json(200, r#"{"error":{"message":"busy","type":"server_error"}}"#), Kind::Server, "busy");
    let early = event_ends(TOOL_TURN)[3];
    case("custom", Given::stream(&TOOL_TURN[..early]), Kind::Network, "stream ended early");
    case("custom", Given::stream(&TOOL_TURN[..early]).hang(), Kind::Network, "nothing received for 1 s");
}

#[test]
fn a_server_that_says_nothing_after_the_finish_has_said_everything() {
    let finished = event_ends(TOOL_TURN)[6];
    for given in [Given::stream(&TOOL_TURN[..finished]).cut(), Given::stream(&TOOL_TURN[..finished]).hang()] {
        let server = Fake::start(vec![given]);
        let table = json!({"provider": "custom", "model": "m", "idleTimeout": 1});
        let answer = ask(&mut *provider(&server.url, &table, "k"), &[prompt()], &[]).1.unwrap();
        assert_eq!((answer.calls().count(), answer.usage), (2, Usage::default()));
    }
}

#[test]
fn a_server_that_does_not_stream() {
    let calls =
        json!([{"id": "a", "type": "function", "function": {"name": "bash", "arguments": "{\"command\":\"x\"}"}}]);
    let message = json!({"role": "assistant", "content": "Hi", "reasoning_content": "Hm.", "tool_calls": calls});
    let answer = json!({"object": "chat.completion", "error": null,
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4}});
    let server = Fake::start(vec![Given::json(200, &answer.to_string())]);
    let (deltas, answer) = ask(&mut *provider(&server.url, &table("custom", "m"), "k"), &[prompt()], &[]);
    let answer = answer.unwrap();
    assert_eq!(deltas, ["thinking Hm.", "text Hi"]);
    assert_eq!((answer.stop, answer.usage.output_tokens), (Stop::ToolUse, 4));
    assert_eq!(answer.calls().next().unwrap().args["command"], "x");
}
