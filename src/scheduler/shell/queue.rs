//! The queue beside the claims: what was accepted and what became of it in the log, items of agents that are gone, and
//! what is done about the past every hour.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Scheduler;
use crate::base::clock::UnixMs;
use crate::base::log::{Entry, Level};
use crate::base::{log_files, worker};
use crate::config::project::Settings;
use crate::model::outcome::Class;
use crate::model::wire::run_file::TriggerKind;
use crate::run::life::log_dir;
use crate::scheduler::claim;
use crate::scheduler::core::{Input, Wish};
use crate::scheduler::outlet::Message;
use crate::store::containers::Identity;
use crate::store::items::{self, Buried, Death, Item, Kind, Which};
use crate::store::runs::ItemEnd;
use crate::store::{Accepted, How, Store, retention};

/// How often what is over is cleared away.
const EVERY: Duration = Duration::from_secs(3600);
/// How long items of an agent that is gone wait for it to come back.
const GRACE: Duration = Duration::from_secs(24 * 3600);

/// An item that was not done, as it stands in the log.
struct LostItem<'a> {
    id: i64,
    agent: &'a str,
    kind: Kind,
    source: &'a str,
    attempts: u32,
    reason: &'a str,
    error: Option<&'a str>,
}

impl LostItem<'_> {
    fn entry(&self, level: Level, msg: &str) -> Entry {
        Entry::new(level, msg)
            .field("agent", self.agent)
            .field("kind", self.kind.as_str())
            .field("source", self.source)
            .field("id", self.id)
            .field("attempts", self.attempts)
            .field("reason", self.reason)
            .field("error", self.error)
    }
}

/// What is kept about the queue.
#[derive(Default)]
pub(super) struct Upkeep {
    /// Accepted since the last claim, until that one is answered.
    pub(super) accepted: Vec<Accepted>,
    /// Agents whose items nobody can run, since when.
    gone: HashMap<String, Instant>,
    /// When to clear away; `None` before everything is ready.
    next: Option<Instant>,
    /// Receipts are being cleared away.
    clearing: Arc<AtomicBool>,
}

impl Upkeep {
    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// What to ask the store for; `None` when there is nothing to take and nothing to push out. What was accepted since
    /// the last time is kept, to be logged with the answer.
    pub(super) fn order(&mut self, mut wish: Wish, store: &Store, settings: &Settings) -> Option<claim::Order> {
        let accepted = store.take_accepted();
        let queued = store.queued_counts();
        let has_tick = |agent: &str| wish.ticks.iter().any(|(waiting, _)| waiting == agent);
        wish.free.retain(|(agent, _)| queued.contains_key(agent) || has_tick(agent));
        let capacity = u64::from(settings.work_queue_size);
        let mut counts = counted(&accepted);
        // What is claimed first makes room; without claims only a full queue pushes something out.
        counts.retain(|agent, _| queued.get(agent).is_some_and(|queued| *queued > capacity));
        self.accepted.extend(accepted);
        let is_needed = !wish.free.is_empty() || !counts.is_empty();
        is_needed.then_some(claim::Order { wish, accepted: counts, capacity, max_reruns: settings.max_reruns })
    }
}

/// Items by agent that may push others out of its queue.
fn counted(accepted: &[Accepted]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for item in accepted.iter().filter(|item| item.how == How::Inserted) {
        *counts.entry(item.agent.clone()).or_default() += 1;
    }
    counts
}

impl Scheduler {
    /// Something about queued items has changed.
    pub(super) fn queue_changed(&mut self) {
        self.feed(Input::QueueChanged);
        self.push_out();
        // A call may have been accepted while its target was removed, or be tried again after that.
        self.bury_gone(Instant::now());
    }

    /// What a full queue pushes out where nothing is claimed: no slot is free, or nothing may start.
    pub(super) fn push_out(&mut self) {
        if self.core.is_claiming() {
            return;
        }
        self.handle.queue_seen();
        let order = self.queue.order(Wish::default(), &self.host.store, &self.project.settings);
        let accepted = std::mem::take(&mut self.queue.accepted);
        accepted.iter().for_each(|item| self.note_queued(item));
        let Some(order) = order else { return };
        let outlet = self.outlet.clone();
        self.host.store.submit(
            move |tx| claim::take(tx, &order, UnixMs::now()),
            move |taken| outlet.send(Message::Buried(taken.map(|taken| taken.pushed_out).unwrap_or_default())),
        );
    }

