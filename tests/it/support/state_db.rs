//! The database of a project, looked at from outside, and kept from being changed.

use std::fs;

use rusqlite::Connection;
use rusqlite::types::Value;
use tempfile::TempDir;

use super::project::Project;

/// Keeps everybody else from committing until it is dropped.
pub(crate) struct Obstacle {
    _db: Connection,
}

impl Obstacle {
    /// Waits until nobody commits, and begins then. Others give up after 5 s.
    #[track_caller]
    pub(crate) fn of(project: &Project) -> Self {
        let db = Connection::open(project.root().join(".al/state.db")).unwrap();
        db.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
        db.execute_batch("BEGIN IMMEDIATE").unwrap();
        Self { _db: db }
    }
}

/// A copy of it as it is now: looking changes nothing.
pub(crate) struct StateDb {
    db: Connection,
    _dir: TempDir,
}

impl StateDb {
    #[track_caller]
    pub(crate) fn of(project: &Project) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["state.db", "state.db-wal"] {
            let from = project.root().join(".al").join(name);
            if from.exists() {
                fs::copy(&from, dir.path().join(name)).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
            }
        }
        Self { db: Connection::open(dir.path().join("state.db")).unwrap(), _dir: dir }
    }

    /// The rows of a query, every value as text.
    #[track_caller]
    pub(crate) fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        let mut statement = self.db.prepare(sql).unwrap();
        let columns = statement.column_count();
        let text = |value| match value {
            Value::Null => "-".to_owned(),
            Value::Integer(number) => number.to_string(),
            Value::Real(number) => number.to_string(),
            Value::Text(text) => text,
            Value::Blob(bytes) => format!("{} bytes", bytes.len()),
        };
        let row = |row: &rusqlite::Row<'_>| (0..columns).map(|column| row.get(column).map(text)).collect();
        statement.query_map([], row).unwrap().map(Result::unwrap).collect()
    }

    /// The first values of all rows.
    #[track_caller]
    pub(crate) fn column(&self, sql: &str) -> Vec<String> {
        self.rows(sql).into_iter().map(|mut row| row.swap_remove(0)).collect()
    }

    /// What holds at every instant, whatever happens to the process.
    #[track_caller]
    pub(crate) fn assert_invariants(&self, max_attempts: u32) {
        assert_eq!(self.column("PRAGMA integrity_check"), ["ok"]);
        let none = |what: &str, sql: &str| {
            let rows = self.rows(sql);
            assert!(rows.is_empty(), "{what}: {rows:?}");
        };
        none(
            "an item with two containers",
            "SELECT work_id, count(*) FROM containers WHERE work_id IS NOT NULL GROUP BY work_id HAVING count(*) > 1",
        );
        none(
            "items are running exactly when there is a container",
            "SELECT id, state FROM work_items WHERE (state = 'running') <> \
             (id IN (SELECT work_id FROM containers WHERE work_id IS NOT NULL))",
        );
        none(
            "an item and its container are one run",
            "SELECT w.id, w.instance_id, c.instance_id FROM work_items w JOIN containers c ON c.work_id = w.id \
             WHERE w.instance_id IS NOT c.instance_id",
        );
        none("attempts", &format!("SELECT id, attempts FROM work_items WHERE attempts > {max_attempts}"));
        none(
            "items in a final state have ended",
            "SELECT id, state FROM work_items WHERE state IN ('done', 'failed', 'dead') AND finished_at IS NULL",
        );
        none(
            "calls follow their items",
            "SELECT c.call_id, c.status, w.state FROM calls c JOIN work_items w ON w.call_id = c.call_id WHERE c.status <> \
             CASE w.state WHEN 'queued' THEN 'pending' WHEN 'running' THEN 'running' WHEN 'done' THEN 'completed' \
             ELSE 'error' END",
        );
        none(
            "a run that goes on has not ended",
            "SELECT instance_id FROM containers WHERE instance_id IN (SELECT instance_id FROM runs)",
        );
    }

    /// Deliveries of a provider that have items, once for each item.
    pub(crate) fn deliveries(&self) -> Vec<String> {
        self.column(
            "SELECT r.provider || ' ' || r.delivery_id FROM webhook_receipts r JOIN work_items w ON w.receipt_id = r.id",
        )
    }
}
