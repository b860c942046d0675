//! The processes that this process has started, found in `/proc`: so nobody has to keep a list, and whoever starts a
//! process cannot forget to enter it.
//!
//! Everything started for a run (script, preflight step, tool) leads a process group of its own. Processes that have
//! left their group's leader behind end with PID 1 of the container.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// Sends a signal to the process groups of all living children.
pub(super) fn signal_all(signal: Signal) {
    for child in living() {
        // Either fails when the child has ended in between.
        let _ = if child.leads_group { kill_process_group(child.pid, signal) } else { kill_process(child.pid, signal) };
    }
}

/// Waits until no child lives any more, at most for this long. Whoever started a child reaps it; looking at `/proc` is
/// the only way to see that from another thread, so this is a wait by polling.
pub(super) fn wait_until_gone(limit: Duration) {
    let deadline = Instant::now() + limit;
    while !living().is_empty() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
}

struct Child {
    pid: Pid,
    leads_group: bool,
}

fn living() -> Vec<Child> {
    let own = std::process::id();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let stats = names.filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).ok());
    stats.filter_map(|stat| parse_stat(&stat, own)).collect()
}

/// Reads a line of `/proc/<pid>/stat`; `None` unless it is a living child of `parent`.
fn parse_stat(stat: &str, parent: u32) -> Option<Child> {
    let (head, tail) = stat.rsplit_once(')')?;
    let pid: i32 = head.split_once(' ')?.0.parse().ok()?;
    let mut fields = tail.split_whitespace();
    let state = fields.next()?;
    let is_child = fields.next()?.parse() == Ok(parent);
    let group: i32 = fields.next()?.parse().ok()?;
    // The group of a dead leader may live on; it is reached as long as the leader has not been reaped.
    let gone = state == "X" || (state == "Z" && group != pid);
    (is_child && !gone).then_some(Child { pid: Pid::from_raw(pid)?, leads_group: group == pid })
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    use super::*;

    #[test]
    fn reads_process_lines_with_any_name() {
        #[track_caller]
        fn case(stat: &str, expected: Option<(i32, bool)>) {
            let found = parse_stat(stat, 10).map(|child| (child.pid.as_raw_nonzero().get(), child.leads_group));
            assert_eq!(found, expected, "{stat}");
        }
        case("12 (sh) S 10 12 5 0", Some((12, true)));
        case("12 (a) b) S 10 7 5 0", Some((12, false)));
        case("12 (sh) S 11 12 5 0", None);
        case("12 (sh) Z 10 7 5 0", None);
        case("12 sh", None);
    }

    #[test]
    fn finds_and_ends_a_child_with_its_group() {
        let mut child = Command::new("sleep").arg("60").process_group(0).spawn().unwrap();
        let pid = Pid::from_child(&child);
        assert!(living().iter().any(|found| found.pid == pid && found.leads_group));
        kill_process_group(pid, Signal::KILL).unwrap();
        child.wait().unwrap();
        assert!(!living().iter().any(|found| found.pid == pid));
    }
}
