//! What `al-agent` itself asks the gateway: whether it is there, and for credentials (containers.md §10.4, §10.5).

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::report::Reporter;
use crate::env::Environment;
use crate::gateway::{self, Connecting, Limits};
use crate::secret::Secret;
use crate::text::percent_encode;

const ATTEMPTS: u64 = 30;
const PAUSE: Duration = Duration::from_millis(500);
/// Limit of one attempt.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(2);
/// Limit of all attempts together.
const WAIT_LIMIT: Duration = Duration::from_secs(20);
const FETCH_LIMIT: Duration = Duration::from_secs(10);

/// The gateway of this run.
pub(super) struct Gateway {
    client: gateway::Gateway,
    url: String,
    secret: Option<Secret>,
}

impl Gateway {
    /// The gateway that the environment names.
    pub(super) fn of(environment: &Environment) -> Option<Self> {
        let url = environment.get_non_empty("GATEWAY_URL")?.to_owned();
        let secret = environment.get_non_empty("SHUTDOWN_SECRET").map(Secret::new);
        Some(Self { client: gateway::Gateway::new(url.as_str()), url, secret })
    }

    /// Base URL.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Whether it can be asked for something that is this run's alone.
    pub(super) fn has_secret(&self) -> bool {
        self.secret.is_some()
    }

    /// Waits until the gateway answers. A run goes on without it: commands that need it say so themselves.
    pub(super) fn wait_until_reachable(&self, report: &Reporter) {
        let deadline = Instant::now() + WAIT_LIMIT;
        let left = || deadline.saturating_duration_since(Instant::now());
        let mut attempts = 0;
        while attempts < ATTEMPTS && !left().is_zero() {
            attempts += 1;
            let limit = ATTEMPT_LIMIT.min(left());
            if self.get("/health", limit).is_ok_and(|answer| (200..300).contains(&answer.status)) {
                return;
            }
            thread::sleep(PAUSE.min(left()));
        }
        report
            .warn("gateway not reachable", &[("gatewayUrl", self.url.as_str().into()), ("attempts", attempts.into())]);
    }

    /// The body of the gateway's answer with this run's credentials.
    ///
    /// # Errors
    /// No answer, or one that is not 200.
    pub(super) fn fetch_credentials(&self) -> Result<Vec<u8>> {
        let secret = self.secret.as_ref().context("fetch credentials: SHUTDOWN_SECRET is not set")?;
        let target = format!("/credentials/{}", percent_encode(secret.expose()));
        let answer = self.get(&target, FETCH_LIMIT).with_context(|| format!("fetch credentials from {}", self.url))?;
        if answer.status != 200 {
            bail!("fetch credentials from {}: the gateway answered HTTP {}", self.url, answer.status);
        }
        Ok(answer.body)
    }

    fn get(&self, target: &str, limit: Duration) -> Result<gateway::Answer, gateway::Failure> {
        self.client.get(target, Limits { connect: limit, total: limit, connecting: Connecting::Once })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::super::report::tests::Lines;
    use super::*;

    /// A gateway that gives these answers, one per connection; ends with the paths asked for.
    fn serve(answers: &'static [&'static str]) -> (Gateway, thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = thread::spawn(move || {
            let answer_one = |answer: &&str| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") {
                    stream.read_exact(&mut byte).unwrap();
                    head.push(byte[0]);
                }
                stream.write_all(answer.as_bytes()).unwrap();
                String::from_utf8(head).unwrap().split(' ').nth(1).unwrap().to_owned()
            };
            answers.iter().map(answer_one).collect()
        });
        let environment = [("GATEWAY_URL", url.as_str()), ("SHUTDOWN_SECRET", "s/1")].into_iter().collect();
        (Gateway::of(&environment).unwrap(), serving)
    }

    #[test]
    fn one_good_answer_ends_the_wait() {
        let (gateway, serving) = serve(&["HTTP/1.1 204 No Content\r\n\r\n"]);
        let (report, lines) = Lines::new();
        gateway.wait_until_reachable(&report);
        assert_eq!(serving.join().unwrap(), ["/health"]);
        assert!(lines.brief().is_empty());
    }

    #[test]
    fn other_answers_are_asked_again() {
        let (gateway, serving) =
            serve(&["HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]);
        gateway.wait_until_reachable(&Lines::new().0);
        assert_eq!(serving.join().unwrap(), ["/health", "/health"]);
    }

    #[test]
    fn credentials_are_fetched_with_the_secret_of_the_run() {
        let (gateway, serving) = serve(&["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"]);
        assert_eq!(gateway.fetch_credentials().unwrap(), b"{}");
        assert_eq!(serving.join().unwrap(), ["/credentials/s%2F1"]);
    }

    #[test]
    fn a_refusal_is_an_error_with_the_status() {
        let (gateway, _serving) = serve(&["HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"]);
        let error = gateway.fetch_credentials().unwrap_err().to_string();
        assert!(error.contains("403") && !error.contains("s/1"), "{error}");
    }
}
