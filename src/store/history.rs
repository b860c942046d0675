//! Ended runs as people see them, and where a run came from (gateway.md §27.3).

use anyhow::Result;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::containers::parse_trigger;
use super::parse_chain;
use crate::base::clock::UnixMs;
use crate::model::wire::run_file::TriggerKind;
use crate::model::wire::usage::Usage;

/// An ended run.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    pub instance_id: String,
    pub agent: String,
    pub trigger: TriggerKind,
    /// Provider of a webhook, calling agent of a call.
    pub source: Option<String>,
    /// `completed`, `rerun` or `error`.
    pub result: String,
    /// The class that led to it (scheduler.md §4.4).
    pub class: String,
    pub exit_code: Option<i32>,
    pub exit_reason: Option<String>,
    pub error: Option<String>,
    pub container_name: Option<String>,
    pub started_at: UnixMs,
    pub finished_at: UnixMs,
    pub duration_ms: u64,
    /// `None` when none was reported.
    pub usage: Option<Usage>,
    pub return_value: Option<String>,
    pub rerun: u32,
    /// Which attempt of its item it was, from 1.
    pub attempt: Option<u32>,
    pub work_id: Option<i64>,
    pub receipt_id: Option<String>,
    pub call_id: Option<String>,
    pub depth: u32,
    /// Agents from the first caller down to this run's agent, which is included.
    pub chain: Vec<String>,
    pub caller_instance: Option<String>,
}

const COLUMNS: &str =
    "instance_id, agent, trigger, source, result, class, exit_code, exit_reason, error, container_name,
    started_at, finished_at, duration_ms, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,
    total_tokens, cost, turn_count, return_value, rerun, attempt, work_id, receipt_id, call_id, depth, chain,
    caller_instance";

fn run(row: &Row<'_>) -> rusqlite::Result<Run> {
    let trigger: String = row.get(2)?;
    Ok(Run {
        instance_id: row.get(0)?,
        agent: row.get(1)?,
        trigger: parse_trigger(&trigger),
        source: row.get(3)?,
        result: row.get(4)?,
        class: row.get(5)?,
        exit_code: row.get(6)?,
        exit_reason: row.get(7)?,
        error: row.get(8)?,
        container_name: row.get(9)?,
        started_at: UnixMs(row.get(10)?),
        finished_at: UnixMs(row.get(11)?),
        duration_ms: row.get::<_, i64>(12)?.unsigned_abs(),
        usage: usage(row)?,
        return_value: row.get(20)?,
        rerun: row.get(21)?,
        attempt: row.get(22)?,
        work_id: row.get(23)?,
        receipt_id: row.get(24)?,
        call_id: row.get(25)?,
        depth: row.get(26)?,
        chain: parse_chain(row.get(27)?),
        caller_instance: row.get(28)?,
    })
}

fn usage(row: &Row<'_>) -> rusqlite::Result<Option<Usage>> {
    let number = |column: usize| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(i64::unsigned_abs));
    let Some(total_tokens) = number(17)? else { return Ok(None) };
    Ok(Some(Usage {
        input_tokens: number(13)?.unwrap_or(0),
        output_tokens: number(14)?.unwrap_or(0),
        cache_read_tokens: number(15)?.unwrap_or(0),
        cache_write_tokens: number(16)?.unwrap_or(0),
        total_tokens,
        cost: row.get::<_, Option<f64>>(18)?.unwrap_or(0.0),
        turn_count: number(19)?.unwrap_or(0),
    }))
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// Newest first.
    pub runs: Vec<Run>,
    /// How many there are in all.
    pub total: u64,
}

const RUNS_OF: &str = "WHERE agent = ?1 AND started_at >= ?2 ORDER BY started_at DESC LIMIT ?3 OFFSET ?4";

/// Ended runs of an agent that began at a time or after it, newest first.
///
/// # Errors
/// When the database fails.
pub fn runs_of(db: &Connection, agent: &str, since: UnixMs, limit: u32, offset: u64) -> Result<Page> {
    let mut count = db.prepare_cached("SELECT COUNT(*) FROM runs WHERE agent = ? AND started_at >= ?")?;
    let total: i64 = count.query_row(params![agent, since.0], |row| row.get(0))?;
    let mut query = db.prepare_cached(&format!("SELECT {COLUMNS} FROM runs {RUNS_OF}"))?;
    let offset = i64::try_from(offset).unwrap_or(i64::MAX);
    let runs = query.query_map(params![agent, since.0, limit, offset], run)?.collect::<Result<_, _>>()?;
    Ok(Page { runs, total: total.unsigned_abs() })
}

