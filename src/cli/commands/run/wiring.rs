//! From a loaded project to everything that a one-shot run needs: Docker looked at, images ready, gateway open.

use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use shims::wire::paths;

use super::gateway::EphemeralGateway;
use super::interrupt::Interrupt;
use crate::base::Cancel;
use crate::base::error::AgentError;
use crate::base::log::Log;
use crate::config::{self, Loaded, Project};
use crate::credentials::Store as CredentialStore;
use crate::docker::image::{self, Entrypoint, Images};
use crate::docker::launch::{Lifetime, Limits, Program};
use crate::docker::memory::Memory;
use crate::docker::network::{self, AL_NET};
use crate::docker::{Docker, look_around};
use crate::model::names::AgentName;
use crate::model::status::AgentStatus;
use crate::run::images::{AgentImage as ImageContent, Base, Layers, Ready, Settings, UserDockerfile};
use crate::run::leftovers;
use crate::run::life::{Agent, AgentImage, Host, log_dir};
use crate::run::observer::{Observer, Report};
use crate::run::prompt::Skeleton;
use crate::run::staging::Roots;
use crate::scheduler::handle::{Handle, Snapshot};
use crate::scheduler::lock::ProjectLock;
use crate::store::Store;
use crate::store::runs::RetryPolicy;

/// Calls of a one-shot run are carried out once: nobody is there to see a later attempt.
const NO_RETRIES: RetryPolicy = RetryPolicy { max_attempts: 1, delay_seconds: 0, retry_errors: false };

/// Everything for a run.
pub(super) struct Wired {
    pub(super) host: Arc<Host>,
    /// Agents that can be run or called, with their scale.
    pub(super) agents: BTreeMap<String, (Arc<Agent>, u32)>,
    pub(super) gateway: EphemeralGateway,
    _lock: ProjectLock,
}

/// Prepares everything. The image of the root agent is ready afterwards; those of agents it calls are built on first use.
pub(super) fn wire(
    loaded: &Loaded,
    root: &str,
    credentials: CredentialStore,
    observer: Arc<dyn Observer>,
    handle: &Handle,
    interrupt: &Interrupt,
    lock: ProjectLock,
) -> Result<Wired> {
    let project = &loaded.project;
    let docker = Docker::default();
    let patient = docker.cancelled_by(&interrupt.token);
    let maker = Arc::new(ImageMaker::new(project, patient.clone(), observer.clone()));
    let root_name = AgentName::parse(root).map_err(anyhow::Error::msg)?;
    let names = maker.layers.names([&root_name]);
    let roots = Roots::for_project(&project.dir);
    let private_dir = roots.usable()?;
    let marker_dir = leftovers::marker_dir(&project.dir);
    let memory = Memory::of(&docker, &private_dir);
    let found = std::thread::scope(|scope| {
        // Beside the other questions, because a start of the client takes its time.
        let clean_up = || leftovers::remove(&patient, &marker_dir, &project.hash, &roots);
        let cleaning = leftovers::any(&marker_dir).then(|| scope.spawn(clean_up));
        let found = look_around(&patient, &names, AL_NET, memory.as_ref());
        if let Some(Ok(Err(error))) = cleaning.map(|cleaning| cleaning.join()) {
            warn(&format!("something of an earlier run is left: {error:#}"));
        }
        found
    });
    let probe = found.probe?;
    let limits = limits(project);
    let network = match found.network? {
        Some(network) => network,
        None => network::ensure(&patient, AL_NET, project.settings.local.subnet.as_deref())?,
    };
    let warnings = probe.warnings.iter().cloned().chain(network.warning()).chain(limits.warning(&probe.facts));
    warnings.for_each(|warning| warn(&warning));

    let agents = agents(loaded, root, &maker, limits.tmp_size(probe.facts.memory_bytes))?;
    maker.prepare(&found.images?, &agents[root].1)?;
    let store = Arc::new(Store::open_in_memory()?);
    handle.publish(snapshot(loaded));
    let gateway = EphemeralGateway::open(project, &network, &private_dir, &store, handle)?;
    let host = Host {
        docker,
        facts: probe.facts,
        project: project.hash.clone(),
        network: AL_NET.to_owned(),
        gateway_host: gateway.host(),
        gateway_url: gateway.url(),
        limits,
        lifetime: Lifetime::Once,
        roots,
        marker_dir,
        credentials,
        store,
        retries: NO_RETRIES,
        observer,
        secrets: handle.secrets().clone(),
    };
    let agents = agents.into_iter().map(|(name, (agent, _, scale))| (name, (agent, scale))).collect();
    Ok(Wired { host: Arc::new(host), agents, gateway, _lock: lock })
}

