//! What tests of this folder share.

use std::path::Path;

use serde_json::json;

use super::Store;
use super::calls::{self, NewCall};
use super::containers::Registration;
use super::items::{self, Kind, NewItem};
use super::receipts::{self, Body, NewReceipt};
use crate::base::clock::UnixMs;

/// A directory for a database; in memory where there is such a place, because nothing here depends on a disk.
pub(super) fn dir() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir()).unwrap()
}

/// An item that an event `push` made.
pub(super) fn new_item(agent: &str) -> NewItem {
    NewItem {
        agent: agent.into(),
        kind: Kind::Webhook,
        source: "push".into(),
        context: json!({ "source": "github", "event": "push", "action": "done" }),
        receipt_id: None,
        call_id: None,
        depth: 0,
        chain: Vec::new(),
    }
}

/// Accepts such an item.
pub(super) fn insert(store: &Store, agent: &str, now: i64) -> i64 {
    let item = new_item(agent);
    store.write(move |tx| items::insert(tx, &item, UnixMs(now))).unwrap()
}

/// A call of a run of `dev` to `reviewer`.
pub(super) fn call(store: &Store, caller: &str, id: &str, now: i64) {
    let caller = Registration {
        instance: caller.into(),
        agent: "dev".into(),
        container_name: format!("al-{caller}"),
        depth: 0,
        chain: vec!["dev".into()],
        call_id: None,
    };
    let call = NewCall { target: "reviewer".into(), context: format!("look at {id}"), call_id: Some(id.into()) };
    store.write(move |tx| calls::accept(tx, &caller, &call, UnixMs(now))).unwrap();
}

/// A delivery of such an event, with fields that must not be stored.
pub(super) fn new_receipt(delivery_id: Option<&str>, now: UnixMs) -> NewReceipt {
    let headers = json!({ "x-github-event": "push", "authorization": "x", "cookie": "x", "x-hub-signature-256": "x" });
    NewReceipt {
        id: receipts::new_id(now),
        provider: "github".into(),
        delivery_id: delivery_id.map(str::to_owned),
        matched_source: Some("default".into()),
        event: Some("push".into()),
        action: Some("done".into()),
        client: Some("192.0.2.1".into()),
        headers: headers.as_object().unwrap().clone(),
        body: Body::of(b"{}"),
        replay_of: None,
    }
}

/// The steps of a statement, as SQLite plans them without statistics.
pub(super) fn plan(store: &Store, sql: &str) -> Vec<String> {
    let plan = store.read(|db| {
        let mut query = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
        let unset = std::iter::repeat_n(rusqlite::types::Null, query.parameter_count());
        let steps = query.query_map(rusqlite::params_from_iter(unset), |row| row.get(3))?;
        Ok(steps.collect::<Result<_, _>>()?)
    });
    plan.unwrap()
}
