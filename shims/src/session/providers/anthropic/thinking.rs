//! How much a model is told to think (agent-session.md §10.4).

use super::request::ThinkingParam;
use crate::session::registry::Thinking;

/// Smallest thinking budget that the API takes.
const LEAST_BUDGET: u64 = 1024;

/// Tokens of thinking for models that think by budget.
pub(super) fn budget(level: Thinking) -> Option<u64> {
    match level {
        Thinking::Off => None,
        Thinking::Minimal => Some(1024),
        Thinking::Low => Some(2048),
        Thinking::Medium => Some(8192),
        Thinking::High | Thinking::XHigh => Some(16_384),
    }
}

/// A budget must leave room for the answer, and must not be too small.
pub(super) fn fit(budget: u64, max_tokens: u64) -> Option<ThinkingParam> {
    let budget = if max_tokens <= budget { max_tokens.saturating_sub(1024) } else { budget };
    (budget >= LEAST_BUDGET).then_some(ThinkingParam::Enabled { budget_tokens: budget })
}

/// What models that decide themselves how much to think are told.
pub(super) fn adaptive(id: &str, level: Thinking) -> (Option<ThinkingParam>, Option<&'static str>) {
    let effort = match level {
        // Models up to 4.8 think only when they are told to, later ones unless they are told not to.
        Thinking::Off if version(id).is_some_and(|version| version <= (4, 8)) => return (None, None),
        Thinking::Off => return (Some(ThinkingParam::Disabled), Some("low")),
        Thinking::Minimal | Thinking::Low => "low",
        Thinking::Medium => "medium",
        Thinking::High => "high",
        Thinking::XHigh if id.contains("opus-4-6") => "max",
        Thinking::XHigh if id.contains("sonnet-4-6") => "high",
        Thinking::XHigh => "xhigh",
    };
    (Some(ThinkingParam::Adaptive), Some(effort))
}

/// Major and minor version in an id like `claude-opus-4-6` or `claude-opus-4-20250514`: numbers that are no dates.
fn version(id: &str) -> Option<(u32, u32)> {
    let number = |part: &str| part.parse().ok().filter(|_| part.len() <= 2);
    let mut parts = id.split(['-', '.']).map(number).skip_while(Option::is_none);
    Some((parts.next()??, parts.next().flatten().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_not_dates() {
        for (id, expected) in [
            ("claude-opus-4-6", Some((4, 6))),
            ("claude-sonnet-5", Some((5, 0))),
            ("claude-opus-4-20250514", Some((4, 0))),
            ("claude-opus-4-6-20260114", Some((4, 6))),
            ("claude-3-7-sonnet-latest", Some((3, 7))),
            ("proxy/claude-opus-4.7", Some((4, 7))),
            ("claude-next", None),
        ] {
            assert_eq!(version(id), expected, "{id}");
        }
    }

    #[test]
    fn a_budget_shrinks_with_the_room() {
        let tokens = |budget, max_tokens| match fit(budget, max_tokens) {
            Some(ThinkingParam::Enabled { budget_tokens }) => Some(budget_tokens),
            _ => None,
        };
        assert_eq!(tokens(8192, 40_192), Some(8192));
        assert_eq!(tokens(8192, 8192), Some(7168));
        assert_eq!(tokens(8192, 2048), Some(1024));
        assert_eq!(tokens(8192, 2047), None);
        assert_eq!(tokens(8192, 100), None);
    }
}
