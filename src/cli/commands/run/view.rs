//! How `al run` shows itself: to a person, to a program, or to a CI system.

use std::sync::Arc;

use crate::run::observer::Observer;
use crate::ui::console::Console;
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
    pub(super) fn choose(json: bool) -> Self {
        if json {
            return Self::Json(Arc::default());
        }
        match Github::detect() {
            Some(github) => Self::Github(Arc::new(github)),
            None => Self::Console(Arc::default()),
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