fn warn(text: &str) {
    let _ = writeln!(std::io::stderr(), "Warning: {text}");
}

fn limits(project: &Project) -> Limits {
    let local = &project.settings.local;
    Limits {
        memory_bytes: local.memory_bytes(),
        tmp_bytes: local.tmp_size_bytes(),
        pids: local.pids_limit,
        cpus: local.cpus,
    }
}

/// What the gateway goes by when it accepts calls: every agent that can carry one out, and those that are disabled, so
/// that they are refused as such.
fn snapshot(loaded: &Loaded) -> Snapshot {
    let known = loaded.agents.iter().filter(|agent| !agent.is_enabled() || loaded.is_callable(agent.name.as_str()));
    let agents = known.map(|agent| {
        let scale = u32::try_from(agent.scale).unwrap_or(u32::MAX);
        let status = AgentStatus::idle(agent.name.as_str(), scale, agent.timeout);
        (agent.name.to_string(), Arc::new(status))
    });
    let max_call_depth = loaded.project.settings.max_call_depth;
    Snapshot { agents: agents.collect(), max_call_depth, ..Snapshot::default() }
}

type AgentParts = (Arc<Agent>, Arc<ImageContent>, u32);

/// The agents that can take part: the root, and every other one that is usable.
fn agents(
    loaded: &Loaded,
    root: &str,
    maker: &Arc<ImageMaker>,
    tmp_bytes: u64,
) -> Result<BTreeMap<String, AgentParts>> {
    let mut agents = BTreeMap::new();
    for agent in &loaded.agents {
        let name = agent.name.as_str();
        if name != root && !loaded.is_callable(name) {
            continue;
        }
        let content = Arc::new(image_content(loaded, agent, tmp_bytes)?);
        let (maker, for_image) = (Arc::clone(maker), Arc::clone(&content));
        let runnable = Agent {
            name: agent.name.clone(),
            credentials: agent.run_credentials(),
            timeout: Duration::from_secs(agent.timeout),
            log: Log::new(&log_dir(&loaded.project.dir), name),
            image: Box::new(move |cancel| maker.image(&for_image, cancel)),
        };
        let scale = u32::try_from(agent.scale).unwrap_or(u32::MAX);
        agents.insert(name.to_owned(), (Arc::new(runnable), content, scale));
    }
    Ok(agents)
}

/// What is baked into an agent's image.
fn image_content(loaded: &Loaded, agent: &config::Agent, tmp_bytes: u64) -> Result<ImageContent> {
    let settings = &loaded.project.settings;
    let others: Vec<&str> =
        loaded.enabled().map(|other| other.name.as_str()).filter(|name| *name != agent.name.as_str()).collect();
    let skeleton = Skeleton {
        params: &agent.params,
        credentials: &agent.credentials,
        tmp_size: &binary_size(tmp_bytes),
        timeout_seconds: agent.timeout,
        lock_timeout_seconds: settings.gateway.lock_timeout,
        max_call_depth: settings.max_call_depth,
        other_agents: &others,
    };
    Ok(ImageContent {
        agent: agent.name.clone(),
        config_json: serde_json::to_string(&agent.baked()).context("write the agent's configuration")?,
        instructions: agent.instructions.clone().into_bytes(),
        skeleton: skeleton.render(),
        timeout_seconds: agent.timeout,
        script: read_optional(&agent.dir.join(paths::SCRIPT_NAME))?,
        files: mock_scripts(&agent.dir)?,
        dockerfile: user_dockerfile(&agent.dir, &format!("agents/{}/Dockerfile", agent.name))?,
    })
}

/// `mock.toml` and `mock/*.toml`, by their path below the agent's directory.
fn mock_scripts(dir: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    files.extend(read_optional(&dir.join("mock.toml"))?.map(|bytes| ("mock.toml".to_owned(), bytes)));
    for entry in std::fs::read_dir(dir.join("mock")).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".toml") {
            files.extend(read_optional(&entry.path())?.map(|bytes| (format!("mock/{name}"), bytes)));
        }
    }
    files.sort();
    Ok(files)
}

