//! The scheduler's decisions as a pure state machine: events and facts in, actions out. No thread, clock, I/O or
//! randomness, so that everything surprising about scheduling is a list of events in a test.

use std::collections::BTreeMap;

use crate::model::outcome::RunResult;

/// Identity of a run inside the core; instance ids are random and therefore made outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunKey(pub u64);

/// What the core is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Start an agent by hand, whatever its slots say: the run that a one-shot process exists for.
    StartRoot { agent: String, reruns: Reruns },
    /// Items may be waiting in the store.
    ItemsQueued,
    /// Answer to [`Action::Claim`].
    Claimed { agent: String, item: Option<i64> },
    /// A run has ended and its record is committed.
    Ended { run: RunKey, result: RunResult },
    /// The process is to end: nothing new is started, what runs is killed.
    Stop,
}

/// Whether a run that asks for it is run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reruns {
    /// Manual and scheduled runs.
    UpTo(u32),
    /// Webhook and called runs: a rerun counts as completed.
    Never,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a run. `item` is the work item it carries out, `None` for the root run and its reruns.
    Start { run: RunKey, agent: String, item: Option<i64>, rerun: u32 },
    /// Take the oldest queued item of an agent and answer with [`Input::Claimed`].
    Claim { agent: String },
    /// The agent has asked for more reruns than allowed.
    RerunLimit { agent: String, max: u32 },
    /// Kill every run.
    KillAll,
    /// Everything is done.
    Finish,
}

/// State of one agent.
#[derive(Debug, Default)]
struct Slots {
    scale: u32,
    used: u32,
    /// A claim is under way; at most one at a time, so that an answer always finds its slot.
    claiming: bool,
    /// There may be items.
    waiting: bool,
}

#[derive(Debug)]
struct Running {
    agent: String,
    rerun: u32,
    reruns: Reruns,
    /// Holds a slot of its agent; the root run does not.
    in_slot: bool,
}

/// The state machine.
#[derive(Debug, Default)]
pub struct Core {
    agents: BTreeMap<String, Slots>,
    runs: BTreeMap<RunKey, Running>,
    next_key: u64,
    stopping: bool,
    finished: bool,
}

impl Core {
    /// A core for agents with these scales.
    pub fn new(scales: impl IntoIterator<Item = (String, u32)>) -> Self {
        let agents = scales.into_iter().map(|(name, scale)| (name, Slots { scale, ..Slots::default() })).collect();
        Self { agents, ..Self::default() }
    }

    /// Takes in an event and says what follows from it.
    pub fn handle(&mut self, input: Input) -> Vec<Action> {
        let mut actions = Vec::new();
        match input {
            Input::StartRoot { agent, reruns } => {
                actions.push(self.start(agent, None, 0, reruns, false));
            }
            Input::ItemsQueued => self.agents.values_mut().for_each(|slots| slots.waiting = true),
            Input::Claimed { agent, item } => {
                if let Some(slots) = self.agents.get_mut(&agent) {
                    slots.claiming = false;
                    slots.waiting = item.is_some();
                }
                if let Some(item) = item {
                    actions.push(self.start(agent, Some(item), 0, Reruns::Never, true));
                }
            }
            Input::Ended { run, result } => self.ended(run, result, &mut actions),
            Input::Stop => {
                self.stopping = true;
                actions.push(Action::KillAll);
            }
        }
        self.dispatch(&mut actions);
        actions
    }

    fn start(&mut self, agent: String, item: Option<i64>, rerun: u32, reruns: Reruns, in_slot: bool) -> Action {
        let run = RunKey(self.next_key);
        self.next_key += 1;
        if in_slot && let Some(slots) = self.agents.get_mut(&agent) {
            slots.used += 1;
        }
        self.runs.insert(run, Running { agent: agent.clone(), rerun, reruns, in_slot });
        Action::Start { run, agent, item, rerun }
    }

    fn ended(&mut self, run: RunKey, result: RunResult, actions: &mut Vec<Action>) {
        let Some(running) = self.runs.remove(&run) else { return };
        if running.in_slot
            && let Some(slots) = self.agents.get_mut(&running.agent)
        {
            slots.used = slots.used.saturating_sub(1);
            slots.waiting = true;
        }
        if result == RunResult::Rerun
            && !self.stopping
            && let Reruns::UpTo(max) = running.reruns
        {
            if running.rerun < max {
                actions.push(self.start(running.agent, None, running.rerun + 1, running.reruns, running.in_slot));
            } else {
                actions.push(Action::RerunLimit { agent: running.agent, max });
            }
        }
    }

