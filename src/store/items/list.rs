//! Items as people see them (gateway.md §13.1).

use anyhow::Result;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde_json::Value;

use super::{Kind, State};
use crate::base::clock::UnixMs;
use crate::store::instant;

/// An item without its context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub id: i64,
    pub agent: String,
    pub kind: Kind,
    /// Event name of a webhook, calling agent of a call or trigger, empty for `manual`.
    pub source: String,
    /// Action of a webhook.
    pub action: Option<String>,
    pub state: State,
    pub attempts: u32,
    pub enqueued_at: UnixMs,
    /// When it may be tried again, if that was delayed.
    pub not_before: Option<UnixMs>,
    pub started_at: Option<UnixMs>,
    pub finished_at: Option<UnixMs>,
    /// Its run, the last one of several.
    pub instance_id: Option<String>,
    pub receipt_id: Option<String>,
    pub call_id: Option<String>,
    /// Why it failed or is dead.
    pub reason: Option<String>,
    pub last_error: Option<String>,
}

/// Which items are listed.
#[derive(Clone, Debug)]
pub struct Filter<'a> {
    /// `None`: of all agents.
    pub agent: Option<&'a str>,
    pub states: &'a [State],
    pub limit: u32,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Newest first.
    pub items: Vec<Listed>,
    /// How many there are in all.
    pub total: u64,
}

const COLUMNS: &str = "id, agent, kind, source, state, attempts, enqueued_at, NULLIF(not_before, 0), started_at,
    finished_at, instance_id, receipt_id, call_id, reason, last_error,
    CASE WHEN kind = 'webhook' AND json_valid(context) THEN json_extract(context, '$.action') END";

fn listed(row: &Row<'_>) -> rusqlite::Result<Listed> {
    let (kind, state): (String, String) = (row.get(2)?, row.get(4)?);
    Ok(Listed {
        id: row.get(0)?,
        agent: row.get(1)?,
        kind: Kind::parse(&kind),
        source: row.get(3)?,
        state: State::parse(&state).unwrap_or(State::Dead),
        attempts: row.get(5)?,
        enqueued_at: UnixMs(row.get(6)?),
        not_before: instant(row, 7)?,
        started_at: instant(row, 8)?,
        finished_at: instant(row, 9)?,
        instance_id: row.get(10)?,
        receipt_id: row.get(11)?,
        call_id: row.get(12)?,
        reason: row.get(13)?,
        last_error: row.get(14)?,
        // A foreign action may be no text.
        action: row.get(15).unwrap_or(None),
    })
}

/// Items, newest first.
///
/// # Errors
/// When the database fails.
pub fn list(db: &Connection, filter: &Filter<'_>) -> Result<Page> {
    let states: Vec<String> = filter.states.iter().map(|state| format!("'{}'", state.as_str())).collect();
    let agent = if filter.agent.is_some() { "agent = ?1" } else { "?1 IS NULL" };
    let which = format!("{agent} AND state IN ({})", states.join(", "));
    let total: i64 = db
        .prepare_cached(&format!("SELECT COUNT(*) FROM work_items WHERE {which}"))?
        .query_row(params![filter.agent], |row| row.get(0))?;
    // The contexts are only looked into for what is shown.
    let mut query = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM work_items WHERE id IN
         (SELECT id FROM work_items WHERE {which} ORDER BY id DESC LIMIT ?2) ORDER BY id DESC"
    ))?;
    let items = query.query_map(params![filter.agent, filter.limit], listed)?.collect::<Result<_, _>>()?;
    Ok(Page { items, total: total.unsigned_abs() })
}

/// An item with its context; `None` when there is none of that id.
///
/// # Errors
/// When the database fails.
pub fn show(db: &Connection, id: i64) -> Result<Option<(Listed, Value)>> {
    let mut query = db.prepare_cached(&format!("SELECT {COLUMNS}, context FROM work_items WHERE id = ?"))?;
    let found = query.query_row([id], |row| {
        let context: String = row.get(16)?;
        Ok((listed(row)?, serde_json::from_str(&context).unwrap_or_default()))
    });
    Ok(found.optional()?)
}

