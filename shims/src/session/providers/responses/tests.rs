//! The Responses API against the transcripts, and against everything that servers send besides.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::input::{Ids, items};
use super::reading::Reading;
use crate::session::error::{Kind, ModelError};
use crate::session::fake::{Fake, Given};
use crate::session::history::for_model;
use crate::session::message::{Assistant, Block, Content, Message, Stop, ToolCall};
use crate::session::provider::Delta;
use crate::session::providers::bench::{ask, delta_text, event_ends, image, prompt, send};
use crate::session::providers::openai::bench::{
    End, call, model, provider, received, replay, result, said, text, text_result,
};
use crate::wire::usage::Usage;

const FIRST_REQUEST: &str = include_str!("../testdata/responses-request.json");
const SECOND_INPUT: &str = include_str!("../testdata/responses-input-2.json");
const TOOL_TURN: &str = include_str!("../testdata/responses.sse");
const TEXT_TURN: &str = include_str!("../testdata/responses-text.sse");

fn gpt_5() -> Value {
    json!({"provider": "openai", "model": "gpt-5"})
}

/// The body of the request for one conversation; `table` changes the model table.
fn body(table: Value, messages: &[Message], refused: &[&str]) -> Value {
    let mut whole = gpt_5();
    whole.as_object_mut().unwrap().extend(table.as_object().unwrap().clone());
    received(&whole, messages, refused, TEXT_TURN).body
}

/// What comes of a stream: deltas and result.
fn read(stream: &str) -> (Vec<String>, Result<Assistant, ModelError>) {
    read_pieces(&[stream.as_bytes()], End::Regular)
}

fn read_pieces(pieces: &[&[u8]], end: End) -> (Vec<String>, Result<Assistant, ModelError>) {
    let (model, mut deltas) = (model("openai", "gpt-5", "responses"), Vec::new());
    let mut sink = |delta: Delta<'_>| deltas.push(delta_text(&delta));
    let answer = replay(pieces.iter().copied(), end, Reading::new(&model, &mut sink));
    (deltas, answer)
}

fn sse(events: &[Value]) -> String {
    let text = |event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap());
    events.iter().map(text).collect()
}

/// Events that end as a success.
fn completed(mut events: Vec<Value>) -> String {
    events
        .push(json!({"type": "response.completed", "response": {"status": "completed", "usage": {"input_tokens": 1}}}));
    sse(&events)
}

fn done(index: u64, item: Value) -> Value {
    json!({"type": "response.output_item.done", "output_index": index, "item": item})
}

fn added(index: u64, item: Value) -> Value {
    json!({"type": "response.output_item.added", "output_index": index, "item": item})
}

