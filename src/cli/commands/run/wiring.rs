//! From a loaded project to everything that a one-shot run needs: Docker looked at, images ready, gateway open.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;

use anyhow::Result;

use super::gateway::EphemeralGateway;
use super::interrupt::Interrupt;
use crate::base::Cancel;
use crate::config::{Loaded, Project};
use crate::credentials::Store as CredentialStore;
use crate::docker::launch::Lifetime;
use crate::docker::memory::Memory;
use crate::docker::network::{self, AL_NET};
use crate::docker::{Docker, look_around};
use crate::model::names::AgentName;
use crate::model::status::AgentStatus;
use crate::run::assemble;
use crate::run::image_maker::ImageMaker;
use crate::run::images::AgentImage as ImageContent;
use crate::run::leftovers;
use crate::run::life::{Agent, GatewayAddress, Host};
use crate::run::network::{Network, Restore};
use crate::run::observer::Observer;
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
    let names = maker.names([&root_name]);
    let roots = Roots::for_project(&project.dir);
    let private_dir = roots.usable()?;
    let marker_dir = leftovers::marker_dir(&project.dir);
    let memory = Memory::of(&docker, &private_dir);
    let open_gateway = |network: &network::Network, store: &Arc<Store>| {
        EphemeralGateway::open(project, network, &private_dir, store, handle)
    };
    let (found, store, gateway) = std::thread::scope(|scope| {
        // Side by side, because every start of the client takes its time.
        let looking = scope.spawn(|| look_around(&patient, &names, AL_NET, memory.as_ref()));
        let clean_up = || leftovers::remove(&patient, &marker_dir, &project.hash, &roots);
        let cleaning = leftovers::any(&marker_dir).then(|| scope.spawn(clean_up));
        let store = Store::open_in_memory().map(Arc::new);
        handle.publish(snapshot(loaded));
        let network = memory.as_ref().and_then(|memory| memory.recall(AL_NET).network);
        let gateway = network.zip(store.as_ref().ok()).map(|(network, store)| open_gateway(&network, store));
        if let Some(Ok(Err(error))) = cleaning.map(|cleaning| cleaning.join()) {
            warn(&format!("something of an earlier run is left: {error:#}"));
        }
        (looking.join().expect("nothing in an inspection panics"), store, gateway)
    });
    let store = store?;
    let probe = found.probe?;
    let limits = assemble::limits(project);
    let network = match found.network? {
        Some(network) => network,
        None => network::ensure(&patient, AL_NET, project.settings.local.subnet.as_deref())?,
    };
    let warnings = probe.warnings.iter().cloned().chain(network.warning()).chain(limits.warning(&probe.facts));
    warnings.for_each(|warning| warn(&warning));

    let agents = agents(loaded, root, &maker, limits.tmp_size(probe.facts.memory_bytes))?;
    maker.prepare(&found.images?, &agents[root].1)?;
    let gateway = gateway.unwrap_or_else(|| open_gateway(&network, &store))?;
    let host = Host {
        docker,
        facts: probe.facts,
        project: project.hash.clone(),
        network: Network::new(network, restorer(&patient, project)),
        gateway: GatewayAddress { host: gateway.host(), url: gateway.url() }.into(),
        limits,
        lifetime: Lifetime::Once,
        roots,
        marker_dir: Some(marker_dir),
        credentials,
        store,
        retries: NO_RETRIES,
        observer,
        secrets: handle.secrets().clone(),
        daemon: None,
    };
    let agents = agents.into_iter().map(|(name, (agent, _, scale))| (name, (agent, scale))).collect();
    Ok(Wired { host: Arc::new(host), agents, gateway, _lock: lock })
}

/// Makes the network again when somebody removed it.
fn restorer(docker: &Docker, project: &Project) -> Restore {
    let (docker, subnet) = (docker.clone(), project.settings.local.subnet.clone());
    Box::new(move || network::ensure(&docker, AL_NET, subnet.as_deref()))
}

fn warn(text: &str) {
    let _ = writeln!(std::io::stderr(), "Warning: {text}");
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
        let others: Vec<&str> =
            loaded.enabled().map(|other| other.name.as_str()).filter(|other| *other != name).collect();
        let content = Arc::new(assemble::image_content(&loaded.project, agent, &others, tmp_bytes)?);
        let (maker, for_image) = (Arc::clone(maker), Arc::clone(&content));
        let image = Box::new(move |cancel: &Cancel| maker.image(&for_image, cancel));
        let runnable = assemble::agent(&loaded.project, agent, image);
        let scale = u32::try_from(agent.scale).unwrap_or(u32::MAX);
        agents.insert(name.to_owned(), (Arc::new(runnable), content, scale));
    }
    Ok(agents)
}
