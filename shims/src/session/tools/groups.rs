//! The process groups that tools have started, so that none outlives the run (agent-session.md §6.4).

use std::collections::HashMap;
use std::io;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process_group};

/// Registry of process groups; clones share one. Any thread may end what it knows.
#[derive(Clone, Default)]
pub struct ToolGroups(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    groups: HashMap<Pid, Leader>,
    closed: bool,
}

/// The shell that a group is named after.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leader {
    /// Not reaped yet, so its number cannot belong to anybody else.
    Present,
    /// Reaped; only processes that it left behind keep the group alive.
    Gone,
}

impl ToolGroups {
    /// SIGKILL to every group. Later calls can start new ones.
    pub fn kill_all(&self) {
        self.lock().kill_all();
    }

    /// SIGKILL to every group, and no new one from now on: for a process that is about to exit.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.kill_all();
    }

    /// Starts a command as the leader of a new group.
    ///
    /// The registry stays locked until the group is in it, so [`ToolGroups::close`] misses nothing.
    pub(super) fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        let mut state = self.lock();
        if state.closed {
            return Err(io::Error::other("the run is ending"));
        }
        state.sweep();
        let child = command.spawn()?;
        state.groups.insert(Pid::from_child(&child), Leader::Present);
        Ok(child)
    }

    /// Sends a signal to one group.
    pub(super) fn signal(&self, group: Pid, signal: Signal) {
        if let Some(leader) = self.lock().groups.get(&group) {
            send(group, *leader, signal);
        }
    }

    /// To be called when the leader has been reaped: the group is remembered only while something of it is left.
    pub(super) fn reaped(&self, group: Pid) {
        let mut state = self.lock();
        state.groups.insert(group, Leader::Gone);
        state.sweep();
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        let mut state = self.lock();
        state.sweep();
        state.groups.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn kill_all(&mut self) {
        self.sweep();
        for (group, leader) in &self.groups {
            send(*group, *leader, Signal::KILL);
        }
    }

    /// Forgets groups without processes: their numbers may be given to others.
    fn sweep(&mut self) {
        self.groups
            .retain(|group, leader| *leader == Leader::Present || test_kill_process_group(*group) != Err(Errno::SRCH));
    }
}

/// Errors mean that there is nobody left, or nobody we may end.
fn send(group: Pid, leader: Leader, signal: Signal) {
    if kill_process_group(group, signal).is_err() && leader == Leader::Present {
        // A child that is still on its way to its own session has no group of its own yet.
        let _ = kill_process(group, signal);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::{CommandExt, ExitStatusExt};

    use super::*;

    fn sleeper() -> Command {
        let mut command = Command::new("sleep");
        command.arg("60").process_group(0);
        command
    }

    #[test]
    fn every_group_is_killed_from_another_thread() {
        let groups = ToolGroups::default();
        let mut children = [groups.spawn(&mut sleeper()).unwrap(), groups.spawn(&mut sleeper()).unwrap()];
        let other = groups.clone();
        std::thread::spawn(move || other.kill_all()).join().unwrap();
        for child in &mut children {
            assert_eq!(child.wait().unwrap().signal(), Some(9));
            groups.reaped(Pid::from_child(child));
        }
        assert_eq!(groups.count(), 0);
        let mut again = groups.spawn(&mut sleeper()).unwrap();
        groups.kill_all();
        again.wait().unwrap();
    }

    #[test]
    fn a_closed_registry_starts_nothing() {
        let groups = ToolGroups::default();
        groups.close();
        assert!(groups.spawn(&mut sleeper()).is_err());
    }
}
