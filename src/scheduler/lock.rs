//! The project's lock (scheduler.md §1.2): held exclusively by a running scheduler, shared by one-shot runs. The kernel
//! frees it when its holder dies.
//!
//! What the file says counts only while somebody holds the lock exclusively: it names the one gateway of this machine
//! that may see the project's gateway key.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::base::clock::UnixMs;
use crate::base::files::ensure_private_dir;

/// How long other holders are waited for. Commands that only look hold the lock for an instant, and so does a process
/// that its holder is just about to turn into another program.
const PASSERS_BY: Duration = Duration::from_millis(500);
/// Pause before the lock is tried again.
const PAUSE: Duration = Duration::from_millis(10);
/// Longest content that is read.
const LONGEST: u64 = 4096;

/// A held lock; freed when dropped.
pub struct ProjectLock {
    file: File,
    path: PathBuf,
    started_at: UnixMs,
}

/// Who holds the lock exclusively.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub pid: u32,
    /// Port of its gateway on this machine; `None` as long as it does not listen.
    pub port: Option<u16>,
    /// Instant as the holder wrote it.
    pub started_at: String,
}

impl ProjectLock {
    /// Takes the lock for a one-shot run, beside others of its kind.
    ///
    /// # Errors
    /// When a scheduler of this project is running, or the file cannot be opened.
    pub fn for_one_shot(project: &Path) -> Result<Self> {
        let (file, path) = open(project)?;
        if take(&path, || file.try_lock_shared())? {
            return Ok(Self { file, path, started_at: UnixMs::now() });
        }
        bail!(
            "a scheduler of this project is running: {} is locked{}\n  stop it to run an agent without it: al stop",
            path.display(),
            described(&path)
        );
    }

    /// Takes the lock for a scheduler, or for whoever works on the database in its place, and writes into it who holds
    /// it. Child processes do not inherit it.
    ///
    /// # Errors
    /// When somebody else holds it (the message says who), or the file cannot be opened or written.
    pub fn for_scheduler(project: &Path) -> Result<Self> {
        let (file, path) = open(project)?;
        if take(&path, || file.try_lock())? {
            let lock = Self { file, path, started_at: UnixMs::now() };
            lock.write(None)?;
            return Ok(lock);
        }
        if is_held_exclusively(&file, &path)? {
            bail!(
                "a scheduler of this project is running: {} is locked{}\n  stop it first: al stop",
                path.display(),
                described(&path)
            );
        }
        bail!("{} is locked by al run\n  wait until no `al run` of this project is going on", path.display());
    }

    /// Writes down where the gateway of this scheduler listens. To be called when it does, and only then: whoever asks
    /// afterwards shows the project's key to this port.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_port(&self, port: u16) -> Result<()> {
        self.write(Some(port))
    }

    /// Takes the port back, before the gateway stops listening.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn clear_port(&self) -> Result<()> {
        self.write(None)
    }

    /// Who holds the lock of a project exclusively; `None` when nobody does, whatever the file says.
    ///
    /// # Errors
    /// When the file is there but cannot be read, or somebody holds it who is another user.
    pub fn holder(project: &Path) -> Result<Option<Holder>> {
        let path = lock_path(project);
        let file = match File::open(&path) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
            opened => opened.with_context(|| format!("open {}", path.display()))?,
        };
        if !is_held_exclusively(&file, &path)? {
            return Ok(None);
        }
        let owner = file.metadata().with_context(|| format!("look at {}", path.display()))?.uid();
        if !may_be_believed(owner, rustix::process::geteuid().as_raw()) {
            bail!(
                "{} belongs to another user (uid {owner}), whose scheduler must not see your gateway key\n  run al as that \
                 user",
                path.display()
            );
        }
        Ok(Some(content(&path).unwrap_or(Holder { pid: 0, port: None, started_at: String::new() })))
    }

    fn write(&self, port: Option<u16>) -> Result<()> {
        let holder = json!({"pid": std::process::id(), "port": port, "startedAt": self.started_at.to_iso()});
        let line = format!("{holder}\n");
        // The old content goes first: until the new one is there, a reader finds nobody named.
        self.file
            .set_len(0)
            .and_then(|()| self.file.write_all_at(line.as_bytes(), 0))
            .with_context(|| format!("write {}", self.path.display()))
    }
}

