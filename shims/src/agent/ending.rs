//! The end of the process: several threads may want it, one of them decides how.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// The right to end the process. Whoever claims it first reports the end and exits; everybody else stands still, so
/// that a run killed by its deadline does not also report what its killed tools made of it.
#[derive(Clone, Default)]
pub(super) struct Ending {
    claimed: Arc<AtomicBool>,
}

impl Ending {
    /// Whether the caller is the one that ends the process.
    pub(super) fn try_claim(&self) -> bool {
        !self.claimed.swap(true, Ordering::SeqCst)
    }

    /// Like [`Ending::try_claim`], but comes back only when the caller is the one.
    pub(super) fn claim_or_stand_still(&self) {
        if !self.try_claim() {
            stand_still();
        }
    }
}

/// Waits for another thread to end the process.
pub(super) fn stand_still() -> ! {
    loop {
        thread::park();
    }
}
