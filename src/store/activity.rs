//! Everything that was triggered, in one list: what waits, what runs, what has ended, and deliveries that came to
//! nothing (gateway.md §27.3).
//!
//! The list is made of the keys of four tables; only what is shown is looked up in full.

use anyhow::Result;
use rusqlite::{Connection, Row, params};

use super::containers::parse_trigger;
use super::{int, receipts};
use crate::base::clock::UnixMs;
use crate::model::wire::run_file::TriggerKind;

/// How far something has come that was triggered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its item waits.
    Pending,
    Running,
    Completed,
    Error,
    Rerun,
    /// A delivery with an item that is dead.
    DeadLetter,
}

impl Stage {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Running, Self::Completed, Self::Error, Self::Rerun, Self::DeadLetter];

    /// The word in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Error => "error",
            Self::Rerun => "rerun",
            Self::DeadLetter => "dead-letter",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.as_str() == word)
    }
}

/// Something that was triggered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When it was accepted, or began.
    pub at: UnixMs,
    pub trigger: TriggerKind,
    /// Provider of a webhook, calling agent of a call.
    pub source: Option<String>,
    /// Event and action of a webhook.
    pub summary: Option<String>,
    /// `None` for a dead letter, which is the delivery's, whatever agents wanted it.
    pub agent: Option<String>,
    /// Its run, if it has one.
    pub instance: Option<String>,
    pub stage: Stage,
    pub receipt_id: Option<String>,
    /// Why the first of the dead items died.
    pub dead_reason: Option<String>,
}

/// What is listed. Dead letters belong to no agent, and are left out where one is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Filter<'a> {
    pub agent: Option<&'a str>,
    pub trigger: Option<TriggerKind>,
    pub stages: &'a [Stage],
}

/// A part of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// What waits, what runs, then the rest; of each the newest first.
    pub entries: Vec<Entry>,
    /// How many there are in all.
    pub total: u64,
    /// How many wait, whatever stages are asked for.
    pub pending: u64,
}

const TRIGGER_OF_KIND: &str = "CASE kind WHEN 'call' THEN 'agent' WHEN 'trigger' THEN 'agent' ELSE kind END";

fn keys_of_pending() -> String {
    format!(
        "SELECT 0, enqueued_at, 'item', id FROM work_items
         WHERE state = 'queued' AND (?1 IS NULL OR agent = ?1) AND (?2 IS NULL OR {TRIGGER_OF_KIND} = ?2)"
    )
}

const KEYS_OF_RUNNING: &str = "SELECT 1, COALESCE(started_at, created_at), 'live', rowid FROM containers
    WHERE (?1 IS NULL OR agent = ?1) AND (?2 IS NULL OR trigger = ?2)";

fn keys_of_ended(results: &str) -> String {
    format!(
        "SELECT 2, started_at, 'run', rowid FROM runs
         WHERE result IN ({results}) AND (?1 IS NULL OR agent = ?1) AND (?2 IS NULL OR trigger = ?2)"
    )
}

fn keys_of_dead_letters() -> String {
    format!(
        "SELECT 2, received_at, 'receipt', rowid FROM webhook_receipts AS receipt
         WHERE {} = 'dead-letter' AND ?1 IS NULL AND (?2 IS NULL OR ?2 = 'webhook')",
        receipts::STATUS
    )
}

/// The keys of everything of these stages; `None` when no stage is asked for.
fn keys(stages: &[Stage]) -> Option<String> {
    let mut parts = Vec::new();
    if stages.contains(&Stage::Pending) {
        parts.push(keys_of_pending());
    }
    if stages.contains(&Stage::Running) {
        parts.push(KEYS_OF_RUNNING.to_owned());
    }
    let ended = [Stage::Completed, Stage::Error, Stage::Rerun].into_iter().filter(|stage| stages.contains(stage));
    let ended: Vec<String> = ended.map(|stage| format!("'{}'", stage.as_str())).collect();
    if !ended.is_empty() {
        parts.push(keys_of_ended(&ended.join(", ")));
    }
    if stages.contains(&Stage::DeadLetter) {
        parts.push(keys_of_dead_letters());
    }
    let union = parts.join(" UNION ALL ");
    (!union.is_empty()).then(|| format!("WITH list (rank, at, part, row) AS ({union})"))
}

