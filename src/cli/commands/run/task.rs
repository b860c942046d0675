//! What the run is for: the trigger from the command line, a file, or standard input.

use std::fs::File;
use std::io::{self, Read};

use anyhow::{Context as _, Result, bail};
use crossbeam_channel::{bounded, select};
use serde_json::Value;

use crate::base::clock::UnixMs;
use crate::base::error::UsageError;
use crate::base::{Cancel, worker};
use crate::cli::args::Run;
use crate::model::event::Trigger;
use crate::model::webhook_context::Context;
use crate::webhooks::raw::RawDelivery;

/// Longest task text in bytes.
const LONGEST_TASK: u64 = 16 * 1024 * 1024;
/// Longest webhook file in bytes.
const LONGEST_WEBHOOK: u64 = 10 * 1024 * 1024;

/// The trigger that the arguments ask for.
///
/// # Errors
/// When they contradict each other, a file cannot be read or is not what it should be, or the token is used meanwhile.
pub(super) fn trigger(args: &Run, cancel: &Cancel) -> Result<Trigger> {
    let conflict =
        |one: &str, other: &str| Err(UsageError(format!("error: option '{one}' cannot be used with {other}")).into());
    match (&args.prompt, &args.prompt_file, &args.webhook) {
        (_, Some(_), Some(_)) => conflict("--webhook <file>", "option '--prompt-file <file>'"),
        (Some(_), None, Some(_)) => conflict("--webhook <file>", "a task"),
        (Some(_), Some(_), None) => conflict("--prompt-file <file>", "a task"),
        (Some(prompt), None, None) => Ok(Trigger::Manual { prompt: Some(prompt.clone()) }),
        (None, Some(file), None) => {
            let input = Input { option: "--prompt-file", file, what: "the task", limit: LONGEST_TASK };
            Ok(Trigger::Manual { prompt: Some(input.read(cancel)?) })
        }
        (None, None, Some(file)) => {
            let input = Input { option: "--webhook", file, what: "the webhook", limit: LONGEST_WEBHOOK };
            webhook(&input.read(cancel)?, &input.name())
        }
        (None, None, None) => Ok(Trigger::Manual { prompt: None }),
    }
}

/// `whence` is how errors name the file.
fn webhook(text: &str, whence: &str) -> Result<Trigger> {
    const FORMS: &str = "it has to hold one JSON object: a webhook context with at least `source` and `event`, for example \
                         {\"source\":\"github\",\"event\":\"issues\",\"action\":\"labeled\",\"repo\":\"acme/app\",\"number\":42}, \
                         or a delivery as its provider sends it, {\"headers\":{…},\"body\":{…}}";
    let Ok(Value::Object(given)) = serde_json::from_str(text) else { bail!("{whence}: is not a JSON object; {FORMS}") };
    let malformed = |problem: String| format!("{problem}; {FORMS}");
    let now = UnixMs::now();
    let context = if RawDelivery::is_one(&given) {
        RawDelivery::from_json(&given).map_err(malformed).and_then(|raw| raw.context(raw.provider()?, now))
    } else {
        Context::from_json(&given, now).map_err(malformed)
    };
    let receipt_id = given.get("receiptId").and_then(Value::as_str).filter(|id| !id.is_empty()).unwrap_or("local");
    match context {
        Ok(context) => Ok(Trigger::Webhook { context: context.into_json(receipt_id) }),
        Err(problem) => bail!("{whence}: {problem}"),
    }
}

/// A file that an option names, or standard input for `-`.
struct Input<'a> {
    option: &'static str,
    file: &'a str,
    what: &'static str,
    /// Most bytes.
    limit: u64,
}

impl Input<'_> {
    /// How errors name it: `--prompt-file task.md`.
    fn name(&self) -> String {
        let file = if self.file == "-" { "- (standard input)" } else { self.file };
        format!("{} {file}", self.option)
    }

    /// Reads all of it as UTF-8.
    fn read(&self, cancel: &Cancel) -> Result<String> {
        let (name, limit) = (self.name(), self.limit);
        let (sender, received) = bounded(1);
        let path = self.file.to_owned();
        // On a thread of its own, because nothing ends a read from a terminal or a pipe; the end of the process does.
        worker::spawn("input", move || {
            let _ = sender.send(read_bytes(&path, limit + 1));
        })?;
        let bytes = select! {
            recv(received) -> bytes => bytes.context("read input")?.with_context(|| format!("{name}: cannot be read"))?,
            recv(cancel.done()) -> _ => bail!("{name}: reading it was interrupted"),
        };
        if bytes.len() as u64 > limit {
            bail!("{name}: {} is longer than {} MiB", self.what, limit / 1024 / 1024);
        }
        String::from_utf8(bytes).ok().with_context(|| format!("{name}: {} is not valid UTF-8", self.what))
    }
}

