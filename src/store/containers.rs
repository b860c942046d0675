//! Live runs: which container is whose, and what it may do (gateway.md §8, scheduler.md §4.3 step 1).
//!
//! Secrets are kept as SHA-256 only.

use anyhow::Result;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{Tx, chain_text, instant, int, parse_chain};
use crate::base::Secret;
use crate::base::clock::UnixMs;
use crate::base::ids::sha256_hex;
use crate::model::names::InstanceId;
use crate::model::wire::run_file::TriggerKind;
use crate::model::wire::usage::Usage;

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

/// All that is known of a live run; what a scheduler needs that was not there when it began.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveRow {
    pub instance: String,
    pub agent: String,
    pub container_name: String,
    pub state: LiveState,
    pub origin: Origin,
    /// The item that it works on.
    pub work_id: Option<i64>,
    /// When it was registered.
    pub created_at: UnixMs,
    pub image_id: Option<String>,
    /// Its staging directory.
    pub stage_dir: Option<String>,
    /// Address of the gateway that its container was given.
    pub gateway_url: Option<String>,
    pub started_at: Option<UnixMs>,
    /// When the host stops it.
    pub deadline_at: Option<UnixMs>,
    /// Highest number of the lines that were taken over from its output.
    pub last_seq: Option<u64>,
    /// Why it has to end.
    pub kill_reason: Option<String>,
    pub return_value: Option<String>,
    pub usage: Option<Usage>,
}

/// How far the launch of a live run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiveState {
    /// Its container may exist, and may even run.
    Starting,
    Running,
}

/// All live runs, in the order of their registration.
///
/// # Errors
/// When the database fails.
pub fn all(db: &Connection) -> Result<Vec<LiveRow>> {
    let mut query = db.prepare_cached(
        "SELECT instance_id, agent, container_name, state, trigger, source, rerun, depth, chain, call_id, work_id,
         created_at, image_id, stage_dir, gateway_url, started_at, deadline_at, last_seq, kill_reason, return_value,
         usage FROM containers ORDER BY created_at, rowid",
    )?;
    Ok(query.query_map([], live_row)?.collect::<Result<_, _>>()?)
}

fn live_row(row: &Row<'_>) -> rusqlite::Result<LiveRow> {
    let (state, trigger): (String, String) = (row.get(3)?, row.get(4)?);
    let origin = Origin {
        trigger: parse_trigger(&trigger),
        source: row.get(5)?,
        rerun: row.get(6)?,
        depth: row.get(7)?,
        chain: parse_chain(row.get(8)?),
        call_id: row.get(9)?,
    };
    Ok(LiveRow {
        instance: row.get(0)?,
        agent: row.get(1)?,
        container_name: row.get(2)?,
        state: if state == "running" { LiveState::Running } else { LiveState::Starting },
        origin,
        work_id: row.get(10)?,
        created_at: UnixMs(row.get(11)?),
        image_id: row.get(12)?,
        stage_dir: row.get(13)?,
        gateway_url: row.get(14)?,
        started_at: instant(row, 15)?,
        deadline_at: instant(row, 16)?,
        last_seq: row.get::<_, Option<i64>>(17)?.map(i64::unsigned_abs),
        kill_reason: row.get(18)?,
        return_value: row.get(19)?,
        usage: parse_usage(row.get(20)?),
    })
}

pub(super) fn parse_trigger(word: &str) -> TriggerKind {
    [TriggerKind::Schedule, TriggerKind::Webhook, TriggerKind::Agent]
        .into_iter()
        .find(|kind| kind.as_str() == word)
        .unwrap_or(TriggerKind::Manual)
}

/// Reads what [`save_progress`] keeps.
pub(super) fn parse_usage(text: Option<String>) -> Option<Usage> {
    text.and_then(|text| serde_json::from_str(&text).ok())
}

/// Records where a run's files are staged, and the address of the gateway that it is told.
///
/// # Errors
/// When the database fails.
pub fn set_stage(tx: &Tx<'_>, instance: &str, stage_dir: &str, gateway_url: Option<&str>) -> Result<()> {
    tx.prepare_cached("UPDATE containers SET stage_dir = ?, gateway_url = ? WHERE instance_id = ?")?
        .execute(params![stage_dir, gateway_url, instance])?;
    Ok(())
}

/// Records that a run's container has been started.
///
/// # Errors
/// When the database fails.
pub fn set_running(
    tx: &Tx<'_>,
    instance: &str,
    started_at: UnixMs,
    deadline_at: UnixMs,
    image_id: Option<&str>,
) -> Result<()> {
    tx.prepare_cached(
        "UPDATE containers SET state = 'running', started_at = ?, deadline_at = ?, image_id = ? WHERE instance_id = ?",
    )?
    .execute(params![started_at.0, deadline_at.0, image_id, instance])?;
    Ok(())
}

