//! Calls between agents: their records and transitions (gateway.md §10). The first end of a call stays.

use std::time::Duration;

use anyhow::Result;
use rusqlite::{Connection, OptionalExtension as _, params};
use serde_json::json;

use super::containers::Registration;
use super::items::{self, Kind, NewItem};
use super::tally::Notes;
use super::{Tx, int};
use crate::base::clock::UnixMs;

/// Longest time in `pending`.
const PENDING_LIMIT: Duration = Duration::from_secs(2 * 3600);
/// What a running call may take longer than a run of its target.
const RUNNING_GRACE: Duration = Duration::from_secs(60);
/// How long the record of an ended call is kept when its caller is gone, and in any case.
const KEPT_WITHOUT_CALLER: Duration = Duration::from_secs(600);
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// State of a call as its caller sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallState {
    Pending,
    Running,
    Completed { return_value: Option<String> },
    Error { message: String },
}

impl CallState {
    /// Whether it can still change.
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Pending | Self::Running)
    }
}

/// A call, or a trigger signal, that passed all checks.
#[derive(Clone, Debug)]
pub struct NewCall {
    pub target: String,
    pub context: String,
    /// `None` for a trigger signal: it has an item but no record.
    pub call_id: Option<String>,
}

/// Accepts a call: its record and its work item.
///
/// # Errors
/// When the database fails.
pub fn accept(tx: &Tx<'_>, caller: &Registration, call: &NewCall, now: UnixMs) -> Result<()> {
    if let Some(call_id) = &call.call_id {
        tx.prepare_cached(
            "INSERT INTO calls (call_id, caller_agent, caller_instance, target_agent, context, status, depth,
             created_at, status_at) VALUES (?1, ?2, ?3, ?4, ?5, 'pending', ?6, ?7, ?7)",
        )?
        .execute(params![
            call_id,
            caller.agent,
            caller.instance,
            call.target,
            call.context,
            caller.depth,
            now.0
        ])?;
    }
    let item = NewItem {
        agent: call.target.clone(),
        kind: if call.call_id.is_some() { Kind::Call } else { Kind::Trigger },
        source: caller.agent.clone(),
        context: json!({ "context": call.context }),
        receipt_id: None,
        call_id: call.call_id.clone(),
        depth: caller.depth + 1,
        chain: caller.chain.clone(),
    };
    items::insert(tx, &item, now)?;
    Ok(())
}

/// The state of a call; `None` when there is no such call of this instance.
///
/// # Errors
/// When the database fails.
pub fn get(db: &Connection, call_id: &str, caller_instance: &str) -> Result<Option<CallState>> {
    let mut query = db.prepare_cached(
        "SELECT status, return_value, error_message FROM calls WHERE call_id = ? AND caller_instance = ?",
    )?;
    let state = query.query_row([call_id, caller_instance], |row| {
        let (status, message): (String, Option<String>) = (row.get(0)?, row.get(2)?);
        Ok(match status.as_str() {
            "pending" => CallState::Pending,
            "running" => CallState::Running,
            "completed" => CallState::Completed { return_value: row.get(1)? },
            _ => CallState::Error { message: message.unwrap_or_else(|| "unknown error".into()) },
        })
    });
    Ok(state.optional()?)
}

/// A run works on it.
pub(super) fn set_running(tx: &Tx<'_>, call_id: &str, now: UnixMs) -> Result<()> {
    set_open(tx, call_id, "running", now)
}

/// The run that worked on it was lost, another one follows.
pub(super) fn set_pending(tx: &Tx<'_>, call_id: &str, now: UnixMs) -> Result<()> {
    set_open(tx, call_id, "pending", now)
}

fn set_open(tx: &Tx<'_>, call_id: &str, status: &str, now: UnixMs) -> Result<()> {
    tx.note(Notes::change_call);
    tx.prepare_cached(
        "UPDATE calls SET status = ?, status_at = ? WHERE call_id = ? AND status IN ('pending', 'running')",
    )?
    .execute(params![status, now.0, call_id])?;
    Ok(())
}

/// Its run ended well.
pub(super) fn complete(tx: &Tx<'_>, call_id: &str, return_value: Option<&str>, now: UnixMs) -> Result<()> {
    end(tx, call_id, "completed", return_value, None, now)
}

/// It came to nothing.
pub(super) fn fail(tx: &Tx<'_>, call_id: &str, message: &str, now: UnixMs) -> Result<()> {
    end(tx, call_id, "error", None, Some(message), now)
}

