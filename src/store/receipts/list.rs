//! Receipts as people see them (gateway.md §27.1).

use anyhow::Result;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::Status;
use crate::base::clock::UnixMs;
use crate::store::items::State;

/// A receipt without what was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub id: String,
    pub provider: String,
    pub delivery_id: Option<String>,
    pub matched_source: Option<String>,
    pub event: Option<String>,
    pub action: Option<String>,
    /// Event and action in one text.
    pub summary: Option<String>,
    pub received_at: UnixMs,
    pub client: Option<String>,
    /// Size of the body, also when it is not stored.
    pub body_bytes: u64,
    /// By the states of its items.
    pub status: Status,
    /// Why it was rejected, or why the first of its dead items died.
    pub reason: Option<String>,
    pub matched: u64,
    pub skipped: u64,
    pub replay_of: Option<String>,
}

/// A receipt with what was sent, so far as it is stored, and its items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detail {
    pub receipt: Receipt,
    /// A JSON object.
    pub headers: Option<String>,
    pub body: Option<Vec<u8>>,
    pub items: Vec<ItemOf>,
}

/// An item of a receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemOf {
    pub agent: String,
    pub state: State,
    pub attempts: u32,
    /// Its run, the last one of several.
    pub instance_id: Option<String>,
}

/// Which receipts are listed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter<'a> {
    pub status: Option<Status>,
    pub provider: Option<&'a str>,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Newest first.
    pub receipts: Vec<Receipt>,
    /// How many there are in all.
    pub total: u64,
}

/// The status by the states of the items; what had none keeps what was stored.
pub(in crate::store) const STATUS: &str = "CASE WHEN status <> 'queued' THEN status
    WHEN EXISTS (SELECT 1 FROM work_items WHERE receipt_id = receipt.id AND state IN ('queued', 'running')) THEN 'queued'
    WHEN EXISTS (SELECT 1 FROM work_items WHERE receipt_id = receipt.id AND state = 'dead') THEN 'dead-letter'
    ELSE 'processed' END";

const REASON: &str = "COALESCE(reason, (SELECT item.reason FROM work_items AS item
    WHERE item.receipt_id = receipt.id AND item.state = 'dead' ORDER BY item.id LIMIT 1))";

fn columns() -> String {
    format!(
        "id, provider, delivery_id, matched_source, event, action, summary, received_at, client, body_bytes, {STATUS},
         {REASON}, matched, skipped, replay_of"
    )
}

fn receipt(row: &Row<'_>) -> rusqlite::Result<Receipt> {
    let number = |column: usize| Ok::<_, rusqlite::Error>(row.get::<_, i64>(column)?.unsigned_abs());
    let status: String = row.get(10)?;
    let status = Status::parse(&status).unwrap_or(Status::Processed);
    Ok(Receipt {
        id: row.get(0)?,
        provider: row.get(1)?,
        delivery_id: row.get(2)?,
        matched_source: row.get(3)?,
        event: row.get(4)?,
        action: row.get(5)?,
        summary: row.get(6)?,
        received_at: UnixMs(row.get(7)?),
        client: row.get(8)?,
        body_bytes: number(9)?,
        status,
        reason: row.get::<_, Option<String>>(11)?.filter(|_| matches!(status, Status::Rejected | Status::DeadLetter)),
        matched: number(12)?,
        skipped: number(13)?,
        replay_of: row.get(14)?,
    })
}

/// Receipts, newest first.
///
/// # Errors
/// When the database fails.
pub fn list(db: &Connection, filter: &Filter<'_>, limit: u32, offset: u64) -> Result<Page> {
    let provider = if filter.provider.is_some() { "provider = ?1" } else { "?1 IS NULL" };
    let status = filter.status.map(|status| format!(" AND {STATUS} = '{}'", status.as_str())).unwrap_or_default();
    let which = format!("FROM webhook_receipts AS receipt WHERE {provider}{status}");
    let total: i64 = db
        .prepare_cached(&format!("SELECT COUNT(*) {which}"))?
        .query_row(params![filter.provider], |row| row.get(0))?;
    let mut query = db.prepare_cached(&format!(
        "SELECT {} {which} ORDER BY received_at DESC, receipt.rowid DESC LIMIT ?2 OFFSET ?3",
        columns()
    ))?;
    let offset = i64::try_from(offset).unwrap_or(i64::MAX);
    let receipts = query.query_map(params![filter.provider, limit, offset], receipt)?.collect::<Result<_, _>>()?;
    Ok(Page { receipts, total: total.unsigned_abs() })
}

