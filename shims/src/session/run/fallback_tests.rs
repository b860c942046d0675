//! What a session does with more than one model.

use std::time::{Duration, Instant};

use super::bench::{Bench, Seen, assert_failed, assert_failed_with, calls, failed, said};
use crate::session::End;
use crate::session::error::{Kind, ModelError};
use crate::session::message::{Assistant, Message};

type Answer = Result<Assistant, ModelError>;

fn times(count: usize, kind: Kind) -> Vec<Answer> {
    (0..count).map(|_| failed(kind)).collect()
}

/// A session with the models `m` and `b`.
fn run(first: Vec<Answer>, second: Vec<Answer>) -> Seen {
    let mut bench = Bench::new(first);
    bench.add_model("b", second);
    bench.run()
}

fn models(seen: &Seen) -> String {
    seen.asked.iter().map(|asked| asked.model.as_str()).collect()
}

#[test]
fn the_next_model_goes_on_with_the_same_conversation_and_stays() {
    let mut first = vec![calls(&["echo hi"])];
    first.extend(times(3, Kind::RateLimit));
    let seen = run(first, vec![calls(&["echo ho"]), said("done")]);
    assert!(matches!(seen.outcome.end, End::Completed));
    assert_eq!(models(&seen), "mmmmbb");
    assert_eq!(seen.asked[3].messages, seen.asked[4].messages);
    assert_eq!((seen.count("switched m b rate_limit"), seen.count("retry fast"), seen.count("retry slow")), (1, 2, 0));
    assert_eq!(seen.count("retried true 2"), 1);
    let by = seen.messages.iter().filter_map(|message| match message {
        Message::Assistant(assistant) => Some(assistant.model.as_str()),
        _ => None,
    });
    assert_eq!(by.collect::<String>(), "mbb");
    assert_eq!((seen.outcome.usage.turn_count, seen.outcome.text.as_str()), (3, "done"));
}

#[test]
fn costs_add_up_with_the_prices_of_the_model_that_answered() {
    let mut bench = Bench::new(vec![calls(&["true"]), failed(Kind::Quota)]);
    bench.add_model("b", vec![said("done")]);
    bench.others[0].model.facts.price.input = 5e6;
    // Ten tokens in and two out, at one dollar each; then ten at five dollars.
    assert_eq!(bench.run().outcome.usage.cost, 12.0 + 52.0);
}

#[test]
fn each_kind_of_error_moves_on_when_its_fast_phase_is_over() {
    for (kind, attempts) in [(Kind::Quota, 1), (Kind::Overloaded, 3), (Kind::Server, 5), (Kind::Network, 5)] {
        let seen = run(times(attempts, kind), vec![said("ok")]);
        assert_eq!(models(&seen), format!("{}b", "m".repeat(attempts)), "{kind:?}");
        assert_eq!(seen.outcome.text, "ok");
    }
    let mut hint = ModelError::new(Kind::RateLimit, "no");
    hint.wait = Some(Duration::from_secs(61));
    assert_eq!(models(&run(vec![Err(hint)], vec![said("ok")])), "mb");
}

#[test]
fn errors_that_every_model_would_give_are_final() {
    for (kind, attempts) in [
        (Kind::Auth, 1),
        (Kind::Permission, 1),
        (Kind::Refusal, 1),
        (Kind::InvalidRequest, 1),
        (Kind::ContextOverflow, 1),
        (Kind::Malformed, 5),
    ] {
        let seen = run(times(attempts, kind), vec![said("never")]);
        assert_failed(&seen.outcome, kind);
        assert_eq!(models(&seen), "m".repeat(attempts));
    }
}

#[test]
fn four_passes_are_made_before_the_list_is_given_up() {
    let seen = run(times(30, Kind::RateLimit), times(30, Kind::Overloaded));
    assert_failed_with(&seen.outcome, Kind::Overloaded, "b");
    assert_eq!(models(&seen), "mmmbbb".repeat(4));
    let passes: Vec<&String> = seen.events.iter().filter(|event| event.contains("ModelsExhausted")).collect();
    assert_eq!(
        passes,
        [
            "notice ModelsExhausted { pass: 0, delay: 30s }",
            "notice ModelsExhausted { pass: 1, delay: 60s }",
            "notice ModelsExhausted { pass: 2, delay: 120s }",
        ]
    );
    assert_eq!((seen.count("notice ModelsGivenUp"), seen.count("switched"), seen.count("retry slow")), (1, 4, 0));
}

#[test]
fn a_list_that_cannot_be_reached_is_no_rate_limit() {
    let seen = run(times(30, Kind::Server), times(30, Kind::Network));
    assert_failed_with(&seen.outcome, Kind::Network, "b");
    assert_eq!((seen.asked.len(), seen.count("notice ModelsGivenUp")), (40, 0));
    // One of them is only busy, so that trying again later makes sense.
    let seen = run(times(30, Kind::RateLimit), times(30, Kind::Network));
    assert_failed_with(&seen.outcome, Kind::RateLimit, "m");
    assert_eq!(seen.count("notice ModelsGivenUp"), 1);
}

#[test]
fn a_later_pass_can_succeed() {
    let mut first = times(3, Kind::RateLimit);
    first.push(said("back"));
    let seen = run(first, times(3, Kind::RateLimit));
    assert_eq!((models(&seen).as_str(), seen.outcome.text.as_str()), ("mmmbbbm", "back"));
}

#[test]
fn there_is_no_pause_beyond_the_deadline() {
    let mut bench = Bench::new(times(3, Kind::Quota));
    bench.add_model("b", times(3, Kind::Server));
    bench.deadline = Some(Instant::now() + Duration::from_secs(4));
    let seen = bench.run();
    assert_eq!(models(&seen), "mb");
    // No retry of the second model fits either.
    assert_failed_with(&seen.outcome, Kind::Server, "b");
}

#[test]
fn a_conversation_is_shortened_for_a_model_with_a_smaller_window() {
    let first = vec![calls(&["head -c 40000 /dev/zero | tr '\\0' x"]), calls(&["true"]), failed(Kind::Quota)];
    let mut bench = Bench::new(first);
    bench.script.counts = true;
    bench.add_model("b", vec![said("done")]);
    bench.others[0].model.facts.context_window = 8000;
    let seen = bench.run();
    assert!(matches!(seen.outcome.end, End::Completed), "{:?}", seen.outcome.end);
    assert_eq!((models(&seen).as_str(), seen.count("compaction threshold")), ("mmmbb", 1));
    assert!(!seen.asked[3].tools && seen.asked[4].tools);
}