fn user_dockerfile(directory: &Path, name: &str) -> Result<Option<UserDockerfile>> {
    let Some(text) = crate::base::files::read_optional(&directory.join("Dockerfile"))? else { return Ok(None) };
    Ok(Some(UserDockerfile { text, name: name.to_owned(), directory: directory.to_owned() }))
}

fn read_optional(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

/// `3 GiB`, `512 MiB`.
fn binary_size(bytes: u64) -> String {
    const GIB: u64 = 1 << 30;
    if bytes >= GIB && bytes.is_multiple_of(GIB) {
        format!("{} GiB", bytes / GIB)
    } else {
        format!("{} MiB", bytes >> 20)
    }
}

/// Makes images, one after another, and remembers what is ready.
struct ImageMaker {
    layers: Layers,
    docker: Docker,
    dockerfile: Result<Option<UserDockerfile>>,
    observer: Arc<dyn Observer>,
    state: Mutex<MakerState>,
}

#[derive(Default)]
struct MakerState {
    base: Option<Base>,
    ready: HashMap<String, AgentImage>,
}

impl ImageMaker {
    fn new(project: &Project, docker: Docker, observer: Arc<dyn Observer>) -> Self {
        let local = &project.settings.local;
        let settings = Settings {
            image: Some(local.image.clone()),
            base: local.base.clone(),
            build_limit: Duration::from_secs(local.build_timeout),
        };
        Self {
            layers: Layers::new(docker.clone(), project.hash.clone(), settings),
            docker,
            dockerfile: user_dockerfile(&project.dir, "Dockerfile"),
            observer,
            state: Mutex::default(),
        }
    }

    /// The image of an agent, for a run that needs it now.
    fn image(&self, content: &ImageContent, cancel: &Cancel) -> Result<AgentImage> {
        if let Some(image) = self.lock().ready.get(content.agent.as_str()) {
            return Ok(image.clone());
        }
        let docker = self.docker.cancelled_by(cancel);
        let known = image::inspect(&docker, &self.layers.names([&content.agent]))?;
        self.prepare(&known, content)
    }

    /// Makes sure of an agent's image and everything below it, given what Docker has.
    fn prepare(&self, known: &Images, content: &ImageContent) -> Result<AgentImage> {
        // Held while building: two runs that need the same image build it once.
        let mut state = self.lock();
        if let Some(image) = state.ready.get(content.agent.as_str()) {
            return Ok(image.clone());
        }
        let base = match &state.base {
            Some(base) => base.clone(),
            None => self.base(known)?,
        };
        state.base = Some(base.clone());
        let mut progress = self.progress(self.layers.agent_name(&content.agent));
        let ready = self.layers.ensure_agent(known, &base, content, &mut progress).map_err(failed)?;
        let image = self.use_of(&ready);
        state.ready.insert(content.agent.to_string(), image.clone());
        Ok(image)
    }

    fn base(&self, known: &Images) -> Result<Base> {
        let base = self.layers.ensure_base(known, &mut self.progress(self.layers.base_name())).map_err(failed)?;
        self.use_of(&base.image);
        let dockerfile = self.dockerfile.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
        let mut progress = self.progress(self.layers.project_base_name());
        let project =
            self.layers.ensure_project_base(known, &base, dockerfile.as_ref(), &mut progress).map_err(failed)?;
        self.use_of(&project.image);
        Ok(project)
    }

    /// Says what went wrong on the side, and removes what nobody needs any more.
    fn use_of(&self, ready: &Ready) -> AgentImage {
        ready.warnings.iter().for_each(|warning| warn(warning));
        if let crate::run::images::Origin::Built { replaced: Some(id) } = &ready.origin {
            image::remove_if_unnamed(&self.docker, id);
        }
        let program = match ready.entrypoint {
            Entrypoint::Missing => Program::Agent,
            Entrypoint::Own => Program::OfImage,
        };
        AgentImage { id: ready.id.clone(), program }
    }

    fn progress(&self, image: String) -> impl FnMut(&str) {
        let observer = Arc::clone(&self.observer);
        move |text: &str| observer.report(&Report::Build { image: &image, text })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, MakerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A failed build is the agent's problem, not the program's.
fn failed(error: anyhow::Error) -> anyhow::Error {
    AgentError(format!("{error:#}")).into()
}
