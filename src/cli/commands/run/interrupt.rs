//! Ctrl-C and SIGTERM during `al run`: before the run they end preparations, during it they kill the run first.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use anyhow::{Context as _, Result};
use crossbeam_channel::Sender;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::base::{Cancel, worker};
use crate::scheduler::handle::Event;

/// Signals that end the process.
pub(super) struct Interrupt {
    /// Used when one has come; ends docker calls.
    pub(super) token: Cancel,
    signal: Arc<AtomicI32>,
}

impl Interrupt {
    /// Takes the signals over; each is also told to the scheduler.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn listen(events: Sender<Event>) -> Result<Self> {
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("take over signals")?;
        let interrupt = Self { token: Cancel::new(), signal: Arc::default() };
        let (token, last) = (interrupt.token.clone(), Arc::clone(&interrupt.signal));
        worker::spawn("signals", move || {
            for signal in signals.forever() {
                last.store(signal, Ordering::SeqCst);
                token.cancel();
                if events.send(Event::Stop { signal }).is_err() {
                    return;
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
