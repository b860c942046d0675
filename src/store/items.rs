//! Work items: accepted work that waits for a run (scheduler.md §5).

use anyhow::Result;
use rusqlite::{OptionalExtension as _, Row, params};
use serde_json::Value;

use super::containers::{self, Identity, Origin};
use super::{Tx, calls, chain_text, parse_chain};
use crate::base::clock::UnixMs;
use crate::model::wire::run_file::TriggerKind;

/// A retry that is further ahead than this was planned before the clock was set back, and is due.
const LONGEST_DELAY_MS: i64 = 900_000;

/// What an item was accepted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Webhook,
    Call,
    /// A call without a record.
    Trigger,
    Manual,
}

impl Kind {
    /// The word in the database and in log lines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Call => "call",
            Self::Trigger => "trigger",
            Self::Manual => "manual",
        }
    }

    fn parse(word: &str) -> Self {
        match word {
            "webhook" => Self::Webhook,
            "call" => Self::Call,
            "trigger" => Self::Trigger,
            _ => Self::Manual,
        }
    }

    fn trigger(self) -> TriggerKind {
        match self {
            Self::Webhook => TriggerKind::Webhook,
            Self::Call | Self::Trigger => TriggerKind::Agent,
            Self::Manual => TriggerKind::Manual,
        }
    }
}

/// An item.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    pub id: i64,
    pub agent: String,
    pub kind: Kind,
    /// Event name of a webhook, calling agent of a call or trigger, empty for `manual`.
    pub source: String,
    /// The webhook context, or `{"context":"…"}`, or `{"prompt":"…"}`.
    pub context: Value,
    pub call_id: Option<String>,
    /// Depth of the run it starts.
    pub depth: u32,
    /// Agents from the first caller down to the caller.
    pub chain: Vec<String>,
    /// Runs started for it so far.
    pub attempts: u32,
    pub enqueued_at: UnixMs,
}

/// An item to be accepted. Members: [`Item`].
#[derive(Clone, Debug)]
pub struct NewItem {
    pub agent: String,
    pub kind: Kind,
    pub source: String,
    pub context: Value,
    pub call_id: Option<String>,
    pub depth: u32,
    pub chain: Vec<String>,
}

const COLUMNS: &str = "id, agent, kind, source, context, call_id, depth, chain, attempts, enqueued_at";

fn item(row: &Row<'_>) -> rusqlite::Result<Item> {
    let (kind, context): (String, String) = (row.get(2)?, row.get(4)?);
    Ok(Item {
        id: row.get(0)?,
        agent: row.get(1)?,
        kind: Kind::parse(&kind),
        source: row.get(3)?,
        context: serde_json::from_str(&context).unwrap_or_default(),
        call_id: row.get(5)?,
        depth: row.get(6)?,
        chain: parse_chain(row.get(7)?),
        attempts: row.get(8)?,
        enqueued_at: UnixMs(row.get(9)?),
    })
}

/// Accepts an item as queued; gives its id.
///
/// # Errors
/// When the database fails.
pub fn insert(tx: &Tx<'_>, new: &NewItem, now: UnixMs) -> Result<i64> {
    // A clock that was set back must not let an item overtake earlier ones.
    tx.prepare_cached(
        "INSERT INTO work_items (agent, kind, state, source, context, call_id, depth, chain, enqueued_at)
         VALUES (?1, ?2, 'queued', ?3, ?4, ?5, ?6, ?7,
         MAX(?8, COALESCE((SELECT enqueued_at FROM work_items ORDER BY id DESC LIMIT 1), 0)))",
    )?
    .execute(params![
        new.agent,
        new.kind.as_str(),
        new.source,
        new.context.to_string(),
        new.call_id,
        new.depth,
        chain_text(&new.chain),
        now.0,
    ])?;
    Ok(tx.last_insert_rowid())
}

