//! The scheduler's decisions as a pure state machine: events and facts in, actions out. No thread, clock, I/O or
//! randomness, so that everything surprising about scheduling is a list of events in a test.
//!
//! One machine serves `al start` and `al run`: a one-shot process has no schedules, no cap, and ends when nothing is
//! left to do.

use std::collections::{BTreeMap, VecDeque};

use crate::base::clock::UnixMs;
use crate::model::outcome::RunResult;

mod agents;
#[cfg(test)]
mod tests;

use agents::{Agents, Claimable, Found, TickFate};
pub use agents::{NextFiring, Scheduled, Setup};

/// A clock that goes back further than this has been set; what was computed from it is computed again.
const CLOCK_SET_BACK_MS: i64 = 60_000;

/// Identity of a run inside the core; instance ids are random and therefore made outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunKey(pub u64);

/// Names a wish for a manual run until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(pub u64);

/// What the core is told.
#[derive(Clone, Debug)]
pub enum Input {
    /// Start an agent by hand, whatever its slots say: the run that a one-shot process exists for.
    StartRoot {
        agent: String,
        reruns: Reruns,
    },
    /// An agent is there, or is now like this. Its runs and whether it is enabled are not affected.
    Agent {
        name: String,
        setup: Setup,
    },
    /// An agent has an image to run from.
    ImageReady {
        agent: String,
    },
    /// An agent does not exist any more.
    AgentGone {
        agent: String,
    },
    /// Queued items may start, schedules count.
    Ready,
    /// Agents with a schedule run once, in this order.
    InitialRuns {
        agents: Vec<String>,
    },
    Paused(bool),
    Enabled {
        agent: String,
        is_enabled: bool,
    },
    /// Whether Docker answers.
    Docker(Health),
    /// Whether changes can be committed.
    Storage(Health),
    /// Items may be waiting in the store.
    QueueChanged,
    /// Answer to [`Action::Claim`].
    Claimed(Claimed),
    /// A run of an earlier process goes on. `in_item`: it works on an item.
    Adopted {
        agent: String,
        rerun: u32,
        reruns: Reruns,
    },
    /// A person wants a run.
    Trigger {
        agent: String,
        token: Token,
        reruns: Reruns,
    },
    /// [`Action::Start`] could not be carried out, because nothing can be committed.
    NotStarted {
        run: RunKey,
    },
    /// A run has ended and its record is committed.
    Ended {
        run: RunKey,
        result: RunResult,
    },
    /// Time has passed.
    Timer,
    /// Nothing new is started. `kill`: what runs is killed.
    Stop {
        kill: bool,
    },
}

/// Whether something that everything depends on works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Up,
    Down,
}

/// What was claimed, in the order in which it is to start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claimed {
    pub claims: Vec<Claim>,
    /// Due items may be left although there was room.
    pub more: bool,
    /// When an item is due that is not yet.
    pub next_due: Option<UnixMs>,
}

/// One claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// An item of this agent; it is running now.
    Item { agent: String, item: i64, reruns: Reruns },
    /// The firing of this agent that had to wait is older than every item.
    Tick { agent: String },
}

/// Whether a run that asks for it is run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reruns {
    /// Manual and scheduled runs.
    UpTo(u32),
    /// Webhook and called runs: a rerun counts as completed.
    Never,
}

/// Why a run starts that works on no item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The run of a one-shot process.
    Root,
    /// A firing of its schedule.
    Tick,
    /// The start of the scheduler.
    Initial,
    Manual(Token),
    /// This run asked for it.
    RerunOf(RunKey),
}

/// Why a manual run cannot start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotNow {
    UnknownAgent,
    Disabled,
    NotAvailable,
    NoImage,
    NoFreeSlot,
    ProjectLimit(u32),
    NoStorage,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Register and start a run without an item.
    Start {
        run: RunKey,
        agent: String,
        cause: Cause,
        rerun: u32,
    },
    /// Start the run of an item that was claimed.
    StartItem {
        run: RunKey,
        item: i64,
    },
    /// An adopted run is known by this name.
    Resume {
        run: RunKey,
    },
    /// Take items and waiting firings, oldest first, and answer with [`Input::Claimed`]. One at a time.
    Claim(Wish),
    Refuse {
        token: Token,
        why: NotNow,
    },
    /// A firing was lost, because all slots of the agent are in use.
    TickSkipped {
        agent: String,
        running: u32,
        scale: u32,
    },
    InitialSkipped {
        agent: String,
    },
    /// The agent has asked for more reruns than allowed.
    RerunLimit {
        agent: String,
        max: u32,
    },
    /// The agent fires next at this instant; `None`: not.
    NextFiring {
        agent: String,
        at: Option<UnixMs>,
    },
    /// Kill every run.
    KillAll,
    /// Everything is done.
    Finish,
}

