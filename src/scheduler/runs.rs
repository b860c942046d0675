//! The runs of this process: one thread each, with a switch to end it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Result;

use super::claim::new_identity;
use super::core::RunKey;
use super::handle::{Event, Handle};
use crate::base::worker;
use crate::model::event::Trigger;
use crate::model::outcome::{Outcome, RunResult};
use crate::run::kill::{KillSwitch, Reply};
use crate::run::life::{Agent, End, Host, Inherited, Order, carry_on, carry_out};
use crate::run::observer::RunInfo;
use crate::store::containers::{Identity, Origin};
use crate::store::items::{self, Item, Kind};

/// All runs that go on.
pub(super) struct Runs {
    host: Arc<Host>,
    handle: Handle,
    running: BTreeMap<String, Running>,
    /// What runs that asked for another one were started by, until that one starts or cannot.
    chains: HashMap<RunKey, Trigger>,
}

/// A run that goes on.
pub(super) struct Running {
    pub(super) key: RunKey,
    pub(super) info: RunInfo,
    pub(super) trigger: Trigger,
    kill: Arc<KillSwitch>,
    thread: JoinHandle<Result<()>>,
}

impl Runs {
    pub(super) fn new(host: Arc<Host>, handle: Handle) -> Self {
        Self { host, handle, running: BTreeMap::new(), chains: HashMap::new() }
    }

    /// Starts a run whose registration is committed; `inherited` when its container is there already.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub(super) fn start(&mut self, key: RunKey, order: Order, inherited: Option<Inherited>) -> Result<()> {
        let info = order.info();
        let trigger = order.trigger.clone();
        let kill = Arc::new(KillSwitch::default());
        let (host, handle, switch) = (Arc::clone(&self.host), self.handle.clone(), Arc::clone(&kill));
        let instance = info.instance.clone();
        let thread = worker::spawn(format!("run-{instance}"), move || {
            let carried = worker::guarded(|| match inherited {
                Some(inherited) => carry_on(&host, &order, &switch, inherited),
                None => carry_out(&host, &order, &switch),
            });
            match carried {
                Ok(End::Ended(outcome)) => handle.send(Event::RunEnded { instance, outcome }),
                Ok(End::Left) => {}
                Err(error) => {
                    handle.send(Event::RunEnded { instance, outcome: Box::new(Outcome::not_started(&error)) })
                }
            }
        })?;
        self.running.insert(info.instance.clone(), Running { key, info, trigger, kill, thread });
        Ok(())
    }

    /// Takes a run out that said that it has ended; what it leaves behind of its chain stays until [`Runs::chain`] or
    /// [`Runs::forget`].
    pub(super) fn ended(&mut self, instance: &str, result: RunResult) -> Option<Running> {
        let running = self.running.remove(instance)?;
        if result == RunResult::Rerun {
            self.chains.insert(running.key, running.trigger.clone());
        }
        Some(running)
    }

    /// Waits for the thread of a run that was taken out: its last act was to say so.
    pub(super) fn join(running: Running) {
        let _ = worker::join(running.thread);
    }

    /// What the run was started by that asked for another one.
    pub(super) fn chain(&mut self, run: RunKey) -> Option<Trigger> {
        self.chains.remove(&run)
    }

    /// A rerun could not start yet: what it was to be started by stays.
    pub(super) fn remember(&mut self, run: RunKey, trigger: Trigger) {
        self.chains.insert(run, trigger);
    }

    /// Whether there is a run of this name.
    pub(super) fn is_running(&self, instance: &str) -> bool {
        self.running.contains_key(instance)
    }

    /// No run follows this one.
    pub(super) fn forget(&mut self, run: RunKey) {
        self.chains.remove(&run);
    }

    /// Ends a run. False when there is none of this name.
    pub(super) fn kill(&self, instance: &str, reason: &str, reply: Option<Reply>) -> bool {
        let running = self.running.get(instance);
        if let Some(running) = running {
            running.kill.kill(reason, reply);
        }
        running.is_some()
    }

    /// Ends all runs.
    pub(super) fn kill_all(&self, reason: &str) {
        self.running.values().for_each(|running| running.kill.kill(reason, None));
    }

    /// Instances of an agent, or of all.
    pub(super) fn instances(&self, agent: Option<&str>) -> Vec<String> {
        let of = self.running.values().filter(|running| agent.is_none_or(|agent| agent == running.info.agent));
        of.map(|running| running.info.instance.clone()).collect()
    }

    /// How many runs are being killed.
    pub(super) fn dying(&self) -> usize {
        self.running.values().filter(|running| running.kill.reason().is_some()).count()
    }

    /// Whether no run is still being launched.
    pub(super) fn are_launched(&self) -> bool {
        self.running.values().all(|running| running.kill.is_launched())
    }

    /// Leaves all containers to the next process, and waits for the threads.
    pub(super) fn leave(&mut self) {
        self.running.values().for_each(|running| running.kill.leave());
        for running in std::mem::take(&mut self.running).into_values() {
            Self::join(running);
        }
    }
}

/// The run of an item.
pub(super) fn item_order(agent: Arc<Agent>, identity: Identity, item: Item, most_attempts: u32) -> Order {
    let origin = items::origin(&item);
    let text = |name: &str| item.context.get(name).and_then(serde_json::Value::as_str).map(str::to_owned);
    let trigger = match item.kind {
        Kind::Webhook => Trigger::Webhook { context: item.context.as_object().cloned().unwrap_or_default() },
        Kind::Call | Kind::Trigger => {
            Trigger::Agent { caller: item.source, context: text("context").unwrap_or_default() }
        }
        Kind::Manual => Trigger::Manual { prompt: text("prompt") },
    };
    let attempt = (item.attempts > 1).then_some((item.attempts, most_attempts));
    Order { identity, origin, agent, trigger, max_reruns: 0, attempt }
}

/// A run that works on no item.
pub(super) fn free_order(agent: Arc<Agent>, trigger: Trigger, rerun: u32, max_reruns: u32) -> Order {
    let origin = Origin {
        trigger: trigger.kind(),
        source: trigger.source().map(str::to_owned),
        rerun,
        depth: 0,
        chain: vec![agent.name.to_string()],
        call_id: None,
    };
    Order { identity: new_identity(&agent.name), origin, agent, trigger, max_reruns, attempt: None }
}
