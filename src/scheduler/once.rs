//! One run by hand and everything it calls, then the end: the scheduler of `al run` (scheduler.md §15.3).
//!
//! The core decides; this is the shell around it, on the thread that called it: it receives events, carries out actions
//! and has one thread per run.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use crossbeam_channel::Receiver;
use shims::wire::usage::Usage;

use super::core::{Action, Core, Input, Reruns, RunKey};
use super::handle::{Event, Handle, Refusal};
use crate::base::clock::UnixMs;
use crate::base::log::{Entry, Level};
use crate::base::worker;
use crate::base::{Secret, ids};
use crate::model::event::Trigger;
use crate::model::names::AgentName;
use crate::model::names::InstanceId;
use crate::model::outcome::{Class, Outcome, RunResult};
use crate::run::kill::KillSwitch;
use crate::run::life::{Agent, Host, Order, carry_out};
use crate::run::observer::{Report, RunInfo};
use crate::run::outcome::OPERATOR;
use crate::store::containers::{self, Identity, Origin};
use crate::store::items::{self, Item};

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
    let scales = agents.iter().map(|(name, (_, scale))| (name.clone(), *scale));
    let mut shell = Shell {
        core: Core::new(scales),
        agents: agents.into_iter().map(|(name, (agent, _))| (name, agent)).collect(),
        host,
        handle,
        root_trigger: root.trigger,
        max_reruns: if let Reruns::UpTo(max) = root.reruns { max } else { 0 },
        claimed: HashMap::new(),
        running: HashMap::new(),
        finished: Finished { last: None, reruns: 0, usage: None, duration: Duration::ZERO, signal: None },
        is_done: false,
    };
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
    root_trigger: Trigger,
    max_reruns: u32,
    /// Claimed for a run that is about to start.
    claimed: HashMap<i64, (Identity, Item)>,
    running: HashMap<String, Running>,
    finished: Finished,
    is_done: bool,
}

struct Running {
    key: RunKey,
    info: RunInfo,
    is_root: bool,
    kill: Arc<KillSwitch>,
    thread: JoinHandle<Result<()>>,
}

