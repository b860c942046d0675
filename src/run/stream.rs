//! From a container's output lines to log entries, and what the host learns from them on the way
//! (containers.md §8, scheduler.md §13.4).

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use shims::wire::log::LogLine;
use shims::wire::usage::Usage;

use crate::base::Masker;
use crate::base::clock::UnixMs;
use crate::base::log::{Entry, Level};
use crate::base::text::cut;
use crate::model::outcome::ModelFailure;

/// Longest plain output in one entry, in characters.
const LONGEST_OUTPUT: usize = 4000;
/// How far a container's clock may be off, in milliseconds.
const CLOCK_TOLERANCE_MS: i64 = 60_000;
/// Largest gap that is remembered: a container may claim any number.
const MOST_MISSING: u64 = 10_000;
/// Longest stderr line in one entry, in characters.
const LONGEST_STDERR: usize = 500;
/// What is kept of what a provider said, in characters.
const LONGEST_MODEL_ERROR: usize = 500;

/// What the lines of one run have said so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Learned {
    pub return_value: Option<String>,
    pub usage: Option<Usage>,
    /// Code and reason of `al-exit`.
    pub exit_signal: Option<(i32, String)>,
    /// The last `session error`.
    pub model_failure: Option<ModelFailure>,
    /// Text of the last tool error, for status displays.
    pub last_tool_error: Option<String>,
    /// The program inside has said that it ends now.
    pub is_done: bool,
    /// Highest sequence number seen; lines up to it are not taken twice after a re-attach.
    pub last_seq: u64,
}

impl Learned {
    /// Takes what a line of the run says, without the secrets in it.
    pub fn take(&mut self, line: &LogLine, masker: &Masker) {
        let text = |name: &str| line.fields.get(name).and_then(Value::as_str);
        match line.msg.as_str() {
            "signal-result" => match text("type") {
                Some("return") => self.return_value = text("value").map(|value| masker.mask(value).into()),
                Some("exit") => {
                    let code = line.fields.get("exitCode").and_then(Value::as_i64).unwrap_or_default();
                    let reason = masker.mask(text("reason").unwrap_or_default()).into_owned();
                    self.exit_signal = Some((i32::try_from(code).unwrap_or(i32::MAX), reason));
                }
                _ => {}
            },
            "token-usage" => self.usage = Some(lenient_usage(&line.fields)),
            "session error" => {
                let [provider, model, kind, error] =
                    ["provider", "model", "kind", "error"].map(|name| masker.mask(text(name).unwrap_or_default()));
                let error = cut(&error, LONGEST_MODEL_ERROR);
                // Another program that holds the session speaks for itself.
                let text = match &*kind {
                    "harness" => error.to_owned(),
                    _ => format!("{provider} {model}: {error}"),
                };
                self.model_failure = Some(ModelFailure { kind: kind.into_owned(), text });
            }
            "run completed" | "run completed, rerun requested" | "agent terminated with exit signal" => {
                self.is_done = true;
            }
            "tool error" if line.level == Level::Error => {
                if let Some(result) = text("result") {
                    self.last_tool_error = Some(masker.mask(&tool_error(text("cmd"), result)).into_owned());
                }
            }
            _ => {}
        }
    }
}

/// Translates the lines of one run.
pub struct Translator {
    instance: String,
    masker: Masker,
    /// Before this the run said nothing.
    since: UnixMs,
    /// Numbers below the highest one seen that were not: written while no client was attached.
    missing: BTreeSet<u64>,
    pub learned: Learned,
}

impl Translator {
    /// For a run that began at `since` and whose secrets the masker knows.
    pub fn new(instance: &str, masker: Masker, since: UnixMs) -> Self {
        Self { instance: instance.to_owned(), masker, since, missing: BTreeSet::new(), learned: Learned::default() }
    }

