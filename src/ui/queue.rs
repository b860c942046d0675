//! Between runs and the view: a queue, so that whoever does not read our output cannot stop a run from being killed,
//! timed out or cleaned up.

use std::io::Write as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::Result;
use crossbeam_channel::{Receiver, Sender, unbounded};
use serde_json::Value;

use crate::base::log::Entry;
use crate::base::worker;
use crate::model::outcome::Outcome;
use crate::run::observer::{Observer, Report, RunInfo};

/// What may wait to be shown. Beyond it entries are dropped and counted; everything else is few and small.
const WAITING_BYTES: usize = 64 * 1024 * 1024;
/// Counted for every entry beside its texts.
const ENTRY_BYTES: usize = 200;

/// An observer that hands reports on to another one from a thread of its own.
pub struct Queue {
    /// `None` once it is closed. Bounded by `waiting`.
    sender: Mutex<Option<Sender<Owned>>>,
    waiting: Arc<AtomicUsize>,
    dropped: AtomicU64,
    thread: Mutex<Option<JoinHandle<Result<()>>>>,
}

/// A report that owns what it says.
enum Owned {
    Build { image: String, text: String },
    Started(RunInfo),
    Entry { agent: String, entry: Entry, bytes: usize },
    Status { instance: String, text: String },
    Ended { run: RunInfo, outcome: Box<Outcome> },
}

impl Queue {
    /// A queue before a view.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn before(view: Arc<dyn Observer>) -> Result<Self> {
        let (sender, reports) = unbounded();
        let waiting = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&waiting);
        let thread = worker::spawn("view", move || show(&reports, &*view, &counter))?;
        Ok(Self {
            sender: Mutex::new(Some(sender)),
            waiting,
            dropped: AtomicU64::new(0),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Waits until everything is shown, and gives the number of entries that were dropped.
    pub fn close(&self) -> u64 {
        drop(self.sender.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = worker::join(thread);
        }
        self.dropped.load(Ordering::SeqCst)
    }
}

impl Observer for Queue {
    fn report(&self, report: &Report<'_>) {
        let report = match report {
            // Beside the view: warnings go to stderr, whatever stdout shows.
            Report::Warning { text } => {
                let _ = writeln!(std::io::stderr(), "Warning: {text}");
                return;
            }
            // For whoever keeps a status; a reader sees the entries that say so.
            Report::ToolError { .. } | Report::Recorded { .. } | Report::Leftover { .. } => return,
            Report::Build { image, text } => Owned::Build { image: (*image).to_owned(), text: (*text).to_owned() },
            Report::Started(run) => Owned::Started((*run).clone()),
            Report::Status { instance, text } => {
                Owned::Status { instance: (*instance).to_owned(), text: (*text).to_owned() }
            }
            Report::Ended { run, outcome } => {
                Owned::Ended { run: (*run).clone(), outcome: Box::new((*outcome).clone()) }
            }
            Report::Entry { agent, entry } => {
                let bytes = size(entry);
                if self.waiting.fetch_add(bytes, Ordering::SeqCst) + bytes > WAITING_BYTES {
                    self.waiting.fetch_sub(bytes, Ordering::SeqCst);
                    self.dropped.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                Owned::Entry { agent: (*agent).to_owned(), entry: (*entry).clone(), bytes }
            }
        };
        if let Some(sender) = &*self.sender.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = sender.send(report);
        }
    }
}

fn show(reports: &Receiver<Owned>, view: &dyn Observer, waiting: &AtomicUsize) {
    for report in reports {
        match &report {
            Owned::Build { image, text } => view.report(&Report::Build { image, text }),
            Owned::Started(run) => view.report(&Report::Started(run)),
            Owned::Entry { agent, entry, bytes } => {
                view.report(&Report::Entry { agent, entry });
                waiting.fetch_sub(*bytes, Ordering::SeqCst);
            }
            Owned::Status { instance, text } => view.report(&Report::Status { instance, text }),
            Owned::Ended { run, outcome } => view.report(&Report::Ended { run, outcome }),
        }
    }
}

/// About how much memory an entry takes.
fn size(entry: &Entry) -> usize {
    fn of(value: &Value) -> usize {
        match value {
            Value::String(text) => text.len(),
            Value::Array(items) => items.iter().map(of).sum::<usize>() + ENTRY_BYTES,
            Value::Object(members) => {
                members.iter().map(|(name, value)| name.len() + of(value)).sum::<usize>() + ENTRY_BYTES
            }
            _ => 16,
        }
    }
    let fields = entry.fields.iter().map(|(name, value)| name.len() + of(value) + 64);
    ENTRY_BYTES + entry.msg.len() + fields.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::log::Level;
    use crossbeam_channel::bounded;

    /// A view that shows nothing until it is let go, and counts.
    struct Stuck {
        go: Receiver<()>,
        shown: AtomicU64,
    }

    impl Observer for Stuck {
        fn report(&self, _: &Report<'_>) {
            let _ = self.go.recv();
            self.shown.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_stuck_view_stops_nobody_and_loses_only_entries() {
        let (stop, go) = bounded(0);
        let view = Arc::new(Stuck { go, shown: AtomicU64::new(0) });
        let queue = Queue::before(view.clone()).unwrap();
        let entry = Entry::new(Level::Info, "output").field("text", "x".repeat(8 * 1024 * 1024));
        for _ in 0..10 {
            queue.report(&Report::Entry { agent: "dev", entry: &entry });
        }
        queue.report(&Report::Status { instance: "dev-1", text: "still there" });
        drop(stop);
        let dropped = queue.close();
        assert!(dropped > 0, "nothing was dropped");
        assert_eq!(view.shown.load(Ordering::SeqCst), 11 - dropped);
    }
}
