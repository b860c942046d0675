//! What is kept, and for how long (scheduler.md §5.4, gateway.md §24).
//!
//! What goes is looked for on the reading connection, and removed in pieces that others can go between.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use rusqlite::{Connection, ToSql, params};

use super::receipts::MEMORY;
use super::{RECEIPTS_TO_CHECK, Store, Tx, int, sessions};
use crate::base::clock::UnixMs;

/// Rows that one transaction removes. Deliveries wait for it meanwhile, and a row can have dozens of pages to give back;
/// but it has to be as many as can come while it waits for its turn.
const PIECE: usize = 256;
/// Receipts beyond the newest whose payloads are looked at as well: as many as come from one check to the next, twice.
const MARGIN: u64 = 2 * RECEIPTS_TO_CHECK;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// How much is kept, beside how long.
#[derive(Clone, Copy)]
struct Limits {
    /// Dead letters of one agent.
    dead_letters: u64,
    /// Receipts, as far as they may go.
    receipts: u64,
    /// Receipts of refused requests among them.
    refused: u64,
    /// Receipts that have headers and bodies, and the size of these together.
    payloads: u64,
    payload_bytes: u64,
}

const LIMITS: Limits = Limits {
    dead_letters: 10_000,
    receipts: 10_000,
    refused: 1000,
    payloads: 10_000,
    payload_bytes: 256 * 1024 * 1024,
};

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Items that had been over for long enough.
    pub items: usize,
    pub runs: usize,
    pub receipts: usize,
    /// Receipts that lost their headers and bodies.
    pub payloads: usize,
    /// By agent: dead letters that were younger, but too many. Somebody may miss them.
    pub dead_letters: BTreeMap<String, usize>,
}

/// Removes what is older than `history_days`, and what is too much. To be called after the start and hourly, not on the
/// thread of the database: it waits for several commits.
///
/// # Errors
/// When the database fails; a part may have been removed then.
pub fn purge(store: &Store, history_days: u32, now: UnixMs) -> Result<Purged> {
    purge_to(store, history_days, &LIMITS, now)
}

/// Does the part of [`purge`] that concerns receipts, for when [`Store::take_receipts_due`] asks for it.
///
/// # Errors
/// When the database fails.
pub fn purge_receipts(store: &Store, history_days: u32, now: UnixMs) -> Result<Purged> {
    let mut purged = Purged::default();
    receipts(store, &mut purged, Reach::Newest, history_days, &LIMITS, now)?;
    Ok(purged)
}

fn purge_to(store: &Store, history_days: u32, limits: &Limits, now: UnixMs) -> Result<Purged> {
    let mut purged = Purged::default();
    let kept = DAY * history_days;
    purged.items = old_items(store, before(now, kept.max(MEMORY)))?;
    purged.dead_letters = excess_dead_letters(store, limits.dead_letters)?;
    purged.runs = old_runs(store, before(now, kept))?;
    receipts(store, &mut purged, Reach::All, history_days, limits, now)?;
    store.write(move |tx| sessions::sweep(tx, now))?;
    Ok(purged)
}

fn before(now: UnixMs, age: Duration) -> i64 {
    now.0.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
}

// The inner query reads an index only, and leaves few rows to look at.
const OLD_ITEMS: &str = "SELECT id FROM work_items WHERE id IN
    (SELECT id FROM work_items INDEXED BY idx_work_pick
     WHERE state IN ('done', 'failed', 'dead') AND enqueued_at < ?1)
    AND finished_at < ?1";

fn old_items(store: &Store, before: i64) -> Result<usize> {
    let ids = store.read(|db| column::<i64>(db, OLD_ITEMS, params![before]))?;
    in_pieces(store, ids, move |tx, id| {
        // It may have been queued again meanwhile.
        let sql = "DELETE FROM work_items WHERE id = ? AND state IN ('done', 'failed', 'dead') AND finished_at < ?";
        Ok(tx.prepare_cached(sql)?.execute(params![id, before])?)
    })
}

