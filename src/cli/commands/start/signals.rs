//! Signals of `al start`: the first one stops it, a second one kills what runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use anyhow::{Context as _, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator;

use crate::base::{Cancel, worker};
use crate::scheduler::handle::{Event, Handle};

/// Signals that were taken over.
pub(super) struct Signals {
    /// Used with the first one; ends what a start waits for.
    token: Cancel,
    first: Arc<AtomicI32>,
}

impl Signals {
    /// Takes the signals over; each is told to the scheduler.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn listen(handle: Handle) -> Result<Self> {
        let mut signals = iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]).context("take over signals")?;
        let listening = Self { token: Cancel::new(), first: Arc::default() };
        let (token, first) = (listening.token.clone(), Arc::clone(&listening.first));
        worker::spawn("signals", move || {
            for signal in signals.forever() {
                let _ = first.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst);
                token.cancel();
                handle.send(Event::Stop { signal });
            }
        })?;
        Ok(listening)
    }

    /// Becomes cancelled with the first signal.
    pub(super) fn token(&self) -> &Cancel {
        &self.token
    }

    /// The first signal, if one has come.
    pub(super) fn first(&self) -> Option<i32> {
        Some(self.first.load(Ordering::SeqCst)).filter(|signal| *signal != 0)
    }
}
