//! Ctrl-C in foreground commands.

use anyhow::Result;
use crossbeam_channel::{Receiver, bounded};
use signal_hook::consts::SIGINT;

use crate::base::{signals, worker};

/// Takes Ctrl-C over: a message comes when it is typed. Never one when whoever started us wants it ignored.
///
/// # Errors
/// When the system refuses.
pub(crate) fn listen() -> Result<Receiver<()>> {
    let (sender, typed) = bounded(1);
    let mut signals = signals::take_over(&[SIGINT])?;
    worker::spawn("signals", move || {
        for _ in signals.forever() {
            // One that was not looked at yet is enough.
            let _ = sender.try_send(());
        }
    })?;
    Ok(typed)
}