fn read_bytes(file: &str, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let source: Box<dyn Read> = if file == "-" { Box::new(io::stdin()) } else { Box::new(File::open(file)?) };
    source.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::text::percent_encode;
    use serde_json::{Map, json};

    fn args(line: &[&str]) -> Run {
        <Run as argh::FromArgs>::from_args(&["al", "run"], line).unwrap()
    }

    #[test]
    fn contradictions_are_usage_errors() {
        for line in [
            &["dev", "do it", "--prompt-file", "x"][..],
            &["dev", "do it", "--webhook", "x"],
            &["dev", "--prompt-file", "x", "--webhook", "y"],
        ] {
            let error = trigger(&args(line), &Cancel::new()).unwrap_err();
            assert!(error.is::<UsageError>() && error.to_string().contains("cannot be used with"), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_no_context_is_told_what_it_should_be() {
        for (text, part) in [
            ("[1]", "not a JSON object"),
            ("{\"event\":\"x\"}", "source"),
            ("{\"headers\":[],\"body\":{}}", "`headers` is not an object"),
            ("{\"headers\":{\"x-github-event\":1},\"body\":{}}", "`x-github-event` is not a text"),
            ("{\"headers\":{}}", "`source`"),
        ] {
            let error = webhook(text, "hook.json").unwrap_err().to_string();
            for part in ["hook.json: ", part, "webhook context", "{\"headers\":{…},\"body\":{…}}"] {
                assert!(error.contains(part), "{part} is not in {error}");
            }
        }
    }

    #[track_caller]
    fn delivery(headers: &Value, body: &Value) -> Result<Map<String, Value>, String> {
        let text = json!({"headers": headers, "body": body}).to_string();
        match webhook(&text, "hook.json") {
            Ok(Trigger::Webhook { context }) => Ok(context),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_delivery_is_decoded_by_its_provider() {
        let body = json!({"action": "labeled", "repository": {"full_name": "acme/app"}, "issue": {"number": 42}});
        let form = json!(format!("payload={}", percent_encode(&body.to_string())));
        let form_type = "application/x-www-form-urlencoded";
        let sent = [
            (json!({"X-GitHub-Event": "issues", "x-hub-signature-256": "sha256=wrong"}), &body),
            (json!({"X-GitHub-Event": "issues", "Content-Type": form_type}), &form),
            // Written down by somebody who decoded the form and kept the header.
            (json!({"X-GitHub-Event": "issues", "Content-Type": form_type}), &body),
        ];
        for (headers, body) in sent {
            let context = delivery(&headers, body).unwrap();
            assert_eq!((&context["repo"], &context["number"]), (&"acme/app".into(), &42.into()), "{headers}");
            assert_eq!((&context["event"], &context["receiptId"]), (&"issues".into(), &"local".into()));
        }
    }

    #[test]
    fn a_delivery_that_starts_nothing_says_why() {
        let cases = [
            (json!({}), json!({}), "x-github-event"),
            (json!({"content-type": "application/json"}), json!({}), "which provider"),
            (json!({"x-github-event": "ping"}), json!({"zen": "x"}), "without an event"),
            (json!({"linear-event": "Issue"}), json!([]), "linear"),
            (json!({"x-github-event": "push"}), json!("{\"a\":"), "invalid JSON body"),
        ];
        for (headers, body, part) in cases {
            let error = delivery(&headers, &body).unwrap_err();
            assert!(error.starts_with("hook.json: ") && error.contains(part), "{error}");
        }
    }

    #[test]
    fn files_must_be_utf8() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("task");
        let read = || {
            let file = path.to_str().unwrap();
            let input = Input { option: "--prompt-file", file, what: "the task", limit: 10 };
            input.read(&Cancel::new()).unwrap_err().to_string()
        };
        let name = format!("--prompt-file {}", path.display());
        std::fs::write(&path, b"\xff").unwrap();
        assert_eq!(read(), format!("{name}: the task is not valid UTF-8"));
        std::fs::write(&path, b"0123456789x").unwrap();
        assert_eq!(read(), format!("{name}: the task is longer than 0 MiB"));
    }
}
