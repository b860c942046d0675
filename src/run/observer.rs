//! What runs report while they go on, for whoever shows it.

use shims::wire::run_file::TriggerKind;

use crate::base::log::Entry;
use crate::model::outcome::Outcome;
use crate::store::runs::Ended;

/// Facts about a run that do not change.
#[derive(Clone, Debug)]
pub struct RunInfo {
    pub instance: String,
    pub agent: String,
    pub trigger: TriggerKind,
    pub container: String,
}

/// Something that happened.
pub enum Report<'a> {
    /// Progress of an image build.
    Build { image: &'a str, text: &'a str },
    /// Something that keeps nothing from working, but that people should know.
    Warning { text: &'a str },
    /// A run was started (its container may still have to be created).
    Started(&'a RunInfo),
    /// An entry was written to the log of an agent.
    Entry { agent: &'a str, entry: &'a Entry },
    /// A run gave its status text.
    Status { instance: &'a str, text: &'a str },
    /// A tool of a run failed; a short text for status displays.
    ToolError { run: &'a RunInfo, text: &'a str },
    /// The end of a run is committed; what it changed.
    Recorded { run: &'a RunInfo, ended: &'a Ended, outcome: &'a Outcome },
    /// A container of an ended run could not be removed yet.
    Leftover { container: &'a str },
    /// A run has ended and everything of it is cleaned up.
    Ended { run: &'a RunInfo, outcome: &'a Outcome },
}

/// Gets reports from several threads, in the order in which things happened within each run.
pub trait Observer: Send + Sync {
    fn report(&self, report: &Report<'_>);
}