#[test]
fn transcript() {
    for chunk in [1, 7, 4096] {
        for line_end in ["\n", "\r\n"] {
            let streams = [TOOL_TURN, TEXT_TURN].map(|stream| stream.replace('\n', line_end));
            let server = Fake::start(streams.map(|stream| Given::stream(stream).in_pieces(chunk)).into());
            let mut provider = provider(&server.url, &gpt_5(), "sk-proj-EXAMPLE");

            let mut messages = vec![prompt()];
            let (deltas, answer) = ask(&mut *provider, &messages, &[]);
            let answer = answer.unwrap();
            assert_eq!(deltas, Vec::<String>::new());
            let item = r#"{"id":"rs_01","type":"reasoning","summary":[],"encrypted_content":"gAAAAABo_EXAMPLE"}"#;
            let thinking = Block::Thinking { text: String::new(), signature: Some(item.into()), redacted: false };
            let call = ToolCall::from_raw("call_9fK2|fc_01", "bash", r#"{"command":"uptime"}"#);
            assert_eq!(answer.content, [thinking, Block::ToolCall(call)]);
            assert_eq!(
                (answer.stop, answer.provider.as_str(), answer.model.as_str()),
                (Stop::ToolUse, "openai", "gpt-5")
            );
            let usage = Usage { input_tokens: 486, cache_read_tokens: 1024, output_tokens: 85, ..Usage::default() };
            assert_eq!(answer.usage, usage);

            messages.push(Message::Assistant(answer));
            messages.push(text_result("call_9fK2|fc_01", "bash", " 14:02:11 up 3 days\n"));
            let (deltas, answer) = ask(&mut *provider, &messages, &[]);
            let answer = answer.unwrap();
            assert_eq!(deltas, ["text Up for three days."]);
            assert_eq!((answer.text().as_str(), answer.stop), ("Up for three days.", Stop::Stop));
            assert_eq!((answer.usage.input_tokens, answer.usage.output_tokens), (114, 9));

            let mut requests = server.received();
            let key = requests[0].body["prompt_cache_key"].clone();
            for request in &mut requests {
                assert!(request.head.starts_with("post /responses http/1.1\r\n"), "{}", request.head);
                for header in [
                    ("content-type", "application/json"),
                    ("accept", "text/event-stream"),
                    ("accept-encoding", "identity"),
                    ("user-agent", "action-llama/0.13.2"),
                    ("authorization", "bearer sk-proj-example"),
                ] {
                    assert_eq!(request.header(header.0), Some(header.1));
                }
                // The id of the session, which is another one each time.
                assert_eq!(request.body["prompt_cache_key"], key);
                request.body["prompt_cache_key"] = json!("7ae92d1d-e9d3-4608-98c1-fe5ef9a0c88b");
            }
            let mut expected: Value = serde_json::from_str(FIRST_REQUEST).unwrap();
            assert_eq!(requests[0].body, expected);
            let more: Vec<Value> = serde_json::from_str(SECOND_INPUT).unwrap();
            expected["input"].as_array_mut().unwrap().extend(more);
            assert_eq!(requests[1].body, expected);
        }
    }
}

#[test]
fn a_stream_that_ends_before_its_last_event_is_a_network_error() {
    for stream in [TOOL_TURN, TEXT_TURN] {
        let whole = read(stream).1.unwrap();
        let complete = stream.len() - 1;
        for end in [End::Regular, End::BrokenOff] {
            for cut in event_ends(stream).into_iter().chain(0..complete - 1) {
                let answer = read_pieces(&[&stream.as_bytes()[..cut]], end).1;
                match answer {
                    Ok(answer) => assert!(cut > complete && answer == whole, "{cut}"),
                    Err(error) => assert_eq!(error.kind, Kind::Network, "{cut}"),
                }
            }
        }
    }
    let early = read(&TOOL_TURN[..event_ends(TOOL_TURN)[5]]).1.unwrap_err();
    assert_eq!((early.kind, early.message.as_str()), (Kind::Network, "stream ended early"));
    let early = read(&format!("{}data: [DONE]\n\n", &TOOL_TURN[..event_ends(TOOL_TURN)[5]])).1.unwrap_err();
    assert_eq!(early.kind, Kind::Network);
}

proptest! {
    #[test]
    fn any_split_gives_the_same_response(cuts in proptest::collection::vec(0usize..2200, 0..12), text in any::<bool>()) {
        let stream = if text { TEXT_TURN } else { TOOL_TURN };
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &stream.as_bytes()[pair[0]..pair[1]]).collect();
        prop_assert_eq!(read_pieces(&pieces, End::BrokenOff), read(stream));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = read_pieces(&[&bytes], End::Regular);
    }

    #[test]
    fn no_events_make_it_panic(events in proptest::collection::vec(event(), 0..12), end in 0usize..4) {
        let ends = ["response.completed", "response.incomplete", "response.failed", "error"];
        let mut stream: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
        stream += &format!("event: {}\ndata: {{}}\n\n", ends[end]);
        if let Ok(answer) = read(&stream).1 {
            // Whatever it was, it can be sent back.
            let model = model("openai", "gpt-5", "responses");
            let messages = [prompt(), Message::Assistant(answer)];
            serde_json::to_vec(&items("", true, for_model(&messages, &model), Ids::Sent)).unwrap();
        }
    }

    #[test]
    fn a_damaged_stream_never_makes_it_panic(at in 0usize..2000, with in any::<u8>()) {
        let mut stream = TOOL_TURN.as_bytes().to_vec();
        stream[at] = with;
        let _ = read_pieces(&[&stream], End::Regular);
    }
}

