//! Noticing that agents change (scheduler.md §9): a watcher of `agents/` that says which agent to look at again.
//!
//! What an agent is, and whether a change means anything, is for others to say.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::base::worker;

mod debounce;
mod notice;
mod tree;

#[cfg(test)]
mod tests;

use debounce::Debounce;
use notice::Notice;
use tree::Tree;

/// Notices that may wait. More are not waited for, since whoever sends them is waited for by their receiver: everything is
/// looked through again instead.
const NOTICES: usize = 1024;

/// How long it waits for what.
#[derive(Clone, Copy)]
struct Pace {
    /// Silence before an agent is told.
    quiet: Duration,
    /// Between two looks at whether the same directories are still behind their paths.
    look: Duration,
    /// For more directories after the first new one.
    survey: Duration,
}

const NORMAL: Pace =
    Pace { quiet: Duration::from_millis(500), look: Duration::from_secs(1), survey: Duration::from_millis(50) };

/// Watches the directory of a project's agents on a thread of its own.
pub struct Watcher {
    sender: Sender<Notice>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Watcher {
    /// Starts watching. The directory need not exist, and may come and go. `on_change` is told the name of an agent (of
    /// an entry of the directory, that is) half a second after the last thing that happened to it; it should return
    /// soon. What is there already is not told.
    ///
    /// # Errors
    /// When the system does not let us watch that much.
    pub fn start(agents_dir: &Path, on_change: impl Fn(&str) + Send + 'static) -> Result<Self> {
        Self::start_at(NORMAL, agents_dir, on_change)
    }

    fn start_at(pace: Pace, agents_dir: &Path, on_change: impl Fn(&str) + Send + 'static) -> Result<Self> {
        let (sender, notices) = bounded(NOTICES);
        let outbox = Outbox { sender: sender.clone(), is_full: Arc::default() };
        let is_full = Arc::clone(&outbox.is_full);
        let tree = Tree::new(agents_dir, move || {
            let outbox = outbox.clone();
            move |event| outbox.send(event)
        })?;
        let debounce = Debounce::new(pace.quiet);
        let watch = Watch { pace, tree, notices, is_full, debounce, survey_at: None, has_missed: false };
        let thread = worker::spawn("watch", move || watch.run(&on_change))?;
        Ok(Self { sender, thread: Some(thread) })
    }

    /// Ends it. Nothing is told any more when this returns.
    ///
    /// # Errors
    /// When it had ended before, by a panic.
    pub fn stop(mut self) -> Result<()> {
        let _ = self.sender.send(Notice::End);
        self.thread.take().map_or(Ok(()), worker::join)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if self.thread.is_some() {
            let _ = self.sender.send(Notice::End);
        }
    }
}

/// Where events of the system go to.
#[derive(Clone)]
struct Outbox {
    sender: Sender<Notice>,
    /// Something did not fit.
    is_full: Arc<AtomicBool>,
}

impl Outbox {
    fn send(&self, event: notify::Result<notify::Event>) {
        for notice in notice::of(event) {
            if let Err(TrySendError::Full(_)) = self.sender.try_send(notice) {
                self.is_full.store(true, Ordering::SeqCst);
            }
        }
    }
}

/// The thread.
struct Watch {
    pace: Pace,
    tree: Tree,
    notices: Receiver<Notice>,
    is_full: Arc<AtomicBool>,
    debounce: Debounce,
    survey_at: Option<Instant>,
    /// Nobody knows what happened since the last survey.
    has_missed: bool,
}

impl Watch {
    fn run(mut self, on_change: &dyn Fn(&str)) {
        let notices = self.notices.clone();
        let mut next_look = Instant::now() + self.pace.look;
        loop {
            let deadlines = [Some(next_look), self.survey_at, self.debounce.due()];
            let deadline = deadlines.into_iter().flatten().min().unwrap_or(next_look);
            let first = notices.recv_deadline(deadline).ok();
            for notice in first.into_iter().chain(notices.try_iter().take(NOTICES)) {
                if notice == Notice::End {
                    return;
                }
                self.take(notice);
            }
            if self.is_full.swap(false, Ordering::SeqCst) {
                self.take(Notice::Missed);
            }
            let now = Instant::now();
            if self.survey_at.is_some_and(|at| at <= now) {
                self.survey_at = None;
                let touched =
                    if std::mem::take(&mut self.has_missed) { self.tree.rescan() } else { self.tree.survey() };
                self.debounce.touch(touched, now);
            }
            if next_look <= now {
                next_look = now + self.pace.look;
                self.debounce.touch(self.tree.look(), now);
            }
            for agent in self.debounce.take_due(now) {
                on_change(&agent);
            }
        }
    }

    fn take(&mut self, notice: Notice) {
        let now = Instant::now();
        let touched = match notice {
            Notice::Changed(path) => self.tree.agents_at(&path),
            Notice::Restructured { path, is_gone } => {
                self.survey_at.get_or_insert(now + self.pace.survey);
                self.tree.restructured(&path, is_gone)
            }
            Notice::Missed => {
                self.survey_at.get_or_insert(now + self.pace.survey);
                self.has_missed = true;
                return;
            }
            Notice::End => return,
        };
        self.debounce.touch(touched, now);
    }
}
