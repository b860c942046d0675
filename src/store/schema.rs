//! The tables and their versions (scheduler.md §1.3).

use anyhow::{Context as _, Result};
use rusqlite::{Connection, TransactionBehavior};

use super::legacy::{self, TakenOver};
use crate::base::ids::sha256_hex;

/// What makes version n + 1 of version n. Version 0 is an empty database, or the one of release 0.13.2.
const MIGRATIONS: [fn(&Connection) -> Result<()>; 3] = [create_tables, know_locks_by_digest, find_idle_receipts];
/// `user_version` of a database with the tables of this release.
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;

// The columns of a row are read from front to back, so the large ones of the receipts come last.
const TABLES: &str = "
CREATE TABLE work_items (id INTEGER PRIMARY KEY AUTOINCREMENT,
  agent TEXT NOT NULL, kind TEXT NOT NULL CHECK (kind IN ('webhook','call','trigger','manual')),
  state TEXT NOT NULL CHECK (state IN ('queued','running','done','failed','dead')),
  reason TEXT,
  source TEXT NOT NULL,
  context TEXT NOT NULL,
  receipt_id TEXT, call_id TEXT,
  depth INTEGER NOT NULL DEFAULT 0,
  chain TEXT,
  attempts INTEGER NOT NULL DEFAULT 0, not_before INTEGER NOT NULL DEFAULT 0,
  instance_id TEXT, last_error TEXT,
  enqueued_at INTEGER NOT NULL, started_at INTEGER, finished_at INTEGER);
CREATE INDEX idx_work_pick ON work_items(agent, state, enqueued_at, id, not_before);
CREATE INDEX idx_work_due ON work_items(not_before) WHERE state = 'queued' AND not_before > 0;
CREATE INDEX idx_work_receipt ON work_items(receipt_id);

CREATE TABLE containers (secret_sha256 TEXT PRIMARY KEY,
  container_name TEXT NOT NULL, agent TEXT NOT NULL, instance_id TEXT NOT NULL UNIQUE,
  depth INTEGER NOT NULL, chain TEXT, call_id TEXT, created_at INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('starting','running')),
  trigger TEXT NOT NULL CHECK (trigger IN ('schedule','manual','webhook','agent')), source TEXT,
  work_id INTEGER, rerun INTEGER NOT NULL DEFAULT 0, image_id TEXT, stage_dir TEXT, gateway_url TEXT,
  started_at INTEGER, deadline_at INTEGER,
  last_seq INTEGER,
  kill_reason TEXT, return_value TEXT, usage TEXT);

CREATE TABLE runs (instance_id TEXT PRIMARY KEY,
  agent TEXT NOT NULL, trigger TEXT NOT NULL CHECK (trigger IN ('schedule','manual','webhook','agent')),
  source TEXT,
  result TEXT NOT NULL CHECK (result IN ('completed','rerun','error')), class TEXT NOT NULL,
  exit_code INTEGER, exit_reason TEXT, error TEXT, container_name TEXT,
  started_at INTEGER NOT NULL, finished_at INTEGER NOT NULL, duration_ms INTEGER NOT NULL,
  input_tokens INTEGER, output_tokens INTEGER, cache_read_tokens INTEGER, cache_write_tokens INTEGER,
  total_tokens INTEGER, cost REAL, turn_count INTEGER,
  return_value TEXT, rerun INTEGER NOT NULL DEFAULT 0, attempt INTEGER,
  work_id INTEGER, receipt_id TEXT, call_id TEXT, depth INTEGER NOT NULL DEFAULT 0, chain TEXT, caller_instance TEXT);
CREATE INDEX idx_runs_agent ON runs(agent, started_at);

CREATE TABLE calls (call_id TEXT PRIMARY KEY, caller_agent TEXT NOT NULL, caller_instance TEXT NOT NULL,
  target_agent TEXT NOT NULL, context TEXT NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('pending','running','completed','error')),
  return_value TEXT, error_message TEXT, depth INTEGER NOT NULL,
  created_at INTEGER NOT NULL, status_at INTEGER NOT NULL,
  completed_at INTEGER);

CREATE TABLE locks (resource_key TEXT PRIMARY KEY, holder TEXT NOT NULL,
  held_since INTEGER NOT NULL, expires_at INTEGER NOT NULL);
CREATE INDEX idx_locks_holder ON locks(holder);

CREATE TABLE webhook_receipts (id TEXT PRIMARY KEY, provider TEXT NOT NULL, delivery_id TEXT, matched_source TEXT,
  event TEXT, action TEXT, summary TEXT, received_at INTEGER NOT NULL, client TEXT,
  body_bytes INTEGER NOT NULL,
  status TEXT NOT NULL,
  reason TEXT, matched INTEGER NOT NULL DEFAULT 0, skipped INTEGER NOT NULL DEFAULT 0, replay_of TEXT,
  headers TEXT, body BLOB);
