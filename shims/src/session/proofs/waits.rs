//! How long a server asks to wait, in every form in which it can say so (agent-session.md §9.2).

use std::process::Command;
use std::time::Duration;

use serde_json::json;

use super::super::error::Kind;
use super::{Fake, Format, Given, RetryPhase, hold, sse};

use RetryPhase::{Fast, Slow};

/// A refusal for which no format has anything special.
fn limited() -> Given {
    Given::json(429, r#"{"error":{"message":"slow down"}}"#)
}

/// A date as HTTP writes it, so many seconds from now.
fn date(seconds: i64) -> String {
    date_as("+%a, %d %b %Y %H:%M:%S GMT", seconds)
}

fn date_as(form: &str, seconds: i64) -> String {
    let mut command = Command::new("date");
    command.env("LC_ALL", "C").args(["--utc", "--date", &format!("{seconds} seconds"), form]);
    String::from_utf8(command.output().unwrap().stdout).unwrap().trim().to_owned()
}

/// The first wait after an answer, in every format.
#[track_caller]
fn assert_waits(given: &Given, phase: RetryPhase, from_ms: u64, to_ms: u64) {
    for format in Format::ALL {
        let server = Fake::start(vec![given.clone()]);
        let seen = hold(format.table(&server.url));
        let Some((seen_phase, delay)) = seen.wait else { panic!("{format:?}: {:?}", seen.end) };
        let expected = Duration::from_millis(from_ms)..=Duration::from_millis(to_ms);
        assert!(seen_phase == phase && expected.contains(&delay), "{format:?}: {seen_phase:?} {delay:?}");
    }
}

#[test]
fn the_header_gives_seconds_milliseconds_or_a_date() {
    assert_waits(&limited(), Fast, 2000, 2000);
    assert_waits(&limited().header("retry-after", "12"), Fast, 12_000, 12_000);
    assert_waits(&limited().header("Retry-After", "0.25"), Fast, 250, 250);
    assert_waits(&limited().header("retry-after-ms", "1500"), Fast, 1500, 1500);
    // The finer one counts.
    assert_waits(&limited().header("retry-after", "12").header("retry-after-ms", "1500"), Fast, 1500, 1500);
    // The two older forms are still to be understood.
    for form in ["+%a, %d %b %Y %H:%M:%S GMT", "+%A, %d-%b-%y %H:%M:%S GMT", "+%a %b %e %H:%M:%S %Y"] {
        assert_waits(&limited().header("retry-after", &date_as(form, 30)), Fast, 25_000, 30_000);
    }
}

#[test]
fn what_is_no_time_to_wait_is_ignored() {
    for value in ["0", "-5", "soon", "", "inf", "NaN", "Sometime, 31 Foo 2026 10:00:00 GMT", &date(-30)] {
        assert_waits(&limited().header("retry-after", value), Fast, 2000, 2000);
    }
    assert_waits(&limited().header("retry-after-ms", "x").header("retry-after", "7"), Fast, 7000, 7000);
    assert_waits(&limited().header("retry-after-ms", "0"), Fast, 2000, 2000);
}

#[test]
fn a_long_wait_belongs_to_the_slow_phase() {
    assert_waits(&limited().header("retry-after", "60"), Fast, 60_000, 60_000);
    assert_waits(&limited().header("retry-after", "61"), Slow, 61_000, 61_000);
    assert_waits(&limited().header("retry-after", &date(200)), Slow, 190_000, 200_000);
    // No wait is longer than five minutes, whatever the server wants.
    for value in ["86400", "1e300", "99999999999999999999", &date(864_000)] {
        assert_waits(&limited().header("retry-after", value), Slow, 300_000, 300_000);
    }
}

#[test]
fn bodies_say_it_where_no_header_does() {
    let of = |body: serde_json::Value| Given::json(429, &body.to_string());
    let info = |delay: &str| json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay});
    let google = |delay: &str| of(json!({"error": {"message": "quota", "details": [{"@type": "x"}, info(delay)]}}));
    assert_waits(&google("37s"), Fast, 37_000, 37_000);
    assert_waits(&google("0.5s"), Fast, 500, 500);
    assert_waits(&google("90s"), Slow, 90_000, 90_000);
    assert_waits(&google("37s").header("retry-after", "5"), Fast, 5000, 5000);
    let text = |text: &str| of(json!({"error": {"message": format!("Limit reached. Please {text}. See the docs.")}}));
    assert_waits(&text("try again in 7.66s"), Fast, 7660, 7660);
    assert_waits(&text("Try again in 350ms"), Fast, 350, 350);
    assert_waits(&text("try again in 1m12.5s"), Slow, 72_500, 72_500);
    assert_waits(&text("try again in a while"), Fast, 2000, 2000);
    assert_waits(&text("try again in 7.66s").header("retry-after-ms", "10"), Fast, 10, 10);
}

/// Errors of the other kinds that are worth another attempt have their own pace.
#[test]
fn a_broken_server_sets_no_pace() {
    for status in [500, 502, 504, 408, 409] {
        assert_waits(&Given::json(status, "{}").header("retry-after", "30"), Fast, 375, 500);
    }
    for status in [503, 529] {
        assert_waits(&Given::json(status, "{}").header("retry-after", "30"), Fast, 30_000, 30_000);
    }
}

#[test]
fn an_error_inside_a_stream_may_say_it_too() {
    let message = "Rate limit reached. Please try again in 7.66s.";
    for format in Format::ALL {
        let error = match format {
            Format::Anthropic => json!({"type": "error", "error": {"type": "rate_limit_error", "message": message}}),
            Format::Responses => json!({"type": "response.failed", "response": {"status": "failed",
                "error": {"code": "rate_limit_exceeded", "message": message}}}),
            Format::Chat => json!({"error": {"code": 429, "message": message}, "choices": []}),
            Format::Google => json!({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": message}}),
        };
        let begun = &format.hello()[..format.hello().find("lo.").unwrap()];
        let begun = &begun[..begun.rfind("\n\n").unwrap() + 2];
        let server = Fake::start(vec![Given::stream(format!("{begun}{}", sse(&[error])))]);
        let seen = hold(format.table(&server.url));
        assert_eq!(seen.failures[0].kind, Kind::RateLimit, "{format:?}: {:?}", seen.failures);
        assert_eq!(seen.wait, Some((Fast, Duration::from_millis(7660))), "{format:?}");
        assert_eq!(seen.text, "", "what came before it is withdrawn");
    }
}

#[test]
fn a_server_decides_whether_it_is_asked_again_soon() {
    assert_waits(&limited().header("x-should-retry", "false"), Slow, 30_000, 30_000);
    assert_waits(&Given::json(500, "{}").header("x-should-retry", "false"), Slow, 30_000, 30_000);
    assert_waits(&Given::json(404, "{}").header("x-should-retry", "true"), Fast, 375, 500);
}
