//! What a turn of a mock script expects of the request it answers.

use serde::Deserialize;

use crate::session::message::{Content, Message, ToolResult};
use crate::session::provider::Request;
use crate::text::cut;

/// Characters of what was seen that a failure shows.
const SEEN_LIMIT: usize = 200;

/// Assertions, all optional.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Expect {
    prompt_contains: Option<String>,
    system_contains: Option<String>,
    last_result_contains: Option<String>,
    last_result_not_contains: Option<String>,
    is_error: Option<bool>,
    results: Option<usize>,
    messages_max: Option<usize>,
}

impl Expect {
    /// The first expectation that does not hold: which, what was expected, what was seen.
    pub(super) fn failure(&self, request: &Request<'_>) -> Option<String> {
        let prompt = prompt(request.messages);
        let result = last_result(request.messages);
        let result_text = result.map(ToolResult::text);
        let (count, messages) = (trailing_results(request.messages), request.messages.len());
        let contains = |name, wanted: &Option<String>, seen: Option<&str>| {
            let wanted = wanted.as_deref()?;
            (!seen?.contains(wanted)).then(|| report(name, &format!("{wanted:?}"), &quoted(seen)))
        };
        let result_contains = || {
            let wanted = self.last_result_contains.as_deref()?;
            let found = result_text.as_deref().is_some_and(|text| text.contains(wanted));
            (!found).then(|| report("last_result_contains", &format!("{wanted:?}"), &quoted(result_text.as_deref())))
        };
        let result_lacks = || {
            let unwanted = self.last_result_not_contains.as_deref()?;
            let seen = result_text.as_deref().filter(|text| text.contains(unwanted))?;
            Some(report("last_result_not_contains", &format!("no {unwanted:?}"), &quoted(Some(seen))))
        };
        let status = || {
            let wanted = self.is_error?;
            let seen = result.map_or_else(|| "no tool result".into(), |result| result.is_error.to_string());
            (seen != wanted.to_string()).then(|| report("is_error", &wanted.to_string(), &seen))
        };
        let results = || {
            let wanted = self.results.filter(|wanted| *wanted != count)?;
            Some(report("results", &wanted.to_string(), &count.to_string()))
        };
        let most = || {
            let most = self.messages_max.filter(|most| *most < messages)?;
            Some(report("messages_max", &format!("at most {most}"), &messages.to_string()))
        };
        contains("prompt_contains", &self.prompt_contains, Some(&prompt))
            .or_else(|| contains("system_contains", &self.system_contains, Some(request.system)))
            .or_else(result_contains)
            .or_else(result_lacks)
            .or_else(status)
            .or_else(results)
            .or_else(most)
    }
}

fn report(name: &str, expected: &str, seen: &str) -> String {
    format!("expect.{name}: expected {expected}, seen {seen}")
}

fn quoted(seen: Option<&str>) -> String {
    seen.map_or_else(|| "no tool result".into(), |seen| format!("{:?}", cut(seen, SEEN_LIMIT)))
}

/// Text of the first user message.
pub(super) fn prompt(messages: &[Message]) -> String {
    let first = messages.iter().find_map(|message| match message {
        Message::User(parts) => Some(parts),
        _ => None,
    });
    let texts = first.into_iter().flatten().filter_map(|part| match part {
        Content::Text(text) => Some(text.as_str()),
        Content::Image(_) => None,
    });
    texts.collect::<Vec<_>>().join("\n")
}

/// The newest tool result.
pub(super) fn last_result(messages: &[Message]) -> Option<&ToolResult> {
    messages.iter().rev().find_map(|message| match message {
        Message::ToolResult(result) => Some(result),
        _ => None,
    })
}

/// How many results the conversation ends with: those that are sent together.
fn trailing_results(messages: &[Message]) -> usize {
    messages.iter().rev().take_while(|message| matches!(message, Message::ToolResult(_))).count()
}
