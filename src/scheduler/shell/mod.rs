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
use super::core::{Action, Core, Input, Mode, RunKey, Token};
use super::handle::{Event, Handle};
use super::outlet::{Inlet, Message, Outlet};
use super::runs::Runs;
use super::status::Status;
use crate::base::Cancel;
use crate::base::clock::UnixMs;
use crate::base::log::{Entry, Level, Log};
use crate::config::schedule::Zone;
use crate::config::{self, Project};
use crate::docker::image::Images;
use crate::run::fingerprint::Fingerprint;
use crate::run::image_maker::ImageMaker;
use crate::run::life::{Agent, Host};
use crate::store::containers::Identity;
use crate::store::items::Item;

mod agents;
mod control;
mod ending;
mod images;
mod launch;
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
    /// Ends its builds.
    pub end_builds: Cancel,
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
    /// Who waits for the run of an order that waits for its registration.
    pending: HashMap<RunKey, Token>,
    /// How many orders wait for theirs.
    registering: usize,
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
        let tell = move |built| told.send(Message::Built(built));
        let builds = Builds::start(Arc::clone(&maker), parts.end_builds, tell)?;
        let reloads = reload::Reloads::start(Arc::clone(&project), check, outlet.clone())?;
        let mut scheduler = Self {
            core: Core::new(Mode::Scheduler { limit }),
            status: Status::new(info, settings.max_call_depth),
            runs: Runs::new(Arc::clone(&host), handle.clone()),
            agents: BTreeMap::new(),
            claimed: BTreeMap::new(),
            pending: HashMap::new(),
            registering: 0,
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
