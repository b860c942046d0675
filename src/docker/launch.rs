//! The command line that creates a run's container. Pure: a [`LaunchSpec`] in, arguments out.
//!
//! Nothing secret is among the arguments: they, and the environment given with `-e`, can be read by others. What a run
//! is given travels in two staged directories, mounted read-only.

use std::net::IpAddr;
use std::path::Path;

use anyhow::Result;

use super::cli::{Docker, DockerError};
use super::probe::Facts;
use crate::model::names::{InstanceId, ProjectHash};
use crate::model::wire::paths;

const OPEN_FILES: u64 = 16384;

/// One container to create.
#[derive(Clone, Debug)]
pub struct LaunchSpec<'a> {
    pub project: &'a ProjectHash,
    pub instance: &'a InstanceId,
    pub lifetime: Lifetime,
    /// Name of the network.
    pub network: &'a str,
    /// Where the name `gateway` leads.
    pub gateway: Option<GatewayHost>,
    /// Base URL of the gateway's container face.
    pub gateway_url: Option<&'a str>,
    pub limits: Limits,
    /// Staging directory with `credentials` and `run` in it, mounted read-only; `None`: nothing is mounted.
    pub stage: Option<&'a Path>,
    pub trace_parent: Option<&'a str>,
    pub otlp_endpoint: Option<&'a str>,
    pub program: Program,
    /// Id of the image; never a tag, which others can move.
    pub image_id: &'a str,
}

/// Who will clean up after a run when its starter is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// The project's scheduler.
    Scheduled,
    /// The next one-shot run.
    Once,
}

/// Address behind the name `gateway`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GatewayHost {
    Address(IpAddr),
    /// Docker's own notion of the host, for engines in a virtual machine.
    HostGateway,
}

/// What a run may use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    pub memory_bytes: u64,
    /// `None`: computed from the memory limit and the host's memory.
    pub tmp_bytes: Option<u64>,
    pub pids: u32,
    /// `None` and 0: no limit.
    pub cpus: Option<f64>,
}

/// What a container executes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The image's own entry point, a wrapper around the entry program.
    OfImage,
    /// The entry program.
    Agent,
    /// One question to the gateway, to see whether it can be reached.
    HealthCheck,
}

impl Limits {
    /// Size of `/tmp`: small enough that filling it is an error in the run instead of its end.
    pub fn tmp_size(&self, host_memory_bytes: u64) -> u64 {
        self.tmp_bytes.unwrap_or_else(|| (self.memory_bytes / 4 * 3).min(host_memory_bytes / 2))
    }

    /// The CPU limit that this host can give.
    pub fn cpus_on(&self, facts: &Facts) -> Option<f64> {
        let wanted = self.cpus.filter(|cpus| *cpus > 0.0)?;
        Some(if facts.cpus == 0 { wanted } else { wanted.min(f64::from(facts.cpus)) })
    }

    /// What people should know about these limits on this host.
    pub fn warning(&self, facts: &Facts) -> Option<String> {
        let wanted = self.cpus.filter(|cpus| *cpus > 0.0)?;
        if !facts.enforces.cpus {
            return Some("local.cpus has no effect: Docker cannot limit CPUs here".into());
        }
        (self.cpus_on(facts)? < wanted)
            .then(|| format!("local.cpus is {wanted}, but this host has {} CPUs: reduced to {0}", facts.cpus))
    }
}

/// Arguments of `docker create` for a run.
pub fn create_args(spec: &LaunchSpec<'_>, facts: &Facts) -> Vec<String> {
    let mut args = Args(Vec::new());
    args.words(&["create", "--pull", "never", "--name", &spec.instance.container_name()]);
    labels(&mut args, spec);
    args.words(&["--network", spec.network]);
    match spec.gateway {
        Some(GatewayHost::Address(address)) => args.words(&["--add-host", &format!("gateway:{address}")]),
        Some(GatewayHost::HostGateway) => args.words(&["--add-host", "gateway:host-gateway"]),
        None => {}
    }
    hardening(&mut args, &spec.limits, facts);
    if let Some(stage) = spec.stage {
        mount(&mut args, &stage.join("credentials"), paths::CREDENTIALS_DIR, facts);
        mount(&mut args, &stage.join("run"), paths::RUN_DIR, facts);
    }
    environment(&mut args, spec);
    match spec.program {
        Program::OfImage => args.words(&[spec.image_id]),
        Program::Agent => args.words(&["--entrypoint", paths::AL_AGENT, spec.image_id]),
        Program::HealthCheck => {
            args.words(&["--entrypoint", &format!("{}/al-shim", paths::BIN_DIR), spec.image_id, "health"]);
        }
    }
    args.0
}

fn labels(args: &mut Args, spec: &LaunchSpec<'_>) {
    let version = env!("CARGO_PKG_VERSION");
    for label in [
        format!("al.project={}", spec.project),
        format!("al.agent={}", spec.instance.agent()),
        format!("al.instance={}", spec.instance),
        format!("al.version={version}"),
    ] {
        args.words(&["--label", &label]);
    }
    if spec.lifetime == Lifetime::Once {
        args.words(&["--label", "al.once=1"]);
    }
}

