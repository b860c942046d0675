//! One run by hand and everything it calls, then the end: the scheduler of `al run` (scheduler.md §15.3).
//!
//! The core decides; this is the shell around it, on the thread that called it: it receives events, carries out actions
//! and has one thread per run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use crossbeam_channel::Receiver;
use shims::wire::usage::Usage;

use super::claim::{self, Taken};
use super::core::{Action, Cause, Claimed, Core, Input, Mode, Reruns, RunKey, Setup, Wish};
use super::handle::{Event, Handle, Refusal};
use super::runs::{Runs, free_order, item_order};
use crate::base::clock::UnixMs;
use crate::base::log::{Entry, Level};
use crate::model::event::Trigger;
use crate::model::outcome::Outcome;
use crate::run::life::{Agent, Host};
use crate::run::observer::{Report, RunInfo};
use crate::run::outcome::OPERATOR;
use crate::store::containers::{self, Identity};
use crate::store::items::Item;

/// The run that the process exists for.
pub struct Root {
    pub agent: String,
    pub trigger: Trigger,
    pub reruns: Reruns,
}

/// What came of it.
pub struct Finished {
    /// Of the last run of the chain; `None` when it was never started.
    pub last: Option<(RunInfo, Outcome)>,
    pub reruns: u32,
    /// Of all runs of the chain together.
    pub usage: Option<Usage>,
    pub duration: Duration,
    /// Signal that ended the process, if one did.
    pub signal: Option<i32>,
}

/// Runs the root agent and all its calls to their ends.
///
/// # Errors
/// When a run's thread cannot be started.
pub fn run_once(
    host: &Arc<Host>,
    agents: BTreeMap<String, (Arc<Agent>, u32)>,
    root: Root,
    handle: &Handle,
    events: &Receiver<Event>,
) -> Result<Finished> {
    let mut shell = Shell {
        core: Core::new(Mode::OneShot),
        agents: BTreeMap::new(),
        host,
        handle,
        runs: Runs::new(Arc::clone(host), handle.clone()),
        root_trigger: Some(root.trigger),
        root_runs: Vec::new(),
        max_reruns: if let Reruns::UpTo(max) = root.reruns { max } else { 0 },
        claimed: BTreeMap::new(),
        finished: Finished { last: None, reruns: 0, usage: None, duration: Duration::ZERO, signal: None },
        is_done: false,
    };
    for (name, (agent, granted)) in agents {
        shell.agents.insert(name.clone(), agent);
        let setup = Setup { granted, schedule: None, has_image: true, reruns: Reruns::Never };
        shell.core.add(&name, setup);
    }
    let started = UnixMs::now();
    shell.feed(Input::StartRoot { agent: root.agent, reruns: root.reruns })?;
    while !shell.is_done {
        // The handle keeps a sender, so the channel cannot close.
        let Ok(event) = events.recv() else { break };
        shell.on(event)?;
    }
    shell.finished.duration = UnixMs::now().since(started);
    Ok(shell.finished)
}

struct Shell<'a> {
    core: Core,
    agents: BTreeMap<String, Arc<Agent>>,
    host: &'a Arc<Host>,
    handle: &'a Handle,
    runs: Runs,
    /// Of the first run; reruns have it from the run before.
    root_trigger: Option<Trigger>,
    root_runs: Vec<RunKey>,
    max_reruns: u32,
    /// Claimed for runs that are about to start.
    claimed: BTreeMap<i64, (Identity, Item)>,
    finished: Finished,
    is_done: bool,
}

