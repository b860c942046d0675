//! Processes that commands have left behind, in whatever session or group: they do not outlive the chat.
//!
//! A process whose parent is gone becomes a child of this one instead of the system's first. So killing children until there
//! are none reaches all descendants, and nobody else.

use std::thread;
use std::time::{Duration, Instant};
use std::{fs, io};

use anyhow::{Context as _, Result};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, pidfd_open, pidfd_send_signal, set_child_subreaper, wait,
};

/// How long children may take to end after SIGKILL; there may be some that belong to somebody else and cannot be killed.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it is looked whether they have.
const LOOK: Duration = Duration::from_millis(5);

/// Has orphans become children of this process.
///
/// # Errors
/// When the system refuses.
pub(super) fn adopt() -> Result<()> {
    set_child_subreaper(Some(getpid())).context("adopt processes that commands leave behind")
}

/// Lets those that have ended vanish; gives whether there are others. Only for moments in which nobody waits for a child.
pub(super) fn reap() -> bool {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// Kills all of them.
pub(super) fn kill() {
    let deadline = Instant::now() + PATIENCE;
    while reap() && Instant::now() < deadline {
        children().into_iter().flatten().for_each(kill_child);
        // Which of them ends next cannot be waited for together with the deadline.
        thread::sleep(LOOK);
    }
}

/// Processes that were children of this one a moment ago.
fn children() -> io::Result<Vec<Pid>> {
    let names = fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(names.filter_map(Pid::from_raw).filter(|pid| is_child(*pid)).collect())
}

fn kill_child(child: Pid) {
    let Ok(process) = pidfd_open(child, PidfdFlags::empty()) else { return };
    // Looked at again: the number may have been given to a stranger before it was opened.
    if is_child(child) {
        let _ = pidfd_send_signal(process, Signal::KILL);
    }
}

fn is_child(process: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    parent(&stat) == Some(getpid().as_raw_nonzero().get())
}

/// The parent in a line of `/proc/<pid>/stat`; the name before it may hold anything.
fn parent(stat: &str) -> Option<i32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_parent_is_found_behind_any_name() {
        assert_eq!(parent("12 (sh) S 10 12 5 0"), Some(10));
        assert_eq!(parent("12 (a) b) S 7 7 5 0"), Some(7));
        assert_eq!(parent("12 sh"), None);
    }

    #[test]
    fn only_children_are_found() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = Pid::from_child(&child);
        let children = children().unwrap();
        assert!(children.contains(&pid) && !children.contains(&getpid()));
        kill_child(pid);
        child.wait().unwrap();
    }
}
