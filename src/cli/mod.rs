//! The command line: words in, one exit status out.

use std::ffi::OsString;
use std::io::Write as _;

use anyhow::{Result, anyhow};
use argh::FromArgs;

use crate::base::error::{self, Trouble, UsageError};
use crate::base::prompt::Interrupted;
use crate::base::term::stdout;
use crate::base::text::{printable, printable_json};
use crate::ui::stat_view::Columns;

mod args;
mod argv;
mod commands;
mod complete;
mod ctrl_c;
mod gateway_client;
mod interaction;
mod option;
mod site;
mod spec;

/// Exit status of a failure that has no other.
const FAILED: u8 = 1;
/// What the completions of shells call; it is in no help.
const COMPLETE: &str = "__complete";
/// Exit status when the person broke off with Ctrl-C.
const INTERRUPTED: u8 = 130;

/// Runs the program with these words (without its own name) and gives its exit status.
pub fn run(words: impl Iterator<Item = OsString>) -> u8 {
    match crate::base::worker::guarded(|| dispatch(words)).flatten() {
        Ok(status) => status,
        // Whoever reads our output has what they wanted.
        Err(error) if is_broken_pipe(&error) => 0,
        Err(error) if error.is::<Interrupted>() => {
            let _ = writeln!(std::io::stderr());
            INTERRUPTED
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{}", printable(&error::render(&error)));
            if std::env::var_os("DEBUG").is_some_and(|value| !value.is_empty()) {
                let _ = writeln!(std::io::stderr(), "{error:?}");
            }
            let wants_detail = std::env::var_os("AL_EXIT_CODES").is_some_and(|value| value == "detailed");
            if wants_detail { detailed_status(&error) } else { FAILED }
        }
    }
}

fn dispatch(words: impl Iterator<Item = OsString>) -> Result<u8> {
    let words: Vec<String> = words
        .map(|word| word.into_string().map_err(|word| anyhow!("argument {} is not valid UTF-8", word.display())))
        .collect::<Result<_>>()?;
    if let Some((COMPLETE, rest)) = words.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return commands::completions::complete(rest);
    }
    let request = match argv::read(&words) {
        Ok(request) => request,
        Err(error) => {
            let wants_json = words.iter().take_while(|word| *word != "--").any(|word| word == "--json");
            let error = UsageError(error);
            if words.first().is_some_and(|word| word == "run") && wants_json {
                commands::run::usage_error(&words, &error.0);
                return Err(error.into());
            }
            return Err(told(error.into(), wants_json));
        }
    };
    match request {
        argv::Request::Version => print(&format!("{}\n", shims::VERSION)),
        argv::Request::Help(text) => print(&text),
        argv::Request::HelpInstead(text) => {
            std::io::stderr().write_all(text.as_bytes())?;
            Ok(FAILED)
        }
        argv::Request::Command { path, words } => {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            // `al run` has a result of its own, also of failures.
            let wants_json =
                path != ["run"] && words.iter().take_while(|word| **word != "--").any(|word| *word == "--json");
            command(path, &words).map_err(|error| told(error, wants_json))
        }
    }
}

/// Prints an error as JSON on stdout when that was asked for; on stderr it is read in any case.
fn told(error: anyhow::Error, wants_json: bool) -> anyhow::Error {
    if wants_json && !is_broken_pipe(&error) {
        let _ = writeln!(stdout(), "{}", printable_json(&error::to_json(&error).to_string()));
    }
    error
}

/// Exit status by the class of an error, for those who asked for it (cli-config.md §14.4).
fn detailed_status(error: &anyhow::Error) -> u8 {
    match (error::kind(error), gateway_client::trouble(error)) {
        ("usage", _) => 2,
        ("config", _) => 3,
        ("credential", _) => 4,
        (_, Some(Trouble::NotRunning | Trouble::Refused | Trouble::Unreachable)) => 5,
        (_, Some(Trouble::KeyRefused)) => 6,
        ("agent", _) => 7,
        _ => FAILED,
    }
}

fn command(path: &[&str], words: &[&str]) -> Result<u8> {
    match path {
        ["run"] => commands::run::run(typed(path, words)?),
        ["start"] => commands::start::run(typed(path, words)?),
        ["cron"] => commands::cron::run(typed(path, words)?),
        ["stop"] => commands::control::stop(typed(path, words)?),
        ["pause"] => commands::control::pause(typed(path, words)?),
        ["resume"] => commands::control::resume(typed(path, words)?),
        ["kill"] => commands::control::kill(typed(path, words)?),
        ["stat"] => commands::stat::run(typed(path, words)?, Columns::Plain),
        ["status"] => commands::stat::run(typed(path, words)?, Columns::WithQueue),
        ["stats"] => commands::stats::run(typed(path, words)?),
        ["logs"] => commands::logs::run(typed(path, words)?),
        ["queue", "ls"] => commands::queue::list(typed(path, words)?),
        ["queue", "show"] => commands::queue::show(typed(path, words)?),
        ["queue", "retry"] => commands::queue::retry(typed(path, words)?),
        ["queue", "drop"] => commands::queue::drop(typed(path, words)?),
        ["queue", "clear"] => commands::queue::clear(typed(path, words)?),
        ["creds", "ls"] => commands::creds::list(typed(path, words)?),
        ["creds", "add"] => commands::creds::add(typed(path, words)?),
        ["creds", "rm"] => commands::creds::remove(typed(path, words)?),
        ["creds", "check"] => commands::creds::check(typed(path, words)?),
        ["creds", "types"] => commands::creds::types(typed(path, words)?),
        ["version"] => commands::version::run(typed(path, words)?),
        ["completions"] => commands::completions::run(typed(path, words)?),
        ["docs"] => commands::docs::run(typed(path, words)?),
        ["man"] => commands::man::run(typed(path, words)?),
        ["new"] => commands::new::run(typed(path, words)?),
        ["chat"] => commands::chat::run(typed(path, words)?),
        ["agent", "new"] => commands::agent::new(typed(path, words)?),
        ["agent", "config"] => commands::agent::config(typed(path, words)?),
        ["agent", "list"] => commands::agents::list(typed(path, words)?),
        ["agent", "show"] => commands::agents::show(typed(path, words)?),
        ["agent", "rm"] => commands::agents::remove(typed(path, words)?),
        ["config", "show"] => commands::env::config(typed(path, words)?),
        ["env", "init"] => commands::env::init(typed(path, words)?),
        ["env", "list"] => commands::env::list(typed(path, words)?),
        ["env", "show"] => commands::env::show(typed(path, words)?),
        ["env", "check"] => commands::env::check(typed(path, words)?),
        ["env", "set"] => commands::env::set(typed(path, words)?),
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
    stdout().write_all(text.as_bytes())?;
    Ok(0)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    })
}