/// An ended run; `None` when there is none of that id.
///
/// # Errors
/// When the database fails.
pub fn get(db: &Connection, instance: &str) -> Result<Option<Run>> {
    let mut query = db.prepare_cached(&format!("SELECT {COLUMNS} FROM runs WHERE instance_id = ?"))?;
    Ok(query.query_row([instance], run).optional()?)
}

/// What runs came to, for one agent or all together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sums {
    pub runs: u64,
    /// Those that did not end with an error.
    pub ok: u64,
    pub errors: u64,
    /// Of all of them together.
    pub duration_ms: u64,
    pub tokens: u64,
    /// In US dollars.
    pub cost: f64,
}

impl Sums {
    /// Mean duration of a run; 0 without runs.
    pub fn average_ms(&self) -> u64 {
        self.duration_ms.checked_div(self.runs).unwrap_or(0)
    }

    /// These and others together.
    pub fn and(&self, other: &Self) -> Self {
        Self {
            runs: self.runs + other.runs,
            ok: self.ok + other.ok,
            errors: self.errors + other.errors,
            duration_ms: self.duration_ms + other.duration_ms,
            tokens: self.tokens + other.tokens,
            cost: self.cost + other.cost,
        }
    }
}

/// What the runs since an instant came to, by agent in the order of their names.
///
/// # Errors
/// When the database fails.
pub fn summary(db: &Connection, since: UnixMs) -> Result<Vec<(String, Sums)>> {
    let mut query = db.prepare_cached(
        "SELECT agent, COUNT(*), SUM(result <> 'error'), SUM(result = 'error'), SUM(duration_ms),
         COALESCE(SUM(total_tokens), 0), COALESCE(SUM(cost), 0.0) FROM runs WHERE started_at >= ? GROUP BY agent",
    )?;
    let sums = query.query_map([since.0], |row| {
        let number = |column: usize| Ok::<_, rusqlite::Error>(row.get::<_, i64>(column)?.unsigned_abs());
        let sums = Sums {
            runs: number(1)?,
            ok: number(2)?,
            errors: number(3)?,
            duration_ms: number(4)?,
            tokens: number(5)?,
            cost: row.get(6)?,
        };
        Ok((row.get(0)?, sums))
    })?;
    Ok(sums.collect::<Result<_, _>>()?)
}

/// Runs of one agent that another one called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    pub caller: String,
    pub target: String,
    pub runs: u64,
    /// Of all of them together.
    pub duration_ms: u64,
    /// Depths of all of them, added up.
    pub depths: u64,
}

impl Edge {
    /// Mean depth of a run; 1 is that of one whose caller nobody called.
    pub fn average_depth(&self) -> f64 {
        if self.runs == 0 { 0.0 } else { self.depths as f64 / self.runs as f64 }
    }

    /// Mean duration of a run.
    pub fn average_ms(&self) -> u64 {
        self.duration_ms.checked_div(self.runs).unwrap_or(0)
    }
}

/// Which agents called which since an instant, most frequent first. Only calls whose run has ended count.
///
/// # Errors
/// When the database fails.
pub fn edges(db: &Connection, since: UnixMs) -> Result<Vec<Edge>> {
    let mut query = db.prepare_cached(
        "SELECT source, agent, COUNT(*), SUM(duration_ms), SUM(depth) FROM runs
         WHERE trigger = 'agent' AND source IS NOT NULL AND started_at >= ?
         GROUP BY source, agent ORDER BY COUNT(*) DESC, source, agent",
    )?;
    let edges = query.query_map([since.0], |row| {
        let number = |column: usize| Ok::<_, rusqlite::Error>(row.get::<_, i64>(column)?.unsigned_abs());
        let (caller, target) = (row.get(0)?, row.get(1)?);
        Ok(Edge { caller, target, runs: number(2)?, duration_ms: number(3)?, depths: number(4)? })
    })?;
    Ok(edges.collect::<Result<_, _>>()?)
}

/// Where a run comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TriggerOf {
    pub instance_id: String,
    pub agent: String,
    pub trigger: TriggerKind,
    pub source: Option<String>,
    /// When it began, or was registered if it has not yet.
    pub started_at: UnixMs,
    pub depth: u32,
    pub webhook: Option<WebhookOf>,
    /// Agent and instance that called it; the instance may be forgotten.
    pub caller: Option<(String, Option<String>)>,
}

/// The delivery that a run comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookOf {
    pub receipt_id: String,
    pub provider: String,
    pub summary: Option<String>,
    pub delivery_id: Option<String>,
}

