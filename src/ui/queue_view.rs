//! The table of `al queue` (scheduler.md §15.4). Pure.

use std::time::Duration;

use serde_json::Value;

use super::stat_view::rough;
use super::table::aligned;
use crate::base::clock::UnixMs;

const COLUMNS: [&str; 8] = ["ID", "AGENT", "KIND", "SOURCE", "STATE", "ATTEMPTS", "AGE", "ERROR"];

/// Work items as the HTTP API gives them, one per line.
pub fn items(items: &[Value], now: UnixMs) -> String {
    let mut lines = vec![COLUMNS.map(str::to_owned)];
    lines.extend(items.iter().map(|item| cells(item, now)));
    aligned(&lines)
}

fn cells(item: &Value, now: UnixMs) -> [String; 8] {
    let text = |name: &str| item.get(name).map(plain).unwrap_or_default();
    let age = item.get("enqueuedAt").and_then(Value::as_str).and_then(UnixMs::parse_iso);
    let age = age.map_or_else(String::new, |at| rough(Duration::from_secs(now.since(at).as_secs())));
    let error = match (text("reason"), text("lastError")) {
        (reason, error) if error.is_empty() => reason,
        (reason, error) if reason.is_empty() => error,
        (reason, error) => format!("{reason}: {error}"),
    };
    [text("id"), text("agent"), text("kind"), text("source"), text("state"), text("attempts"), age, error]
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let found = [
            json!({"id": 12, "agent": "dev", "kind": "webhook", "source": "issues", "state": "dead", "attempts": 3,
                "enqueuedAt": "2026-01-02T03:04:05.000Z", "reason": "attempts_exhausted", "lastError": "image\nnot found"}),
            json!({"id": 7, "agent": "a-longer-name", "kind": "manual", "source": "", "state": "queued", "attempts": 0,
                "enqueuedAt": "2026-01-02T05:00:00.000Z", "reason": null, "lastError": null}),
            json!({"id": 6, "agent": "x\u{1b}[2J", "kind": "call", "source": "dev", "state": "failed", "attempts": 1,
                "enqueuedAt": "soon", "reason": "killed", "lastError": "e".repeat(100)}),
        ];
        let now = UnixMs::parse_iso("2026-01-02T05:04:05.000Z").unwrap();
        expect![[r#"
            ID  AGENT          KIND     SOURCE  STATE   ATTEMPTS  AGE   ERROR
            12  dev            webhook  issues  dead    3         2h0m  attempts_exhausted: image not found
            7   a-longer-name  manual           queued  0         4m5s
            6   x�[2J          call     dev     failed  1               killed: eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee…
        "#]]
        .assert_eq(&items(&found, now));
    }
}
