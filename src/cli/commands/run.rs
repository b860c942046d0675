//! `al run`: one agent, once.

use anyhow::{Result, bail};

use crate::cli::args::Run;

/// Runs an agent and gives its exit status.
pub(crate) fn run(_args: Run) -> Result<u8> {
    bail!("running is not wired yet")
}
