//! The docker program against a real daemon: streams, states, lists, networks.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use action_llama::base::ids::hex8;
use action_llama::base::process::Pipe;
use action_llama::docker::attach::{self, Batch, Extent, Output};
use action_llama::docker::context::Context;
use action_llama::docker::image::{self, Build, Builder};
use action_llama::docker::inspect::{self, Removal, Stop, Which};
use action_llama::docker::launch::{self, LaunchSpec, Lifetime, Limits, Program};
use action_llama::docker::network::{self, Isolation};
use action_llama::docker::probe::{self, Facts};
use action_llama::docker::{Docker, Failure, look_around};
use action_llama::model::names::{AgentName, InstanceId, ProjectHash};

/// The image that every test of this crate stands on; made without a registry by `scripts/setup`.
pub(crate) const BASE: &str = "debian:bookworm-slim";

/// A project of one test: names that nothing else on the machine has, and the removal of what the test made.
pub(crate) struct Place {
    pub(crate) docker: Docker,
    pub(crate) id: String,
    pub(crate) project: ProjectHash,
    pub(crate) dir: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { docker: Docker::default(), id: hex8(), project: ProjectHash::of(dir.path()), dir }
    }

    pub(crate) fn agent(&self) -> AgentName {
        AgentName::parse(&format!("it-{}", self.id)).unwrap()
    }

    fn instance(&self) -> InstanceId {
        InstanceId::generate(&self.agent())
    }

    fn facts(&self) -> Facts {
        probe::probe(&self.docker).expect("the Docker tests need a running daemon").facts
    }

    /// An image that runs a script, without our entry program.
    fn image(&self, script: &str) -> String {
        // Not the image of another test that runs the same script and removes it.
        let entrypoint = serde_json::to_string(&["sh", "-c", &format!(": {}; {script}", self.id)]).unwrap();
        let context = Context::new(&format!("FROM {BASE}\nENTRYPOINT {entrypoint}\n"));
        let build = Build {
            tag: &format!("al-it-{}:script", self.id),
            labels: &[],
            build_args: &[],
            context: context.to_tar().unwrap(),
            limit: Duration::from_secs(60),
        };
        let builder = Builder::detect(&self.docker).unwrap();
        image::build(&self.docker, builder, &build, &mut |_| {}).unwrap().id
    }

    /// Creates a container of the default network's kind.
    fn create(&self, image_id: &str, instance: &InstanceId, network: &str) -> Result<(), Failure> {
        let stage = self.stage();
        let spec = LaunchSpec {
            project: &self.project,
            instance,
            lifetime: Lifetime::Once,
            network,
            gateway: None,
            gateway_url: None,
            limits: Limits { memory_bytes: 64 << 20, tmp_bytes: None, pids: 64, cpus: Some(1.0) },
            stage: Some(&stage),
            trace_parent: None,
            otlp_endpoint: None,
            program: Program::OfImage,
            image_id,
        };
        launch::create(&self.docker, &spec, &self.facts()).map_err(|error| error.failure)
    }

    fn stage(&self) -> std::path::PathBuf {
        let stage = self.dir.path().join("stage");
        for part in ["credentials", "run"] {
            fs::create_dir_all(stage.join(part)).unwrap();
        }
        stage
    }

    pub(crate) fn docker(&self, args: &[&str]) -> String {
        let output = Command::new("docker").args(args).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let lines = |text: String| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let label = format!("label=al.project={}", self.project);
        for container in lines(self.docker(&["ps", "-aq", "--filter", &label])) {
            self.docker(&["rm", "-f", &container]);
        }
        for network in lines(self.docker(&["network", "ls", "-q", "--filter", &format!("name=al-it-{}", self.id)])) {
            self.docker(&["network", "rm", &network]);
        }
        // The names of a project base are shared by all projects; those that mean ours are ours.
        let images = lines(self.docker(&["images", "--no-trunc", "--format", "{{.ID}} {{.Repository}}:{{.Tag}}"]));
        let names: Vec<(&str, &str)> = images.iter().filter_map(|line| line.split_once(' ')).collect();
        let is_own = |name: &str| name.contains(&self.id) || name.ends_with(&format!(":{}", self.project));
        let is_our_base = |id: &str, name: &str| {
            let is_base = |name: &str| name.starts_with("al-project-base:");
            is_base(name) && names.iter().any(|(other, name)| *other == id && is_base(name) && is_own(name))
        };
        for (_, name) in names.iter().filter(|(id, name)| is_own(name) || is_our_base(id, name)) {
            self.docker(&["image", "rm", name]);
        }
    }
}

/// Waits for the next lines and gives their texts; panics when the container falls silent.
fn next(output: &Output) -> Option<Batch> {
    match output.batches().recv_timeout(Duration::from_secs(30)) {
        Ok(batch) => Some(batch),
        Err(crossbeam_channel::RecvTimeoutError::Disconnected) => None,
        Err(error) => panic!("no output and no end within 30 s: {error}"),
    }
}

