//! The end of a run: everything that it changes, in one transaction (scheduler.md §4.3 step 6).

use std::time::Duration;

use anyhow::Result;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::containers::parse_usage;
use super::items::{Item, Kind};
use super::{Tx, calls, int, items, locks};
use crate::base::clock::UnixMs;
use crate::model::outcome::{Class, Outcome, RunResult};
use crate::model::wire::run_file::TriggerKind;
use crate::model::wire::usage::Usage;

/// Longest delay before another attempt.
const LONGEST_DELAY_SECONDS: u64 = 900;
/// Exit codes that say what is wrong with the surroundings; trying again changes nothing.
const LASTING_EXIT_CODES: std::ops::RangeInclusive<i32> = 10..=16;

/// When an item is tried again.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// Runs that an item may have (`workMaxAttempts`).
    pub max_attempts: u32,
    /// Delay after the first attempt (`workRetryDelay`); four times as long after each further one.
    pub delay_seconds: u64,
    /// Whether webhook items are also tried again after errors of the agent itself (`workRetryErrors`).
    pub retry_errors: bool,
}

impl RetryPolicy {
    fn delay(&self, attempts: u32) -> Duration {
        let factor = 4u64.saturating_pow(attempts.saturating_sub(1));
        Duration::from_secs(self.delay_seconds.saturating_mul(factor).min(LONGEST_DELAY_SECONDS))
    }

    fn may_retry(&self, kind: Kind, outcome: &Outcome) -> bool {
        let own_error = outcome.class == Class::AgentError
            && outcome.exit_code.is_none_or(|code| !LASTING_EXIT_CODES.contains(&code));
        outcome.class.is_infrastructure() || (self.retry_errors && kind == Kind::Webhook && own_error)
    }
}

/// What the end of a run changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// The item it worked on, and what became of it.
    pub item: Option<(Item, ItemEnd)>,
    pub locks_released: usize,
}

/// What became of an item when its run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemEnd {
    Done,
    Failed,
    /// Another attempt follows, not before this instant.
    Queued {
        not_before: UnixMs,
    },
    /// Given up after its last attempt.
    Dead,
}

/// Row of a live run, as far as its end needs it.
struct Live {
    agent: String,
    container_name: String,
    trigger: String,
    source: Option<String>,
    rerun: u32,
    depth: u32,
    chain: Option<String>,
    call_id: Option<String>,
    work_id: Option<i64>,
    return_value: Option<String>,
    usage: Option<Usage>,
}

fn live(row: &Row<'_>) -> rusqlite::Result<Live> {
    Ok(Live {
        agent: row.get(0)?,
        container_name: row.get(1)?,
        trigger: row.get(2)?,
        source: row.get(3)?,
        rerun: row.get(4)?,
        depth: row.get(5)?,
        chain: row.get(6)?,
        call_id: row.get(7)?,
        work_id: row.get(8)?,
        return_value: row.get(9)?,
        usage: parse_usage(row.get(10)?),
    })
}

/// Ends a run: its registration is replaced by its record, its secret is worth nothing any more, its item and its call
/// get their next state, its locks are released. Calls that it made are not touched. `None` when it has ended already.
///
/// # Errors
/// When the database fails.
pub fn finish_run(
    tx: &Tx<'_>,
    instance: &str,
    outcome: &Outcome,
    policy: &RetryPolicy,
    now: UnixMs,
) -> Result<Option<Ended>> {
    let mut query = tx.prepare_cached(
        "DELETE FROM containers WHERE instance_id = ? RETURNING agent, container_name, trigger, source, rerun, depth,
         chain, call_id, work_id, return_value, usage",
    )?;
    let Some(mut live) = query.query_row([instance], live).optional()? else { return Ok(None) };
    // What the container said at its end counts more than what it said on the way.
    live.return_value = outcome.return_value.clone().or(live.return_value);
    let item = live.work_id.map(|id| items::get(tx, id)).transpose()?.flatten();
    insert_record(tx, instance, &live, item.as_ref(), outcome)?;
    let item = item.map(|item| end_item(tx, item, outcome, policy, now)).transpose()?;
    if let Some(call_id) = &live.call_id {
        end_call(tx, call_id, &live, item.as_ref(), outcome, now)?;
    }
    Ok(Some(Ended { item, locks_released: locks::release_all(tx, instance)? }))
}

