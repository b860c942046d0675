//! Budgets of a session (agent-session.md §22.2).

use std::time::{Duration, Instant};

use super::error::{Kind, ModelError};
use super::message::{ToolCall, ToolResult};
use super::repeats::Repeats;
use crate::wire::config::Limits;
use crate::wire::usage::Usage;

/// Of a budget, before the model is told that little is left.
const ENOUGH: f64 = 0.8;

/// What a session may use, and what the model has been told of it.
pub(crate) struct Budget {
    limits: Limits,
    /// Length of the run, and its end.
    time: Option<(Duration, Instant)>,
    tool_calls: u64,
    repeats: Repeats,
    /// Keys that the model has been told about.
    told: Vec<&'static str>,
}

/// One limit that is set.
struct Share {
    key: &'static str,
    /// What is counted, for people.
    what: &'static str,
    limit: f64,
    used: f64,
}

impl Budget {
    /// `time` is how long the run may take altogether, and when that is over.
    pub(crate) fn new(limits: Limits, time: Option<(Duration, Instant)>) -> Self {
        let repeats = Repeats::new(&limits);
        Self { limits, time, tool_calls: 0, repeats, told: Vec::new() }
    }

    /// A tool was called.
    pub(crate) fn count_call(&mut self) {
        self.tool_calls += 1;
    }

    /// A call has a result.
    pub(super) fn count_result(&mut self, call: &ToolCall, result: &ToolResult) {
        self.repeats.count(call, result);
    }

    /// Somebody has said something, so doing the same again may be right.
    pub(super) fn forget_repeats(&mut self) {
        self.repeats.forget();
    }

    /// The error that a used up budget is.
    pub(crate) fn exceeded(&self, usage: &Usage) -> Option<ModelError> {
        self.used_up(usage).or_else(|| self.repeats.exceeded())
    }

    fn used_up(&self, usage: &Usage) -> Option<ModelError> {
        let share = self.shares(usage).find(|share| share.used >= share.limit)?;
        let text =
            format!("limits.{} = {} is reached: {} {} used", share.key, share.limit, rounded(share.used), share.what);
        let mut error = ModelError::new(Kind::Limit, text);
        error.limit = Some((share.key, share.limit));
        Some(error)
    }

    /// What to tell the model, once for each limit, when little is left. `next_cost` is the most that the next request
    /// can cost.
    pub(super) fn hint(&mut self, usage: &Usage, next_cost: f64, now: Instant) -> Option<String> {
        if self.limits.budget_hints == Some(false) {
            return None;
        }
        let notes = [self.little_left(usage, next_cost, now), self.repeats.hint()];
        let notes: Vec<String> = notes.into_iter().flatten().collect();
        (!notes.is_empty()).then(|| notes.join("\n"))
    }

