//! Signals of `al start`: the first one stops it, a second one kills what runs. SIGQUIT kills the scheduler as always, but
//! not before the terminal is as it was.

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator;
use signal_hook::low_level::emulate_default_handler;

use crate::base::{Cancel, worker};
use crate::cli::ctrl_c::is_ignored;
use crate::scheduler::handle::{Event, Handle};
use crate::ui::terminal::Restorer;

/// Signals that were taken over.
pub(super) struct Signals {
    /// Used with the first one; ends what a start waits for.
    token: Cancel,
    first: Arc<AtomicI32>,
    /// Of the terminal, when it has been taken over.
    restorer: Arc<OnceLock<Restorer>>,
}

impl Signals {
    /// Takes the signals over; each is told to the scheduler.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn listen(handle: Handle) -> Result<Self> {
        let quit = Some(SIGQUIT).filter(|signal| !is_ignored(*signal));
        let wanted = [SIGINT, SIGTERM, SIGHUP].into_iter().chain(quit);
        let mut signals = iterator::Signals::new(wanted).context("take over signals")?;
        let listening = Self { token: Cancel::new(), first: Arc::default(), restorer: Arc::default() };
        let (token, first) = (listening.token.clone(), Arc::clone(&listening.first));
        let restorer = Arc::clone(&listening.restorer);
        worker::spawn("signals", move || {
            for signal in signals.forever() {
                if signal == SIGQUIT {
                    if let Some(restorer) = restorer.get() {
                        restorer.restore();
                    }
                    let _ = emulate_default_handler(SIGQUIT);
                }
                let _ = first.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst);
                token.cancel();
                handle.send(Event::Stop { signal });
            }
        })?;
        Ok(listening)
    }

    /// Has the terminal put back before SIGQUIT kills the process.
    pub(super) fn restore_before_death(&self, restorer: Option<Restorer>) {
        if let Some(restorer) = restorer {
            let _ = self.restorer.set(restorer);
        }
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
