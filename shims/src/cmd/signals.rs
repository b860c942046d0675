//! `al-status`, `al-return`, `al-rerun`, `al-exit`: messages of the run to its surroundings.
//!
//! A signal is a file that `al-agent` evaluates when the run ends (containers.md §11.3). The gateway is told too, so that
//! the outside sees it at once; that is a courtesy, and a gateway that is not there changes nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::reply::{Reply, Shape};
use super::{Exit, Invocation, Stdin, TooLarge};
use crate::gateway::{Connecting, Gateway, Limits};
use crate::wire::requests::{
    RerunRequest, ReturnRequest, SIGNALS_RERUN, SIGNALS_RETURN, SIGNALS_STATUS, StatusRequest,
};

const DEFAULT_DIR: &str = "/tmp/signals";
/// Longest return value in bytes.
const VALUE_LIMIT: usize = 1 << 20;
/// What `al-exit` without an argument ends the run with.
const DEFAULT_CODE: u8 = 15;
const LIMITS: Limits =
    Limits { connect: Duration::from_secs(2), total: Duration::from_secs(5), connecting: Connecting::Once };

pub(super) fn status(invocation: &Invocation<'_>, _: &mut Stdin<'_>) -> Reply {
    let Some(text) = invocation.first() else { return invocation.wrong_usage(Shape::Error) };
    signal(invocation, "status", text, |gateway| {
        let _ = gateway.post(SIGNALS_STATUS, &StatusRequest { secret: &invocation.secret(), text }, LIMITS);
    })
}

pub(super) fn return_value(invocation: &Invocation<'_>, stdin: &mut Stdin<'_>) -> Reply {
    let value = match invocation.args {
        [] => stdin.read_text(VALUE_LIMIT),
        [only] if only.is_empty() => stdin.read_text(VALUE_LIMIT),
        words => Ok(Ok(words.join(" "))),
    };
    let value = match value {
        Ok(Ok(value)) if value.len() <= VALUE_LIMIT => value,
        Ok(Ok(_) | Err(TooLarge)) => return Reply::failure(Exit::Refused, Shape::Error, "value too large"),
        Err(error) => {
            return Reply::failure(Exit::Unexpected, Shape::Error, &format!("read standard input: {error}"));
        }
    };
    signal(invocation, "return", &value, |gateway| {
        let _ = gateway.post(SIGNALS_RETURN, &ReturnRequest { secret: &invocation.secret(), value: &value }, LIMITS);
    })
}

pub(super) fn rerun(invocation: &Invocation<'_>, _: &mut Stdin<'_>) -> Reply {
    signal(invocation, "rerun", "", |gateway| {
        let _ = gateway.post(SIGNALS_RERUN, &RerunRequest { secret: &invocation.secret() }, LIMITS);
    })
}

pub(super) fn exit(invocation: &Invocation<'_>, _: &mut Stdin<'_>) -> Reply {
    let code = match invocation.first() {
        None => Some(DEFAULT_CODE),
        // `parse` takes a sign, too.
        Some(text) => text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten(),
    };
    let Some(code) = code else { return invocation.wrong_usage(Shape::Error) };
    // There is no route for it: the run ends with the tool call that made the file.
    signal(invocation, "exit", &code.to_string(), |_| {})
}

/// Writes the file and then, with a gateway, tells it. Only the file decides about success.
fn signal(invocation: &Invocation<'_>, name: &str, content: &str, tell: impl FnOnce(&Gateway)) -> Reply {
    let dir = match invocation.env.get_os("AL_SIGNAL_DIR") {
        Some(dir) if !dir.is_empty() => PathBuf::from(dir),
        _ => PathBuf::from(DEFAULT_DIR),
    };
    if let Err(error) = write(&dir, name, content) {
        return Reply::failure(Exit::Unexpected, Shape::Error, &error);
    }
    if let Some(gateway) = invocation.gateway() {
        tell(&gateway);
    }
    Reply::ok()
}

