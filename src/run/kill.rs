//! A wish to end a run now, honoured in every step of its life; and the wish to leave it to another process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crossbeam_channel::Sender;

use crate::base::Cancel;

/// Answer to whoever wished a run dead: `Ok` when the container is (or never was), else why it could not be killed.
pub type Reply = Sender<Result<(), String>>;

/// The switch of one run. Before its container runs it prevents the start, afterwards the container is killed.
#[derive(Default)]
pub struct KillSwitch {
    token: Cancel,
    /// Used when the process ends and the container goes on.
    leave: Cancel,
    /// Whether there is a container that runs, or ran.
    launched: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    reason: Option<String>,
    waiting: Vec<Reply>,
    /// How killing went, once that is known.
    done: Option<Result<(), String>>,
}

impl KillSwitch {
    /// Wishes the run dead. The first reason counts.
    pub fn kill(&self, reason: &str, reply: Option<Reply>) {
        let mut state = self.lock();
        state.reason.get_or_insert_with(|| reason.to_owned());
        match (&state.done, reply) {
            (Some(done), Some(reply)) => {
                let _ = reply.send(done.clone());
            }
            (None, Some(reply)) => state.waiting.push(reply),
            (_, None) => {}
        }
        drop(state);
        self.token.cancel();
    }

    /// Becomes cancelled with the wish.
    pub fn token(&self) -> &Cancel {
        &self.token
    }

    /// Wishes that the container is left alone: this process ends, the next one goes on with the run.
    pub fn leave(&self) {
        self.leave.cancel();
    }

    /// The container runs: from here on another process can carry on with it.
    pub fn set_launched(&self) {
        self.launched.store(true, Ordering::Release);
    }

    /// Whether the container runs, or ran.
    pub fn is_launched(&self) -> bool {
        self.launched.load(Ordering::Acquire)
    }

    /// Becomes cancelled with [`KillSwitch::leave`].
    pub fn left(&self) -> &Cancel {
        &self.leave
    }

    /// Why the run is to end, if it is.
    pub fn reason(&self) -> Option<String> {
        self.lock().reason.clone()
    }

    /// Answers everybody who waits; later wishes get the same answer at once.
    pub fn answer(&self, result: Result<(), String>) {
        let mut state = self.lock();
        for reply in state.waiting.drain(..) {
            let _ = reply.send(result.clone());
        }
        state.done = Some(result);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::bounded;

    #[test]
    fn the_first_reason_counts_and_everybody_is_answered() {
        let switch = KillSwitch::default();
        let (first, first_answer) = bounded(1);
        switch.kill("one", Some(first));
        switch.kill("two", None);
        assert_eq!(switch.reason().as_deref(), Some("one"));
        assert!(switch.token().is_cancelled());
        switch.answer(Ok(()));
        assert_eq!(first_answer.try_recv(), Ok(Ok(())));
        let (late, late_answer) = bounded(1);
        switch.kill("three", Some(late));
        assert_eq!(late_answer.try_recv(), Ok(Ok(())));
    }
}