fn excess_dead_letters(store: &Store, most: u64) -> Result<BTreeMap<String, usize>> {
    let over = store.read(|db| {
        let sql = "SELECT agent, COUNT(*) FROM work_items WHERE state = 'dead' GROUP BY agent HAVING COUNT(*) > ?";
        let mut query = db.prepare_cached(sql)?;
        let rows = query.query_map([int(most)], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<Vec<_>>>()?)
    })?;
    let mut dropped = BTreeMap::new();
    for (agent, count) in over {
        let sql = "SELECT id FROM work_items WHERE agent = ? AND state = 'dead' ORDER BY enqueued_at, id LIMIT ?";
        let ids = store.read(|db| column::<i64>(db, sql, params![agent, count - int(most)]))?;
        let removed = in_pieces(store, ids, |tx, id| {
            Ok(tx.prepare_cached("DELETE FROM work_items WHERE id = ? AND state = 'dead'")?.execute([id])?)
        })?;
        dropped.insert(agent, removed);
    }
    Ok(dropped)
}

fn old_runs(store: &Store, before: i64) -> Result<usize> {
    let sql = "SELECT instance_id FROM runs WHERE finished_at < ?";
    let ids = store.read(|db| column::<String>(db, sql, params![before]))?;
    in_pieces(store, ids, |tx, id| Ok(tx.prepare_cached("DELETE FROM runs WHERE instance_id = ?")?.execute([id])?))
}

/// How much of the receipts is looked at.
#[derive(Clone, Copy)]
enum Reach {
    All,
    /// Only what new receipts can have changed, so that a flood of them does not make each dearer: no receipts whose work
    /// is still remembered, and payloads of the newest only.
    Newest,
}

impl Reach {
    /// Receipts with work are looked at when they came before this instant.
    fn work_before(self, remembered: i64) -> i64 {
        match self {
            Self::All => i64::MAX,
            Self::Newest => remembered,
        }
    }

    /// Of so many of the newest receipts the payloads are looked at.
    fn payloads(self, limits: &Limits) -> i64 {
        match self {
            Self::All => i64::MAX,
            Self::Newest => int(limits.payloads.saturating_add(MARGIN)),
        }
    }
}

/// Whether a receipt may go: it has no open item, and none at all while its delivery is remembered.
const REMOVABLE: &str = "NOT EXISTS (SELECT 1 FROM work_items WHERE receipt_id = receipt.id
    AND (receipt.received_at >= ?1 OR state IN ('queued', 'running')))";

// In these two the inner query reads an index only. A receipt with another status than `queued` never had items.
const EXCESS_REFUSED: &str = "SELECT id FROM webhook_receipts WHERE rowid IN
    (SELECT rowid FROM webhook_receipts INDEXED BY idx_receipts_idle
     WHERE status <> 'queued' AND status = 'rejected' ORDER BY received_at DESC, rowid DESC LIMIT -1 OFFSET ?)";
const UNWANTED: &str = "SELECT id FROM webhook_receipts WHERE rowid IN
    (SELECT rowid FROM webhook_receipts INDEXED BY idx_receipts_idle
     WHERE status <> 'queued' AND status IN ('no_match', 'ignored') ORDER BY received_at, rowid LIMIT ?)";

/// The oldest receipts of any kind.
fn removable() -> String {
    format!(
        "SELECT id FROM
         (SELECT id, received_at, rowid AS place FROM webhook_receipts INDEXED BY idx_receipts_idle
          WHERE status <> 'queued'
          UNION ALL
          SELECT id, received_at, rowid FROM webhook_receipts AS receipt INDEXED BY idx_receipts_time
          WHERE status = 'queued' AND received_at < ?2 AND {REMOVABLE})
         ORDER BY received_at, place LIMIT ?3"
    )
}

