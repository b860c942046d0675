//! Signals of `al start`: the first one stops it, a second one kills what runs. SIGQUIT kills the scheduler as always, but
//! not before the terminal is as it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use anyhow::Result;
use signal_hook::consts::SIGQUIT;
use signal_hook::low_level::emulate_default_handler;

use crate::base::{Cancel, signals, worker};
use crate::scheduler::handle::{Event, Handle};
use crate::ui::put_terminal_back;

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
        let mut signals = signals::take_over(&signals::ENDING)?;
        let listening = Self { token: Cancel::new(), first: Arc::default() };
        let (token, first) = (listening.token.clone(), Arc::clone(&listening.first));
        worker::spawn("signals", move || {
            for signal in signals.forever() {
                if signal == SIGQUIT {
                    put_terminal_back();
                    let _ = emulate_default_handler(SIGQUIT);
                }
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
