//! Whether the database takes changes: what counts as a failure of the disk, and who is told (scheduler.md §2.2).

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rusqlite::ErrorCode;
use rustix::fs::{StatVfsMountFlags, statvfs};

use super::guard;
use crate::base::worker;

/// The database takes no changes now: the disk is full or broken, someone else holds the file, or it is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable(String);

impl Unavailable {
    pub(super) fn new(reason: impl fmt::Display) -> Self {
        Self(reason.to_string())
    }

    pub(super) fn closed() -> Self {
        Self("the database is closed".into())
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unavailable {}

/// Whether an error means that the database cannot take changes (or be read) now, rather than that something is wrong
/// with the change. A request that met it is answered with 503 `storage unavailable`.
pub fn is_unavailable(error: &anyhow::Error) -> bool {
    reason(error).is_some()
}

/// Why the database cannot take changes, if that is what an error means.
pub(super) fn reason(error: &anyhow::Error) -> Option<String> {
    let cause = error.chain().find(|cause| {
        cause.is::<Unavailable>() || cause.downcast_ref::<rusqlite::Error>().is_some_and(is_disk_failure)
    });
    cause.map(ToString::to_string)
}

/// Adds what the file system says about itself; SQLite only knows that something failed.
pub(super) fn explain(reason: &str, dir: &Path) -> String {
    match statvfs(dir) {
        Ok(found) if found.f_flag.contains(StatVfsMountFlags::RDONLY) => {
            format!("{reason} (the file system is read-only)")
        }
        Ok(found) if found.f_bavail == 0 => format!("{reason} (the file system is full)"),
        _ => reason.to_owned(),
    }
}

fn is_disk_failure(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::ReadOnly
                | ErrorCode::CannotOpen
                | ErrorCode::PermissionDenied
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::NoLargeFileSupport
                | ErrorCode::OutOfMemory
        )
    )
}

/// A change of the database's ability to take changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// A commit failed, for this reason; the ones before it did not.
    Down(String),
    /// A change was committed again.
    Up,
}

type Listener = Arc<dyn Fn(Health) + Send + Sync>;

/// Tells changes of health, each once.
#[derive(Default)]
pub(super) struct Monitor {
    listener: Mutex<Option<Listener>>,
    is_down: Mutex<bool>,
}

impl Monitor {
    pub(super) fn listen(&self, listener: Listener) {
        *guard(&self.listener) = Some(listener);
    }

    /// A change could not be committed.
    pub(super) fn failed(&self, reason: &str) {
        if !self.swap(true) {
            self.tell(Health::Down(reason.to_owned()));
        }
    }

    /// A change was committed.
    pub(super) fn succeeded(&self) {
        if self.swap(false) {
            self.tell(Health::Up);
        }
    }

    fn swap(&self, is_down: bool) -> bool {
        std::mem::replace(&mut *guard(&self.is_down), is_down)
    }

    fn tell(&self, health: Health) {
        let listener = guard(&self.listener).clone();
        if let Some(listener) = listener {
            // Its panic must not end the thread of the database.
            let _ = worker::guarded(|| listener(health));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::ffi;

    fn error(code: i32) -> anyhow::Error {
        anyhow::Error::from(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)).context("commit")
    }

    #[test]
    fn failures_of_the_disk_are_told_from_failures_of_the_change() {
        for code in [ffi::SQLITE_FULL, ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_READONLY, ffi::SQLITE_BUSY] {
            assert!(is_unavailable(&error(code)), "{code}");
        }
        for code in [ffi::SQLITE_CONSTRAINT_UNIQUE, ffi::SQLITE_TOOBIG, ffi::SQLITE_ERROR, ffi::SQLITE_MISUSE] {
            assert!(!is_unavailable(&error(code)), "{code}");
        }
        assert!(is_unavailable(&anyhow::Error::from(Unavailable::closed()).context("store the call")));
        assert!(!is_unavailable(&anyhow::anyhow!("no")));
    }

    #[test]
    fn a_change_of_health_is_told_once() {
        let (told, seen) = std::sync::mpsc::channel();
        let monitor = Monitor::default();
        let told = Mutex::new(told);
        monitor.listen(Arc::new(move |health| told.lock().unwrap().send(health).unwrap()));
        monitor.succeeded();
        monitor.failed("full");
        monitor.failed("still full");
        monitor.succeeded();
        monitor.succeeded();
        assert_eq!(seen.try_iter().collect::<Vec<_>>(), [Health::Down("full".into()), Health::Up]);
        monitor.listen(Arc::new(|_| panic!("in the listener")));
        monitor.failed("full");
    }
}
