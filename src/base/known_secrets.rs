//! The secrets of the runs of this process, for texts that reach the host by another way than a run's output: status,
//! return value, reason of a shutdown.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Masker;

/// A masker for each run, by instance id. Clones share it.
#[derive(Clone, Default)]
pub struct KnownSecrets(Arc<Mutex<HashMap<String, Arc<Masker>>>>);

impl KnownSecrets {
    /// From now on texts of this run are masked.
    pub fn learn(&self, instance: &str, masker: Masker) {
        self.lock().insert(instance.to_owned(), Arc::new(masker));
    }

    /// The run has ended; nothing comes from it any more.
    pub fn forget(&self, instance: &str) {
        self.lock().remove(instance);
    }

    /// A text of this run without its secrets. To be used before the text is cut.
    pub fn mask(&self, instance: &str, text: &str) -> String {
        // Not under the lock: a text may be long.
        let known = self.lock().get(instance).cloned();
        known.map_or_else(|| text.to_owned(), |masker| masker.mask(text).into_owned())
    }

    /// A text of nobody knows which run without the secrets of any.
    pub fn mask_all(&self, text: &str) -> String {
        self.lock().values().fold(text.to_owned(), |text, masker| masker.mask(&text).into_owned())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Masker>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Secret;
    use super::*;

    #[test]
    fn each_run_has_its_own() {
        let known = KnownSecrets::default();
        known.clone().learn("dev-1", Masker::new(&[Secret::new("hunter2-hunter2")]));
        assert_eq!(known.mask("dev-1", "it is hunter2-hunter2"), "it is ***");
        assert_eq!(known.mask("dev-2", "it is hunter2-hunter2"), "it is hunter2-hunter2");
        assert_eq!(known.mask_all("it is hunter2-hunter2"), "it is ***");
        known.forget("dev-1");
        assert_eq!(known.mask("dev-1", "hunter2-hunter2"), "hunter2-hunter2");
    }
}