impl Shell<'_> {
    fn on(&mut self, event: Event) -> Result<()> {
        match event {
            Event::QueueChanged => {
                self.handle.queue_seen();
                self.feed(Input::QueueChanged)
            }
            Event::StatusText { instance, text } => {
                self.host.observer.report(&Report::Status { instance: &instance, text: &text });
                Ok(())
            }
            // Nobody is there to be shown it.
            Event::RerunRequested { .. } | Event::Note { .. } | Event::ReceiptsDue => Ok(()),
            Event::Control { reply, .. } => {
                let _ = reply.send(Err(Refusal::NotAvailable));
                Ok(())
            }
            Event::Kill { instance, reason, reply } => {
                if !self.runs.kill(&instance, &reason, Some(reply.clone())) {
                    let _ = reply.send(Err(format!("run {instance} has ended")));
                }
                Ok(())
            }
            Event::RunEnded { instance, outcome } => self.ended(&instance, *outcome),
            Event::Stop { signal } => {
                // Told twice, it does not wait any more: the next run of the project cleans up.
                self.is_done |= self.finished.signal.replace(signal).is_some();
                self.feed(Input::Stop { kill: true })
            }
        }
    }

    /// Gives the core an input and does what follows, and what follows from that.
    fn feed(&mut self, input: Input) -> Result<()> {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            for action in self.core.handle(input, UnixMs::now()) {
                match action {
                    Action::Claim(wish) => inputs.push(Input::Claimed(self.claim(wish))),
                    Action::Start { run, agent, cause, rerun } => self.start(run, &agent, cause, rerun)?,
                    Action::StartItem { run, item } => self.start_item(run, item)?,
                    Action::RerunLimit { agent, max } => self.note_rerun_limit(&agent, max),
                    Action::KillAll => self.runs.kill_all(OPERATOR),
                    Action::Finish => self.is_done = true,
                    // Of schedulers.
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn claim(&mut self, wish: Wish) -> Claimed {
        // Nothing is pushed out: the items are those of one run, and a process of its own has room for them.
        let order = claim::Order { wish, accepted: BTreeMap::new(), capacity: u64::MAX, max_reruns: 0 };
        let Taken { claimed, items, .. } =
            self.host.store.write(move |tx| claim::take(tx, &order, UnixMs::now())).unwrap_or_else(|error| {
                if let Some(agent) = self.agents.values().next() {
                    self.log(agent, &Entry::new(Level::Error, "claim failed").field("error", format!("{error:#}")));
                }
                Taken::default()
            });
        self.claimed.extend(items);
        claimed
    }

    fn start_item(&mut self, key: RunKey, item: i64) -> Result<()> {
        let Some((identity, item)) = self.claimed.remove(&item) else { return Ok(()) };
        let Some(agent) = self.agents.get(&item.agent) else { return Ok(()) };
        self.runs.start(key, item_order(Arc::clone(agent), identity, item, 1), None)
    }

    /// The run that the process exists for, or a rerun of it, registered at the gateway.
    fn start(&mut self, key: RunKey, agent: &str, cause: Cause, rerun: u32) -> Result<()> {
        let Some(agent) = self.agents.get(agent).cloned() else { return Ok(()) };
        let trigger = match cause {
            Cause::RerunOf(before) => self.runs.chain(before),
            _ => self.root_trigger.take(),
        };
        let Some(trigger) = trigger else { return Ok(()) };
        if rerun > 0 {
            let entry = Entry::new(Level::Info, format!("{} requested rerun", agent.name));
            self.log(&agent, &entry.field("rerun", rerun).field("maxReruns", self.max_reruns));
            self.finished.reruns = rerun;
        }
        let order = free_order(agent, trigger, rerun, self.max_reruns);
        let (identity, origin) = (order.identity.clone(), order.origin.clone());
        self.host.store.write(move |tx| containers::register(tx, &identity, &origin, None, UnixMs::now()))?;
        self.root_runs.push(key);
        self.runs.start(key, order, None)
    }

    fn ended(&mut self, instance: &str, outcome: Outcome) -> Result<()> {
        let Some(running) = self.runs.ended(instance, outcome.result) else { return Ok(()) };
        let (key, result) = (running.key, outcome.result);
        if self.root_runs.contains(&key) {
            if let Some(usage) = outcome.usage {
                *self.finished.usage.get_or_insert_default() += usage;
            }
            self.finished.last = Some((running.info.clone(), outcome));
        }
        Runs::join(running);
        self.feed(Input::Ended { run: key, result })?;
        self.runs.forget(key);
        Ok(())
    }

    fn note_rerun_limit(&self, agent: &str, max: u32) {
        if let Some(agent) = self.agents.get(agent) {
            let entry = Entry::new(Level::Warn, format!("{} hit max reruns limit", agent.name));
            self.log(agent, &entry.field("maxReruns", max));
        }
    }

    /// Writes an entry to an agent's log and shows it.
    fn log(&self, agent: &Agent, entry: &Entry) {
        agent.log.write(entry);
        self.host.observer.report(&Report::Entry { agent: agent.name.as_str(), entry });
    }
}
