//! The private directory of one run: credentials, run file, prompt (containers.md §6).
//!
//! A 0700 directory protects everything in it; what is inside is readable, because the reader is uid 1000 in the
//! container, perhaps remapped, and giving files to somebody else needs root.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use shims::wire::run_file::RunFile;

use crate::base::Secret;
use crate::base::files::{create_new, ensure_private_dir, is_in_memory};
use crate::model::names::{CredentialRef, InstanceId, ProjectHash};

/// Field values of one credential.
pub type Fields = BTreeMap<String, Secret>;

/// Name of our directory below a runtime directory.
const NAME: &str = "action-llama";
/// Directories inside a staging directory.
const CREDENTIALS: &str = "credentials";
const RUN: &str = "run";

/// What is said below an error about the place.
const ADVICE: &str = "\n  make room there, or choose another directory in memory with XDG_RUNTIME_DIR";

/// Where staging directories may be made, best first.
pub struct Roots {
    /// (path, only if it is in memory)
    candidates: Vec<(PathBuf, bool)>,
}

impl Roots {
    /// The candidates for this user and project.
    pub fn for_project(project: &Path) -> Self {
        let uid = rustix::process::geteuid();
        let mut candidates = Vec::new();
        if let Some(runtime) = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) {
            candidates.push((PathBuf::from(runtime).join(NAME), true));
        }
        if uid.is_root() {
            candidates.push((Path::new("/run").join(NAME), true));
        }
        candidates.push((PathBuf::from(format!("/dev/shm/{NAME}-{}", uid.as_raw())), true));
        candidates.push((project.join(".al/run"), false));
        Self { candidates }
    }

    /// The first candidate that can be used, made ready. Asked for every run: a runtime directory can disappear.
    ///
    /// # Errors
    /// When none can be used; says why for each.
    pub fn usable(&self) -> Result<PathBuf> {
        let mut refusals = Vec::new();
        for (path, only_in_memory) in &self.candidates {
            match make_usable(path, *only_in_memory) {
                Ok(()) => return Ok(path.clone()),
                Err(error) => refusals.push(format!("  - {}: {error:#}", path.display())),
            }
        }
        bail!("no private directory for a run's files can be made:\n{}{ADVICE}", refusals.join("\n"))
    }

    /// All candidates that exist, for cleaning up.
    pub fn existing(&self) -> impl Iterator<Item = &Path> {
        self.candidates.iter().map(|(path, _)| path.as_path()).filter(|path| path.is_dir())
    }
}

fn make_usable(path: &Path, only_in_memory: bool) -> Result<()> {
    let text = path.to_str().context("is not UTF-8")?;
    if text.contains([',', ':', '"']) {
        bail!("contains a character that a mount cannot have");
    }
    let parent = path.parent().context("has no parent")?;
    if only_in_memory {
        if !is_in_memory(parent) {
            bail!("is not in memory");
        }
    } else {
        fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
    }
    ensure_private_dir(path)
}

/// What a run finds in its container.
pub struct Content<'a> {
    pub credentials: &'a [(CredentialRef, Fields)],
    pub run_file: &'a RunFile,
    pub prompt: &'a str,
}

/// The directory of one run; removed with everything in it when this is dropped.
pub struct Staging {
    dir: PathBuf,
}

impl Staging {
    /// Fills a new directory `<root>/<project hash>.<instance id>`.
    ///
    /// # Errors
    /// When something cannot be written; nothing is left behind then.
    pub fn create(root: &Path, project: &ProjectHash, instance: &InstanceId, content: &Content<'_>) -> Result<Self> {
        let dir = root.join(dir_name(project, instance.as_str()));
        Self::make(dir, content).map_err(|error| anyhow!("{error:#}{ADVICE}"))
    }

    fn make(dir: PathBuf, content: &Content<'_>) -> Result<Self> {
        DirBuilder::new().mode(0o700).create(&dir).with_context(|| format!("create {}", dir.display()))?;
        let staging = Self { dir };
        // From here on dropping `staging` cleans up.
        set_mode(&staging.dir, 0o700)?;
        staging.fill(content)?;
        Ok(staging)
    }

    /// The directory that an earlier process made for a run that goes on.
    pub fn inherited(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Leaves the directory where it is.
    pub fn keep(self) {
        std::mem::forget(self);
    }

    /// Everything secret in it, as [`secrets_in`] its directory.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn secrets(&self) -> Result<Vec<Secret>> {
        secrets_in(&self.dir)
    }

    /// To be mounted at `/credentials`.
    pub fn credentials_dir(&self) -> PathBuf {
        self.dir.join(CREDENTIALS)
    }

    /// To be mounted at `/run/al`.
    pub fn run_dir(&self) -> PathBuf {
        self.dir.join(RUN)
    }

