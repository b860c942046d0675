//! The API key as the public face checks it: read again when its file changes (gateway.md §27.2).

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::base::Secret;
use crate::base::ids::sha256;
use crate::credentials::Store;
use crate::credentials::api_key::{key_file, stored_key};

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A file that was changed so shortly before it was read may change again without a new time of change.
const SETTLED: Duration = Duration::from_secs(1);

/// SHA-256 of a key.
pub(super) type Digest = [u8; 32];

/// The key that is valid now. When its file disappears or cannot be read, the last key stays.
pub(super) struct ApiKey {
    credentials: Store,
    state: Mutex<State>,
}

struct State {
    digest: Digest,
    /// The file that was read, when it had settled by then.
    seen: Option<Stamp>,
    looked_at: Option<Instant>,
}

/// What tells one content of the file from another: when it was written, and which file it is.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    changed: SystemTime,
    inode: u64,
}

/// Whether the key is another one than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rotated {
    Yes,
    No,
}

impl ApiKey {
    /// The key in these credentials, which was `key` a moment ago.
    pub(super) fn new(credentials: Store, key: &Secret) -> Self {
        let state = State { digest: digest(key.expose()), seen: None, looked_at: None };
        Self { credentials, state: Mutex::new(state) }
    }

    /// Digest of the valid key; the file is looked at now and then.
    pub(super) fn current(&self) -> (Digest, Rotated) {
        let mut state = self.lock();
        if state.looked_at.is_some_and(|looked| looked.elapsed() < LOOK_EVERY) {
            return (state.digest, Rotated::No);
        }
        state.looked_at = Some(Instant::now());
        let stamp = self.stamp();
        if stamp.is_none() || stamp == state.seen {
            return (state.digest, Rotated::No);
        }
        let Ok(Some(key)) = stored_key(&self.credentials) else { return (state.digest, Rotated::No) };
        state.seen = stamp.filter(|stamp| stamp.changed.elapsed().is_ok_and(|age| age >= SETTLED));
        let rotated = if std::mem::replace(&mut state.digest, digest(key.expose())) == state.digest {
            Rotated::No
        } else {
            Rotated::Yes
        };
        (state.digest, rotated)
    }

    fn stamp(&self) -> Option<Stamp> {
        let found = fs::metadata(key_file(&self.credentials)).ok()?;
        Some(Stamp { changed: found.modified().ok()?, inode: found.ino() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The form in which keys are compared.
pub(super) fn digest(key: &str) -> Digest {
    sha256(key.as_bytes())
}

/// Compares without telling by its duration where the difference is.
pub(super) fn is_same(a: &Digest, b: &Digest) -> bool {
    a.iter().zip(b).fold(0, |different, (a, b)| different | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::api_key::ensure_key;

    #[test]
    fn a_changed_file_is_noticed_and_a_lost_one_is_not_missed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path().join("credentials"));
        let (first, _) = ensure_key(&store).unwrap();
        let key = ApiKey::new(store.clone(), &first);
        let current = || {
            key.lock().looked_at = None; // as if a second had passed
            key.current()
        };
        assert_eq!(current(), (digest(first.expose()), Rotated::No));
        fs::write(key_file(&store), "second\n").unwrap();
        assert_eq!(current(), (digest("second"), Rotated::Yes));
        // In the same tick of the file system's clock, perhaps.
        fs::write(key_file(&store), "third!\n").unwrap();
        assert_eq!(current(), (digest("third!"), Rotated::Yes));
        assert_eq!(current(), (digest("third!"), Rotated::No));
        fs::write(key_file(&store), "").unwrap();
        assert_eq!(current(), (digest("third!"), Rotated::No));
        fs::remove_file(key_file(&store)).unwrap();
        assert_eq!(current(), (digest("third!"), Rotated::No));
        fs::write(key_file(&store), "fourth").unwrap();
        assert_eq!(key.current(), (digest("third!"), Rotated::No), "looked at a moment ago");
        assert_eq!(current(), (digest("fourth"), Rotated::Yes));
    }

    #[test]
    fn digests_are_compared_whole() {
        let (a, mut b) = ([7; 32], [7; 32]);
        assert!(is_same(&a, &b));
        b[31] = 8;
        assert!(!is_same(&a, &b));
    }
}
