//! Calls that run at the same time, each on a thread (agent-session.md §22.3).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};

use super::super::message::{ToolCall, ToolResult};
use super::super::tools;

/// Calls of one message, and what running them needs.
pub(super) struct Crew<'a> {
    pub(super) calls: &'a [&'a ToolCall],
    pub(super) context: &'a tools::Context,
    /// No call is started after it.
    pub(super) deadline: Option<Instant>,
}

/// What happens to the call with an index.
pub(super) enum Progress<'a> {
    Started(usize),
    Printed {
        index: usize,
        line: &'a str,
    },
    /// The result may still be changed.
    Done {
        index: usize,
        result: &'a mut ToolResult,
        took: Duration,
    },
}

/// What a thread says to the session.
enum Report {
    Started(usize),
    Printed(usize, String),
    Done(usize, ToolResult, Duration),
}

impl Crew<'_> {
    /// Runs the calls in at most so many threads. The results are in the order of the calls; those that were not started
    /// because the session ends have none. `None` when no thread could be had; nothing was run then.
    pub(super) fn run(
        &self,
        threads: usize,
        on_progress: &mut dyn FnMut(Progress<'_>),
    ) -> Option<Vec<Option<ToolResult>>> {
        let next = AtomicUsize::new(0);
        // Full: the threads wait until the session has taken what there is.
        let (sender, reports) = bounded(threads);
        let mut results: Vec<Option<ToolResult>> = vec![None; self.calls.len()];
        thread::scope(|scope| {
            for number in 0..threads {
                let (next, sender) = (&next, sender.clone());
                let name = format!("tool-{number}");
                let thread = thread::Builder::new().name(name).spawn_scoped(scope, move || self.work(next, &sender));
                match thread {
                    Ok(_) => {}
                    Err(_) if number == 0 => return None,
                    // The threads that there are do the work.
                    Err(_) => break,
                }
            }
            drop(sender);
            for report in reports {
                match report {
                    Report::Started(index) => on_progress(Progress::Started(index)),
                    Report::Printed(index, line) => on_progress(Progress::Printed { index, line: &line }),
                    Report::Done(index, mut result, took) => {
                        on_progress(Progress::Done { index, result: &mut result, took });
                        results[index] = Some(result);
                    }
                }
            }
            Some(results)
        })
    }

    /// Runs one call after another until none is left. Whoever hears of it is there as long as this thread.
    fn work(&self, next: &AtomicUsize, session: &Sender<Report>) {
        while !self.is_over() {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(call) = self.calls.get(index) else { return };
            let _ = session.send(Report::Started(index));
            let started = Instant::now();
            let result = tools::execute(call, self.context, &mut Telling { index, session });
            let _ = session.send(Report::Done(index, result, started.elapsed()));
        }
    }

    fn is_over(&self) -> bool {
        self.context.cancel.is_cancelled() || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}

/// Tells the session what a call prints. Nobody is asked about calls that run at the same time.
struct Telling<'a> {
    index: usize,
    session: &'a Sender<Report>,
}

impl tools::Attendant for Telling<'_> {
    fn printed(&mut self, line: &str) {
        let _ = self.session.send(Report::Printed(self.index, line.to_owned()));
    }
}
