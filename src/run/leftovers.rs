//! Finding what a killed one-shot run left behind, and removing it.
//!
//! Before a run makes anything it puts down a marker, a file below `.al/once/` that it keeps locked, and takes it away
//! when its container is certainly gone. A marker that can be locked belongs to a dead process: its container and its
//! staging directory may be removed. No run waits for another one, and nothing of a living run is ever touched.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::staging::{self, Roots};
use crate::base::files::ensure_private_dir;
use crate::docker::{Docker, inspect};
use crate::model::names::ProjectHash;

/// Where the markers of a project are.
pub fn marker_dir(project: &Path) -> PathBuf {
    project.join(".al/once")
}

/// The marker of a living run.
pub struct Marker {
    path: PathBuf,
    /// Locked for as long as the process lives.
    _file: File,
}

impl Marker {
    /// Puts a marker down. `name`: an instance id, or whatever else a private directory of this project is named after.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(dir: &Path, name: &str) -> Result<Self> {
        ensure_private_dir(dir)?;
        let path = dir.join(name);
        // Locked before it has its name: without the lock it would pass for a dead run's.
        let unnamed = dir.join(format!(".{name}"));
        let place = || -> Result<File> {
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unnamed)?;
            file.try_lock()?;
            fs::rename(&unnamed, &path)?;
            Ok(file)
        };
        let file = place().with_context(|| format!("write {}", path.display()))?;
        Ok(Self { path, _file: file })
    }

    /// Takes it away: nothing of the run is left.
    ///
    /// # Errors
    /// When it cannot be removed; the next run then finds that nothing is there.
    pub fn take_away(self) -> Result<()> {
        fs::remove_file(&self.path).with_context(|| format!("remove {}", self.path.display()))
    }
}

/// Removes what dead runs of a project left; what cannot be removed keeps its marker for the next time.
///
/// # Errors
/// The first thing that could not be removed.
pub fn remove(docker: &Docker, dir: &Path, project: &ProjectHash, roots: &Roots) -> Result<()> {
    let mut first_failure = None;
    for (instance, marker) in dead(dir) {
        if let Err(error) = remove_one(docker, &instance, &marker, project, roots) {
            first_failure.get_or_insert(error);
        }
    }
    first_failure.map_or(Ok(()), Err)
}

/// Whether there is any marker at all: hardly ever.
pub fn any(dir: &Path) -> bool {
    markers(dir).next().is_some()
}

fn markers(dir: &Path) -> impl Iterator<Item = (String, PathBuf)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let named = entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()));
    named.filter(|(name, _)| !name.starts_with('.'))
}

/// Markers whose process is dead, each locked by us now.
fn dead(dir: &Path) -> Vec<(String, (PathBuf, File))> {
    let locked = |path: &Path| {
        let file = OpenOptions::new().write(true).open(path).ok()?;
        file.try_lock().ok().map(|()| file)
    };
    markers(dir).filter_map(|(name, path)| Some((name, (path.clone(), locked(&path)?)))).collect()
}

fn remove_one(
    docker: &Docker,
    instance: &str,
    (marker, _locked): &(PathBuf, File),
    project: &ProjectHash,
    roots: &Roots,
) -> Result<()> {
    let container = format!("al-{instance}");
    match inspect::list(docker, inspect::Which::OfProject(project))?.iter().find(|found| found.name == container) {
        Some(found) if !found.once => bail!("container {container} is not of a one-shot run"),
        Some(_) => inspect::remove(docker, &container)?,
        None => {}
    }
    for root in roots.existing() {
        let dir = root.join(staging::dir_name(project, instance));
        if dir.exists() {
            staging::remove(&dir)?;
        }
    }
    fs::remove_file(marker).with_context(|| format!("remove {}", marker.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::names::{AgentName, InstanceId};

    #[test]
    fn only_markers_of_dead_runs_are_found() {
        let project = tempfile::tempdir().unwrap();
        fs::create_dir(project.path().join(".al")).unwrap();
        let dir = marker_dir(project.path());
        assert!(!any(&dir));
        let instance = InstanceId::generate(&AgentName::parse("dev").unwrap());
        let marker = Marker::put(&dir, instance.as_str()).unwrap();
        assert!(any(&dir));
        assert!(dead(&dir).is_empty());
        // The process dies: the kernel gives the lock back, the file stays.
        let Marker { path, _file: file } = marker;
        drop(file);
        assert_eq!(dead(&dir).into_iter().map(|(name, _)| name).collect::<Vec<_>>(), [instance.as_str()]);
        fs::remove_file(path).unwrap();
        Marker::put(&dir, instance.as_str()).unwrap().take_away().unwrap();
        assert!(!any(&dir));
    }
}
