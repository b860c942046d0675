//! Failed and dead items that are queued again (scheduler.md §5.1 row 8).

use anyhow::Result;
use rusqlite::{OptionalExtension as _, params};

use super::{COLUMNS, Item, Refusal, action, item, refusal};
use crate::base::clock::UnixMs;
use crate::store::tally::{Accepted, How};
use crate::store::{Tx, calls};

/// Brings an item back on request, to its old place. Its call waits again.
///
/// # Errors
/// When the database fails.
pub fn retry(tx: &Tx<'_>, id: i64, now: UnixMs) -> Result<std::result::Result<(), Refusal>> {
    Ok(match requeue(tx, id, now)? {
        Some(_) => Ok(()),
        None => Err(refusal(tx, id)?),
    })
}

/// Brings an item back because its delivery came again.
pub(in crate::store) fn redeliver(tx: &Tx<'_>, id: i64, now: UnixMs) -> Result<()> {
    if let Some(item) = requeue(tx, id, now)? {
        tx.note(|notes| {
            notes.accept(Accepted {
                id,
                action: action(item.kind, &item.context),
                agent: item.agent,
                kind: item.kind,
                source: item.source,
                enqueued_at: item.enqueued_at,
                how: How::Redelivered,
            });
        });
    }
    Ok(())
}

fn requeue(tx: &Tx<'_>, id: i64, now: UnixMs) -> Result<Option<Item>> {
    let mut update = tx.prepare_cached(&format!(
        "UPDATE work_items SET state = 'queued', reason = NULL, attempts = 0, not_before = 0, finished_at = NULL
         WHERE id = ? AND state IN ('failed', 'dead') RETURNING {COLUMNS}"
    ))?;
    let Some(item) = update.query_row(params![id], item).optional()? else { return Ok(None) };
    tx.note(|notes| notes.add_queued(&item.agent, 1));
    if let Some(call_id) = &item.call_id {
        calls::reopen(tx, call_id, now)?;
    }
    Ok(Some(item))
}
