//! Ctrl-C in foreground commands.

use anyhow::{Context as _, Result};
use crossbeam_channel::{Receiver, bounded};
use signal_hook::consts::SIGINT;
use signal_hook::iterator::Signals;

use crate::base::worker;

/// Takes Ctrl-C over: a message comes when it is typed. Never one when whoever started us wants it ignored.
///
/// # Errors
/// When the system refuses.
pub(crate) fn listen() -> Result<Receiver<()>> {
    let (sender, typed) = bounded(1);
    let wanted = [SIGINT].into_iter().filter(|signal| !is_ignored(*signal));
    let mut signals = Signals::new(wanted).context("take over Ctrl-C")?;
    worker::spawn("signals", move || {
        for _ in signals.forever() {
            // One that was not looked at yet is enough.
            let _ = sender.try_send(());
        }
    })?;
    Ok(typed)
}

/// Whether whoever started us wants a signal ignored (`nohup`).
pub(crate) fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (signal - 1)) != 0
}
