//! Threads that take turns at a source of jobs.
//!
//! Whoever waits at the source and gets a job does it. Passing it on to another thread would cost a wake-up, which
//! takes longer than answering a short request. Before a thread turns to its job it makes sure that somebody else waits
//! at the source, so the number of jobs under way at once is limited by the source alone.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::base::worker;

/// Threads that wait at the source when there is nothing to do: while one takes a job, the next one waits already.
const AT_SOURCE: usize = 2;

/// Where jobs come from and what is done with them.
pub(super) trait Source: Send + Sync + 'static {
    type Job;

    /// Waits for the next job; several threads do so at once. `None`: there will be none any more.
    fn next(&self) -> Option<Self::Job>;

    /// Does a job. A panic in it is reported by nobody else.
    fn work(&self, job: Self::Job);

    /// Gives a job up because the system refuses the thread that would have to wait for the next one.
    fn give_up(&self, job: Self::Job, error: &anyhow::Error);
}

/// Threads with a common name.
pub(super) struct Pool {
    name: &'static str,
    /// How long a thread that is not needed at the source rests before it ends.
    idle_time: Duration,
    state: Mutex<State>,
    /// For those that rest.
    called: Condvar,
    /// For whoever closes the pool: threads have left the source or ended.
    fewer: Condvar,
}

#[derive(Default)]
struct State {
    started: u64,
    running: Vec<u64>,
    /// Threads that wait at the source, or are on their way there.
    at_source: usize,
    resting: usize,
    /// How many of those that rest are to go to the source; they count as being there.
    calls: usize,
    closed: bool,
}

