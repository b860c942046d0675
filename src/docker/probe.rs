//! What the daemon is and can do: whether runs are possible here, and what people should know about it.
//!
//! Findings are data, because `al start` stops at them and `al doctor` reports them.

use std::fmt;

use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Serialize};

use super::cli::{Docker, Failure, PROBE_LIMIT, classify};
use crate::base::process::{Limit, Output, Reason, error_tail};
use crate::base::text::printable;

/// Oldest engine that has everything needed.
const MINIMUM: (u32, u32) = (20, 10);
/// Architecture of the in-container programs inside this program.
const ARCHITECTURE: &str = env!("AL_TARGET_ARCH");
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// A usable daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    pub facts: Facts,
    /// What does not keep anything from working, a sentence each.
    pub warnings: Vec<String>,
}

/// What launching depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Version of the engine.
    pub version: String,
    /// RAM of the host.
    pub memory_bytes: u64,
    pub cpus: u32,
    pub rootless: bool,
    pub selinux: bool,
    /// Limits that the kernel lets the daemon enforce.
    pub enforces: Enforces,
    /// Most open files that a container may be given, where the daemon runs as an ordinary user.
    pub open_files_limit: Option<u64>,
}

/// Limits that a daemon can enforce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enforces {
    pub memory: bool,
    pub swap: bool,
    pub pids: bool,
    pub cpus: bool,
}

/// Why nothing can run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// No `docker` program, or it cannot be started.
    NoProgram(String),
    /// The daemon is not running; waiting may help.
    DaemonDown(String),
    /// Waiting does not help.
    Unsuitable(String),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::NoProgram(text) | Self::DaemonDown(text) | Self::Unsuitable(text)) = self;
        f.write_str(text)
    }
}