    /// A line of stdout; `None` for a blank one.
    pub fn stdout(&mut self, line: &str) -> Option<Entry> {
        if line.trim().is_empty() {
            return None;
        }
        let entry = match LogLine::parse(line) {
            Some(parsed) => {
                self.learn(&parsed);
                let time = self.plausible(parsed.ts);
                Entry { time, ..Entry::new(parsed.level, parsed.msg) }.with_foreign_fields(parsed.fields)
            }
            None => return self.plain(line),
        };
        Some(self.finish(entry))
    }

    /// The time that a line claims, if it can be: it decides which day's file the entry goes to.
    fn plausible(&self, claimed: Option<i64>) -> UnixMs {
        let now = UnixMs::now();
        let earliest = UnixMs(self.since.0.saturating_sub(CLOCK_TOLERANCE_MS));
        let latest = UnixMs(now.0.saturating_add(CLOCK_TOLERANCE_MS));
        claimed.map(UnixMs).filter(|time| (earliest..=latest).contains(time)).unwrap_or(now)
    }

    /// A line that is no protocol line, whatever it looks like; `None` for a blank one.
    pub fn plain(&self, line: &str) -> Option<Entry> {
        if line.trim().is_empty() {
            return None;
        }
        // Masked before it is cut: half a secret would not be found any more.
        let masked = self.masker.mask(line);
        Some(self.finish(Entry::new(Level::Info, "output").field("text", cut(&masked, LONGEST_OUTPUT))))
    }

    /// A protocol line that was read again after a re-attach: only what was not seen before counts.
    pub fn again(&mut self, line: &str) -> Option<Entry> {
        let seq = LogLine::parse(line)?.seq?;
        if self.is_new(seq) { self.stdout(line) } else { None }
    }

    /// Whether it is a protocol line with a number that was seen before.
    pub fn has_seen(&self, line: &str) -> bool {
        LogLine::parse(line).and_then(|line| line.seq).is_some_and(|seq| !self.is_new(seq))
    }

    fn is_new(&self, seq: u64) -> bool {
        seq > self.learned.last_seq || self.missing.contains(&seq)
    }

    /// A line of stderr; `None` for a blank one.
    pub fn stderr(&self, line: &str) -> Option<Entry> {
        if line.trim().is_empty() {
            return None;
        }
        let masked = self.masker.mask(line);
        Some(self.finish(Entry::new(Level::Warn, "container stderr").field("stderr", cut(&masked, LONGEST_STDERR))))
    }

    fn finish(&self, entry: Entry) -> Entry {
        entry.of_instance(&self.instance).masked(&self.masker)
    }

    fn learn(&mut self, line: &LogLine) {
        if let Some(seq) = line.seq {
            let first_missing = self.learned.last_seq.saturating_add(1);
            if seq > first_missing && seq - first_missing <= MOST_MISSING {
                self.missing.extend(first_missing..seq);
            }
            self.missing.remove(&seq);
            self.learned.last_seq = self.learned.last_seq.max(seq);
        }
        self.learned.take(line, &self.masker);
    }
}

/// Usage with missing or non-numeric members as 0.
fn lenient_usage(fields: &Map<String, Value>) -> Usage {
    let count = |name: &str| {
        let value = fields.get(name);
        value.and_then(Value::as_u64).or_else(|| value.and_then(Value::as_f64).map(|value| value as u64)).unwrap_or(0)
    };
    let cost = fields.get("cost").and_then(Value::as_f64).filter(|cost| cost.is_finite()).unwrap_or(0.0);
    Usage {
        input_tokens: count("inputTokens"),
        output_tokens: count("outputTokens"),
        cache_read_tokens: count("cacheReadTokens"),
        cache_write_tokens: count("cacheWriteTokens"),
        total_tokens: count("totalTokens"),
        cost,
        turn_count: count("turnCount"),
    }
}

