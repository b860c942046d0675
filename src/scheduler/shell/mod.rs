//! The scheduler's thread: it receives events, asks the core, carries out what follows.
//!
//! It never waits for the disk, for Docker or for a run: whatever takes time happens on another thread and comes back
//! as a message.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use crossbeam_channel::{Receiver, Sender, select};
use serde_json::Value;

use super::builds::Builds;
use super::claim::{self, Taken};
use super::core::{Action, Cause, Claimed, Core, Input, Mode, Reruns, RunKey, Scheduled, Setup, Token, Wish};
use super::handle::{Event, Handle};
use super::outlet::{Inlet, Message, Outlet};
use super::runs::{Runs, free_order, item_order};
use super::status::{RunShown, Status};
use crate::base::clock::UnixMs;
use crate::base::log::{Entry, Level, Log};
use crate::config::schedule::Zone;
use crate::config::{self, Project};
use crate::docker::image::Images;
use crate::model::event::Trigger;
use crate::model::outcome::Outcome;
use crate::run::fingerprint::Fingerprint;
use crate::run::image_maker::ImageMaker;
use crate::run::life::{Agent, Host, Order};
use crate::store;
use crate::store::containers::{self, Identity};
use crate::store::items::Item;
use crate::webhooks::Bindings;

mod control;
mod ending;
mod images;
mod queue;
pub(super) mod reload;
mod surroundings;

pub use reload::Check;

/// Longest sleep: clocks jump, machines are suspended.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// What a scheduler is made of.
pub struct Parts {
    pub host: Arc<Host>,
    pub project: Arc<Project>,
    pub zone: Zone,
    pub agents: Vec<config::Agent>,
    /// Agents whose start goes on with a run of an earlier process.
    pub adopted: Vec<super::recover::Adoption>,
    pub maker: Arc<ImageMaker>,
    /// What Docker has of the agents' images, when it was asked for.
    pub known: Option<Images>,
    /// Checks an agent whose files have changed.
    pub check: Check,
    pub handle: Handle,
    pub outlet: Outlet,
    pub inlet: Inlet,
    pub events: Receiver<Event>,
    /// The scheduler's own log.
    pub log: Arc<Log>,
    /// Told of what the process has to do for it.
    pub phases: Sender<Phase>,
    /// Size of `/tmp` in containers.
    pub tmp_bytes: u64,
    pub flags: Flags,
    /// Name of a corrupt database that was set aside.
    pub set_aside: Option<String>,
    pub info: Shown,
}

/// Stored flags at the start.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    pub paused: bool,
    /// Agents that a person has paused.
    pub disabled: Vec<String>,
    /// The last process did not end as it should.
    pub unclean: bool,
}

/// What is shown once the start is complete.
#[derive(Clone, Debug)]
pub struct Shown {
    pub started_at: UnixMs,
    pub port: u16,
    pub dashboard: bool,
}

/// What the process has to do for the scheduler.
#[derive(Debug)]
pub enum Phase {
    /// Queued items start, schedules count.
    Ready,
    /// Nothing new is started: listeners are to be closed, then [`Outlet::gateway_closed`]. `left`: runs that go on.
    Closing { left: usize },
    /// The network was made again and may have another address. Dropping this tells that it was dealt with.
    NetworkChanged(Sender<Infallible>),
}

/// How a scheduler ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// As asked for.
    Cleanly,
    /// A second signal killed what was running.
    ByForce { signal: i32 },
}

/// An agent as the scheduler has it.
struct Definition {
    config: config::Agent,
    /// What its runs have in common; the image is the last one that was built.
    agent: Arc<Agent>,
    has_image: bool,
    /// What its image was built from; `None` when its files could not be read.
    fingerprint: Option<Fingerprint>,
}

