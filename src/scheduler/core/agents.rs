//! Agents inside the core: their slots, their schedules, the firings that had to wait.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::Reruns;
use crate::base::clock::UnixMs;

/// The first firing after an instant; `None` when there is no more.
#[derive(Clone)]
pub struct NextFiring(Arc<dyn Fn(UnixMs) -> Option<UnixMs> + Send + Sync>);

impl NextFiring {
    /// From a function that gives only later instants.
    pub fn new(next: impl Fn(UnixMs) -> Option<UnixMs> + Send + Sync + 'static) -> Self {
        Self(Arc::new(next))
    }
}

impl fmt::Debug for NextFiring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NextFiring")
    }
}

/// What an agent is like.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Slots: what it asks for, less what the project cannot give. 0: it never runs.
    pub granted: u32,
    pub schedule: Option<Scheduled>,
    /// Whether it has an image to run from.
    pub has_image: bool,
    /// Of its scheduled runs.
    pub reruns: Reruns,
}

/// A schedule and its text, which tells whether it is another one.
#[derive(Clone, Debug)]
pub struct Scheduled {
    pub text: String,
    pub next: NextFiring,
}

/// State of one agent.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) granted: u32,
    schedule: Option<Scheduled>,
    pub(super) has_image: bool,
    pub(super) reruns: Reruns,
    /// Not paused by a person.
    pub(super) enabled: bool,
    /// Kept until it is reached, whatever the clock does.
    next: Option<UnixMs>,
    /// What was told of it last.
    told: Option<UnixMs>,
    /// A firing that found a free slot but no room in the project.
    owed: Option<UnixMs>,
}

/// One agent and the slots that its runs hold.
pub(super) struct Found<'a> {
    agent: &'a Agent,
    busy: u32,
}

impl std::ops::Deref for Found<'_> {
    type Target = Agent;

    fn deref(&self) -> &Agent {
        self.agent
    }
}

impl Found<'_> {
    /// Slots that a new run can take.
    pub(super) fn free(&self) -> u32 {
        self.granted.saturating_sub(self.busy)
    }

    /// Whether its schedule counts at all.
    pub(super) fn may_fire(&self) -> bool {
        self.schedule.is_some() && self.granted > 0 && self.enabled && self.has_image
    }
}

/// What becomes of a firing.
pub(super) enum TickFate {
    Starts {
        reruns: Reruns,
    },
    Lost {
        running: u32,
        scale: u32,
    },
    /// Lost, and no word about it: the agent has no image.
    Silent,
}

/// What could be claimed for.
pub(super) struct Claimable {
    pub(super) free: Vec<(String, u32)>,
    pub(super) ticks: Vec<(String, UnixMs)>,
}

/// All agents.
#[derive(Debug, Default)]
pub(super) struct Agents {
    known: BTreeMap<String, Agent>,
    /// Slots in use, also of agents that are gone or were never known.
    busy: BTreeMap<String, u32>,
    /// The earliest `next`; kept, because it is asked for far more often than it changes.
    next_firing: Option<UnixMs>,
}