/// Ids of all dead items, oldest first.
///
/// # Errors
/// When the database fails.
pub fn all_dead(db: &Connection) -> Result<Vec<i64>> {
    let mut query = db.prepare_cached("SELECT id FROM work_items WHERE state = 'dead' ORDER BY id")?;
    Ok(query.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::outcome::Class;
    use crate::store::Store;
    use crate::store::items::{self, Cleared, claim_next};
    use crate::store::receipts::accept_delivery;
    use crate::store::runs::finish_run;
    use crate::store::runs::testing::{POLICY, identity, outcome, register};
    use crate::store::testing::{call, insert, new_item, new_receipt};

    const OPEN: [State; 2] = [State::Queued, State::Running];

    fn listed(store: &Store, agent: Option<&str>, states: &[State], limit: u32) -> (Vec<i64>, u64) {
        let page = store.read(|db| list(db, &Filter { agent, states, limit })).unwrap();
        (page.items.into_iter().map(|item| item.id).collect(), page.total)
    }

    #[test]
    fn items_are_listed_newest_first_by_agent_and_state() {
        let store = Store::open_in_memory().unwrap();
        for agent in ["dev", "docs", "dev", "dev"] {
            insert(&store, agent, 1);
        }
        store.write(|tx| items::drop(tx, 1, UnixMs(2))).unwrap().unwrap();
        assert_eq!(listed(&store, None, &OPEN, 50), (vec![4, 3, 2], 3));
        assert_eq!(listed(&store, None, &OPEN, 2), (vec![4, 3], 3));
        assert_eq!(listed(&store, Some("dev"), &OPEN, 1), (vec![4], 2));
        assert_eq!(listed(&store, Some("dev"), &[State::Dead], 50), (vec![1], 1));
        assert_eq!(listed(&store, Some("dev"), &[State::Queued, State::Dead], 50), (vec![4, 3, 1], 3));
        assert_eq!(listed(&store, Some("nobody"), &OPEN, 50), (vec![], 0));
        assert_eq!(listed(&store, None, &[], 50), (vec![], 0));
        store.write(|tx| items::clear(tx, Some("docs"), Cleared::ByOperator, UnixMs(2))).unwrap();
        assert_eq!(store.read(all_dead).unwrap(), [1, 2]);
    }

    #[test]
    fn an_item_is_shown_with_what_it_went_through() {
        let store = Store::open_in_memory().unwrap();
        let receipt = new_receipt(None, UnixMs(1));
        let receipt_id = receipt.id.clone();
        let identity = identity("dev");
        let instance = identity.instance.to_string();
        store
            .write(move |tx| {
                accept_delivery(tx, receipt, vec![new_item("dev")], 0, UnixMs(1))?;
                claim_next(tx, "dev", &identity, UnixMs(2))?;
                let instance = identity.instance.as_str();
                finish_run(tx, instance, &outcome(Class::Lost, 0), &POLICY, UnixMs(3))
            })
            .unwrap();
        let (item, context) = store.read(|db| show(db, 1)).unwrap().unwrap();
        let expected = Listed {
            id: 1,
            agent: "dev".into(),
            kind: Kind::Webhook,
            source: "push".into(),
            action: Some("done".into()),
            state: State::Queued,
            attempts: 1,
            enqueued_at: UnixMs(1),
            not_before: Some(UnixMs(30_003)),
            started_at: Some(UnixMs(2)),
            finished_at: None,
            instance_id: Some(instance),
            receipt_id: Some(receipt_id),
            call_id: None,
            reason: None,
            last_error: Some("Container exited with code 0".into()),
        };
        assert_eq!((item, context["event"].as_str()), (expected, Some("push")));
        assert_eq!(store.read(|db| show(db, 2)).unwrap(), None);
    }

    #[test]
    fn a_call_is_shown_with_its_id_and_text() {
        let store = Store::open_in_memory().unwrap();
        let caller = register(&store, "dev");
        call(&store, &caller, "c1", 1);
        let (item, context) = store.read(|db| show(db, 1)).unwrap().unwrap();
        assert_eq!((item.call_id.as_deref(), item.source.as_str(), item.action), (Some("c1"), "dev", None));
        assert_eq!(context, serde_json::json!({ "context": "look at c1" }));
    }
}
