//! The database: the truth about runs, work, calls and locks.
//!
//! Every decision about stored state is a function over a transaction ([`Tx`]) that is told what time it is. What a
//! caller acknowledges it first commits with [`Store::write`]; channels only wake others, they carry nothing.
//!
//! `al start` keeps it in a file, which one thread writes for all (`commit.rs`); a one-shot run keeps it in memory.

pub mod activity;
pub mod calls;
mod commit;
pub mod containers;
pub mod flags;
mod health;
pub mod history;
pub mod items;
mod legacy;
pub mod locks;
mod open;
pub mod reader;
pub mod receipts;
pub mod retention;
pub mod runs;
mod schema;
pub mod sessions;
mod tally;
#[cfg(test)]
mod testing;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result};
use rusqlite::{Connection, Row, TransactionBehavior};

use self::commit::Writer;
use self::health::Monitor;
pub use self::health::{Health, Unavailable, is_unavailable};
pub use self::legacy::TakenOver;
pub use self::tally::{Accepted, How};
use self::tally::{Notes, Tally};
use crate::base::clock::UnixMs;

/// After so many new receipts all are checked, unless that is being done.
const RECEIPTS_TO_CHECK: u64 = 1000;

/// An open database.
pub struct Store {
    backend: Backend,
    tally: Arc<Tally>,
    monitor: Arc<Monitor>,
}

enum Backend {
    Memory(Mutex<Connection>),
    /// The reading connection is gone once the database is closed.
    File {
        writer: Writer,
        reader: Mutex<Option<Connection>>,
    },
}

/// A database file that was opened, and what is to be told about it.
pub struct Opened {
    pub store: Store,
    /// Where the file lies now that was corrupt, or no database.
    pub set_aside: Option<PathBuf>,
    /// What was found in a file of release 0.13.2; `None` when it was none.
    pub taken_over: Option<TakenOver>,
}

impl Store {
    /// Opens or makes the file `state.db` in a directory, which is made private. A file that is corrupt is set aside.
    ///
    /// # Errors
    /// With path and reason when the file was written by a later release, or the system refuses; the file is then as it
    /// was.
    pub fn open(dir: &Path) -> Result<Opened> {
        Self::of_file(dir, open::Damaged::SetAside)
    }

    /// As [`Store::open`], but a file that is corrupt stays where it is: setting it aside is for a scheduler, which says
    /// so in its log.
    ///
    /// # Errors
    /// As [`Store::open`], and when the file is corrupt.
    pub fn open_undamaged(dir: &Path) -> Result<Self> {
        Ok(Self::of_file(dir, open::Damaged::Refused)?.store)
    }

    fn of_file(dir: &Path, damaged: open::Damaged) -> Result<Opened> {
        let open::Opened { writer, reader, tally, set_aside, taken_over } = open::open(dir, damaged)?;
        let (tally, monitor) = (Arc::new(tally), Arc::default());
        let writer = Writer::start(writer, dir.to_owned(), Arc::clone(&tally), Arc::clone(&monitor))?;
        let backend = Backend::File { writer, reader: Mutex::new(Some(reader)) };
        Ok(Opened { store: Self { backend, tally, monitor }, set_aside, taken_over })
    }

