//! Whether the Docker daemon answers: noticed by whoever fails, watched until it is back, told to whoever waits.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::base::{Cancel, worker};
use crate::docker::Docker;

/// How often a daemon that does not answer is asked again.
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// How often whoever waits for the daemon looks whether it still should.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A change of the daemon's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It stopped answering; the failure.
    Down(String),
    Up,
}

/// Watches one daemon. Nothing is asked while everything works.
pub struct DaemonWatch {
    docker: Docker,
    is_down: Mutex<bool>,
    back: Condvar,
    on_change: Box<dyn Fn(Change) + Send + Sync>,
    stop: Cancel,
}

impl DaemonWatch {
    /// A watch over a daemon that answers now. `on_change` is called on whatever thread notices it. When the daemon is
    /// back, those who wait go on only after `on_change` has returned.
    pub fn new(docker: Docker, stop: Cancel, on_change: impl Fn(Change) + Send + Sync + 'static) -> Arc<Self> {
        let on_change = Box::new(on_change);
        Arc::new(Self { docker, is_down: Mutex::new(false), back: Condvar::new(), on_change, stop })
    }

    /// A call failed because the daemon does not answer; the error.
    pub fn report(self: &Arc<Self>, error: &str) {
        if std::mem::replace(&mut *self.lock(), true) {
            return;
        }
        (self.on_change)(Change::Down(error.to_owned()));
        let watch = Arc::clone(self);
        if worker::spawn("docker-watch", move || watch.watch()).is_err() {
            // Without the thread nobody would ever be told: better to fail again soon.
            (self.on_change)(Change::Up);
            self.set_up();
        }
    }

    /// Waits until the daemon answers again; false when the token was used before.
    pub fn wait_until_up(&self, cancel: &Cancel) -> bool {
        let mut is_down = self.lock();
        while *is_down {
            if cancel.is_cancelled() || self.stop.is_cancelled() {
                return false;
            }
            is_down = self.back.wait_timeout(is_down, LOOK_EVERY).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn watch(&self) {
        while self.stop.done().recv_timeout(PROBE_EVERY).is_err_and(|error| error.is_timeout()) {
            if self.docker.daemon_answers() {
                (self.on_change)(Change::Up);
                return self.set_up();
            }
        }
    }

    fn set_up(&self) {
        *self.lock() = false;
        self.back.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.is_down.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::unbounded;

    fn docker(dir: &tempfile::TempDir) -> Docker {
        let program = dir.path().join("docker");
        let script = format!("#!/bin/sh\ntest -e {}/up && echo 20.10\n", dir.path().display());
        crate::base::files::create_new(&program, script.as_bytes(), 0o755).unwrap();
        Docker::new(program)
    }

    #[test]
    fn it_is_told_once_and_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let (sender, changes) = unbounded();
        let watch = DaemonWatch::new(docker(&dir), Cancel::new(), move |change| drop(sender.send(change)));
        watch.report("gone");
        watch.report("gone");
        assert_eq!(changes.try_iter().collect::<Vec<_>>(), [Change::Down("gone".into())]);
        std::fs::write(dir.path().join("up"), "").unwrap();
        assert!(watch.wait_until_up(&Cancel::new()));
        assert_eq!(changes.try_iter().collect::<Vec<_>>(), [Change::Up]);
    }

    #[test]
    fn whoever_is_cancelled_does_not_wait() {
        let dir = tempfile::tempdir().unwrap();
        let stop = Cancel::new();
        let watch = DaemonWatch::new(docker(&dir), stop.clone(), |_| {});
        watch.report("gone");
        let cancel = Cancel::new();
        cancel.cancel();
        assert!(!watch.wait_until_up(&cancel));
        stop.cancel();
        assert!(!watch.wait_until_up(&Cancel::new()));
    }
}
