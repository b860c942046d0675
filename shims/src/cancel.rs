//! A token that tells many waiters at once to stop.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};

/// Cancellation that can be polled, waited for, and selected on.
///
/// Cancelling drops the only sender of a channel that never carries anything: every clone of the receiver becomes
/// ready at that moment and stays ready, so no waiter can miss it.
#[derive(Clone)]
pub struct Cancel {
    sender: Arc<Mutex<Option<Sender<Infallible>>>>,
    done: Receiver<Infallible>,
}

impl Cancel {
    /// A token that nobody has cancelled yet.
    pub fn new() -> Self {
        let (sender, done) = bounded(0);
        Self { sender: Arc::new(Mutex::new(Some(sender))), done }
    }

    /// Tells every holder of this token to stop; a second call changes nothing.
    pub fn cancel(&self) {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Whether [`Cancel::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        matches!(self.done.try_recv(), Err(TryRecvError::Disconnected))
    }

    /// A channel that becomes ready (disconnected) on cancellation, for `select!`.
    pub fn done(&self) -> &Receiver<Infallible> {
        &self.done
    }
}

impl Default for Cancel {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reaches_every_clone_and_stays() {
        let token = Cancel::new();
        let other = token.clone();
        assert!(!other.is_cancelled());
        token.cancel();
        token.cancel();
        assert!(other.is_cancelled());
        assert!(other.done().recv().is_err());
    }
}
