//! PID 1 of a container: starts the worker and lets nobody become a zombie (containers.md §10.1 item 2).

use std::process::Command;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

/// Set in the worker's environment; the worker hides it from its own children.
pub(super) const CHILD_VARIABLE: &str = "AL_AGENT_CHILD";

const FORWARDED: [(i32, Signal); 4] =
    [(SIGTERM, Signal::TERM), (SIGINT, Signal::INT), (SIGHUP, Signal::HUP), (SIGQUIT, Signal::QUIT)];

/// Runs this program again as a child, reaps every process that ends, passes signals on, and gives the exit code of the
/// child (128 + n when signal n killed it).
///
/// # Errors
/// The child cannot be started.
pub(super) fn supervise() -> Result<i32> {
    // Before the child exists, so that its end cannot be missed. The handlers matter by themselves, too: PID 1 ignores
    // signals it has none for.
    let mut signals =
        Signals::new(FORWARDED.map(|(number, _)| number).iter().chain(&[SIGCHLD])).context("catch signals")?;
    let program = std::env::current_exe().context("find the own program")?;
    let child = Command::new(&program)
        .env(CHILD_VARIABLE, "1")
        .spawn()
        .with_context(|| format!("start {} as a child", program.display()))?;
    let child = Pid::from_child(&child);
    loop {
        for number in signals.wait() {
            match FORWARDED.iter().find(|(known, _)| *known == number) {
                // It may have ended already; then SIGCHLD is on its way.
                Some((_, signal)) => drop(kill_process(child, *signal)),
                None => {
                    if let Some(status) = reap_all(child) {
                        return Ok(exit_code(status));
                    }
                }
            }
        }
    }
}

/// Reaps whatever has ended; gives the status of `child` when it was among them.
fn reap_all(child: Pid) -> Option<WaitStatus> {
    let mut of_child = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid == child {
            of_child = Some(status);
        }
    }
    of_child
}

fn exit_code(status: WaitStatus) -> i32 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => crate::wire::exit::FAILED,
    }
}
