//! Streams with something in them that does not belong there.

use super::super::error::Kind;
use super::super::providers::bench::event_ends;
use super::{Fake, Format, Given, hold};

/// Puts bytes before the so-manieth event of `Hello.`.
fn with(format: Format, event: usize, bytes: &[u8]) -> Given {
    let hello = format.hello();
    let at = event_ends(&hello)[event];
    Given::stream([&hello.as_bytes()[..at], bytes, &hello.as_bytes()[at..]].concat())
}

#[test]
fn data_that_is_no_json_object_is_malformed() {
    let cases: [&[u8]; 9] = [
        b"data: pong\n\n",
        b"data: <html>502</html>\n\n",
        b"data: {\"type\":\"x\"\n\n",
        b"data: {\"type\":\"x\"}}\n\n",
        b"data: {\"type\":\"x\"} {\"type\":\"y\"}\n\n",
        b"data: 7\n\n",
        b"data: \"Hello\"\n\n",
        b"data: {\"type\":\"x\ny\"}\n\n",
        b"data: {\ndata: \"type\"\ndata: x}\n\n",
    ];
    for format in Format::ALL {
        for bytes in cases {
            let server = Fake::start(vec![with(format, 0, bytes)]);
            let seen = hold(format.table(&server.url));
            let what = format!("{format:?} {}", String::from_utf8_lossy(bytes));
            let error = seen.assert_retried_soon(&what);
            assert_eq!((error.kind, error.kind.exit_code()), (Kind::Malformed, 14), "{what}: {error}");
            assert_eq!(seen.text, "", "{what}");
        }
    }
}

#[test]
fn a_line_without_end_is_malformed() {
    let line = format!("data: \"{}", "x".repeat(33 << 20));
    for format in Format::ALL {
        let server = Fake::start(vec![with(format, 0, line.as_bytes())]);
        let seen = hold(format.table(&server.url));
        let error = seen.assert_retried_soon(&format!("{format:?}"));
        assert!(error.kind == Kind::Malformed && error.message.contains("32 MiB"), "{format:?}: {error}");
    }
}

#[test]
fn what_means_nothing_is_skipped() {
    let cases: [&[u8]; 12] = [
        b": comment\n\n",
        b":\n",
        b"\n\n\r\n\r\n",
        b"id: 7\nretry: 3000\n\n",
        b"event: ping\n\n",
        b"event: keepalive\ndata:\n\n",
        b"data\n\n",
        b"nonsense\n\xff\xfe: \xff\n\n",
        b"data: {}\n\n",
        b"data: {\"type\":\"weather\",\"index\":7,\"mood\":[null,{\"a\":1.5e3}]}\n\n",
        b"data: {\"type\":\"\xff\",\"comment\":\"not \xc3 UTF-8\"}\n\n",
        b"data:{\"type\":\ndata: \"split\"}\n\n",
    ];
    for format in Format::ALL {
        for bytes in cases {
            let server = Fake::start(vec![with(format, 0, bytes), with(format, 1, bytes)]);
            for place in ["first", "second"] {
                let what = format!("{format:?} {place} {}", String::from_utf8_lossy(bytes));
                hold(format.table(&server.url)).assert_hello(&what);
            }
        }
    }
}

/// Half of a pair, NUL and characters of many bytes, whole and escaped.
#[test]
fn odd_characters_come_through() {
    let odd = r"\ud83d! \ude00 a\u0000b \ud83d\ude00 ü€😀 \u2028";
    let meant = "\u{fffd}! \u{fffd} a\u{0}b \u{1f600} ü€😀 \u{2028}";
    for format in Format::ALL {
        let stream = format.hello().replace("Hel", odd).replace("Hello.", &format!("{odd}lo."));
        let server = Fake::start(vec![Given::stream(stream).in_pieces(1)]);
        let seen = hold(format.table(&server.url));
        assert_eq!(seen.text, format!("{meant}lo."), "{format:?}: {:?}", seen.failures);
    }
}