/// What may be claimed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Agents with free slots, and how many.
    pub free: Vec<(String, u32)>,
    /// How many runs more the project may have; `None` is no limit. Without room only calls whose caller runs may be
    /// claimed: it waits for them, and would hold its place for ever.
    pub room: Option<u32>,
    /// Firings that had to wait, by agent.
    pub ticks: Vec<(String, UnixMs)>,
}

#[derive(Debug)]
struct Running {
    agent: String,
    rerun: u32,
    reruns: Reruns,
    cause: Option<Cause>,
    /// Holds a slot of its agent; the root run does not.
    in_slot: bool,
}

/// What kind of process this is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Runs until it is stopped. `limit`: most runs at once in the project.
    Scheduler { limit: Option<u32> },
    /// Ends when nothing is left to do.
    OneShot,
}

/// The state machine.
pub struct Core {
    mode: Mode,
    agents: Agents,
    runs: BTreeMap<RunKey, Running>,
    next_key: u64,
    ready: bool,
    paused: bool,
    docker: Health,
    storage: Health,
    /// Something may be claimable since the last claim.
    dirty: bool,
    claiming: bool,
    /// Inputs that depend on slots and arrived during a claim.
    deferred: VecDeque<Input>,
    /// Reruns that wait for the images, Docker or the disk; they keep their slots.
    held: Vec<(RunKey, Running)>,
    next_due: Option<UnixMs>,
    last_seen: UnixMs,
    stopping: bool,
    finished: bool,
}

impl Core {
    /// A machine without agents.
    pub fn new(mode: Mode) -> Self {
        Self {
            mode,
            agents: Agents::default(),
            runs: BTreeMap::new(),
            next_key: 0,
            ready: mode == Mode::OneShot,
            paused: false,
            docker: Health::Up,
            storage: Health::Up,
            dirty: false,
            claiming: false,
            deferred: VecDeque::new(),
            held: Vec::new(),
            next_due: None,
            last_seen: UnixMs(0),
            stopping: false,
            finished: false,
        }
    }

    /// Takes in an event and says what follows from it.
    pub fn handle(&mut self, input: Input, now: UnixMs) -> Vec<Action> {
        let mut actions = Vec::new();
        self.notice_time(now, &mut actions);
        self.take(input, now, &mut actions);
        while !self.claiming
            && let Some(input) = self.deferred.pop_front()
        {
            self.take(input, now, &mut actions);
        }
        self.dispatch(now, &mut actions);
        actions
    }

    /// Adds an agent before anything has happened.
    pub fn add(&mut self, name: &str, setup: Setup) {
        self.agents.set(name, setup);
    }

    /// Whether [`Action::Claim`] waits for its answer.
    pub fn is_claiming(&self) -> bool {
        self.claiming
    }

    /// Whether a run that asked for another one is followed by one later.
    pub fn is_held(&self, run: RunKey) -> bool {
        self.held.iter().any(|(_, held)| held.cause == Some(Cause::RerunOf(run)))
    }

    /// When time alone changes something next.
    pub fn next_wake(&self) -> Option<UnixMs> {
        [self.agents.next_firing(), self.next_due].into_iter().flatten().min()
    }

    /// Armed schedules.
    pub fn armed(&self) -> usize {
        self.agents.armed()
    }

    /// Slots that an agent was granted.
    pub fn granted(&self, agent: &str) -> u32 {
        self.agents.granted(agent)
    }

    fn take(&mut self, input: Input, now: UnixMs, actions: &mut Vec<Action>) {
        if self.claiming && matches!(input, Input::Trigger { .. } | Input::InitialRuns { .. } | Input::Timer) {
            return self.deferred.push_back(input);
        }
        match input {
            Input::StartRoot { agent, reruns } => {
                actions.push(self.start(agent, Cause::Root, 0, reruns, false));
            }
            Input::Agent { name, setup } => {
                self.agents.set(&name, setup);
                self.rearm(Some(&name), now, actions);
            }
            Input::ImageReady { agent } => self.agents.set_image(&agent),
            Input::AgentGone { agent } => {
                self.agents.remove(&agent);
                self.let_go_of(&agent);
            }
            Input::Ready => {
                self.ready = true;
                self.rearm(None, now, actions);
            }
            Input::InitialRuns { agents } => agents.into_iter().for_each(|agent| self.initial(agent, now, actions)),
            Input::Paused(paused) => {
                self.paused = paused;
                self.rearm(None, now, actions);
            }
            Input::Enabled { agent, is_enabled } => {
                self.agents.set_enabled(&agent, is_enabled);
                self.rearm(Some(&agent), now, actions);
            }
            Input::Docker(health) => self.docker = health,
            Input::Storage(health) => self.storage = health,
            Input::QueueChanged => {}
            Input::Claimed(claimed) => {
                self.claimed(claimed, actions);
                // Only what was found to be left needs another look.
                return;
            }
            Input::Adopted { agent, rerun, reruns } => {
                let run = self.enter(agent, None, rerun, reruns, true);
                actions.push(Action::Resume { run });
            }
            Input::Trigger { agent, token, reruns } => match self.why_not_now(&agent) {
                Some(why) => actions.push(Action::Refuse { token, why }),
                None => actions.push(self.start(agent, Cause::Manual(token), 0, reruns, true)),
            },
            Input::NotStarted { run } => self.not_started(run, now),
            Input::Ended { run, result } => self.ended(run, result, actions),
            Input::Timer => self.fire(now, actions),
            Input::Stop { kill } => {
                self.stopping = true;
                self.rearm(None, now, actions);
                if kill {
                    actions.push(Action::KillAll);
                }
            }
        }
        self.dirty = true;
    }

