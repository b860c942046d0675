//! Script mode: `test-script.sh` in place of a model session (containers.md §10.7).

use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use anyhow::{Context as _, Result};

use super::report::Reporter;
use super::setup::Paths;
use crate::env::Environment;
use crate::wire::paths::SCRIPT_NAME;

/// The script, when there is one.
pub(super) fn find(statics: &Path) -> Option<PathBuf> {
    Some(statics.join(SCRIPT_NAME)).filter(|script| script.exists())
}

/// Runs the script with this process's stdio; gives its exit status as a code, 128 + n when signal n killed it.
///
/// # Errors
/// The shell cannot be started.
pub(super) fn run(script: &Path, paths: &Paths, environment: &Environment, report: &Reporter) -> Result<i32> {
    report.info("script mode: running test-script.sh instead of LLM", &[]);
    report.share_output();
    let mut shell = Command::new("sh");
    environment.apply(&mut shell);
    // A group of its own, so that the script can be ended together with what it has started.
    let mut child = shell
        .arg(script)
        .current_dir(&paths.tmp)
        .process_group(0)
        .spawn()
        .with_context(|| format!("start sh {}", script.display()))?;
    let status = child.wait().with_context(|| format!("wait for sh {}", script.display()))?;
    Ok(exit_code(status))
}

fn exit_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_counts_from_128() {
        assert_eq!(exit_code(ExitStatus::from_raw(3 << 8)), 3);
        assert_eq!(exit_code(ExitStatus::from_raw(9)), 137);
    }
}
