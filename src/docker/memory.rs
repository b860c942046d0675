//! What the daemon and the network were found to be, remembered for as long as the same daemon runs.
//!
//! Asking costs starts of the client in every run, and the answers hardly ever change: the daemon's when it is started
//! anew, the network's when it is made anew. A remembered answer is used only when it is certain that the same daemon is
//! meant (the default endpoint of this host, with an unchanged pid file and socket) and the same network (its bridge is
//! there). Anything else, and anything unreadable, means asking again.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Docker;
use super::network::Network;
use super::probe::Probe;
use crate::base::files::write_atomic;
use crate::base::ids::sha256_hex;

const PID_FILE: &str = "/var/run/docker.pid";
const SOCKET: &str = "/var/run/docker.sock";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Variables that lead to another daemon.
const REDIRECTIONS: [&str; 2] = ["DOCKER_HOST", "DOCKER_CONTEXT"];

/// The remembered answers of one daemon.
pub struct Memory {
    path: PathBuf,
    /// Differs between daemons, and between versions of this program.
    identity: String,
}

/// What is certain without asking.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Known {
    pub probe: Option<Probe>,
    pub network: Option<Network>,
}

#[derive(Serialize, Deserialize)]
struct Remembered {
    identity: String,
    known: Known,
}

impl Memory {
    /// The memory in a directory that only we can write; `None` when it is not certain which daemon is meant.
    pub fn of(docker: &Docker, private_dir: &Path) -> Option<Self> {
        if REDIRECTIONS.iter().any(|name| docker.variable(name).is_some()) || has_context(docker) {
            return None;
        }
        let identity = identity(Path::new(PID_FILE), Path::new(SOCKET)).ok()?;
        Some(Self { path: private_dir.join("docker.json"), identity })
    }

    /// What is still certain; `network` is the name of the one that is wanted.
    pub fn recall(&self, network: &str) -> Known {
        let read = || serde_json::from_slice::<Remembered>(&fs::read(&self.path).ok()?).ok();
        let Some(remembered) = read().filter(|found| found.identity == self.identity) else { return Known::default() };
        let Known { probe, network: found } = remembered.known;
        Known { probe, network: found.filter(|found| found.name == network && found.has_bridge()) }
    }

    /// Remembers; that it cannot only means asking again.
    pub fn keep(&self, known: Known) {
        let remembered = Remembered { identity: self.identity.clone(), known };
        if let Ok(json) = serde_json::to_vec(&remembered) {
            let _ = write_atomic(&self.path, &json, 0o600);
        }
    }
}

/// Whether the client's configuration names another daemon than the default one.
fn has_context(docker: &Docker) -> bool {
    let in_home = || Some(Path::new(&docker.variable("HOME")?).join(".docker"));
    let Some(dir) = docker.variable("DOCKER_CONFIG").map(PathBuf::from).or_else(in_home) else { return false };
    match fs::read_to_string(dir.join("config.json")) {
        Ok(config) => config.contains("currentContext"),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

fn identity(pid_file: &Path, socket: &Path) -> io::Result<String> {
    let mut text = format!("{} {} ", env!("CARGO_PKG_VERSION"), env!("AL_REVISION"));
    text += fs::read_to_string(BOOT_ID)?.trim();
    text += fs::read_to_string(pid_file)?.trim();
    for path in [pid_file, socket] {
        let found = fs::metadata(path)?;
        text += &format!(" {}:{}:{}.{}", found.dev(), found.ino(), found.ctime(), found.ctime_nsec());
    }
    Ok(sha256_hex(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::probe::{Enforces, Facts};

    fn probe() -> Probe {
        let enforces = Enforces { memory: true, swap: true, pids: true, cpus: true };
        let facts = Facts {
            version: "20.10.24".into(),
            memory_bytes: 1 << 30,
            cpus: 2,
            rootless: false,
            selinux: false,
            enforces,
            open_files_limit: None,
        };
        Probe { facts, warnings: vec!["careful".into()] }
    }

    fn no_network() -> Network {
        let isolation = crate::docker::network::Isolation::Separated;
        Network { name: "al-net".into(), id: "0".repeat(64), gateway: None, subnet: None, isolation }
    }

    #[test]
    fn only_the_same_daemon_is_recognised() {
        let dir = tempfile::tempdir().unwrap();
        let (pid, socket) = (dir.path().join("pid"), dir.path().join("sock"));
        fs::write(&pid, "1").unwrap();
        fs::write(&socket, "").unwrap();
        let memory = |identity| Memory { path: dir.path().join("docker.json"), identity };
        let first = memory(identity(&pid, &socket).unwrap());
        assert_eq!(first.recall("al-net"), Known::default());
        first.keep(Known { probe: Some(probe()), network: Some(no_network()) });
        // A network whose bridge is not there is not certain.
        assert_eq!(first.recall("al-net"), Known { probe: Some(probe()), network: None });
        fs::remove_file(&pid).unwrap();
        fs::write(&pid, "2").unwrap();
        assert_eq!(memory(identity(&pid, &socket).unwrap()).recall("al-net"), Known::default());
        fs::write(dir.path().join("docker.json"), "{").unwrap();
        assert_eq!(first.recall("al-net"), Known::default());
    }

    #[test]
    fn a_redirected_client_has_no_memory() {
        let dir = tempfile::tempdir().unwrap();
        let docker = Docker::default().env("DOCKER_HOST", "unix:///run/user/1000/docker.sock");
        assert!(Memory::of(&docker, dir.path()).is_none());
        let docker = Docker::default().env("DOCKER_CONFIG", dir.path().to_str().unwrap());
        assert!(!has_context(&docker));
        fs::write(dir.path().join("config.json"), r#"{"auths": {}}"#).unwrap();
        assert!(!has_context(&docker));
        fs::write(dir.path().join("config.json"), r#"{"currentContext": "elsewhere"}"#).unwrap();
        assert!(has_context(&docker));
    }
}