impl Holder {
    /// For messages: `process 4711`.
    pub fn name(&self) -> String {
        if self.pid == 0 { "an unknown process".to_owned() } else { format!("process {}", self.pid) }
    }
}

/// The file that is locked.
pub fn lock_path(project: &Path) -> PathBuf {
    project.join(".al/scheduler.lock")
}

fn open(project: &Path) -> Result<(File, PathBuf)> {
    ensure_private_dir(&project.join(".al"))?;
    let path = lock_path(project);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(&path).with_context(|| format!("open {}", path.display()))?;
    file.set_permissions(fs::Permissions::from_mode(0o600))
        .with_context(|| format!("set mode of {} to 0600", path.display()))?;
    Ok((file, path))
}

/// Takes a lock, for which `try_lock` asks once; `false` when others keep it.
fn take(path: &Path, try_lock: impl Fn() -> Result<(), TryLockError>) -> Result<bool> {
    let until = Instant::now() + PASSERS_BY;
    loop {
        match try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) if Instant::now() >= until => return Ok(false),
            // A lock that may not be had has no event to wait for.
            Err(TryLockError::WouldBlock) => thread::sleep(PAUSE),
            Err(TryLockError::Error(error)) => return Err(error).with_context(|| format!("lock {}", path.display())),
        }
    }
}

/// Whether somebody else holds the lock exclusively. The test is to share it for an instant.
fn is_held_exclusively(file: &File, path: &Path) -> Result<bool> {
    match file.try_lock_shared() {
        Ok(()) => {
            file.unlock().with_context(|| format!("unlock {}", path.display()))?;
            Ok(false)
        }
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("lock {}", path.display())),
    }
}

/// Whether what stands in a file of this owner is believed: anybody can hold a lock in a directory of their own, and keys
/// belong to users, not to projects.
fn may_be_believed(owner: u32, user: u32) -> bool {
    owner == user || owner == 0
}

/// What the holder wrote about itself; `None` when it has not yet, or what stands there is by a process that is gone: it
/// was killed, and the present holder has not written anything yet.
fn content(path: &Path) -> Option<Holder> {
    use std::io::Read as _;
    let mut text = String::new();
    File::open(path).ok()?.take(LONGEST).read_to_string(&mut text).ok()?;
    let content: Value = serde_json::from_str(&text).ok()?;
    let pid = content["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok())?;
    is_alive(pid).then(|| Holder {
        pid,
        port: content["port"].as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0),
        started_at: content["startedAt"].as_str().unwrap_or_default().to_owned(),
    })
}

fn is_alive(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else { return false };
    !matches!(rustix::process::test_kill_process(pid), Err(rustix::io::Errno::SRCH))
}