/// An event with members that it may have, of types that they may have.
fn event() -> impl Strategy<Value = Value> {
    let kinds = prop::sample::select(vec![
        "response.output_item.added",
        "response.output_item.done",
        "response.output_text.delta",
        "response.refusal.delta",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.reasoning_text.delta",
        "response.reasoning_summary_text.delta",
        "response.other",
    ]);
    let item = prop::sample::select(vec![
        json!({"type": "function_call", "id": "fc_1", "call_id": "c", "name": "bash", "arguments": "{\"command\":1}"}),
        json!({"type": "function_call", "arguments": {"a": null}}),
        json!({"type": "function_call", "id": 3, "call_id": [], "name": null}),
        json!({"type": "message", "id": "m".repeat(99), "content": [{"text": "x"}, {"refusal": "no"}, 3]}),
        json!({"type": "message", "content": null}),
        json!({"type": "reasoning", "id": "rs_1", "encrypted_content": "e", "summary": [{"text": "s"}]}),
        json!({"type": "reasoning"}),
        json!({"type": "web_search_call", "id": "ws_1"}),
        json!({}),
        json!(null),
        json!([1]),
    ]);
    let index = prop::sample::select(vec![json!(0), json!(1), json!(u64::MAX), json!(-1), json!("0"), json!(null)]);
    let delta = prop::sample::select(vec![json!("{"), json!("x\u{0}"), json!(""), json!(null), json!({"a": 1})]);
    (kinds, item, index, delta).prop_map(|(kind, item, index, delta)| {
        json!({"type": kind, "item": item, "output_index": index, "item_id": "fc_1", "delta": delta, "arguments": delta})
    })
}

#[test]
fn how_much_thinking_is_asked_for() {
    #[track_caller]
    fn case(model: &str, level: Value, effort: Value) {
        let body = body(json!({"model": model, "thinkingLevel": level}), &[prompt()], &[]);
        let include = if effort.is_null() { Value::Null } else { json!(["reasoning.encrypted_content"]) };
        assert_eq!((&body["reasoning"]["effort"], &body["include"]), (&effort, &include), "{model} {level}");
        let reasoning = crate::session::registry::Registry::builtin().facts("openai", model).unwrap().reasoning;
        assert_eq!(body["input"][0]["role"], if reasoning { "developer" } else { "system" });
    }
    case("gpt-5", Value::Null, json!("medium"));
    case("gpt-5", json!("off"), json!("minimal"));
    case("gpt-6-sol", json!("off"), json!("none"));
    case("gpt-6-sol", json!("xhigh"), json!("xhigh"));
    case("o3", json!("minimal"), json!("low"));
    case("gpt-5.1-chat-latest", json!("high"), Value::Null);
    case("gpt-4o", json!("high"), Value::Null);
}

#[test]
fn a_request_without_tools_wants_nothing_but_the_answer() {
    let server = Fake::start(vec![Given::stream(TEXT_TURN)]);
    let mut table = gpt_5();
    table["model"] = json!("gpt-6-sol");
    table["thinkingLevel"] = json!("high");
    send(&mut *provider(&server.url, &table, "k"), &[prompt()], &[], false).1.unwrap();
    let body = server.received().remove(0).body;
    assert_eq!((body.get("tools"), &body["reasoning"]["effort"]), (None, &json!("none")));
}

#[test]
fn what_is_kept_in_the_cache() {
    let retention = |word: &str| {
        let body = body(json!({"cacheRetention": word}), &[prompt()], &[]);
        (body.get("prompt_cache_key").is_some(), body.get("prompt_cache_retention").cloned())
    };
    assert_eq!(retention("none"), (false, None));
    assert_eq!(retention("short"), (true, None));
    assert_eq!(retention("long"), (true, Some(json!("24h"))));
}

#[test]
fn what_was_refused_is_left_out() {
    for name in ["reasoning", "include", "store", "prompt_cache_key", "prompt_cache_retention"] {
        let without = body(json!({"cacheRetention": "long"}), &[prompt()], &[name]);
        assert_eq!((without.get(name), without["max_output_tokens"].as_u64()), (None, Some(32_000)), "{name}");
        assert!(body(json!({"cacheRetention": "long"}), &[prompt()], &[]).get(name).is_some());
    }
}