impl Shell<'_> {
    fn on(&mut self, event: Event) -> Result<()> {
        match event {
            Event::QueueChanged => {
                self.handle.queue_seen();
                self.feed(Input::ItemsQueued)
            }
            Event::StatusText { instance, text } => {
                self.host.observer.report(&Report::Status { instance: &instance, text: &text });
                Ok(())
            }
            // Nobody is there to be shown it.
            Event::RerunRequested { .. } | Event::Note { .. } => Ok(()),
            Event::Control { reply, .. } => {
                let _ = reply.send(Err(Refusal::NotAvailable));
                Ok(())
            }
            Event::Kill { instance, reason, reply } => {
                match self.running.get(&instance) {
                    Some(running) => running.kill.kill(&reason, Some(reply)),
                    None => drop(reply.send(Err(format!("run {instance} has ended")))),
                }
                Ok(())
            }
            Event::RunEnded { instance, outcome } => self.ended(&instance, *outcome),
            Event::Stop { signal } => {
                // Told twice, it does not wait any more: the next run of the project cleans up.
                self.is_done |= self.finished.signal.replace(signal).is_some();
                self.feed(Input::Stop)
            }
        }
    }

    /// Gives the core an input and does what follows, and what follows from that.
    fn feed(&mut self, input: Input) -> Result<()> {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            for action in self.core.handle(input) {
                match action {
                    Action::Claim { agent } => {
                        let item = self.claim(&agent);
                        inputs.push(Input::Claimed { agent, item });
                    }
                    Action::Start { run, agent, item, rerun } => self.start(run, &agent, item, rerun)?,
                    Action::RerunLimit { agent, max } => self.note_rerun_limit(&agent, max),
                    Action::KillAll => self.running.values().for_each(|running| running.kill.kill(OPERATOR, None)),
                    Action::Finish => self.is_done = true,
                }
            }
        }
        Ok(())
    }

    /// Takes the oldest queued item of an agent: from the commit on it is running, as the instance made here.
    fn claim(&mut self, name: &str) -> Option<i64> {
        let agent = self.agents.get(name)?;
        let identity = new_identity(&agent.name);
        let (claimer, for_agent) = (identity.clone(), name.to_owned());
        let claim = self.host.store.write(move |tx| items::claim_next(tx, &for_agent, &claimer, UnixMs::now()));
        match claim {
            Ok(item) => {
                let item = item?;
                let id = item.id;
                self.claimed.insert(id, (identity, item));
                Some(id)
            }
            Err(error) => {
                self.log(agent, &Entry::new(Level::Error, "claim failed").field("error", format!("{error:#}")));
                None
            }
        }
    }

    fn start(&mut self, key: RunKey, agent: &str, item: Option<i64>, rerun: u32) -> Result<()> {
        let Some(agent) = self.agents.get(agent).cloned() else { return Ok(()) };
        let claimed = item.and_then(|item| self.claimed.remove(&item));
        let is_root = claimed.is_none();
        let order = match claimed {
            Some((identity, item)) => called_order(agent, identity, item),
            None => self.root_order(agent, rerun)?,
        };
        let info = order.info();
        let kill = Arc::new(KillSwitch::default());
        let (host, handle, switch) = (Arc::clone(self.host), self.handle.clone(), Arc::clone(&kill));
        let instance = info.instance.clone();
        let thread = worker::spawn(format!("run-{instance}"), move || {
            let outcome = worker::guarded(|| carry_out(&host, &order, &switch)).unwrap_or_else(|error| crashed(&error));
            handle.send(Event::RunEnded { instance, outcome: Box::new(outcome) });
        })?;
        self.running.insert(info.instance.clone(), Running { key, info, is_root, kill, thread });
        Ok(())
    }

    /// The run that the process exists for, or a rerun of it, registered at the gateway.
    fn root_order(&mut self, agent: Arc<Agent>, rerun: u32) -> Result<Order> {
        if rerun > 0 {
            let entry = Entry::new(Level::Info, format!("{} requested rerun", agent.name));
            self.log(&agent, &entry.field("rerun", rerun).field("maxReruns", self.max_reruns));
            self.finished.reruns = rerun;
        }
        let identity = new_identity(&agent.name);
        let origin = Origin {
            trigger: self.root_trigger.kind(),
            source: self.root_trigger.source().map(str::to_owned),
            rerun,
            depth: 0,
            chain: vec![agent.name.to_string()],
            call_id: None,
        };
        let (registered, origin_of) = (identity.clone(), origin.clone());
        self.host.store.write(move |tx| containers::register(tx, &registered, &origin_of, None, UnixMs::now()))?;
        let trigger = self.root_trigger.clone();
        Ok(Order { identity, origin, agent, trigger, max_reruns: self.max_reruns })
    }

    fn ended(&mut self, instance: &str, outcome: Outcome) -> Result<()> {
        let Some(running) = self.running.remove(instance) else { return Ok(()) };
        // Its last act was to send the event; what is left of it takes no time.
        let _ = worker::join(running.thread);
        let (key, result) = (running.key, outcome.result);
        if running.is_root {
            if let Some(usage) = outcome.usage {
                *self.finished.usage.get_or_insert_default() += usage;
            }
            self.finished.last = Some((running.info, outcome));
        }
        self.feed(Input::Ended { run: key, result })
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

fn new_identity(agent: &AgentName) -> Identity {
    Identity { instance: InstanceId::generate(agent), secret: Secret::new(ids::uuid_v4()) }
}

/// A run that carries out a call.
fn called_order(agent: Arc<Agent>, identity: Identity, item: Item) -> Order {
    let origin = items::origin(&item);
    let context = item.context.get("context").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    let trigger = Trigger::Agent { caller: item.source, context };
    Order { identity, origin, agent, trigger, max_reruns: 0 }
}

/// The outcome of a run whose thread panicked.
fn crashed(error: &anyhow::Error) -> Outcome {
    let now = UnixMs::now();
    Outcome {
        class: Class::LaunchFailure,
        result: RunResult::Error,
        exit_code: None,
        exit_reason: None,
        error: Some(error.to_string()),
        return_value: None,
        usage: None,
        model_failure: None,
        started_at: now,
        finished_at: now,
    }
}