/// What the holder wrote about itself, to stand behind "is locked".
fn described(path: &Path) -> String {
    match content(path) {
        Some(holder @ Holder { port: Some(port), .. }) => format!(" by {} (port {port})", holder.name()),
        Some(holder) => format!(" by {} (no port yet)", holder.name()),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(locked: Result<ProjectLock>) -> String {
        locked.err().unwrap().to_string()
    }

    #[test]
    fn one_shot_runs_share_and_a_scheduler_excludes_them() {
        let project = tempfile::tempdir().unwrap();
        let first = ProjectLock::for_one_shot(project.path()).unwrap();
        let second = ProjectLock::for_one_shot(project.path()).unwrap();
        drop((first, second));
        let scheduler = ProjectLock::for_scheduler(project.path()).unwrap();
        scheduler.set_port(8080).unwrap();
        let pid = std::process::id().to_string();
        for error in
            [refusal(ProjectLock::for_one_shot(project.path())), refusal(ProjectLock::for_scheduler(project.path()))]
        {
            for part in [&pid, "8080", "scheduler.lock", "al stop"] {
                assert!(error.contains(part), "{error}");
            }
        }
        drop(scheduler);
        ProjectLock::for_one_shot(project.path()).unwrap();
    }

    #[test]
    fn a_scheduler_does_not_start_beside_a_one_shot_run() {
        let project = tempfile::tempdir().unwrap();
        let run = ProjectLock::for_one_shot(project.path()).unwrap();
        let error = refusal(ProjectLock::for_scheduler(project.path()));
        assert!(error.contains("al run") && error.contains("scheduler.lock"), "{error}");
        assert_eq!(fs::read_to_string(lock_path(project.path())).unwrap(), "", "nothing is touched");
        drop(run);
        ProjectLock::for_scheduler(project.path()).unwrap();
    }

    #[test]
    fn looking_does_not_keep_a_scheduler_from_starting() {
        let project = tempfile::tempdir().unwrap();
        let file = {
            drop(ProjectLock::for_one_shot(project.path()).unwrap());
            File::open(lock_path(project.path())).unwrap()
        };
        file.lock_shared().unwrap();
        let looker = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            drop(file);
        });
        ProjectLock::for_scheduler(project.path()).unwrap();
        looker.join().unwrap();
    }

    #[test]
    fn the_content_is_one_private_line_of_json() {
        let project = tempfile::tempdir().unwrap();
        let path = lock_path(project.path());
        fs::create_dir(project.path().join(".al")).unwrap();
        fs::write(&path, "something\nlonger than what is written now, and readable by everybody\n".repeat(9)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let lock = ProjectLock::for_scheduler(project.path()).unwrap();
        let read = || fs::read_to_string(&path).unwrap();
        let (pid, started) = (std::process::id(), lock.started_at);
        assert_eq!(read(), format!("{{\"pid\":{pid},\"port\":null,\"startedAt\":\"{started}\"}}\n"));
        lock.set_port(65_535).unwrap();
        assert_eq!(read(), format!("{{\"pid\":{pid},\"port\":65535,\"startedAt\":\"{started}\"}}\n"));
        lock.clear_port().unwrap();
        assert_eq!(read(), format!("{{\"pid\":{pid},\"port\":null,\"startedAt\":\"{started}\"}}\n"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn only_who_holds_it_exclusively_is_believed() {
        let project = tempfile::tempdir().unwrap();
        assert_eq!(ProjectLock::holder(project.path()).unwrap(), None);
        assert!(!project.path().join(".al").exists(), "looking creates nothing");
        let run = ProjectLock::for_one_shot(project.path()).unwrap();
        let path = lock_path(project.path());
        let claim = format!("{{\"pid\":{},\"port\":1,\"startedAt\":\"x\"}}", std::process::id());
        fs::write(&path, &claim).unwrap();
        assert_eq!(ProjectLock::holder(project.path()).unwrap(), None, "a one-shot run has no gateway for us");
        drop(run);
        assert_eq!(ProjectLock::holder(project.path()).unwrap(), None, "nobody holds it");
        let lock = ProjectLock::for_scheduler(project.path()).unwrap();
        let found = ProjectLock::holder(project.path()).unwrap().unwrap();
        assert_eq!((found.pid, found.port), (std::process::id(), None));
        lock.set_port(8080).unwrap();
        assert_eq!(ProjectLock::holder(project.path()).unwrap().unwrap().port, Some(8080));
        for (content, what) in [
            ("{\"pid\":2147483646,\"port\":1}", "its writer is gone"),
            ("", "empty"),
            ("{\"pid\":1,\"po", "half"),
            ("[1]", "no object"),
        ] {
            fs::write(&path, content).unwrap();
            let found = ProjectLock::holder(project.path()).unwrap().unwrap();
            assert_eq!((found.port, found.name()), (None, "an unknown process".to_owned()), "{what}");
        }
        fs::write(&path, format!("{{\"pid\":{},\"port\":70000}}", std::process::id())).unwrap();
        assert_eq!(ProjectLock::holder(project.path()).unwrap().unwrap().port, None);
        drop(lock);
        assert_eq!(ProjectLock::holder(project.path()).unwrap(), None);
    }

    #[test]
    fn the_lock_of_another_user_names_nobody() {
        assert!(may_be_believed(1000, 1000) && may_be_believed(0, 1000) && may_be_believed(0, 0));
        assert!(!may_be_believed(1001, 1000) && !may_be_believed(1000, 0));
    }

    #[test]
    fn a_child_process_does_not_keep_it() {
        let project = tempfile::tempdir().unwrap();
        let lock = ProjectLock::for_scheduler(project.path()).unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        drop(lock);
        let again = ProjectLock::for_scheduler(project.path());
        child.kill().unwrap();
        child.wait().unwrap();
        again.unwrap();
    }
}
