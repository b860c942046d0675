//! What the routes of all faces share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::call_budget::CallBudget;
use super::request_log::RequestLog;
use super::routes::no_storage_error;
use crate::base::clock::UnixMs;
use crate::base::log::{Entry, Level, Log};
use crate::base::text::{cut, printable};
use crate::base::{Secret, error};
use crate::http::Reply;
use crate::scheduler::handle::Handle;
use crate::store::containers::{self, Registration};
use crate::store::{Store, Tx, calls, is_unavailable, locks, sessions};

/// What is logged of a path that comes from outside.
const FOREIGN_PATH_CHARS: usize = 200;

/// State of the gateway.
pub(super) struct Shared {
    pub(super) store: Arc<Store>,
    pub(super) handle: Handle,
    pub(super) log: Arc<Log>,
    pub(super) request_log: RequestLog,
    pub(super) lock_timeout: Duration,
    pub(super) call_budget: CallBudget,
    /// Long polls that are waiting now.
    pub(super) polls: AtomicUsize,
    /// The process ends: whoever is turned away may soon try its successor.
    pub(super) closing: AtomicBool,
}

impl Shared {
    pub(super) fn new(store: Arc<Store>, handle: Handle, log: Arc<Log>, lock_timeout: Duration) -> Self {
        Self {
            store,
            handle,
            request_log: RequestLog::new(log.clone()),
            log,
            lock_timeout,
            call_budget: CallBudget::default(),
            polls: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
        }
    }

    /// Clears away what is over: expired locks and sessions, calls whose time is over, counters of ended
    /// runs.
    pub(super) fn sweep(&self, now: UnixMs) {
        let snapshot = self.handle.snapshot();
        let live = self.store.write(move |tx| {
            let run_time = |agent: &str| {
                let agent = snapshot.agents.get(agent)?;
                Some(Duration::from_secs(agent.timeout_seconds))
            };
            locks::sweep(tx, now)?;
            calls::sweep(tx, run_time, now)?;
            sessions::sweep(tx, now)?;
            containers::instances(tx)
        });
        match live {
            Ok(live) => self.call_budget.retain(&live),
            Err(error) => self.log_error("sweep failed", &error),
        }
        self.request_log.report(now);
    }

    /// Looks a secret up.
    ///
    /// # Errors
    /// The answer to give when it is unknown, or cannot be looked up.
    pub(super) fn caller(&self, secret: &Secret) -> Result<Registration, Reply> {
        let caller = self.store.read(|db| containers::by_secret(db, secret));
        self.looked_up("look up secret", caller)?.ok_or_else(invalid_secret)
    }

    /// Makes a change for the run that a secret belongs to, in one transaction with the look-up: a run that has ended
    /// changes nothing.
    ///
    /// # Errors
    /// The answer to give when the secret is unknown, or `unavailable` when nothing can be committed.
    pub(super) fn change<T: Send + 'static>(
        &self,
        secret: &Secret,
        unavailable: fn() -> Reply,
        change: impl FnOnce(&Tx<'_>, &Registration) -> anyhow::Result<T> + Send + 'static,
    ) -> Result<(Registration, T), Reply> {
        let secret = secret.clone();
        let changed = self.store.write(move |tx| {
            let Some(caller) = containers::by_secret(tx, &secret)? else { return Ok(None) };
            let value = change(tx, &caller)?;
            Ok(Some((caller, value)))
        });
        self.committed(changed, unavailable)?.ok_or_else(invalid_secret)
    }

    /// What was read, or the answer to give when it cannot be read.
    pub(super) fn looked_up<T>(&self, what: &str, found: anyhow::Result<T>) -> Result<T, Reply> {
        found.map_err(|error| {
            self.log_error_of_request(what, &error);
            if is_unavailable(&error) { self.try_again(no_storage_error()) } else { Reply::internal_error() }
        })
    }

    /// What was committed, or the answer `unavailable` when nothing was.
    pub(super) fn committed<T>(&self, changed: anyhow::Result<T>, unavailable: fn() -> Reply) -> Result<T, Reply> {
        changed.map_err(|error| {
            self.log_error_of_request("storage unavailable", &error);
            self.try_again(unavailable())
        })
    }

    fn try_again(&self, reply: Reply) -> Reply {
        reply.with_header("Retry-After", if self.closing.load(Ordering::Acquire) { "10" } else { "60" })
    }

    pub(super) fn log_error(&self, msg: &str, error: &anyhow::Error) {
        self.log.write(&Entry::new(Level::Error, msg).field("err", error::one_line(error)));
    }

    /// The same for failures that may come with every request.
    pub(super) fn log_error_of_request(&self, msg: &str, error: &anyhow::Error) {
        self.request_log.write(|| Entry::new(Level::Error, msg).field("err", error::one_line(error)));
    }

    /// A path from outside as it may be logged. What looks like a failed try for credentials may hold the secret.
    pub(super) fn foreign_path(&self, path: &str) -> String {
        if path.starts_with("/credentials/") {
            return "/credentials/…".into();
        }
        printable(cut(&self.handle.secrets().mask_all(path), FOREIGN_PATH_CHARS)).into_owned()
    }
}

fn invalid_secret() -> Reply {
    Reply::error(403, "invalid secret")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_turned_away_is_told_when_to_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open_in_memory().unwrap());
        let handle = Handle::new(crossbeam_channel::unbounded().0);
        let log = Arc::new(Log::new(dir.path(), "gateway"));
        let shared = Shared::new(store, handle, log, Duration::from_secs(1));
        let turned_away = || {
            let failed: anyhow::Result<()> = Err(anyhow::anyhow!("the disk is full"));
            shared.committed(failed, no_storage_error).unwrap_err().headers
        };
        let retry_after = |seconds: &str| ("Retry-After", seconds.to_owned());
        assert!(turned_away().contains(&retry_after("60")));
        shared.closing.store(true, Ordering::Release);
        assert!(turned_away().contains(&retry_after("10")), "the next process is there soon");
    }
}