#[test]
fn a_server_of_ones_own() {
    let table = json!({"provider": "custom", "api": "responses", "model": "m", "reasoning": true, "images": true,
        "maxTokens": 900, "authHeader": "X-Key", "headers": {"X-Team": "a"}});
    let server = Fake::start(vec![Given::stream(TEXT_TURN); 2]);
    ask(&mut *provider(&server.url, &table, " k1\n"), &[prompt()], &[]).1.unwrap();
    ask(&mut *provider(&server.url, &table, ""), &[prompt()], &[]).1.unwrap();
    let requests = server.received();
    let of = |name| requests.iter().map(|request| request.header(name)).collect::<Vec<_>>();
    assert_eq!((of("x-key"), of("authorization")), (vec![Some("k1"), None], vec![None, None]));
    assert_eq!(of("x-team"), [Some("a"), Some("a")]);
    let body = &requests[0].body;
    assert_eq!((&body["max_output_tokens"], &body["reasoning"]), (&json!(900), &json!({"effort": "medium"})));
}

/// `input` of a conversation behind the prompt.
fn input(messages: &[Message]) -> Vec<Value> {
    let all: Vec<Message> = std::iter::once(prompt()).chain(messages.iter().cloned()).collect();
    body(json!({}), &all, &[])["input"].as_array().unwrap()[2..].to_vec()
}

fn signed(text: &str, mark: &Value) -> Block {
    Block::Text { text: text.into(), signature: Some(mark.to_string()) }
}

fn reasoning(item: &Value) -> Block {
    Block::Thinking { text: "hm".into(), signature: Some(item.to_string()), redacted: false }
}

#[test]
fn texts_keep_their_ids_and_phases() {
    let long = "msg_".repeat(17);
    let content = vec![
        signed("one", &json!({"id": "msg_a", "phase": "commentary"})),
        signed("two", &json!({"id": long})),
        text("three"),
        signed("four", &json!({})),
    ];
    let input = input(&[said("openai", "gpt-5", content), said("openai", "gpt-5", vec![text("five")])]);
    let message = |id: &str, text: &str| {
        json!({"type": "message", "role": "assistant", "id": id, "status": "completed",
            "content": [{"type": "output_text", "text": text, "annotations": []}]})
    };
    let mut first = message("msg_a", "one");
    first["phase"] = json!("commentary");
    assert_eq!(input[0], first);
    let short = input[1]["id"].as_str().unwrap();
    assert!(short.starts_with("msg_") && short.len() <= 64 && short != long, "{short}");
    assert_eq!(input[2..], [message("msg_1", "three"), message("msg_2", "four"), message("msg_3", "five")]);
}

#[test]
fn ids_go_back_only_with_the_thinking_that_they_refer_to() {
    let sealed = json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "e", "new": [1]});
    let open = json!({"type": "reasoning", "id": "rs_1", "summary": []});
    let args = json!({"command": "x"});
    let turn = |thinking: &Value| {
        let mark = json!({"id": "msg_a"});
        let content = vec![reasoning(thinking), signed("Now.", &mark), call("call_1|fc_1", "bash", &args)];
        [said("openai", "gpt-5", content), text_result("call_1|fc_1", "bash", "ok")]
    };
    let ids = |input: &[Value]| -> Vec<Value> { input.iter().map(|item| item["id"].clone()).collect() };
    let sent = input(&turn(&sealed));
    assert_eq!(sent[0], sealed);
    assert_eq!(ids(&sent), [json!("rs_1"), json!("msg_a"), json!("fc_1"), Value::Null]);
    assert_eq!((&sent[2]["call_id"], &sent[3]["call_id"]), (&json!("call_1"), &json!("call_1")));
    for unusable in [&open, &json!({"encrypted_content": "e"}), &json!({}), &json!("x")] {
        let sent = input(&turn(unusable));
        assert_eq!(ids(&sent), [Value::Null, Value::Null, Value::Null], "{unusable}");
        assert_eq!(sent[1]["call_id"], "call_1");
        assert!(!sent[0].as_object().unwrap().contains_key("id"));
    }
    // Thinking that was taken out of the conversation has left its marks.
    let body = body(json!({}), &[&[prompt()][..], &turn(&json!({}))[..]].concat(), &["thinking blocks"]);
    assert_eq!(body["input"][2].get("id"), None);
    // Thinking that nothing follows would be refused.
    let trailing = [said("openai", "gpt-5", vec![text("a"), reasoning(&sealed)])];
    let input = input(&trailing);
    assert_eq!((input.len(), &input[0]["id"]), (1, &json!("msg_1")));
}