fn end(
    tx: &Tx<'_>,
    call_id: &str,
    status: &str,
    value: Option<&str>,
    message: Option<&str>,
    now: UnixMs,
) -> Result<()> {
    tx.note(Notes::change_call);
    tx.prepare_cached(
        "UPDATE calls SET status = ?1, return_value = ?2, error_message = ?3, status_at = ?4, completed_at = ?4
         WHERE call_id = ?5 AND status IN ('pending', 'running')",
    )?
    .execute(params![status, value, message, now.0, call_id])?;
    Ok(())
}

/// Its item, which had failed or was dead, waits again. A record that ended well, or is gone, stays so.
pub(super) fn reopen(tx: &Tx<'_>, call_id: &str, now: UnixMs) -> Result<()> {
    tx.note(Notes::change_call);
    tx.prepare_cached(
        "UPDATE calls SET status = 'pending', error_message = NULL, status_at = ?, completed_at = NULL
         WHERE call_id = ? AND status = 'error'",
    )?
    .execute(params![now.0, call_id])?;
    Ok(())
}

/// Fails open calls whose item is neither queued nor running: nobody works on them any more. For a start, after the
/// ends of all lost runs were recorded. Gives how many there were.
///
/// # Errors
/// When the database fails.
pub fn fail_orphans(tx: &Tx<'_>, now: UnixMs) -> Result<usize> {
    let orphans: Vec<String> = tx
        .prepare_cached(
            "SELECT call_id FROM calls WHERE status IN ('pending', 'running') AND call_id NOT IN
             (SELECT call_id FROM work_items WHERE call_id IS NOT NULL AND state IN ('queued', 'running'))",
        )?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for call_id in &orphans {
        fail(tx, call_id, "scheduler restarted", now)?;
    }
    Ok(orphans.len())
}

/// Instance that made a call.
pub(super) fn caller(tx: &Tx<'_>, call_id: &str) -> Result<Option<String>> {
    let mut query = tx.prepare_cached("SELECT caller_instance FROM calls WHERE call_id = ?")?;
    Ok(query.query_row([call_id], |row| row.get(0)).optional()?)
}

/// Fails calls whose time is over and deletes records that nobody will ask for. `run_time` gives how long a run of an
/// agent may take, `None` for an unknown agent.
///
/// # Errors
/// When the database fails.
pub fn sweep(tx: &Tx<'_>, run_time: impl Fn(&str) -> Option<Duration>, now: UnixMs) -> Result<()> {
    let open: Vec<(String, String, String, i64)> = tx
        .prepare_cached("SELECT call_id, target_agent, status, status_at FROM calls WHERE completed_at IS NULL")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
        .collect::<Result<_, _>>()?;
    for (call_id, target, status, since) in open {
        let of_run = run_time(&target).filter(|_| status == "running").map(|time| time + RUNNING_GRACE);
        if now.since(UnixMs(since)) > of_run.unwrap_or(PENDING_LIMIT) {
            fail(tx, &call_id, "call timed out", now)?;
        }
    }
    let before = |age: Duration| now.0.saturating_sub(int(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)));
    tx.prepare_cached(
        "DELETE FROM calls WHERE completed_at <= ?1 OR
         (completed_at <= ?2 AND caller_instance NOT IN (SELECT instance_id FROM containers))",
    )?
    .execute([before(KEPT), before(KEPT_WITHOUT_CALLER)])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::outcome::Class;
    use crate::store::Store;
    use crate::store::runs::finish_run;
    use crate::store::runs::testing::{POLICY, identity, outcome, register};
    use crate::store::testing::call;

    #[test]
    fn open_calls_without_an_open_item_fail_at_a_start() {
        let store = Store::open_in_memory().unwrap();
        let caller = register(&store, "dev");
        for (id, now) in [("done", 1), ("running", 2), ("queued", 3), ("orphan", 4)] {
            call(&store, &caller, id, now);
        }
        let (first, second) = (identity("reviewer"), identity("reviewer"));
        store
            .write(move |tx| {
                items::claim_next(tx, "reviewer", &first, UnixMs(10))?;
                finish_run(tx, first.instance.as_str(), &outcome(Class::Ok, 0), &POLICY, UnixMs(11))?;
                items::claim_next(tx, "reviewer", &second, UnixMs(12))?;
                Ok(tx.execute("DELETE FROM work_items WHERE call_id = 'orphan'", [])?)
            })
            .unwrap();
        assert_eq!(store.write(|tx| fail_orphans(tx, UnixMs(20))).unwrap(), 1);
        let state = |id: &str| store.read(|db| get(db, id, &caller)).unwrap().unwrap();
        assert_eq!(state("orphan"), CallState::Error { message: "scheduler restarted".into() });
        assert_eq!(state("done"), CallState::Completed { return_value: None });
        assert_eq!((state("running"), state("queued")), (CallState::Running, CallState::Pending));
        assert_eq!(store.write(|tx| fail_orphans(tx, UnixMs(21))).unwrap(), 0);
    }
}
