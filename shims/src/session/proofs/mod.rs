//! What every wire format has to withstand: whole sessions and single requests with servers that are slow, that break
//! off, that refuse, or that answer in another way than asked (agent-session.md §8, §9).

use std::time::Duration;

use serde_json::{Value, json};

use super::error::ModelError;
use super::event::{Event, RetryPhase};
use super::fake::{Fake, Given};
use super::message::Assistant;
use super::provider::Provider;
use super::providers::bench;
use super::{End, Input, ModelChoice, Surroundings, ToolGroups, providers, run};
use crate::cancel::Cancel;
use crate::env::Environment;
use crate::secret::{Masker, Secret};
use crate::wire::config::Limits;
use crate::wire::usage::Usage;

mod addresses;
mod answers;
mod cuts;
mod framing;
mod malformed;
mod models;
mod patience;
mod permissions;
mod recovery;
mod refusals;
mod secrets;
mod transcripts;
mod waits;

/// A wire format, with the provider and the model of its transcript.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Anthropic,
    Responses,
    Chat,
    Google,
}

impl Format {
    const ALL: [Self; 4] = [Self::Anthropic, Self::Responses, Self::Chat, Self::Google];

    /// The model table for a server that speaks it. A second of silence is too much.
    fn table(self, url: &str) -> Value {
        let (provider, model) = match self {
            Self::Anthropic => ("anthropic", "claude-sonnet-4-20250514"),
            Self::Responses => ("openai", "gpt-5"),
            Self::Chat => ("groq", "llama-3.3-70b-versatile"),
            Self::Google => ("google", "gemini-2.5-pro"),
        };
        json!({"provider": provider, "model": model, "baseUrl": url, "idleTimeout": 1})
    }

    /// The response of the transcript, which calls tools.
    fn tool_turn(self) -> &'static str {
        match self {
            Self::Anthropic => include_str!("../providers/testdata/anthropic.sse"),
            Self::Responses => include_str!("../providers/testdata/responses.sse"),
            Self::Chat => include_str!("../providers/testdata/chat.sse"),
            Self::Google => include_str!("../providers/testdata/google.sse"),
        }
    }

    /// A response that says `Hello.` in two pieces and has used 12 and 9 tokens.
    fn hello(self) -> String {
        match self {
            Self::Anthropic => sse(&[
                json!({"type": "message_start", "message": {"usage": {"input_tokens": 12, "output_tokens": 1}}}),
                json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
                json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}}),
                json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo."}}),
                json!({"type": "content_block_stop", "index": 0}),
                json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}}),
                json!({"type": "message_stop"}),
            ]),
            Self::Responses => sse(&[
                json!({"type": "response.output_item.added", "output_index": 0, "item": {"type": "message",
                    "id": "msg_1", "content": []}}),
                json!({"type": "response.output_text.delta", "output_index": 0, "delta": "Hel"}),
                json!({"type": "response.output_text.delta", "output_index": 0, "delta": "lo."}),
                json!({"type": "response.output_item.done", "output_index": 0, "item": {"type": "message",
                    "id": "msg_1", "content": [{"type": "output_text", "text": "Hello."}]}}),
                json!({"type": "response.completed", "response": {"usage": {"input_tokens": 12, "output_tokens": 9}}}),
            ]),
            Self::Chat => {
                sse(&[
                    json!({"choices": [{"index": 0, "delta": {"content": "Hel"}}]}),
                    json!({"choices": [{"index": 0, "delta": {"content": "lo."}}]}),
                    json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}),
                    json!({"choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": 9, "total_tokens": 21}}),
                ]) + "data: [DONE]\n\n"
            }
            Self::Google => sse(&[
                json!({"candidates": [{"content": {"role": "model", "parts": [{"text": "Hel"}]}}]}),
                json!({"candidates": [{"content": {"role": "model", "parts": [{"text": "lo."}]}, "finishReason": "STOP"}],
                    "usageMetadata": {"promptTokenCount": 12, "candidatesTokenCount": 9}}),
            ]),
        }
    }

    /// The same response from a server that does not stream.
    fn whole(self) -> Value {
        match self {
            Self::Anthropic => json!({"type": "message", "role": "assistant", "stop_reason": "end_turn",
                "content": [{"type": "text", "text": "Hello."}], "usage": {"input_tokens": 12, "output_tokens": 9}}),
            Self::Responses => json!({"object": "response", "status": "completed", "error": null,
                "output": [{"type": "message", "id": "msg_1", "content": [{"type": "output_text", "text": "Hello."}]}],
                "usage": {"input_tokens": 12, "output_tokens": 9}}),
            Self::Chat => json!({"object": "chat.completion", "choices": [{"index": 0, "finish_reason": "stop",
                "message": {"role": "assistant", "content": "Hello."}}],
                "usage": {"prompt_tokens": 12, "completion_tokens": 9, "total_tokens": 21}}),
            Self::Google => json!({"candidates": [{"content": {"role": "model", "parts": [{"text": "Hello."}]},
                "finishReason": "STOP"}], "usageMetadata": {"promptTokenCount": 12, "candidatesTokenCount": 9}}),
        }
    }

    /// A response that calls bash with each of these commands; the calls have ids `call_0` and so on.
    fn calls(self, commands: &[&str]) -> String {
        let calls =
            commands.iter().enumerate().map(|(at, command)| (at, format!("call_{at}"), json!({"command": command})));
        match self {
            Self::Anthropic => {
                let mut events = vec![json!({"type": "message_start", "message": {"usage": {"input_tokens": 12}}})];
                events.extend(calls.map(|(at, id, args)| {
                    json!({"type": "content_block_start", "index": at,
                    "content_block": {"type": "tool_use", "id": id, "name": "bash", "input": args}})
                }));
                events.push(json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}}));
                events.push(json!({"type": "message_stop"}));
                sse(&events)
            }
            Self::Responses => {
                let mut events: Vec<Value> = calls
                    .map(|(at, id, args)| {
                        json!({"type": "response.output_item.done", "output_index": at, "item":
                        {"type": "function_call", "id": format!("fc_{at}"), "call_id": id, "name": "bash",
                         "arguments": args.to_string()}})
                    })
                    .collect();
                events.push(json!({"type": "response.completed", "response": {}}));
                sse(&events)
            }
            Self::Chat => {
                let calls: Vec<Value> = calls
                    .map(|(at, id, args)| {
                        json!({"index": at, "id": id,
                        "function": {"name": "bash", "arguments": args.to_string()}})
                    })
                    .collect();
                sse(&[json!({"choices": [{"delta": {"tool_calls": calls}, "finish_reason": "tool_calls"}]})])
            }
            Self::Google => {
                let parts: Vec<Value> =
                    calls.map(|(_, _, args)| json!({"functionCall": {"name": "bash", "args": args}})).collect();
                sse(&[json!({"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}]})])
            }
        }
    }
}

/// Events as they are streamed.
fn sse(events: &[Value]) -> String {
    let event = |event: &Value| match event["type"].as_str() {
        Some(name) => format!("event: {name}\ndata: {event}\n\n"),
        None => format!("data: {event}\n\n"),
    };
    events.iter().map(event).collect()
}

/// What a session came to.
struct Seen {
    end: End,
    text: String,
    usage: Usage,
    /// Every attempt that failed.
    failures: Vec<ModelError>,
    /// The first wait for another attempt, after which the session is cancelled.
    wait: Option<(RetryPhase, Duration)>,
    notices: Vec<String>,
    /// How many tools have run.
    tools: usize,
}

/// Holds a session to its end, or to the first wait for another attempt.
fn hold(table: Value) -> Seen {
    hold_in(Surroundings::Container, table)
}

fn hold_in(surroundings: Surroundings, table: Value) -> Seen {
    hold_while(surroundings, table, |_| false)
}

/// As [`hold_in`], but with the waits that `patient` lets pass.
fn hold_while(surroundings: Surroundings, table: Value, patient: impl Fn(Duration) -> bool) -> Seen {
    let dir = tempfile::tempdir().unwrap();
    let cancel = Cancel::new();
    let input = Input {
        system: "You are an autonomous agent.".into(),
        models: vec![choice(table)],
        tool_dir: dir.path().into(),
        tmp_dir: dir.path().into(),
        environment: Environment::of_process(),
        exit_file: None,
        deadline: None,
        time_limit: None,
        limits: Limits::default(),
        secrets: Masker::default(),
        tool_groups: ToolGroups::default(),
        surroundings,
    };
    let (mut failures, mut wait, mut notices, mut tools) = (Vec::new(), None, Vec::new(), 0);
    let prompt = "You have been triggered manually.".to_owned();
    let outcome = run(input, prompt, cancel.clone(), &mut |event: Event<'_>| match event {
        Event::AttemptFailed(error) => failures.push(error.clone()),
        Event::RetryStart(retry) if !patient(retry.delay) => {
            wait = Some((retry.phase, retry.delay));
            cancel.cancel();
        }
        Event::Notice(notice) => notices.push(format!("{notice:?}")),
        Event::ToolStart(_) => tools += 1,
        _ => {}
    });
    Seen { end: outcome.end, text: outcome.text, usage: outcome.usage, failures, wait, notices, tools }
}