#[test]
fn what_another_model_said_comes_without_its_marks() {
    let sealed = json!({"type": "reasoning", "id": "rs_1", "encrypted_content": "e"});
    let quiet = Block::Thinking { text: String::new(), signature: Some(sealed.to_string()), redacted: false };
    let content = vec![quiet, signed("Now.", &json!({"id": "msg_a"})), call("call.1|fc_1", "bash", &json!({}))];
    let messages = [said("openai", "gpt-5.1", content), text_result("call.1|fc_1", "bash", "ok")];
    let expected = [
        json!({"type": "message", "role": "assistant", "id": "msg_1", "status": "completed",
            "content": [{"type": "output_text", "text": "Now.", "annotations": []}]}),
        json!({"type": "function_call", "call_id": "call_1", "name": "bash", "arguments": "{}"}),
        json!({"type": "function_call_output", "call_id": "call_1", "output": "ok"}),
    ];
    assert_eq!(input(&messages), expected);
}

#[test]
fn images_of_users_and_results() {
    let content = vec![call("a", "read", &json!({"path": "x"})), call("b", "read", &json!({}))];
    let messages = [
        said("openai", "gpt-5", content),
        result("a", "read", vec![Content::Text("Read image".into()), image()]),
        result("b", "read", vec![image()]),
        Message::User(vec![Content::Text("See".into()), image()]),
    ];
    let input = input(&messages);
    let picture = json!({"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64,AA=="});
    let words = |text: &str| json!({"type": "input_text", "text": text});
    let output = |id: &str, output| json!({"type": "function_call_output", "call_id": id, "output": output});
    assert_eq!(
        input[2..],
        [
            output("a", json!([words("Read image"), picture])),
            output("b", json!([picture])),
            json!({"role": "user", "content": [words("See"), picture]}),
        ]
    );
}

#[test]
fn a_call_that_was_cut_goes_back_without_arguments() {
    let cut = Block::ToolCall(ToolCall::from_raw("a", "bash", "{\"command\":\"ec"));
    let input = input(&[said("openai", "gpt-5", vec![cut])]);
    assert_eq!((&input[0]["arguments"], &input[1]["call_id"]), (&json!("{}"), &json!("a")));
}

#[test]
fn texts_refusals_and_thinking_stream_in() {
    let (deltas, answer) = read(&completed(vec![
        added(0, json!({"type": "reasoning", "id": "rs_1"})),
        json!({"type": "response.reasoning_summary_text.delta", "output_index": 0, "delta": "Hm"}),
        json!({"type": "response.reasoning_text.delta", "output_index": 0, "delta": "m."}),
        done(0, json!({"type": "reasoning", "id": "rs_1", "encrypted_content": "e"})),
        added(1, json!({"type": "message", "id": "msg_1", "content": []})),
        json!({"type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": "I "}),
        json!({"type": "response.refusal.delta", "output_index": 1, "content_index": 1, "delta": "won't"}),
        done(
            1,
            json!({"type": "message", "id": "msg_1", "phase": "final_answer",
            "content": [{"type": "output_text", "text": "I "}, {"type": "refusal", "refusal": "won't do."}]}),
        ),
    ]));
    assert_eq!(deltas, ["thinking Hm", "thinking m.", "text I ", "text won't", "text  do."]);
    let answer = answer.unwrap();
    let item = r#"{"type":"reasoning","id":"rs_1","encrypted_content":"e"}"#;
    let thinking = Block::Thinking { text: "Hmm.".into(), signature: Some(item.into()), redacted: false };
    let text = signed("I won't do.", &json!({"id": "msg_1", "phase": "final_answer"}));
    assert_eq!((answer.content, answer.stop), (vec![thinking, text], Stop::Stop));
}

