//! `al docs`: the documentation for people, which is part of this program.

use std::ffi::OsStr;
use std::io::{IsTerminal as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, bail};
use signal_hook::consts::{SIGINT, SIGQUIT};
use signal_hook::flag;

use crate::base::error::UsageError;
use crate::base::packed;
use crate::base::signals::is_ignored;
use crate::base::term::stdout;
use crate::base::text::suggestion;
use crate::cli::args::Docs;

/// All pages, packed by `build.rs`.
static PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/user-docs.deflate"));
/// The page that lists the others.
const INDEX: &str = "README";
const PAGE: &str = ".md";
/// Exit statuses of a shell whose command cannot be executed, or is not found.
const NOT_STARTED: [i32; 2] = [126, 127];

/// Shows a page, or the one that lists them.
pub(crate) fn run(args: Docs) -> Result<u8> {
    let topic = args.topic.as_deref().unwrap_or(INDEX);
    let name = topic.strip_suffix(PAGE).unwrap_or(topic);
    let page = packed::files(PACKED).into_iter().find(|(file, _)| file.strip_suffix(PAGE) == Some(name));
    let Some((_, text)) = page else {
        let topics = topics();
        let near = suggestion(name, topics.iter().map(String::as_str));
        let near = near.map(|near| format!("\n(Did you mean {near}?)")).unwrap_or_default();
        bail!(UsageError(format!(
            "error: argument 'topic' '{topic}' is invalid. It must be one of {}.{near}",
            topics.join(", ")
        )));
    };
    let pager = std::env::var_os("PAGER").filter(|pager| !pager.is_empty() && std::io::stdout().is_terminal());
    let Some(pager) = pager else {
        stdout().write_all(text.as_bytes())?;
        return Ok(0);
    };
    page_through(&pager, &text)
}

/// Shows a text through a command; prints it when the command cannot be started.
fn page_through(pager: &OsStr, text: &str) -> Result<u8> {
    // They are for the pager, which must not go on without us on a terminal that the shell has taken back.
    let is_interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGQUIT].into_iter().filter(|signal| !is_ignored(*signal)) {
        flag::register(signal, Arc::clone(&is_interrupted)).context("take over Ctrl-C")?;
    }
    // It is a command line, as for all programs that look at this variable.
    let mut shell = Command::new("sh");
    let mut child = shell.arg("-c").arg(pager).stdin(Stdio::piped()).spawn().context("start PAGER")?;
    if let Some(mut pipe) = child.stdin.take() {
        // Whoever leaves the pager early has read enough.
        let _ = pipe.write_all(text.as_bytes());
    }
    let status = child.wait().context("wait for PAGER")?;
    match status.code() {
        Some(code) if NOT_STARTED.contains(&code) => stdout().write_all(text.as_bytes())?,
        _ if status.success() || is_interrupted.load(Ordering::Relaxed) => {}
        _ => bail!("the pager ended with {status} (PAGER={})", pager.display()),
    }
    Ok(0)
}

/// Names of the pages.
pub(crate) fn topics() -> Vec<String> {
    let names = packed::files(PACKED).into_iter().filter_map(|(file, _)| Some(file.strip_suffix(PAGE)?.to_owned()));
    names.filter(|name| name != INDEX).collect()
}