const ITEM: &str = "SELECT enqueued_at, CASE kind WHEN 'call' THEN 'agent' WHEN 'trigger' THEN 'agent' ELSE kind END,
    COALESCE(receipt.provider, NULLIF(item.source, '')), COALESCE(receipt.summary, CASE kind WHEN 'webhook' THEN
    item.source END), agent, NULL, 'pending', item.receipt_id, NULL
    FROM work_items AS item LEFT JOIN webhook_receipts AS receipt ON receipt.id = item.receipt_id WHERE item.id = ?";

const LIVE: &str = "SELECT COALESCE(live.started_at, live.created_at), live.trigger, live.source, receipt.summary,
    live.agent, live.instance_id, 'running', item.receipt_id, NULL
    FROM containers AS live LEFT JOIN work_items AS item ON item.id = live.work_id
    LEFT JOIN webhook_receipts AS receipt ON receipt.id = item.receipt_id WHERE live.rowid = ?";

const RUN: &str =
    "SELECT run.started_at, run.trigger, run.source, receipt.summary, run.agent, run.instance_id, run.result,
    run.receipt_id, NULL
    FROM runs AS run LEFT JOIN webhook_receipts AS receipt ON receipt.id = run.receipt_id WHERE run.rowid = ?";

const RECEIPT: &str = "SELECT received_at, 'webhook', provider, summary, NULL, NULL, 'dead-letter', id,
    (SELECT item.reason FROM work_items AS item WHERE item.receipt_id = receipt.id AND item.state = 'dead'
     ORDER BY item.id LIMIT 1)
    FROM webhook_receipts AS receipt WHERE rowid = ?";

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let (trigger, stage): (String, String) = (row.get(1)?, row.get(6)?);
    Ok(Entry {
        at: UnixMs(row.get(0)?),
        trigger: parse_trigger(&trigger),
        source: row.get(2)?,
        summary: row.get(3)?,
        agent: row.get(4)?,
        instance: row.get(5)?,
        stage: Stage::parse(&stage).unwrap_or(Stage::Error),
        receipt_id: row.get(7)?,
        dead_reason: row.get(8)?,
    })
}

