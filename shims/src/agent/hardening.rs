//! What the process takes away from itself and from everything it starts (containers.md §10.1 item 1).

use anyhow::{Context as _, Result};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{no_new_privs, set_no_new_privs};

/// Gives up gaining privileges for good, and closes this process's memory, environment and file descriptors to other
/// processes of the same user, which tools are. The second does not survive `exec`: every process does it for itself,
/// before it reads a secret.
///
/// # Errors
/// The system refuses one of the two.
pub(super) fn harden() -> Result<()> {
    if let Err(error) = set_no_new_privs(true)
        && !no_new_privs().unwrap_or(false)
    {
        return Err(error).context("set PR_SET_NO_NEW_PRIVS");
    }
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context("set PR_SET_DUMPABLE")
}
