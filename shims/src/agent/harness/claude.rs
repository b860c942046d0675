//! `claude --output-format stream-json`: an object per line, messages as in Anthropic's API.

use serde_json::{Map, Value};

use super::findings::Findings;
use super::{content_text, count_of, object, text_of};
use crate::wire::usage::Usage;

/// Reads the lines.
#[derive(Default)]
pub(super) struct Reading {
    /// The message that the last line belongs to: each of its blocks comes in a line of its own, with the same usage.
    message: String,
}

impl super::Reading for Reading {
    fn line(&mut self, line: &[u8], findings: &mut Findings<'_>) {
        let Some(event) = object(line, findings) else { return };
        match text_of(&event, "type") {
            "assistant" => self.assistant(&event, findings),
            "user" => user(&event, findings),
            "result" => result(&event, findings),
            _ => findings.unknown(&String::from_utf8_lossy(line)),
        }
    }
}

impl Reading {
    fn assistant(&mut self, event: &Map<String, Value>, findings: &mut Findings<'_>) {
        let Some(message) = event.get("message").and_then(Value::as_object) else { return };
        for block in blocks(message) {
            match text_of(block, "type") {
                "text" => findings.said(text_of(block, "text")),
                "tool_use" => {
                    let name = text_of(block, "name");
                    let input = block.get("input").and_then(Value::as_object);
                    let command = input.filter(|_| name == "Bash").map(|input| text_of(input, "command"));
                    findings.called(text_of(block, "id"), name, command);
                }
                _ => {}
            }
        }
        let id = text_of(message, "id");
        if id.is_empty() || id != self.message {
            self.message = id.to_owned();
            findings.used(Usage { turn_count: 1, ..usage(message.get("usage")) });
        }
    }
}

fn user(event: &Map<String, Value>, findings: &mut Findings<'_>) {
    let Some(message) = event.get("message").and_then(Value::as_object) else { return };
    for block in blocks(message).filter(|block| text_of(block, "type") == "tool_result") {
        let is_error = block.get("is_error").and_then(Value::as_bool).unwrap_or(false);
        findings.gave(text_of(block, "tool_use_id"), &content_text(block.get("content")), is_error);
    }
}

fn result(event: &Map<String, Value>, findings: &mut Findings<'_>) {
    findings.event();
    let mut total = match event.get("usage") {
        Some(counted) => usage(Some(counted)),
        None => findings.usage(),
    };
    total.turn_count = event.get("num_turns").and_then(Value::as_u64).unwrap_or(findings.usage().turn_count);
    total.cost = event.get("total_cost_usd").and_then(Value::as_f64).unwrap_or(total.cost);
    findings.used_altogether(total);
    match event.get("is_error").and_then(Value::as_bool) {
        Some(true) => {
            let why = [text_of(event, "result"), text_of(event, "subtype")];
            findings.fail(why.into_iter().find(|why| !why.is_empty()).unwrap_or_default());
        }
        _ => findings.recover(),
    }
}

fn blocks(message: &Map<String, Value>) -> impl Iterator<Item = &Map<String, Value>> {
    message.get("content").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object)
}

fn usage(counted: Option<&Value>) -> Usage {
    let mut usage = Usage {
        input_tokens: count_of(counted, "input_tokens"),
        output_tokens: count_of(counted, "output_tokens"),
        cache_read_tokens: count_of(counted, "cache_read_input_tokens"),
        cache_write_tokens: count_of(counted, "cache_creation_input_tokens"),
        ..Usage::default()
    };
    usage.total_tokens = usage.input_tokens + usage.output_tokens + usage.cache_read_tokens + usage.cache_write_tokens;
    usage
}