#[test]
fn parallel_calls_whose_pieces_are_mixed_and_items_of_unknown_types() {
    let delta = |index: u64, part: &str| json!({"type": "response.function_call_arguments.delta", "output_index": index, "delta": part});
    let open = |index: u64, id: &str| {
        added(
            index,
            json!({"type": "function_call", "id": format!("fc_{id}"), "call_id": id, "name": "bash", "arguments": ""}),
        )
    };
    let answer = read(&completed(vec![
        added(0, json!({"type": "web_search_call", "id": "ws_1"})),
        json!({"type": "response.output_text.delta", "output_index": 0, "delta": "no"}),
        open(2, "b"),
        open(1, "a"),
        delta(2, "{\"command\":"),
        delta(1, "{\"command\":\"one\""),
        json!({"type": "response.mood.delta", "delta": "glad"}),
        delta(2, "\"two\"}"),
        delta(1, "}"),
        json!({"type": "response.function_call_arguments.done", "output_index": 1, "arguments": "{\"command\":\"1\"}"}),
        done(2, json!({"type": "function_call", "id": "fc_b", "call_id": "b", "name": "bash"})),
    ]));
    let answer = answer.1.unwrap();
    let calls: Vec<_> = answer.calls().map(|call| (call.id.as_str(), call.args["command"].as_str())).collect();
    assert_eq!(calls, [("a|fc_a", Some("1")), ("b|fc_b", Some("two"))]);
    assert_eq!((answer.content.len(), answer.stop), (2, Stop::ToolUse));
}

#[test]
fn ids_are_made_to_fit_and_kept_apart() {
    let call =
        |id: Value, call_id: Value| json!({"type": "function_call", "id": id, "call_id": call_id, "name": "bash"});
    let long = "c".repeat(80);
    let answer = read(&completed(vec![
        done(0, call(json!("item:1"), json!("call 1"))),
        done(1, call(json!("fc_2"), json!(long))),
        done(2, call(json!("fc_3"), json!(long))),
        done(3, call(Value::Null, json!("call_4"))),
        done(4, call(json!("fc_5"), Value::Null)),
        done(5, call(Value::Null, Value::Null)),
    ]));
    let answer = answer.1.unwrap();
    let ids: Vec<&str> = answer.calls().map(|call| call.id.as_str()).collect();
    let (whole, shorter) = ("c".repeat(64), "c".repeat(62));
    let expected =
        ["call_1|fc_item_1", &format!("{whole}|fc_2"), &format!("{shorter}_2|fc_3"), "call_4", "fc_5|fc_5", "call"];
    assert_eq!(ids, expected);
}

#[test]
fn what_is_missing_is_made_up_for() {
    // Neither numbers nor beginnings, and only the last event has everything.
    let parts = json!([{"type": "message", "content": [{"type": "output_text", "text": "All of it."}]}]);
    let last = json!({"type": "response.completed", "response": {"output": parts}});
    let (deltas, answer) = read(&sse(&[last]));
    assert_eq!((deltas, answer.unwrap().text()), (vec!["text All of it.".to_owned()], "All of it.".to_owned()));
    let delta = |id: &str, part: &str| json!({"type": "response.output_text.delta", "item_id": id, "delta": part});
    let item = json!({"type": "message", "id": "m1", "content": []});
    let answer = read(&completed(vec![
        json!({"type": "response.output_item.added", "item": item}),
        delta("m1", "He"),
        delta("m1", "llo"),
        json!({"type": "response.output_item.done", "item": item}),
    ]));
    assert_eq!(answer.1.unwrap().text(), "Hello");
    // The name of an event stands for its missing type.
    let unnamed = "event: response.output_text.delta\ndata: {\"output_index\":0,\"delta\":\"x\"}\n\n\
                   : comment\n\nevent: ping\n\nevent: response.completed\ndata: {}\n\n";
    assert_eq!(read(unnamed).1.unwrap().text(), "x");
}

#[test]
fn half_characters_and_a_long_delta() {
    let delta = |part: &str| json!({"type": "response.output_text.delta", "output_index": 0, "delta": part});
    let stream = completed(vec![delta("LONE")]).replace("LONE", r"a\ud83d!");
    assert_eq!(read(&stream).1.unwrap().text(), "a\u{fffd}!");
    let long = "ü".repeat(512 << 10);
    assert_eq!(read(&completed(vec![delta(&long)])).1.unwrap().text(), long);
}

#[test]
fn responses_that_are_not_complete() {
    let call =
        added(0, json!({"type": "function_call", "id": "fc_1", "call_id": "a", "name": "write", "arguments": ""}));
    let part =
        json!({"type": "response.function_call_arguments.delta", "output_index": 0, "delta": "{\"path\":\"/tmp"});
    let end = |reason: Value| {
        let usage = json!({"input_tokens": 5, "output_tokens": 7});
        json!({"type": "response.incomplete", "response": {"incomplete_details": {"reason": reason}, "usage": usage}})
    };
    for reason in [json!("max_output_tokens"), json!("something_new"), Value::Null] {
        let answer = read(&sse(&[call.clone(), part.clone(), end(reason)])).1.unwrap();
        assert_eq!((answer.stop, answer.usage.output_tokens), (Stop::Length, 7));
        assert!(!answer.calls().next().unwrap().complete);
    }
    let refused = read(&sse(&[end(json!("content_filter"))])).1.unwrap_err();
    assert!(refused.kind == Kind::Refusal && refused.message.contains("gpt-5"), "{refused}");
}