/// The scheduler.
pub struct Scheduler {
    host: Arc<Host>,
    project: Arc<Project>,
    zone: Zone,
    agents: BTreeMap<String, Definition>,
    core: Core,
    status: Status,
    runs: Runs,
    builds: Builds,
    reloads: reload::Reloads,
    maker: Arc<ImageMaker>,
    known: Option<Images>,
    handle: Handle,
    outlet: Outlet,
    inlet: Inlet,
    events: Receiver<Event>,
    log: Arc<Log>,
    phases: Sender<Phase>,
    tmp_bytes: u64,
    shown: Shown,
    unclean: bool,
    /// Claimed for runs that are about to start.
    claimed: BTreeMap<i64, (Identity, Item)>,
    /// Orders that wait for their registration.
    pending: HashMap<RunKey, Token>,
    wishes: HashMap<u64, control::Wanted>,
    next_token: u64,
    queue: queue::Upkeep,
    images: images::FirstBuilds,
    /// The run that the core has just been told of.
    resumed: Option<RunKey>,
    leftovers: surroundings::Leftovers,
    stopping: ending::Stopping,
}

impl Scheduler {
    /// A scheduler whose agents are known to everybody from now on. Nothing starts before [`Scheduler::run`].
    ///
    /// # Errors
    /// When the system refuses threads.
    pub fn new(parts: Parts) -> Result<Self> {
        let Parts { host, project, zone, agents, adopted, maker, check, handle, outlet, inlet, events, log, .. } =
            parts;
        let settings = &project.settings;
        let limit = settings.scale.map(|scale| u32::try_from(scale).unwrap_or(u32::MAX));
        let info = crate::model::status::SchedulerInfo::new(settings.project_name.clone(), parts.info.started_at);
        let told = outlet.clone();
        let builds = Builds::start(Arc::clone(&maker), move |built| told.send(Message::Built(built)))?;
        let reloads = reload::Reloads::start(Arc::clone(&project), check, outlet.clone())?;
        let mut scheduler = Self {
            core: Core::new(Mode::Scheduler { limit }),
            status: Status::new(info, settings.max_call_depth),
            runs: Runs::new(Arc::clone(&host), handle.clone()),
            agents: BTreeMap::new(),
            claimed: BTreeMap::new(),
            pending: HashMap::new(),
            wishes: HashMap::new(),
            next_token: 0,
            queue: queue::Upkeep::default(),
            images: images::FirstBuilds::default(),
            resumed: None,
            leftovers: surroundings::Leftovers::default(),
            stopping: ending::Stopping::default(),
            phases: parts.phases,
            tmp_bytes: parts.tmp_bytes,
            shown: parts.info,
            unclean: parts.flags.unclean,
            host,
            project,
            zone,
            builds,
            reloads,
            maker,
            known: parts.known,
            handle,
            outlet,
            inlet,
            events,
            log,
        };
        for config in agents {
            let fingerprint = crate::run::fingerprint::fingerprint(&config.dir).ok();
            scheduler.define(config, fingerprint);
        }
        scheduler.allocate();
        scheduler.bind();
        scheduler.apply_flags(&parts.flags);
        if let Some(file) = parts.set_aside {
            scheduler.status.note("scheduler", format!("database was corrupt and has been set aside: {file}"));
        }
        for adoption in adopted {
            scheduler.adopt(adoption)?;
        }
        scheduler.publish();
        Ok(scheduler)
    }

    /// Runs until it is told to stop.
    ///
    /// # Errors
    /// When what every agent stands on cannot be built, or none of the agents' images.
    pub fn run(mut self) -> Result<Stopped> {
        let ended = self.serve();
        if ended.is_err() {
            self.leave();
        }
        ended
    }

    fn serve(&mut self) -> Result<Stopped> {
        self.start_builds();
        loop {
            self.publish();
            let wait = self.sleep();
            let (messages, reports) = (self.inlet.messages.clone(), self.inlet.reports.clone());
            let events = self.events.clone();
            select! {
                recv(messages) -> message => if let Ok(message) = message { self.on_message(message)? },
                recv(reports) -> report => if let Ok(report) = report { self.on_report(report) },
                recv(events) -> event => if let Ok(event) = event { self.on_event(event) },
                default(wait) => self.feed(Input::Timer),
            }
            self.on_time();
            if let Some(stopped) = self.is_over()? {
                return Ok(stopped);
            }
        }
    }

    /// How long nothing has to be done unless something happens.
    fn sleep(&self) -> Duration {
        let now = UnixMs::now();
        let until_wake = self.core.next_wake().map(|wake| wake.since(now));
        let clock = Instant::now();
        let until = |instant: Option<Instant>| instant.map(|instant| instant.saturating_duration_since(clock));
        let others = [until(self.queue.next()), until(self.leftovers.next()), until(self.stopping.next())];
        others.into_iter().flatten().chain(until_wake).fold(LONGEST_SLEEP, Duration::min)
    }