impl Pool {
    pub(super) fn new(name: &'static str, idle_time: Duration) -> Arc<Self> {
        Arc::new(Self { name, idle_time, state: Mutex::default(), called: Condvar::new(), fewer: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the first thread to the source.
    ///
    /// # Errors
    /// When the system refuses it.
    pub(super) fn start<S: Source>(self: &Arc<Self>, source: &Arc<S>) -> Result<()> {
        self.lock().at_source += 1;
        self.spawn(source).inspect_err(|_| self.lock().at_source -= 1)
    }

    /// Starts a thread that is counted as being at the source already.
    fn spawn<S: Source>(self: &Arc<Self>, source: &Arc<S>) -> Result<()> {
        let number = {
            let mut state = self.lock();
            state.started += 1;
            let number = state.started;
            state.running.push(number);
            number
        };
        // When it cannot be started, the closure is dropped, and `running` with it.
        let running = Running { pool: self.clone(), number };
        let source = source.clone();
        worker::spawn(format!("{}-{number}", self.name), move || running.pool.take_turns(&source)).map(drop)
    }

    fn take_turns<S: Source>(self: &Arc<Self>, source: &Arc<S>) {
        while let Some(job) = source.next() {
            if let Err(error) = self.leave_source(source) {
                source.give_up(job, &error);
                continue;
            }
            let _ = worker::guarded(|| source.work(job));
            if !self.return_to_source() {
                return;
            }
        }
        self.lock().at_source -= 1;
        self.fewer.notify_all();
    }

    /// Makes sure that somebody else waits at the source.
    ///
    /// # Errors
    /// When there is nobody else: the caller has to stay.
    fn leave_source<S: Source>(self: &Arc<Self>, source: &Arc<S>) -> Result<()> {
        {
            let mut state = self.lock();
            if state.at_source > 1 || state.closed {
                state.at_source -= 1;
                if state.closed {
                    self.fewer.notify_all();
                }
                return Ok(());
            }
            // Another one takes this thread's place, so the number of those at the source stays.
            if state.resting > state.calls {
                state.calls += 1;
                self.called.notify_one();
                return Ok(());
            }
        }
        self.spawn(source)
    }

    /// Waits until it is this thread's turn; false: it has to end.
    fn return_to_source(&self) -> bool {
        let mut state = self.lock();
        if state.closed {
            return false;
        }
        if state.at_source < AT_SOURCE {
            state.at_source += 1;
            return true;
        }
        state.resting += 1;
        let rests = |state: &mut State| state.calls == 0 && !state.closed;
        let rested = self.called.wait_timeout_while(state, self.idle_time, rests);
        let mut state = rested.unwrap_or_else(PoisonError::into_inner).0;
        state.resting -= 1;
        let is_called = state.calls > 0;
        state.calls -= usize::from(is_called);
        is_called
    }

    /// Waits until nobody is at the source any more, which has to say that there are no more jobs.
    pub(super) fn leave(&self, until: Instant) {
        self.lock().closed = true;
        self.called.notify_all();
        drop(self.wait_while(until, |state| state.at_source > 0));
    }

    /// Waits for the end of all threads. Gives the names of those that did not end in time.
    pub(super) fn close(&self, until: Instant) -> Vec<String> {
        self.leave(until);
        let state = self.wait_while(until, |state| !state.running.is_empty());
        state.running.iter().map(|number| format!("{}-{number}", self.name)).collect()
    }

    fn wait_while(&self, until: Instant, condition: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let left = until.saturating_duration_since(Instant::now());
        let waited = self.fewer.wait_timeout_while(self.lock(), left, |state| condition(state));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Counts a thread as long as it lives.
struct Running {
    pool: Arc<Pool>,
    number: u64,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.pool.lock().running.retain(|number| *number != self.number);
        self.pool.fewer.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::{Receiver, Sender, unbounded};
    use std::collections::BTreeSet;

    /// Jobs come from a channel and tell which thread does them.
    struct Channel {
        jobs: Receiver<Box<dyn Fn() + Send>>,
        names: Sender<String>,
    }

    impl Source for Channel {
        type Job = Box<dyn Fn() + Send>;

        fn next(&self) -> Option<Self::Job> {
            self.jobs.recv().ok()
        }

        fn work(&self, job: Self::Job) {
            self.names.send(std::thread::current().name().unwrap().to_owned()).unwrap();
            job();
        }

        fn give_up(&self, _: Self::Job, error: &anyhow::Error) {
            panic!("{error}");
        }
    }

    struct Bed {
        pool: Arc<Pool>,
        jobs: Sender<Box<dyn Fn() + Send>>,
        names: Receiver<String>,
    }

    fn bed(idle_time: Duration) -> Bed {
        let (jobs, source) = unbounded();
        let (sender, names) = unbounded();
        let pool = Pool::new("test", idle_time);
        pool.start(&Arc::new(Channel { jobs: source, names: sender })).unwrap();
        Bed { pool, jobs, names }
    }

    impl Bed {
        fn give(&self, job: impl Fn() + Send + 'static) -> String {
            self.jobs.send(Box::new(job)).unwrap();
            self.names.recv_timeout(SOON).expect("somebody is at the source")
        }

        /// Closes and gives who did not end.
        fn close(self, until: Instant) -> Vec<String> {
            drop(self.jobs);
            self.pool.close(until)
        }
    }

    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn there_is_always_somebody_at_the_source() {
        let bed = bed(SOON);
        let (end, hold) = unbounded::<()>();
        for _ in 0..200 {
            let hold = hold.clone();
            bed.jobs.send(Box::new(move || assert!(hold.recv().is_err()))).unwrap();
        }
        for begun in 0..200 {
            assert!(bed.names.recv_timeout(SOON).is_ok(), "nobody is there after {begun} jobs");
        }
        drop(end);
        assert_eq!(bed.close(Instant::now() + SOON), Vec::<String>::new());
    }

    #[test]
    fn threads_are_used_again_and_panics_end_nothing() {
        let bed = bed(SOON);
        bed.give(|| panic!("as asked"));
        let names: BTreeSet<String> = (0..200).map(|_| bed.give(|| ())).collect();
        assert!(names.len() < 50, "{names:?}");
        assert_eq!(bed.close(Instant::now() + SOON), Vec::<String>::new());
    }

    #[test]
    fn whoever_is_not_needed_for_long_ends() {
        let bed = bed(Duration::ZERO);
        let (end, hold) = unbounded::<()>();
        for _ in 0..8 {
            let hold = hold.clone();
            bed.give(move || assert!(hold.recv().is_err()));
        }
        drop(end);
        let state = bed.pool.wait_while(Instant::now() + SOON, |state| state.running.len() > AT_SOURCE);
        assert!(state.running.len() <= AT_SOURCE, "{:?}", state.running);
        drop(state);
        bed.give(|| ());
        assert_eq!(bed.close(Instant::now() + SOON), Vec::<String>::new());
    }

    #[test]
    fn closing_names_those_that_do_not_end() {
        let bed = bed(SOON);
        let pool = bed.pool.clone();
        let (end, hold) = unbounded::<()>();
        bed.give(move || assert!(hold.recv().is_err()));
        assert_eq!(bed.close(Instant::now() + Duration::from_millis(100)), ["test-1"]);
        drop(end);
        assert!(pool.close(Instant::now() + SOON).is_empty());
    }
}
