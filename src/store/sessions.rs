//! Login sessions of the dashboard (gateway.md §27.2). Only the SHA-256 of a session's id is kept.

use std::time::Duration;

use anyhow::Result;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Store, Tx};
use crate::base::Secret;
use crate::base::clock::UnixMs;
use crate::base::ids::sha256_hex;

/// How long a session lasts after its last use.
pub const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Uses that come closer together than this are not each written down.
const GRAIN: Duration = Duration::from_secs(60);

/// Begins a session with an id that nobody can guess.
///
/// # Errors
/// When the database fails.
pub fn create(tx: &Tx<'_>, id: &Secret, now: UnixMs) -> Result<()> {
    tx.prepare_cached("INSERT INTO sessions (id_sha256, created_at, expires_at) VALUES (?, ?, ?)")?
        .execute(params![digest(id), now.0, now.plus(LIFETIME).0])?;
    Ok(())
}

/// Whether a session is valid; when it is, it is extended. That is written down at most a second later, at most once a
/// minute, and the use counts even if it cannot be.
///
/// # Errors
/// When the database cannot be read.
pub fn visit(store: &Store, id: &Secret, now: UnixMs) -> Result<bool> {
    let id = digest(id);
    let Some(expires_at) = store.read(|db| expires_at(db, &id))?.filter(|end| now < *end) else { return Ok(false) };
    let extended = now.plus(LIFETIME);
    if extended.since(expires_at) >= GRAIN {
        let bytes = id.len();
        // Only a buffer that is full makes this wait and fail; the next use tries again.
        let _ = store.submit_late(bytes, move |tx| {
            tx.prepare_cached("UPDATE sessions SET expires_at = ? WHERE id_sha256 = ?")?
                .execute(params![extended.0, id])?;
            Ok(())
        });
    }
    Ok(true)
}

fn expires_at(db: &Connection, digest: &str) -> Result<Option<UnixMs>> {
    let mut query = db.prepare_cached("SELECT expires_at FROM sessions WHERE id_sha256 = ?")?;
    Ok(query.query_row([digest], |row| row.get(0)).optional()?.map(UnixMs))
}

/// Ends a session. False when there is none of that id.
///
/// # Errors
/// When the database fails.
pub fn delete(tx: &Tx<'_>, id: &Secret) -> Result<bool> {
    Ok(tx.prepare_cached("DELETE FROM sessions WHERE id_sha256 = ?")?.execute([digest(id)])? > 0)
}

/// Ends all sessions: the key that they were begun with is valid no more.
///
/// # Errors
/// When the database fails.
pub fn delete_all(tx: &Tx<'_>) -> Result<()> {
    tx.prepare_cached("DELETE FROM sessions")?.execute([])?;
    Ok(())
}

/// Removes sessions whose time is over.
///
/// # Errors
/// When the database fails.
pub fn sweep(tx: &Tx<'_>, now: UnixMs) -> Result<()> {
    tx.prepare_cached("DELETE FROM sessions WHERE expires_at <= ?")?.execute([now.0])?;
    Ok(())
}

fn digest(id: &Secret) -> String {
    sha256_hex(id.expose().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::hex64;

    const HOUR: i64 = 3_600_000;

    fn begin(store: &Store) -> Secret {
        let id = Secret::new(hex64());
        let begun = id.clone();
        store.write(move |tx| create(tx, &begun, UnixMs(0))).unwrap();
        id
    }

    #[test]
    fn a_session_lasts_a_day_after_its_last_use() {
        let store = Store::open_in_memory().unwrap();
        let id = begin(&store);
        let valid = |at: i64| visit(&store, &id, UnixMs(at)).unwrap();
        assert!(valid(1) && valid(23 * HOUR) && valid(46 * HOUR));
        assert!(!valid(70 * HOUR));
        assert!(!visit(&store, &Secret::new("0".repeat(64)), UnixMs(1)).unwrap());
    }

    #[test]
    fn the_database_does_not_tell_the_id() {
        let store = Store::open_in_memory().unwrap();
        let id = begin(&store);
        let kept: String =
            store.read(|db| Ok(db.query_row("SELECT id_sha256 FROM sessions", [], |row| row.get(0))?)).unwrap();
        assert_eq!(kept, sha256_hex(id.expose().as_bytes()));
    }

    #[test]
    fn sessions_end_by_logout_by_a_new_key_and_by_time() {
        let store = Store::open_in_memory().unwrap();
        let begin = || begin(&store);
        let valid = |id: &Secret| visit(&store, id, UnixMs(1)).unwrap();
        let (one, two) = (begin(), begin());
        let ended = one.clone();
        assert!(store.write(move |tx| delete(tx, &ended)).unwrap());
        assert!(!valid(&one) && valid(&two));
        store.write(delete_all).unwrap();
        assert!(!valid(&two));
        let three = begin();
        store.write(|tx| sweep(tx, UnixMs(24 * HOUR - 1))).unwrap();
        assert!(valid(&three));
        store.write(|tx| sweep(tx, UnixMs(24 * HOUR))).unwrap();
        assert!(!valid(&three));
    }
}