    fn little_left(&mut self, usage: &Usage, next_cost: f64, now: Instant) -> Option<String> {
        let little = |share: &Share| {
            let reserved = if share.key == "maxCost" { next_cost } else { 0.0 };
            share.used >= ENOUGH * share.limit || share.used + reserved >= share.limit
        };
        let told = |key: &str| self.told.contains(&key);
        let mut found: Vec<(&'static str, String)> = Vec::new();
        for share in self.shares(usage).filter(|share| little(share) && !told(share.key)) {
            found.push((share.key, format!("{} of {} {}", rounded(share.used), share.limit, share.what)));
        }
        if let Some((whole, end)) = self.time.filter(|_| !told("time")) {
            let left = end.saturating_duration_since(now);
            if left.as_secs_f64() <= (1.0 - ENOUGH) * whole.as_secs_f64() {
                let used = whole.saturating_sub(left).as_secs();
                found.push(("time", format!("{used} of {} seconds", whole.as_secs())));
            }
        }
        self.told.extend(found.iter().map(|(key, _)| *key));
        let used: Vec<String> = found.into_iter().map(|(_, text)| text).collect();
        let used = used.join(", ");
        (!used.is_empty())
            .then(|| format!("Note on the budget of this run: {used} are used. Finish up now: the run ends when one of them is used up."))
    }

    fn shares(&self, usage: &Usage) -> impl Iterator<Item = Share> {
        let limits = &self.limits;
        let whole = |limit: Option<u64>| limit.unwrap_or(0) as f64;
        let shares = [
            ("maxTurns", "responses of the model", whole(limits.max_turns), usage.turn_count as f64),
            ("maxCost", "US dollars", limits.max_cost.unwrap_or(0.0), usage.cost),
            ("maxTokens", "tokens", whole(limits.max_tokens), usage.total_tokens as f64),
            ("maxToolCalls", "tool calls", whole(limits.max_tool_calls), self.tool_calls as f64),
        ];
        let shares = shares.into_iter().filter(|(.., limit, _)| *limit > 0.0);
        shares.map(|(key, what, limit, used)| Share { key, what, limit, used })
    }
}

/// Costs have many digits.
fn rounded(number: f64) -> f64 {
    (number * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(turns: u64, tokens: u64, cost: f64) -> Usage {
        Usage { turn_count: turns, total_tokens: tokens, cost, ..Usage::default() }
    }

    #[test]
    fn what_is_used_up_is_an_error_that_names_the_limit() {
        #[track_caller]
        fn case(limits: Limits, usage: Usage, expected: Option<(&'static str, f64)>) {
            let mut budget = Budget::new(limits, None);
            (0..3).for_each(|_| budget.count_call());
            let error = budget.exceeded(&usage);
            assert_eq!(error.as_ref().and_then(|error| error.limit), expected);
            assert!(error.is_none_or(|error| error.kind == Kind::Limit && error.message.contains(expected.unwrap().0)));
        }
        let none = Limits::default();
        case(none.clone(), usage(1000, 1_000_000, 99.0), None);
        let off = Limits { max_turns: Some(0), max_cost: Some(0.0), max_tokens: Some(0), ..none.clone() };
        case(off, usage(1000, 1_000_000, 99.0), None);
        let turns = || Limits { max_turns: Some(2), ..none.clone() };
        case(turns(), usage(1, 1, 1.0), None);
        case(turns(), usage(2, 1, 1.0), Some(("maxTurns", 2.0)));
        let cost = || Limits { max_cost: Some(0.5), ..none.clone() };
        case(cost(), usage(9, 9, 0.499), None);
        case(cost(), usage(9, 9, 0.5), Some(("maxCost", 0.5)));
        let tokens = || Limits { max_tokens: Some(100), ..none.clone() };
        case(tokens(), usage(9, 99, 9.0), None);
        case(tokens(), usage(9, 101, 9.0), Some(("maxTokens", 100.0)));
        let calls = |most| Limits { max_tool_calls: Some(most), ..none.clone() };
        case(calls(4), usage(9, 9, 9.0), None);
        case(calls(3), usage(9, 9, 9.0), Some(("maxToolCalls", 3.0)));
    }

    #[test]
    fn the_model_is_told_once_for_each_limit() {
        let limits = Limits { max_turns: Some(10), max_cost: Some(1.0), ..Limits::default() };
        let now = Instant::now();
        let mut budget = Budget::new(limits, Some((Duration::from_secs(100), now + Duration::from_secs(100))));
        let mut hint = |usage, next_cost, seconds| budget.hint(&usage, next_cost, now + Duration::from_secs(seconds));
        assert_eq!(hint(usage(7, 1, 0.5), 0.4, 79), None);
        let first = hint(usage(8, 1, 0.5), 0.4, 79).unwrap();
        assert!(first.contains("8 of 10 responses of the model are used"), "{first}");
        // The next request alone could use up the money.
        let second = hint(usage(8, 1, 0.5), 0.5, 85).unwrap();
        assert!(second.contains("0.5 of 1 US dollars, 85 of 100 seconds are used"), "{second}");
        assert_eq!(hint(usage(9, 1, 0.9), 1.0, 99), None);
        let mut silent =
            Budget::new(Limits { budget_hints: Some(false), max_turns: Some(1), ..Limits::default() }, None);
        assert_eq!(silent.hint(&usage(1, 1, 0.0), 0.0, now), None);
    }
}