impl Seen {
    #[track_caller]
    fn assert_hello(&self, what: &str) {
        assert!(matches!(self.end, End::Completed), "{what}: {:?}", self.end);
        let used = (self.usage.input_tokens, self.usage.output_tokens, self.usage.turn_count);
        assert_eq!((self.text.as_str(), used, self.failures.len()), ("Hello.", (12, 9, 1), 0), "{what}");
    }

    /// The one failure, after which the same request is about to be sent again.
    #[track_caller]
    fn assert_retried_soon(&self, what: &str) -> &ModelError {
        let [error] = &self.failures[..] else { panic!("{what}: {:?} {:?}", self.end, self.failures) };
        let Some((RetryPhase::Fast, delay)) = self.wait else { panic!("{what}: {:?} {error:?}", self.wait) };
        assert!((375..=500).contains(&delay.as_millis()), "{what}: {delay:?}");
        error
    }
}

fn choice(table: Value) -> ModelChoice {
    ModelChoice { config: serde_json::from_value(table).unwrap(), key: Some(Secret::new("key-for-tests")) }
}

/// A model ready to be asked.
fn connect(table: Value) -> Box<dyn Provider> {
    providers::connect(&choice(table), &Environment::default(), &mut |_| {}).unwrap_or_else(|error| panic!("{error}"))
}

/// What one request brings: deltas as text, and the result.
fn ask(provider: &mut dyn Provider) -> (Vec<String>, Result<Assistant, ModelError>) {
    bench::ask(provider, &[bench::prompt()], &[])
}

/// What comes of one answer.
fn asked(format: Format, given: Given) -> (Vec<String>, Result<Assistant, ModelError>) {
    let server = Fake::start(vec![given]);
    ask(&mut *connect(format.table(&server.url)))
}
