//! `al doctor`.

use anyhow::{Result, bail};

use crate::cli::args::Doctor;

/// Checks a project.
pub(crate) fn run(_args: Doctor) -> Result<u8> {
    bail!("the checks are not wired yet")
}
