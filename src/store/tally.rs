//! What the store knows of its committed state without asking the database: numbers of queued items, what was accepted,
//! how often calls changed.
//!
//! Functions note on their transaction what they changed; only a commit makes it count.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::Result;
use rusqlite::Connection;

use super::guard;
use super::items::Kind;
use crate::base::clock::UnixMs;

/// An item that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    pub id: i64,
    pub agent: String,
    pub kind: Kind,
    /// Event name of a webhook, calling agent of a call or trigger, empty for `manual`.
    pub source: String,
    /// Action of a webhook.
    pub action: Option<String>,
    pub enqueued_at: UnixMs,
    pub how: How,
}

/// How an item came to be queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Inserted,
    /// It had failed or was dead, and its delivery came again. It pushes no other item out of a full queue.
    Redelivered,
}

/// What a transaction changed, so far as it is counted.
#[derive(Default)]
pub(super) struct Notes {
    queued: BTreeMap<String, i64>,
    accepted: Vec<Accepted>,
    receipts: u64,
    call_changed: bool,
    /// Size of the texts that it wrote.
    pub(super) bytes: usize,
}

impl Notes {
    pub(super) fn add_queued(&mut self, agent: &str, change: i64) {
        match self.queued.get_mut(agent) {
            Some(count) => *count += change,
            None => drop(self.queued.insert(agent.to_owned(), change)),
        }
    }

    pub(super) fn queued(&self, agent: &str) -> i64 {
        self.queued.get(agent).copied().unwrap_or(0)
    }

    pub(super) fn accept(&mut self, item: Accepted) {
        self.accepted.push(item);
    }

    pub(super) fn add_receipt(&mut self, bytes: usize) {
        self.receipts += 1;
        self.bytes += bytes;
    }

    pub(super) fn change_call(&mut self) {
        self.call_changed = true;
    }

    /// Adds those of a later transaction.
    pub(super) fn append(&mut self, mut later: Self) {
        for (agent, change) in later.queued {
            *self.queued.entry(agent).or_default() += change;
        }
        self.accepted.append(&mut later.accepted);
        self.receipts += later.receipts;
        self.call_changed |= later.call_changed;
        self.bytes += later.bytes;
    }
}

/// The committed numbers.
#[derive(Default)]
pub(super) struct Tally {
    counts: Mutex<Counts>,
    /// Counts commits that changed a call.
    call_version: Mutex<u64>,
    call_changed: Condvar,
}

#[derive(Default)]
struct Counts {
    queued: BTreeMap<String, u64>,
    accepted: Vec<Accepted>,
    receipts: u64,
    /// The greatest `enqueued_at` given so far, also by transactions that came to nothing.
    latest: UnixMs,
}

const COUNT: &str = "SELECT agent, SUM(state = 'queued'), MAX(enqueued_at) FROM work_items GROUP BY agent";

impl Tally {
    /// The numbers of a database that was just opened.
    pub(super) fn load(db: &Connection) -> Result<Self> {
        let mut counts = Counts::default();
        let mut query = db.prepare(COUNT)?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let (agent, queued): (String, i64) = (row.get(0)?, row.get(1)?);
            if queued > 0 {
                counts.queued.insert(agent, queued.unsigned_abs());
            }
            counts.latest = counts.latest.max(UnixMs(row.get(2)?));
        }
        Ok(Self { counts: Mutex::new(counts), ..Self::default() })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        guard(&self.counts)
    }

    /// Lets committed changes count, then wakes who waits for a call.
    pub(super) fn apply(&self, notes: Notes) {
        let mut counts = self.counts();
        for (agent, change) in notes.queued {
            let count = counts.queued.get(&agent).copied().unwrap_or(0).saturating_add_signed(change);
            if count == 0 {
                counts.queued.remove(&agent);
            } else {
                counts.queued.insert(agent, count);
            }
        }
        counts.accepted.extend(notes.accepted);
        counts.receipts += notes.receipts;
        drop(counts);
        if notes.call_changed {
            self.wake_call_waiters();
        }
    }

    pub(super) fn queued(&self, agent: &str) -> u64 {
        self.counts().queued.get(agent).copied().unwrap_or(0)
    }

    pub(super) fn all_queued(&self) -> BTreeMap<String, u64> {
        self.counts().queued.clone()
    }

    pub(super) fn take_accepted(&self) -> Vec<Accepted> {
        std::mem::take(&mut self.counts().accepted)
    }

    /// Whether so many receipts were committed since it last said so.
    pub(super) fn take_receipts(&self, many: u64) -> bool {
        let mut counts = self.counts();
        let is_due = counts.receipts >= many;
        if is_due {
            counts.receipts = 0;
        }
        is_due
    }

    /// An instant for a new item: a clock that was set back must not let it overtake earlier ones.
    pub(super) fn enqueue_at(&self, now: UnixMs) -> UnixMs {
        let mut counts = self.counts();
        counts.latest = counts.latest.max(now);
        counts.latest
    }

    pub(super) fn call_version(&self) -> u64 {
        *guard(&self.call_version)
    }

    pub(super) fn wait_for_call_change(&self, seen: u64, until: Instant) {
        let mut version = guard(&self.call_version);
        while *version == seen {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            version = self.call_changed.wait_timeout(version, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(super) fn wake_call_waiters(&self) {
        *guard(&self.call_version) += 1;
        self.call_changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use crate::store::items::{self, Cleared};
    use crate::store::testing::{dir, insert, plan};

    #[test]
    fn the_numbers_are_counted_at_the_start_and_kept_with_every_commit() {
        let dir = dir();
        let store = Store::open(dir.path()).unwrap().store;
        for agent in ["dev", "docs", "dev", "gone"] {
            insert(&store, agent, 5);
        }
        store.write(|tx| items::clear(tx, Some("gone"), Cleared::ByOperator, UnixMs(6))).unwrap();
        let expected = BTreeMap::from([("dev".to_owned(), 2), ("docs".to_owned(), 1)]);
        assert_eq!(store.queued_counts(), expected);
        drop(store);
        let store = Store::open(dir.path()).unwrap().store;
        assert_eq!((store.queued_counts(), store.queued("dev"), store.queued("gone")), (expected, 2, 0));
        assert_eq!(store.take_accepted(), [], "they were accepted before");
        insert(&store, "dev", 1);
        assert_eq!(store.take_accepted()[0].enqueued_at, UnixMs(5), "the clock was set back");
    }

    #[test]
    fn counting_at_the_start_reads_an_index_only() {
        let store = Store::open_in_memory().unwrap();
        assert_eq!(plan(&store, COUNT), ["SCAN work_items USING COVERING INDEX idx_work_pick"]);
    }
}
