//! The context of a webhook: what an agent is told about a delivery (gateway.md §19). Pure.

use serde_json::{Map, Value};

use crate::base::clock::UnixMs;
use crate::base::text::cut;

/// Longest `title`, `body` or `comment`, in characters.
const LONGEST_TEXT: usize = 4000;
/// Longest other text, in characters.
const LONGEST_WORD: usize = 1000;
/// Most labels that are kept.
const MOST_LABELS: usize = 100;

/// Members after `source` and `event`, in their order.
const MEMBERS: [&str; 15] = [
    "action",
    "repo",
    "sender",
    "timestamp",
    "number",
    "title",
    "body",
    "url",
    "author",
    "assignee",
    "labels",
    "branch",
    "conclusion",
    "comment",
    "receiptId",
];

/// A context written by hand, brought into form: members in their order, texts cut, what is missing filled in, what has
/// the wrong type left out.
///
/// # Errors
/// When `source` or `event` is missing; says so.
pub fn from_json(given: &Map<String, Value>, now: UnixMs) -> Result<Map<String, Value>, String> {
    let mut context = Map::new();
    for name in ["source", "event"] {
        match given.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()) {
            Some(text) => context.insert(name.to_owned(), shortened(text, LONGEST_WORD)),
            None => return Err(format!("`{name}` is missing or not a text")),
        };
    }
    for name in MEMBERS {
        if let Some(value) = member(name, given.get(name), now) {
            context.insert(name.to_owned(), value);
        }
    }
    Ok(context)
}

fn member(name: &str, value: Option<&Value>, now: UnixMs) -> Option<Value> {
    let text = value.and_then(Value::as_str).filter(|text| !text.is_empty());
    match name {
        "number" => value.and_then(Value::as_i64).map(Value::from),
        "labels" => {
            let labels = value?.as_array()?.iter().filter_map(Value::as_str).filter(|label| !label.is_empty());
            Some(labels.take(MOST_LABELS).map(|label| shortened(label, LONGEST_WORD)).collect())
        }
        "title" | "body" | "comment" => text.map(|text| shortened(text, LONGEST_TEXT)),
        "repo" | "sender" => Some(shortened(text.unwrap_or_default(), LONGEST_WORD)),
        "timestamp" => Some(text.map_or_else(|| now.to_iso().into(), |text| shortened(text, LONGEST_WORD))),
        "receiptId" => Some(shortened(text.unwrap_or("local"), LONGEST_WORD)),
        _ => text.map(|text| shortened(text, LONGEST_WORD)),
    }
}

fn shortened(text: &str, limit: usize) -> Value {
    let kept = cut(text, limit);
    if kept.len() < text.len() { Value::from(format!("{kept}...")) } else { Value::from(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(given: Value) -> Result<Value, String> {
        from_json(given.as_object().unwrap(), UnixMs(1_767_323_045_000)).map(Value::Object)
    }

    #[test]
    fn fills_in_what_is_missing_and_keeps_the_order() {
        let context = read(json!({"event": "issues", "source": "github", "number": 42, "assignee": 7, "title": ""}));
        assert_eq!(
            context.unwrap().to_string(),
            r#"{"source":"github","event":"issues","repo":"","sender":"","timestamp":"2026-01-02T03:04:05.000Z","number":42,"receiptId":"local"}"#
        );
    }

    #[test]
    fn long_texts_are_cut() {
        let context =
            read(json!({"event": "x", "source": "y", "body": "ü".repeat(4001), "labels": ["a", "", 3]})).unwrap();
        assert_eq!(context["body"].as_str().unwrap().chars().count(), 4003);
        assert_eq!(context["labels"], json!(["a"]));
    }

    #[test]
    fn source_and_event_are_mandatory() {
        assert!(read(json!({"event": "x"})).unwrap_err().contains("source"));
        assert!(read(json!({"source": "x", "event": 1})).unwrap_err().contains("event"));
    }
}
