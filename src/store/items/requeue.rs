//! Failed and dead items that are queued again (scheduler.md §5.1 row 8).

use anyhow::Result;
use rusqlite::{OptionalExtension as _, params};

use super::{COLUMNS, Item, Refusal, action, item, refusal};
use crate::base::clock::UnixMs;
use crate::store::tally::{Accepted, How};
use crate::store::{Tx, calls};

/// Brings an item back on request, to its old place. Its call waits again.
///
/// # Errors
/// When the database fails.
pub fn retry(tx: &Tx<'_>, id: i64, now: UnixMs) -> Result<std::result::Result<(), Refusal>> {
    Ok(match requeue(tx, id, now)? {
        Some(_) => Ok(()),
        None => Err(refusal(tx, id)?),
    })
}

/// Brings an item back because its delivery came again.
pub(in crate::store) fn redeliver(tx: &Tx<'_>, id: i64, now: UnixMs) -> Result<()> {
    if let Some(item) = requeue(tx, id, now)? {
        tx.note(|notes| {
            notes.accept(Accepted {
                id,
                action: action(item.kind, &item.context),
                agent: item.agent,
                kind: item.kind,
                source: item.source,
                enqueued_at: item.enqueued_at,
                how: How::Redelivered,
            });
        });
    }
    Ok(())
}

fn requeue(tx: &Tx<'_>, id: i64, now: UnixMs) -> Result<Option<Item>> {
    let mut update = tx.prepare_cached(&format!(
        "UPDATE work_items SET state = 'queued', reason = NULL, attempts = 0, not_before = 0, finished_at = NULL
         WHERE id = ? AND state IN ('failed', 'dead') RETURNING {COLUMNS}"
    ))?;
    let Some(item) = update.query_row(params![id], item).optional()? else { return Ok(None) };
    tx.note(|notes| notes.add_queued(&item.agent, 1));
    if let Some(call_id) = &item.call_id {
        calls::reopen(tx, call_id, now)?;
    }
    Ok(Some(item))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::outcome::Class;
    use crate::store::Store;
    use crate::store::calls::CallState;
    use crate::store::items::{self, State};
    use crate::store::runs::finish_run;
    use crate::store::runs::testing::{POLICY, identity, outcome, register};
    use crate::store::testing::{call, insert};

    fn fail(store: &Store, agent: &'static str, now: i64) {
        let identity = identity(agent);
        let instance = identity.instance.to_string();
        store
            .write(move |tx| {
                items::claim_next(tx, agent, &identity, UnixMs(now))?.unwrap();
                finish_run(tx, &instance, &outcome(Class::AgentError, 1), &POLICY, UnixMs(now))
            })
            .unwrap();
    }

    fn retried(store: &Store, id: i64) -> std::result::Result<(), Refusal> {
        store.write(move |tx| retry(tx, id, UnixMs(50))).unwrap()
    }

    #[test]
    fn a_failed_item_goes_back_to_its_place() {
        let store = Store::open_in_memory().unwrap();
        let (first, second) = (insert(&store, "dev", 1), insert(&store, "dev", 2));
        fail(&store, "dev", 10);
        store.take_accepted();
        assert_eq!(retried(&store, first), Ok(()));
        assert_eq!(store.take_accepted(), [], "only deliveries are accepted");
        let (item, _) = store.read(|db| items::show(db, first)).unwrap().unwrap();
        assert_eq!((item.state, item.attempts, item.reason, item.finished_at), (State::Queued, 0, None, None));
        assert_eq!(item.enqueued_at, UnixMs(1));
        assert_eq!(retried(&store, first), Err(Refusal::State(State::Queued)));
        assert_eq!(retried(&store, second), Err(Refusal::State(State::Queued)));
        assert_eq!(retried(&store, 99), Err(Refusal::NotFound));
        let next = store.read(|db| items::next_due(db, "dev", UnixMs(50), items::Eligible::Any)).unwrap();
        assert_eq!(next, Some((UnixMs(1), first)));
    }

    #[test]
    fn the_record_of_a_call_waits_again_if_it_is_still_there() {
        let store = Store::open_in_memory().unwrap();
        let caller = register(&store, "dev");
        call(&store, &caller, "c1", 1);
        fail(&store, "reviewer", 10);
        let state = || store.read(|db| calls::get(db, "c1", &caller)).unwrap();
        let seen = store.call_version();
        assert_eq!(retried(&store, 1), Ok(()));
        assert_eq!(state(), Some(CallState::Pending));
        assert_ne!(store.call_version(), seen, "who waits for it is woken");
        fail(&store, "reviewer", 20);
        assert_eq!(state(), Some(CallState::Error { message: "agent run failed".into() }));
        store.write(|tx| Ok(tx.execute("DELETE FROM calls", [])?)).unwrap();
        assert_eq!(retried(&store, 1), Ok(()));
        fail(&store, "reviewer", 30);
        assert_eq!(state(), None);
    }
}
