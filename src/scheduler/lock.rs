//! The project's lock (scheduler.md §1.2): held exclusively by a running scheduler, shared by one-shot runs. The kernel
//! frees it when its holder dies.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::base::files::ensure_private_dir;

/// A held lock; freed when dropped.
pub struct ProjectLock {
    _file: File,
}

/// Whether somebody else of this project was alive when a one-shot run took its lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Company {
    /// Nobody: what dead one-shot runs left behind may be removed.
    Alone,
    Others,
}

impl ProjectLock {
    /// Takes the lock shared, for a one-shot run.
    ///
    /// # Errors
    /// When a scheduler of this project is running, or the file cannot be opened.
    pub fn for_one_shot(project: &Path) -> Result<(Self, Company)> {
        let dir = project.join(".al");
        ensure_private_dir(&dir)?;
        let path = dir.join("scheduler.lock");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("open {}", path.display()))?;
        let company = match file.try_lock() {
            // Turning it into a shared lock gives it up for a moment; whoever comes in between finds our containers
            // only after we have made them, and we have none yet.
            Ok(()) => {
                file.unlock().with_context(|| format!("unlock {}", path.display()))?;
                Company::Alone
            }
            Err(TryLockError::WouldBlock) => Company::Others,
            Err(TryLockError::Error(error)) => return Err(error).with_context(|| format!("lock {}", path.display())),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok((Self { _file: file }, company)),
            Err(TryLockError::WouldBlock) => {
                bail!("a scheduler of this project is running: {} is locked{}", path.display(), holder(&path))
            }
            Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("lock {}", path.display())),
        }
    }
}

/// ` by pid … (port …)` as the file says.
fn holder(path: &Path) -> String {
    let content = std::fs::read_to_string(path).unwrap_or_default();
    let Ok(json) = serde_json::from_str::<serde_json::Value>(&content) else { return String::new() };
    format!(" by process {} (port {})", json["pid"], json["port"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_shot_runs_share_and_a_scheduler_excludes_them() {
        let project = tempfile::tempdir().unwrap();
        let (first, company) = ProjectLock::for_one_shot(project.path()).unwrap();
        assert_eq!(company, Company::Alone);
        let (second, company) = ProjectLock::for_one_shot(project.path()).unwrap();
        assert_eq!(company, Company::Others);
        drop((first, second));
        let path = project.path().join(".al/scheduler.lock");
        std::fs::write(&path, r#"{"pid":4711,"port":8080}"#).unwrap();
        let scheduler = File::open(&path).unwrap();
        scheduler.try_lock().unwrap();
        let error = ProjectLock::for_one_shot(project.path()).err().unwrap().to_string();
        assert!(error.contains("4711") && error.contains("8080") && error.contains("scheduler.lock"), "{error}");
    }
}
