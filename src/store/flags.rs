//! Flags that outlive the process: `paused`, `disabled:<agent>`, `unclean` (scheduler.md §7, §20).

use std::collections::BTreeMap;

use anyhow::Result;
use rusqlite::{Connection, OptionalExtension as _};

use super::Tx;

/// Set: the scheduler is paused.
pub const PAUSED: &str = "paused";
/// Set while a scheduler runs; still there at its start when the last one did not end as it should.
pub const UNCLEAN: &str = "unclean";

/// Set: this agent is paused.
pub fn disabled(agent: &str) -> String {
    format!("disabled:{agent}")
}

/// The value of a flag, if it is set.
///
/// # Errors
/// When the database fails.
pub fn get(db: &Connection, key: &str) -> Result<Option<String>> {
    let mut query = db.prepare_cached("SELECT value FROM flags WHERE key = ?")?;
    Ok(query.query_row([key], |row| row.get(0)).optional()?)
}

/// Sets a flag, whatever it was.
///
/// # Errors
/// When the database fails.
pub fn set(tx: &Tx<'_>, key: &str, value: &str) -> Result<()> {
    tx.prepare_cached("INSERT OR REPLACE INTO flags (key, value) VALUES (?, ?)")?.execute([key, value])?;
    Ok(())
}

/// Takes a flag away; false when it was not set.
///
/// # Errors
/// When the database fails.
pub fn clear(tx: &Tx<'_>, key: &str) -> Result<bool> {
    Ok(tx.prepare_cached("DELETE FROM flags WHERE key = ?")?.execute([key])? > 0)
}

/// All flags that are set.
///
/// # Errors
/// When the database fails.
pub fn all(db: &Connection) -> Result<BTreeMap<String, String>> {
    let mut query = db.prepare_cached("SELECT key, value FROM flags")?;
    Ok(query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use crate::store::testing::dir;

    #[test]
    fn flags_stay_until_they_are_cleared() {
        let dir = dir();
        let store = Store::open(dir.path()).unwrap().store;
        store
            .write(|tx| {
                set(tx, "paused", "old")?;
                set(tx, "paused", "1")?;
                set(tx, "disabled:dev", "1")
            })
            .unwrap();
        drop(store);
        let store = Store::open(dir.path()).unwrap().store;
        assert_eq!(store.read(|db| get(db, "paused")).unwrap().as_deref(), Some("1"));
        assert!(store.write(|tx| clear(tx, "paused")).unwrap());
        assert!(!store.write(|tx| clear(tx, "paused")).unwrap());
        assert_eq!(store.read(|db| get(db, "paused")).unwrap(), None);
        assert_eq!(store.read(all).unwrap(), BTreeMap::from([("disabled:dev".to_owned(), "1".to_owned())]));
    }
}
