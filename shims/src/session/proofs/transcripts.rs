//! Pieces of the published transcripts that belong to no whole conversation, each in a session (agent-session.md §10.7,
//! §12.8).

use std::time::Duration;

use serde_json::{Value, json};

use super::super::error::Kind;
use super::{Fake, Format, Given, RetryPhase, hold};

const REASONING: &str = r#"{"id": "gen-1", "object": "chat.completion.chunk", "created": 1773929730, "model": "openai/gpt-oss-120b", "choices": [{"index": 0, "delta": {"reasoning": "The user wants "}, "finish_reason": null}]}"#;
const BROKEN: &str = r#"{"id": "gen-2", "object": "chat.completion.chunk", "created": 1773929731, "model": "anthropic/claude-sonnet-4.5", "error": {"code": 502, "message": "Provider returned error", "metadata": {"provider_name": "Anthropic", "raw": "upstream closed"}}, "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]}"#;
const MISTRAL: &str = r#"{"id": "cmpl-1", "object": "chat.completion.chunk", "created": 1773929730, "model": "mistral-large-2411", "choices": [{"index": 0, "delta": {"content": "", "tool_calls": [{"id": "D681PevKs", "function": {"name": "bash", "arguments": "{\"command\": \"uptime\"}"}, "index": 0}]}, "finish_reason": "tool_calls"}], "usage": {"prompt_tokens": 94, "completion_tokens": 20, "total_tokens": 114}}"#;

fn chat(chunks: &[&str]) -> String {
    chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect()
}

#[test]
fn thinking_goes_back_under_the_name_that_it_came_with() {
    let first = chat(&[REASONING, &REASONING.replace("The user wants ", "the load.")]);
    let first = first + &Format::Chat.calls(&["echo load"]);
    for size in [1, 7, 4096] {
        let server = Fake::start(vec![
            Given::stream(first.as_str()).in_pieces(size),
            Given::stream(Format::Chat.hello()).in_pieces(size),
        ]);
        let mut table = Format::Chat.table(&server.url);
        table["model"] = "openai/gpt-oss-120b".into();
        let seen = hold(table);
        assert_eq!((seen.text.as_str(), seen.tools), ("Hello.", 1), "{:?}", seen.failures);
        let expected = json!([
            {"role": "assistant", "content": null, "reasoning": "The user wants the load.",
             "tool_calls": [{"id": "call_0", "type": "function",
                "function": {"name": "bash", "arguments": "{\"command\":\"echo load\"}"}}]},
            {"role": "tool", "tool_call_id": "call_0", "content": "load\n"}]);
        let messages = server.received()[1].body["messages"].as_array().unwrap()[2..].to_vec();
        assert_eq!(Value::Array(messages), expected);
    }
}

#[test]
fn an_error_of_a_server_behind_openrouter_ends_the_stream() {
    let begun = chat(&[REASONING]);
    for size in [1, 7, 4096] {
        let server = Fake::start(vec![Given::stream(begun.clone() + &chat(&[BROKEN])).in_pieces(size)]);
        let mut table = Format::Chat.table(&server.url);
        (table["provider"], table["model"]) = ("openrouter".into(), "anthropic/claude-sonnet-4.5".into());
        let seen = hold(table);
        let error = seen.assert_retried_soon("gen-2");
        let expected = (Kind::Server, "Provider returned error: upstream closed");
        assert_eq!((error.kind, error.message.as_str()), expected);
        assert_eq!(seen.text, "");
    }
}

#[test]
fn an_overload_inside_a_stream_is_waited_for() {
    let overloaded = include_str!("../providers/testdata/anthropic-error.sse");
    let begun = Format::Anthropic.tool_turn();
    let begun = &begun[..begun.find("event: message_delta").unwrap()];
    for (stream, size) in [(overloaded.to_owned(), 1), (format!("{begun}{overloaded}"), 7)] {
        let server = Fake::start(vec![Given::stream(stream).in_pieces(size)]);
        let seen = hold(Format::Anthropic.table(&server.url));
        let [error] = &seen.failures[..] else { panic!("{:?}", seen.failures) };
        assert_eq!((error.kind, error.message.as_str()), (Kind::Overloaded, "Overloaded"));
        assert_eq!(seen.wait, Some((RetryPhase::Fast, Duration::from_secs(2))));
        assert_eq!((seen.text.as_str(), seen.tools), ("", 0), "nothing of it counts, and no tool has run");
    }
}

#[test]
fn mistral_gives_a_call_whole_and_wants_its_tool_named() {
    for size in [1, 7, 4096] {
        let first = chat(&[MISTRAL, "[DONE]"]);
        let server = Fake::start(vec![Given::stream(first).in_pieces(size), Given::stream(Format::Chat.hello())]);
        let mut table = Format::Chat.table(&server.url);
        (table["provider"], table["model"]) = ("mistral".into(), "mistral-large-2411".into());
        let seen = hold(table);
        assert_eq!((seen.text.as_str(), seen.tools), ("Hello.", 1), "{:?}", seen.failures);
        let used = (seen.usage.input_tokens, seen.usage.output_tokens, seen.usage.turn_count);
        assert_eq!(used, (94 + 12, 20 + 9, 2));
        let messages = server.received()[1].body["messages"].as_array().unwrap()[2..].to_vec();
        let call = json!({"id": "D681PevKs", "type": "function",
            "function": {"name": "bash", "arguments": "{\"command\":\"uptime\"}"}});
        assert_eq!(messages[0], json!({"role": "assistant", "content": null, "tool_calls": [call]}));
        let result = json!({"role": "tool", "tool_call_id": "D681PevKs", "name": "bash",
            "content": messages[1]["content"]});
        assert_eq!(messages[1..], [result]);
    }
}