    /// Logs what was claimed, and what was accepted and was not.
    pub(super) fn note_claimed(&mut self, claimed: &BTreeMap<i64, (Identity, Item)>) {
        let accepted = std::mem::take(&mut self.queue.accepted);
        for (id, (_, item)) in claimed {
            let at_once = accepted.iter().find(|accepted| accepted.id == *id);
            let action = at_once.and_then(|accepted| accepted.action.clone());
            let age = UnixMs::now().since(item.enqueued_at).as_millis();
            let age = Value::from(u64::try_from(age).unwrap_or(u64::MAX));
            let (msg, fields): (_, Vec<(&str, Value)>) = match (item.kind, at_once.is_some()) {
                (Kind::Webhook, true) => (
                    "webhook triggering agent",
                    vec![
                        ("agent", item.agent.as_str().into()),
                        ("event", item.source.as_str().into()),
                        ("action", action.into()),
                    ],
                ),
                (Kind::Webhook, false) => (
                    "draining queued webhook",
                    vec![("agent", item.agent.as_str().into()), ("event", item.source.as_str().into()), ("ageMs", age)],
                ),
                (Kind::Call | Kind::Trigger, true) => (
                    "dispatching call",
                    vec![
                        ("caller", item.source.as_str().into()),
                        ("target", item.agent.as_str().into()),
                        ("depth", item.depth.saturating_sub(1).into()),
                    ],
                ),
                (Kind::Call | Kind::Trigger, false) => (
                    "draining queued trigger",
                    vec![
                        ("source", item.source.as_str().into()),
                        ("target", item.agent.as_str().into()),
                        ("depth", item.depth.into()),
                        ("ageMs", age),
                    ],
                ),
                (Kind::Manual, _) => ("starting queued manual run", vec![("agent", item.agent.as_str().into())]),
            };
            self.say(Level::Info, msg, &fields);
        }
        accepted.iter().filter(|item| !claimed.contains_key(&item.id)).for_each(|item| self.note_queued(item));
    }

    pub(super) fn note_queued(&self, item: &Accepted) {
        let size = self.host.store.queued(&item.agent);
        match item.kind {
            Kind::Webhook => {
                let fields = [("event", Value::from(item.source.as_str())), ("queueSize", size.into())];
                self.say_of(Level::Info, "webhook queued", &item.agent, &fields);
            }
            Kind::Call | Kind::Trigger => {
                let fields = [("caller", item.source.as_str()), ("target", item.agent.as_str())];
                let fields = fields.map(|(name, value)| (name, Value::from(value)));
                self.say(Level::Info, "all runners busy, call queued", &fields);
            }
            Kind::Manual => {}
        }
    }

    /// Logs and shows items that died without another run.
    pub(super) fn note_buried(&mut self, items: &[Buried]) {
        for item in items {
            let (level, msg) = match item.death {
                Death::QueueFull => (Level::Warn, "queue full, oldest item moved to dead letters"),
                _ => (Level::Error, "work item dead"),
            };
            let reason = item.death.reason();
            let lost = LostItem {
                id: item.id,
                agent: &item.agent,
                kind: item.kind,
                source: &item.source,
                attempts: item.attempts,
                reason,
                error: item.last_error.as_deref(),
            };
            let mut entry = lost.entry(level, msg);
            if item.death == Death::QueueFull {
                entry = entry.field("queueSize", self.host.store.queued(&item.agent));
            }
            self.log.write(&entry);
            self.status.note(&item.agent, format!("item {} dead ({reason})", item.id));
        }
    }

    /// Logs and shows what became of the item of a run that has ended.
    pub(super) fn note_item_end(&mut self, item: &Item, end: &ItemEnd, class: Class, error: Option<&str>) {
        let (level, msg, reason) = match end {
            ItemEnd::Done | ItemEnd::Queued { .. } => return,
            ItemEnd::Failed => (Level::Warn, "work item failed", class.as_str()),
            ItemEnd::Dead => (Level::Error, "work item dead", "attempts_exhausted"),
        };
        let lost = LostItem {
            id: item.id,
            agent: &item.agent,
            kind: item.kind,
            source: &item.source,
            attempts: item.attempts,
            reason,
            error,
        };
        self.log.write(&lost.entry(level, msg));
        if *end == ItemEnd::Dead {
            self.status.note(&item.agent, format!("item {} dead after {} attempts", item.id, item.attempts));
        }
    }

    /// Does what is due every hour, and what is due for agents that are gone.
    pub(super) fn keep_up(&mut self, now: Instant) {
        if self.queue.next.is_none_or(|next| next > now) {
            return;
        }
        self.queue.next = Some(now + EVERY);
        self.bury_gone(now);
        self.clear_away();
    }

    /// From now on the past is cleared away.
    pub(super) fn begin_upkeep(&mut self) {
        self.queue.next = Some(Instant::now());
    }

