//! What others may ask of the scheduler: events go in, snapshots come out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::Sender;

use crate::base::KnownSecrets;
use crate::model::outcome::Outcome;

/// Something the scheduler has to know or decide. What must not be lost is in the store before its event is sent.
pub enum Event {
    /// A call (or trigger signal) is committed as a queued item.
    ItemQueued,
    /// A container gave its status text (at most 1000 characters).
    StatusText { instance: String, text: String },
    /// A container asked for a rerun; shown only, the exit code decides.
    RerunRequested { instance: String },
    /// A run has to end now. The reply comes when its container was killed (or could not be).
    Kill { instance: String, reason: String, reply: Sender<Result<(), String>> },
    /// A run has ended and its record is committed.
    RunEnded { instance: String, outcome: Box<Outcome> },
    /// The process was told to stop (signal number).
    Stop { signal: i32 },
}

/// State of the scheduler as everyone else sees it.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub agents: BTreeMap<String, AgentSnapshot>,
    pub paused: bool,
    /// Runs of a depth below this may call other agents.
    pub max_call_depth: u32,
}

/// One agent in a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentSnapshot {
    /// 0: disabled by configuration.
    pub scale: u32,
    /// Paused by a person.
    pub paused: bool,
    /// Seconds that a run of it may take.
    pub timeout_seconds: u64,
}

/// The way to the scheduler.
#[derive(Clone)]
pub struct Handle {
    events: Sender<Event>,
    snapshot: Arc<Mutex<Arc<Snapshot>>>,
    secrets: KnownSecrets,
}

impl Handle {
    /// A handle whose events arrive at the other end of the channel.
    pub fn new(events: Sender<Event>) -> Self {
        Self { events, snapshot: Arc::default(), secrets: KnownSecrets::default() }
    }

    /// Sends an event; lost only when the scheduler has ended.
    pub fn send(&self, event: Event) {
        let _ = self.events.send(event);
    }

    /// The secrets of runs that are going on: whoever takes texts from them masks these first.
    pub fn secrets(&self) -> &KnownSecrets {
        &self.secrets
    }

    /// The current state.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Publishes a new state; only the scheduler does this.
    pub fn publish(&self, snapshot: Snapshot) {
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
    }
}