fn insert_record(tx: &Tx<'_>, instance: &str, live: &Live, item: Option<&Item>, outcome: &Outcome) -> Result<()> {
    let usage = outcome.usage.as_ref().or(live.usage.as_ref());
    let tokens = |count: fn(&Usage) -> u64| usage.map(|usage| int(count(usage)));
    let caller = live.call_id.as_deref().map(|call_id| calls::caller(tx, call_id)).transpose()?.flatten();
    let duration = outcome.finished_at.since(outcome.started_at);
    tx.prepare_cached(
        "INSERT INTO runs (instance_id, agent, trigger, source, result, class, exit_code, exit_reason, error,
         container_name, started_at, finished_at, duration_ms, input_tokens, output_tokens, cache_read_tokens,
         cache_write_tokens, total_tokens, cost, turn_count, return_value, rerun, attempt, work_id, receipt_id,
         call_id, depth, chain, caller_instance)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?24,
         (SELECT receipt_id FROM work_items WHERE id = ?24), ?, ?, ?, ?)",
    )?
    .execute(params![
        instance,
        live.agent,
        live.trigger,
        live.source,
        outcome.result.as_str(),
        outcome.class.as_str(),
        outcome.exit_code,
        outcome.exit_reason,
        outcome.error,
        live.container_name,
        outcome.started_at.0,
        outcome.finished_at.0,
        int(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)),
        tokens(|usage| usage.input_tokens),
        tokens(|usage| usage.output_tokens),
        tokens(|usage| usage.cache_read_tokens),
        tokens(|usage| usage.cache_write_tokens),
        tokens(|usage| usage.total_tokens),
        usage.map(|usage| usage.cost),
        tokens(|usage| usage.turn_count),
        live.return_value,
        live.rerun,
        item.map(|item| item.attempts),
        live.work_id,
        live.call_id,
        live.depth,
        live.chain,
        caller,
    ])?;
    Ok(())
}

fn end_item(tx: &Tx<'_>, item: Item, outcome: &Outcome, policy: &RetryPolicy, now: UnixMs) -> Result<(Item, ItemEnd)> {
    let end = match outcome.result {
        RunResult::Completed | RunResult::Rerun => ItemEnd::Done,
        RunResult::Error if !policy.may_retry(item.kind, outcome) => ItemEnd::Failed,
        RunResult::Error if item.attempts >= policy.max_attempts => ItemEnd::Dead,
        RunResult::Error => ItemEnd::Queued { not_before: now.plus(policy.delay(item.attempts)) },
    };
    let (state, reason, not_before) = match end {
        ItemEnd::Done => ("done", None, 0),
        ItemEnd::Failed => ("failed", Some(outcome.class.as_str()), 0),
        ItemEnd::Queued { not_before } => ("queued", None, not_before.0),
        ItemEnd::Dead => ("dead", Some("attempts_exhausted"), 0),
    };
    let finished_at = (state != "queued").then_some(now.0);
    let changed = tx
        .prepare_cached(
            "UPDATE work_items SET state = ?, reason = ?, not_before = ?, last_error = ?, finished_at = ?
             WHERE id = ? AND state = 'running'",
        )?
        .execute(params![state, reason, not_before, outcome.error, finished_at, item.id])?;
    if changed > 0 && state == "queued" {
        tx.note(|notes| notes.add_queued(&item.agent, 1));
    }
    Ok((item, end))
}

