//! `codex exec --json`: items that begin and end, and turns with their usage.

use serde_json::{Map, Value};

use super::findings::Findings;
use super::{count_of, object, text_of};
use crate::wire::usage::Usage;

/// Reads the lines.
pub(super) struct Reading;

impl super::Reading for Reading {
    fn line(&mut self, line: &[u8], findings: &mut Findings<'_>) {
        let Some(event) = object(line, findings) else { return };
        let item = event.get("item").and_then(Value::as_object);
        match (text_of(&event, "type"), item) {
            ("item.started", Some(item)) if kind(item) == "command_execution" => start(item, findings),
            ("item.completed", Some(item)) => completed(item, line, findings),
            ("turn.completed", _) => {
                // Errors that it got over are none.
                findings.recover();
                findings.event();
                findings.used(usage(event.get("usage")));
            }
            ("turn.failed", _) => {
                findings.event();
                let error = event.get("error").and_then(Value::as_object);
                findings.fail(error.map_or("", |error| text_of(error, "message")));
            }
            ("error", _) => {
                findings.event();
                findings.fail(text_of(&event, "message"));
            }
            _ => findings.unknown(&String::from_utf8_lossy(line)),
        }
    }
}

/// Older versions call it otherwise.
fn kind(item: &Map<String, Value>) -> &str {
    match text_of(item, "type") {
        "" => text_of(item, "item_type"),
        kind => kind,
    }
}

fn start(item: &Map<String, Value>, findings: &mut Findings<'_>) {
    findings.called(text_of(item, "id"), "bash", Some(text_of(item, "command")));
}

fn completed(item: &Map<String, Value>, line: &[u8], findings: &mut Findings<'_>) {
    match kind(item) {
        "agent_message" | "assistant_message" => findings.said(text_of(item, "text")),
        "command_execution" => {
            let id = text_of(item, "id");
            if !findings.awaits(id) {
                start(item, findings);
            }
            let code = item.get("exit_code").and_then(Value::as_i64);
            let failed = code.map_or(text_of(item, "status") == "failed", |code| code != 0);
            findings.gave(id, text_of(item, "aggregated_output"), failed);
        }
        _ => findings.unknown(&String::from_utf8_lossy(line)),
    }
}

/// What was read from the cache is part of the input here.
fn usage(counted: Option<&Value>) -> Usage {
    let cached = count_of(counted, "cached_input_tokens");
    let mut usage = Usage {
        input_tokens: count_of(counted, "input_tokens").saturating_sub(cached),
        output_tokens: count_of(counted, "output_tokens"),
        cache_read_tokens: cached,
        turn_count: 1,
        ..Usage::default()
    };
    usage.total_tokens = usage.input_tokens + usage.output_tokens + usage.cache_read_tokens;
    usage
}
