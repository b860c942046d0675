//! What is taken over from the state of release 0.13.2: its queues (scheduler.md §1.3).
//!
//! Its registrations and locks belong to containers that are not adopted, and its call records to these; they go with
//! the table.

use anyhow::Result;
use rusqlite::{Connection, params};
use serde_json::{Value, json};

use super::chain_text;
use super::items::Kind;
use crate::base::clock::UnixMs;

/// What was found in an old database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TakenOver {
    /// Items that are queued now.
    pub items: usize,
    /// Entries, or whole queues, that were not understood and are lost.
    pub unreadable: usize,
}

/// Moves the queues of an old database into the new tables and drops its table. `None` when it has none.
///
/// # Errors
/// When the database fails.
pub(super) fn take_over(tx: &Connection) -> Result<Option<TakenOver>> {
    if !tx.table_exists(None, "state")? {
        return Ok(None);
    }
    let mut taken = TakenOver::default();
    for (agent, value) in queues(tx)? {
        let Ok(Value::Array(entries)) = serde_json::from_str(&value) else {
            taken.unreadable += 1;
            continue;
        };
        // The order of the list counts, whatever the clock did.
        let mut latest = UnixMs(0);
        for entry in &entries {
            let received = entry.get("receivedAt").and_then(Value::as_str).and_then(UnixMs::parse_iso);
            latest = latest.max(received.unwrap_or(latest));
            match entry.get("context").and_then(Entry::parse) {
                Some(entry) => {
                    entry.insert(tx, &agent, latest)?;
                    taken.items += 1;
                }
                None => taken.unreadable += 1,
            }
        }
    }
    tx.execute_batch("DROP TABLE state")?;
    Ok(Some(taken))
}

/// Agents with their lists.
fn queues(tx: &Connection) -> Result<Vec<(String, String)>> {
    let mut query = tx.prepare("SELECT key, CAST(value AS TEXT) FROM state WHERE ns = 'queues' ORDER BY key")?;
    Ok(query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?)
}

/// An entry of an old queue as an item of ours.
struct Entry {
    kind: Kind,
    source: String,
    context: Value,
    depth: i64,
    chain: Vec<String>,
}

impl Entry {
    fn parse(old: &Value) -> Option<Self> {
        let text = |key: &str| old.get(key).and_then(Value::as_str).map(str::to_owned);
        match old.get("type")?.as_str()? {
            "webhook" => {
                let context = old.get("context").filter(|context| context.is_object())?.clone();
                let source = context.get("event").and_then(Value::as_str).unwrap_or_default().to_owned();
                Some(Self { kind: Kind::Webhook, source, context, depth: 0, chain: Vec::new() })
            }
            "agent-trigger" => {
                let caller = text("sourceAgent")?;
                // What it kept was the depth of the caller.
                let depth = old.get("depth").and_then(Value::as_i64).unwrap_or(0).clamp(0, i64::from(u32::MAX) - 1) + 1;
                Some(Self {
                    kind: Kind::Trigger,
                    source: caller.clone(),
                    context: json!({ "context": text("context")? }),
                    depth,
                    chain: vec![caller],
                })
            }
            _ => None,
        }
    }

    fn insert(&self, tx: &Connection, agent: &str, enqueued_at: UnixMs) -> Result<()> {
        tx.prepare_cached(
            "INSERT INTO work_items (agent, kind, state, source, context, depth, chain, enqueued_at)
             VALUES (?, ?, 'queued', ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            agent,
            self.kind.as_str(),
            self.source,
            self.context.to_string(),
            self.depth,
            chain_text(&self.chain),
            enqueued_at.0,
        ])?;
        Ok(())
    }
}
