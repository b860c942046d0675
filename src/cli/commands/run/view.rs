//! How `al run` shows itself: to a person, to a program, or to a CI system.

use std::sync::Arc;

use crate::base::error::render;
use crate::cli::args::Run;
use crate::run::observer::Observer;
use crate::ui::console::{Console, Liveliness};
use crate::ui::github::Github;
use crate::ui::json_events::JsonEvents;
use crate::ui::summary::Summary;

/// One of the three.
pub(super) enum View {
    Console(Arc<Console>),
    Json(Arc<JsonEvents>),
    Github(Arc<Github>),
}

/// Whether an error was shown already.
pub(super) enum Told {
    Yes,
    No,
}

impl View {
    /// JSON when asked for, else what the surroundings want.
    pub(super) fn choose(args: &Run) -> Self {
        if args.json {
            return Self::Json(Arc::default());
        }
        let liveliness = if args.headless { Liveliness::Lines } else { Liveliness::StatusLine };
        match Github::detect() {
            Some(github) => Self::Github(Arc::new(github)),
            None => Self::Console(Arc::new(Console::new(liveliness))),
        }
    }

    /// Where runs report to.
    pub(super) fn observer(&self) -> Arc<dyn Observer> {
        match self {
            Self::Console(console) => console.clone(),
            Self::Json(events) => events.clone(),
            Self::Github(github) => github.clone(),
        }
    }

    /// Shows the result of a run.
    pub(super) fn finish(&self, summary: &Summary) {
        match self {
            Self::Console(console) => console.finish(summary),
            Self::Json(events) => events.finish(summary),
            Self::Github(github) => github.finish(summary),
        }
    }

    /// Shows that nothing was run because of a signal. A person knows who sent it.
    pub(super) fn interrupted(&self, summary: &Summary) {
        match self {
            Self::Console(console) => console.clear(),
            Self::Json(_) | Self::Github(_) => self.finish(summary),
        }
    }

    /// Shows that nothing was run. The error itself is read on stderr, where every command prints it, unless this says
    /// that it is told.
    pub(super) fn failed(&self, summary: &Summary, error: &anyhow::Error) -> Told {
        match self {
            Self::Console(console) => console.clear(),
            Self::Json(events) => events.finish(summary),
            Self::Github(github) => {
                // Not on stderr: a runner would obey what a failed build printed.
                github.failed(summary, &render(error));
                return Told::Yes;
            }
        }
        Told::No
    }
}