impl Agents {
    pub(super) fn get(&self, name: &str) -> Option<Found<'_>> {
        let agent = self.known.get(name)?;
        Some(Found { agent, busy: self.busy.get(name).copied().unwrap_or(0) })
    }

    pub(super) fn granted(&self, name: &str) -> u32 {
        self.known.get(name).map_or(0, |agent| agent.granted)
    }

    /// Adds an agent or changes it; a schedule that is another one starts anew.
    pub(super) fn set(&mut self, name: &str, setup: Setup) {
        let Setup { granted, schedule, has_image, reruns } = setup;
        match self.known.get_mut(name) {
            Some(agent) => {
                let text = |schedule: &Option<Scheduled>| schedule.as_ref().map(|schedule| schedule.text.clone());
                if text(&agent.schedule) != text(&schedule) {
                    (agent.next, agent.owed) = (None, None);
                }
                agent.granted = granted;
                agent.schedule = schedule;
                agent.has_image |= has_image;
                agent.reruns = reruns;
            }
            None => {
                let (enabled, next, told, owed) = (true, None, None, None);
                let agent = Agent { granted, schedule, has_image, reruns, enabled, next, told, owed };
                self.known.insert(name.to_owned(), agent);
            }
        }
    }

    pub(super) fn set_image(&mut self, name: &str) {
        if let Some(agent) = self.known.get_mut(name) {
            agent.has_image = true;
        }
    }

    pub(super) fn set_enabled(&mut self, name: &str, is_enabled: bool) {
        if let Some(agent) = self.known.get_mut(name) {
            agent.enabled = is_enabled;
        }
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.known.remove(name);
        self.note_next();
    }

    pub(super) fn occupy(&mut self, name: &str) {
        *self.busy.entry(name.to_owned()).or_default() += 1;
    }

    pub(super) fn vacate(&mut self, name: &str) {
        if let Some(busy) = self.busy.get_mut(name) {
            *busy = busy.saturating_sub(1);
            if *busy == 0 {
                self.busy.remove(name);
            }
        }
    }

    /// Slots in use in the whole project.
    pub(super) fn busy(&self) -> u32 {
        self.busy.values().sum()
    }

    pub(super) fn claimable(&self) -> Claimable {
        let mut claimable = Claimable { free: Vec::new(), ticks: Vec::new() };
        for name in self.known.keys() {
            let Some(agent) = self.get(name).filter(|agent| agent.enabled && agent.has_image) else { continue };
            let free = agent.free();
            if free > 0 {
                claimable.free.push((name.clone(), free));
                claimable.ticks.extend(agent.owed.map(|instant| (name.clone(), instant)));
            }
        }
        claimable
    }

    // Schedules.

    pub(super) fn next_firing(&self) -> Option<UnixMs> {
        self.next_firing
    }

    pub(super) fn next_of(&self, name: &str) -> Option<UnixMs> {
        self.known.get(name)?.next
    }

    pub(super) fn armed(&self) -> usize {
        self.known.values().filter(|agent| agent.schedule.is_some() && agent.granted > 0 && agent.enabled).count()
    }

    /// Remembers a firing until there is room; one per agent.
    pub(super) fn owe(&mut self, name: &str, instant: UnixMs) {
        if let Some(agent) = self.known.get_mut(name) {
            agent.owed.get_or_insert(instant);
        }
    }

    /// Takes a remembered firing; `None` when there is none (any more).
    pub(super) fn take_owed(&mut self, name: &str) -> Option<Reruns> {
        let agent = self.known.get_mut(name)?;
        agent.owed.take().map(|_| agent.reruns)
    }

    pub(super) fn fate_of_tick(&self, name: &str) -> TickFate {
        let Some(agent) = self.get(name).filter(|agent| agent.has_image) else { return TickFate::Silent };
        if agent.free() == 0 {
            return TickFate::Lost { running: agent.busy, scale: agent.granted };
        }
        TickFate::Starts { reruns: agent.reruns }
    }

    /// Agents whose instant has come, with it; several missed ones count as one. Each gets its next one.
    pub(super) fn take_due(&mut self, now: UnixMs) -> Vec<(String, UnixMs)> {
        if self.next_firing.is_none_or(|first| first > now) {
            return Vec::new();
        }
        let mut due = Vec::new();
        for (name, agent) in &mut self.known {
            if let Some(instant) = agent.next.filter(|instant| *instant <= now) {
                agent.next = agent.schedule.as_ref().and_then(|schedule| (schedule.next.0)(now));
                agent.told = agent.next;
                due.push((name.clone(), instant));
            }
        }
        self.note_next();
        // In the order in which they were due, not of their names.
        due.sort_by_key(|(_, instant)| *instant);
        due
    }

    /// Forgets what was computed from a clock that was set back.
    pub(super) fn forget_firings(&mut self) {
        self.known.values_mut().for_each(|agent| agent.next = None);
    }

    /// Computes firings that are not known, takes away those that do not count; gives what changed. `armed`: schedules
    /// count at all.
    pub(super) fn rearm(&mut self, only: Option<&str>, armed: bool, now: UnixMs) -> Vec<(String, Option<UnixMs>)> {
        let mut changed = Vec::new();
        let concerned = self.known.iter_mut().filter(|(name, _)| only.is_none_or(|only| only == name.as_str()));
        for (name, agent) in concerned {
            let counts = armed && agent.granted > 0 && agent.enabled;
            if !counts {
                (agent.next, agent.owed) = (None, None);
            } else if agent.next.is_none() {
                agent.next = agent.schedule.as_ref().and_then(|schedule| (schedule.next.0)(now));
            }
            if agent.next != agent.told {
                agent.told = agent.next;
                changed.push((name.clone(), agent.next));
            }
        }
        self.note_next();
        changed
    }

    fn note_next(&mut self) {
        self.next_firing = self.known.values().filter_map(|agent| agent.next).min();
    }
}
