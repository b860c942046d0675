//! The end of `al run`: one result, told in a line, in JSON, or in Markdown. Pure.

use std::time::Duration;

use serde_json::{Value, json};
use shims::wire::usage::Usage;

use crate::base::clock::seconds;
use crate::base::text::{printable, thousands};

/// What the last run of `al run` came to.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    pub agent: String,
    /// `None` when nothing was started.
    pub instance: Option<String>,
    /// `completed`, `rerun` or `error`.
    pub result: &'static str,
    pub trigger: &'static str,
    /// Exit status of the container, `None` when none came to an end.
    pub exit_code: Option<i32>,
    pub duration: Duration,
    /// Reruns that took place.
    pub reruns: u32,
    pub return_value: Option<String>,
    /// Of all runs of the chain.
    pub usage: Option<Usage>,
    pub error: Option<String>,
}

impl Summary {
    /// `<instance> <result> (<elapsed>) | <tokens> tokens ($<cost>)`.
    pub fn line(&self) -> String {
        let who = self.instance.as_deref().unwrap_or(&self.agent);
        let usage = self.usage.map(|usage| format!(" | {}", usage_text(usage))).unwrap_or_default();
        format!("{who} {} ({}){usage}", self.result, seconds(self.duration))
    }

    /// The last line of `--json`.
    pub fn json(&self) -> Value {
        json!({
            "event": "result",
            "instance": self.instance,
            "result": self.result,
            "exitCode": self.exit_code,
            "durationMs": u64::try_from(self.duration.as_millis()).unwrap_or(u64::MAX),
            "reruns": self.reruns,
            "returnValue": self.return_value,
            "usage": self.usage,
            "error": self.error,
        })
    }

    /// A section for a CI job's summary page. Foreign text stands in fences that it cannot close.
    pub fn markdown(&self) -> String {
        let mut rows = vec![
            ("Instance", self.instance.clone().unwrap_or_else(|| "–".to_owned())),
            ("Trigger", self.trigger.to_owned()),
            ("Elapsed", seconds(self.duration)),
            ("Exit status", self.exit_code.map_or_else(|| "–".to_owned(), |code| code.to_string())),
        ];
        if self.reruns > 0 {
            rows.push(("Reruns", self.reruns.to_string()));
        }
        if let Some(usage) = self.usage {
            rows.push(("Turns", usage.turn_count.to_string()));
            rows.push(("Tokens", thousands(usage.total_tokens)));
            rows.push(("Cost", format!("${:.4}", usage.cost)));
        }
        let mut text = format!("## {}: {}\n\n| | |\n|---|---|\n", self.agent, self.result);
        rows.iter().for_each(|(name, value)| text += &format!("| {name} | {value} |\n"));
        if let Some(error) = &self.error {
            text += &format!("\nError:\n\n{}\n", fenced(error));
        }
        if let Some(value) = &self.return_value {
            text += &format!("\nReturned:\n\n{}\n", fenced(crate::base::text::cut(value, LONGEST_RETURN)));
        }
        text + "\n"
    }
}

/// Longest return value in a job summary, in characters.
const LONGEST_RETURN: usize = 64 * 1024;

/// `1234 tokens ($0.0456)`.
pub fn usage_text(usage: Usage) -> String {
    format!("{} tokens (${:.4})", usage.total_tokens, usage.cost)
}

fn fenced(text: &str) -> String {
    let mut longest = 0;
    let mut current = 0;
    for c in text.chars() {
        current = if c == '`' { current + 1 } else { 0 };
        longest = longest.max(current);
    }
    let fence = "`".repeat(3.max(longest + 1));
    format!("{fence}text\n{}\n{fence}", printable(text.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> Summary {
        Summary {
            agent: "dev".into(),
            instance: Some("dev-00000001".into()),
            result: "completed",
            trigger: "manual",
            exit_code: Some(0),
            duration: Duration::from_millis(5234),
            usage: Some(Usage { total_tokens: 1234, cost: 0.0456, turn_count: 3, ..Usage::default() }),
            return_value: Some("a ``` b".into()),
            ..Summary::default()
        }
    }

    #[test]
    fn one_line() {
        assert_eq!(summary().line(), "dev-00000001 completed (5.2s) | 1234 tokens ($0.0456)");
        let failed = Summary { instance: None, usage: None, result: "error", ..summary() };
        assert_eq!(failed.line(), "dev error (5.2s)");
    }

    #[test]
    fn json_has_all_members_in_order() {
        let json = Summary { usage: None, ..summary() }.json().to_string();
        assert_eq!(
            json,
            r#"{"event":"result","instance":"dev-00000001","result":"completed","exitCode":0,"durationMs":5234,"reruns":0,"returnValue":"a ``` b","usage":null,"error":null}"#
        );
    }

    #[test]
    fn foreign_text_cannot_close_its_fence() {
        assert!(summary().markdown().contains("````text\na ``` b\n````"));
    }
}
