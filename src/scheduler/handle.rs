//! What others may ask of the scheduler: events go in, snapshots come out.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};

use crate::base::KnownSecrets;
use crate::model::outcome::Outcome;
use crate::model::status::{AgentStatus, InstanceStatus, RecentLine, SchedulerInfo};
use crate::webhooks::Bindings;

/// How long a wish may take. Longer than anything that the scheduler waits for before it answers.
const CONTROL_TIME: Duration = Duration::from_secs(25);

/// Something the scheduler has to know or decide. What must not be lost is in the store before its event is sent.
pub enum Event {
    /// Something about queued items has changed in the store. Sent with [`Handle::queue_changed`].
    QueueChanged,
    /// A container gave its status text (at most 1000 characters).
    StatusText { instance: String, text: String },
    /// A container asked for a rerun; shown only, the exit code decides.
    RerunRequested { instance: String },
    /// A run has to end now; the wish is committed. The reply comes when its container was killed (or could not be).
    Kill { instance: String, reason: String, reply: Sender<Result<(), String>> },
    /// A run has ended and its record is committed.
    RunEnded { instance: String, outcome: Box<Outcome> },
    /// A line of recent activity that somebody else wrote.
    Note { agent: String, message: String },
    /// So many deliveries were recorded that old ones have to go.
    ReceiptsDue,
    /// A person's wish.
    Control { control: Control, reply: Sender<Result<Done, Refusal>> },
    /// The process was told to stop (signal number).
    Stop { signal: i32 },
}

/// A person's wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// Nothing queued or scheduled starts any more, until [`Control::Resume`].
    Pause,
    Resume,
    /// The same for one agent.
    Disable {
        agent: String,
    },
    Enable {
        agent: String,
    },
    /// Ends all runs of an agent.
    KillAgent {
        agent: String,
    },
    KillInstance {
        instance: String,
    },
    /// Starts a run by hand. `queue`: a run that cannot start now becomes an item.
    Trigger {
        agent: String,
        prompt: Option<String>,
        queue: bool,
    },
    /// Ends the scheduler.
    Stop(StopWish),
}

/// What is not to outlive the scheduler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StopWish {
    /// Queued items become dead, else they wait for the next scheduler.
    pub clear_queue: bool,
    /// Runs are killed, else they go on.
    pub kill: bool,
}

/// What became of a wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// It is so now.
    Yes,
    /// So many runs were killed.
    Killed(usize),
    /// This run starts.
    Started { instance: String },
    /// It became an item.
    Queued,
}

/// Why a wish was not fulfilled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    UnknownAgent,
    UnknownInstance,
    /// All slots of the agent are in use.
    NoFreeRunner,
    /// So many runs go on in the project, and more are not allowed.
    ProjectLimit(u32),
    /// The agent has `scale` 0.
    Disabled,
    NoImage,
    /// Images are being built, Docker does not answer, or the scheduler is stopping.
    NotAvailable,
    /// It could not be committed.
    StorageUnavailable,
    Failed(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownAgent => "no such agent",
            Self::UnknownInstance => "no such instance",
            Self::NoFreeRunner => "no free runner",
            Self::ProjectLimit(_) => "project limit reached",
            Self::Disabled => "disabled (scale 0)",
            Self::NoImage => "no image",
            Self::NotAvailable => "not available now",
            Self::StorageUnavailable => "storage unavailable",
            Self::Failed(cause) => cause,
        })
    }
}

/// State of the scheduler as everyone else sees it.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// `None`: there is none, this is a one-shot run.
    pub scheduler: Option<Arc<SchedulerInfo>>,
    pub agents: BTreeMap<String, Arc<AgentStatus>>,
    /// Runs that go on, in the order of their start.
    pub instances: Vec<Arc<InstanceStatus>>,
    /// Oldest first, at most 100.
    pub recent: VecDeque<Arc<RecentLine>>,
    /// Runs of a depth below this may call other agents.
    pub max_call_depth: u32,
    /// Progress of the image that all agents stand on, while it is built.
    pub base_image: Option<String>,
}

/// The way to the scheduler. Clones lead to the same one.
#[derive(Clone)]
pub struct Handle {
    events: Sender<Event>,
    shared: Arc<Shared>,
    secrets: KnownSecrets,
}

#[derive(Default)]
struct Shared {
    snapshot: Mutex<Published>,
    changed: Condvar,
    /// Which agents webhooks are for.
    bindings: Mutex<Arc<Bindings>>,
    /// A [`Event::QueueChanged`] is on its way and was not looked at yet.
    queue_pending: AtomicBool,
}