impl std::error::Error for Unusable {}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Info {
    server_version: String,
    #[serde(rename = "OSType")]
    os_type: String,
    architecture: String,
    mem_total: u64,
    #[serde(rename = "NCPU")]
    ncpu: u32,
    security_options: Option<Vec<String>>,
    pids_limit: bool,
    memory_limit: bool,
    swap_limit: bool,
    cpu_cfs_quota: bool,
    server_errors: Option<Vec<String>>,
    client_info: Option<ClientInfo>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ClientInfo {
    context: String,
}

/// Asks the daemon about itself: one start of the client, two when a context other than the default one is in use.
///
/// # Errors
/// Why nothing can run here, with what to do.
pub fn probe(docker: &Docker) -> Result<Probe, Unusable> {
    let host = docker.variable("DOCKER_HOST");
    if let Some(host) = &host {
        // Before asking: the answer would come from the other machine, after its time.
        check_endpoint("DOCKER_HOST", host)?;
    }
    let output =
        docker.cmd(["info", "--format", "{{json .}}"]).run_any_status(Limit::Within(PROBE_LIMIT)).map_err(|error| {
            match error.reason {
                Reason::NotFound | Reason::Start(_) => no_program(&error.to_string()),
                Reason::TimedOut(_) => not_running(&error.to_string()),
                Reason::Status(_) | Reason::Cancelled => Unusable::Unsuitable(error.to_string()),
            }
        })?;
    let info = parse_info(&output, &socket_of(host.as_deref()))?;
    let context = info.client_info.as_ref().map_or("", |client| client.context.as_str());
    if host.is_none() && !context.is_empty() && context != "default" {
        let format = "{{.Endpoints.docker.Host}}";
        if let Ok(output) = docker.call_within(PROBE_LIMIT, ["context", "inspect", "--format", format, context]) {
            check_endpoint(&format!("docker context \"{context}\""), &output.text())?;
        }
    }
    evaluate(&info, ARCHITECTURE)
}

fn no_program(error: &str) -> Unusable {
    let hint = if error.contains("not found") { "install Docker 20.10 or newer" } else { "check the installation" };
    Unusable::NoProgram(format!("{error}; {hint}"))
}

fn not_running(reason: &str) -> Unusable {
    let start = if cfg!(target_os = "macos") { "start Docker Desktop" } else { "start it: systemctl start docker" };
    // Somebody who has said where Docker is may have said it wrong.
    let said = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
    let place = said.map(|host| format!(", or correct DOCKER_HOST={}", printable(&host))).unwrap_or_default();
    Unusable::DaemonDown(format!("Docker is not running; {start}{place}\n{reason}").trim_end().to_owned())
}

fn socket_of(host: Option<&str>) -> String {
    host.and_then(|host| host.strip_prefix("unix://")).unwrap_or(DEFAULT_SOCKET).to_owned()
}

fn parse_info(output: &Output, socket: &str) -> Result<Info, Unusable> {
    let info: Info = serde_json::from_slice(&output.stdout).unwrap_or_default();
    if output.status.success() && !info.server_version.is_empty() {
        return Ok(info);
    }
    // Clients before 23 say what went wrong in the answer, later ones on stderr.
    let said = [error_tail(&output.stderr), info.server_errors.unwrap_or_default().join("\n")].join("\n");
    let said = printable(said.trim()).into_owned();
    if said.to_ascii_lowercase().contains("permission denied") {
        return Err(Unusable::Unsuitable(format!(
            "Docker refuses access to its socket {socket}; add your user to the group that may use it and log in again: \
             sudo usermod -aG docker $USER\n{said}"
        )));
    }
    match classify(&said) {
        Failure::DaemonDown => Err(not_running(&said)),
        _ if said.is_empty() => Err(not_running("docker info gave no server version")),
        _ => Err(not_running(&said)),
    }
}

/// Runs mount directories of this machine: the daemon has to be on it.
fn check_endpoint(origin: &str, endpoint: &str) -> Result<(), Unusable> {
    let remote = match endpoint.split_once("://") {
        Some(("ssh" | "http" | "https", _)) => true,
        Some(("tcp", address)) => !is_loopback(address),
        _ => false,
    };
    if remote {
        return Err(Unusable::Unsuitable(format!(
            "{origin} is {endpoint}, a Docker daemon on another machine; runs need the daemon of this machine, because \
             credentials are handed over in a directory of this machine: unset it"
        )));
    }
    Ok(())
}

fn is_loopback(address: &str) -> bool {
    let address = address.trim_end_matches('/');
    let host = match address.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => address.rsplit_once(':').map_or(address, |(host, _)| host),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn evaluate(info: &Info, architecture: &str) -> Result<Probe, Unusable> {
    let refuse = |text: String| Err(Unusable::Unsuitable(text));
    if info.os_type != "linux" {
        return refuse(format!("Docker runs {} containers; agents need Linux containers", info.os_type));
    }
    if major_minor(&info.server_version).is_some_and(|version| version < MINIMUM) {
        let found = &info.server_version;
        return refuse(format!("Docker Engine {found} is too old; 20.10 or newer is needed"));
    }
    if canonical(&info.architecture) != canonical(architecture) {
        return refuse(format!(
            "Docker runs on {}, but the programs that this al puts into containers are for {architecture}; install the al \
             for that architecture",
            info.architecture
        ));
    }
    let options = info.security_options.as_deref().unwrap_or_default();
    let has = |name: &str| options.iter().any(|option| option.split(',').any(|part| part == name));
    let rootless = has("name=rootless");
    let enforces =
        Enforces { memory: info.memory_limit, swap: info.swap_limit, pids: info.pids_limit, cpus: info.cpu_cfs_quota };
    let mut warnings = Vec::new();
    if !has("name=seccomp") {
        warnings.push("Docker does not filter system calls of containers: seccomp is not available".to_owned());
    } else if has("profile=unconfined") {
        warnings
            .push("Docker does not filter system calls of containers: its seccomp profile is unconfined".to_owned());
    }
    for (enforced, limit) in [
        (enforces.memory, "the memory limit"),
        (enforces.swap, "the swap limit"),
        (enforces.pids, "the limit on processes"),
    ] {
        if !enforced {
            warnings.push(format!("Docker cannot enforce {limit} of runs here: the kernel does not let it"));
        }
    }
    Ok(Probe {
        facts: Facts {
            version: info.server_version.clone(),
            memory_bytes: info.mem_total,
            cpus: info.ncpu,
            rootless,
            selinux: has("name=selinux"),
            enforces,
            open_files_limit: if rootless { getrlimit(Resource::Nofile).maximum } else { None },
        },
        warnings,
    })
}

fn canonical(architecture: &str) -> &str {
    match architecture {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        other => other,
    }
}

/// The first two numbers of a version.
pub(crate) fn major_minor(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;
    use std::time::Duration;

    fn good() -> Info {
        Info {
            server_version: "20.10.24+dfsg1".into(),
            os_type: "linux".into(),
            architecture: "x86_64".into(),
            mem_total: 1 << 30,
            ncpu: 2,
            security_options: Some(vec!["name=seccomp,profile=default".into()]),
            pids_limit: true,
            memory_limit: true,
            swap_limit: true,
            cpu_cfs_quota: true,
            server_errors: None,
            client_info: None,
        }
    }

    #[test]
    fn a_good_daemon_gives_no_warning() {
        let probe = evaluate(&good(), "x86_64").unwrap();
        assert_eq!(probe.warnings, Vec::<String>::new());
        assert_eq!((probe.facts.memory_bytes, probe.facts.cpus, probe.facts.rootless), (1 << 30, 2, false));
        assert!(evaluate(&Info { architecture: "amd64".into(), ..good() }, "x86_64").is_ok());
        assert!(evaluate(&Info { server_version: "29.0.1".into(), ..good() }, "x86_64").is_ok());
    }

    #[track_caller]
    fn refused(info: Info, parts: &[&str]) {
        let Err(Unusable::Unsuitable(text)) = evaluate(&info, "x86_64") else { panic!("expected a refusal") };
        for part in parts {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn daemons_that_cannot_run_agents() {
        refused(Info { os_type: "windows".into(), ..good() }, &["windows", "Linux"]);
        refused(Info { server_version: "19.03.15".into(), ..good() }, &["19.03.15", "20.10"]);
        refused(Info { architecture: "aarch64".into(), ..good() }, &["aarch64", "x86_64"]);
    }

    #[track_caller]
    fn warned(info: Info, part: &str) {
        let warnings = evaluate(&info, "x86_64").unwrap().warnings;
        assert!(warnings.len() == 1 && warnings[0].contains(part), "{warnings:?}");
    }

    #[test]
    fn limits_that_are_not_enforced_are_named() {
        warned(Info { security_options: Some(vec!["name=seccomp,profile=unconfined".into()]), ..good() }, "unconfined");
        warned(Info { security_options: None, ..good() }, "seccomp");
        warned(Info { pids_limit: false, ..good() }, "processes");
        warned(Info { memory_limit: false, ..good() }, "memory");
        warned(Info { swap_limit: false, ..good() }, "swap");
    }

    #[test]
    fn variants_are_recognised() {
        let options = |names: &[&str]| Some(names.iter().map(|name| format!("name={name}")).collect());
        let info = Info { security_options: options(&["seccomp", "rootless", "selinux"]), ..good() };
        let facts = evaluate(&info, "x86_64").unwrap().facts;
        assert!(facts.rootless && facts.selinux);
    }

    #[track_caller]
    fn answer(status: i32, stdout: &str, stderr: &str) -> Unusable {
        let output = Output {
            status: ExitStatus::from_raw(status << 8),
            stdout: stdout.into(),
            stderr: stderr.into(),
            took: Duration::ZERO,
        };
        parse_info(&output, "/run/user/1000/docker.sock").err().expect("no daemon")
    }

    #[test]
    fn no_daemon() {
        let down = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?";
        let old = format!(r#"{{"ServerErrors":["{down}"],"ClientInfo":{{"Context":"default"}}}}"#);
        for answer in
            [answer(1, r#"{"ServerVersion":""}"#, down), answer(0, &old, ""), answer(0, r#"{"ServerVersion":""}"#, "")]
        {
            let Unusable::DaemonDown(text) = answer else { panic!("{answer:?}") };
            assert!(text.contains("Docker is not running") && text.contains("systemctl start docker"), "{text}");
        }
    }

    #[test]
    fn no_permission() {
        let stderr = "permission denied while trying to connect to the Docker daemon socket";
        let Unusable::Unsuitable(text) = answer(1, "", stderr) else { panic!("waiting does not help") };
        assert!(text.contains("/run/user/1000/docker.sock") && text.contains("docker $USER"), "{text}");
    }

    #[test]
    fn no_program() {
        let error = probe(&Docker::new("docker-that-is-not-there")).unwrap_err();
        assert!(matches!(&error, Unusable::NoProgram(text) if text.contains("docker") && text.contains("not found")));
    }

    #[track_caller]
    fn endpoint(endpoint: &str, usable: bool) {
        assert_eq!(check_endpoint("DOCKER_HOST", endpoint).is_ok(), usable, "{endpoint}");
    }

    #[test]
    fn daemons_on_other_machines_are_refused() {
        endpoint("unix:///var/run/docker.sock", true);
        endpoint("tcp://127.0.0.1:2375", true);
        endpoint("tcp://localhost:2375", true);
        endpoint("tcp://[::1]:2375", true);
        endpoint("tcp://10.0.0.5:2375", false);
        endpoint("tcp://docker.example.org:2376", false);
        endpoint("ssh://me@server", false);
        let error = probe(&Docker::default().env("DOCKER_HOST", "ssh://me@server")).unwrap_err();
        assert!(error.to_string().contains("ssh://me@server"), "{error}");
    }
}