fn end_call(
    tx: &Tx<'_>,
    call_id: &str,
    live: &Live,
    item: Option<&(Item, ItemEnd)>,
    outcome: &Outcome,
    now: UnixMs,
) -> Result<()> {
    let failure = outcome.error.as_deref().unwrap_or("unknown error");
    match item {
        _ if outcome.result != RunResult::Error => calls::complete(tx, call_id, live.return_value.as_deref(), now),
        Some((_, ItemEnd::Queued { .. })) => calls::set_pending(tx, call_id, now),
        Some((item, ItemEnd::Dead)) => {
            let message = format!("given up after {} attempts: {failure}", item.attempts);
            calls::fail(tx, call_id, &message, now)
        }
        None if outcome.class.is_infrastructure() => calls::fail(tx, call_id, failure, now),
        _ => calls::fail(tx, call_id, "agent run failed", now),
    }
}

/// Whether a run of an agent was started by this kind of trigger since then.
///
/// # Errors
/// When the database fails.
pub fn started_since(db: &Connection, agent: &str, trigger: TriggerKind, since: UnixMs) -> Result<bool> {
    let mut query =
        db.prepare_cached("SELECT 1 FROM runs WHERE agent = ? AND started_at >= ? AND trigger = ? LIMIT 1")?;
    Ok(query.exists(params![agent, since.0, trigger.as_str()])?)
}