/// What was taken over from a run's output. What is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// Highest number of the lines.
    pub last_seq: Option<u64>,
    pub return_value: Option<String>,
    pub usage: Option<Usage>,
}

/// Records what was taken over from a run's output, so that another scheduler can go on from there.
///
/// # Errors
/// When the database fails.
pub fn save_progress(tx: &Tx<'_>, instance: &str, progress: &Progress) -> Result<()> {
    let usage = progress.usage.as_ref().map(serde_json::to_string).transpose()?;
    tx.prepare_cached(
        "UPDATE containers SET last_seq = COALESCE(?, last_seq), return_value = COALESCE(?, return_value),
         usage = COALESCE(?, usage) WHERE instance_id = ?",
    )?
    .execute(params![progress.last_seq.map(int), progress.return_value, usage, instance])?;
    Ok(())
}

/// Records why a run has to end, before anything is killed; the first reason stays. False when it has ended.
///
/// # Errors
/// When the database fails.
pub fn set_kill_reason(tx: &Tx<'_>, instance: &str, reason: &str) -> Result<bool> {
    let changed = tx
        .prepare_cached("UPDATE containers SET kill_reason = COALESCE(kill_reason, ?) WHERE instance_id = ?")?
        .execute([reason, instance])?;
    Ok(changed > 0)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use crate::store::runs::testing::{end, identity};

    #[test]
    fn a_live_run_is_known_with_all_that_was_recorded() {
        let store = Store::open_in_memory().unwrap();
        let identity = identity("dev");
        let instance = identity.instance.to_string();
        let origin = Origin {
            trigger: TriggerKind::Agent,
            source: Some("lead".into()),
            rerun: 3,
            depth: 1,
            chain: vec!["lead".into(), "dev".into()],
            call_id: Some("c1".into()),
        };
        let (registered, from) = (identity.clone(), origin.clone());
        store.write(move |tx| register(tx, &registered, &from, Some(7), UnixMs(5))).unwrap();
        let starting = LiveRow {
            instance: instance.clone(),
            agent: "dev".into(),
            container_name: identity.instance.container_name(),
            state: LiveState::Starting,
            origin,
            work_id: Some(7),
            created_at: UnixMs(5),
            image_id: None,
            stage_dir: None,
            gateway_url: None,
            started_at: None,
            deadline_at: None,
            last_seq: None,
            kill_reason: None,
            return_value: None,
            usage: None,
        };
        assert_eq!(store.read(all).unwrap(), std::slice::from_ref(&starting));
        let usage = Usage { total_tokens: 12, cost: 0.5, ..Usage::default() };
        let id = instance.clone();
        store
            .write(move |tx| {
                set_stage(tx, &id, "/run/x", Some("http://gateway:8080"))?;
                set_running(tx, &id, UnixMs(10), UnixMs(20), Some("sha256:1"))?;
                let seen = Progress { last_seq: Some(4), return_value: Some("yes".into()), usage: Some(usage) };
                save_progress(tx, &id, &seen)?;
                save_progress(tx, &id, &Progress { last_seq: Some(9), ..Progress::default() })?;
                assert!(set_kill_reason(tx, &id, "operator")?);
                assert!(set_kill_reason(tx, &id, "agent removed")?);
                assert!(!set_kill_reason(tx, "dev-00000000", "operator")?);
                Ok(())
            })
            .unwrap();
        let running = LiveRow {
            state: LiveState::Running,
            image_id: Some("sha256:1".into()),
            stage_dir: Some("/run/x".into()),
            gateway_url: Some("http://gateway:8080".into()),
            started_at: Some(UnixMs(10)),
            deadline_at: Some(UnixMs(20)),
            last_seq: Some(9),
            kill_reason: Some("operator".into()),
            return_value: Some("yes".into()),
            usage: Some(usage),
            ..starting
        };
        assert_eq!(store.read(all).unwrap(), [running]);
        end(&store, &instance);
        assert_eq!(store.read(all).unwrap(), []);
        assert_eq!(store.read(|db| by_secret(db, &identity.secret)).unwrap(), None);
        let kept: (i64, String) = store
            .read(|db| {
                let sql = "SELECT total_tokens, return_value FROM runs";
                Ok(db.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?)
            })
            .unwrap();
        assert_eq!(kept, (12, "yes".into()), "what was seen before counts when the end says nothing");
    }
}
