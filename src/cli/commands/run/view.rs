//! How `al run` shows itself: to a person, to a program, or to a CI system.

use std::io::Write as _;
use std::sync::Arc;

use anyhow::Result;

use crate::base::error::render;
use crate::cli::args::Run;
use crate::run::observer::Observer;
use crate::ui::console::{Console, Liveliness};
use crate::ui::github::Github;
use crate::ui::json_events::JsonEvents;
use crate::ui::queue::Queue;
use crate::ui::summary::Summary;

/// One of the three, behind a queue.
pub(super) struct View {
    kind: Kind,
    queue: Arc<Queue>,
}

enum Kind {
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
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub(super) fn choose(args: &Run) -> Result<Self> {
        let liveliness = if args.headless { Liveliness::Lines } else { Liveliness::StatusLine };
        let kind = match Github::detect() {
            _ if args.json => Kind::Json(Arc::default()),
            Some(github) => Kind::Github(Arc::new(github)),
            None => Kind::Console(Arc::new(Console::new(liveliness))),
        };
        let shown: Arc<dyn Observer> = match &kind {
            Kind::Console(console) => console.clone(),
            Kind::Json(events) => events.clone(),
            Kind::Github(github) => github.clone(),
        };
        Ok(Self { kind, queue: Arc::new(Queue::before(shown)?) })
    }

    /// Where runs report to.
    pub(super) fn observer(&self) -> Arc<dyn Observer> {
        self.queue.clone()
    }

    /// Shows what is still waiting, then the result of the run.
    pub(super) fn finish(&self, summary: &Summary) {
        let dropped = self.queue.close();
        if dropped > 0 {
            let _ = writeln!(std::io::stderr(), "Warning: {dropped} entries are only in the log: output was not read");
        }
        match &self.kind {
            Kind::Console(console) => console.finish(summary),
            Kind::Json(events) => events.finish(summary),
            Kind::Github(github) => github.finish(summary),
        }
    }

    /// Shows that a run was started elsewhere. A person has been told already.
    pub(super) fn triggered(&self, summary: &Summary) {
        self.queue.close();
        match &self.kind {
            Kind::Console(console) => console.clear(),
            Kind::Json(events) => events.finish(summary),
            Kind::Github(_) => {}
        }
    }

    /// Shows that nothing was run because of a signal. A person knows who sent it.
    pub(super) fn interrupted(&self, summary: &Summary) {
        self.queue.close();
        match &self.kind {
            Kind::Console(console) => console.clear(),
            Kind::Json(_) | Kind::Github(_) => self.finish(summary),
        }
    }

    /// Shows that nothing was run. The error itself is read on stderr, where every command prints it, unless this says
    /// that it is told.
    pub(super) fn failed(&self, summary: &Summary, error: &anyhow::Error) -> Told {
        self.queue.close();
        match &self.kind {
            Kind::Console(console) => console.clear(),
            Kind::Json(events) => events.finish(summary),
            Kind::Github(github) => {
                // Not on stderr: a runner would obey what a failed build printed.
                github.failed(summary, &render(error));
                return Told::Yes;
            }
        }
        Told::No
    }
}