    /// The directory itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn fill(&self, content: &Content<'_>) -> Result<()> {
        let mut dirs = vec![self.credentials_dir()];
        for (reference, fields) in content.credentials {
            let kind_dir = self.credentials_dir().join(reference.kind());
            let instance_dir = kind_dir.join(reference.instance());
            fs::create_dir_all(&instance_dir).with_context(|| format!("create {}", instance_dir.display()))?;
            for (field, value) in fields {
                create_new(&instance_dir.join(field), format!("{}\n", value.expose()).as_bytes(), 0o444)?;
            }
            dirs.extend([kind_dir, instance_dir]);
        }
        let run_dir = self.run_dir();
        for dir in [&self.credentials_dir(), &run_dir] {
            fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        }
        let run_json = serde_json::to_vec(content.run_file).context("write run.json")?;
        create_new(&run_dir.join("run.json"), &run_json, 0o444)?;
        create_new(&run_dir.join("prompt.txt"), content.prompt.as_bytes(), 0o444)?;
        dirs.push(run_dir);
        dirs.iter().try_for_each(|dir| set_mode(dir, 0o555))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = remove(&self.dir);
    }
}

/// Everything secret in a staging directory: the values of credentials, and the secret of the run.
///
/// # Errors
/// When a file cannot be read.
pub fn secrets_in(dir: &Path) -> Result<Vec<Secret>> {
    let mut secrets = Vec::new();
    let read = |path: &Path| fs::read_to_string(path).with_context(|| format!("read {}", path.display()));
    for kind in entries(&dir.join(CREDENTIALS))? {
        for instance in entries(&kind)? {
            for field in entries(&instance)? {
                secrets.push(Secret::new(read(&field)?.trim()));
            }
        }
    }
    let run: RunFile = serde_json::from_str(&read(&dir.join(RUN).join("run.json"))?).context("read run.json")?;
    secrets.extend(run.shutdown_secret);
    Ok(secrets)
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let read = || -> std::io::Result<Vec<PathBuf>> { fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect() };
    read().with_context(|| format!("read {}", dir.display()))
}

/// Name of the directory of a run.
pub fn dir_name(project: &ProjectHash, instance: &str) -> String {
    format!("{project}.{instance}")
}

/// Removes a staging directory, whatever the modes inside are.
///
/// # Errors
/// When something cannot be removed.
pub fn remove(dir: &Path) -> Result<()> {
    fn open_up(dir: &Path) -> std::io::Result<()> {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open_up(&entry.path())?;
            }
        }
        Ok(())
    }
    open_up(dir).and_then(|()| fs::remove_dir_all(dir)).with_context(|| format!("remove {}", dir.display()))
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("set mode of {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::names::AgentName;
    use shims::wire::run_file::{Trigger, TriggerKind};
    use std::os::unix::fs::MetadataExt as _;

    fn run_file() -> RunFile {
        RunFile {
            v: 1,
            agent_name: "dev".into(),
            instance_id: "dev-00000000".into(),
            gateway_url: None,
            shutdown_secret: None,
            timeout_seconds: 900,
            trigger: Trigger { kind: TriggerKind::Manual, source: None },
            call_depth: 0,
            trace_parent: None,
            otlp_endpoint: None,
        }
    }

    #[test]
    fn everything_is_private_outside_and_readable_inside() {
        let root = tempfile::tempdir().unwrap();
        let instance = InstanceId::generate(&AgentName::parse("dev").unwrap());
        let fields = Fields::from([("token".to_owned(), Secret::new("t0p"))]);
        let credentials = [(CredentialRef::parse("github_token:bot").unwrap(), fields)];
        let content = Content { credentials: &credentials, run_file: &run_file(), prompt: "hello" };
        let staging = Staging::create(root.path(), &ProjectHash::of(root.path()), &instance, &content).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(staging.dir()), 0o700);
        let field = staging.credentials_dir().join("github_token/bot/token");
        assert_eq!((mode(&field), fs::read_to_string(&field).unwrap().as_str()), (0o444, "t0p\n"));
        assert_eq!(mode(field.parent().unwrap()), 0o555);
        assert_eq!(mode(&staging.run_dir()), 0o555);
        let secrets: Vec<_> = staging.secrets().unwrap().iter().map(|secret| secret.expose().to_owned()).collect();
        assert_eq!(secrets, ["t0p"]);
        let json: serde_json::Value =
            serde_json::from_slice(&fs::read(staging.run_dir().join("run.json")).unwrap()).unwrap();
        assert_eq!(json["gatewayUrl"], serde_json::Value::Null);
        let dir = staging.dir().to_owned();
        drop(staging);
        assert!(!dir.exists());
    }

    #[test]
    fn what_cannot_be_staged_is_told_with_the_place_and_what_chooses_it() {
        let root = tempfile::tempdir().unwrap();
        let (missing, project) = (root.path().join("missing"), ProjectHash::of(root.path()));
        let instance = InstanceId::generate(&AgentName::parse("dev").unwrap());
        let content = Content { credentials: &[], run_file: &run_file(), prompt: "" };
        let error = Staging::create(&missing, &project, &instance, &content).err().unwrap().to_string();
        let (first, advice) = error.split_once('\n').unwrap();
        assert!(first.starts_with(&format!("create {}/", missing.display())), "{error}");
        assert!(first.contains("No such file or directory") && advice.contains("XDG_RUNTIME_DIR"), "{error}");
    }

    #[test]
    fn a_path_that_cannot_be_mounted_is_not_used() {
        let root = tempfile::tempdir().unwrap();
        assert!(make_usable(&root.path().join("a,b"), false).is_err());
        assert!(make_usable(&root.path().join("ok"), false).is_ok());
    }
}