/// Takes the next due item of an agent for a run: item and call become running, the run is registered.
///
/// # Errors
/// When the database fails.
pub fn claim_next(tx: &Tx<'_>, agent: &str, identity: &Identity, now: UnixMs) -> Result<Option<Item>> {
    let next = tx
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM work_items WHERE agent = ?1 AND state = 'queued'
             AND (not_before <= ?2 OR not_before > ?2 + {LONGEST_DELAY_MS}) ORDER BY enqueued_at, id LIMIT 1"
        ))?
        .query_row(params![agent, now.0], item)
        .optional()?;
    let Some(mut next) = next else { return Ok(None) };
    next.attempts += 1;
    tx.prepare_cached(
        "UPDATE work_items SET state = 'running', attempts = ?, instance_id = ?, started_at = ? WHERE id = ?",
    )?
    .execute(params![next.attempts, identity.instance.as_str(), now.0, next.id])?;
    containers::register(tx, identity, &origin(&next), Some(next.id), now)?;
    if let Some(call_id) = &next.call_id {
        calls::set_running(tx, call_id, now)?;
    }
    Ok(Some(next))
}

/// Where the run comes from that an item starts.
pub fn origin(item: &Item) -> Origin {
    let source = match item.kind {
        Kind::Webhook => item.context.get("source").and_then(Value::as_str).map(str::to_owned),
        Kind::Call | Kind::Trigger => Some(item.source.clone()),
        Kind::Manual => None,
    };
    Origin {
        trigger: item.kind.trigger(),
        source,
        rerun: 0,
        depth: item.depth,
        chain: item.chain.iter().chain([&item.agent]).cloned().collect(),
        call_id: item.call_id.clone(),
    }
}

/// Why an item died before it ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Death {
    /// Pushed out of a full queue.
    QueueFull,
    /// The agent does not exist.
    AgentMissing,
    /// The agent has `scale` 0.
    AgentDisabled,
}

impl Death {
    fn reason(&self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::AgentMissing | Self::AgentDisabled => "agent_removed",
        }
    }

    fn call_error(&self, agent: &str) -> String {
        match self {
            Self::QueueFull => "queue full, call dropped".into(),
            Self::AgentMissing => format!("target agent \"{agent}\" not found"),
            Self::AgentDisabled => format!("target agent \"{agent}\" is disabled"),
        }
    }
}

/// Ends a queued item as dead, and its call with it. False when it is not queued (any more).
///
/// # Errors
/// When the database fails.
pub fn bury(tx: &Tx<'_>, item: &Item, death: &Death, now: UnixMs) -> Result<bool> {
    let buried = tx
        .prepare_cached(
            "UPDATE work_items SET state = 'dead', reason = ?, finished_at = ? WHERE id = ? AND state = 'queued'",
        )?
        .execute(params![death.reason(), now.0, item.id])?;
    if let Some(call_id) = item.call_id.as_ref().filter(|_| buried > 0) {
        calls::fail(tx, call_id, &death.call_error(&item.agent), now)?;
    }
    Ok(buried > 0)
}

/// Buries the oldest queued items of an agent until no more than `capacity` are left, at most `most` of them (as many
/// as were accepted since the last time). Gives what was buried.
///
/// # Errors
/// When the database fails.
pub fn push_out(tx: &Tx<'_>, agent: &str, capacity: u64, most: u64, now: UnixMs) -> Result<Vec<Item>> {
    let mut queued = queued(tx, agent)?;
    let excess = queued.len().saturating_sub(usize::try_from(capacity).unwrap_or(usize::MAX));
    queued.truncate(excess.min(usize::try_from(most).unwrap_or(usize::MAX)));
    for item in &queued {
        bury(tx, item, &Death::QueueFull, now)?;
    }
    Ok(queued)
}

/// The queued items of an agent, oldest first.
///
/// # Errors
/// When the database fails.
pub fn queued(tx: &Tx<'_>, agent: &str) -> Result<Vec<Item>> {
    let mut query = tx.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM work_items WHERE agent = ? AND state = 'queued' ORDER BY enqueued_at, id"
    ))?;
    Ok(query.query_map([agent], item)?.collect::<Result<_, _>>()?)
}

/// Takes an item by id.
///
/// # Errors
/// When the database fails.
pub(super) fn get(tx: &Tx<'_>, id: i64) -> Result<Option<Item>> {
    let mut query = tx.prepare_cached(&format!("SELECT {COLUMNS} FROM work_items WHERE id = ?"))?;
    Ok(query.query_row([id], item).optional()?)
}
