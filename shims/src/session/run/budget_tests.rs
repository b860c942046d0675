//! What budgets do to a session.

use std::time::{Duration, Instant};

use super::bench::{Bench, Seen, assert_failed, calls, said};
use crate::session::End;
use crate::session::error::Kind;
use crate::session::message::{Content, Message};
use crate::wire::config::Limits;

/// A session of three turns, each for 12 tokens and 12 dollars, with two calls in the first and one in the second.
fn run(limits: Limits) -> Seen {
    let mut bench = Bench::new(vec![calls(&["true", "true"]), calls(&["true"]), said("done")]);
    bench.limits = limits;
    bench.run()
}

/// What was added to the results before a request.
fn note(seen: &Seen, request: usize) -> Option<&str> {
    match seen.asked[request].messages.last() {
        Some(Message::User(content)) => match &content[..] {
            [Content::Text(text)] => Some(text),
            _ => None,
        },
        _ => None,
    }
}

#[test]
fn a_used_up_budget_ends_the_session_before_the_next_request() {
    #[track_caller]
    fn case(limits: Limits, requests: usize, key: &str) {
        let seen = run(limits);
        assert_failed(&seen.outcome, Kind::Limit);
        let End::Failed { error, .. } = &seen.outcome.end else { unreachable!() };
        assert!(error.message.contains(key), "{error}");
        assert_eq!((seen.asked.len(), seen.outcome.usage.turn_count), (requests, requests as u64));
        assert_eq!(seen.events.last().unwrap(), "AgentEnd");
    }
    let none = Limits::default;
    case(Limits { max_turns: Some(1), ..none() }, 1, "maxTurns = 1");
    case(Limits { max_turns: Some(2), ..none() }, 2, "maxTurns = 2");
    case(Limits { max_tokens: Some(13), ..none() }, 2, "maxTokens = 13");
    case(Limits { max_cost: Some(12.0), ..none() }, 1, "maxCost = 12");
    case(Limits { max_tool_calls: Some(2), ..none() }, 1, "maxToolCalls = 2");
}

#[test]
fn work_that_is_done_within_its_budget_is_a_success() {
    for limits in [
        Limits::default(),
        Limits { max_turns: Some(3), max_cost: Some(36.0), max_tokens: Some(36), ..Limits::default() },
        Limits { max_tool_calls: Some(4), max_turns: Some(0), ..Limits::default() },
    ] {
        let seen = run(limits);
        assert!(matches!(seen.outcome.end, End::Completed), "{:?}", seen.outcome.end);
    }
}

#[test]
fn the_model_is_told_that_little_is_left() {
    let seen = run(Limits { max_tool_calls: Some(4), ..Limits::default() });
    assert_eq!(note(&seen, 1), None);
    let seen = run(Limits { max_tool_calls: Some(4), max_tokens: Some(29), ..Limits::default() });
    let text = note(&seen, 2).unwrap();
    assert!(text.contains("24 of 29 tokens are used"), "{text}");
    assert_eq!(seen.outcome.text, "done");
    let silent = Limits { max_tokens: Some(29), budget_hints: Some(false), ..Limits::default() };
    assert_eq!(note(&run(silent), 2), None);
}

#[test]
fn the_model_is_told_that_the_time_is_nearly_over() {
    let mut bench = Bench::new(vec![calls(&["true"]), calls(&["true"]), said("done")]);
    bench.time_limit = Some(Duration::from_secs(1000));
    bench.deadline = Some(Instant::now() + Duration::from_secs(190));
    let seen = bench.run();
    assert!(note(&seen, 1).is_some_and(|text| text.contains("of 1000 seconds are used")), "{:?}", seen.asked[1]);
    // Once is enough.
    assert_eq!(note(&seen, 2), None);
}

#[test]
fn a_command_takes_no_longer_than_the_limit() {
    let mut bench = Bench::new(vec![calls(&["sleep 60"]), said("done")]);
    bench.limits = Limits { bash_timeout: Some(1), ..Limits::default() };
    let seen = bench.run();
    let Some(Message::ToolResult(result)) = seen.messages.iter().find(|it| matches!(it, Message::ToolResult(_))) else {
        panic!("{:?}", seen.messages)
    };
    assert_eq!((result.text().as_str(), result.is_error), ("Command timed out after 1 seconds", true));
}
