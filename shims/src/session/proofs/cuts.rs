//! Streams that come in pieces of any size, and streams that end before their time (agent-session.md §8).

use proptest::prelude::*;

use super::super::error::Kind;
use super::super::message::{Assistant, Block};
use super::super::providers::bench::event_ends;
use super::{Fake, Format, Given, ask, asked, connect};

impl Format {
    /// Behind which byte of the response of the transcript its end has come. Nothing depends on the end of that line.
    fn complete_at(self) -> usize {
        let stream = self.tool_turn();
        let last = match self {
            Self::Anthropic => r#"{"type":"message_stop"}"#,
            Self::Responses => r#""total_tokens":1595}}}"#,
            Self::Chat => r#""finish_reason":"tool_calls"}]}"#,
            Self::Google => {
                r#""finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":812,"candidatesTokenCount":19,"totalTokenCount":859,"thoughtsTokenCount":28},"modelVersion":"gemini-2.5-pro","responseId":"r1"}"#
            }
        };
        stream.find(last).unwrap() + last.len()
    }
}

/// Ids of Google's calls are made here and differ each time.
fn without_made_ids(mut answer: Assistant) -> Assistant {
    for block in &mut answer.content {
        if let Block::ToolCall(call) = block
            && call.id.starts_with("bash_")
        {
            call.id = "made".into();
        }
    }
    answer
}

/// What came of a response that ends at a byte, properly or by a broken connection.
#[track_caller]
fn assert_cut(format: Format, at: usize, broken: bool, whole: &Assistant) {
    let given = Given::stream(&format.tool_turn()[..at]);
    let answer = asked(format, if broken { given.cut() } else { given }).1;
    let complete = format.complete_at();
    match answer {
        Ok(answer) => {
            assert!(at >= complete, "{format:?} {at} {broken}: {answer:?}");
            assert_eq!(without_made_ids(answer).content, whole.content, "{format:?} {at} {broken}");
        }
        Err(error) => {
            // The event counts when its blank line has come, or the end of the stream.
            assert!(at < complete || (broken && at < complete + 2), "{format:?} {at} {broken}: {error}");
            assert_eq!((error.kind, error.kind.exit_code()), (Kind::Network, 14), "{format:?} {at} {broken}: {error}");
            let words = if broken { "broke off" } else { "stream ended early" };
            assert!(error.message.contains(words), "{format:?} {at} {broken}: {error}");
        }
    }
}

fn whole(format: Format) -> Assistant {
    without_made_ids(asked(format, Given::stream(format.tool_turn())).1.unwrap())
}

#[test]
fn a_stream_that_ends_between_two_events_or_beside_one_is_an_error_of_the_network() {
    for format in Format::ALL {
        let (stream, whole) = (format.tool_turn(), whole(format));
        let ends = event_ends(stream).into_iter();
        let places = ends.flat_map(|end| [end - 3, end - 2, end - 1, end, end + 1]);
        for at in [0, 1].into_iter().chain(places).filter(|at| *at <= stream.len()) {
            for broken in [false, true] {
                assert_cut(format, at, broken, &whole);
            }
        }
    }
}

/// Sends the response of the transcript in pieces.
#[track_caller]
fn assert_pieces(format: Format, stream: &str, given: Given) {
    let (deltas, answer) = asked(format, Given::stream(format.tool_turn()));
    let seen = asked(format, given);
    let seen = (seen.0, without_made_ids(seen.1.unwrap()));
    assert_eq!(seen, (deltas, without_made_ids(answer.unwrap())), "{format:?}: {stream:?}");
}

#[test]
fn a_stream_may_be_cut_between_two_events_beside_one_and_within_one() {
    for format in Format::ALL {
        let stream = format.tool_turn();
        let ends = event_ends(stream).into_iter();
        let places = ends.flat_map(|end| [end - 2, end - 1, end, end + 1]).chain((0..stream.len()).step_by(13));
        let places: Vec<usize> = places.filter(|at| *at <= stream.len()).collect();
        let server = Fake::start(places.iter().map(|at| Given::stream(stream).split([*at])).collect());
        let mut provider = connect(format.table(&server.url));
        let (deltas, answer) = asked(format, Given::stream(stream));
        let answer = without_made_ids(answer.unwrap());
        for at in places {
            let (seen_deltas, seen) = ask(&mut *provider);
            let seen = without_made_ids(seen.unwrap_or_else(|error| panic!("{format:?} {at}: {error}")));
            assert_eq!((&seen_deltas, &seen), (&deltas, &answer), "{format:?} {at}");
        }
    }
}

#[test]
fn a_stream_may_come_in_pieces_of_any_size_with_any_ends_of_lines() {
    for format in Format::ALL {
        for line_end in ["\n", "\r\n", "\r"] {
            let stream = format.tool_turn().replace('\n', line_end);
            for size in [1, 2, 3, 7, 64, 333, 4096] {
                assert_pieces(format, &stream, Given::stream(stream.as_str()).in_pieces(size));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_stream_may_be_cut_into_any_pieces(
        cuts in proptest::collection::vec(0usize..1 << 20, 0..12),
        line_end in prop::sample::select(vec!["\n", "\r\n", "\r"]),
        format in prop::sample::select(Format::ALL.to_vec()),
    ) {
        let stream = format.tool_turn().replace('\n', line_end);
        assert_pieces(format, &stream, Given::stream(stream.as_str()).split(cuts));
    }

    #[test]
    fn a_stream_may_end_anywhere(
        at in 0usize..1 << 20,
        broken in any::<bool>(),
        format in prop::sample::select(Format::ALL.to_vec()),
    ) {
        let at = at % (format.tool_turn().len() + 1);
        assert_cut(format, at, broken, &whole(format));
    }
}
