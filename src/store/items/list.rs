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