CREATE INDEX idx_receipts_delivery ON webhook_receipts(provider, delivery_id);
CREATE INDEX idx_receipts_time ON webhook_receipts(received_at);

CREATE TABLE sessions (id_sha256 TEXT PRIMARY KEY, created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL);

CREATE TABLE flags (key TEXT PRIMARY KEY, value TEXT NOT NULL);
";

fn create_tables(tx: &Connection) -> Result<()> {
    Ok(tx.execute_batch(TABLES)?)
}

// `key_sha256` is the digest of the exact key, `resource_key` the key without secrets.
const LOCKS: &str = "
DROP TABLE locks;
CREATE TABLE locks (key_sha256 TEXT PRIMARY KEY, resource_key TEXT NOT NULL, holder TEXT NOT NULL,
  held_since INTEGER NOT NULL, expires_at INTEGER NOT NULL);
CREATE INDEX idx_locks_holder ON locks(holder);
";

/// Locks are found by the digest of their key. Those that runs hold now stay: their keys are the exact ones.
fn know_locks_by_digest(tx: &Connection) -> Result<()> {
    let held: Vec<(String, String, i64, i64)> = tx
        .prepare("SELECT resource_key, holder, held_since, expires_at FROM locks")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
        .collect::<Result<_, _>>()?;
    tx.execute_batch(LOCKS)?;
    let mut insert = tx.prepare("INSERT INTO locks VALUES (?, ?, ?, ?, ?)")?;
    for (key, holder, held_since, expires_at) in held {
        insert.execute((sha256_hex(key.as_bytes()), key, holder, held_since, expires_at))?;
    }
    Ok(())
}

/// Receipts without work are found among any number of others.
fn find_idle_receipts(tx: &Connection) -> Result<()> {
    let sql = "CREATE INDEX idx_receipts_idle ON webhook_receipts(status, received_at) WHERE status <> 'queued'";
    Ok(tx.execute_batch(sql)?)
}

/// The version of a database.
pub(super) fn version(db: &Connection) -> Result<i64> {
    Ok(db.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

/// Whether this release can work with a database of that version.
pub(super) fn is_known(version: i64) -> bool {
    (0..=VERSION).contains(&version)
}

/// Brings a database to the version of this release, in one transaction that also shows that it can be written.
pub(super) fn migrate(db: &mut Connection) -> Result<Option<TakenOver>> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version = version(&tx)?;
    for step in MIGRATIONS.iter().skip(usize::try_from(version).unwrap_or(0)) {
        step(&tx).context("change the tables")?;
    }
    let taken_over = if version == 0 { legacy::take_over(&tx).context("take the old state over")? } else { None };
    tx.pragma_update(None, "user_version", VERSION)?;
    tx.commit()?;
    Ok(taken_over)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::clock::UnixMs;
    use crate::store::locks::{self, Acquired, Key};
    use crate::store::runs::testing::register;
    use crate::store::testing::dir;
    use crate::store::{Store, open::FILE};

    #[test]
    fn a_lock_of_an_earlier_version_keeps_others_out() {
        let dir = dir();
        let old = Connection::open(dir.path().join(FILE)).unwrap();
        create_tables(&old).unwrap();
        old.execute("INSERT INTO locks VALUES ('k', 'dev-00000001', 5, 9000)", []).unwrap();
        old.execute(
            "INSERT INTO containers (secret_sha256, container_name, agent, instance_id, depth, created_at, state, trigger)
             VALUES ('s', 'al-dev-00000001', 'dev', 'dev-00000001', 0, 1, 'running', 'manual')",
            [],
        )
        .unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        drop(old);
        let store = Store::open(dir.path()).unwrap().store;
        let acquire = |holder: &str| {
            let (holder, key) = (holder.to_owned(), Key::new("k", "k"));
            store.write(move |tx| locks::acquire(tx, &key, &holder, Duration::from_secs(9), UnixMs(10))).unwrap()
        };
        let other = register(&store, "dev");
        let refused = Acquired::HeldBy { holder: "dev-00000001".into(), held_since: UnixMs(5) };
        assert_eq!((acquire(&other), acquire("dev-00000001")), (refused, Acquired::Yes));
        let held = store.read(|db| locks::list(db, "dev-00000001", UnixMs(10))).unwrap();
        assert_eq!((held.len(), held[0].resource_key.as_str(), held[0].held_since), (1, "k", UnixMs(5)));
    }
}
