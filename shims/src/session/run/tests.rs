//! The loop with prepared answers.

use std::time::{Duration, Instant};

use super::bench::{Asked, Bench, assert_failed, calls, cut_off, failed, rejected, said};
use super::{CONTINUE, Session};
use crate::cancel::Cancel;
use crate::session::error::{Kind, ModelError};
use crate::session::event::Event;
use crate::session::message::{Block, Content, Message};
use crate::session::{End, classify};
use crate::wire::usage::Usage;

#[test]
fn events_come_in_the_promised_order() {
    let seen = Bench::new(vec![calls(&["echo hi"]), said("done")]).run();
    let expected = [
        "AgentStart",
        "TurnStart",
        "start User",
        "end User",
        "start Assistant",
        "text",
        "end Assistant",
        "tool bash",
        "done false",
        "start ToolResult",
        "end ToolResult",
        "turn end 1",
        "TurnStart",
        "start Assistant",
        "text",
        "end Assistant",
        "turn end 2",
        "AgentEnd",
    ];
    assert_eq!(seen.events, expected);
    assert!(matches!(seen.outcome.end, End::Completed));
    assert_eq!(seen.outcome.text, "done");
    assert_eq!(seen.last_results(), ["hi\n"]);
    let usage = seen.outcome.usage;
    assert_eq!((usage.input_tokens, usage.total_tokens, usage.turn_count), (20, 24, 2));
    assert_eq!(usage.cost, 24.0);
}

#[test]
fn what_failed_is_withdrawn_and_sent_again() {
    let seen = Bench::new(vec![failed(Kind::Overloaded), failed(Kind::Overloaded), said("ok")]).run();
    assert_eq!(seen.outcome.text, "ok");
    assert_eq!(seen.outcome.usage.turn_count, 1);
    assert_eq!((seen.count("failed overloaded"), seen.count("retry fast"), seen.count("retried true 2")), (2, 2, 1));
    assert!(seen.asked.windows(2).all(|pair| pair[0].messages == pair[1].messages));
}

#[test]
fn rate_limits_are_waited_for_in_both_phases() {
    let seen = Bench::new((0..20).map(|_| failed(Kind::RateLimit)).collect()).run();
    assert_failed(&seen.outcome, Kind::RateLimit);
    assert_eq!((seen.count("retry fast"), seen.count("retry slow"), seen.asked.len()), (2, 5, 8));
    assert_eq!(seen.count("retried false 7"), 1);
}

#[test]
fn a_success_starts_the_schedule_over() {
    let mut answers: Vec<_> = (0..4).map(|_| failed(Kind::Malformed)).collect();
    answers.push(calls(&["true"]));
    answers.extend((0..4).map(|_| failed(Kind::Malformed)));
    answers.push(said("ok"));
    assert_eq!(Bench::new(answers).run().outcome.text, "ok");
}

#[test]
fn final_errors_are_not_retried() {
    for kind in [Kind::Auth, Kind::Quota, Kind::Refusal, Kind::InvalidRequest, Kind::ContextOverflow] {
        let seen = Bench::new(vec![failed(kind), said("never")]).run();
        assert_failed(&seen.outcome, kind);
        assert_eq!((seen.asked.len(), seen.count("retr"), seen.events.last().unwrap().as_str()), (1, 0, "AgentEnd"));
    }
}

#[test]
fn a_wait_beyond_the_deadline_is_not_started() {
    let mut bench = Bench::new(vec![failed(Kind::Server), said("never")]);
    bench.deadline = Some(Instant::now() + Duration::from_secs(4));
    let seen = bench.run();
    assert_failed(&seen.outcome, Kind::Server);
    assert_eq!(seen.count("retry"), 0);

    let mut bench = Bench::new(vec![said("never")]);
    bench.deadline = Some(Instant::now());
    let seen = bench.run();
    assert!(matches!(seen.outcome.end, End::OutOfTime) && seen.asked.is_empty());
}

#[test]
fn cancelling_ends_a_wait_a_request_and_the_rest_of_the_calls() {
    let mut error = ModelError::new(Kind::RateLimit, "no");
    error.wait = Some(Duration::from_secs(300));
    let mut bench = Bench::new(vec![Err(error)]);
    let token = bench.cancel.clone();
    // 300 s are 0.3 s here; the token is used while the session waits.
    bench.script.on_send = Box::new(move || {
        let token = token.clone();
        std::thread::spawn(move || token.cancel());
    });
    assert!(matches!(bench.run().outcome.end, End::Cancelled));

    let bench = Bench::new(vec![calls(&["echo one", "echo two"])]);
    let token = bench.cancel.clone();
    token.cancel();
    let seen = bench.run();
    assert!(matches!(seen.outcome.end, End::Cancelled) && seen.asked.is_empty());

    let mut bench = Bench::new(vec![calls(&["echo one", "echo two"])]);
    let token = bench.cancel.clone();
    bench.script.on_send = Box::new(move || token.cancel());
    let seen = bench.run();
    assert!(matches!(seen.outcome.end, End::Cancelled));
    assert_eq!((seen.count("tool "), seen.count("turn end 1"), seen.outcome.usage.turn_count), (0, 1, 1));
}

