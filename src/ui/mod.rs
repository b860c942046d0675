//! What people look at. Pure layout where possible; only the consoles write to a stream.

use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::tcgetattr;

use crate::base::term::{Stream, Style};

pub use raw_mode::put_terminal_back;

pub mod composer;
pub mod console;
pub mod dialogs;
pub mod github;
pub mod headless;
pub mod json_events;
mod keyboard;
pub mod log_view;
pub mod markdown;
pub mod queue;
pub mod queue_view;
mod raw_mode;
pub mod stat_view;
pub mod stats_view;
pub mod summary;
pub mod table;
pub mod terminal;

static OUTPUT_IS_LOST: AtomicBool = AtomicBool::new(false);

/// Says once that standard output takes nothing any more, unless its reader is just gone. It does not stop the run, whose
/// result is in the exit status and the log.
fn output_failed(error: &io::Error) {
    if error.kind() != io::ErrorKind::BrokenPipe && !OUTPUT_IS_LOST.swap(true, Ordering::Relaxed) {
        let _ = writeln!(io::stderr(), "Warning: cannot write to standard output: {error}");
    }
}

/// Writes lines of a run to standard output in one write, so that those of several threads do not mix.
pub fn show(text: &str) {
    if let Err(error) = io::stdout().lock().write_all(text.as_bytes()) {
        output_failed(&error);
    }
}

/// Whether something did not get to standard output although there was somebody to read it.
pub fn output_is_lost() -> bool {
    OUTPUT_IS_LOST.load(Ordering::Relaxed)
}

/// Where questions are asked: stdout, or stderr when stdout is no terminal.
fn interactive() -> (Box<dyn Write>, Style) {
    if io::stdout().is_terminal() {
        (Box::new(io::stdout()), Style::of(Stream::Stdout))
    } else {
        (Box::new(io::stderr()), Style::of(Stream::Stderr))
    }
}

/// Whether the terminal of standard input has been closed. Who has not been told by SIGHUP sees it in what fails.
pub fn is_hung_up() -> bool {
    tcgetattr(io::stdin()).err() == Some(Errno::IO)
}

/// Writes a few bytes where questions are asked, unless that would have to be waited for.
fn put_unless_stuck(text: &str) {
    let is_free = |fd: PollFd<'_>| poll(&mut [fd], Some(&Timespec::default())) == Ok(1);
    let is_free = match io::stdout().is_terminal() {
        true => is_free(PollFd::new(&io::stdout(), PollFlags::OUT)),
        false => is_free(PollFd::new(&io::stderr(), PollFlags::OUT)),
    };
    if is_free {
        let _ = put(&mut *interactive().0, text);
    }
}

/// Writes to a terminal at once.
fn put(out: &mut dyn Write, text: &str) -> Result<()> {
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("write to the terminal")
}
