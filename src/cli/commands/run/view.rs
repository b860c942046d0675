//! How `al run` shows itself: to a person, to a program, or to a CI system.

use std::sync::Arc;

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

    /// Shows that nothing was run. A person reads the error on stderr, where every command prints it.
    pub(super) fn failed(&self, summary: &Summary) {
        if !matches!(self, Self::Console(_)) {
            self.finish(summary);
        }
    }
}
