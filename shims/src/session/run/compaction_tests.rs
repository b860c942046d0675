//! Long conversations.

use proptest::prelude::*;

use super::Session;
use super::bench::{Asked, Bench, Seen, assert_failed, calls, failed, said};
use crate::session::error::{Kind, ModelError};
use crate::session::event::CompactionReason;
use crate::session::history::{self, Piece, Turn};
use crate::session::message::{Assistant, Block, Content, Image, Message, ToolCall, ToolResult};
use crate::session::provider::{Model, Provider};
use crate::session::{End, estimate};
use crate::wire::usage::Usage;

/// Prints so many characters.
fn print(characters: u64) -> String {
    format!("head -c {characters} /dev/zero | tr '\\0' x")
}

/// A session whose model counts as we do.
fn bench(answers: Vec<Result<Assistant, ModelError>>, window: u64) -> Bench {
    let mut bench = Bench::new(answers);
    bench.script.counts = true;
    bench.script.model.facts.context_window = window;
    bench
}

fn first_text(messages: &[Message], part: usize) -> &str {
    match messages.first() {
        Some(Message::User(parts)) => match parts.get(part) {
            Some(Content::Text(text)) => text,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn asides(seen: &Seen) -> Vec<&Asked> {
    seen.asked.iter().filter(|asked| !asked.tools).collect()
}

/// Fails unless every provider would take this conversation: it begins with the prompt, and results follow exactly the
/// calls that they belong to.
#[track_caller]
fn assert_valid(messages: &[Message], model: &Model) {
    assert!(matches!(messages.first(), Some(Message::User(_))));
    let mut open: Vec<&str> = Vec::new();
    for message in messages {
        match message {
            Message::ToolResult(result) => {
                assert!(
                    open.first() == Some(&result.call_id.as_str()),
                    "{} is not the next of {open:?}",
                    result.call_id
                );
                open.remove(0);
            }
            other => {
                assert!(open.is_empty(), "no results for {open:?}");
                if let Message::Assistant(assistant) = other {
                    open = assistant.calls().map(|call| call.id.as_str()).collect();
                }
            }
        }
    }
    for api in ["anthropic", "responses", "chat", "google", "mock"] {
        let turns = history::for_model(messages, &Model { api, ..model.clone() });
        assert!(matches!(turns.first(), Some(Turn::User(_))));
        for pair in turns.windows(2) {
            if let Turn::Results(replies) = &pair[1] {
                let Turn::Assistant(pieces) = &pair[0] else { panic!("results without calls: {pair:?}") };
                let calls: Vec<_> = pieces
                    .iter()
                    .filter_map(|piece| match piece {
                        Piece::Call { id, .. } => Some(id),
                        _ => None,
                    })
                    .collect();
                assert_eq!(calls, replies.iter().map(|reply| &reply.id).collect::<Vec<_>>());
            } else if let Turn::Assistant(_) = &pair[1] {
                assert!(!matches!(&pair[0], Turn::Assistant(_)));
            }
        }
    }
}

#[test]
fn five_hundred_turns_fit_into_a_small_window() {
    const WINDOW: u64 = 16_000;
    let mut answers: Vec<_> = (0..500).map(|turn| calls(&[&format!("{}; echo {turn}", print(6000))])).collect();
    answers.push(said("done"));
    let bench = bench(answers, WINDOW);
    let model = bench.script.model.clone();
    let seen = bench.run();
    assert!(matches!(seen.outcome.end, End::Completed), "{:?}", seen.outcome.end);
    assert_eq!((seen.outcome.text.as_str(), seen.outcome.usage.turn_count), ("done", 501));
    let asides = asides(&seen).len();
    assert!(asides > 50 && seen.count("compacted") == asides, "{asides}");
    for asked in &seen.asked {
        let tokens = estimate::messages(&asked.messages) + asked.max_tokens;
        assert!(tokens < WINDOW, "{tokens}");
        if asked.tools {
            assert_valid(&asked.messages, &model);
            assert_eq!(first_text(&asked.messages, 0), "do it");
            let Some(Message::User(parts)) = asked.messages.first() else { unreachable!() };
            assert!(parts.len() <= 2, "one summary is enough: {parts:?}");
        }
    }
    // Every result was seen by the model that asked for it.
    for (turn, asked) in seen.asked.iter().filter(|asked| asked.tools).skip(1).enumerate() {
        let Some(Message::ToolResult(result)) = asked.messages.last() else { panic!("{turn}") };
        assert!(result.text().ends_with(&format!("x{turn}\n")), "{turn}");
    }
    // The summaries were paid for.
    let counted = seen.outcome.usage.total_tokens;
    let of_turns = seen.asked.iter().filter(|asked| asked.tools).map(|asked| estimate::messages(&asked.messages));
    assert!(counted > of_turns.sum::<u64>(), "{counted}");
}

#[test]
fn old_messages_become_a_summary_and_the_newest_stay() {
    let call = |name: &str, args: &str| Block::ToolCall(ToolCall::from_raw(format!("{name}-{args}"), name, args));
    let mut first = said("I look.").unwrap();
    first.content.insert(0, Block::Thinking { text: "Where?".into(), signature: None, redacted: false });
    first.content.push(call("read", r#"{"path":"b.txt"}"#));
    first.content.push(call("read", r#"{"path":"a.txt","limit":3}"#));
    first.content.push(call("write", r#"{"path":"b.txt","content":"x"}"#));
    first.content.push(call("bash", &format!("{{\"command\":\"{}\"}}", print(30_000).replace('\\', "\\\\"))));
    let answers = vec![Ok(first), calls(&[&print(30_000)]), calls(&["echo last"]), said("done")];
    let mut bench = bench(answers, 20_000);
    bench.script.summaries.push_back(said("  ## Goal\nLook at a.txt.\n"));
    let model = bench.script.model.clone();
    let seen = bench.run();
    assert!(matches!(seen.outcome.end, End::Completed), "{:?}", seen.outcome.end);

    let asides = asides(&seen);
    assert_eq!(asides.len(), 1, "{:?}", seen.events);
    let asked = first_text(&asides[0].messages, 0);
    let expected = "<conversation>\n[Assistant thinking]: Where?\n\n[Assistant]: I look.\n\n[Assistant tool calls]: \
                    read(path=\"b.txt\"); read(path=\"a.txt\", limit=3); write(path=\"b.txt\", content=\"x\"); \
                    bash(command=\"head -c 30000 /dev/zero | tr '\\\\0' x\")\n\n[Tool result]: ";
    assert!(asked.starts_with(expected), "{asked}");
    assert!(asked.contains("\n[… 28000 more characters left out …]\n"), "{asked}");
    assert!(!asked.contains("previous-summary") && asked.contains("### In Progress"), "{asked}");
    assert_eq!((asides[0].messages.len(), asides[0].max_tokens), (1, 4000));

    let after = &seen.asked.last().unwrap().messages;
    assert_valid(after, &model);
    assert_eq!(first_text(after, 0), "do it");
    let summary = "<summary>\n## Goal\nLook at a.txt.\n\n<read-files>\na.txt\n</read-files>\n\n<modified-files>\nb.txt\n\
                   </modified-files>\n</summary>";
    assert!(first_text(after, 1).ends_with(summary), "{}", first_text(after, 1));
    assert!(matches!(after.last(), Some(Message::ToolResult(result)) if result.text() == "last\n"));
    assert_eq!(seen.count("compaction threshold"), 1);
    let lengths: Vec<&String> = seen.events.iter().filter(|event| event.starts_with("compacted ")).collect();
    assert!(lengths[0].ends_with(" 22"), "{lengths:?}");
}

#[test]
fn a_later_summary_is_made_from_the_earlier_one() {
    let answers = (0..6).map(|_| calls(&[&print(20_000)])).chain([said("done")]).collect();
    let mut bench = bench(answers, 16_000);
    bench.script.summaries.extend([said("first"), said("second"), said("third")]);
    let seen = bench.run();
    let asides = asides(&seen);
    assert!(asides.len() > 1, "{:?}", seen.events);
    let asked = first_text(&asides[1].messages, 0);
    assert!(asked.contains("\n\n<previous-summary>\nfirst\n</previous-summary>\n\n"), "{asked}");
    let last = &seen.asked.last().unwrap().messages;
    let Some(Message::User(parts)) = last.first() else { panic!("{last:?}") };
    assert_eq!((parts.len(), first_text(last, 1).contains("first")), (2, false));
}

#[test]
fn without_a_summary_the_conversation_goes_on() {
    for summary in [failed(Kind::Auth), failed(Kind::ContextOverflow), said(" \n")] {
        let answers = vec![calls(&[&print(30_000)]), calls(&[&print(30_000)]), calls(&["echo last"]), said("done")];
        let mut bench = bench(answers, 20_000);
        bench.script.summaries.push_back(summary);
        let seen = bench.run();
        assert!(matches!(seen.outcome.end, End::Completed), "{:?}", seen.outcome.end);
        let text = first_text(&seen.asked.last().unwrap().messages, 1);
        assert!(
            text.contains("messages were dropped, and there is no summary") && !text.contains("<summary>"),
            "{text}"
        );
    }
}

#[test]
fn long_results_are_cut_when_nothing_else_can_go() {
    let seen = bench(vec![calls(&[&print(40_000)]), said("done")], 10_000).run();
    assert!(matches!(seen.outcome.end, End::Completed), "{:?}", seen.outcome.end);
    assert_eq!((seen.asked.len(), seen.count("compaction threshold")), (2, 1));
    let Some(Message::ToolResult(result)) = seen.asked[1].messages.last() else { panic!("{:?}", seen.asked[1]) };
    let ends = "x".repeat(1000);
    assert_eq!(result.text(), format!("{ends}\n\n[… 38000 characters removed to save space …]\n\n{ends}"));
}

#[test]
fn an_overflow_is_repaired_once() {
    let answers = || vec![calls(&[&print(20_000)]), calls(&["echo last"]), failed(Kind::ContextOverflow)];
    let mut with_success = answers();
    with_success.push(said("done"));
    let seen = bench(with_success, 100_000).run();
    assert!(matches!(seen.outcome.end, End::Completed), "{:?}", seen.outcome.end);
    assert_eq!(
        (seen.count("compaction overflow"), seen.count("failed context_overflow"), seen.count("retr")),
        (1, 1, 0)
    );
    let (before, after) = (&seen.asked[2].messages, &seen.asked.last().unwrap().messages);
    assert!(estimate::messages(after) < estimate::messages(before) / 2);

    let mut in_vain = answers();
    in_vain.extend([failed(Kind::ContextOverflow), said("never")]);
    let seen = bench(in_vain, 100_000).run();
    assert_failed(&seen.outcome, Kind::ContextOverflow);
    assert_eq!(seen.count("compaction overflow"), 1);
}

/// What a server says of a request that is too long, however short we think it is.
#[test]
fn an_overflow_in_a_short_conversation_is_repaired_once() {
    // Tokens that the server counts for the first turn, and characters of the system prompt.
    for (counted, system) in [(12, 0), (12, 14_000), (1500, 3000), (150_000, 3000), (90_000, 14_000)] {
        let answer = calls(&[&print(20_000)]).map(|answer| {
            let usage = Usage { input_tokens: counted, output_tokens: 2, ..Usage::default() };
            Assistant { usage, ..answer }
        });
        let answers = |last| vec![answer.clone(), failed(Kind::ContextOverflow), last];
        let run = |answers| {
            let mut bench = Bench::new(answers);
            bench.system = "s".repeat(system);
            bench.script.model.facts.context_window = 200_000;
            bench.run()
        };
        let seen = run(answers(said("done")));
        assert!(matches!(seen.outcome.end, End::Completed), "{counted} {system}: {:?}", seen.outcome.end);
        assert_eq!(seen.asked.len(), 3);
        let [before, after] = [1, 2].map(|at| estimate::messages(&seen.asked[at].messages));
        assert!(after < before / 2, "{counted} {system}: {before} {after}");
        let seen = run(answers(failed(Kind::ContextOverflow)));
        assert_failed(&seen.outcome, Kind::ContextOverflow);
        assert_eq!((seen.asked.len(), seen.count("compaction overflow")), (3, 1));
    }
}

#[test]
fn a_session_goes_on_in_a_window_that_was_guessed_too_small() {
    // Everything beside the one result takes more than a window of the guessed size should.
    let mut answers = vec![calls(&[&print(20_000)]), failed(Kind::ContextOverflow)];
    answers.extend((0..60).map(|_| calls(&["echo small"])));
    answers.push(said("done"));
    let mut bench = bench(answers, 200_000);
    bench.system = "s".repeat(40_000);
    let seen = bench.run();
    assert!(matches!(seen.outcome.end, End::Completed), "{:?}", seen.outcome.end);
    // Shortening it again makes sense only when something has come that can go.
    assert!(seen.count("compaction threshold") <= 3, "{:?}", seen.events);
}

#[test]
fn a_window_that_the_provider_names_leaves_less_room_for_the_answer() {
    let error = ModelError::new(
        Kind::ContextOverflow,
        "This model's maximum context length is 8192 tokens. However, you requested 16900 tokens",
    );
    let mut bench = bench(vec![Err(error.clone()), said("done")], 128_000);
    bench.script.model.facts.max_tokens = 16_384;
    let seen = bench.run();
    assert!(matches!(seen.outcome.end, End::Completed), "{:?}", seen.outcome.end);
    assert_eq!(seen.asked[0].max_tokens, 16_384);
    assert!((6000..8192).contains(&seen.asked[1].max_tokens), "{}", seen.asked[1].max_tokens);
    // It cannot be the answer's room twice.
    let seen = Bench::new(vec![Err(error.clone()), Err(error), said("never")]).run();
    assert_failed(&seen.outcome, Kind::ContextOverflow);
}

#[test]
fn after_an_overflow_the_window_is_known_to_be_smaller() {
    let mut answers = vec![calls(&[&print(20_000)]), failed(Kind::ContextOverflow)];
    answers.extend((0..8).map(|_| calls(&[&print(4000)])));
    answers.push(said("done"));
    let seen = bench(answers, 100_000).run();
    assert!(matches!(seen.outcome.end, End::Completed), "{:?}", seen.outcome.end);
    // 5000 tokens were too many, so that a few results more are, too.
    assert!(seen.count("compaction threshold") > 0, "{:?}", seen.events);
    assert!(seen.asked.iter().skip(2).all(|asked| estimate::messages(&asked.messages) < 5500));
}

#[test]
fn shortening_twice_in_vain_is_an_overflow() {
    // This model counts differently: a few words are almost a whole window to it.
    let huge = || {
        let usage = Usage { input_tokens: 90_000, output_tokens: 1, ..Usage::default() };
        calls(&["true"]).map(|answer| Assistant { usage, ..answer })
    };
    let seen = Bench::new(vec![huge(), huge(), huge(), said("never")]).run();
    assert_failed(&seen.outcome, Kind::ContextOverflow);
    assert_eq!((seen.asked.len(), seen.count("compaction threshold")), (2, 2));
}

#[test]
fn bound_thinking_is_dropped_with_what_it_was_bound_to() {
    for adaptive in [true, false] {
        let mut answers: Vec<_> = (0..3).map(|_| calls(&[&print(24_000)])).collect();
        for answer in answers.iter_mut().flatten() {
            let thought = Block::Thinking { text: "t".into(), signature: Some("s".into()), redacted: false };
            answer.content.insert(0, thought);
        }
        answers.push(said("done"));
        let mut bench = bench(answers, 20_000);
        bench.script.model.facts.adaptive = adaptive;
        let seen = bench.run();
        assert!(seen.count("compacted") > 0);
        let first_after = seen.asked.iter().position(|asked| !asked.tools).unwrap() + 1;
        let has_thinking = format!("{:?}", seen.asked[first_after].messages).contains("Thinking");
        assert_eq!(has_thinking, !adaptive);
    }
}

/// A session in the middle of its conversation.
fn session_with(messages: Vec<Message>, window: u64) -> Session {
    let mut bench = Bench::new(Vec::new());
    bench.script.model.facts.context_window = window;
    let input = bench.input();
    let mut session = Session::with_models(input, vec![Box::new(bench.script) as Box<dyn Provider>]);
    session.messages = messages;
    session
}

fn any_content() -> impl Strategy<Value = Content> {
    prop_oneof![
        8 => (0usize..6000).prop_map(|length| Content::Text("wörd ".repeat(length / 5))),
        1 => Just(Content::Image(Image { mime: "image/png", base64: "AA==".into() })),
    ]
}

/// A response with calls and their results, or one without that the user answers.
fn any_turn() -> impl Strategy<Value = (String, Vec<Content>)> {
    ("[a-zü ]{0,300}", proptest::collection::vec(any_content(), 0..4))
}

fn conversation(turns: &[(String, Vec<Content>)]) -> Vec<Message> {
    let mut messages = vec![Message::User(vec![Content::Text("do it".into())])];
    for (turn, (text, results)) in turns.iter().enumerate() {
        let id = |at: usize| format!("c{turn}-{at}");
        let mut content = vec![Block::Text { text: text.clone(), signature: None }];
        content.extend((0..results.len()).map(|at| Block::ToolCall(ToolCall::from_raw(id(at), "bash", "{}"))));
        messages.push(Message::Assistant(Assistant { content, ..Assistant::default() }));
        for (at, part) in results.iter().enumerate() {
            let content = vec![part.clone()];
            messages.push(Message::ToolResult(ToolResult {
                call_id: id(at),
                tool: "bash".into(),
                content,
                is_error: false,
            }));
        }
        if results.is_empty() {
            messages.push(Message::User(vec![Content::Text(format!("go on {turn}"))]));
        }
    }
    messages
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn whatever_is_shortened_stays_a_conversation(
        turns in proptest::collection::vec(any_turn(), 0..30),
        window in 4000u64..60_000,
        overflow in any::<bool>(),
    ) {
        let before = conversation(&turns);
        let mut session = session_with(before.clone(), window);
        let reason = if overflow { CompactionReason::Overflow } else { CompactionReason::Threshold };
        let helped = session.compact(reason, &mut |_| {}).unwrap();
        let after = &session.messages;
        assert_valid(after, session.model());
        prop_assert_eq!(first_text(after, 0), "do it");
        // What is kept are the newest messages in their order; only results may have become shorter.
        let kept = &before[before.len() - (after.len() - 1)..];
        for (old, new) in kept.iter().zip(&after[1..]) {
            match (old, new) {
                (Message::ToolResult(old), Message::ToolResult(new)) => {
                    prop_assert_eq!((&old.call_id, old.is_error), (&new.call_id, new.is_error));
                    let (old, new) = (old.text(), new.text());
                    prop_assert!(old == new || new.chars().count() < old.chars().count());
                }
                (old, new) => prop_assert_eq!(old, new),
            }
        }
        prop_assert!(after.len() == before.len() || matches!(after[1], Message::Assistant(_)));
        if helped.is_ok() {
            prop_assert!(session.context() <= (window - (window / 4).min(16_384)) / 5 * 4);
        }
        // Doing it again at once changes nothing but the summary.
        let length = after.len();
        let _ = session.compact(reason, &mut |_| {}).unwrap();
        prop_assert!(session.messages.len() <= length);
        assert_valid(&session.messages, session.model());
    }
}
