//! Signals that end the process, and who decides what they do.

use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use signal_hook::low_level::emulate_default_handler;

use super::worker;

/// Those that come from a person or a supervisor, and kill whoever does not mind them.
pub const ENDING: [i32; 4] = [SIGINT, SIGTERM, SIGHUP, SIGQUIT];

/// Who decides.
static OWNER: Mutex<Owner> = Mutex::new(Owner::System);

enum Owner {
    /// They kill the process.
    System,
    /// They kill it, but something is done before.
    LastWill(Handle),
    /// Whoever took them over.
    Command,
}

/// Takes signals over, but those that whoever started us wants ignored. A command that has questions asked meanwhile takes
/// all of [`ENDING`].
///
/// # Errors
/// When the system refuses.
pub fn take_over(wanted: &[i32]) -> Result<Signals> {
    let mut owner = OWNER.lock().unwrap_or_else(PoisonError::into_inner);
    let signals = listen(wanted)?;
    // Not before they have a new owner: signals without one would have no effect any more.
    if let Owner::LastWill(before) = std::mem::replace(&mut *owner, Owner::Command) {
        before.close();
    }
    Ok(signals)
}

/// Has something done before one of [`ENDING`] kills the process; nothing, when a command has taken them over.
///
/// # Errors
/// When the system refuses.
pub fn before_death(last_will: fn()) -> Result<()> {
    let mut owner = OWNER.lock().unwrap_or_else(PoisonError::into_inner);
    if matches!(*owner, Owner::System) {
        let mut signals = listen(&ENDING)?;
        *owner = Owner::LastWill(signals.handle());
        worker::spawn("signals", move || {
            for signal in signals.forever() {
                last_will();
                let _ = emulate_default_handler(signal);
            }
        })?;
    }
    Ok(())
}

/// Whether whoever started us wants a signal ignored (`nohup`).
pub fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (signal - 1)) != 0
}

fn listen(wanted: &[i32]) -> Result<Signals> {
    let wanted = wanted.iter().filter(|signal| !is_ignored(**signal));
    Signals::new(wanted).context("take over signals")
}
