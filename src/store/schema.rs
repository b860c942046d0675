//! The tables and their versions (scheduler.md §1.3).

use anyhow::{Context as _, Result};
use rusqlite::{Connection, TransactionBehavior};

use super::legacy::{self, TakenOver};

/// What makes version n + 1 of version n. Version 0 is an empty database, or the one of release 0.13.2.
const MIGRATIONS: [&str; 1] = [TABLES];
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
        tx.execute_batch(step).context("change the tables")?;
    }
    let taken_over = if version == 0 { legacy::take_over(&tx).context("take the old state over")? } else { None };
    tx.pragma_update(None, "user_version", VERSION)?;
    tx.commit()?;
    Ok(taken_over)
}
