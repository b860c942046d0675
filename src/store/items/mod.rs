//! Work items: accepted work that waits for a run (scheduler.md §5).
//!
//! Whatever moves an item into or out of `queued` notes it on the transaction, which keeps the numbers of queued items.

mod bury;
mod claim;
mod list;
#[cfg(test)]
mod props;
mod requeue;

use anyhow::Result;
use rusqlite::{OptionalExtension as _, Row, params};
use serde_json::Value;

pub use self::bury::{Buried, Cleared, Death, Which, bury, bury_agent, clear, drop, push_out};
pub use self::claim::{Eligible, claim, claim_next, next_due, next_not_before};
pub use self::list::{Filter, Listed, Page, all_dead, list, show};
pub(super) use self::requeue::redeliver;
pub use self::requeue::retry;
use super::containers::Origin;
use super::tally::{Accepted, How};
use super::{Tx, chain_text, parse_chain};
use crate::base::clock::UnixMs;
use crate::model::wire::run_file::TriggerKind;

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

/// Where an item stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Queued,
    Running,
    Done,
    Failed,
    Dead,
}

impl State {
    /// The word in the database, in answers and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Dead => "dead",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Queued, Self::Running, Self::Done, Self::Failed, Self::Dead]
            .into_iter()
            .find(|state| state.as_str() == word)
    }
}

/// Why an item is left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    NotFound,
    /// It is in this state, and only others allow it.
    State(State),
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
    /// Receipt of the webhook.
    pub receipt_id: Option<String>,
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
    pub receipt_id: Option<String>,
    pub call_id: Option<String>,
    pub depth: u32,
    pub chain: Vec<String>,
}

const COLUMNS: &str = "id, agent, kind, source, context, receipt_id, call_id, depth, chain, attempts, enqueued_at";

fn item(row: &Row<'_>) -> rusqlite::Result<Item> {
    let (kind, context): (String, String) = (row.get(2)?, row.get(4)?);
    Ok(Item {
        id: row.get(0)?,
        agent: row.get(1)?,
        kind: Kind::parse(&kind),
        source: row.get(3)?,
        context: serde_json::from_str(&context).unwrap_or_default(),
        receipt_id: row.get(5)?,
        call_id: row.get(6)?,
        depth: row.get(7)?,
        chain: parse_chain(row.get(8)?),
        attempts: row.get(9)?,
        enqueued_at: UnixMs(row.get(10)?),
    })
}

/// Accepts an item as queued; gives its id.
///
/// # Errors
/// When the database fails.
pub fn insert(tx: &Tx<'_>, new: &NewItem, now: UnixMs) -> Result<i64> {
    let (enqueued_at, context) = (tx.enqueue_at(now), new.context.to_string());
    tx.prepare_cached(
        "INSERT INTO work_items (agent, kind, state, source, context, receipt_id, call_id, depth, chain, enqueued_at)
         VALUES (?, ?, 'queued', ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        new.agent,
        new.kind.as_str(),
        new.source,
        context,
        new.receipt_id,
        new.call_id,
        new.depth,
        chain_text(&new.chain),
        enqueued_at.0,
    ])?;
    let id = tx.last_insert_rowid();
    tx.note(|notes| {
        notes.add_queued(&new.agent, 1);
        notes.bytes += context.len();
        notes.accept(Accepted {
            id,
            agent: new.agent.clone(),
            kind: new.kind,
            source: new.source.clone(),
            action: action(new.kind, &new.context),
            enqueued_at,
            how: How::Inserted,
        });
    });
    Ok(id)
}

/// The action of a webhook.
fn action(kind: Kind, context: &Value) -> Option<String> {
    context.get("action").filter(|_| kind == Kind::Webhook)?.as_str().map(str::to_owned)
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

/// Takes an item by id.
///
/// # Errors
/// When the database fails.
pub(super) fn get(tx: &Tx<'_>, id: i64) -> Result<Option<Item>> {
    let mut query = tx.prepare_cached(&format!("SELECT {COLUMNS} FROM work_items WHERE id = ?"))?;
    Ok(query.query_row([id], item).optional()?)
}

/// Why an item cannot be changed: the state it is in.
fn refusal(tx: &Tx<'_>, id: i64) -> Result<Refusal> {
    let mut query = tx.prepare_cached("SELECT state FROM work_items WHERE id = ?")?;
    let state: Option<String> = query.query_row([id], |row| row.get(0)).optional()?;
    Ok(state.as_deref().and_then(State::parse).map_or(Refusal::NotFound, Refusal::State))
}