#[test]
fn a_cut_answer_is_continued_twice() {
    let seen = Bench::new(vec![cut_off("a"), cut_off("b"), said("c")]).run();
    assert_eq!((seen.outcome.text.as_str(), seen.count("notice")), ("abc", 0));
    assert_eq!(seen.asked[1].messages.last(), Some(&Message::User(vec![Content::Text(CONTINUE.into())])));

    let seen = Bench::new(vec![cut_off("a"), cut_off("b"), cut_off("c"), said("never")]).run();
    assert!(matches!(seen.outcome.end, End::Completed));
    assert_eq!((seen.outcome.text.as_str(), seen.count("notice OutputLimit")), ("abc", 1));

    let seen = Bench::new(vec![cut_off("a"), cut_off("b"), calls(&["true"]), cut_off("c"), said("d")]).run();
    assert_eq!((seen.outcome.text.as_str(), seen.count("notice")), ("abcd", 0));
}

#[test]
fn an_empty_answer_is_noticed() {
    assert_eq!(Bench::new(vec![said(" ")]).run().count("notice EmptyResponse"), 1);
    assert_eq!(Bench::new(vec![calls(&["true"]), said("x")]).run().count("notice"), 0);
}

#[test]
fn a_refused_parameter_is_left_out_once() {
    let seen = Bench::new(vec![rejected("store"), rejected("usage"), said("ok")]).run();
    assert_eq!(seen.outcome.text, "ok");
    assert_eq!(seen.asked[2].refused, ["store", "usage"]);
    assert_eq!((seen.count("notice ParameterRejected"), seen.count("retry")), (2, 0));

    let seen = Bench::new(vec![rejected("store"), rejected("store"), said("never")]).run();
    assert_failed(&seen.outcome, Kind::InvalidRequest);
}

#[test]
fn refused_thinking_is_taken_out_of_the_history() {
    let mut thought = calls(&["true"]).unwrap();
    thought.content.insert(0, Block::Thinking { text: "hm".into(), signature: Some("s".into()), redacted: false });
    let seen = Bench::new(vec![Ok(thought), rejected(classify::THINKING_BLOCKS), said("ok")]).run();
    assert_eq!(seen.outcome.text, "ok");
    let has_thinking = |asked: &Asked| format!("{:?}", asked.messages).contains("Thinking");
    assert_eq!(seen.asked.iter().map(has_thinking).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!(seen.asked[2].refused, [classify::THINKING_BLOCKS, "thinking"]);
}

#[test]
fn the_output_limit_shrinks_with_the_room() {
    #[track_caller]
    fn case(used: u64, wanted: u64, expected: u64) {
        let mut first = calls(&["true"]).unwrap();
        first.usage = Usage { input_tokens: used / 2, cache_write_tokens: used - used / 2, ..Usage::default() };
        let mut bench = Bench::new(vec![Ok(first), said("ok")]);
        bench.script.model.facts.max_tokens = wanted;
        let seen = bench.run();
        assert_eq!((seen.asked[1].max_tokens, seen.count("compact")), (expected, 0));
    }
    // The result "(no output)" is estimated at 3 tokens; 1024 stay free.
    case(50_000, 8000, 8000);
    case(50_000, 90_000, 32_000);
    case(80_000, 32_000, 100_000 - 80_000 - 3 - 1024);
    case(83_613, 32_000, 100_000 - 83_613 - 3 - 1024);
}

#[test]
fn a_request_larger_than_the_window_is_an_overflow_even_if_it_was_answered() {
    let mut answer = said("ok").unwrap();
    answer.usage = Usage { input_tokens: 60_000, cache_read_tokens: 40_001, ..Usage::default() };
    assert_failed(&Bench::new(vec![Ok(answer)]).run().outcome, Kind::ContextOverflow);
}

#[test]
fn a_conversation_goes_on_after_it_was_cancelled() {
    let mut bench = Bench::new(vec![failed(Kind::Network), said("hello again")]);
    let first = Cancel::new();
    let token = first.clone();
    bench.script.on_send = Box::new(move || token.cancel());
    let (asked, input) = (bench.script.asked.clone(), bench.input());
    let mut session = Session::with_models(input, vec![Box::new(bench.script)]);
    let ignore = &mut |_: Event<'_>| {};
    assert!(matches!(session.prompt("one".into(), first, ignore), End::Cancelled));
    assert!(matches!(session.prompt("two".into(), Cancel::new(), ignore), End::Completed));
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 2);
    assert!(matches!(&asked[1].messages[..], [Message::User(_), Message::User(_)]), "{:?}", asked[1].messages);
}
