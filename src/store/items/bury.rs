//! Queued items that become dead letters without having run (scheduler.md §5.1 row 7).

use anyhow::Result;
use rusqlite::{OptionalExtension as _, Row, params};

use super::{Kind, Refusal, refusal};
use crate::base::clock::UnixMs;
use crate::store::{Tx, calls, int};

/// Why an item died before it ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// Pushed out of a full queue.
    QueueFull,
    /// The agent does not exist.
    AgentMissing,
    /// The agent has `scale` 0.
    AgentDisabled,
    Cleared(Cleared),
}

/// Who emptied a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleared {
    /// `al stop`.
    ByStop,
    /// `al queue clear` and `al queue drop`.
    ByOperator,
}

impl Death {
    /// The reason in the database and in log lines.
    pub fn reason(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::AgentMissing | Self::AgentDisabled => "agent_removed",
            Self::Cleared(_) => "cleared",
        }
    }

    fn call_error(self, agent: &str) -> String {
        match self {
            Self::QueueFull => "queue full, call dropped".into(),
            Self::AgentMissing => format!("target agent \"{agent}\" not found"),
            Self::AgentDisabled => format!("target agent \"{agent}\" is disabled"),
            Self::Cleared(Cleared::ByStop) => "scheduler stopped".into(),
            Self::Cleared(Cleared::ByOperator) => "queue cleared".into(),
        }
    }
}

/// An item that was buried, as far as it is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buried {
    pub id: i64,
    pub agent: String,
    pub kind: Kind,
    /// Event name of a webhook, calling agent of a call or trigger, empty for `manual`.
    pub source: String,
    pub call_id: Option<String>,
    pub attempts: u32,
    /// Why its last attempt failed.
    pub last_error: Option<String>,
    pub death: Death,
}

fn buried(row: &Row<'_>, death: Death) -> rusqlite::Result<Buried> {
    let kind: String = row.get(2)?;
    Ok(Buried {
        id: row.get(0)?,
        agent: row.get(1)?,
        kind: Kind::parse(&kind),
        source: row.get(3)?,
        call_id: row.get(4)?,
        attempts: row.get(5)?,
        last_error: row.get(6)?,
        death,
    })
}

/// Ends a queued item as dead, and its call with it. `None` when it is not queued (any more).
///
/// # Errors
/// When the database fails.
pub fn bury(tx: &Tx<'_>, id: i64, death: Death, now: UnixMs) -> Result<Option<Buried>> {
    let mut update = tx.prepare_cached(
        "UPDATE work_items SET state = 'dead', reason = ?, finished_at = ? WHERE id = ? AND state = 'queued'
         RETURNING id, agent, kind, source, call_id, attempts, last_error",
    )?;
    let item = update.query_row(params![death.reason(), now.0, id], |row| buried(row, death)).optional()?;
    let Some(item) = item else { return Ok(None) };
    tx.note(|notes| notes.add_queued(&item.agent, -1));
    if let Some(call_id) = &item.call_id {
        calls::fail(tx, call_id, &death.call_error(&item.agent), now)?;
    }
    Ok(Some(item))
}

/// Buries the oldest queued items of an agent until no more than `capacity` are left, at most `most` of them (as many
/// as were accepted since the last time). Gives what was buried.
///
/// # Errors
/// When the database fails.
pub fn push_out(tx: &Tx<'_>, agent: &str, capacity: u64, most: u64, now: UnixMs) -> Result<Vec<Buried>> {
    let excess = tx.queued(agent).saturating_sub(capacity).min(most);
    if excess == 0 {
        return Ok(Vec::new());
    }
    let ids = ids(
        tx,
        "SELECT id FROM work_items WHERE agent = ? AND state = 'queued' ORDER BY enqueued_at, id LIMIT ?",
        params![agent, int(excess)],
    )?;
    bury_all(tx, ids, Death::QueueFull, now)
}

/// Which items of an agent are buried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those of kind `call`: somebody may wait for them.
    Calls,
    All,
}

/// Buries queued items of an agent that is not there any more, oldest first, at most 500 at once: call it again until
/// it gives nothing.
///
/// # Errors
/// When the database fails.
pub fn bury_agent(tx: &Tx<'_>, agent: &str, which: Which, death: Death, now: UnixMs) -> Result<Vec<Buried>> {
    let sql = match which {
        Which::Calls => {
            "SELECT id FROM work_items WHERE agent = ? AND state = 'queued' AND kind = 'call'
             ORDER BY enqueued_at, id LIMIT 500"
        }
        Which::All => {
            "SELECT id FROM work_items WHERE agent = ? AND state = 'queued' ORDER BY enqueued_at, id LIMIT 500"
        }
    };
    bury_all(tx, ids(tx, sql, params![agent])?, death, now)
}

