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
use crate::model::webhook_context;

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
        (None, Some(file), None) => Ok(Trigger::Manual { prompt: Some(read(file, LONGEST_TASK, "the task", cancel)?) }),
        (None, None, Some(file)) => webhook(&read(file, LONGEST_WEBHOOK, "the webhook", cancel)?, file),
        (None, None, None) => Ok(Trigger::Manual { prompt: None }),
    }
}

fn webhook(text: &str, file: &str) -> Result<Trigger> {
    const FORM: &str = "it has to hold one JSON object: a webhook context with at least `source` and `event`, for example \
                        {\"source\":\"github\",\"event\":\"issues\",\"action\":\"labeled\",\"repo\":\"acme/app\",\"number\":42}";
    let Ok(Value::Object(given)) = serde_json::from_str(text) else { bail!("{file}: is not a JSON object; {FORM}") };
    if given.contains_key("headers") && given.contains_key("body") && !given.contains_key("source") {
        bail!("{file}: is a raw delivery ({{\"headers\":…,\"body\":…}}), which this version cannot decode; {FORM}");
    }
    match webhook_context::from_json(&given, UnixMs::now()) {
        Ok(context) => Ok(Trigger::Webhook { context }),
        Err(problem) => bail!("{file}: {problem}; {FORM}"),
    }
}

/// Reads a file, or standard input for `-`, as UTF-8 of at most `limit` bytes.
fn read(file: &str, limit: u64, what: &str, cancel: &Cancel) -> Result<String> {
    let (sender, received) = bounded(1);
    let path = file.to_owned();
    // On a thread of its own, because nothing ends a read from a terminal or a pipe; the end of the process does.
    worker::spawn("input", move || {
        let _ = sender.send(read_bytes(&path, limit + 1));
    })?;
    let bytes = select! {
        recv(received) -> bytes => bytes.context("read input")?.with_context(|| format!("read {file}"))?,
        recv(cancel.done()) -> _ => bail!("reading {file} was interrupted"),
    };
    if bytes.len() as u64 > limit {
        bail!("{file}: {what} is longer than {} MiB", limit / 1024 / 1024);
    }
    String::from_utf8(bytes).ok().with_context(|| format!("{file}: {what} is not valid UTF-8"))
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
            ("{\"headers\":{},\"body\":{}}", "raw delivery"),
        ] {
            let error = webhook(text, "hook.json").unwrap_err().to_string();
            assert!(
                error.starts_with("hook.json: ") && error.contains(part) && error.contains("webhook context"),
                "{error}"
            );
        }
    }

    #[test]
    fn files_must_be_utf8() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("task");
        std::fs::write(&path, b"\xff").unwrap();
        assert!(
            read(path.to_str().unwrap(), 10, "the task", &Cancel::new()).unwrap_err().to_string().contains("UTF-8")
        );
        std::fs::write(&path, b"0123456789x").unwrap();
        assert!(
            read(path.to_str().unwrap(), 10, "the task", &Cancel::new()).unwrap_err().to_string().contains("longer")
        );
    }
}
