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

mod answers;
mod conversation;
mod failures;
mod requests;

const FIRST_REQUEST: &str = include_str!("../../testdata/chat-request.json");
const SECOND_MESSAGES: &str = include_str!("../../testdata/chat-messages-2.json");
const TOOL_TURN: &str = include_str!("../../testdata/chat.sse");
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
