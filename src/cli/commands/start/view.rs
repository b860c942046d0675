//! What `al start` shows while it runs: the terminal UI for a person, or lines, as they happen.

use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use crossbeam_channel::{Receiver, bounded};

use crate::base::clock::UnixMs;
use crate::base::{Cancel, worker};
use crate::scheduler::handle::Handle;
use crate::ui::headless::{Headless, print};
use crate::ui::put_terminal_back;
use crate::ui::terminal::{self, Display};

/// How long a look at the state waits for a change.
const LOOK: Duration = Duration::from_secs(3600);
/// How long is waited for a terminal that takes nothing any more.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// How the state is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The terminal UI, where there can be one.
    Terminal,
    Lines,
}

/// The thread that shows the state. The terminal is as before when this is dropped.
pub(super) struct View {
    handle: Handle,
    stop: Cancel,
    thread: Option<JoinHandle<Result<()>>>,
    /// Hangs up when the thread has ended.
    ended: Receiver<()>,
    /// There is a terminal UI.
    is_drawn: bool,
}

impl View {
    /// Starts showing. `project`: its name; `log_dir`: where the logs of its agents are.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub(super) fn start(form: Form, handle: Handle, project: Option<String>, log_dir: &Path) -> Result<Self> {
        let is_wanted = form == Form::Terminal && terminal::is_possible();
        let display = is_wanted.then(|| Display::open(handle.clone(), project, log_dir)).transpose()?;
        let is_drawn = display.is_some();
        let stop = Cancel::new();
        let (alive, ended) = bounded(0);
        let (shown, stopped) = (handle.clone(), stop.clone());
        let thread = worker::spawn("view", move || {
            let _told_when_dropped = alive;
            // Should the terminal UI fail, lines will do.
            let is_done = display.is_some_and(|display| worker::guarded(|| display.run(&stopped)).is_ok());
            if !is_done {
                print_lines(&shown, &stopped);
            }
        })?;
        Ok(Self { handle, stop, thread: Some(thread), ended, is_drawn })
    }

    /// Shows what is left, and that it is over.
    pub(super) fn stop(self) {
        drop(self);
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.stop.cancel();
        self.handle.wake();
        // Whoever reads lines gets them all; a terminal may be stuck.
        let is_stuck =
            self.is_drawn && self.ended.recv_timeout(LAST_WORDS) == Err(crossbeam_channel::RecvTimeoutError::Timeout);
        if is_stuck {
            put_terminal_back();
        } else if let Some(thread) = self.thread.take() {
            let _ = worker::join(thread);
        }
    }
}

/// Prints what happens until it is told to stop.
fn print_lines(handle: &Handle, stopped: &Cancel) {
    print(&[Headless::initializing(UnixMs::now())]);
    let (mut headless, mut seen) = (Headless::default(), 0);
    loop {
        let is_last = stopped.is_cancelled();
        let wait = if is_last { Duration::ZERO } else { LOOK };
        let (version, snapshot) = handle.snapshot_after(seen, Instant::now() + wait);
        seen = version;
        print(&headless.lines(&snapshot, UnixMs::now()));
        if is_last {
            break;
        }
    }
    print(&[Headless::stopped(UnixMs::now())]);
}
