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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::outcome::Class;
    use crate::store::Store;
    use crate::store::runs::finish_run;
    use crate::store::runs::testing::{POLICY, end, identity, outcome, register};
    use crate::store::testing::{call, insert, plan};

    fn due(store: &Store, agent: &str, now: i64, which: Eligible) -> Option<(i64, i64)> {
        let due = store.read(|db| next_due(db, agent, UnixMs(now), which)).unwrap();
        due.map(|(enqueued_at, id)| (enqueued_at.0, id))
    }

    /// Claims an item and loses its run.
    fn lose(store: &Store, id: i64, now: i64) {
        let identity = identity("dev");
        let instance = identity.instance.to_string();
        store
            .write(move |tx| {
                claim(tx, id, &identity, UnixMs(now))?.unwrap();
                finish_run(tx, &instance, &outcome(Class::Lost, 0), &POLICY, UnixMs(now))
            })
            .unwrap();
    }

    #[test]
    fn an_item_is_claimed_once() {
        let store = Store::open_in_memory().unwrap();
        let id = insert(&store, "dev", 5);
        let claim = |id: i64| {
            let identity = identity("dev");
            store.write(move |tx| claim(tx, id, &identity, UnixMs(6))).unwrap().map(|item| (item.id, item.attempts))
        };
        assert_eq!(claim(id), Some((id, 1)));
        assert_eq!((claim(id), claim(99)), (None, None));
        assert_eq!(store.read(containers::all).unwrap()[0].work_id, Some(id));
    }

    #[test]
    fn delayed_items_are_due_when_their_time_comes() {
        let store = Store::open_in_memory().unwrap();
        let (first, second) = (insert(&store, "dev", 5), insert(&store, "dev", 6));
        let next = |now: i64| store.read(|db| next_not_before(db, UnixMs(now))).unwrap();
        assert_eq!(next(10), None);
        lose(&store, first, 10);
        assert_eq!(due(&store, "dev", 10, Eligible::Any), Some((6, second)));
        lose(&store, second, 20);
        assert_eq!(due(&store, "dev", 30_009, Eligible::Any), None);
        assert_eq!((next(20), next(30_010), next(30_020)), (Some(UnixMs(30_010)), Some(UnixMs(30_020)), None));
        assert_eq!(due(&store, "dev", 30_010, Eligible::Any), Some((5, first)));
        // Planned before the clock was set back: due, and nothing to wait for.
        assert_eq!((next(-900_000), due(&store, "dev", -900_000, Eligible::Any)), (None, Some((5, first))));
    }

    #[test]
    fn calls_of_live_callers_can_be_asked_for() {
        let store = Store::open_in_memory().unwrap();
        let (gone, alive) = (register(&store, "dev"), register(&store, "dev"));
        insert(&store, "reviewer", 1);
        call(&store, &gone, "c1", 2);
        call(&store, &alive, "c2", 3);
        let next = || due(&store, "reviewer", 10, Eligible::CallsOfLiveCallers);
        assert_eq!(next(), Some((2, 2)));
        end(&store, &gone);
        assert_eq!(next(), Some((3, 3)));
        end(&store, &alive);
        assert_eq!(next(), None);
        assert_eq!(due(&store, "reviewer", 10, Eligible::Any), Some((1, 1)));
        assert_eq!(due(&store, "dev", 10, Eligible::CallsOfLiveCallers), None);
    }

    #[test]
    fn what_is_asked_all_the_time_is_answered_from_an_index() {
        let store = Store::open_in_memory().unwrap();
        let pick = "SEARCH work_items USING COVERING INDEX idx_work_pick (agent=? AND state=?)";
        assert_eq!(plan(&store, NEXT), [pick]);
        assert_eq!(plan(&store, NEXT_CALL)[0], "SEARCH item USING INDEX idx_work_pick (agent=? AND state=?)");
        assert_eq!(
            plan(&store, NEXT_NOT_BEFORE),
            ["SEARCH work_items USING COVERING INDEX idx_work_due (not_before>? AND not_before<?)"]
        );
    }
}