    /// Whether anything may be started that is not asked for by a person.
    fn is_open(&self) -> bool {
        self.can_launch() && !self.stopping && !self.paused
    }

    /// Whether what a run needs is there: images, Docker, the disk.
    fn can_launch(&self) -> bool {
        self.ready && self.docker == Health::Up && self.storage == Health::Up
    }

    /// Whether the agent exists; a one-shot process has only such.
    fn is_known(&self, agent: &str) -> bool {
        self.mode == Mode::OneShot || self.agents.get(agent).is_some()
    }

    fn has_image(&self, agent: &str) -> bool {
        self.mode == Mode::OneShot || self.agents.get(agent).is_some_and(|found| found.has_image)
    }

    /// Ends the chains of an agent that wait.
    fn let_go_of(&mut self, agent: &str) {
        for _ in self.held.extract_if(.., |(_, held)| held.agent == agent).filter(|(_, held)| held.in_slot) {
            self.agents.vacate(agent);
        }
    }

    /// Runs that the project may have more; `None` is no limit.
    fn room(&self) -> Option<u32> {
        let Mode::Scheduler { limit: Some(limit) } = self.mode else { return None };
        Some(limit.saturating_sub(self.agents.busy()))
    }

    fn enter(&mut self, agent: String, cause: Option<Cause>, rerun: u32, reruns: Reruns, in_slot: bool) -> RunKey {
        let run = RunKey(self.next_key);
        self.next_key += 1;
        if in_slot {
            self.agents.occupy(&agent);
        }
        self.runs.insert(run, Running { agent, rerun, reruns, cause, in_slot });
        run
    }

    fn start(&mut self, agent: String, cause: Cause, rerun: u32, reruns: Reruns, in_slot: bool) -> Action {
        let run = self.enter(agent.clone(), Some(cause), rerun, reruns, in_slot);
        Action::Start { run, agent, cause, rerun }
    }

    fn why_not_now(&self, agent: &str) -> Option<NotNow> {
        let Some(found) = self.agents.get(agent) else { return Some(NotNow::UnknownAgent) };
        if found.granted == 0 {
            return Some(NotNow::Disabled);
        }
        if !self.ready || self.stopping || self.docker == Health::Down {
            return Some(NotNow::NotAvailable);
        }
        if self.storage == Health::Down {
            return Some(NotNow::NoStorage);
        }
        if !found.has_image {
            return Some(NotNow::NoImage);
        }
        if found.free() == 0 {
            return Some(NotNow::NoFreeSlot);
        }
        let Mode::Scheduler { limit: Some(limit) } = self.mode else { return None };
        (self.room() == Some(0)).then_some(NotNow::ProjectLimit(limit))
    }

    fn initial(&mut self, agent: String, now: UnixMs, actions: &mut Vec<Action>) {
        let Some(found) = self.agents.get(&agent) else { return };
        if !found.may_fire() || self.paused || self.stopping {
            return;
        }
        if found.free() == 0 {
            actions.push(Action::InitialSkipped { agent });
        } else if self.room() == Some(0) || !self.is_open() {
            self.agents.owe(&agent, now);
        } else {
            let reruns = found.reruns;
            actions.push(self.start(agent, Cause::Initial, 0, reruns, true));
        }
    }

    /// Fires what is due.
    fn fire(&mut self, now: UnixMs, actions: &mut Vec<Action>) {
        for (agent, instant) in self.agents.take_due(now) {
            actions.push(Action::NextFiring { at: self.agents.next_of(&agent), agent: agent.clone() });
            let can_start = self.is_open() && self.room() != Some(0);
            match self.agents.fate_of_tick(&agent) {
                TickFate::Lost { running, scale } => actions.push(Action::TickSkipped { agent, running, scale }),
                TickFate::Silent => {}
                TickFate::Starts { .. } if !can_start => self.agents.owe(&agent, instant),
                TickFate::Starts { reruns } => actions.push(self.start(agent, Cause::Tick, 0, reruns, true)),
            }
        }
    }

