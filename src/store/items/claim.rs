//! Which item is next, and taking it for a run (scheduler.md §5.3).

use anyhow::Result;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{COLUMNS, Item, item, origin};
use crate::base::clock::UnixMs;
use crate::store::containers::{self, Identity};
use crate::store::{Tx, calls};

/// A retry that is further ahead than this was planned before the clock was set back, and is due.
const LONGEST_DELAY_MS: i64 = 900_000;

/// Which items may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eligible {
    Any,
    /// Calls whose caller still runs.
    CallsOfLiveCallers,
}

const NEXT: &str = "SELECT enqueued_at, id FROM work_items WHERE agent = ?1 AND state = 'queued'
    AND (not_before <= ?2 OR not_before > ?3) ORDER BY enqueued_at, id LIMIT 1";

const NEXT_CALL: &str = "SELECT enqueued_at, id FROM work_items AS item WHERE agent = ?1 AND state = 'queued'
    AND (not_before <= ?2 OR not_before > ?3) AND kind = 'call'
    AND EXISTS (SELECT 1 FROM calls JOIN containers ON containers.instance_id = calls.caller_instance
                WHERE calls.call_id = item.call_id)
    ORDER BY enqueued_at, id LIMIT 1";

// The first condition on `not_before` is that of the index.
const NEXT_NOT_BEFORE: &str = "SELECT MIN(not_before) FROM work_items WHERE state = 'queued' AND not_before > 0
    AND not_before > ?1 AND not_before <= ?2";

/// The next due item of an agent: when it was accepted, and its id.
///
/// # Errors
/// When the database fails.
pub fn next_due(db: &Connection, agent: &str, now: UnixMs, which: Eligible) -> Result<Option<(UnixMs, i64)>> {
    let sql = match which {
        Eligible::Any => NEXT,
        Eligible::CallsOfLiveCallers => NEXT_CALL,
    };
    let mut query = db.prepare_cached(sql)?;
    let next = query.query_row(params![agent, now.0, now.0.saturating_add(LONGEST_DELAY_MS)], |row| {
        Ok((UnixMs(row.get(0)?), row.get(1)?))
    });
    Ok(next.optional()?)
}

/// When the first of all delayed items becomes due that is not due yet.
///
/// # Errors
/// When the database fails.
pub fn next_not_before(db: &Connection, now: UnixMs) -> Result<Option<UnixMs>> {
    let mut query = db.prepare_cached(NEXT_NOT_BEFORE)?;
    let next: Option<i64> = query.query_row([now.0, now.0.saturating_add(LONGEST_DELAY_MS)], |row| row.get(0))?;
    Ok(next.map(UnixMs))
}

/// Takes an item for a run: item and call become running, the run is registered. `None` when it is not queued.
///
/// # Errors
/// When the database fails.
pub fn claim(tx: &Tx<'_>, id: i64, identity: &Identity, now: UnixMs) -> Result<Option<Item>> {
    let mut update = tx.prepare_cached(&format!(
        "UPDATE work_items SET state = 'running', attempts = attempts + 1, instance_id = ?, started_at = ?
         WHERE id = ? AND state = 'queued' RETURNING {COLUMNS}"
    ))?;
    let claimed = update.query_row(params![identity.instance.as_str(), now.0, id], item).optional()?;
    let Some(item) = claimed else { return Ok(None) };
    tx.note(|notes| notes.add_queued(&item.agent, -1));
    containers::register(tx, identity, &origin(&item), Some(item.id), now)?;
    if let Some(call_id) = &item.call_id {
        calls::set_running(tx, call_id, now)?;
    }
    Ok(Some(item))
}

/// Takes the next due item of an agent for a run, as [`claim`] does.
///
/// # Errors
/// When the database fails.
pub fn claim_next(tx: &Tx<'_>, agent: &str, identity: &Identity, now: UnixMs) -> Result<Option<Item>> {
    match next_due(tx, agent, now, Eligible::Any)? {
        Some((_, id)) => claim(tx, id, identity, now),
        None => Ok(None),
    }
}