/// Empties the queue of an agent, or all queues. Gives what was buried.
///
/// # Errors
/// When the database fails.
pub fn clear(tx: &Tx<'_>, agent: Option<&str>, by: Cleared, now: UnixMs) -> Result<Vec<Buried>> {
    let ids = match agent {
        Some(agent) => ids(tx, "SELECT id FROM work_items WHERE agent = ? AND state = 'queued'", params![agent])?,
        None => ids(tx, "SELECT id FROM work_items WHERE state = 'queued'", params![])?,
    };
    bury_all(tx, ids, Death::Cleared(by), now)
}

/// Buries one item on request.
///
/// # Errors
/// When the database fails.
pub fn drop(tx: &Tx<'_>, id: i64, now: UnixMs) -> Result<std::result::Result<Buried, Refusal>> {
    Ok(match bury(tx, id, Death::Cleared(Cleared::ByOperator), now)? {
        Some(item) => Ok(item),
        None => Err(refusal(tx, id)?),
    })
}

fn ids(tx: &Tx<'_>, sql: &str, params: &[&dyn rusqlite::ToSql]) -> Result<Vec<i64>> {
    Ok(tx.prepare_cached(sql)?.query_map(params, |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
}

fn bury_all(tx: &Tx<'_>, ids: Vec<i64>, death: Death, now: UnixMs) -> Result<Vec<Buried>> {
    ids.into_iter().filter_map(|id| bury(tx, id, death, now).transpose()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use crate::store::calls::{self, CallState};
    use crate::store::items::State;
    use crate::store::runs::testing::register;
    use crate::store::testing::{call, insert};

    fn error(store: &Store, caller: &str, id: &str) -> String {
        match store.read(|db| calls::get(db, id, caller)).unwrap() {
            Some(CallState::Error { message }) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn cleared_items_are_dead_and_their_calls_say_by_whom() {
        for (by, text) in [(Cleared::ByStop, "scheduler stopped"), (Cleared::ByOperator, "queue cleared")] {
            let store = Store::open_in_memory().unwrap();
            let caller = register(&store, "dev");
            insert(&store, "docs", 1);
            call(&store, &caller, "c1", 2);
            let cleared = |agent| store.write(move |tx| clear(tx, agent, by, UnixMs(9))).unwrap();
            assert_eq!(cleared(Some("reviewer")).iter().map(|item| item.id).collect::<Vec<_>>(), [2]);
            assert_eq!(error(&store, &caller, "c1"), text);
            assert_eq!(store.queued("docs"), 1);
            assert_eq!(cleared(None)[0].agent, "docs");
            assert_eq!(cleared(None), []);
            let reason: String = store
                .read(|db| Ok(db.query_row("SELECT reason FROM work_items WHERE id = 1", [], |row| row.get(0))?))
                .unwrap();
            assert_eq!(reason, "cleared");
        }
    }

    #[test]
    fn only_queued_items_can_be_dropped() {
        let store = Store::open_in_memory().unwrap();
        let caller = register(&store, "dev");
        call(&store, &caller, "c1", 2);
        let dropped = |id| store.write(move |tx| drop(tx, id, UnixMs(9))).unwrap().map(|item| item.kind);
        assert_eq!(dropped(1), Ok(Kind::Call));
        assert_eq!(error(&store, &caller, "c1"), "queue cleared");
        assert_eq!(dropped(1), Err(Refusal::State(State::Dead)));
        assert_eq!(dropped(2), Err(Refusal::NotFound));
    }

    #[test]
    fn calls_to_a_missing_agent_die_at_once_and_the_rest_when_told() {
        let store = Store::open_in_memory().unwrap();
        let caller = register(&store, "dev");
        for _ in 0..600 {
            insert(&store, "reviewer", 1);
        }
        call(&store, &caller, "c1", 2);
        let bury = |which| {
            let bury = move |tx: &Tx<'_>| bury_agent(tx, "reviewer", which, Death::AgentMissing, UnixMs(9));
            store.write(bury).unwrap().len()
        };
        assert_eq!((bury(Which::Calls), bury(Which::Calls)), (1, 0));
        assert_eq!(error(&store, &caller, "c1"), "target agent \"reviewer\" not found");
        assert_eq!((bury(Which::All), bury(Which::All), bury(Which::All)), (500, 100, 0));
        assert_eq!(store.queued_counts().len(), 0);
    }

    #[test]
    fn a_full_queue_counts_what_the_same_commit_accepted() {
        let store = Store::open_in_memory().unwrap();
        insert(&store, "dev", 1);
        let out = store
            .write(|tx| {
                crate::store::items::insert(tx, &crate::store::testing::new_item("dev"), UnixMs(2))?;
                push_out(tx, "dev", 1, 9, UnixMs(3))
            })
            .unwrap();
        assert_eq!(out.iter().map(|item| item.id).collect::<Vec<_>>(), [1]);
    }
}