fn receipts(
    store: &Store,
    purged: &mut Purged,
    reach: Reach,
    history_days: u32,
    limits: &Limits,
    now: UnixMs,
) -> Result<()> {
    let remembered = before(now, MEMORY);
    let old = format!("SELECT id FROM webhook_receipts AS receipt WHERE received_at < ?2 AND {REMOVABLE}");
    let cutoff = before(now, DAY * history_days);
    purged.receipts += remove_receipts(store, &old, params![remembered, cutoff], remembered)?;
    purged.receipts += remove_receipts(store, EXCESS_REFUSED, params![int(limits.refused)], remembered)?;
    let excess = excess_receipts(store, limits)?;
    if excess > 0 {
        let removed = remove_receipts(store, UNWANTED, params![excess], remembered)?;
        purged.receipts += removed;
        // Not counted again: those that have come meanwhile are for the next check, which finds unwanted ones among them.
        let excess = excess.saturating_sub_unsigned(removed as u64);
        if excess > 0 {
            let values = params![remembered, reach.work_before(remembered), excess];
            purged.receipts += remove_receipts(store, &removable(), values, remembered)?;
        }
    }
    let removed = remove_payloads(store, reach, limits)?;
    purged.payloads += removed;
    // More have come since the check before this one than were expected.
    if removed as u64 >= MARGIN {
        purged.payloads += remove_payloads(store, Reach::All, limits)?;
    }
    Ok(())
}

/// Receipts beyond the limit.
fn excess_receipts(store: &Store, limits: &Limits) -> Result<i64> {
    let count = store.read(|db| column::<i64>(db, "SELECT COUNT(*) FROM webhook_receipts", params![]))?[0];
    Ok(count.saturating_sub(int(limits.receipts)))
}

fn remove_receipts(store: &Store, sql: &str, values: &[&dyn ToSql], remembered: i64) -> Result<usize> {
    let ids = store.read(|db| column::<String>(db, sql, values))?;
    let remove = format!("DELETE FROM webhook_receipts AS receipt WHERE id = ?2 AND {REMOVABLE}");
    in_pieces(store, ids, move |tx, id| Ok(tx.prepare_cached(&remove)?.execute(params![remembered, id])?))
}

// Sizes are read from the heads of the rows, without the bodies.
const EXCESS_PAYLOADS: &str = "SELECT id FROM
    (SELECT id, bytes, ROW_NUMBER() OVER newest AS number, SUM(bytes) OVER newest AS sum FROM
     (SELECT id, rowid AS place, received_at,
      COALESCE(octet_length(body), 0) + COALESCE(octet_length(headers), 0) AS bytes
      FROM webhook_receipts ORDER BY received_at DESC, rowid DESC LIMIT ?3)
     WINDOW newest AS (ORDER BY received_at DESC, place DESC ROWS UNBOUNDED PRECEDING))
    WHERE (number > ?1 OR sum > ?2) AND bytes > 0";

fn remove_payloads(store: &Store, reach: Reach, limits: &Limits) -> Result<usize> {
    let values = params![int(limits.payloads), int(limits.payload_bytes), reach.payloads(limits)];
    let ids = store.read(|db| column::<String>(db, EXCESS_PAYLOADS, values))?;
    in_pieces(store, ids, |tx, id| {
        let sql = "UPDATE webhook_receipts SET headers = NULL, body = NULL WHERE id = ?";
        Ok(tx.prepare_cached(sql)?.execute([id])?)
    })
}

/// Makes a change to every row of a list, so many at once; gives how many rows were changed.
fn in_pieces<K: Clone + Send + 'static>(
    store: &Store,
    ids: Vec<K>,
    change: impl Fn(&Tx<'_>, K) -> Result<usize> + Clone + Send + 'static,
) -> Result<usize> {
    let mut changed = 0;
    for piece in ids.chunks(PIECE) {
        let (piece, change) = (piece.to_vec(), change.clone());
        changed += store.write(move |tx| piece.into_iter().map(|id| change(tx, id)).sum::<Result<usize>>())?;
    }
    Ok(changed)
}