#[test]
fn counts_do_not_overlap() {
    let count = |usage: Value| {
        let usage = read(&sse(&[json!({"type": "response.completed", "response": {"usage": usage}})])).1.unwrap().usage;
        [usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.cache_write_tokens]
    };
    let details = json!({"cached_tokens": 30, "cache_write_tokens": 20});
    assert_eq!(
        count(json!({"input_tokens": 100, "input_tokens_details": details, "output_tokens": 9})),
        [50, 9, 30, 20]
    );
    assert_eq!(count(json!({"input_tokens": 10, "input_tokens_details": details})), [0, 0, 30, 20]);
    assert_eq!(count(json!({"input_tokens": 10, "input_tokens_details": null, "output_tokens": "x"})), [10, 0, 0, 0]);
    assert_eq!(count(Value::Null), [0, 0, 0, 0]);
}

#[test]
fn errors_inside_a_stream() {
    #[track_caller]
    fn case(event: Value, kind: Kind, words: &str) -> ModelError {
        let stream = format!("{}{}", &TOOL_TURN[..event_ends(TOOL_TURN)[4]], sse(&[event]));
        let error = read(&stream).1.unwrap_err();
        assert!(error.kind == kind && error.message.contains(words), "{:?} {error}", error.kind);
        error
    }
    let failed = |error: Value| json!({"type": "response.failed", "response": {"status": "failed", "error": error}});
    case(failed(json!({"code": "server_error", "message": "oops"})), Kind::Server, "oops");
    let text = "Rate limit reached. Please try again in 1.5s.";
    let limited = case(failed(json!({"code": "rate_limit_exceeded", "message": text})), Kind::RateLimit, "reached");
    assert_eq!(limited.wait, Some(Duration::from_millis(1500)));
    case(failed(json!({"code": "invalid_prompt", "message": "flagged"})), Kind::Refusal, "flagged");
    case(failed(json!({"code": "context_length_exceeded", "message": "too long"})), Kind::ContextOverflow, "too long");
    case(failed(json!({"code": "image_too_small", "message": "tiny"})), Kind::InvalidRequest, "tiny");
    case(failed(Value::Null), Kind::Server, "");
    let error = |code: Value| json!({"type": "error", "code": code, "message": "no", "param": null});
    case(error(json!("insufficient_quota")), Kind::Quota, "no");
    case(error(json!("brand_new")), Kind::InvalidRequest, "no");
    case(error(Value::Null), Kind::Server, "no");
    let nested = json!({"type": "error", "error": {"type": "server_error", "code": null, "message": "inner"}});
    case(nested, Kind::Server, "inner");
}