/// A receipt with everything; `None` when there is none of that id.
///
/// # Errors
/// When the database fails.
pub fn show(db: &Connection, id: &str) -> Result<Option<Detail>> {
    let mut query = db.prepare_cached(&format!(
        "SELECT {}, headers, body FROM webhook_receipts AS receipt WHERE id = ?",
        columns()
    ))?;
    let found = query.query_row([id], |row| Ok((receipt(row)?, row.get(15)?, row.get(16)?)));
    let Some((receipt, headers, body)) = found.optional()? else { return Ok(None) };
    Ok(Some(Detail { receipt, headers, body, items: items_of(db, id)? }))
}

/// The items of a receipt, in the order in which they were made.
///
/// # Errors
/// When the database fails.
pub fn items_of(db: &Connection, id: &str) -> Result<Vec<ItemOf>> {
    let mut query = db.prepare_cached(
        "SELECT agent, state, attempts, instance_id FROM work_items WHERE receipt_id = ? ORDER BY id",
    )?;
    let items = query.query_map([id], |row| {
        let state: String = row.get(1)?;
        let state = State::parse(&state).unwrap_or(State::Dead);
        Ok(ItemOf { agent: row.get(0)?, state, attempts: row.get(2)?, instance_id: row.get(3)? })
    })?;
    Ok(items.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::outcome::Class;
    use crate::store::Store;
    use crate::store::items::{self, Cleared};
    use crate::store::receipts::{Body, LARGEST_BODY, NewReceipt, NoWork, accept_delivery, note};
    use crate::store::runs::finish_run;
    use crate::store::runs::testing::{POLICY, identity, outcome};
    use crate::store::testing::{new_item, new_receipt};

    fn deliver(store: &Store, receipt: NewReceipt, agents: &[&str], now: i64) -> String {
        let items = agents.iter().map(|agent| new_item(agent)).collect();
        store.write(move |tx| accept_delivery(tx, receipt, items, 0, UnixMs(now))).unwrap().receipt_id
    }

    fn claim(store: &Store, agent: &'static str) -> String {
        let identity = identity(agent);
        let instance = identity.instance.to_string();
        store.write(move |tx| items::claim_next(tx, agent, &identity, UnixMs(50))).unwrap().unwrap();
        instance
    }

    fn finish(store: &Store, instance: String, class: Class) {
        store.write(move |tx| finish_run(tx, &instance, &outcome(class, 1), &POLICY, UnixMs(60))).unwrap();
    }

    fn detail(store: &Store, id: &str) -> Detail {
        store.read(|db| show(db, id)).unwrap().unwrap()
    }

    #[test]
    fn the_status_follows_the_items() {
        let store = Store::open_in_memory().unwrap();
        let id = deliver(&store, new_receipt(None, UnixMs(1)), &["dev", "reviewer"], 1);
        let status = || {
            let receipt = detail(&store, &id).receipt;
            (receipt.status, receipt.reason)
        };
        assert_eq!(status(), (Status::Queued, None));
        let instance = claim(&store, "dev");
        finish(&store, instance, Class::AgentError);
        assert_eq!(status(), (Status::Queued, None));
        let instance = claim(&store, "reviewer");
        assert_eq!(status(), (Status::Queued, None));
        let items: Vec<_> = detail(&store, &id).items.into_iter().map(|item| (item.agent, item.state)).collect();
        assert_eq!(items, [("dev".to_owned(), State::Failed), ("reviewer".to_owned(), State::Running)]);
        assert_eq!(detail(&store, &id).items[1].instance_id.as_deref(), Some(instance.as_str()));
        finish(&store, instance, Class::Ok);
        assert_eq!(status(), (Status::Processed, None));
        let id = deliver(&store, new_receipt(None, UnixMs(2)), &["dev", "reviewer"], 2);
        let instance = claim(&store, "dev");
        finish(&store, instance, Class::Ok);
        store.write(|tx| items::clear(tx, None, Cleared::ByOperator, UnixMs(70))).unwrap();
        let receipt = detail(&store, &id).receipt;
        assert_eq!((receipt.status, receipt.reason.as_deref()), (Status::DeadLetter, Some("cleared")));
    }

    #[test]
    fn receipts_are_listed_newest_first_and_by_status_and_provider() {
        let store = Store::open_in_memory().unwrap();
        for (why, at) in [(NoWork::NoMatch, 1), (NoWork::Ignored, 2), (NoWork::Rejected("parse_error"), 3)] {
            note(&store, new_receipt(None, UnixMs(at)), why, UnixMs(at)).unwrap();
        }
        let linear = NewReceipt { provider: "linear".into(), ..new_receipt(None, UnixMs(4)) };
        deliver(&store, linear, &["dev"], 4);
        let listed = |filter: Filter<'_>, limit, offset| {
            let page = store.read(|db| list(db, &filter, limit, offset)).unwrap();
            (page.receipts.iter().map(|receipt| receipt.status).collect::<Vec<_>>(), page.total)
        };
        let all = vec![Status::Queued, Status::Rejected, Status::Ignored, Status::NoMatch];
        assert_eq!(listed(Filter::default(), 50, 0), (all.clone(), 4));
        assert_eq!(listed(Filter::default(), 2, 1), (all[1..3].to_vec(), 4));
        let github = Filter { provider: Some("github"), ..Filter::default() };
        assert_eq!(listed(github, 50, 0), (all[1..].to_vec(), 3));
        for status in all {
            assert_eq!(listed(Filter { status: Some(status), provider: None }, 50, 0), (vec![status], 1));
        }
        let none = Filter { status: Some(Status::Queued), ..github };
        assert_eq!(listed(none, 50, 0), (vec![], 0));
        let rejected = store.read(|db| list(db, &Filter { status: Some(Status::Rejected), provider: None }, 1, 0));
        assert_eq!(rejected.unwrap().receipts[0].reason.as_deref(), Some("parse_error"));
    }

    #[test]
    fn what_was_sent_is_kept_without_secrets_and_within_bounds() {
        let store = Store::open_in_memory().unwrap();
        let kept = |body: Vec<u8>, why: Option<NoWork>| {
            let receipt = NewReceipt { body: Body::of(&body), ..new_receipt(None, UnixMs(1)) };
            let id = receipt.id.clone();
            match why {
                Some(why) => note(&store, receipt, why, UnixMs(1)).unwrap(),
                None => drop(deliver(&store, receipt, &["dev"], 1)),
            }
            let detail = detail(&store, &id);
            (detail.body.map(|body| body.len()), detail.receipt.body_bytes, detail.headers.unwrap())
        };
        let headers = r#"{"x-github-event":"push"}"#.to_owned();
        assert_eq!(kept(vec![b'x'; LARGEST_BODY], None), (Some(LARGEST_BODY), 262_144, headers.clone()));
        assert_eq!(kept(vec![b'x'; LARGEST_BODY + 1], None), (None, 262_145, headers.clone()));
        assert_eq!(kept(b"{}".to_vec(), Some(NoWork::Ignored)), (Some(2), 2, headers.clone()));
        assert_eq!(kept(b"{}".to_vec(), Some(NoWork::Rejected("validation_failed"))), (None, 2, headers));
        assert_eq!(store.read(|db| show(db, "unknown")).unwrap(), None);
    }

    #[test]
    fn a_page_of_receipts_is_read_in_the_order_of_an_index() {
        let store = Store::open_in_memory().unwrap();
        let sql = format!(
            "SELECT {} FROM webhook_receipts AS receipt WHERE ?1 IS NULL
             ORDER BY received_at DESC, receipt.rowid DESC LIMIT ?2 OFFSET ?3",
            columns()
        );
        let plan = crate::store::testing::plan(&store, &sql);
        assert_eq!(plan[0], "SCAN receipt USING INDEX idx_receipts_time", "{plan:?}");
        assert!(plan.iter().all(|step| !step.contains("TEMP B-TREE FOR ORDER BY") && !step.contains("idx_work_pick")));
    }
}
