//! A delivery that matched: its receipt and its items in one transaction, without those that were there before
//! (scheduler.md §5.2).

use std::time::Duration;

use anyhow::Result;
use rusqlite::params;

use super::{NewReceipt, Row, Status};
use crate::base::clock::UnixMs;
use crate::store::Tx;
use crate::store::items::{self, NewItem, State};

/// How long a delivery is remembered.
pub(in crate::store) const MEMORY: Duration = Duration::from_secs(72 * 3600);

/// What came of a delivery, as its sender is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// The receipt that was stored, or that of the earlier delivery when nothing new was.
    pub receipt_id: String,
    /// Items that were inserted or queued again.
    pub matched: usize,
    /// Disabled agents that wanted it.
    pub skipped: usize,
    /// Every agent that wanted it had it already.
    pub is_duplicate: bool,
}

// Without statistics SQLite would begin with the index on agent and state, and read every item of the agent; the sign
// keeps it from that.
const EARLIER: &str = "SELECT item.id, item.state, item.receipt_id
    FROM webhook_receipts AS receipt CROSS JOIN work_items AS item ON item.receipt_id = receipt.id
    WHERE receipt.provider = ?1 AND receipt.delivery_id = ?2 AND receipt.received_at >= ?3 AND +item.agent = ?4
    ORDER BY item.id";

/// Accepts a delivery for the agents of `items`, whose receipt it becomes; `skipped` is the number of agents that are
/// disabled. An agent that has an item of the same delivery, not older than 72 h, gets none: the earlier one is queued
/// again if it failed or is dead. A replay, and a delivery without an id, are not compared with others.
///
/// # Errors
/// When the database fails; nothing was accepted then.
pub fn accept_delivery(
    tx: &Tx<'_>,
    receipt: NewReceipt,
    items: Vec<NewItem>,
    skipped: usize,
    now: UnixMs,
) -> Result<Delivered> {
    let wanted = items.len();
    let (mut new, mut earlier, mut requeued) = (Vec::new(), None, 0);
    for item in items {
        let Some(found) = find_earlier(tx, &receipt, &item.agent, now)? else {
            new.push(item);
            continue;
        };
        if found.is_over {
            items::redeliver(tx, found.item, now)?;
            requeued += 1;
        }
        earlier.get_or_insert(found.receipt);
    }
    let matched = new.len() + requeued;
    if let Some(receipt_id) = earlier.filter(|_| new.is_empty()) {
        return Ok(Delivered { receipt_id, matched, skipped, is_duplicate: matched == 0 });
    }
    let receipt_id = receipt.id.clone();
    let status = match (wanted, skipped) {
        (0, 0) => Status::NoMatch,
        (0, _) => Status::Skipped,
        _ => Status::Queued,
    };
    Row { matched, skipped, ..Row::new(receipt, status) }.insert(tx, now)?;
    for item in new {
        items::insert(tx, &NewItem { receipt_id: Some(receipt_id.clone()), ..item }, now)?;
    }
    Ok(Delivered { receipt_id, matched, skipped, is_duplicate: false })
}

/// An item that an earlier delivery of the same id made.
struct Earlier {
    item: i64,
    receipt: String,
    /// It failed or is dead.
    is_over: bool,
}

