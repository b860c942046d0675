//! What ends a run from outside its own course: the time limit and SIGTERM (containers.md §10.1 item 3, §10.10). One
//! thread waits for both and for nothing else, so nothing the run does can keep it from firing.

use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::children;
use super::ending::Ending;
use super::report::{Field, Reporter};
use super::usage::UsageSoFar;
use crate::cancel::Cancel;
use crate::session::ToolGroups;
use crate::wire::exit;

/// Time that processes have to end after SIGTERM.
const TERM_GRACE: Duration = Duration::from_secs(2);
/// Time to write the last lines. A host that does not read must not keep a run alive.
const REPORT_GRACE: Duration = Duration::from_secs(2);
/// Enough for formatting a log line.
const STACK_BYTES: usize = 128 << 10;

/// SIGTERM and SIGINT as they arrive, from the moment this exists.
pub(super) struct Termination {
    /// Number of the last signal.
    last: Arc<AtomicUsize>,
    /// Gets a byte with each.
    wake: UnixStream,
}

impl Termination {
    /// Catches the two signals.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn catch() -> Result<Self> {
        let last = Arc::new(AtomicUsize::new(0));
        let (wake, waker) = UnixStream::pair().context("make a socket pair")?;
        for signal in [SIGTERM, SIGINT] {
            // Handlers run in the order of registration: the number is there before the byte.
            signal_hook::flag::register_usize(signal, Arc::clone(&last), signal as usize).context("catch signals")?;
            let waker = waker.try_clone().context("make a socket pair")?;
            signal_hook::low_level::pipe::register(signal, waker).context("catch signals")?;
        }
        Ok(Self { last, wake })
    }

    /// Waits for a signal; `None` when the deadline came first. Gives the signal's number.
    fn wait(&mut self, deadline: Instant) -> Option<usize> {
        loop {
            let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            // A zero or failed time-out would mean waiting for ever.
            self.wake.set_read_timeout(Some(left.max(Duration::from_millis(1)))).ok()?;
            if self.wake.read(&mut [0]).is_ok_and(|count| count > 0) {
                return Some(self.last.load(Ordering::SeqCst));
            }
        }
    }
}

/// What the watchdog needs to end a run.
pub(super) struct Watched {
    pub report: Arc<Reporter>,
    pub ending: Ending,
    pub usage: UsageSoFar,
    /// Stops the model session.
    pub cancel: Cancel,
    /// What its tools have left running.
    pub tool_groups: ToolGroups,
}

/// Starts the thread. Gives the deadline.
///
/// # Errors
/// The thread cannot be started.
pub(super) fn start(mut termination: Termination, limit: Duration, watched: Watched) -> Result<Instant> {
    let now = Instant::now();
    // A limit of centuries is none, but still a point in time.
    let deadline = now.checked_add(limit).unwrap_or_else(|| now + Duration::from_secs(u32::MAX.into()));
    let watch = move || match termination.wait(deadline) {
        Some(signal) => watched.terminate(signal),
        None => watched.run_out_of_time(limit),
    };
    thread::Builder::new()
        .name("watchdog".into())
        .stack_size(STACK_BYTES)
        .spawn(watch)
        .context("start the watchdog thread")?;
    Ok(deadline)
}

impl Watched {
    fn run_out_of_time(self, limit: Duration) {
        self.end(exit::TIMEOUT, REPORT_GRACE, move |run| {
            let fields = [("timeoutSeconds", limit.as_secs().into())];
            run.report.error("container timeout reached, self-terminating", &fields);
            // First the last word, then the killing: whoever waits for a killed process would call it a failure.
            run.end_report();
            run.kill_everything();
        });
    }

    fn terminate(self, signal: usize) {
        let name = if signal == SIGINT as usize { "SIGINT" } else { "SIGTERM" };
        self.end(exit::TERMINATED, TERM_GRACE + REPORT_GRACE, move |run| {
            run.report.warn("terminated by signal", &[("signal", Field::Text(name))]);
            run.cancel.cancel();
            children::signal_all(Signal::TERM);
            children::wait_until_gone(TERM_GRACE);
            run.kill_everything();
            run.end_report();
        });
    }

    /// Logs what was used and ends the log.
    fn end_report(&self) {
        self.usage.log(&self.report);
        self.report.close();
    }

    fn kill_everything(&self) {
        self.cancel.cancel();
        self.tool_groups.close();
        children::signal_all(Signal::KILL);
    }

    /// Ends the process with this code, whatever state the rest of it is in: what could get stuck happens on another
    /// thread, which gets so much time. The farewell has to end the report.
    fn end(self, code: i32, limit: Duration, farewell: impl FnOnce(&Self) + Send + 'static) {
        let (done, finished) = crossbeam_channel::bounded::<()>(0);
        let report = move || {
            // Dropped at the end, which is what the other side waits for.
            let _done = done;
            if self.ending.try_claim() {
                farewell(&self);
            } else {
                // The run is just ending by itself; it gets the time to do so.
                super::ending::stand_still();
            }
        };
        if thread::Builder::new().name("farewell".into()).stack_size(STACK_BYTES).spawn(report).is_ok() {
            let _ = finished.recv_timeout(limit);
        }
        children::signal_all(Signal::KILL);
        std::process::exit(code);
    }
}
