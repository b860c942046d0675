//! What tests of this folder share.

use std::path::Path;

use serde_json::json;

use super::Store;
use super::items::{self, Kind, NewItem};
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