fn column<T: rusqlite::types::FromSql>(db: &Connection, sql: &str, values: &[&dyn ToSql]) -> Result<Vec<T>> {
    Ok(db.prepare_cached(sql)?.query_map(values, |row| row.get(0))?.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::model::outcome::Class;
    use crate::store::items::{self, Cleared};
    use crate::store::receipts::{Body, NewReceipt, NoWork, accept_delivery, note};
    use crate::store::runs::finish_run;
    use crate::store::runs::testing::{POLICY, end, identity, outcome, register};
    use crate::store::testing::{dir, insert, new_item, new_receipt};

    const HOURS: i64 = 3_600_000;
    const DAYS: i64 = 24 * HOURS;

    fn count(store: &Store, of: &str) -> i64 {
        let sql = format!("SELECT COUNT(*) FROM {of}");
        store.read(|db| Ok(db.query_row(&sql, [], |row| row.get(0))?)).unwrap()
    }

    /// An item that was done at an instant.
    fn done(store: &Store, agent: &'static str, at: i64) {
        let identity = identity(agent);
        let instance = identity.instance.to_string();
        store
            .write(move |tx| {
                items::claim_next(tx, agent, &identity, UnixMs(at))?;
                finish_run(tx, &instance, &outcome(Class::Ok, 0), &POLICY, UnixMs(at))
            })
            .unwrap();
    }

    fn deliver(store: &Store, agent: &str, at: i64) -> String {
        let (receipt, items) = (new_receipt(None, UnixMs(at)), vec![new_item(agent)]);
        store.write(move |tx| accept_delivery(tx, receipt, items, 0, UnixMs(at))).unwrap().receipt_id
    }

    fn noted(store: &Store, why: NoWork, at: i64) -> String {
        let receipt = new_receipt(None, UnixMs(at));
        let id = receipt.id.clone();
        note(store, receipt, why, UnixMs(at)).unwrap();
        id
    }

    fn purge_receipts_to(store: &Store, limits: &Limits, now: UnixMs) -> Purged {
        let mut purged = Purged::default();
        receipts(store, &mut purged, Reach::Newest, 14, limits, now).unwrap();
        purged
    }

    fn ids(store: &Store) -> Vec<String> {
        let sql = "SELECT id FROM webhook_receipts ORDER BY received_at, rowid";
        store.read(|db| column::<String>(db, sql, params![])).unwrap()
    }

    #[test]
    fn ended_items_go_after_their_time_and_open_ones_never() {
        let store = Store::open_in_memory().unwrap();
        for _ in 0..1100 {
            insert(&store, "dev", 0);
            done(&store, "dev", 0);
        }
        insert(&store, "dev", 0);
        done(&store, "dev", 5 * DAYS);
        insert(&store, "dev", 0);
        assert_eq!(purge(&store, 14, UnixMs(14 * DAYS)).unwrap().items, 0);
        assert_eq!(purge(&store, 14, UnixMs(14 * DAYS + 1)).unwrap().items, 1100);
        assert_eq!((count(&store, "work_items"), store.queued("dev")), (2, 1));
        assert_eq!(purge(&store, 1, UnixMs(7 * DAYS)).unwrap().items, 0, "deliveries are remembered for 72 hours");
        assert_eq!(purge(&store, 1, UnixMs(8 * DAYS + 1)).unwrap().items, 1);
        assert_eq!(purge(&store, 1, UnixMs(99 * DAYS)).unwrap().items, 0);
    }

    #[test]
    fn runs_go_after_their_time() {
        let store = Store::open_in_memory().unwrap();
        let instance = register(&store, "dev");
        end(&store, &instance);
        assert_eq!(purge(&store, 2, UnixMs(2 * DAYS + 3500)).unwrap().runs, 0);
        assert_eq!(purge(&store, 2, UnixMs(2 * DAYS + 3501)).unwrap().runs, 1);
        assert_eq!(count(&store, "runs"), 0);
    }

    #[test]
    fn the_oldest_of_too_many_dead_letters_go_and_are_counted() {
        let store = Store::open_in_memory().unwrap();
        for agent in ["dev", "dev", "dev", "docs", "dev", "dev"] {
            insert(&store, agent, 1);
        }
        store.write(|tx| items::clear(tx, None, Cleared::ByOperator, UnixMs(2))).unwrap();
        let limits = Limits { dead_letters: 3, ..LIMITS };
        let purged = purge_to(&store, 14, &limits, UnixMs(3)).unwrap();
        assert_eq!(purged.dead_letters, BTreeMap::from([("dev".to_owned(), 2)]));
        assert_eq!(store.read(items::all_dead).unwrap(), [3, 4, 5, 6]);
    }

    #[test]
    fn receipts_go_after_their_time_but_not_with_open_or_fresh_items() {
        let store = Store::open_in_memory().unwrap();
        let done_receipt = deliver(&store, "dev", 0);
        done(&store, "dev", 0);
        let open = deliver(&store, "dev", 0);
        let idle = noted(&store, NoWork::NoMatch, 0);
        let purged = |days, at| purge_receipts(&store, days, UnixMs(at)).unwrap().receipts;
        assert_eq!(purged(1, DAYS), 0);
        assert_eq!((purged(1, DAYS + 1), ids(&store)), (1, vec![done_receipt, open.clone()]), "{idle}");
        assert_eq!(purged(1, 72 * HOURS), 0);
        assert_eq!((purged(1, 72 * HOURS + 1), ids(&store)), (1, vec![open]));
        assert_eq!(purged(1, 99 * DAYS), 0);
    }

    #[test]
    fn of_too_many_receipts_those_without_work_go_first_and_those_with_fresh_work_stay() {
        let store = Store::open_in_memory().unwrap();
        let skipped = new_receipt(None, UnixMs(1));
        let skipped_id = skipped.id.clone();
        store.write(move |tx| accept_delivery(tx, skipped, vec![], 1, UnixMs(1))).unwrap();
        let fresh = deliver(&store, "dev", 2);
        done(&store, "dev", 2);
        let first = noted(&store, NoWork::Ignored, 3);
        let second = noted(&store, NoWork::NoMatch, 4);
        let left = |receipts| {
            purge_receipts_to(&store, &Limits { receipts, ..LIMITS }, UnixMs(5));
            ids(&store)
        };
        assert_eq!(left(4), [&skipped_id, &fresh, &first, &second].map(Clone::clone));
        assert_eq!(left(3), [&skipped_id, &fresh, &second].map(Clone::clone));
        assert_eq!(left(1), std::slice::from_ref(&fresh));
        assert_eq!(left(0), [fresh]);
    }

    #[test]
    fn of_too_many_receipts_with_work_those_go_whose_work_is_over_and_forgotten() {
        let store = Store::open_in_memory().unwrap();
        let old = deliver(&store, "dev", 0);
        done(&store, "dev", 0);
        let open = deliver(&store, "docs", 1);
        let fresh = deliver(&store, "dev", 2);
        done(&store, "dev", 2);
        let limits = Limits { receipts: 0, ..LIMITS };
        assert_eq!(purge_receipts_to(&store, &limits, UnixMs(72 * HOURS)).receipts, 0);
        assert_eq!(purge_receipts_to(&store, &limits, UnixMs(72 * HOURS + 1)).receipts, 1);
        assert_eq!(ids(&store), [open.clone(), fresh], "{old}");
        assert_eq!(purge_receipts_to(&store, &limits, UnixMs(99 * DAYS)).receipts, 1);
        // Its item was dropped before its time.
        store.write(|tx| items::clear(tx, None, Cleared::ByOperator, UnixMs(3))).unwrap();
        purge_to(&store, 999, &Limits { dead_letters: 0, ..LIMITS }, UnixMs(4)).unwrap();
        assert_eq!((purge_receipts_to(&store, &limits, UnixMs(4)).receipts, ids(&store)), (0, vec![open]));
        purge_to(&store, 999, &limits, UnixMs(4)).unwrap();
        assert_eq!(ids(&store), [""; 0]);
    }

    #[test]
    fn receipts_that_come_during_a_check_push_out_none_that_are_worth_more() {
        let dir = dir();
        let store = Store::open(dir.path()).unwrap().store;
        let skipped = new_receipt(None, UnixMs(1));
        let skipped_id = skipped.id.clone();
        store.write(move |tx| accept_delivery(tx, skipped, vec![], 1, UnixMs(1))).unwrap();
        for at in 0..1500 {
            noted(&store, NoWork::NoMatch, at);
        }
        // Commits them.
        store.write(|_| Ok(())).unwrap();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let goes_on = |_: &i64| !is_over.load(Ordering::Relaxed);
                (1500..20_000).take_while(goes_on).for_each(|at| drop(noted(&store, NoWork::NoMatch, at)));
            });
            let removed = purge_receipts_to(&store, &Limits { receipts: 100, ..LIMITS }, UnixMs(1500)).receipts;
            is_over.store(true, Ordering::Relaxed);
            assert!(removed >= 1400, "{removed}");
        });
        assert!(ids(&store).contains(&skipped_id));
    }

    #[test]
    fn payloads_go_also_when_more_came_than_a_check_expects() {
        let store = Store::open_in_memory().unwrap();
        for at in 0..2 * MARGIN {
            deliver(&store, "dev", int(at));
        }
        purge_receipts_to(&store, &Limits { payloads: 1, ..LIMITS }, UnixMs(9));
        assert_eq!(count(&store, "webhook_receipts WHERE headers NOT NULL"), 1);
    }

    #[test]
    fn only_the_newest_refused_requests_are_kept() {
        let store = Store::open_in_memory().unwrap();
        let rejected = || NoWork::Rejected("validation_failed");
        let all: Vec<_> = (1..=3).map(|at| noted(&store, rejected(), at)).collect();
        let other = noted(&store, NoWork::NoMatch, 1);
        purge_receipts_to(&store, &Limits { refused: 2, ..LIMITS }, UnixMs(5));
        assert_eq!(ids(&store), [&other, &all[1], &all[2]].map(Clone::clone));
    }

    #[test]
    fn what_was_sent_is_kept_for_the_newest_receipts_within_a_size() {
        let store = Store::open_in_memory().unwrap();
        for at in 1..=5 {
            let receipt = NewReceipt { body: Body::of(&[b'x'; 1000]), ..new_receipt(None, UnixMs(at)) };
            let items = vec![new_item("dev")];
            store.write(move |tx| accept_delivery(tx, receipt, items, 0, UnixMs(at))).unwrap();
        }
        let with_payload = |limits: Limits| {
            purge_receipts_to(&store, &limits, UnixMs(9));
            let times = "SELECT received_at FROM webhook_receipts WHERE body NOT NULL AND headers NOT NULL";
            store.read(|db| column::<i64>(db, times, params![])).unwrap()
        };
        assert_eq!(with_payload(LIMITS), [1, 2, 3, 4, 5]);
        assert_eq!(with_payload(Limits { payloads: 4, ..LIMITS }), [2, 3, 4, 5]);
        // One of them has 1000 bytes and its headers.
        assert_eq!(with_payload(Limits { payload_bytes: 3500, ..LIMITS }), [3, 4, 5]);
        assert_eq!(count(&store, "webhook_receipts"), 5);
        assert_eq!(purge_to(&store, 14, &LIMITS, UnixMs(9)).unwrap(), Purged::default());
    }

    #[test]
    fn a_thousand_receipts_ask_for_a_check() {
        let store = Store::open_in_memory().unwrap();
        for at in 0..999 {
            noted(&store, NoWork::Ignored, at);
        }
        assert!(!store.take_receipts_due());
        deliver(&store, "dev", 1000);
        assert!(store.take_receipts_due());
        assert!(!store.take_receipts_due());
    }

    #[test]
    fn candidates_are_found_without_reading_all_items() {
        let store = Store::open_in_memory().unwrap();
        let plan = crate::store::testing::plan(&store, OLD_ITEMS).join("; ");
        assert!(
            plan.contains("USING INTEGER PRIMARY KEY") && plan.contains("USING COVERING INDEX idx_work_pick"),
            "{plan}"
        );
        let plan = crate::store::testing::plan(&store, EXCESS_PAYLOADS).join("; ");
        assert!(plan.contains("USING INDEX idx_receipts_time") && !plan.contains("ORDER BY"), "{plan}");
        for sql in [EXCESS_REFUSED, UNWANTED] {
            let plan = crate::store::testing::plan(&store, sql).join("; ");
            assert!(plan.contains("USING COVERING INDEX idx_receipts_idle (status=?)"), "{plan}");
        }
    }
}
