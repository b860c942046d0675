//! The project's lock (scheduler.md §1.2): held exclusively by a running scheduler, shared by one-shot runs. The kernel
//! frees it when its holder dies.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::base::files::ensure_private_dir;

/// A held lock; freed when dropped.
pub struct ProjectLock {
    _file: File,
}

impl ProjectLock {
    /// Takes the lock for a one-shot run, beside others of its kind.
    ///
    /// # Errors
    /// When a scheduler of this project is running, or the file cannot be opened.
    pub fn for_one_shot(project: &Path) -> Result<Self> {
        let dir = project.join(".al");
        ensure_private_dir(&dir)?;
        let path = dir.join("scheduler.lock");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).with_context(|| format!("open {}", path.display()))?;
        match file.try_lock_shared() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => {
                bail!("a scheduler of this project is running: {} is locked{}", path.display(), holder(&path))
            }
            Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("lock {}", path.display())),
        }
    }
}

/// What the holder wrote about itself, and what to do.
fn holder(path: &Path) -> String {
    let content = fs::read_to_string(path).unwrap_or_default();
    let who: Value = serde_json::from_str(&content).unwrap_or_default();
    let who = match &who["pid"] {
        Value::Null => String::new(),
        pid => format!(" by process {pid} (port {})", who["port"]),
    };
    format!("{who}\n  stop it to run an agent without it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_shot_runs_share_and_a_scheduler_excludes_them() {
        let project = tempfile::tempdir().unwrap();
        let first = ProjectLock::for_one_shot(project.path()).unwrap();
        let second = ProjectLock::for_one_shot(project.path()).unwrap();
        drop((first, second));
        let path = project.path().join(".al/scheduler.lock");
        fs::write(&path, r#"{"pid":4711,"port":8080}"#).unwrap();
        let scheduler = File::open(&path).unwrap();
        scheduler.try_lock().unwrap();
        let error = ProjectLock::for_one_shot(project.path()).err().unwrap().to_string();
        assert!(error.contains("4711") && error.contains("8080") && error.contains("scheduler.lock"), "{error}");
    }
}