    /// A database that lives as long as this value.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn open_in_memory() -> Result<Self> {
        let mut connection = Connection::open_in_memory().context("open a database in memory")?;
        open::keep_statements(&connection)?;
        schema::migrate(&mut connection).context("create the tables of a database in memory")?;
        let backend = Backend::Memory(Mutex::new(connection));
        Ok(Self { backend, tally: Arc::default(), monitor: Arc::default() })
    }

    /// Makes a change: all of it is committed when this returns `Ok`, and nothing of it otherwise.
    ///
    /// The change owns what it needs, because the database on disk makes it on another thread, to commit changes of
    /// several callers together. It must not use the store itself, and not wait for anything.
    ///
    /// # Errors
    /// What the change gives, and failures of the database; [`is_unavailable`] tells them apart.
    pub fn write<T: Send + 'static>(&self, change: impl FnOnce(&Tx<'_>) -> Result<T> + Send + 'static) -> Result<T> {
        match &self.backend {
            Backend::Memory(connection) => self.write_directly(&mut guard(connection), change),
            Backend::File { writer, .. } => {
                let (answer, answered) = crossbeam_channel::bounded(1);
                writer.submit(change, move |result| drop(answer.send(result)));
                answered.recv().unwrap_or_else(|_| Err(Unavailable::closed().into()))
            }
        }
    }

    /// Makes a change for a caller that does not wait. `then` is called once with the result, after the commit, on the
    /// thread of the database (in memory, and when it is closed: before this returns). It must be quick, and must not
    /// wait for anything, nor make a change.
    pub fn submit<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Tx<'_>) -> Result<T> + Send + 'static,
        then: impl FnOnce(Result<T>) + Send + 'static,
    ) {
        match &self.backend {
            Backend::Memory(_) => then(self.write(change)),
            Backend::File { writer, .. } => writer.submit(change, then),
        }
    }

    /// Makes a change that nobody relies on, at most a second later, with others in one commit. A crash may lose it.
    /// `bytes`: its size; what would exceed 1 MiB of waiting changes is committed before this returns.
    ///
    /// # Errors
    /// When it was committed at once and that failed.
    pub fn submit_late(&self, bytes: usize, change: impl FnOnce(&Tx<'_>) -> Result<()> + Send + 'static) -> Result<()> {
        match &self.backend {
            Backend::Memory(_) => self.write(change),
            Backend::File { writer, .. } => match writer.submit_late(bytes, change) {
                Ok(()) => Ok(()),
                Err(change) => self.write(change),
            },
        }
    }

    /// Whether the disk is so far behind with such changes that those to come should be small.
    pub fn is_behind(&self) -> bool {
        match &self.backend {
            Backend::Memory(_) => false,
            Backend::File { writer, .. } => writer.is_behind(),
        }
    }

    fn write_directly<T>(&self, connection: &mut Connection, change: impl FnOnce(&Tx<'_>) -> Result<T>) -> Result<T> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let before = Notes::default();
        let tx = Tx::new(&transaction, &self.tally, &before);
        let result = change(&tx)?;
        let notes = tx.into_notes();
        transaction.commit().context("commit")?;
        self.tally.apply(notes);
        Ok(result)
    }

    /// Looks something up. The query sees one state of the database, with everything whose commit was answered.
    ///
    /// # Errors
    /// What the query gives.
    pub fn read<T>(&self, query: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        match &self.backend {
            Backend::Memory(connection) => query(&guard(connection)),
            Backend::File { reader, .. } => {
                let reader = guard(reader);
                let reader = reader.as_ref().ok_or_else(Unavailable::closed)?;
                // Ends with this function, also by a panic.
                let _one_state = reader.unchecked_transaction()?;
                query(reader)
            }
        }
    }

    /// Commits what waits and closes the file; changes and queries fail from then on. A second time nothing happens.
    ///
    /// # Errors
    /// When the last commits could not be copied into the file; they are in its log then, and not lost.
    pub fn close(&self) -> Result<()> {
        match &self.backend {
            Backend::Memory(_) => Ok(()),
            Backend::File { writer, reader } => {
                drop(guard(reader).take());
                writer.close()
            }
        }
    }

    /// Names who is told when the database stops taking changes, and when it takes them again. It is called on the
    /// thread of the database and must be quick.
    pub fn on_health(&self, listener: impl Fn(Health) + Send + Sync + 'static) {
        self.monitor.listen(Arc::new(listener));
    }

    /// Numbers of queued items of the agents that have any.
    pub fn queued_counts(&self) -> BTreeMap<String, u64> {
        self.tally.all_queued()
    }

    /// Number of queued items of an agent.
    pub fn queued(&self, agent: &str) -> u64 {
        self.tally.queued(agent)
    }

    /// The items that were accepted since the last time, in the order of their commits.
    pub fn take_accepted(&self) -> Vec<Accepted> {
        self.tally.take_accepted()
    }

    /// Whether a thousand receipts were committed since this said so the last time: they are to be checked then.
    pub fn take_receipts_due(&self) -> bool {
        self.tally.take_receipts(RECEIPTS_TO_CHECK)
    }

    /// Number that changes with every commit that changes a call. Read it before the call, so that nothing is missed.
    pub fn call_version(&self) -> u64 {
        self.tally.call_version()
    }

    /// Waits until the number is another one than `seen`, or the time is over.
    pub fn wait_for_call_change(&self, seen: u64, until: Instant) {
        self.tally.wait_for_call_change(seen, until);
    }

    /// Wakes everyone in [`Store::wait_for_call_change`].
    pub fn wake_call_waiters(&self) {
        self.tally.wake_call_waiters();
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Who wants to know has closed it before.
        let _ = self.close();
    }
}

/// A transaction. Used like the connection it is made on.
pub struct Tx<'c> {
    connection: &'c Connection,
    tally: &'c Tally,
    /// Of the transactions that are committed together with this one, and come before it.
    before: &'c Notes,
    notes: RefCell<Notes>,
}