#[derive(Default)]
struct Published {
    version: u64,
    snapshot: Arc<Snapshot>,
}

impl Handle {
    /// A handle whose events arrive at the other end of the channel.
    pub fn new(events: Sender<Event>) -> Self {
        Self { events, shared: Arc::default(), secrets: KnownSecrets::default() }
    }

    /// Sends an event; lost only when the scheduler has ended.
    pub fn send(&self, event: Event) {
        let _ = self.events.send(event);
    }

    /// Wakes the scheduler after a commit that changed the queue. Many changes are one event.
    pub fn queue_changed(&self) {
        if !self.shared.queue_pending.swap(true, Ordering::AcqRel) {
            self.send(Event::QueueChanged);
        }
    }

    /// To be called by the scheduler before it looks at the queue: what changes from now on wakes it again.
    pub(super) fn queue_seen(&self) {
        self.shared.queue_pending.store(false, Ordering::Release);
    }

    /// Adds a line of recent activity; left out when the scheduler has too much to do.
    pub fn note(&self, agent: &str, message: impl Into<String>) {
        let _ = self.events.try_send(Event::Note { agent: agent.to_owned(), message: message.into() });
    }

    /// Has a wish fulfilled; it is so when this returns.
    ///
    /// # Errors
    /// Why not.
    pub fn control(&self, control: Control) -> Result<Done, Refusal> {
        let (reply, answer) = bounded(1);
        self.events.send(Event::Control { control, reply }).map_err(|_| Refusal::NotAvailable)?;
        answer
            .recv_timeout(CONTROL_TIME)
            .unwrap_or_else(|_| Err(Refusal::Failed("the scheduler did not answer".into())))
    }

    /// Which agents webhooks are for, as it is now.
    pub fn bindings(&self) -> Arc<Bindings> {
        self.shared.bindings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces all bindings in one step: every delivery finds the old ones or the new ones.
    pub fn set_bindings(&self, bindings: Bindings) {
        *self.shared.bindings.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(bindings);
    }

    /// The secrets of runs that are going on: whoever takes texts from them masks these first.
    pub fn secrets(&self) -> &KnownSecrets {
        &self.secrets
    }

    /// The current state.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.lock().snapshot.clone()
    }

    /// The current state and its number, as soon as the number is another one than `seen` or the time is over.
    pub fn snapshot_after(&self, seen: u64, until: Instant) -> (u64, Arc<Snapshot>) {
        let mut published = self.lock();
        while published.version == seen {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            published = self.shared.changed.wait_timeout(published, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        (published.version, published.snapshot.clone())
    }

    /// Publishes a new state; only the scheduler does this.
    pub fn publish(&self, snapshot: Snapshot) {
        let snapshot = Arc::new(snapshot);
        let mut published = self.lock();
        published.version += 1;
        published.snapshot = snapshot;
        drop(published);
        self.shared.changed.notify_all();
    }

    /// Ends the waiting of everyone in [`Handle::snapshot_after`].
    pub fn wake(&self) {
        self.lock().version += 1;
        self.shared.changed.notify_all();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Published> {
        self.shared.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::unbounded;

    #[test]
    fn many_changes_of_the_queue_are_one_event_until_it_is_looked_at() {
        let (sender, events) = unbounded();
        let handle = Handle::new(sender);
        (0..5).for_each(|_| handle.queue_changed());
        assert_eq!(events.len(), 1);
        handle.queue_seen();
        handle.queue_changed();
        assert_eq!(events.len(), 2);
    }

    #[test]
    fn bindings_are_replaced_in_one_step() {
        use crate::config::webhook::{Provider, Source};
        let handle = Handle::new(unbounded().0);
        let provider = Provider::find("test").unwrap();
        let source = Source { name: "t".into(), provider, credential: None, allow_unsigned: None };
        let before = handle.bindings();
        handle.clone().set_bindings(Bindings::new([&source], []));
        assert!(handle.bindings().has_source("test") && !before.has_source("test"));
    }

    #[test]
    fn a_new_state_is_seen_once() {
        let handle = Handle::new(unbounded().0);
        let (version, _) = handle.snapshot_after(u64::MAX, Instant::now());
        handle.publish(Snapshot { max_call_depth: 7, ..Snapshot::default() });
        let (next, snapshot) = handle.snapshot_after(version, Instant::now() + Duration::from_secs(5));
        assert_eq!((next, snapshot.max_call_depth), (version + 1, 7));
    }
}
