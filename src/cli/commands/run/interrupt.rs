//! Ctrl-C and SIGTERM during `al run`: before the run they end preparations, during it they kill the run first.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use crossbeam_channel::Sender;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::base::{Cancel, signals, worker};
use crate::scheduler::handle::Event;

/// Supervisors send several signals at once; within this time they count as one.
const SAME_WISH: Duration = Duration::from_secs(1);
/// How long the end may take after a second signal.
const LAST_GRACE: Duration = Duration::from_secs(2);

/// Signals that end the process.
pub(super) struct Interrupt {
    /// Used when one has come; ends docker calls.
    pub(super) token: Cancel,
    signal: Arc<AtomicI32>,
}

impl Interrupt {
    /// Takes the signals over; each is also told to the scheduler. After a second one the process ends soon, whatever
    /// it waits for.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn listen(events: Sender<Event>) -> Result<Self> {
        let mut signals = signals::take_over(&[SIGINT, SIGTERM, SIGHUP])?;
        let interrupt = Self { token: Cancel::new(), signal: Arc::default() };
        let (token, last) = (interrupt.token.clone(), Arc::clone(&interrupt.signal));
        worker::spawn("signals", move || {
            let mut first: Option<Instant> = None;
            for signal in signals.forever() {
                if first.is_some_and(|first| first.elapsed() < SAME_WISH) {
                    continue;
                }
                last.store(signal, Ordering::SeqCst);
                token.cancel();
                // Not waiting for room: the scheduler may be the one that is stuck.
                let _ = events.try_send(Event::Stop { signal });
                if first.replace(Instant::now()).is_some() {
                    // Nothing else may decide this: what would return a status is what does not come to an end.
                    std::thread::sleep(LAST_GRACE);
                    std::process::exit(128 + signal);
                }
            }
        })?;
        Ok(interrupt)
    }

    /// The signal that came, if one did.
    pub(super) fn signal(&self) -> Option<i32> {
        Some(self.signal.load(Ordering::SeqCst)).filter(|signal| *signal != 0)
    }
}