    fn claimed(&mut self, claimed: Claimed, actions: &mut Vec<Action>) {
        self.claiming = false;
        self.dirty |= claimed.more;
        self.next_due = claimed.next_due;
        for claim in claimed.claims {
            match claim {
                Claim::Item { agent, item, reruns } => {
                    let run = self.enter(agent, None, 0, reruns, true);
                    actions.push(Action::StartItem { run, item });
                }
                Claim::Tick { agent } => {
                    // Forgotten meanwhile: paused, disabled, rescheduled or removed.
                    if let Some(reruns) = self.agents.take_owed(&agent) {
                        actions.push(self.start(agent, Cause::Tick, 0, reruns, true));
                    }
                }
            }
        }
    }

    fn leave(&mut self, run: RunKey) -> Option<Running> {
        let running = self.runs.remove(&run)?;
        if running.in_slot {
            self.agents.vacate(&running.agent);
        }
        Some(running)
    }

    fn not_started(&mut self, run: RunKey, now: UnixMs) {
        let Some(running) = self.runs.remove(&run) else { return };
        match running.cause {
            // The chain keeps its slot and goes on from here.
            Some(Cause::RerunOf(_)) if self.is_known(&running.agent) => {
                let cause = Some(Cause::RerunOf(run));
                return self.held.push((run, Running { cause, ..running }));
            }
            Some(Cause::Tick | Cause::Initial) => self.agents.owe(&running.agent, now),
            _ => {}
        }
        if running.in_slot {
            self.agents.vacate(&running.agent);
        }
    }

    fn ended(&mut self, run: RunKey, result: RunResult, actions: &mut Vec<Action>) {
        let Some(running) = self.leave(run) else { return };
        let Reruns::UpTo(max) = running.reruns else { return };
        // What will have an image is known when everything is ready.
        let can_run = |found: &Found| found.enabled && found.granted > 0 && (found.has_image || !self.ready);
        let may_go_on = self.mode == Mode::OneShot || self.agents.get(&running.agent).is_some_and(|it| can_run(&it));
        if result != RunResult::Rerun || self.stopping || self.paused || !may_go_on {
            return;
        }
        if running.rerun >= max {
            actions.push(Action::RerunLimit { agent: running.agent, max });
        } else if self.can_launch() {
            let cause = Cause::RerunOf(run);
            actions.push(self.start(running.agent, cause, running.rerun + 1, running.reruns, running.in_slot));
        } else {
            if running.in_slot {
                self.agents.occupy(&running.agent);
            }
            let rerun = running.rerun + 1;
            self.held.push((run, Running { rerun, cause: Some(Cause::RerunOf(run)), ..running }));
        }
    }

    /// Claims for free slots; says so when nothing is left to do.
    fn dispatch(&mut self, now: UnixMs, actions: &mut Vec<Action>) {
        if self.can_launch() {
            for (_, held) in std::mem::take(&mut self.held) {
                let Some(cause) = held.cause else { continue };
                if held.in_slot {
                    self.agents.vacate(&held.agent);
                }
                if !self.stopping && self.has_image(&held.agent) {
                    actions.push(self.start(held.agent, cause, held.rerun, held.reruns, held.in_slot));
                }
            }
        }
        if self.next_due.is_some_and(|due| due <= now) {
            self.next_due = None;
            self.dirty = true;
        }
        if self.dirty && !self.claiming && self.is_open() {
            self.dirty = false;
            let Claimable { free, ticks } = self.agents.claimable();
            if !free.is_empty() {
                self.claiming = true;
                actions.push(Action::Claim(Wish { free, room: self.room(), ticks }));
            }
        }
        if self.mode == Mode::OneShot && self.runs.is_empty() && !self.claiming && !self.finished {
            self.finished = true;
            actions.push(Action::Finish);
        }
    }

    /// Computes the next firing of one agent, or of all.
    fn rearm(&mut self, agent: Option<&str>, now: UnixMs, actions: &mut Vec<Action>) {
        let armed = self.ready && !self.stopping && !self.paused && self.mode != Mode::OneShot;
        let changed = self.agents.rearm(agent, armed, now);
        actions.extend(changed.into_iter().map(|(agent, at)| Action::NextFiring { agent, at }));
    }

    fn notice_time(&mut self, now: UnixMs, actions: &mut Vec<Action>) {
        if now.0 < self.last_seen.0.saturating_sub(CLOCK_SET_BACK_MS) {
            self.agents.forget_firings();
            self.rearm(None, now, actions);
        }
        self.last_seen = now;
    }
}