    /// Claims items for free slots; says so when nothing is left to do.
    fn dispatch(&mut self, actions: &mut Vec<Action>) {
        let mut idle = self.runs.is_empty();
        for (name, slots) in &mut self.agents {
            idle &= !slots.claiming;
            if !self.stopping && slots.waiting && !slots.claiming && slots.used < slots.scale {
                slots.claiming = true;
                idle = false;
                actions.push(Action::Claim { agent: name.clone() });
            }
        }
        if idle && !self.finished {
            self.finished = true;
            actions.push(Action::Finish);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn core() -> Core {
        Core::new([("dev".to_owned(), 1), ("reviewer".to_owned(), 2), ("off".to_owned(), 0)])
    }

    fn root(core: &mut Core, reruns: Reruns) -> Vec<Action> {
        core.handle(Input::StartRoot { agent: "dev".into(), reruns })
    }

    fn start(run: u64, agent: &str, item: Option<i64>, rerun: u32) -> Action {
        Action::Start { run: RunKey(run), agent: agent.into(), item, rerun }
    }

    fn claim(agent: &str) -> Action {
        Action::Claim { agent: agent.into() }
    }

    fn claimed(agent: &str, item: Option<i64>) -> Input {
        Input::Claimed { agent: agent.into(), item }
    }

    fn ended(run: u64, result: RunResult) -> Input {
        Input::Ended { run: RunKey(run), result }
    }

    #[test]
    fn one_run_and_the_end() {
        let mut core = core();
        assert_eq!(root(&mut core, Reruns::UpTo(2)), [start(0, "dev", None, 0)]);
        assert_eq!(core.handle(ended(0, RunResult::Completed)), [Action::Finish]);
    }

    #[test]
    fn reruns_stop_at_the_limit() {
        let mut core = core();
        root(&mut core, Reruns::UpTo(2));
        assert_eq!(core.handle(ended(0, RunResult::Rerun)), [start(1, "dev", None, 1)]);
        assert_eq!(core.handle(ended(1, RunResult::Rerun)), [start(2, "dev", None, 2)]);
        let limit = Action::RerunLimit { agent: "dev".into(), max: 2 };
        assert_eq!(core.handle(ended(2, RunResult::Rerun)), [limit, Action::Finish]);
    }

    #[test]
    fn a_webhook_run_is_never_repeated() {
        let mut core = core();
        root(&mut core, Reruns::Never);
        assert_eq!(core.handle(ended(0, RunResult::Rerun)), [Action::Finish]);
    }

    #[test]
    fn calls_run_in_the_slots_of_their_agent_and_outlive_the_caller() {
        let mut core = core();
        root(&mut core, Reruns::Never);
        // The root run holds no slot: its own agent may be called through others too.
        assert_eq!(core.handle(Input::ItemsQueued), [claim("dev"), claim("reviewer")]);
        assert_eq!(core.handle(claimed("dev", None)), []);
        assert_eq!(core.handle(claimed("reviewer", Some(1))), [start(1, "reviewer", Some(1), 0), claim("reviewer")]);
        assert_eq!(core.handle(claimed("reviewer", Some(2))), [start(2, "reviewer", Some(2), 0)]);
        // Both slots are taken: nothing is claimed until one is free.
        assert_eq!(core.handle(Input::ItemsQueued), [claim("dev")]);
        assert_eq!(core.handle(claimed("dev", None)), []);
        assert_eq!(core.handle(ended(0, RunResult::Completed)), []);
        assert_eq!(core.handle(ended(1, RunResult::Completed)), [claim("reviewer")]);
        assert_eq!(core.handle(claimed("reviewer", None)), []);
        assert_eq!(core.handle(ended(2, RunResult::Error)), [claim("reviewer")]);
        assert_eq!(core.handle(claimed("reviewer", None)), [Action::Finish]);
    }

    #[test]
    fn stopping_kills_and_starts_nothing_more() {
        let mut core = core();
        root(&mut core, Reruns::UpTo(5));
        assert_eq!(core.handle(Input::Stop), [Action::KillAll]);
        assert_eq!(core.handle(Input::ItemsQueued), []);
        assert_eq!(core.handle(ended(0, RunResult::Rerun)), [Action::Finish]);
    }

    #[test]
    fn an_agent_without_slots_gets_nothing() {
        let mut core = core();
        root(&mut core, Reruns::Never);
        let actions = core.handle(Input::ItemsQueued);
        assert!(!actions.contains(&claim("off")));
    }
}
