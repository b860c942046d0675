//! A database that is only looked at, also while a scheduler writes to it.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use rusqlite::Connection;

use super::{open, schema};

/// A connection that changes nothing.
pub struct Reader(Connection);

impl Reader {
    /// Opens the file `state.db` in a directory; `None` when there is none.
    ///
    /// # Errors
    /// With path and reason when it cannot be read, or another release wrote it.
    pub fn open(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(open::FILE);
        if !path.exists() {
            return Ok(None);
        }
        let look = || -> Result<Self> {
            let db = open::connect_to_read(&path)?;
            match schema::version(&db)? {
                schema::VERSION => Ok(Self(db)),
                older if schema::is_known(older) => bail!("an older release wrote it; the next `al start` converts it"),
                later => bail!("it has schema number {later}; this release knows numbers up to {}", schema::VERSION),
            }
        };
        look().map(Some).with_context(|| format!("read {}", path.display()))
    }

    /// Looks something up. The query sees one state of the database.
    ///
    /// # Errors
    /// What the query gives.
    pub fn read<T>(&self, query: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let _one_state = self.0.unchecked_transaction()?;
        query(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::UnixMs;
    use crate::store::{Store, history, testing};

    #[test]
    fn a_database_can_be_looked_at_while_it_is_open_and_afterwards() {
        let dir = testing::dir();
        assert!(Reader::open(dir.path()).unwrap().is_none());
        let store = Store::open(dir.path()).unwrap().store;
        let look = || {
            let reader = Reader::open(dir.path()).unwrap().unwrap();
            assert!(reader.read(|db| history::summary(db, UnixMs(0))).unwrap().is_empty());
            assert!(reader.read(|db| Ok(db.execute("DELETE FROM runs", [])?)).is_err());
        };
        look();
        store.close().unwrap();
        look();
    }

    #[test]
    fn what_another_release_wrote_is_not_guessed_at() {
        for (version, reason) in [(0, "an older release wrote it"), (999, "schema number 999")] {
            let dir = testing::dir();
            let db = Connection::open(dir.path().join(open::FILE)).unwrap();
            db.pragma_update(None, "user_version", version).unwrap();
            let error = Reader::open(dir.path()).err().unwrap();
            assert!(format!("{error:#}").contains(reason), "{error:#}");
        }
    }
}
