//! Live runs: which container is whose, and what it may do (gateway.md §8, scheduler.md §4.3 step 1).
//!
//! Secrets are kept as SHA-256 only.

use anyhow::Result;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{Tx, chain_text, parse_chain};
use crate::base::Secret;
use crate::base::clock::UnixMs;
use crate::base::ids::sha256_hex;
use crate::model::names::InstanceId;
use crate::model::wire::run_file::TriggerKind;

/// Who a starting run is.
#[derive(Clone)]
pub struct Identity {
    pub instance: InstanceId,
    pub secret: Secret,
}

/// Where a run comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub trigger: TriggerKind,
    /// Provider of a webhook, calling agent of a call.
    pub source: Option<String>,
    /// Reruns before this run in its chain of reruns.
    pub rerun: u32,
    /// 0, or the depth of the calling run and 1 more.
    pub depth: u32,
    /// Agents from the first caller down to this run's agent, which is included.
    pub chain: Vec<String>,
    /// The call that this run answers.
    pub call_id: Option<String>,
}

/// What the gateway knows of a live run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    pub instance: String,
    pub agent: String,
    pub container_name: String,
    pub depth: u32,
    /// Agents from the first caller down to this run's agent, which is included.
    pub chain: Vec<String>,
    pub call_id: Option<String>,
}

/// Registers a run that starts; from the commit on its secret is accepted. `work_id`: the item it works on.
///
/// # Errors
/// When the instance is known already.
pub fn register(tx: &Tx<'_>, identity: &Identity, origin: &Origin, work_id: Option<i64>, now: UnixMs) -> Result<()> {
    let instance = &identity.instance;
    tx.prepare_cached(
        "INSERT INTO containers (secret_sha256, container_name, agent, instance_id, depth, chain, call_id, created_at,
         state, trigger, source, work_id, rerun) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'starting', ?, ?, ?, ?)",
    )?
    .execute(params![
        sha256_hex(identity.secret.expose().as_bytes()),
        instance.container_name(),
        instance.agent(),
        instance.as_str(),
        origin.depth,
        chain_text(&origin.chain),
        origin.call_id,
        now.0,
        origin.trigger.as_str(),
        origin.source,
        work_id,
        origin.rerun,
    ])?;
    Ok(())
}

/// The live run with this secret.
///
/// # Errors
/// When the database fails.
pub fn by_secret(db: &Connection, secret: &Secret) -> Result<Option<Registration>> {
    let mut query = db.prepare_cached(
        "SELECT instance_id, agent, container_name, depth, chain, call_id FROM containers WHERE secret_sha256 = ?",
    )?;
    Ok(query.query_row([sha256_hex(secret.expose().as_bytes())], registration).optional()?)
}

fn registration(row: &Row<'_>) -> rusqlite::Result<Registration> {
    Ok(Registration {
        instance: row.get(0)?,
        agent: row.get(1)?,
        container_name: row.get(2)?,
        depth: row.get(3)?,
        chain: parse_chain(row.get(4)?),
        call_id: row.get(5)?,
    })
}

/// Ids of all live runs.
///
/// # Errors
/// When the database fails.
pub fn instances(db: &Connection) -> Result<Vec<String>> {
    let mut query = db.prepare_cached("SELECT instance_id FROM containers")?;
    Ok(query.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// Keeps the return value that a run gave with a signal; the last one wins.
///
/// # Errors
/// When the database fails.
pub fn set_return_value(tx: &Tx<'_>, instance: &str, value: &str) -> Result<()> {
    tx.prepare_cached("UPDATE containers SET return_value = ? WHERE instance_id = ?")?.execute([value, instance])?;
    Ok(())
}

/// Takes a run's secret back and records why the run has to end; the first reason stays.
///
/// # Errors
/// When the database fails.
pub fn revoke(tx: &Tx<'_>, instance: &str, kill_reason: &str) -> Result<()> {
    // No digest looks like this, so no secret leads here any more.
    tx.prepare_cached(
        "UPDATE containers SET secret_sha256 = 'revoked:' || instance_id, kill_reason = COALESCE(kill_reason, ?)
         WHERE instance_id = ?",
    )?
    .execute([kill_reason, instance])?;
    Ok(())
}

/// What a run posted as its return value so far.
pub fn return_value(db: &Connection, instance: &str) -> Result<Option<String>> {
    let mut query = db.prepare_cached("SELECT return_value FROM containers WHERE instance_id = ?")?;
    Ok(query.query_row([instance], |row| row.get(0)).optional()?.flatten())
}
