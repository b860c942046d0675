//! `pi --mode json`: the events of its session.

use serde_json::{Map, Value};

use super::findings::Findings;
use super::{content_text, count_of, object, text_of};
use crate::wire::usage::Usage;

/// Reads the lines.
pub(super) struct Reading;

impl super::Reading for Reading {
    fn line(&mut self, line: &[u8], findings: &mut Findings<'_>) {
        let Some(event) = object(line, findings) else { return };
        let message = event.get("message").and_then(Value::as_object);
        match (text_of(&event, "type"), message) {
            ("message_end", Some(message)) if text_of(message, "role") == "assistant" => assistant(message, findings),
            ("tool_execution_start", _) => {
                let tool = text_of(&event, "toolName");
                let args = event.get("args").and_then(Value::as_object);
                let command = args.filter(|_| tool == "bash").map(|args| text_of(args, "command"));
                findings.called(text_of(&event, "toolCallId"), tool, command);
            }
            ("tool_execution_end", _) => {
                let is_error = event.get("isError").and_then(Value::as_bool).unwrap_or(false);
                let result = match event.get("result") {
                    Some(Value::Object(result)) => content_text(result.get("content")),
                    other => content_text(other),
                };
                findings.gave(text_of(&event, "toolCallId"), &result, is_error);
            }
            _ => findings.unknown(&String::from_utf8_lossy(line)),
        }
    }
}

fn assistant(message: &Map<String, Value>, findings: &mut Findings<'_>) {
    findings.used(usage(message.get("usage")));
    match text_of(message, "stopReason") {
        // It ends as a success all the same when a model call has failed.
        "error" | "aborted" => {
            findings.event();
            findings.fail(text_of(message, "errorMessage"));
        }
        _ => {
            findings.recover();
            let blocks = message.get("content").and_then(Value::as_array).into_iter().flatten();
            let text: Vec<&str> = blocks
                .filter_map(Value::as_object)
                .filter(|block| text_of(block, "type") == "text")
                .map(|block| text_of(block, "text"))
                .collect();
            findings.said(&text.join("\n"));
        }
    }
}

fn usage(counted: Option<&Value>) -> Usage {
    let cost = counted.and_then(|usage| usage.get("cost")?.get("total")?.as_f64());
    let mut usage = Usage {
        input_tokens: count_of(counted, "input"),
        output_tokens: count_of(counted, "output"),
        cache_read_tokens: count_of(counted, "cacheRead"),
        cache_write_tokens: count_of(counted, "cacheWrite"),
        cost: cost.unwrap_or(0.0),
        turn_count: 1,
        ..Usage::default()
    };
    usage.total_tokens = usage.input_tokens + usage.output_tokens + usage.cache_read_tokens + usage.cache_write_tokens;
    usage
}