/// The list.
///
/// # Errors
/// When the database fails.
pub fn list(db: &Connection, filter: &Filter<'_>, limit: u32, offset: u64) -> Result<Page> {
    let (agent, trigger) = (filter.agent, filter.trigger.map(TriggerKind::as_str));
    let count = |sql: &str| -> Result<u64> {
        let count: i64 = db.prepare_cached(sql)?.query_row(params![agent, trigger], |row| row.get(0))?;
        Ok(count.unsigned_abs())
    };
    let pending = count(&format!("SELECT COUNT(*) FROM ({})", keys_of_pending()))?;
    let Some(keys) = keys(filter.stages) else { return Ok(Page { entries: Vec::new(), total: 0, pending }) };
    let total = count(&format!("{keys} SELECT COUNT(*) FROM list"))?;
    let mut query = db.prepare_cached(&format!(
        "{keys} SELECT part, row FROM list ORDER BY rank, at DESC, row DESC LIMIT ?3 OFFSET ?4"
    ))?;
    let shown = query.query_map(params![agent, trigger, limit, int(offset)], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
    })?;
    let mut entries = Vec::new();
    for key in shown {
        let (part, row) = key?;
        let sql = match part.as_str() {
            "item" => ITEM,
            "live" => LIVE,
            "run" => RUN,
            _ => RECEIPT,
        };
        entries.push(db.prepare_cached(sql)?.query_row([row], entry)?);
    }
    Ok(Page { entries, total, pending })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::outcome::Class;
    use crate::store::Store;
    use crate::store::items::{self, claim_next};
    use crate::store::receipts::accept_delivery;
    use crate::store::runs::finish_run;
    use crate::store::runs::testing::{POLICY, identity, outcome, register};
    use crate::store::testing::{call, new_item, new_receipt};

    fn deliver(store: &Store, agent: &'static str, at: i64) -> String {
        let receipt = new_receipt(None, UnixMs(at));
        let items = vec![new_item(agent)];
        store.write(move |tx| accept_delivery(tx, receipt, items, 0, UnixMs(at))).unwrap().receipt_id
    }

    fn claim(store: &Store, agent: &'static str, at: i64) -> String {
        let identity = identity(agent);
        let instance = identity.instance.to_string();
        store.write(move |tx| claim_next(tx, agent, &identity, UnixMs(at))).unwrap().unwrap();
        instance
    }

    /// A delivery that waits, one that was lost and waits again, one that runs, an ended run, a dead one, a call.
    fn busy() -> (Store, Vec<String>, Vec<String>) {
        let store = Store::open_in_memory().unwrap();
        let (mut receipts, mut instances) = (Vec::new(), Vec::new());
        let finish = |instance: String, class: Class, at: i64| {
            store.write(move |tx| finish_run(tx, &instance, &outcome(class, 1), &POLICY, UnixMs(at))).unwrap();
        };
        receipts.push(deliver(&store, "dev", 1));
        instances.push(claim(&store, "dev", 2));
        finish(instances[0].clone(), Class::AgentError, 3);
        receipts.push(deliver(&store, "dev", 4));
        store.write(|tx| items::drop(tx, 2, UnixMs(5))).unwrap().unwrap();
        receipts.push(deliver(&store, "dev", 6));
        instances.push(claim(&store, "dev", 7));
        receipts.push(deliver(&store, "dev", 8));
        let caller = register(&store, "lead");
        call(&store, &caller, "c1", 9);
        instances.push(caller);
        (store, receipts, instances)
    }

    fn page(store: &Store, agent: Option<&str>, trigger: Option<TriggerKind>, stages: &[Stage]) -> Page {
        store.read(|db| list(db, &Filter { agent, trigger, stages }, 50, 0)).unwrap()
    }

    #[test]
    fn what_waits_comes_first_then_what_runs_then_the_rest() {
        let (store, receipts, instances) = busy();
        let webhook = |at, agent: Option<&str>, instance: Option<&String>, stage, receipt: &String| Entry {
            at: UnixMs(at),
            trigger: TriggerKind::Webhook,
            source: Some("github".into()),
            summary: Some("push done".into()),
            agent: agent.map(str::to_owned),
            instance: instance.cloned(),
            stage,
            receipt_id: Some(receipt.clone()),
            dead_reason: (stage == Stage::DeadLetter).then(|| "cleared".into()),
        };
        let other = |at, trigger, source: Option<&str>, agent: &str, instance: Option<&String>, stage| Entry {
            at: UnixMs(at),
            trigger,
            source: source.map(str::to_owned),
            summary: None,
            agent: Some(agent.into()),
            instance: instance.cloned(),
            stage,
            receipt_id: None,
            dead_reason: None,
        };
        let expected = [
            other(9, TriggerKind::Agent, Some("dev"), "reviewer", None, Stage::Pending),
            webhook(8, Some("dev"), None, Stage::Pending, &receipts[3]),
            webhook(7, Some("dev"), Some(&instances[1]), Stage::Running, &receipts[2]),
            other(1, TriggerKind::Manual, None, "lead", Some(&instances[2]), Stage::Running),
            webhook(1000, Some("dev"), Some(&instances[0]), Stage::Error, &receipts[0]),
            webhook(4, None, None, Stage::DeadLetter, &receipts[1]),
        ];
        let all = page(&store, None, None, &Stage::ALL);
        assert_eq!(all.entries, expected);
        assert_eq!((all.total, all.pending), (6, 2));
        let part =
            store.read(|db| list(db, &Filter { agent: None, trigger: None, stages: &Stage::ALL }, 2, 3)).unwrap();
        assert_eq!((&part.entries[..], part.total), (&expected[3..5], 6));
    }

    #[test]
    fn the_list_can_be_narrowed() {
        let (store, ..) = busy();
        let stages = |agent, trigger, stages: &[Stage]| {
            let page = page(&store, agent, trigger, stages);
            let found: Vec<_> = page.entries.iter().map(|entry| entry.stage).collect();
            assert_eq!(found.len() as u64, page.total);
            (found, page.pending)
        };
        use Stage::{DeadLetter, Error, Pending, Running};
        assert_eq!(stages(Some("dev"), None, &Stage::ALL), (vec![Pending, Running, Error], 1));
        assert_eq!(stages(None, Some(TriggerKind::Manual), &Stage::ALL), (vec![Running], 0));
        assert_eq!(stages(None, Some(TriggerKind::Agent), &Stage::ALL), (vec![Pending], 1));
        let webhooks = stages(None, Some(TriggerKind::Webhook), &Stage::ALL);
        assert_eq!(webhooks, (vec![Pending, Running, Error, DeadLetter], 1));
        assert_eq!(stages(None, None, &[DeadLetter]), (vec![DeadLetter], 2));
        assert_eq!(stages(Some("dev"), None, &[DeadLetter]), (vec![], 1));
        assert_eq!(stages(None, None, &[Stage::Completed, Stage::Rerun]), (vec![], 2));
        assert_eq!(stages(None, None, &[]), (vec![], 2));
    }
}