    /// Items of agents that do not exist, or have no slots: calls fail at once, the rest after a day.
    pub(super) fn bury_gone(&mut self, now: Instant) {
        let is_active = |agent: &str| self.agents.get(agent).is_some_and(|found| found.config.is_enabled());
        let gone: Vec<String> = self.host.store.queued_counts().into_keys().filter(|agent| !is_active(agent)).collect();
        self.queue.gone.retain(|agent, _| gone.contains(agent));
        for agent in gone {
            let since = *self.queue.gone.entry(agent.clone()).or_insert(now);
            let which = if now.duration_since(since) >= GRACE { Which::All } else { Which::Calls };
            let death = if self.agents.contains_key(&agent) { Death::AgentDisabled } else { Death::AgentMissing };
            let outlet = self.outlet.clone();
            self.host.store.submit(
                move |tx| items::bury_agent(tx, &agent, which, death, UnixMs::now()),
                move |buried| outlet.send(Message::Buried(buried.unwrap_or_default())),
            );
        }
    }

    /// Removes old receipts: a sender must not be able to fill the disk between two hours.
    pub(super) fn clear_receipts(&self) {
        if self.queue.clearing.swap(true, Ordering::AcqRel) {
            return;
        }
        let (store, outlet) = (Arc::clone(&self.host.store), self.outlet.clone());
        let (days, clearing) = (self.project.settings.history_retention_days, Arc::clone(&self.queue.clearing));
        let started = worker::spawn("clear-receipts", move || {
            let purged = worker::guarded(|| retention::purge_receipts(&store, days, UnixMs::now())).flatten();
            clearing.store(false, Ordering::Release);
            if let Err(error) = purged {
                let entry = Entry::new(Level::Warn, "receipts could not be cleared away");
                outlet.send(Message::Log(Box::new(entry.field("err", format!("{error:#}")))));
            }
        });
        if let Err(error) = started {
            self.queue.clearing.store(false, Ordering::Release);
            self.say(Level::Warn, "receipts are not cleared away", &[("err", Value::from(format!("{error:#}")))]);
        }
    }

    /// Removes old items, runs, receipts and log files, on a thread of its own: in small pieces between other commits.
    fn clear_away(&self) {
        let (store, outlet) = (Arc::clone(&self.host.store), self.outlet.clone());
        let settings = &self.project.settings;
        let days = settings.history_retention_days;
        let (log_days, log_bytes) = (settings.log_retention_days, settings.log_retention_bytes());
        let logs = log_dir(&self.project.dir);
        let started = worker::spawn("clear-away", move || {
            let say = |entry: Entry| outlet.send(Message::Log(Box::new(entry)));
            match retention::purge(&store, days, UnixMs::now()) {
                Ok(purged) => purged.dead_letters.iter().for_each(|(agent, count)| {
                    let entry = Entry::new(Level::Warn, "dead letters dropped: more than are kept");
                    say(entry.field("agent", agent.as_str()).field("count", *count));
                }),
                Err(error) => {
                    let entry = Entry::new(Level::Warn, "history could not be cleared away");
                    say(entry.field("err", format!("{error:#}")));
                }
            }
            match log_files::prune(&logs, log_days, log_bytes, UnixMs::now()) {
                Ok(pruned) => {
                    if !pruned.removed.is_empty() {
                        let entry = Entry::new(Level::Info, "old log files removed");
                        say(entry.field("count", pruned.removed.len()));
                    }
                    for (path, error) in pruned.failed {
                        let entry = Entry::new(Level::Warn, "log file could not be removed");
                        say(entry.field("path", path.display().to_string()).field("err", error.to_string()));
                    }
                }
                Err(error) => {
                    let entry = Entry::new(Level::Warn, "log files could not be looked at");
                    say(entry.field("err", error.to_string()));
                }
            }
        });
        if let Err(error) = started {
            self.say(Level::Warn, "nothing is cleared away", &[("err", Value::from(format!("{error:#}")))]);
        }
    }

    /// Agents that run once at the start: those with a schedule, unless this is one crash after another.
    pub(super) fn initial_agents(&self) -> Vec<String> {
        let recently = |agent: &str| {
            let since = UnixMs(UnixMs::now().0 - 300_000);
            let query = |db: &_| crate::store::runs::started_since(db, agent, TriggerKind::Schedule, since);
            self.unclean && self.host.store.read(query).unwrap_or(false)
        };
        let scheduled =
            self.agents.values().filter(|found| found.config.is_enabled() && found.config.schedule.is_some());
        let names = scheduled.map(|found| found.config.name.to_string());
        names
            .filter(|agent| {
                let skip = recently(agent);
                if skip {
                    let msg = format!("{agent}: ran a moment ago, skipping initial run after a crash");
                    self.say_of(Level::Info, &msg, agent, &[]);
                }
                !skip
            })
            .collect()
    }
}