/// Runs for tests of this folder.
#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use crate::base::Secret;
    use crate::base::ids::uuid_v4;
    use crate::model::names::{AgentName, InstanceId};
    use crate::model::wire::run_file::TriggerKind;
    use crate::store::Store;
    use crate::store::containers::{self, Identity, Origin};

    pub(in crate::store) const POLICY: RetryPolicy =
        RetryPolicy { max_attempts: 3, delay_seconds: 30, retry_errors: false };

    pub(in crate::store) fn identity(agent: &str) -> Identity {
        Identity { instance: InstanceId::generate(&AgentName::parse(agent).unwrap()), secret: Secret::new(uuid_v4()) }
    }

    /// A manual run; gives its instance.
    pub(in crate::store) fn register(store: &Store, agent: &str) -> String {
        let identity = identity(agent);
        let instance = identity.instance.to_string();
        let origin = Origin {
            trigger: TriggerKind::Manual,
            source: None,
            rerun: 0,
            depth: 0,
            chain: vec![agent.into()],
            call_id: None,
        };
        store.write(move |tx| containers::register(tx, &identity, &origin, None, UnixMs(1))).unwrap();
        instance
    }

    pub(in crate::store) fn outcome(class: Class, exit_code: i32) -> Outcome {
        let result = if class == Class::Ok { RunResult::Completed } else { RunResult::Error };
        Outcome {
            class,
            result,
            exit_code: Some(exit_code),
            exit_reason: None,
            error: (class != Class::Ok).then(|| format!("Container exited with code {exit_code}")),
            return_value: None,
            usage: None,
            model_failure: None,
            started_at: UnixMs(1000),
            finished_at: UnixMs(3500),
        }
    }

    pub(in crate::store) fn end(store: &Store, instance: &str) -> Option<Ended> {
        let instance = instance.to_owned();
        store.write(move |tx| finish_run(tx, &instance, &outcome(Class::Ok, 0), &POLICY, UnixMs(4000))).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{POLICY, end, identity, outcome, register};
    use super::*;
    use crate::store::Store;
    use crate::store::calls::CallState;
    use crate::store::containers;
    use crate::store::items::{Death, Which};
    use crate::store::testing::call;

    /// An agent `dev` that is called to `reviewer`: the store, the caller's instance, the id of the call.
    fn with_call() -> (Store, String, String) {
        let store = Store::open_in_memory().unwrap();
        let caller = register(&store, "dev");
        call(&store, &caller, "c1", 10);
        (store, caller, "c1".into())
    }

    fn claim(store: &Store, now: i64) -> Option<(String, Item)> {
        let identity = identity("reviewer");
        let instance = identity.instance.to_string();
        let item = store.write(move |tx| items::claim_next(tx, "reviewer", &identity, UnixMs(now))).unwrap();
        Some((instance, item?))
    }

    fn finish(store: &Store, instance: &str, outcome: Outcome, now: i64) -> Ended {
        let instance = instance.to_owned();
        store.write(move |tx| finish_run(tx, &instance, &outcome, &POLICY, UnixMs(now))).unwrap().expect("still live")
    }

    fn state(store: &Store, id: &str, caller: &str) -> Option<CallState> {
        store.read(|db| calls::get(db, id, caller)).unwrap()
    }

    #[test]
    fn a_call_from_acceptance_to_its_result() {
        let (store, caller, id) = with_call();
        assert_eq!(state(&store, &id, &caller), Some(CallState::Pending));
        assert_eq!(state(&store, &id, "dev-00000000"), None, "calls of others are not shown");
        let (instance, item) = claim(&store, 20).unwrap();
        assert_eq!((item.kind, item.source.as_str(), item.depth, item.attempts), (Kind::Call, "dev", 1, 1));
        assert_eq!((item.context["context"].as_str(), item.chain), (Some("look at c1"), vec!["dev".to_owned()]));
        assert_eq!(state(&store, &id, &caller), Some(CallState::Running));
        assert!(claim(&store, 20).is_none());
        let signalled = instance.clone();
        store.write(move |tx| containers::set_return_value(tx, &signalled, "from signal")).unwrap();
        let ended = finish(&store, &instance, outcome(Class::Ok, 0), 30);
        assert_eq!(ended.item.unwrap().1, ItemEnd::Done);
        let value = Some("from signal".to_owned());
        assert_eq!(state(&store, &id, &caller), Some(CallState::Completed { return_value: value }));
        let row: (String, String, i64, String, i64, String, i64) = store
            .read(|db| {
                let sql = "SELECT trigger, source, depth, chain, duration_ms, caller_instance, attempt FROM runs";
                Ok(db.query_row(sql, [], |row| {
                    let (a, b, c, d) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
                    Ok((a, b, c, d, row.get(4)?, row.get(5)?, row.get(6)?))
                })?)
            })
            .unwrap();
        assert_eq!(row, ("agent".into(), "dev".into(), 1, r#"["dev","reviewer"]"#.into(), 2500, caller, 1));
    }

    #[track_caller]
    fn end_of_call(outcome: Outcome, attempts: u32, expected: ItemEnd, call: CallState) {
        let (store, caller, id) = with_call();
        let mut now = 20;
        for attempt in 1..=attempts {
            let (instance, item) = claim(&store, now).unwrap();
            assert_eq!(item.attempts, attempt);
            let last = attempt == attempts;
            let this = if last { outcome.clone() } else { testing::outcome(Class::Lost, 0) };
            let (_, end) = finish(&store, &instance, this, now).item.unwrap();
            if last {
                assert_eq!(end, expected);
            }
            if let ItemEnd::Queued { not_before } = end {
                assert!(claim(&store, not_before.0 - 1).is_none());
                now = not_before.0;
            }
        }
        assert_eq!(state(&store, &id, &caller), Some(call));
    }

    #[test]
    fn the_class_of_the_run_decides_over_item_and_call() {
        let failed = || CallState::Error { message: "agent run failed".into() };
        let queued = |ms| ItemEnd::Queued { not_before: UnixMs(ms) };
        let completed = CallState::Completed { return_value: None };
        let rerun = Outcome { result: RunResult::Rerun, ..outcome(Class::Ok, 42) };
        end_of_call(outcome(Class::Ok, 0), 1, ItemEnd::Done, completed.clone());
        end_of_call(rerun, 1, ItemEnd::Done, completed);
        end_of_call(outcome(Class::AgentError, 1), 1, ItemEnd::Failed, failed());
        end_of_call(outcome(Class::Timeout, 124), 1, ItemEnd::Failed, failed());
        end_of_call(outcome(Class::Oom, 137), 1, ItemEnd::Failed, failed());
        end_of_call(outcome(Class::Killed, 137), 1, ItemEnd::Failed, failed());
        end_of_call(outcome(Class::Lost, 0), 1, queued(30_020), CallState::Pending);
        end_of_call(outcome(Class::LaunchFailure, 0), 2, queued(150_020), CallState::Pending);
        let message = "given up after 3 attempts: Container exited with code 137".to_owned();
        end_of_call(outcome(Class::Interrupted, 137), 3, ItemEnd::Dead, CallState::Error { message });
    }

    #[test]
    fn webhook_items_may_be_tried_again_after_errors_of_the_agent() {
        let policy = RetryPolicy { retry_errors: true, ..POLICY };
        assert!(policy.may_retry(Kind::Webhook, &outcome(Class::AgentError, 1)));
        assert!(!policy.may_retry(Kind::Webhook, &outcome(Class::AgentError, 10)));
        assert!(!policy.may_retry(Kind::Call, &outcome(Class::AgentError, 1)));
        assert!(!POLICY.may_retry(Kind::Webhook, &outcome(Class::AgentError, 1)));
        assert_eq!(policy.delay(4), Duration::from_secs(900));
        assert_eq!(policy.delay(u32::MAX), Duration::from_secs(900));
    }

    #[test]
    fn items_keep_their_order_when_the_clock_goes_back() {
        let (store, caller, _) = with_call();
        call(&store, &caller, "c2", 5);
        assert_eq!(claim(&store, 20).unwrap().1.call_id.as_deref(), Some("c1"));
        assert_eq!(claim(&store, 20).unwrap().1.call_id.as_deref(), Some("c2"));
    }

    #[test]
    fn a_retry_planned_before_the_clock_went_back_is_due() {
        let (store, _, _) = with_call();
        let (instance, _) = claim(&store, 10_000_000).unwrap();
        finish(&store, &instance, outcome(Class::Lost, 0), 10_000_000);
        assert!(claim(&store, 20).is_some());
    }

    #[test]
    fn a_run_ends_once_and_its_locks_with_it() {
        let store = Store::open_in_memory().unwrap();
        let (instance, secret) = {
            let identity = identity("dev");
            let (instance, secret) = (identity.instance.to_string(), identity.secret.clone());
            let origin = containers::Origin {
                trigger: crate::model::wire::run_file::TriggerKind::Schedule,
                source: None,
                rerun: 2,
                depth: 0,
                chain: vec!["dev".into()],
                call_id: None,
            };
            store.write(move |tx| containers::register(tx, &identity, &origin, None, UnixMs(1))).unwrap();
            (instance, secret)
        };
        assert_eq!(store.read(|db| containers::by_secret(db, &secret)).unwrap().unwrap().instance, instance);
        let holder = instance.clone();
        store
            .write(move |tx| {
                locks::acquire(tx, &locks::Key::new("k", "k"), &holder, Duration::from_secs(60), UnixMs(2))
            })
            .unwrap();
        assert_eq!(end(&store, &instance), Some(Ended { item: None, locks_released: 1 }));
        assert_eq!(end(&store, &instance), None);
        assert_eq!(store.read(|db| containers::by_secret(db, &secret)).unwrap(), None);
        let dump: String = store
            .read(|db| {
                Ok(db.query_row("SELECT COALESCE(group_concat(instance_id || trigger), '') FROM runs", [], |row| {
                    row.get(0)
                })?)
            })
            .unwrap();
        assert_eq!(dump, format!("{instance}schedule"));
    }

    #[test]
    fn the_oldest_items_are_pushed_out_of_a_full_queue() {
        let (store, caller, _) = with_call();
        for id in ["c2", "c3", "c4"] {
            call(&store, &caller, id, 10);
        }
        let out = |most| store.write(move |tx| items::push_out(tx, "reviewer", 1, most, UnixMs(30))).unwrap();
        let ids = |items: Vec<items::Buried>| items.into_iter().filter_map(|item| item.call_id).collect::<Vec<_>>();
        assert_eq!(ids(out(2)), ["c1", "c2"]);
        assert_eq!(ids(out(2)), ["c3"]);
        let message = "queue full, call dropped".to_owned();
        assert_eq!(state(&store, "c3", &caller), Some(CallState::Error { message }));
        assert_eq!(claim(&store, 40).unwrap().1.call_id.as_deref(), Some("c4"));
    }

    #[test]
    fn the_first_end_of_a_call_stays() {
        let (store, caller, id) = with_call();
        let (instance, item) = claim(&store, 20).unwrap();
        let buried = store.write(move |tx| items::bury(tx, item.id, Death::AgentMissing, UnixMs(25))).unwrap();
        assert_eq!(buried, None, "it runs");
        store.write(|tx| calls::fail(tx, "c1", "call timed out", UnixMs(26))).unwrap();
        finish(&store, &instance, outcome(Class::Ok, 0), 30);
        let message = "call timed out".to_owned();
        assert_eq!(state(&store, &id, &caller), Some(CallState::Error { message }));
    }

    #[test]
    fn dead_agents_say_so_to_the_caller() {
        for (death, text) in [
            (Death::AgentMissing, "target agent \"reviewer\" not found"),
            (Death::AgentDisabled, "target agent \"reviewer\" is disabled"),
        ] {
            let (store, caller, id) = with_call();
            store.write(move |tx| items::bury_agent(tx, "reviewer", Which::Calls, death, UnixMs(25))).unwrap();
            assert_eq!(state(&store, &id, &caller), Some(CallState::Error { message: text.into() }));
        }
    }

    fn sweep(store: &Store, now: i64) {
        let run_time = |agent: &str| (agent == "reviewer").then_some(Duration::from_secs(100));
        store.write(move |tx| calls::sweep(tx, run_time, UnixMs(now))).unwrap();
    }

    #[test]
    fn calls_time_out_by_their_state() {
        const TWO_HOURS: i64 = 2 * 3600 * 1000;
        let timed_out = Some(CallState::Error { message: "call timed out".into() });
        let (store, caller, id) = with_call();
        sweep(&store, 10 + TWO_HOURS);
        assert_eq!(state(&store, &id, &caller), Some(CallState::Pending));
        let (_, _) = claim(&store, 10 + TWO_HOURS).unwrap();
        sweep(&store, 10 + TWO_HOURS + 160_000);
        assert_eq!(state(&store, &id, &caller), Some(CallState::Running));
        sweep(&store, 10 + TWO_HOURS + 160_001);
        assert_eq!(state(&store, &id, &caller), timed_out);
        let (store, caller, id) = with_call();
        sweep(&store, 11 + TWO_HOURS);
        assert_eq!(state(&store, &id, &caller), timed_out);
    }

    #[test]
    fn results_are_kept_for_their_caller() {
        const MINUTE: i64 = 60_000;
        let (store, caller, id) = with_call();
        let (instance, _) = claim(&store, 20).unwrap();
        finish(&store, &instance, outcome(Class::Ok, 0), 0);
        sweep(&store, 11 * MINUTE);
        assert!(state(&store, &id, &caller).is_some());
        end(&store, &caller);
        sweep(&store, 10 * MINUTE - 1);
        assert!(state(&store, &id, &caller).is_some());
        sweep(&store, 10 * MINUTE);
        assert!(state(&store, &id, &caller).is_none());

        let (store, caller, id) = with_call();
        let (instance, _) = claim(&store, 20).unwrap();
        finish(&store, &instance, outcome(Class::Ok, 0), 0);
        sweep(&store, 24 * 60 * MINUTE);
        assert!(state(&store, &id, &caller).is_none());
    }
}
