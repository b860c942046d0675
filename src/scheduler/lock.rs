//! The project's lock (scheduler.md §1.2): held exclusively by a running scheduler, shared by one-shot runs. The kernel
//! frees it when its holder dies.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::base::files::ensure_private_dir;

/// How long a one-shot run waits for another one that is cleaning up.
const CLEANING_LIMIT: Duration = Duration::from_secs(10);
/// Differs between starts of the machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const PAUSE: Duration = Duration::from_millis(20);

/// A held lock; freed when dropped.
pub struct ProjectLock {
    file: File,
    path: PathBuf,
}

/// Whether somebody else of this project was alive when a one-shot run took its lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Company {
    /// Nobody, and nobody can come before [`ProjectLock::share`]: what dead one-shot runs left may be removed. `boot`
    /// says whether the machine was started since the last one.
    Alone {
        boot: Boot,
    },
    Others,
}

/// Whether the machine has been started anew; private directories in memory are gone then, containers are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boot {
    Same,
    Another,
}

impl ProjectLock {
    /// Takes the lock for a one-shot run: shared, or exclusively for now when nobody else has it.
    ///
    /// # Errors
    /// When a scheduler of this project is running, or the file cannot be opened.
    pub fn for_one_shot(project: &Path) -> Result<(Self, Company)> {
        let dir = project.join(".al");
        ensure_private_dir(&dir)?;
        let path = dir.join("scheduler.lock");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).with_context(|| format!("open {}", path.display()))?;
        let lock = Self { file, path };
        let deadline = Instant::now() + CLEANING_LIMIT;
        loop {
            if attempt(lock.file.try_lock(), &lock.path)? {
                let boot_id = fs::read_to_string(BOOT_ID).unwrap_or_default();
                let boot = if lock.holder()["boot"] == boot_id.trim() { Boot::Same } else { Boot::Another };
                let content = json!({"pid": std::process::id(), "cleaning": true, "boot": boot_id.trim()});
                fs::write(&lock.path, content.to_string()).with_context(|| format!("write {}", lock.path.display()))?;
                return Ok((lock, Company::Alone { boot }));
            }
            if attempt(lock.file.try_lock_shared(), &lock.path)? {
                return Ok((lock, Company::Others));
            }
            let holder = lock.holder();
            if holder["cleaning"] != true || Instant::now() >= deadline {
                bail!(
                    "a scheduler of this project is running: {} is locked by process {} (port {})\n  stop it with `al \
                     stop` to run an agent without it",
                    lock.path.display(),
                    holder["pid"],
                    holder["port"]
                );
            }
            // A lock that comes free makes no event that can be waited for with a limit.
            std::thread::sleep(PAUSE);
        }
    }

    /// Lets other one-shot runs in.
    ///
    /// # Errors
    /// When the system refuses, or a scheduler came in between.
    pub fn share(self) -> Result<Self> {
        if !attempt(self.file.try_lock_shared(), &self.path)? {
            bail!("a scheduler of this project has just been started: {} is locked", self.path.display());
        }
        Ok(self)
    }

    /// What the holder wrote about itself.
    fn holder(&self) -> Value {
        let content = fs::read_to_string(&self.path).unwrap_or_default();
        serde_json::from_str(&content).unwrap_or_default()
    }
}

/// Whether the lock was to be had.
fn attempt(locked: Result<(), TryLockError>, path: &Path) -> Result<bool> {
    match locked {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("lock {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_shot_runs_share_and_a_scheduler_excludes_them() {
        let project = tempfile::tempdir().unwrap();
        let (first, company) = ProjectLock::for_one_shot(project.path()).unwrap();
        assert_eq!(company, Company::Alone { boot: Boot::Another });
        let first = first.share().unwrap();
        let (second, company) = ProjectLock::for_one_shot(project.path()).unwrap();
        assert_eq!(company, Company::Others);
        drop((first, second));
        let (third, company) = ProjectLock::for_one_shot(project.path()).unwrap();
        assert_eq!(company, Company::Alone { boot: Boot::Same });
        drop(third);
        let path = project.path().join(".al/scheduler.lock");
        fs::write(&path, r#"{"pid":4711,"port":8080}"#).unwrap();
        let scheduler = File::open(&path).unwrap();
        scheduler.try_lock().unwrap();
        let error = ProjectLock::for_one_shot(project.path()).err().unwrap().to_string();
        assert!(error.contains("4711") && error.contains("8080") && error.contains("scheduler.lock"), "{error}");
    }

    #[test]
    fn a_second_run_waits_while_the_first_one_cleans_up() {
        let project = tempfile::tempdir().unwrap();
        let (first, _) = ProjectLock::for_one_shot(project.path()).unwrap();
        let path = project.path().to_owned();
        let second = std::thread::spawn(move || ProjectLock::for_one_shot(&path).map(|(_, company)| company));
        let first = first.share().unwrap();
        assert_eq!(second.join().unwrap().unwrap(), Company::Others);
        drop(first);
    }
}