const TRIGGER: &str = "SELECT run.instance_id, run.agent, run.trigger, run.source, run.began, run.depth, run.caller,
    receipt.id, receipt.provider, receipt.summary, receipt.delivery_id FROM (
    SELECT instance_id, agent, trigger, source, started_at AS began, depth, caller_instance AS caller, receipt_id
    FROM runs WHERE instance_id = ?1
    UNION ALL
    SELECT live.instance_id, live.agent, live.trigger, live.source, COALESCE(live.started_at, live.created_at),
    live.depth, (SELECT caller_instance FROM calls WHERE call_id = live.call_id),
    (SELECT receipt_id FROM work_items WHERE id = live.work_id)
    FROM containers AS live WHERE live.instance_id = ?1) AS run
    LEFT JOIN webhook_receipts AS receipt ON receipt.id = run.receipt_id LIMIT 1";

/// Where a run comes from, live or ended; `None` when there is none of that id.
///
/// # Errors
/// When the database fails.
pub fn trigger_of(db: &Connection, instance: &str) -> Result<Option<TriggerOf>> {
    let mut query = db.prepare_cached(TRIGGER)?;
    let found = query.query_row([instance], |row| {
        let trigger: String = row.get(2)?;
        let (trigger, source) = (parse_trigger(&trigger), row.get::<_, Option<String>>(3)?);
        let receipt_id: Option<String> = row.get(7)?;
        let webhook = receipt_id.map(|receipt_id| {
            Ok::<_, rusqlite::Error>(WebhookOf {
                receipt_id,
                provider: row.get(8)?,
                summary: row.get(9)?,
                delivery_id: row.get(10)?,
            })
        });
        let caller_instance = row.get(6)?;
        Ok(TriggerOf {
            instance_id: row.get(0)?,
            agent: row.get(1)?,
            caller: source.clone().filter(|_| trigger == TriggerKind::Agent).map(|agent| (agent, caller_instance)),
            trigger,
            source,
            started_at: UnixMs(row.get(4)?),
            depth: row.get(5)?,
            webhook: webhook.transpose()?,
        })
    });
    Ok(found.optional()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::outcome::{Class, Outcome, RunResult};
    use crate::store::calls::{self, NewCall};
    use crate::store::containers::{self, Origin};
    use crate::store::items;
    use crate::store::receipts::accept_delivery;
    use crate::store::runs::finish_run;
    use crate::store::runs::testing::{POLICY, identity, outcome};
    use crate::store::testing::{new_item, new_receipt, plan};
    use crate::store::{Store, Tx};

    fn ended(started_at: i64, duration_ms: i64, result: RunResult) -> Outcome {
        let class = if result == RunResult::Error { Class::AgentError } else { Class::Ok };
        Outcome {
            result,
            started_at: UnixMs(started_at),
            finished_at: UnixMs(started_at + duration_ms),
            ..outcome(class, 0)
        }
    }

    /// A run with trigger `schedule`; gives its instance.
    fn begin(tx: &Tx<'_>, agent: &str, now: i64) -> Result<String> {
        let identity = identity(agent);
        let (trigger, chain) = (TriggerKind::Schedule, vec![agent.to_owned()]);
        let origin = Origin { trigger, source: None, rerun: 0, depth: 0, chain, call_id: None };
        containers::register(tx, &identity, &origin, None, UnixMs(now))?;
        Ok(identity.instance.to_string())
    }

    fn scheduled(store: &Store, agent: &'static str, outcome: Outcome) -> String {
        store
            .write(move |tx| {
                let instance = begin(tx, agent, outcome.started_at.0)?;
                finish_run(tx, &instance, &outcome, &POLICY, outcome.finished_at)?;
                Ok(instance)
            })
            .unwrap()
    }

    #[test]
    fn runs_of_an_agent_are_listed_newest_first() {
        let store = Store::open_in_memory().unwrap();
        let all: Vec<_> = (1..=3).map(|at| scheduled(&store, "dev", ended(at, 5, RunResult::Completed))).collect();
        scheduled(&store, "dev-tools", ended(9, 5, RunResult::Completed));
        let page = store.read(|db| runs_of(db, "dev", UnixMs(0), 2, 1)).unwrap();
        let listed: Vec<_> = page.runs.iter().map(|run| &run.instance_id).collect();
        assert_eq!((listed, page.total), (vec![&all[1], &all[0]], 3));
        let page_since = store.read(|db| runs_of(db, "dev", UnixMs(2), 1, 0)).unwrap();
        assert_eq!((&page_since.runs[0].instance_id, page_since.runs.len(), page_since.total), (&all[2], 1, 2));
        assert_eq!((page.runs[0].duration_ms, page.runs[0].usage), (5, None));
        assert_eq!(store.read(|db| get(db, &all[2])).unwrap().unwrap().started_at, UnixMs(3));
        assert_eq!(store.read(|db| get(db, "dev-00000000")).unwrap(), None);
        let sql = format!("SELECT {COLUMNS} FROM runs {RUNS_OF}");
        assert_eq!(plan(&store, &sql), ["SEARCH runs USING INDEX idx_runs_agent (agent=? AND started_at>?)"]);
    }

    #[test]
    fn what_runs_came_to_is_summed_by_agent() {
        let store = Store::open_in_memory().unwrap();
        let usage = Usage { total_tokens: 100, cost: 0.25, ..Usage::default() };
        scheduled(&store, "dev", ended(1, 10, RunResult::Completed));
        scheduled(&store, "dev", Outcome { usage: Some(usage), ..ended(5, 10, RunResult::Rerun) });
        scheduled(&store, "dev", Outcome { usage: Some(usage), ..ended(6, 20, RunResult::Error) });
        scheduled(&store, "docs", ended(6, 7, RunResult::Error));
        let sums = store.read(|db| summary(db, UnixMs(5))).unwrap();
        let dev = Sums { runs: 2, ok: 1, errors: 1, duration_ms: 30, tokens: 200, cost: 0.5 };
        let docs = Sums { runs: 1, ok: 0, errors: 1, duration_ms: 7, tokens: 0, cost: 0.0 };
        assert_eq!(sums, [("dev".to_owned(), dev.clone()), ("docs".to_owned(), docs.clone())]);
        assert_eq!((dev.average_ms(), dev.and(&docs).average_ms(), Sums::default().average_ms()), (15, 12, 0));
    }

    #[test]
    fn a_run_knows_its_delivery_or_its_caller_while_it_lives_and_afterwards() {
        let store = Store::open_in_memory().unwrap();
        let receipt = new_receipt(Some("d1"), UnixMs(1));
        let webhook = WebhookOf {
            receipt_id: receipt.id.clone(),
            provider: "github".into(),
            summary: Some("push done".into()),
            delivery_id: Some("d1".into()),
        };
        let (for_dev, for_docs) = (identity("dev"), identity("docs"));
        let (dev, docs) = (for_dev.instance.to_string(), for_docs.instance.to_string());
        store
            .write(move |tx| {
                accept_delivery(tx, receipt, vec![new_item("dev")], 0, UnixMs(1))?;
                items::claim_next(tx, "dev", &for_dev, UnixMs(2))?;
                let caller = containers::by_secret(tx, &for_dev.secret)?.unwrap();
                let call = NewCall { target: "docs".into(), context: "x".into(), call_id: Some("c1".into()) };
                calls::accept(tx, &caller, &call, UnixMs(3))?;
                items::claim_next(tx, "docs", &for_docs, UnixMs(4))
            })
            .unwrap();
        let trigger = |instance: &str| store.read(|db| trigger_of(db, instance)).unwrap().unwrap();
        let of_dev = TriggerOf {
            instance_id: dev.clone(),
            agent: "dev".into(),
            trigger: TriggerKind::Webhook,
            source: Some("github".into()),
            started_at: UnixMs(2),
            depth: 0,
            webhook: Some(webhook),
            caller: None,
        };
        let of_docs = TriggerOf {
            instance_id: docs.clone(),
            agent: "docs".into(),
            trigger: TriggerKind::Agent,
            source: Some("dev".into()),
            started_at: UnixMs(4),
            depth: 1,
            webhook: None,
            caller: Some(("dev".into(), Some(dev.clone()))),
        };
        assert_eq!((trigger(&dev), trigger(&docs)), (of_dev.clone(), of_docs.clone()));
        for instance in [dev.clone(), docs.clone()] {
            let outcome = ended(50, 1, RunResult::Completed);
            store.write(move |tx| finish_run(tx, &instance, &outcome, &POLICY, UnixMs(60))).unwrap();
        }
        assert_eq!(trigger(&dev), TriggerOf { started_at: UnixMs(50), ..of_dev });
        assert_eq!(trigger(&docs), TriggerOf { started_at: UnixMs(50), ..of_docs });
        assert_eq!(store.read(|db| trigger_of(db, "dev-00000000")).unwrap(), None);
    }
}
