//! What the scheduler's own helpers tell its thread: runs, builds, the store, the watcher, Docker.

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::builds::Built;
use super::claim::Taken;
use super::core::RunKey;
use super::handle::{Done, Refusal};
use super::shell::reload::Prepared;
use crate::base::log::Entry;
use crate::model::outcome::Class;
use crate::run::daemon::Change;
use crate::run::life::Order;
use crate::run::observer::{Observer, Report};
use crate::store::Health;
use crate::store::items::{Buried, Item};
use crate::store::runs::ItemEnd;

/// Reports of runs that may wait; a run that reports faster than that waits itself.
const REPORTS: usize = 1024;

/// An answer that somebody waits for.
pub(super) type ControlReply = Sender<Result<Done, Refusal>>;

/// Something that a helper has done or noticed.
pub(super) enum Message {
    Taken(anyhow::Result<Box<Taken>>),
    /// A run without an item is registered, or could not be.
    Registered {
        key: RunKey,
        order: Box<Order>,
        result: anyhow::Result<()>,
    },
    /// A flag is stored, or could not be.
    Flag {
        flag: Flag,
        result: anyhow::Result<()>,
        reply: ControlReply,
    },
    /// Why runs are to be killed is stored, or could not be.
    Doomed {
        instances: Vec<String>,
        reason: String,
        result: anyhow::Result<()>,
        answer: Option<(ControlReply, Doom)>,
    },
    /// A wish for a run became an item, or could not.
    Enqueued {
        result: anyhow::Result<()>,
        reply: ControlReply,
    },
    /// Items died without a run.
    Buried(Vec<Buried>),
    Built(Built),
    Docker(Change),
    /// What has to be done when Docker is back, or before the first item starts, is done.
    DockerChecked(anyhow::Result<()>),
    Storage(Health),
    /// Something in the directory of an agent may have changed.
    Changed(String),
    Prepared(Box<Prepared>),
    /// A container that still cannot be removed.
    Leftover(String),
    /// The listeners are closed.
    GatewayClosed,
    /// A helper has something for the scheduler's log.
    Log(Box<Entry>),
}

/// What a kill was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Doom {
    Instance,
    Agent,
}

/// A stored flag that changes what the scheduler does.
#[derive(Clone, Debug)]
pub(super) enum Flag {
    Paused(bool),
    Disabled { agent: String, is_disabled: bool },
}

/// What a run has reported.
pub(super) enum RunReport {
    ToolError {
        agent: String,
        text: String,
    },
    /// What became of the item of a run that has ended.
    ItemEnded {
        item: Box<Item>,
        end: ItemEnd,
        class: Class,
        error: Option<String>,
    },
    /// A container that could not be removed yet.
    Leftover {
        container: String,
    },
    Warning(String),
}

/// The way to the scheduler's thread for its helpers. Clones lead to the same one.
#[derive(Clone)]
pub struct Outlet {
    messages: Sender<Message>,
    reports: Sender<RunReport>,
}

/// The other end.
pub struct Inlet {
    pub(super) messages: Receiver<Message>,
    pub(super) reports: Receiver<RunReport>,
}

/// Both ends.
pub fn outlet() -> (Outlet, Inlet) {
    // Unbounded: answers to what the scheduler asked for itself, a handful at a time. It must be possible to give them
    // from a thread that the scheduler waits for.
    let (messages, message_inlet) = unbounded();
    let (reports, report_inlet) = bounded(REPORTS);
    (Outlet { messages, reports }, Inlet { messages: message_inlet, reports: report_inlet })
}

impl Outlet {
    pub(super) fn send(&self, message: Message) {
        let _ = self.messages.send(message);
    }

    /// Docker stopped or started to answer.
    pub fn docker(&self, change: Change) {
        self.send(Message::Docker(change));
    }

    /// Commits fail, or work again.
    pub fn storage(&self, health: Health) {
        self.send(Message::Storage(health));
    }

    /// The listeners are closed, as was asked for with [`super::shell::Phase::Closing`].
    pub fn gateway_closed(&self) {
        self.send(Message::GatewayClosed);
    }
}

impl Observer for Outlet {
    fn report(&self, report: &Report<'_>) {
        let report = match report {
            Report::ToolError { run, text } => {
                RunReport::ToolError { agent: run.agent.clone(), text: (*text).to_owned() }
            }
            Report::Recorded { ended, outcome, .. } => match &ended.item {
                Some((item, end)) => RunReport::ItemEnded {
                    item: Box::new(item.clone()),
                    end: end.clone(),
                    class: outcome.class,
                    error: outcome.error.clone(),
                },
                None => return,
            },
            Report::Leftover { container } => RunReport::Leftover { container: (*container).to_owned() },
            Report::Warning { text } => RunReport::Warning((*text).to_owned()),
            // In the agent's log already, or known here otherwise.
            Report::Entry { .. }
            | Report::Started(_)
            | Report::Status { .. }
            | Report::Ended { .. }
            | Report::Build { .. } => return,
        };
        let _ = self.reports.send(report);
    }
}
