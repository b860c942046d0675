//! How long an answer may take: as long as it likes, as long as it goes on.

use std::thread;
use std::time::Duration;

use super::super::error::Kind;
use super::{Fake, Format, Given, hold};

const PAUSE: Duration = Duration::from_millis(300);

/// Holds a session for each case of each format, all at once: they consist of waiting.
fn at_once(cases: impl Fn(Format) -> Vec<(&'static str, Given)>, check: impl Fn(&str, super::Seen) + Sync) {
    thread::scope(|scope| {
        for format in Format::ALL {
            for (what, given) in cases(format) {
                let check = &check;
                scope.spawn(move || {
                    let server = Fake::start(vec![given]);
                    check(&format!("{format:?}, {what}"), hold(format.table(&server.url)));
                });
            }
        }
    });
}

#[test]
fn a_slow_stream_is_read_to_its_end() {
    let cases = |format: Format| {
        let hello = format.hello();
        let length = hello.len();
        // Each line is one piece.
        let comment = format!(": {}\n", "x".repeat(length - 3));
        let millisecond = Duration::from_millis(1200 / length as u64 + 1);
        vec![
            ("byte by byte", Given::stream(hello.clone()).slowly(1, millisecond)),
            ("with pauses", Given::stream(hello.clone()).slowly(length / 5, PAUSE)),
            ("after comments", Given::stream(comment.repeat(5) + &hello).slowly(length, PAUSE)),
            ("not as a stream", Given::json(200, &format.whole().to_string()).slowly(length / 8, PAUSE)),
        ]
    };
    at_once(cases, |what, seen| seen.assert_hello(what));
}

#[test]
fn silence_is_an_error_of_the_network() {
    let cases = |format: Format| {
        let hello = format.hello();
        let first = hello.find("\n\n").unwrap() + 2;
        vec![
            ("before the head", Given::silence()),
            ("after the head", Given::stream("").hang()),
            ("after an event", Given::stream(&hello[..first]).hang()),
            ("within an event", Given::stream(&hello[..first + 9]).hang()),
            ("after a comment", Given::stream(": still here\n\n").hang()),
            ("within an answer that is no stream", Given::json(200, "{\"type\":").hang()),
        ]
    };
    at_once(cases, |what, seen| {
        let error = seen.assert_retried_soon(what);
        assert_eq!((error.kind, error.kind.exit_code(), error.status), (Kind::Network, 14, None), "{what}");
        assert!(error.message.contains("127.0.0.1") && error.message.contains("nothing received for 1 s"), "{error}");
    });
}

/// The status says enough.
#[test]
fn silence_within_the_body_of_an_error_does_not_hide_the_error() {
    let cases =
        |_| vec![("status 503", Given::json(503, "{\"error\":").hang()), ("no body", Given::bare(500, "").hang())];
    at_once(cases, |what, seen| {
        let kind = seen.failures[0].kind;
        assert_eq!((kind == Kind::Overloaded, kind == Kind::Server), (what.contains("503"), what.contains("no body")));
    });
}
