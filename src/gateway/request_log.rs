//! Log lines about requests, limited in number: whoever can send requests must not be able to fill the disk.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::base::clock::UnixMs;
use crate::base::log::{Entry, Level, Log};
use crate::http::{Method, Reply};

/// Lines per second.
const MOST_LINES: u32 = 100;
/// How long suppressed lines are counted before their number is written.
const REPORT_AFTER_MS: i64 = 60_000;

/// Writes lines about requests to the gateway's log.
pub(super) struct RequestLog {
    log: Arc<Log>,
    window: Mutex<Window>,
}

#[derive(Default)]
struct Window {
    lines: PerSecond,
    suppressed: u64,
    suppressed_since: UnixMs,
}

/// Counts what may happen [`MOST_LINES`] times a second.
#[derive(Default)]
pub(super) struct PerSecond {
    /// Second of the epoch that is counted.
    second: i64,
    count: u32,
}

impl PerSecond {
    /// Whether it may happen once more; counts it then.
    pub(super) fn allow(&mut self, now: UnixMs) -> bool {
        let second = now.0.div_euclid(1000);
        if second != self.second {
            *self = Self { second, count: 0 };
        }
        let allowed = self.count < MOST_LINES;
        self.count += u32::from(allowed);
        allowed
    }
}

impl RequestLog {
    pub(super) fn new(log: Arc<Log>) -> Self {
        Self { log, window: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a line, or counts it as suppressed; it is made only when it is written.
    pub(super) fn write(&self, line: impl FnOnce() -> Entry) {
        self.write_at(UnixMs::now(), line);
    }

    fn write_at(&self, now: UnixMs, line: impl FnOnce() -> Entry) {
        if self.lock().allow(now) {
            self.log.write(&line());
        }
        self.report(now);
    }

    /// Answers a request between two lines.
    pub(super) fn around(&self, method: Method, path: impl Fn() -> String, answer: impl FnOnce() -> Reply) -> Reply {
        self.write(|| of_request(Level::Debug, "request received", method, path()));
        let started = Instant::now();
        let reply = answer();
        self.completed(method, path, &reply, started.elapsed());
        reply
    }

    /// Says what a request was answered.
    pub(super) fn completed(&self, method: Method, path: impl Fn() -> String, reply: &Reply, took: Duration) {
        self.write(|| {
            let (level, msg) = match reply.status {
                400.. => (Level::Warn, "request completed with error"),
                _ => (Level::Debug, "request completed"),
            };
            let duration = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            let entry =
                of_request(level, msg, method, path()).field("status", reply.status).field("duration", duration);
            match reason(reply) {
                Some(reason) => entry.field("reason", reason),
                None => entry,
            }
        });
    }

    /// Writes how many lines were suppressed once their minute is over.
    pub(super) fn report(&self, now: UnixMs) {
        self.report_if(|window| now.0 - window.suppressed_since.0 >= REPORT_AFTER_MS);
    }

    /// Writes how many lines were suppressed.
    pub(super) fn flush(&self) {
        self.report_if(|_| true);
    }

    fn report_if(&self, due: impl Fn(&Window) -> bool) {
        let mut window = self.lock();
        if window.suppressed > 0 && due(&window) {
            let count = std::mem::take(&mut window.suppressed);
            drop(window);
            self.log.write(&Entry::new(Level::Warn, "request lines suppressed").field("count", count));
        }
    }
}

impl Window {
    fn allow(&mut self, now: UnixMs) -> bool {
        let allowed = self.lines.allow(now);
        if !allowed {
            if self.suppressed == 0 {
                self.suppressed_since = now;
            }
            self.suppressed += 1;
        }
        allowed
    }
}

fn of_request(level: Level, msg: &str, method: Method, path: String) -> Entry {
    let word = match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Other => "other",
    };
    Entry::new(level, msg).field("method", word).field("path", path)
}

/// What a refusal says.
fn reason(reply: &Reply) -> Option<String> {
    if reply.status < 400 {
        return None;
    }
    let body: Value = serde_json::from_slice(&reply.body).ok()?;
    let text = body.get("error").or_else(|| body.get("reason")).and_then(Value::as_str)?;
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_lines_a_second_then_a_number() {
        let dir = tempfile::tempdir().unwrap();
        let log = RequestLog::new(Arc::new(Log::new(dir.path(), "gateway")));
        let line = |ms| {
            log.write_at(UnixMs(ms), || Entry { time: UnixMs(ms), ..Entry::new(Level::Debug, "request") });
        };
        (0..150).for_each(|_| line(5000));
        line(6000);
        let count = |msg: &str| {
            let files = std::fs::read_dir(dir.path()).unwrap();
            let text: String = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
            text.matches(msg).count()
        };
        assert_eq!((count("\"request\""), count("suppressed")), (101, 0));
        log.report(UnixMs(65_000));
        log.report(UnixMs(66_000));
        assert_eq!(count("\"count\":50,\"msg\":\"request lines suppressed\""), 1);
    }
}
