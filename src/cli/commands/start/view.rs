//! What `al start` prints while it runs: lines, as they happen.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::base::clock::UnixMs;
use crate::base::{Cancel, worker};
use crate::scheduler::handle::Handle;
use crate::ui::headless::{Headless, print};

/// How long a look at the state waits for a change.
const LOOK: Duration = Duration::from_secs(3600);

/// The printer's thread.
pub(super) struct View {
    handle: Handle,
    stop: Cancel,
    thread: Option<JoinHandle<Result<()>>>,
}

impl View {
    /// Starts printing.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub(super) fn start(handle: Handle) -> Result<Self> {
        print(&[Headless::initializing(UnixMs::now())]);
        let stop = Cancel::new();
        let (shown, stopped) = (handle.clone(), stop.clone());
        let thread = worker::spawn("view", move || {
            let (mut headless, mut seen) = (Headless::default(), 0);
            loop {
                let is_last = stopped.is_cancelled();
                let wait = if is_last { Duration::ZERO } else { LOOK };
                let (version, snapshot) = shown.snapshot_after(seen, Instant::now() + wait);
                seen = version;
                print(&headless.lines(&snapshot, UnixMs::now()));
                if is_last {
                    return;
                }
            }
        })?;
        Ok(Self { handle, stop, thread: Some(thread) })
    }

    /// Prints what is left, and that it is over.
    pub(super) fn stop(mut self) {
        self.stop.cancel();
        self.handle.wake();
        if let Some(thread) = self.thread.take() {
            let _ = worker::join(thread);
        }
        print(&[Headless::stopped(UnixMs::now())]);
    }
}