impl<'c> Tx<'c> {
    fn new(connection: &'c Connection, tally: &'c Tally, before: &'c Notes) -> Self {
        Self { connection, tally, before, notes: RefCell::default() }
    }

    fn into_notes(self) -> Notes {
        self.notes.into_inner()
    }

    /// Notes something that a commit makes count.
    fn note(&self, what: impl FnOnce(&mut Notes)) {
        what(&mut self.notes.borrow_mut());
    }

    /// Number of queued items of an agent, as this transaction sees it.
    fn queued(&self, agent: &str) -> u64 {
        let uncommitted = self.before.queued(agent) + self.notes.borrow().queued(agent);
        self.tally.queued(agent).saturating_add_signed(uncommitted)
    }

    /// An instant for a new item, never smaller than an earlier item's.
    fn enqueue_at(&self, now: UnixMs) -> UnixMs {
        self.tally.enqueue_at(now)
    }
}

impl Deref for Tx<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection
    }
}

/// Takes a mutex. What it guards is whole also after a panic: transactions roll back, and the rest is set at once.
fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number as the database keeps it.
fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// An instant that may be absent.
fn instant(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<UnixMs>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(UnixMs))
}

/// A list of agents, from the first caller down, as the database keeps it.
fn chain_text(chain: &[String]) -> String {
    serde_json::Value::from(chain).to_string()
}

fn parse_chain(text: Option<String>) -> Vec<String> {
    text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_failed_change_leaves_nothing() {
        let store = Store::open_in_memory().unwrap();
        let result: Result<()> = store.write(|tx| {
            locks::acquire(tx, &locks::Key::new("key", "key"), "dev-1", Duration::from_secs(1), UnixMs(0))?;
            anyhow::bail!("no")
        });
        assert!(result.is_err());
        let count: i64 =
            store.read(|db| Ok(db.query_row("SELECT COUNT(*) FROM locks", [], |row| row.get(0))?)).unwrap();
        assert_eq!(count, 0);
    }

    #[test]
    fn a_panic_in_a_change_does_not_end_the_store() {
        let store = std::sync::Arc::new(Store::open_in_memory().unwrap());
        let other = store.clone();
        let thread = std::thread::spawn(move || other.write(|_| -> Result<()> { panic!("boom") }));
        assert!(thread.join().is_err());
        assert!(store.write(|tx| locks::release_all(tx, "dev-1")).is_ok());
    }
}