    /// Does what is due by time alone.
    fn on_time(&mut self) {
        let now = UnixMs::now();
        if self.core.next_wake().is_some_and(|wake| wake <= now) {
            self.feed(Input::Timer);
        }
        let clock = Instant::now();
        self.keep_up(clock);
        self.remove_leftovers(clock);
        self.go_on_stopping(clock);
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::QueueChanged => self.queue_changed(),
            Event::StatusText { instance, text } => self.status.status_text(&instance, &text),
            Event::RerunRequested { instance } => self.status.rerun_requested(&instance),
            Event::Note { agent, message } => self.status.note(&agent, message),
            Event::Kill { instance, reason, reply } => {
                if !self.runs.kill(&instance, &reason, Some(reply.clone())) {
                    let _ = reply.send(Err(format!("run {instance} has ended")));
                }
            }
            Event::RunEnded { instance, outcome } => self.ended(&instance, &outcome),
            Event::ReceiptsDue => self.clear_receipts(),
            Event::Control { control, reply } => self.control(control, reply),
            Event::Stop { signal } => self.signalled(signal),
        }
    }

    fn on_message(&mut self, message: Message) -> Result<()> {
        match message {
            Message::Taken(taken) => self.taken(taken),
            Message::Registered { key, order, result } => self.registered(key, *order, result),
            Message::Flag { flag, result, reply } => self.flag_stored(flag, result, &reply),
            Message::Doomed { instances, reason, result, answer } => self.doomed(&instances, &reason, result, answer),
            Message::Enqueued { result, reply } => self.enqueued(result, &reply),
            Message::Buried(items) => self.note_buried(&items),
            Message::Built(built) => self.built(built)?,
            Message::Docker(change) => self.docker_changed(change),
            Message::DockerChecked(result) => self.docker_checked(result),
            Message::Storage(health) => self.storage_changed(health),
            Message::Changed(agent) => self.look_at(&agent),
            Message::Prepared(prepared) => self.prepared(*prepared),
            Message::Leftover(container) => self.still_there(container),
            Message::GatewayClosed => self.stopping.gateway_closed(),
            Message::Log(entry) => self.log.write(&entry),
        }
        Ok(())
    }

    /// Gives the core an input and does what follows, and what follows from that.
    fn feed(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            for action in self.core.handle(input, UnixMs::now()) {
                inputs.extend(self.carry_out(action));
            }
        }
    }

    fn carry_out(&mut self, action: Action) -> Option<Input> {
        match action {
            Action::Claim(wish) => return self.claim(wish),
            Action::Start { run, agent, cause, rerun } => return self.start(run, &agent, cause, rerun),
            Action::StartItem { run, item } => self.start_item(run, item),
            Action::Resume { run } => self.resumed = Some(run),
            Action::Refuse { token, why } => self.refused(token, why),
            Action::TickSkipped { agent, running, scale } => {
                let fields = [("running", running.into()), ("scale", scale.into())];
                self.say_of(Level::Warn, "all agent runners busy, skipping scheduled run", &agent, &fields);
            }
            Action::InitialSkipped { agent } => {
                let msg = format!("{agent}: all runners busy, skipping initial run");
                self.say_of(Level::Warn, &msg, &agent, &[]);
            }
            Action::RerunLimit { agent, max } => {
                let msg = format!("{agent} hit max reruns limit");
                self.say_of(Level::Warn, &msg, &agent, &[("maxReruns", max.into())]);
            }
            Action::NextFiring { agent, at } => self.status.set_next_run(&agent, at),
            Action::KillAll => self.runs.kill_all(ending::STOPPED),
            // Of one-shot runs.
            Action::Finish => {}
        }
        None
    }

    /// Asks the store for work; answers at once when there is certainly none.
    fn claim(&mut self, wish: Wish) -> Option<Input> {
        self.handle.queue_seen();
        let order = self.queue.order(wish, &self.host.store, &self.project.settings);
        let Some(order) = order else {
            let accepted = std::mem::take(&mut self.queue.accepted);
            accepted.iter().for_each(|item| self.note_queued(item));
            return Some(Input::Claimed(Claimed::default()));
        };
        let outlet = self.outlet.clone();
        self.host.store.submit(
            move |tx| claim::take(tx, &order, UnixMs::now()),
            move |taken| outlet.send(Message::Taken(taken.map(Box::new))),
        );
        None
    }

    fn taken(&mut self, taken: Result<Box<Taken>>) {
        match taken {
            Ok(taken) => {
                let Taken { claimed, items, pushed_out } = *taken;
                self.note_claimed(&items);
                self.claimed.extend(items);
                self.note_buried(&pushed_out);
                self.feed(Input::Claimed(claimed));
            }
            Err(error) => {
                self.say(Level::Error, "claim failed", &[("err", format!("{error:#}").into())]);
                // Nothing is claimed while nothing can be committed; then everything is looked at again.
                self.feed(Input::Claimed(Claimed::default()));
            }
        }
        self.push_out();
    }

    fn start_item(&mut self, key: RunKey, item: i64) {
        let Some((identity, item)) = self.claimed.remove(&item) else { return };
        let Some(definition) = self.agents.get(&item.agent) else {
            // Removed while the claim was committed: the item waits for it to come back.
            return self.unclaim(key, &identity, &item.agent);
        };
        let most = self.host.retries.max_attempts;
        let order = item_order(Arc::clone(&definition.agent), identity, item, most);
        self.launch(key, order);
    }

    /// Registers a run that works on no item; it starts when that is committed.
    fn start(&mut self, key: RunKey, agent: &str, cause: Cause, rerun: u32) -> Option<Input> {
        let Some(definition) = self.agents.get(agent) else { return Some(Input::NotStarted { run: key }) };
        let runner = Arc::clone(&definition.agent);
        let max = self.project.settings.max_reruns;
        let trigger = match cause {
            Cause::Tick => {
                let scale = self.core.granted(agent);
                let running = self.runs.instances(Some(agent)).len();
                let fields = [("running", running.into()), ("scale", scale.into())];
                self.say_of(Level::Info, "triggering scheduled run", agent, &fields);
                Trigger::Schedule
            }
            Cause::Initial => {
                self.say_of(Level::Info, &format!("Initial run for {agent}"), agent, &[]);
                Trigger::Schedule
            }
            Cause::Manual(token) => {
                self.pending.insert(key, token);
                Trigger::Manual { prompt: self.wishes.get_mut(&token.0).and_then(control::Wanted::take_prompt) }
            }
            Cause::RerunOf(before) => {
                let fields = [("rerun", rerun.into()), ("maxReruns", max.into())];
                self.say_of(Level::Info, &format!("{agent} requested rerun"), agent, &fields);
                self.runs.chain(before).unwrap_or(Trigger::Schedule)
            }
            Cause::Root => return Some(Input::NotStarted { run: key }),
        };
        let order = Box::new(free_order(runner, trigger, rerun, max));
        let (identity, origin) = (order.identity.clone(), order.origin.clone());
        let outlet = self.outlet.clone();
        self.host.store.submit(
            move |tx| containers::register(tx, &identity, &origin, None, UnixMs::now()),
            move |result| outlet.send(Message::Registered { key, order, result }),
        );
        None
    }

    fn registered(&mut self, key: RunKey, order: Order, result: Result<()>) {
        let token = self.pending.remove(&key);
        let instance = order.identity.instance.to_string();
        match result {
            Ok(()) => {
                self.launch(key, order);
                if let Some(token) = token {
                    self.started_for(token, instance);
                }
            }
            Err(error) => {
                self.say(Level::Error, "run could not be registered", &[("err", format!("{error:#}").into())]);
                if let Some(token) = token {
                    self.failed_for(token, &error);
                }
                self.runs.remember(key, order.trigger);
                self.feed(Input::NotStarted { run: key });
                if !self.core.is_held(key) {
                    self.runs.forget(key);
                }
            }
        }
    }

    /// Starts the thread of a registered run.
    fn launch(&mut self, key: RunKey, order: Order) {
        let shown = shown(&order, UnixMs::now());
        self.status.run_started(&shown);
        if let Err(error) = self.runs.start(key, order, None) {
            let outcome = Outcome::not_started(&error);
            self.say_of(
                Level::Error,
                "run could not be started",
                &shown.agent,
                &[("err", format!("{error:#}").into())],
            );
            self.abandon(key, &shown, outcome);
        } else if let Some(reason) = self.doom_of(&shown.agent) {
            self.doom(vec![shown.instance], reason, None);
        }
    }

    /// Why a run is killed that was registered while its agent was removed, or everything was being killed.
    fn doom_of(&self, agent: &str) -> Option<&'static str> {
        self.stopping.doom().or_else(|| (!self.agents.contains_key(agent)).then_some(reload::REMOVED))
    }

    /// Gives a claimed item back whose agent is gone.
    fn unclaim(&mut self, key: RunKey, identity: &Identity, agent: &str) {
        let outcome = Outcome::not_started(&anyhow::anyhow!("agent {agent} was removed"));
        let (instance, policy, result) = (identity.instance.to_string(), self.host.retries, outcome.result);
        self.host
            .store
            .submit(move |tx| store::runs::finish_run(tx, &instance, &outcome, &policy, UnixMs::now()), |_| {});
        self.feed(Input::Ended { run: key, result });
    }

    /// Ends a registered run that never got a thread.
    fn abandon(&mut self, key: RunKey, shown: &RunShown, outcome: Outcome) {
        let (instance, policy) = (shown.instance.clone(), self.host.retries);
        let recorded = outcome.clone();
        self.host
            .store
            .submit(move |tx| store::runs::finish_run(tx, &instance, &recorded, &policy, UnixMs::now()), |_| {});
        self.status.run_ended(&shown.agent, &shown.instance, &outcome);
        self.feed(Input::Ended { run: key, result: outcome.result });
    }

    fn ended(&mut self, instance: &str, outcome: &Outcome) {
        let Some(running) = self.runs.ended(instance, outcome.result) else { return };
        let (key, agent) = (running.key, running.info.agent.clone());
        Runs::join(running);
        self.status.run_ended(&agent, instance, outcome);
        self.feed(Input::Ended { run: key, result: outcome.result });
        if !self.core.is_held(key) {
            self.runs.forget(key);
        }
        self.after_run(&agent);
        // The image that it ran in may have been replaced meanwhile.
        self.tidy_images();
    }

    // Agents.

    /// Takes an agent in, or what it is now.
    fn define(&mut self, config: config::Agent, fingerprint: Option<Fingerprint>) {
        let name = config.name.to_string();
        let agent = Arc::new(crate::run::assemble::agent(&self.project, &config, images::missing()));
        self.agents.insert(name, Definition { config, agent, has_image: false, fingerprint });
    }

    /// Shares the project's slots out and tells everybody what each agent is.
    fn allocate(&mut self) {
        let wanted = self.agents.iter().map(|(name, definition)| (name.clone(), wanted(&definition.config))).collect();
        let limit = self.project.settings.scale.map(|scale| u32::try_from(scale).unwrap_or(u32::MAX));
        let (granted, reduced) = super::allocation::allocate(&wanted, limit);
        for less in reduced {
            let fields = [
                ("requested", less.requested.into()),
                ("reduced", less.granted.into()),
                ("projectLimit", limit.into()),
            ];
            self.say_of(Level::Warn, "Agent scale reduced due to project scale limit", &less.agent, &fields);
        }
        for (name, slots) in granted {
            let Some(definition) = self.agents.get(&name) else { continue };
            self.status.set_agent(&name, wanted[&name], slots, definition.config.timeout);
            if slots != self.core.granted(&name) {
                self.say_of(Level::Info, "Created runner pool", &name, &[("scale", slots.into())]);
            }
            let setup = Setup {
                granted: slots,
                schedule: self.schedule_of(&definition.config),
                has_image: definition.has_image,
                reruns: Reruns::UpTo(self.project.settings.max_reruns),
            };
            self.feed(Input::Agent { name, setup });
        }
    }

    fn schedule_of(&self, config: &config::Agent) -> Option<Scheduled> {
        let schedule = config.schedule.clone()?;
        let zone = self.zone.clone();
        let text = schedule.text().to_owned();
        let next = super::core::NextFiring::new(move |from| schedule.next(&zone, from));
        Some(Scheduled { text, next })
    }

    /// Publishes which deliveries are for whom.
    fn bind(&mut self) {
        let agents = self.agents.values().filter(|definition| definition.config.is_enabled());
        let triggers = agents.map(|definition| (&definition.config.name, definition.config.triggers.as_slice()));
        let bindings = Bindings::new(self.project.settings.webhooks.values(), triggers);
        self.handle.set_bindings(bindings);
    }

    fn apply_flags(&mut self, flags: &Flags) {
        if flags.paused {
            self.say(Level::Warn, "scheduler is paused", &[]);
            self.status.scheduler(|info| info.paused = true);
            self.status.note("scheduler", "paused since before this start; resume with `al resume`");
            self.feed(Input::Paused(true));
        }
        for agent in flags.disabled.iter().filter(|agent| self.agents.contains_key(*agent)).cloned().collect::<Vec<_>>()
        {
            self.say_of(Level::Warn, "agent is paused", &agent, &[]);
            self.status.set_paused(&agent, true);
            self.status.note(&agent, format!("paused since before this start; resume with `al resume {agent}`"));
            self.feed(Input::Enabled { agent, is_enabled: false });
        }
    }

    fn adopt(&mut self, adoption: super::recover::Adoption) -> Result<()> {
        let agent = adoption.agent.clone();
        let Some(definition) = self.agents.get(&agent) else { return Ok(()) };
        let max = self.project.settings.max_reruns;
        let kill_reason = adoption.kill_reason();
        let (order, inherited, reruns) = adoption.order(Arc::clone(&definition.agent), max);
        let fields = [
            ("instance", Value::from(order.identity.instance.as_str())),
            ("container", order.identity.instance.container_name().into()),
        ];
        self.say_of(Level::Info, "re-adopting container", &agent, &fields);
        let shown = shown(&order, inherited.started_at);
        self.status.run_adopted(&shown);
        self.feed(Input::Adopted { agent, rerun: order.origin.rerun, reruns });
        let Some(key) = self.resumed.take() else { return Ok(()) };
        let instance = order.identity.instance.to_string();
        self.runs.start(key, order, Some(inherited))?;
        if let Some(reason) = kill_reason {
            self.runs.kill(&instance, &reason, None);
        }
        Ok(())
    }

    fn publish(&mut self) {
        let queued = self.host.store.queued_counts();
        self.status.publish(&self.handle, &queued);
    }

    // The scheduler's log.

    fn say(&self, level: Level, msg: &str, fields: &[(&str, Value)]) {
        let entry = fields.iter().fold(Entry::new(level, msg), |entry, (name, value)| entry.field(name, value.clone()));
        self.log.write(&entry);
    }

    fn say_of(&self, level: Level, msg: &str, agent: &str, fields: &[(&str, Value)]) {
        let all: Vec<_> = [("agent", agent.into())].into_iter().chain(fields.iter().cloned()).collect();
        self.say(level, msg, &all);
    }
}

/// Slots that an agent asks for.
fn wanted(config: &config::Agent) -> u32 {
    u32::try_from(config.scale).unwrap_or(u32::MAX)
}

/// What is shown of a run that starts.
fn shown(order: &Order, started_at: UnixMs) -> RunShown {
    let reason = match &order.trigger {
        Trigger::Webhook { context } => {
            format!("webhook ({})", context.get("event").and_then(Value::as_str).unwrap_or_default())
        }
        Trigger::Agent { caller, .. } => format!("triggered by {caller}"),
        Trigger::Schedule | Trigger::Manual { .. } => order.details(),
    };
    let trigger = match (&order.trigger, order.trigger.source()) {
        (Trigger::Webhook { .. }, Some(provider)) => format!("webhook:{provider}"),
        (Trigger::Agent { .. }, Some(caller)) => format!("agent:{caller}"),
        (trigger, _) => trigger.kind().as_str().to_owned(),
    };
    RunShown {
        instance: order.identity.instance.to_string(),
        agent: order.agent.name.to_string(),
        trigger,
        reason,
        details: order.details(),
        depth: order.origin.depth,
        started_at,
    }
}