fn hardening(args: &mut Args, limits: &Limits, facts: &Facts) {
    let tmp_size = limits.tmp_size(facts.memory_bytes);
    let tmp = paths::TMP_DIR;
    args.words(&["--user", "1000:1000", "--read-only", "--tmpfs"]);
    args.words(&[&format!("{tmp}:rw,exec,nosuid,nodev,size={tmp_size},mode=1777,uid=1000,gid=1000")]);
    args.words(&["--cap-drop", "ALL", "--security-opt", "no-new-privileges:true"]);
    // Where a limit cannot be enforced, an engine may refuse the flag; the probe has warned about it.
    if facts.enforces.pids {
        args.words(&["--pids-limit", &limits.pids.to_string()]);
    }
    if facts.enforces.memory {
        let memory = limits.memory_bytes.to_string();
        args.words(&["--memory", &memory, "--memory-swap", &memory]);
    }
    if let Some(cpus) = limits.cpus_on(facts).filter(|_| facts.enforces.cpus) {
        args.words(&["--cpus", &cpus.to_string()]);
    }
    let open_files = facts.open_files_limit.map_or(OPEN_FILES, |limit| limit.min(OPEN_FILES));
    args.words(&["--ipc", "private", "--shm-size", "64m", "--ulimit", "core=0:0"]);
    args.words(&["--ulimit", &format!("nofile={open_files}:{open_files}")]);
    args.words(&["--cgroupns", "private", "--restart", "no", "--stop-timeout", "10", "--oom-score-adj", "500"]);
    args.words(&["--log-driver", "json-file", "--log-opt", "max-size=10m", "--log-opt", "max-file=3"]);
}

/// With SELinux the files get a label that the container may read; only `-v` can ask for that. It would create a missing
/// source, which `--mount` refuses.
fn mount(args: &mut Args, source: &Path, target: &str, facts: &Facts) {
    let source = source.display();
    if facts.selinux {
        args.words(&["-v", &format!("{source}:{target}:ro,Z")]);
    } else {
        args.words(&["--mount", &format!("type=bind,source={source},target={target},readonly")]);
    }
}

fn environment(args: &mut Args, spec: &LaunchSpec<'_>) {
    let staged = spec.stage.is_some();
    for (name, value) in [
        ("GATEWAY_URL", spec.gateway_url),
        ("AL_RUN_FILE", staged.then_some(paths::RUN_FILE)),
        ("AL_PROMPT_FILE", staged.then_some(paths::PROMPT_FILE)),
        ("OTEL_TRACE_PARENT", spec.trace_parent),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", spec.otlp_endpoint),
    ] {
        if let Some(value) = value {
            args.words(&["-e", &format!("{name}={value}")]);
        }
    }
}

struct Args(Vec<String>);

impl Args {
    fn words(&mut self, words: &[&str]) {
        self.0.extend(words.iter().map(|word| (*word).to_owned()));
    }
}

