//! A directory for files of one process that nobody else may read, such as a key that a program has to be given as a file.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::base::ids::hex8;

/// File in it that is locked for as long as the process lives.
const LOCK: &str = "lock";

/// The directory; removed with everything in it when this is dropped.
pub struct PrivateDir {
    path: PathBuf,
    _lock: File,
}

impl PrivateDir {
    /// Makes a new one, `<root>/<kind>.<random>`.
    ///
    /// # Errors
    /// When it cannot be made; nothing is left behind then.
    pub fn create(root: &Path, kind: &str) -> Result<Self> {
        let path = root.join(format!("{kind}.{}", hex8()));
        // Locked before it has its name: without the lock it would pass for a dead process's.
        let unnamed = root.join(format!(".{kind}.{}", hex8()));
        let make = || -> std::io::Result<File> {
            DirBuilder::new().mode(0o700).create(&unnamed)?;
            let lock = OpenOptions::new().write(true).create_new(true).mode(0o600).open(unnamed.join(LOCK))?;
            lock.try_lock()?;
            fs::rename(&unnamed, &path)?;
            Ok(lock)
        };
        match make() {
            Ok(lock) => Ok(Self { path, _lock: lock }),
            Err(error) => {
                let _ = fs::remove_dir_all(&unnamed);
                Err(error).with_context(|| format!("create {}", path.display()))
            }
        }
    }

    /// Removes those of this user that processes left behind which were killed. What cannot be removed stays for the next
    /// time.
    pub fn remove_dead(root: &Path, kind: &str) {
        for entry in fs::read_dir(root).into_iter().flatten().flatten() {
            let is_one = entry
                .file_name()
                .to_str()
                .is_some_and(|name| name.strip_prefix(kind).is_some_and(|rest| rest.starts_with('.')));
            if is_one && is_dead(&entry.path()) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Whether a directory is ours and nobody holds its lock any more. Others may have put anything there.
fn is_dead(dir: &Path) -> bool {
    let own = rustix::process::geteuid().as_raw();
    let is_ours = dir.symlink_metadata().is_ok_and(|found| found.is_dir() && found.uid() == own);
    is_ours && OpenOptions::new().write(true).open(dir.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok())
}

impl Drop for PrivateDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_private_and_gone_with_its_owner() {
        let root = tempfile::tempdir().unwrap();
        let dir = PrivateDir::create(root.path(), "chat").unwrap();
        let path = dir.path().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        fs::write(path.join("key"), "secret").unwrap();
        PrivateDir::remove_dead(root.path(), "chat");
        assert!(path.join("key").exists(), "its process lives");
        drop(dir);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn those_of_dead_processes_are_removed() {
        let root = tempfile::tempdir().unwrap();
        let PrivateDir { path, _lock } =
            &*std::mem::ManuallyDrop::new(PrivateDir::create(root.path(), "chat").unwrap());
        fs::write(path.join("key"), "secret").unwrap();
        fs::create_dir(root.path().join("chatter.1")).unwrap();
        // The process dies: the kernel gives the lock back, the files stay.
        _lock.unlock().unwrap();
        PrivateDir::remove_dead(root.path(), "chat");
        let left: Vec<_> = fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["chatter.1"]);
    }
}