/// A reader finds the old file or the whole new one: it is written under another name and then renamed.
fn write(dir: &Path, name: &str, content: &str) -> Result<(), String> {
    fs::create_dir_all(dir).map_err(|error| format!("create {}: {error}", dir.display()))?;
    let temporary = dir.join(format!(".{name}.{}", std::process::id()));
    let target = dir.join(name);
    fs::write(&temporary, content).and_then(|()| fs::rename(&temporary, &target)).map_err(|error| {
        let _ = fs::remove_file(&temporary);
        format!("write {}: {error}", target.display())
    })
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::cmd::into_text;
    use crate::cmd::testing::run_with;

    /// Runs a command with a directory of its own; gives status, standard output and the file, if there is one.
    fn run(argv: &[&str], stdin: &[u8], file: &str) -> (u8, String, Option<String>) {
        let dir = TempDir::new().unwrap();
        let signals = dir.path().join("deep/signals");
        let reply = run_with(argv, &[("AL_SIGNAL_DIR", signals.to_str().unwrap())], stdin);
        let names: Vec<_> =
            fs::read_dir(&signals).into_iter().flatten().map(|entry| entry.unwrap().file_name()).collect();
        assert!(names.iter().all(|name| name == file), "left behind: {names:?}");
        let content = fs::read_to_string(signals.join(file)).ok();
        (reply.exit as u8, reply.stdout.map(into_text).unwrap_or_default(), content)
    }

    #[test]
    fn files_have_exactly_the_content() {
        #[track_caller]
        fn case(argv: &[&str], stdin: &[u8], file: &str, content: &str) {
            assert_eq!(run(argv, stdin, file), (0, r#"{"ok":true}"#.into(), Some(content.into())));
        }
        case(&["al-status", "reading \"x\"\n", "more"], b"", "status", "reading \"x\"\n");
        case(&["al-status", "--help", "me"], b"", "status", "--help");
        case(&["al-return", "two", "words", ""], b"stdin", "return", "two words ");
        case(&["al-return", "--help", "x"], b"", "return", "--help x");
        case(&["al-return"], b"from\nstdin\n\n", "return", "from\nstdin");
        case(&["al-return", ""], b"from stdin", "return", "from stdin");
        case(&["al-return"], b"", "return", "");
        case(&["al-return", "--", "-x"], b"", "return", "-- -x");
        case(&["al-rerun", "ignored"], b"", "rerun", "");
        case(&["al-exit"], b"", "exit", "15");
        case(&["al-exit", ""], b"", "exit", "15");
        case(&["al-exit", "0"], b"", "exit", "0");
        case(&["al-exit", "007", "x"], b"", "exit", "7");
        case(&["al-exit", "255"], b"", "exit", "255");
    }

    #[test]
    fn the_last_value_wins() {
        let dir = TempDir::new().unwrap();
        for value in ["a long value", "b"] {
            run_with(&["al-return", value], &[("AL_SIGNAL_DIR", dir.path().to_str().unwrap())], b"");
        }
        assert_eq!(fs::read_to_string(dir.path().join("return")).unwrap(), "b");
    }

    #[test]
    fn wrong_arguments_write_nothing() {
        #[track_caller]
        fn case(argv: &[&str], line: &str) {
            assert_eq!(run(argv, b"", "none"), (9, line.into(), None));
        }
        case(&["al-status"], r#"{"ok":false,"error":"usage: al-status \"<text>\""}"#);
        case(&["al-status", "", "text"], r#"{"ok":false,"error":"usage: al-status \"<text>\""}"#);
        for code in ["256", "-1", "+1", "1.0", " 1", "x", "99999999999999999999"] {
            case(&["al-exit", code], r#"{"ok":false,"error":"usage: al-exit [0-255]"}"#);
        }
    }

    #[test]
    fn values_have_a_limit() {
        let largest = "x".repeat(VALUE_LIMIT);
        assert_eq!(run(&["al-return", &largest], b"", "return").2.as_deref(), Some(&*largest));
        let refused = (4, r#"{"ok":false,"error":"value too large"}"#.to_owned(), None);
        assert_eq!(run(&["al-return", &largest, ""], b"", "return"), refused);
        assert_eq!(run(&["al-return"], format!("{largest}x").as_bytes(), "return"), refused);
        assert_eq!(run(&["al-return"], format!("{largest}\n").as_bytes(), "return").0, 0);
        // Every replaced byte becomes three.
        assert_eq!(run(&["al-return"], &[0xff; VALUE_LIMIT / 2], "return"), refused);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_an_error() {
        let dir = TempDir::new().unwrap();
        let in_the_way = dir.path().join("file");
        fs::write(&in_the_way, "").unwrap();
        fs::create_dir_all(dir.path().join("signals/rerun/x")).unwrap();
        for signals in [in_the_way, dir.path().join("signals")] {
            let signals = signals.to_str().unwrap();
            let reply = run_with(&["al-rerun"], &[("AL_SIGNAL_DIR", signals)], b"");
            let stdout = into_text(reply.stdout.unwrap());
            assert_eq!(reply.exit, Exit::Unexpected, "{stdout}");
            assert!(stdout.starts_with(r#"{"ok":false,"error":""#) && stdout.contains(signals), "{stdout}");
        }
        assert_eq!(fs::read_dir(dir.path().join("signals")).unwrap().count(), 1, "no temporary file is left");
    }
}