/// Creates the container; it does not run yet.
///
/// # Errors
/// When the daemon refuses; [`super::Failure`] says whether a name, an image or a network is the reason.
pub fn create(docker: &Docker, spec: &LaunchSpec<'_>, facts: &Facts) -> Result<(), DockerError> {
    docker.call(create_args(spec, facts)).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::probe::Enforces;
    use crate::model::names::AgentName;
    use expect_test::expect;

    fn facts() -> Facts {
        Facts {
            version: "20.10.24".into(),
            memory_bytes: 16 << 30,
            cpus: 2,
            rootless: false,
            selinux: false,
            enforces: Enforces { memory: true, swap: true, pids: true, cpus: true },
            open_files_limit: None,
        }
    }

    fn limits() -> Limits {
        Limits { memory_bytes: 4 << 30, tmp_bytes: None, pids: 1024, cpus: None }
    }

    /// One line per option; the random part of the instance id made readable.
    fn render(facts: &Facts, change: impl FnOnce(&mut LaunchSpec<'_>)) -> String {
        let project = ProjectHash::of(Path::new("/srv/project"));
        let instance = InstanceId::generate(&AgentName::parse("dev").unwrap());
        let mut spec = LaunchSpec {
            project: &project,
            instance: &instance,
            lifetime: Lifetime::Scheduled,
            network: "al-net",
            gateway: Some(GatewayHost::Address(IpAddr::from([172, 18, 0, 1]))),
            gateway_url: Some("http://gateway:8080"),
            limits: limits(),
            stage: Some(Path::new("/run/action-llama/x")),
            trace_parent: None,
            otlp_endpoint: None,
            program: Program::Agent,
            image_id: "sha256:abc",
        };
        change(&mut spec);
        let text = create_args(&spec, facts).join(" ").replace(" -", "\n-");
        text.replace(instance.as_str(), "dev-1a2b3c4d") + "\n"
    }

    #[test]
    fn the_whole_command_line() {
        expect![[r#"
            create
            --pull never
            --name al-dev-1a2b3c4d
            --label al.project=4f3f91f6b0b4
            --label al.agent=dev
            --label al.instance=dev-1a2b3c4d
            --label al.version=0.13.2
            --network al-net
            --add-host gateway:172.18.0.1
            --user 1000:1000
            --read-only
            --tmpfs /tmp:rw,exec,nosuid,nodev,size=3221225472,mode=1777,uid=1000,gid=1000
            --cap-drop ALL
            --security-opt no-new-privileges:true
            --pids-limit 1024
            --memory 4294967296
            --memory-swap 4294967296
            --ipc private
            --shm-size 64m
            --ulimit core=0:0
            --ulimit nofile=16384:16384
            --cgroupns private
            --restart no
            --stop-timeout 10
            --oom-score-adj 500
            --log-driver json-file
            --log-opt max-size=10m
            --log-opt max-file=3
            --mount type=bind,source=/run/action-llama/x/credentials,target=/credentials,readonly
            --mount type=bind,source=/run/action-llama/x/run,target=/run/al,readonly
            -e GATEWAY_URL=http://gateway:8080
            -e AL_RUN_FILE=/run/al/run.json
            -e AL_PROMPT_FILE=/run/al/prompt.txt
            --entrypoint /app/bin/al-agent sha256:abc
        "#]]
        .assert_eq(&render(&facts(), |_| {}));
    }

    #[track_caller]
    fn has(text: &str, expected: &[&str]) {
        for line in expected {
            assert!(text.lines().any(|found| found == *line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn what_a_run_may_add() {
        let text = render(&facts(), |spec| {
            spec.lifetime = Lifetime::Once;
            spec.gateway = Some(GatewayHost::HostGateway);
            spec.trace_parent = Some("00-a-b-01");
            spec.otlp_endpoint = Some("http://otel:4318");
            spec.limits = Limits { tmp_bytes: Some(1000), cpus: Some(1.5), pids: 64, ..limits() };
        });
        has(
            &text,
            &[
                "--label al.once=1",
                "--add-host gateway:host-gateway",
                "-e OTEL_TRACE_PARENT=00-a-b-01",
                "-e OTEL_EXPORTER_OTLP_ENDPOINT=http://otel:4318",
                "--cpus 1.5",
                "--pids-limit 64",
            ],
        );
        assert!(text.contains("size=1000,"), "{text}");
    }

    #[test]
    fn without_a_gateway_there_is_no_trace_of_one() {
        let text = render(&facts(), |spec| (spec.gateway, spec.gateway_url) = (None, None));
        assert!(!text.to_lowercase().contains("gateway"), "{text}");
    }

    #[test]
    fn programs() {
        let image = render(&facts(), |spec| spec.program = Program::OfImage);
        assert!(!image.contains("--entrypoint") && image.ends_with(" sha256:abc\n"), "{image}");
        let health = render(&facts(), |spec| (spec.program, spec.stage) = (Program::HealthCheck, None));
        assert!(health.ends_with("--entrypoint /app/bin/al-shim sha256:abc health\n"), "{health}");
        assert!(!health.contains("--mount") && !health.contains("AL_RUN_FILE"), "{health}");
    }

    #[test]
    fn selinux_labels_the_mounts() {
        let text = render(&Facts { selinux: true, ..facts() }, |_| {});
        has(
            &text,
            &["-v /run/action-llama/x/credentials:/credentials:ro,Z", "-v /run/action-llama/x/run:/run/al:ro,Z"],
        );
        assert!(!text.contains("--mount"), "{text}");
    }

    #[test]
    fn a_daemon_that_enforces_nothing_is_asked_for_nothing() {
        let enforces = Enforces { memory: false, swap: false, pids: false, cpus: false };
        let facts = Facts { rootless: true, enforces, open_files_limit: Some(4096), ..facts() };
        let text = render(&facts, |spec| spec.limits.cpus = Some(1.0));
        for absent in ["--memory", "--pids-limit", "--cpus"] {
            assert!(!text.contains(absent), "{text}");
        }
        has(&text, &["--ulimit nofile=4096:4096"]);
    }

    #[track_caller]
    fn tmp(memory_bytes: u64, host_bytes: u64, expected: u64) {
        assert_eq!(Limits { memory_bytes, ..limits() }.tmp_size(host_bytes), expected);
    }

    #[test]
    fn tmp_is_smaller_than_the_memory_limit_and_than_the_host() {
        tmp(4 << 30, 16 << 30, 3 << 30);
        tmp(4 << 30, 1 << 30, 1 << 29);
        assert_eq!(Limits { tmp_bytes: Some(7), ..limits() }.tmp_size(1), 7);
    }

    #[test]
    fn more_cpus_than_there_are_is_reduced_and_said() {
        let four = Limits { cpus: Some(4.0), ..limits() };
        assert_eq!(four.cpus_on(&facts()), Some(2.0));
        assert!(four.warning(&facts()).unwrap().contains("2 CPUs"));
        assert_eq!(Limits { cpus: Some(2.0), ..limits() }.warning(&facts()), None);
        assert_eq!(Limits { cpus: Some(0.0), ..limits() }.cpus_on(&facts()), None);
    }
}
