//! A database that is only looked at, also while a scheduler writes to it.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use rusqlite::Connection;

use super::{open, schema};

/// A connection that changes nothing.
pub struct Reader {
    db: Connection,
    /// The file.
    path: PathBuf,
}

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
        let look = || -> Result<Connection> {
            let db = open::connect_to_read(&path)?;
            match schema::version(&db)? {
                schema::VERSION => Ok(db),
                older if schema::is_known(older) => bail!("an older release wrote it; the next `al start` converts it"),
                later => bail!("it has schema number {later}; this release knows numbers up to {}", schema::VERSION),
            }
        };
        match look() {
            Ok(db) => Ok(Some(Self { db, path })),
            Err(error) => Err(failed(error, &path)),
        }
    }

    /// Looks something up. The query sees one state of the database.
    ///
    /// # Errors
    /// What the query gives, with the path.
    pub fn read<T>(&self, query: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let look = || {
            let _one_state = self.db.unchecked_transaction()?;
            query(&self.db)
        };
        look().map_err(|error| failed(error, &self.path))
    }
}

fn failed(error: anyhow::Error, path: &Path) -> anyhow::Error {
    let dir = path.parent().unwrap_or(path);
    open::explained(error, dir).context(format!("read {}", path.display()))
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
