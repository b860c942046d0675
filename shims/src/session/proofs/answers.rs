//! Answers that call themselves a success and are no stream (agent-session.md §8).

use serde_json::{Value, json};

use super::super::error::Kind;
use super::{Fake, Format, Given, hold};

/// An error object, and what kind of failure it is.
fn error_object(format: Format) -> (Value, Kind) {
    match format {
        Format::Anthropic => {
            (json!({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}), Kind::Overloaded)
        }
        Format::Responses => {
            (json!({"error": {"message": "busy", "type": "server_error", "param": null, "code": null}}), Kind::Server)
        }
        Format::Chat => (json!({"error": {"message": "busy", "code": 429}}), Kind::RateLimit),
        Format::Google => {
            (json!({"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}}), Kind::Overloaded)
        }
    }
}

fn typed(kind: &str, body: &str) -> Given {
    Given::bare(200, body).header("content-type", kind)
}

#[test]
fn a_complete_answer_counts_whatever_it_is_called() {
    for format in Format::ALL {
        let whole = format.whole().to_string();
        let pretty = format!("\n {}\r\n", serde_json::to_string_pretty(&format.whole()).unwrap());
        for given in [
            typed("application/json", &whole),
            typed("application/json; charset=utf-8", &pretty),
            typed("text/plain", &whole),
            typed("text/html", &whole),
            Given::bare(200, whole.clone()),
            Given::bare(201, whole.clone()),
            typed("application/json", &whole).in_pieces(1),
            typed("application/json", &format!("\u{feff}{whole}")),
        ] {
            let server = Fake::start(vec![given]);
            hold(format.table(&server.url)).assert_hello(&format!("{format:?}"));
        }
        for kind in ["text/event-stream", "Text/Event-Stream;charset=UTF-8", " text/event-stream ; x=y"] {
            let marked = format!("\u{feff}{}", format.hello());
            let server = Fake::start(vec![typed(kind, &format.hello()), typed(kind, &marked).in_pieces(1)]);
            for what in ["plain", "with a mark of its encoding"] {
                hold(format.table(&server.url)).assert_hello(&format!("{format:?} {kind} {what}"));
            }
        }
    }
}

/// Some servers write every member that there could be.
#[test]
fn an_error_that_is_null_is_none() {
    for format in Format::ALL {
        let mut whole = format.whole();
        whole["error"] = Value::Null;
        let server = Fake::start(vec![typed("application/json", &whole.to_string())]);
        hold(format.table(&server.url)).assert_hello(&format!("{format:?}"));
        let stream = format.hello().replacen("data: {", "data: {\"error\":null,", 1);
        let server = Fake::start(vec![Given::stream(stream)]);
        hold(format.table(&server.url)).assert_hello(&format!("{format:?}"));
    }
}

#[test]
fn an_error_object_is_an_error_whatever_it_is_called() {
    for format in Format::ALL {
        let (object, kind) = error_object(format);
        for content_type in ["application/json", "text/plain", "text/html; charset=utf-8"] {
            let server = Fake::start(vec![typed(content_type, &object.to_string())]);
            let seen = hold(format.table(&server.url));
            let [error] = &seen.failures[..] else { panic!("{format:?}: {:?}", seen.end) };
            assert_eq!((error.kind, error.message.as_str(), error.status), (kind, "busy", None), "{format:?}");
            assert!(seen.wait.is_some() && seen.text.is_empty());
        }
    }
}

#[test]
fn anything_else_is_malformed() {
    for format in Format::ALL {
        let foreign = Format::ALL.into_iter().filter(|other| *other != format).map(|other| other.whole().to_string());
        let mut cases = vec![
            ("text/html", "<html><h1>Sign in to the network</h1></html>".to_owned(), "<html><h1>Sign in"),
            ("text/plain", "pong".into(), "pong"),
            ("text/plain", String::new(), "text/plain"),
            ("application/json", "{\"type\":\"message\",".into(), "application/json"),
            ("application/json", "3".into(), ""),
            ("application/json", "null".into(), ""),
            ("application/json", "[]".into(), ""),
            ("application/json", "[1]".into(), ""),
            ("application/json", "\"Hello.\"".into(), ""),
            ("application/json", "{}".into(), "neither a stream nor"),
            ("application/json", format!("{0}{0}", format.whole()), ""),
            // A stream has to say that it is one.
            ("application/json", format.hello(), ""),
            ("text/event-source", format.hello(), ""),
        ];
        cases.extend(foreign.map(|whole| ("application/json", whole, "neither a stream nor")));
        for (kind, body, words) in cases {
            let server = Fake::start(vec![typed(kind, &body)]);
            let seen = hold(format.table(&server.url));
            let error = seen.assert_retried_soon(&format!("{format:?} {kind} {body}"));
            assert_eq!(
                (error.kind, error.kind.exit_code()),
                (Kind::Malformed, 14),
                "{format:?} {kind} {body}: {error}"
            );
            assert!(error.message.contains(words), "{format:?} {kind} {body}: {error}");
        }
    }
}

#[test]
fn an_answer_that_is_too_long_or_breaks_off_is_none() {
    let long = " ".repeat((32 << 20) + 1);
    for format in Format::ALL {
        let whole = format.whole().to_string();
        for (given, kind, words) in [
            (typed("application/json", &long), Kind::Malformed, "longer than 32 MiB"),
            (typed("application/json", &whole[..whole.len() / 2]).cut(), Kind::Network, "broke off"),
            (typed("application/json", &whole).cut(), Kind::Network, "broke off"),
        ] {
            let server = Fake::start(vec![given]);
            let seen = hold(format.table(&server.url));
            let error = seen.assert_retried_soon(&format!("{format:?} {words}"));
            assert!(error.kind == kind && error.message.contains(words), "{format:?}: {error}");
        }
    }
}

#[test]
fn a_redirection_is_a_wrong_configuration() {
    for format in Format::ALL {
        for status in [301, 302, 307, 308] {
            let server = Fake::start(vec![Given::json(status, "{}").header("location", "/elsewhere")]);
            let seen = hold(format.table(&server.url));
            let error = &seen.failures[0];
            assert_eq!((error.kind, error.kind.exit_code()), (Kind::InvalidRequest, 13));
            assert!(error.message.contains(&status.to_string()) && seen.wait.is_none(), "{error}");
            assert_eq!(server.received().len(), 1, "{format:?}");
        }
    }
}