#[test]
fn errors_of_answers() {
    #[track_caller]
    fn case(given: Given, kind: Kind, words: &str) -> ModelError {
        let server = Fake::start(vec![given.header("x-request-id", "req_1")]);
        let mut table = gpt_5();
        table["idleTimeout"] = json!(1);
        let error = ask(&mut *provider(&server.url, &table, "k"), &[prompt()], &[]).1.unwrap_err();
        assert!(error.kind == kind && error.message.contains(words), "{:?} {error}", error.kind);
        error
    }
    let body = |kind: &str, code: Value, param: Value, message: &str| {
        json!({"error": {"message": message, "type": kind, "param": param, "code": code}}).to_string()
    };
    let invalid =
        |code: &str, param: &str, message: &str| body("invalid_request_error", json!(code), json!(param), message);
    let key = case(
        Given::json(401, &invalid("invalid_api_key", "", "Incorrect API key provided: k")),
        Kind::Auth,
        "Incorrect",
    );
    assert_eq!((key.status, key.request_id.as_deref()), (Some(401), Some("req_1")));
    let limited = body("requests", json!("rate_limit_exceeded"), Value::Null, "Please try again in 7.66s.");
    assert_eq!(case(Given::json(429, &limited), Kind::RateLimit, "7.66").wait, Some(Duration::from_millis(7660)));
    let limited = case(Given::json(429, &limited).header("retry-after-ms", "20"), Kind::RateLimit, "7.66");
    assert_eq!(limited.wait, Some(Duration::from_millis(20)));
    let spent = body("insufficient_quota", json!("insufficient_quota"), Value::Null, "You exceeded your quota");
    case(Given::json(429, &spent), Kind::Quota, "quota");
    let long = invalid("context_length_exceeded", "input", "Your input exceeds the context window of this model.");
    case(Given::json(400, &long), Kind::ContextOverflow, "exceeds");
    let effort = invalid("unsupported_value", "reasoning.effort", "Unsupported value: 'minimal' is not supported");
    assert_eq!(case(Given::json(400, &effort), Kind::InvalidRequest, "minimal").rejected.as_deref(), Some("reasoning"));
    let include = invalid("unsupported_parameter", "include", "Encrypted content is not supported with this model.");
    assert_eq!(case(Given::json(400, &include), Kind::InvalidRequest, "").rejected.as_deref(), Some("include"));
    let unknown = invalid("model_not_found", "model", "The model `gpt-5` does not exist");
    case(Given::json(404, &unknown), Kind::InvalidRequest, "model gpt-5: HTTP 404: The model");
    case(Given::json(503, "<html>"), Kind::Overloaded, "503");
    case(Given::json(302, ""), Kind::InvalidRequest, "302");
    case(Given::stream(&TOOL_TURN[..900]).cut(), Kind::Network, "");
    case(Given::stream(&TOOL_TURN[..900]).hang(), Kind::Network, "nothing received for 1 s");
    case(Given::stream("data: {\"type\":\n\n"), Kind::Malformed, "JSON");
    case(Given::stream("data: [1]\n\n"), Kind::Malformed, "JSON");
    case(Given::json(200, "pong"), Kind::Malformed, "neither");
    case(Given::json(200, "{}"), Kind::Malformed, "neither");
    case(Given::json(200, &body("server_error", Value::Null, Value::Null, "busy")), Kind::Server, "busy");
    let failing = sse(&[json!({"type": "error", "code": "server_error", "message": "late"})]);
    let late = case(Given::stream(failing).header("retry-after", "3"), Kind::Server, "late");
    assert_eq!((late.request_id.as_deref(), late.wait), (Some("req_1"), Some(Duration::from_secs(3))));
}

#[test]
fn a_retired_model_gets_a_replacement() {
    let server = Fake::start(vec![Given::json(404, r#"{"error":{"message":"gone"}}"#)]);
    let table = json!({"provider": "openai", "model": "gpt-4"});
    let error = ask(&mut *provider(&server.url, &table, "k"), &[prompt()], &[]).1.unwrap_err();
    assert!(error.message.ends_with("consider gpt-6-sol)"), "{error}");
}

#[test]
fn a_server_that_does_not_stream() {
    let ask_one = |answer: Value| {
        let server = Fake::start(vec![Given::json(200, &answer.to_string())]);
        ask(&mut *provider(&server.url, &gpt_5(), "k"), &[prompt()], &[])
    };
    let output = json!([
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}], "encrypted_content": "e"},
        {"type": "message", "id": "msg_1", "content": [{"type": "output_text", "text": "Hi"}]},
        {"type": "function_call", "id": "fc_1", "call_id": "a", "name": "bash", "arguments": {"command": "x"}}]);
    let usage = json!({"input_tokens": 3, "output_tokens": 4});
    let answer = json!({"object": "response", "status": "completed", "error": null, "output": output, "usage": usage});
    let (deltas, message) = ask_one(answer.clone());
    let message = message.unwrap();
    assert_eq!(deltas, ["text Hi"]);
    assert_eq!((message.stop, message.usage.output_tokens, message.content.len()), (Stop::ToolUse, 4, 3));
    assert_eq!(message.calls().next().unwrap().args["command"], "x");
    let mut cut = answer.clone();
    cut["status"] = json!("incomplete");
    assert_eq!(ask_one(cut).1.unwrap().stop, Stop::Length);
    let mut failed = answer;
    failed["status"] = json!("failed");
    failed["error"] = json!({"code": "server_error", "message": "oops"});
    assert_eq!(ask_one(failed).1.unwrap_err().kind, Kind::Server);
}
