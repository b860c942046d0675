//! What the providers answer when they refuse, in their own words: what kind of failure that is, whether the request is
//! sent again, the exit code of a run that ends with it, and what a person is told (agent-session.md §9.1, §10.6, §11.5,
//! §12.5, §13.6).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::End;
use super::super::error::Kind;
use super::{Fake, Given, RetryPhase, hold};

const REFUSALS: &str = include_str!("refusals.jsonl");

/// One answer, and what follows from it.
#[derive(Deserialize)]
struct Refusal {
    provider: String,
    model: String,
    status: u16,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// A text stands for itself.
    body: Value,
    kind: String,
    next: Next,
    /// What the message begins with, behind the status.
    words: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Next {
    /// The session ends.
    Over,
    /// The same request after half a second, or a quarter less.
    Soon,
    /// The same request after so many milliseconds.
    After(u64),
    /// The same request after so many milliseconds of the slow phase.
    Late(u64),
    /// The request without this parameter, at once.
    Without(String),
    /// A shorter conversation, at once, if there is anything to leave out.
    Shorter,
}

fn exit_code(kind: Kind) -> i32 {
    match kind {
        Kind::Auth => 10,
        Kind::Permission => 11,
        Kind::Quota | Kind::RateLimit | Kind::Overloaded => 12,
        Kind::InvalidRequest => 13,
        Kind::Server | Kind::Network | Kind::Malformed => 14,
        Kind::ContextOverflow | Kind::Refusal | Kind::Limit => 15,
    }
}

/// The answer alone, to a session with this provider.
#[track_caller]
fn assert_refusal(line: &str) {
    let refusal: Refusal = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let body = refusal.body.as_str().map_or_else(|| refusal.body.to_string(), str::to_owned);
    let given = Given::json(refusal.status, &body).header("x-request-id", "req_of_header");
    let given = refusal.headers.iter().fold(given, |given, (name, value)| given.header(name, value));
    let server = Fake::start(vec![given]);
    let seen = hold(json!({"provider": refusal.provider, "model": refusal.model, "baseUrl": server.url}));

    let error = seen.failures.first().unwrap_or_else(|| panic!("{:?} {line}", seen.end));
    let kind = Kind::from_word(&refusal.kind).unwrap_or_else(|| panic!("{line}"));
    assert_eq!((error.kind, error.kind.exit_code()), (kind, exit_code(kind)), "{line}");
    assert_eq!((error.status, error.request_id.as_deref()), (Some(refusal.status), Some("req_of_header")), "{line}");
    let words = format!("HTTP {}: {}", refusal.status, refusal.words);
    assert!(error.message.contains(&words), "{error} {line}");
    let received = server.received();
    let expected = match refusal.next {
        Next::Over => {
            assert!(matches!(seen.end, End::Failed { .. }), "{:?} {line}", seen.end);
            assert_eq!((received.len(), &error.rejected), (1, &None), "{line}");
            None
        }
        Next::Soon => {
            seen.assert_retried_soon(line);
            return;
        }
        Next::After(delay) => Some((RetryPhase::Fast, Duration::from_millis(delay))),
        Next::Late(delay) => Some((RetryPhase::Slow, Duration::from_millis(delay))),
        Next::Without(param) => {
            assert_eq!(error.rejected.as_ref(), Some(&param), "{line}");
            let has = |at: usize| received[at].body.to_string().contains(&format!("\"{param}\":"));
            assert_eq!((received.len(), has(0), has(1)), (2, true, false), "{line}");
            None
        }
        // There is nothing in this conversation that could be left out.
        Next::Shorter => None,
    };
    assert_eq!(seen.wait, expected, "{line}");
}

#[test]
fn what_the_providers_say_is_understood() {
    REFUSALS.lines().for_each(assert_refusal);
    let providers = REFUSALS.lines().map(|line| line.split('"').nth(3).unwrap());
    let mut providers: Vec<&str> = providers.collect();
    providers.dedup();
    let all = ["anthropic", "openai", "groq", "xai", "mistral", "openrouter", "google", "custom"];
    assert_eq!(providers, all);
}