/// What an agent has of the same delivery; of several items one that is not over.
fn find_earlier(tx: &Tx<'_>, receipt: &NewReceipt, agent: &str, now: UnixMs) -> Result<Option<Earlier>> {
    let Some(delivery_id) = receipt.delivery_id.as_ref().filter(|_| receipt.replay_of.is_none()) else {
        return Ok(None);
    };
    let mut query = tx.prepare_cached(EARLIER)?;
    let since = now.0.saturating_sub(i64::try_from(MEMORY.as_millis()).unwrap_or(i64::MAX));
    let mut rows = query.query(params![receipt.provider, delivery_id, since, agent])?;
    let mut found: Option<Earlier> = None;
    while let Some(row) = rows.next()? {
        let state: String = row.get(1)?;
        let is_over = matches!(State::parse(&state), Some(State::Failed | State::Dead));
        if found.as_ref().is_none_or(|found| found.is_over) {
            found = Some(Earlier { item: row.get(0)?, receipt: row.get(2)?, is_over });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::outcome::Class;
    use crate::store::receipts::{self, Filter, new_id};
    use crate::store::runs::finish_run;
    use crate::store::runs::testing::{POLICY, identity, outcome};
    use crate::store::testing::{dir, new_item, new_receipt};
    use crate::store::{How, Store};

    const HOUR: i64 = 3_600_000;

    fn deliver_at(store: &Store, id: Option<&str>, agents: &[&str], now: i64) -> Delivered {
        let receipt = new_receipt(id, UnixMs(now));
        let items = agents.iter().map(|agent| new_item(agent)).collect();
        store.write(move |tx| accept_delivery(tx, receipt, items, 0, UnixMs(now))).unwrap()
    }

    fn deliver(store: &Store, id: &str, agents: &[&str]) -> Delivered {
        deliver_at(store, Some(id), agents, 1000)
    }

    /// Runs the next item of an agent to its end.
    fn run(store: &Store, agent: &str, class: Class) {
        let identity = identity(agent);
        let instance = identity.instance.to_string();
        let agent = agent.to_owned();
        let ended = store.write(move |tx| {
            items::claim_next(tx, &agent, &identity, UnixMs(2000))?.unwrap();
            finish_run(tx, &instance, &outcome(class, 1), &POLICY, UnixMs(3000))
        });
        assert!(ended.unwrap().is_some());
    }

    fn count(store: &Store, table: &str) -> i64 {
        let sql = format!("SELECT COUNT(*) FROM {table}");
        store.read(|db| Ok(db.query_row(&sql, [], |row| row.get(0))?)).unwrap()
    }

    #[test]
    fn a_delivery_becomes_a_receipt_and_an_item_per_agent() {
        let store = Store::open_in_memory().unwrap();
        let first = deliver(&store, "d1", &["dev", "reviewer"]);
        assert_eq!((first.matched, first.skipped, first.is_duplicate), (2, 0, false));
        let identity = identity("dev");
        let item = store.write(move |tx| items::claim_next(tx, "dev", &identity, UnixMs(9))).unwrap().unwrap();
        assert_eq!(item.receipt_id.as_deref(), Some(first.receipt_id.as_str()));
        let accepted = store.take_accepted();
        let all: Vec<_> = accepted.iter().map(|item| (item.agent.as_str(), item.source.as_str(), item.how)).collect();
        assert_eq!(all, [("dev", "push", How::Inserted), ("reviewer", "push", How::Inserted)]);
        assert_eq!(accepted[0].action.as_deref(), Some("done"));
        assert_eq!(store.take_accepted(), []);
    }

    #[test]
    fn a_repeated_delivery_is_a_duplicate_while_its_items_are_queued_running_or_done() {
        let store = Store::open_in_memory().unwrap();
        let first = deliver(&store, "d1", &["dev"]);
        let duplicate = Delivered { matched: 0, is_duplicate: true, ..first };
        assert_eq!(deliver(&store, "d1", &["dev"]), duplicate);
        let claimer = identity("dev");
        let instance = claimer.instance.to_string();
        store.write(move |tx| items::claim_next(tx, "dev", &claimer, UnixMs(9))).unwrap().unwrap();
        assert_eq!(deliver(&store, "d1", &["dev"]), duplicate);
        store.write(move |tx| finish_run(tx, &instance, &outcome(Class::Ok, 0), &POLICY, UnixMs(9))).unwrap();
        assert_eq!(deliver(&store, "d1", &["dev"]), duplicate);
        assert_eq!((count(&store, "webhook_receipts"), count(&store, "work_items")), (1, 1));
        assert_ne!(deliver(&store, "d2", &["dev"]).receipt_id, duplicate.receipt_id);
    }

    #[test]
    fn a_repeated_delivery_reaches_exactly_the_agents_that_have_not_dealt_with_it() {
        let store = Store::open_in_memory().unwrap();
        let first = deliver(&store, "d1", &["dev", "reviewer"]);
        run(&store, "dev", Class::AgentError);
        run(&store, "reviewer", Class::Ok);
        store.take_accepted();
        let again = deliver(&store, "d1", &["dev", "reviewer"]);
        assert_eq!(again, Delivered { matched: 1, ..first.clone() });
        assert_eq!((store.queued("dev"), store.queued("reviewer")), (1, 0));
        let accepted = store.take_accepted();
        assert_eq!((accepted[0].agent.as_str(), accepted[0].how), ("dev", How::Redelivered));
        assert_eq!(accepted.len(), 1);
        // An agent that had none gets one, with a receipt of its own.
        let third = deliver(&store, "d1", &["dev", "reviewer", "docs"]);
        assert_eq!((third.matched, third.is_duplicate), (1, false));
        assert_ne!(third.receipt_id, first.receipt_id);
        assert_eq!((count(&store, "webhook_receipts"), count(&store, "work_items")), (2, 3));
        run(&store, "docs", Class::Timeout);
        assert_eq!(deliver(&store, "d1", &["docs"]), Delivered { matched: 1, ..third });
    }

    #[test]
    fn deliveries_are_remembered_for_three_days_and_only_by_id() {
        let store = Store::open_in_memory().unwrap();
        deliver_at(&store, Some("d1"), &["dev"], 0);
        assert!(deliver_at(&store, Some("d1"), &["dev"], 72 * HOUR).is_duplicate);
        assert!(!deliver_at(&store, Some("d1"), &["dev"], 72 * HOUR + 1).is_duplicate);
        assert!(!deliver_at(&store, None, &["dev"], 0).is_duplicate);
        assert!(!deliver_at(&store, None, &["dev"], 0).is_duplicate);
        assert_eq!(store.queued("dev"), 4);
    }

    #[test]
    fn a_replay_is_compared_with_nothing() {
        let store = Store::open_in_memory().unwrap();
        let first = deliver(&store, "d1", &["dev"]);
        let receipt = NewReceipt { replay_of: Some(first.receipt_id), ..new_receipt(Some("d1"), UnixMs(5)) };
        let items = vec![new_item("dev")];
        let replay = store.write(move |tx| accept_delivery(tx, receipt, items, 0, UnixMs(5))).unwrap();
        assert_eq!((replay.matched, replay.is_duplicate, store.queued("dev")), (1, false, 2));
        let detail = store.read(|db| receipts::show(db, &replay.receipt_id)).unwrap().unwrap();
        assert_eq!(detail.receipt.summary.as_deref(), Some("replay:push done"));
    }

    #[test]
    fn a_delivery_for_disabled_agents_only_is_recorded_as_skipped() {
        let store = Store::open_in_memory().unwrap();
        let receipt = new_receipt(Some("d1"), UnixMs(5));
        let skipped = store.write(move |tx| accept_delivery(tx, receipt, vec![], 2, UnixMs(5))).unwrap();
        assert_eq!((skipped.matched, skipped.skipped, skipped.is_duplicate), (0, 2, false));
        let page = store.read(|db| receipts::list(db, &Filter::default(), 50, 0)).unwrap();
        assert_eq!((page.receipts[0].status, page.receipts[0].skipped), (Status::Skipped, 2));
    }

    #[test]
    fn of_equal_deliveries_at_the_same_moment_one_makes_items() {
        let dir = dir();
        let store = Store::open(dir.path()).unwrap().store;
        let all: Vec<Delivered> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| deliver(&store, "d1", &["dev"]))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(all.iter().filter(|delivered| delivered.matched == 1).count(), 1);
        assert!(all.iter().all(|delivered| delivered.receipt_id == all[0].receipt_id));
        assert_eq!(store.queued("dev"), 1);
    }

    #[test]
    fn the_duplicate_check_begins_with_the_receipt() {
        let store = Store::open_in_memory().unwrap();
        let plan = crate::store::testing::plan(&store, EARLIER);
        let expected = [
            "SEARCH receipt USING INDEX idx_receipts_delivery (provider=? AND delivery_id=?)",
            "SEARCH item USING INDEX idx_work_receipt (receipt_id=?)",
        ];
        assert_eq!(plan[..2], expected, "{plan:?}");
        assert_ne!(new_id(UnixMs(1)), new_id(UnixMs(1)));
    }
}