/// `$ <cmd> — <text>`; older programs wrapped the text in JSON.
fn tool_error(cmd: Option<&str>, result: &str) -> String {
    let wrapped = serde_json::from_str::<Value>(result).ok();
    let inner = wrapped.as_ref().and_then(|value| value.pointer("/content/0/text")).and_then(Value::as_str);
    let text = cut(inner.unwrap_or(result).trim(), 200);
    match cmd {
        Some(cmd) => format!("$ {} — {text}", cut(cmd, 80)),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Secret;

    fn translator() -> Translator {
        Translator::new("dev-00000001", Masker::new(&[Secret::new("sk-very-secret")]), UnixMs::now())
    }

    #[test]
    fn plain_lines_become_output_and_secrets_do_not_pass() {
        let entry = translator().stdout("token is sk-very-secret").unwrap();
        assert_eq!((entry.msg.as_str(), entry.fields["text"].as_str()), ("output", Some("token is ***")));
        assert_eq!(entry.instance.as_deref(), Some("dev-00000001"));
        assert_eq!(translator().stdout("   "), None);
        let entry = translator().stderr("warning: sk-very-secret").unwrap();
        assert_eq!((entry.level, entry.fields["stderr"].as_str()), (Level::Warn, Some("warning: ***")));
    }

    #[test]
    fn special_lines_are_logged_and_remembered() {
        let mut translator = translator();
        let lines = [
            r#"{"_log":true,"level":"info","msg":"signal-result","type":"return","value":"first","seq":1}"#,
            r#"{"_log":true,"level":"info","msg":"signal-result","type":"return","value":"second","seq":2}"#,
            r#"{"_log":true,"level":"info","msg":"token-usage","inputTokens":5,"cost":"x","turnCount":2,"seq":3}"#,
            r#"{"_log":true,"level":"error","msg":"tool error","tool":"bash","cmd":"gh x","result":"not found","seq":4}"#,
            r#"{"_log":true,"level":"info","msg":"signal-result","type":"exit","exitCode":11,"reason":"no","seq":5}"#,
            r#"{"_log":true,"level":"error","msg":"session error","error":"bad key sk-very-secret","kind":"auth","provider":"p","model":"m","seq":6}"#,
        ];
        for line in lines {
            assert!(translator.stdout(line).is_some());
        }
        let learned = &translator.learned;
        assert_eq!(learned.return_value.as_deref(), Some("second"));
        let failure = ModelFailure { kind: "auth".into(), text: "p m: bad key ***".into() };
        assert_eq!(learned.model_failure, Some(failure));
        assert_eq!(learned.usage.unwrap(), Usage { input_tokens: 5, turn_count: 2, ..Usage::default() });
        assert_eq!(learned.last_tool_error.as_deref(), Some("$ gh x — not found"));
        assert_eq!(learned.exit_signal, Some((11, "no".to_owned())));
        assert_eq!((learned.last_seq, learned.is_done), (6, false));
        translator.stdout(r#"{"_log":true,"level":"info","msg":"run completed","outputLength":0,"seq":7}"#);
        assert!(translator.learned.is_done);
    }

    #[test]
    fn a_container_cannot_choose_another_day() {
        let mut translator = translator();
        let entry = translator.stdout(r#"{"_log":true,"msg":"x","ts":1000}"#).unwrap();
        assert!(UnixMs::now().since(entry.time) < std::time::Duration::from_secs(60));
        let now = UnixMs::now().0;
        let entry = translator.stdout(&format!(r#"{{"_log":true,"msg":"x","ts":{now}}}"#)).unwrap();
        assert_eq!(entry.time, UnixMs(now));
    }

    #[test]
    fn lines_read_twice_count_once() {
        let mut translator = translator();
        let line = r#"{"_log":true,"msg":"x","seq":3}"#;
        assert!(translator.stdout(line).is_some());
        assert_eq!(translator.again(line), None);
        assert!(translator.again(r#"{"_log":true,"msg":"x","seq":4}"#).is_some());
        assert_eq!(translator.again("plain"), None);
        // What was missed between two lines that were seen counts, once.
        assert!(translator.stdout(r#"{"_log":true,"msg":"x","seq":7}"#).is_some());
        let missed = r#"{"_log":true,"msg":"x","seq":6}"#;
        assert!(translator.again(missed).is_some());
        assert_eq!(translator.again(missed), None);
        // A claimed number costs nothing.
        assert!(translator.stdout(r#"{"_log":true,"msg":"x","seq":18446744073709551615}"#).is_some());
    }
}
