//! Calls that are made again and again (`limits.repeatLimit`, agent-session.md §22.2).

use std::hash::{DefaultHasher, Hash, Hasher};

use super::error::{Kind, ModelError};
use super::message::{Content, ToolCall, ToolResult};
use crate::wire::config::Limits;

/// Identical calls in a row that end a session, unless configured.
const USUAL_LIMIT: u64 = 10;
/// Of the limit, before the model is told.
const ENOUGH: f64 = 0.8;
const KEY: &str = "repeatLimit";

/// How often in a row the same call gave the same result.
pub(super) struct Repeats {
    /// 0: none.
    limit: u64,
    /// Of the newest call and its result.
    fingerprint: Option<u64>,
    tool: String,
    count: u64,
    told: bool,
}

impl Repeats {
    pub(super) fn new(limits: &Limits) -> Self {
        let limit = limits.repeat_limit.unwrap_or(USUAL_LIMIT);
        Self { limit, fingerprint: None, tool: String::new(), count: 0, told: false }
    }

    /// A call has been made.
    pub(super) fn count(&mut self, call: &ToolCall, result: &ToolResult) {
        let fingerprint = Some(fingerprint(call, result));
        if self.fingerprint != fingerprint {
            self.forget();
            self.fingerprint = fingerprint;
            self.tool.clone_from(&call.name);
        }
        self.count += 1;
    }

    /// Whatever was repeated, something new has come between.
    pub(super) fn forget(&mut self) {
        (self.fingerprint, self.count, self.told) = (None, 0, false);
    }

    /// The error that too many repetitions are.
    pub(super) fn exceeded(&self) -> Option<ModelError> {
        if self.limit == 0 || self.count < self.limit {
            return None;
        }
        let text = format!(
            "limits.{KEY} = {} is reached: the same {} call gave the same result {} times in a row",
            self.limit, self.tool, self.count
        );
        let mut error = ModelError::new(Kind::Limit, text);
        error.limit = Some((KEY, self.limit as f64));
        Some(error)
    }

    /// What to tell the model, once for each series of repetitions, before they end the session.
    pub(super) fn hint(&mut self) -> Option<String> {
        if self.limit == 0 || self.told || (self.count as f64) < ENOUGH * self.limit as f64 {
            return None;
        }
        self.told = true;
        Some(format!(
            "Note: the last {} tool calls were the same, with the same result. The run ends after {} of them; do \
             something else, or finish.",
            self.count, self.limit
        ))
    }
}

/// Equal for equal calls with equal results.
fn fingerprint(call: &ToolCall, result: &ToolResult) -> u64 {
    let mut hasher = DefaultHasher::new();
    let args = serde_json::Value::Object(call.args.clone()).to_string();
    (&call.name, args, call.complete, result.is_error).hash(&mut hasher);
    for part in &result.content {
        match part {
            Content::Text(text) => text.hash(&mut hasher),
            Content::Image(image) => image.base64.hash(&mut hasher),
        }
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, args: &str) -> ToolCall {
        ToolCall::from_raw("1", name, args)
    }

    fn result(text: &str, is_error: bool) -> ToolResult {
        let content = vec![Content::Text(text.into())];
        ToolResult { call_id: "1".into(), tool: "bash".into(), content, is_error }
    }

    fn repeats(limit: Option<u64>) -> Repeats {
        Repeats::new(&Limits { repeat_limit: limit, ..Limits::default() })
    }

    /// How many calls of a series are made before it is too long.
    fn length(repeats: &mut Repeats, series: impl Iterator<Item = (ToolCall, ToolResult)>) -> Option<usize> {
        let too_long = |(call, result): (ToolCall, ToolResult)| {
            repeats.count(&call, &result);
            repeats.exceeded().is_some()
        };
        series.take(100).map(too_long).position(|too_long| too_long).map(|index| index + 1)
    }

    #[test]
    fn the_same_call_with_the_same_result_is_made_so_often_and_no_oftener() {
        let same = || std::iter::repeat_with(|| (call("bash", r#"{"command":"x"}"#), result("y", false)));
        assert_eq!(length(&mut repeats(None), same()), Some(10));
        assert_eq!(length(&mut repeats(Some(2)), same()), Some(2));
        assert_eq!(length(&mut repeats(Some(0)), same()), None);
        let mut repeats = repeats(Some(2));
        length(&mut repeats, same());
        let error = repeats.exceeded().unwrap();
        assert_eq!((error.kind, error.limit), (Kind::Limit, Some(("repeatLimit", 2.0))));
        assert!(error.message.contains("repeatLimit = 2") && error.message.contains("same bash call"), "{error}");
    }

    #[test]
    fn any_difference_begins_a_new_series() {
        #[track_caller]
        fn case(other: ToolCall, other_result: ToolResult) {
            let usual = || (call("bash", r#"{"command":"x","timeout":1}"#), result("y", false));
            let mut pair = [usual(), (other, other_result)].into_iter().cycle();
            assert_eq!(length(&mut repeats(Some(2)), &mut pair), None);
        }
        let same = || call("bash", r#"{"command":"x","timeout":1}"#);
        case(call("read", r#"{"command":"x","timeout":1}"#), result("y", false));
        case(call("bash", r#"{"command":"x","timeout":2}"#), result("y", false));
        case(call("bash", r#"{"command":"x"}"#), result("y", false));
        case(same(), result("z", false));
        case(same(), result("y", true));
        // Blanks are no difference, and neither is the id.
        let other_id = ToolCall::from_raw("2", "bash", r#"{ "command": "x", "timeout": 1 }"#);
        let mut pair = [(same(), result("y", false)), (other_id, result("y", false))].into_iter().cycle();
        assert_eq!(length(&mut repeats(Some(4)), &mut pair), Some(4));
    }

    #[test]
    fn the_model_is_told_once_before_the_end() {
        let mut repeats = repeats(Some(5));
        let mut hints = Vec::new();
        for _ in 0..2 {
            for _ in 0..5 {
                repeats.count(&call("bash", "{}"), &result("y", false));
                hints.push(repeats.hint().is_some());
            }
            repeats.forget();
        }
        let series = [false, false, false, true, false];
        assert_eq!(hints, [series, series].concat());
    }
}