fn all(output: Output) -> (Vec<String>, Vec<String>) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while let Some(batch) = next(&output) {
        for line in batch.lines {
            if line.pipe == Pipe::Stdout { out.push(line.text) } else { err.push(line.text) }
        }
    }
    output.finish();
    (out, err)
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn surroundings_are_seen_at_once() {
    let place = Place::new();
    let images = [BASE.to_owned(), format!("al-it-{}:none", place.id)];
    let found = look_around(&place.docker, &images, &format!("al-it-{}", place.id), None);
    let probe = found.probe.unwrap();
    assert!(probe.facts.cpus > 0 && probe.facts.memory_bytes > 1 << 20, "{probe:?}");
    let known = found.images.unwrap();
    assert!(known.find(&images[0]).is_some() && known.find(&images[1]).is_none());
    assert_eq!(found.network.unwrap(), None);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_daemon_that_is_not_there() {
    let docker = Docker::default().env("DOCKER_HOST", "unix:///nowhere/docker.sock");
    let error = inspect::state(&docker, "x").unwrap_err();
    assert_eq!(action_llama::docker::failure(&error), Failure::DaemonDown);
    let error = probe::probe(&docker).unwrap_err();
    assert!(matches!(&error, probe::Unusable::DaemonDown(text) if text.contains("Docker is not running")), "{error}");
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn no_line_of_a_short_run_is_lost() {
    let place = Place::new();
    let image = place.image("seq 1 20000; printf tail; echo problem >&2; exit 42");
    for _ in 0..10 {
        let instance = place.instance();
        let container = instance.container_name();
        place.create(&image, &instance, "none").unwrap();
        let (out, err) = all(attach::start(&place.docker, &container).unwrap());
        assert_eq!(out.len(), 20_001);
        assert!(out[..20_000].iter().enumerate().all(|(index, line)| *line == (index + 1).to_string()));
        assert_eq!((out[20_000].as_str(), err), ("tail", vec!["problem".to_owned()]));
        let state = inspect::state(&place.docker, &container).unwrap().unwrap();
        assert!(state.has_ended() && !state.oom_killed);
        assert_eq!(state.exit_code, 42);
        assert!(state.finished_at.unwrap() >= state.started_at.unwrap());
        inspect::remove(&place.docker, &container).unwrap();
        assert_eq!(inspect::state(&place.docker, &container).unwrap(), None);
    }
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_run_outlives_its_client_and_can_be_followed_again() {
    let place = Place::new();
    let image = place.image("echo begin; until [ -e /run/al/go ]; do echo tick; sleep 0.05; done; echo end; exit 7");
    let instance = place.instance();
    let container = instance.container_name();
    place.create(&image, &instance, "none").unwrap();
    let output = attach::start(&place.docker, &container).unwrap();
    assert_eq!(next(&output).unwrap().lines[0].text, "begin");
    let client = output.client_pid().unwrap().to_string();
    assert!(Command::new("kill").args(["-KILL", &client]).status().unwrap().success());
    all(output);
    assert!(inspect::state(&place.docker, &container).unwrap().unwrap().is_running());

    let output = attach::reattach(&place.docker, &container).unwrap();
    assert_eq!(next(&output).unwrap().lines[0].text, "tick");
    fs::write(place.stage().join("run/go"), "").unwrap();
    assert_eq!(all(output).0.last().unwrap(), "end");
    let state = inspect::state(&place.docker, &container).unwrap().unwrap();
    assert_eq!((state.has_ended(), state.exit_code), (true, 7));

    let (log, _) = all(attach::logs(&place.docker, &container, Extent::Everything).unwrap());
    assert_eq!((log[0].as_str(), log.last().unwrap().as_str()), ("begin", "end"));
    let (log, _) = all(attach::logs(&place.docker, &container, Extent::LastLines(1)).unwrap());
    assert_eq!(log, ["end"]);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_run_is_locked_in() {
    let place = Place::new();
    let image = place.image(
        "id -u; grep -E '^(CapEff|NoNewPrivs)' /proc/self/status; touch /x 2>&1; grep ' /tmp ' /proc/mounts; \
         touch /credentials/x 2>&1; ulimit -c; env",
    );
    let instance = place.instance();
    place.create(&image, &instance, "none").unwrap();
    let text = all(attach::start(&place.docker, &instance.container_name()).unwrap()).0.join("\n");
    for expected in [
        "1000\n",
        "CapEff:\t0000000000000000",
        "NoNewPrivs:\t1",
        "touch: cannot touch '/x': Read-only file system",
        "nosuid,nodev",
        "size=49152k",
        "touch: cannot touch '/credentials/x': Read-only file system",
        "\n0\n",
        "AL_RUN_FILE=/run/al/run.json",
    ] {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn runs_are_ended_and_removed() {
    let place = Place::new();
    let image = place.image("trap 'echo asked; exit 3' TERM; echo up; while :; do sleep 0.05; done");
    let instance = place.instance();
    let container = instance.container_name();
    place.create(&image, &instance, "none").unwrap();
    let output = attach::start(&place.docker, &container).unwrap();
    assert_eq!(next(&output).unwrap().lines[0].text, "up");
    assert_eq!(inspect::remove_unless_running(&place.docker, &container).unwrap(), Removal::Runs);
    inspect::kill(&place.docker, &container, Stop::Terminate).unwrap();
    assert_eq!(all(output).0, ["asked"]);
    assert_eq!(inspect::state(&place.docker, &container).unwrap().unwrap().exit_code, 3);
    inspect::kill(&place.docker, &container, Stop::Kill).unwrap();
    assert_eq!(inspect::remove_unless_running(&place.docker, &container).unwrap(), Removal::Removed);
    inspect::kill(&place.docker, &container, Stop::Kill).unwrap();
    inspect::remove(&place.docker, &container).unwrap();
    assert_eq!(inspect::remove_unless_running(&place.docker, &container).unwrap(), Removal::Removed);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn refusals_have_their_reason() {
    let place = Place::new();
    let image = place.image("true");
    let instance = place.instance();
    place.create(&image, &instance, &format!("al-it-{}-gone", place.id)).unwrap_or_else(|failure| {
        // Later engines refuse here what earlier ones refuse at the start.
        assert_eq!(failure, Failure::NetworkMissing);
    });
    if let Some(state) = inspect::state(&place.docker, &instance.container_name()).unwrap() {
        assert_eq!(state.status, "created");
        let begun = Instant::now();
        all(attach::start(&place.docker, &instance.container_name()).unwrap());
        assert!(begun.elapsed() < Duration::from_secs(20));
        let state = inspect::state(&place.docker, &instance.container_name()).unwrap().unwrap();
        assert_eq!((state.started_at, state.start_failure()), (None, Failure::NetworkMissing));
        assert_eq!(place.create(&image, &instance, "none"), Err(Failure::NameTaken));
    }
    let absent = format!("al-it-{}:absent", place.id);
    assert_eq!(place.create(&absent, &place.instance(), "none"), Err(Failure::ImageMissing));
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn lists_go_by_label_and_not_by_name() {
    let place = Place::new();
    let image = place.image("true");
    let instance = place.instance();
    place.create(&image, &instance, "none").unwrap();
    let foreign = format!("portal-{}-1", place.agent());
    let former = format!("al-{}-0123abcd", place.agent());
    for name in [&foreign, &former] {
        assert!(!place.docker(&["create", "--name", name, &image]).is_empty());
    }
    let ours = inspect::list(&place.docker, Which::OfProject(&place.project)).unwrap();
    let everything = inspect::list(&place.docker, Which::All).unwrap();
    for name in [&foreign, &former] {
        place.docker(&["rm", "-f", name]);
    }
    assert_eq!(ours.len(), 1);
    assert_eq!((ours[0].name.as_str(), ours[0].instance.as_str()), (&*instance.container_name(), instance.as_str()));
    assert_eq!((ours[0].agent.as_str(), ours[0].once, ours[0].is_running()), (instance.agent(), true, false));
    let agent = place.agent();
    let legacy: Vec<&str> =
        everything.iter().filter(|found| found.is_legacy_of(agent.as_str())).map(|found| found.name.as_str()).collect();
    assert_eq!(legacy, [former.as_str()]);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_network_is_made_once_and_separates_containers() {
    let place = Place::new();
    let name = format!("al-it-{}", place.id);
    let made = network::ensure(&place.docker, &name, None).unwrap();
    assert_eq!(made.isolation, Isolation::Separated);
    assert!(made.subnet.unwrap().contains(made.gateway.unwrap()));
    assert_eq!(network::ensure(&place.docker, &name, None).unwrap(), made);
    // Somebody else was faster.
    assert_eq!(network::create(&place.docker, &name, None).unwrap(), made);
    let taken = made.subnet.unwrap().to_string();
    let error = network::create(&place.docker, &format!("{name}-2"), Some(&taken)).unwrap_err();
    assert!(format!("{error:#}").contains("local.subnet"), "{error:#}");

    let open = format!("{name}-open");
    place.docker(&["network", "create", &open]);
    let found = network::inspect(&place.docker, &open).unwrap().unwrap();
    assert!(found.warning().unwrap().contains(&format!("docker network rm {open}")));
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_source_that_is_missing_is_refused_and_not_made() {
    let place = Place::new();
    let image = place.image("true");
    let instance = place.instance();
    let stage = place.dir.path().join("not-there");
    let spec = LaunchSpec {
        project: &place.project,
        instance: &instance,
        lifetime: Lifetime::Scheduled,
        network: "none",
        gateway: None,
        gateway_url: None,
        limits: Limits { memory_bytes: 64 << 20, tmp_bytes: None, pids: 64, cpus: None },
        stage: Some(Path::new(&stage)),
        trace_parent: None,
        otlp_endpoint: None,
        program: Program::OfImage,
        image_id: &image,
    };
    let facts = Facts { selinux: false, ..place.facts() };
    let error = launch::create(&place.docker, &spec, &facts).unwrap_err();
    assert!(error.to_string().contains("does not exist") && !stage.exists(), "{error}");
}
