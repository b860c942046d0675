//! How much each run may ask of others: a run out of control must not fill the disk.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Calls and trigger signals of one run, and bytes of their contexts together.
const MOST_CALLS: u32 = 1000;
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// What runs have used so far; starts anew with this process.
#[derive(Default)]
pub(super) struct CallBudget {
    by_instance: Mutex<HashMap<String, Used>>,
}

#[derive(Clone, Copy, Default)]
struct Used {
    calls: u32,
    bytes: usize,
}

impl CallBudget {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Used>> {
        self.by_instance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call; false, and not counted, when the run has no more.
    pub(super) fn take(&self, instance: &str, bytes: usize) -> bool {
        let mut by_instance = self.lock();
        let used = by_instance.entry(instance.to_owned()).or_default();
        let fits = used.calls < MOST_CALLS && used.bytes + bytes <= MOST_BYTES;
        if fits {
            *used = Used { calls: used.calls + 1, bytes: used.bytes + bytes };
        }
        fits
    }

    /// Takes a count back: the call was not accepted after all.
    pub(super) fn give_back(&self, instance: &str, bytes: usize) {
        if let Some(used) = self.lock().get_mut(instance) {
            *used = Used { calls: used.calls.saturating_sub(1), bytes: used.bytes.saturating_sub(bytes) };
        }
    }

    /// Forgets all runs but these.
    pub(super) fn retain(&self, live: &[String]) {
        self.lock().retain(|instance, _| live.contains(instance));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_and_size_are_limited_per_run() {
        let budget = CallBudget::default();
        assert!((0..MOST_CALLS).all(|_| budget.take("a", 1)));
        assert!(!budget.take("a", 0));
        budget.give_back("a", 1);
        assert!(budget.take("a", 1));
        assert!(budget.take("b", MOST_BYTES - 1));
        assert!(!budget.take("b", 2));
        assert!(budget.take("b", 1));
        budget.retain(&["b".into()]);
        assert!(budget.take("a", 1));
        assert!(!budget.take("b", 1));
    }
}
