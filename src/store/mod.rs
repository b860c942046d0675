//! The database: the truth about runs, work, calls and locks.
//!
//! Every decision about stored state is a function over a transaction ([`Tx`]) that is told what time it is. What a
//! caller acknowledges it first commits with [`Store::write`]; channels only wake others, they carry nothing.

pub mod calls;
pub mod containers;
pub mod items;
pub mod locks;
pub mod runs;
mod schema;

use std::cell::Cell;
use std::ops::Deref;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result};
use rusqlite::{Connection, Transaction, TransactionBehavior};

/// Statements kept prepared; more than there are.
const STATEMENTS: usize = 64;

/// An open database.
pub struct Store {
    connection: Mutex<Connection>,
    /// Counts commits that changed a call.
    call_version: Mutex<u64>,
    call_changed: Condvar,
}

impl Store {
    /// A database that lives as long as this value.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn open_in_memory() -> Result<Self> {
        let connection = Connection::open_in_memory().context("open a database in memory")?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        schema::create(&connection).context("create the tables of a database in memory")?;
        Ok(Self { connection: Mutex::new(connection), call_version: Mutex::default(), call_changed: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic inside a transaction has rolled it back.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a change: all of it is committed when this returns `Ok`, and nothing of it otherwise.
    ///
    /// The change owns what it needs, so that a database on disk can commit changes of several threads together.
    ///
    /// # Errors
    /// What the change gives, and failures of the database.
    pub fn write<T: Send + 'static>(&self, change: impl FnOnce(&Tx<'_>) -> Result<T> + Send + 'static) -> Result<T> {
        let (result, call_changed) = {
            let mut connection = self.lock();
            let inner = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let tx = Tx { inner, call_changed: Cell::new(false) };
            let result = change(&tx)?;
            tx.inner.commit().context("commit")?;
            (result, tx.call_changed.get())
        };
        if call_changed {
            self.wake_call_waiters();
        }
        Ok(result)
    }

    /// Looks something up.
    ///
    /// # Errors
    /// What the query gives.
    pub fn read<T>(&self, query: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        query(&self.lock())
    }

    /// Number that changes with every commit that changes a call. Read it before the call, so that nothing is missed.
    pub fn call_version(&self) -> u64 {
        *self.call_version.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the number is another one than `seen`, or the time is over.
    pub fn wait_for_call_change(&self, seen: u64, until: Instant) {
        let mut version = self.call_version.lock().unwrap_or_else(PoisonError::into_inner);
        while *version == seen {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            version = self.call_changed.wait_timeout(version, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Wakes everyone in [`Store::wait_for_call_change`].
    pub fn wake_call_waiters(&self) {
        *self.call_version.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.call_changed.notify_all();
    }
}

/// A transaction. Used like the connection it is made on.
pub struct Tx<'c> {
    inner: Transaction<'c>,
    call_changed: Cell<bool>,
}

impl Deref for Tx<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.inner
    }
}

/// A number as the database keeps it.
fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
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
    use crate::base::clock::UnixMs;
    use std::time::Duration;

    #[test]
    fn a_failed_change_leaves_nothing() {
        let store = Store::open_in_memory().unwrap();
        let result: Result<()> = store.write(|tx| {
            locks::acquire(tx, "key", "dev-1", Duration::from_secs(1), UnixMs(0))?;
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
