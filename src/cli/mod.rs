//! The command line: words in, one exit status out.

use std::ffi::OsString;
use std::io::Write as _;

use anyhow::{Result, anyhow};
use argh::FromArgs;

use crate::base::error::UsageError;

mod args;
mod argv;
mod commands;
mod json_error;
mod option;
mod spec;

/// Exit status of a failure that has no other.
const FAILED: u8 = 1;

/// Runs the program with these words (without its own name) and gives its exit status.
pub fn run(words: impl Iterator<Item = OsString>) -> u8 {
    match crate::base::worker::guarded(|| dispatch(words)).flatten() {
        Ok(status) => status,
        // Whoever reads our output has what they wanted.
        Err(error) if is_broken_pipe(&error) => 0,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{}", crate::base::error::render(&error));
            if std::env::var_os("DEBUG").is_some_and(|value| !value.is_empty()) {
                let _ = writeln!(std::io::stderr(), "{error:?}");
            }
            FAILED
        }
    }
}

fn dispatch(words: impl Iterator<Item = OsString>) -> Result<u8> {
    let words: Vec<String> = words
        .map(|word| word.into_string().map_err(|word| anyhow!("argument {} is not valid UTF-8", word.display())))
        .collect::<Result<_>>()?;
    let request = argv::read(&words).inspect_err(|error| {
        commands::run::usage_error(&words, error);
        json_error::print_usage_error(&words, error);
    });
    match request.map_err(UsageError)? {
        argv::Request::Version => print(&format!("{}\n", shims::VERSION)),
        argv::Request::Help(text) => print(&text),
        argv::Request::HelpInstead(text) => {
            std::io::stderr().write_all(text.as_bytes())?;
            Ok(FAILED)
        }
        argv::Request::Command { path, words } => {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            command(path, &words)
        }
    }
}

fn command(path: &[&str], words: &[&str]) -> Result<u8> {
    match path {
        ["run"] => commands::run::run(typed(path, words)?),
        ["cron"] => commands::cron::run(typed(path, words)?),
        ["doctor"] => commands::doctor::run(typed(path, words)?),
        _ => Err(anyhow!("al {} has no code behind it", path.join(" "))),
    }
}

fn typed<T: FromArgs>(path: &[&str], words: &[&str]) -> Result<T> {
    let mut command = vec!["al"];
    command.extend(path);
    T::from_args(&command, words).map_err(|exit| UsageError(format!("error: {}", exit.output.trim())).into())
}

fn print(text: &str) -> Result<u8> {
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(0)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    })
}
