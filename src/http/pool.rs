//! Threads that wait a while for more work before they end. Nothing is queued: a job gets a thread at once.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use crossbeam_channel::{Receiver, Sender, bounded};

use crate::base::worker;

type Job = Box<dyn FnOnce() + Send>;

/// Threads with a common name.
pub(super) struct Pool {
    name: String,
    /// How long a thread waits for its next job.
    idle_time: Duration,
    /// `None` once it is closed. Without capacity: a send succeeds only when a thread is waiting for it.
    jobs: Mutex<Option<Sender<Job>>>,
    waiting: Receiver<Job>,
    threads: Arc<Threads>,
}

#[derive(Default)]
struct Threads {
    state: Mutex<ThreadState>,
    ended: Condvar,
}

#[derive(Default)]
struct ThreadState {
    started: u64,
    running: Vec<u64>,
}

impl Threads {
    fn lock(&self) -> MutexGuard<'_, ThreadState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    pub(super) fn new(name: &str, idle_time: Duration) -> Self {
        let (jobs, waiting) = bounded(0);
        Self { name: name.to_owned(), idle_time, jobs: Mutex::new(Some(jobs)), waiting, threads: Arc::default() }
    }

    /// Runs a job on a waiting thread or a new one. A panic in it is reported by nobody here: jobs guard themselves.
    ///
    /// # Errors
    /// When the system refuses another thread; the job is then dropped.
    pub(super) fn run(&self, job: impl FnOnce() + Send + 'static) -> Result<()> {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match jobs.map(|jobs| jobs.try_send(Box::new(job))) {
            Some(Err(refused)) => self.start(refused.into_inner()),
            Some(Ok(())) | None => Ok(()),
        }
    }

    fn start(&self, first: Job) -> Result<()> {
        let number = {
            let mut state = self.threads.lock();
            state.started += 1;
            let number = state.started;
            state.running.push(number);
            number
        };
        let running = Running { threads: self.threads.clone(), number };
        let (waiting, idle_time) = (self.waiting.clone(), self.idle_time);
        // When it cannot be started, the closure is dropped, and `running` with it.
        worker::spawn(format!("{}-{number}", self.name), move || {
            let _running = running;
            let mut job = Some(first);
            while let Some(work) = job {
                let _ = worker::guarded(work);
                job = waiting.recv_timeout(idle_time).ok();
            }
        })?;
        Ok(())
    }

    /// Ends waiting threads and waits for working ones. Gives the names of those that did not end in time.
    pub(super) fn close(&self, until: Instant) -> Vec<String> {
        drop(self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
        let mut state = self.threads.lock();
        while !state.running.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.threads.ended.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.running.iter().map(|number| format!("{}-{number}", self.name)).collect()
    }
}

/// Counts a thread as long as it lives.
struct Running {
    threads: Arc<Threads>,
    number: u64,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.threads.lock().running.retain(|number| *number != self.number);
        self.threads.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_thread_is_used_again_and_panics_end_nothing() {
        let pool = Pool::new("test", Duration::from_secs(5));
        let (sender, receiver) = bounded(1);
        let soon = Duration::from_secs(10);
        pool.run(|| panic!("boom")).unwrap();
        let until = Instant::now() + soon;
        loop {
            let sender = sender.clone();
            pool.run(move || sender.send(std::thread::current().name().map(str::to_owned)).unwrap()).unwrap();
            let name = receiver.recv_timeout(soon).unwrap();
            // The first thread may still have been busy with its panic.
            if name.as_deref() == Some("test-1") {
                break;
            }
            assert!(Instant::now() < until, "never used again");
        }
        assert_eq!(pool.close(Instant::now() + soon), Vec::<String>::new());
    }

    #[test]
    fn closing_names_those_that_do_not_end() {
        let pool = Pool::new("test", Duration::from_secs(5));
        let (sender, receiver) = bounded::<()>(0);
        pool.run(move || assert!(receiver.recv().is_err())).unwrap();
        assert_eq!(pool.close(Instant::now()), ["test-1"]);
        drop(sender);
        assert!(pool.close(Instant::now() + Duration::from_secs(10)).is_empty());
    }
}
