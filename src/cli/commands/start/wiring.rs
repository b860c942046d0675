//! From a checked project to a scheduler that is ready to run and listeners that serve: Docker looked at, what an
//! earlier process left compared, everything put together.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::Plan;
use super::database::Database;
use super::listeners::{Bound, Listeners, Serving};
use crate::base::clock::UnixMs;
use crate::base::error::{AgentError, one_line};
use crate::base::log::{Entry, Level};
use crate::base::{Cancel, KnownSecrets, Masker, Secret};
use crate::config::project::Settings;
use crate::config::schedule::Zone;
use crate::credentials::api_key::{Generated, ensure_key};
use crate::docker::inspect::{self, Listed, Which};
use crate::docker::launch::Lifetime;
use crate::docker::memory::Memory;
use crate::docker::network::{self, AL_NET};
use crate::docker::{Docker, Surroundings, look_around};
use crate::model::names::AgentName;
use crate::run::assemble;
use crate::run::daemon::DaemonWatch;
use crate::run::image_maker::ImageMaker;
use crate::run::leftovers;
use crate::run::life::Host;
use crate::run::network::{Network, Restore};
use crate::run::staging::Roots;
use crate::scheduler::handle::{Event, Handle};
use crate::scheduler::outlet::{Inlet, Outlet};
use crate::scheduler::recover::{Adoption, Recovery};
use crate::scheduler::shell::{Parts, Phase, Scheduler, Shown};
use crate::store::Store;

/// Everything, ready to run.
pub(super) struct Wired {
    pub(super) scheduler: Scheduler,
    pub(super) listeners: Listeners,
    pub(super) phases: Receiver<Phase>,
}

/// How long a run waits for the listener of the containers to follow the network.
const MOVE_LIMIT: Duration = Duration::from_secs(10);

/// What Docker has.
struct Found {
    surroundings: Surroundings,
    containers: Result<Vec<Listed>>,
}

/// Puts everything together. Nothing runs yet but the listeners: what they accept waits.
pub(super) fn wire(
    plan: &Plan,
    database: Database,
    handle: &Handle,
    events: Receiver<Event>,
    outlet: Outlet,
    inlet: Inlet,
    interrupted: &Cancel,
) -> Result<Wired> {
    let project = &plan.loaded.project;
    let settings = &project.settings;
    let docker = Docker::default();
    let patient = docker.cancelled_by(interrupted);
    let roots = Roots::for_project(&project.dir);
    let private_root = roots.usable()?;
    let end_builds = Cancel::new();
    let maker = ImageMaker::new(project, docker.cancelled_by(&end_builds), Arc::new(outlet.clone()));
    let maker = Arc::new(maker);
    let active: Vec<&AgentName> = plan.loaded.enabled().map(|agent| &agent.name).collect();
    let Found { surroundings, containers } = look(&patient, &maker.names(active), &private_root);
    let probe = surroundings.probe.map_err(|problem| AgentError(problem.to_string()))?;
    let limits = assemble::limits(project);
    let network = match surroundings.network? {
        Some(network) => network,
        None => make_network(plan, &patient)?,
    };
    let warnings = probe.warnings.iter().cloned().chain(network.warning()).chain(limits.warning(&probe.facts));
    warnings.for_each(|warning| warn(plan, &warning));
    let api_key = gateway_key(plan)?;
    remove_leftovers(plan, &patient, &roots);
    let bound = Bound::bind(plan, &network)?;

    let containers = containers.context("list containers")?;
    let adopted = recover(plan, &database.store, &docker, &roots, containers)?;
    warn_of_unreachable(plan, &adopted, &bound.address.url);
    learn_secrets(plan, &adopted, handle.secrets());

    let (phase_sender, phases) = unbounded();
    let told = outlet.clone();
    let daemon = DaemonWatch::new(docker.clone(), interrupted.clone(), move |change| told.docker(change));
    let host = Arc::new(Host {
        facts: probe.facts.clone(),
        project: project.hash.clone(),
        network: Network::new(network.clone(), restorer(&docker, settings, phase_sender.clone())),
        gateway: bound.address.clone().into(),
        limits,
        lifetime: Lifetime::Scheduled,
        roots,
        marker_dir: None,
        credentials: plan.credentials.clone(),
        store: Arc::clone(&database.store),
        retries: assemble::retry_policy(project),
        observer: Arc::new(outlet.clone()),
        secrets: handle.secrets().clone(),
        daemon: Some(daemon),
        docker,
    });
    let port = bound.port();
    let scheduler = Scheduler::new(Parts {
        host: Arc::clone(&host),
        project: Arc::new(project.clone()),
        zone: zone(plan),
        agents: plan.loaded.agents.clone(),
        adopted,
        maker,
        end_builds,
        known: surroundings.images.ok(),
        check: super::checker(plan.credentials.clone()),
        handle: handle.clone(),
        outlet,
        inlet,
        events,
        log: Arc::clone(&plan.log),
        phases: phase_sender,
        tmp_bytes: limits.tmp_size(probe.facts.memory_bytes),
        flags: database.flags,
        set_aside: database.set_aside,
        info: Shown { started_at: UnixMs::now(), port, dashboard: plan.dashboard },
    })?;
    let serving = Serving { handle: handle.clone(), private_root, api_key };
    let listeners = bound.serve(plan, &host, &network, serving)?;
    Ok(Wired { scheduler, listeners, phases })
}

/// Asks Docker for everything at once: each start of its client takes its time.
fn look(docker: &Docker, images: &[String], private_root: &std::path::Path) -> Found {
    let memory = Memory::of(docker, private_root);
    std::thread::scope(|scope| {
        let containers = scope.spawn(|| inspect::list(docker, Which::All));
        let surroundings = look_around(docker, images, AL_NET, memory.as_ref());
        let containers = containers.join().expect("nothing in a listing panics");
        Found { surroundings, containers }
    })
}

fn make_network(plan: &Plan, docker: &Docker) -> Result<network::Network> {
    plan.log.write(&Entry::new(Level::Info, "Ensuring Docker network..."));
    network::ensure(docker, AL_NET, plan.loaded.project.settings.local.subnet.as_deref())
}

fn gateway_key(plan: &Plan) -> Result<Secret> {
    let (key, generated) = ensure_key(&plan.credentials)?;
    if generated == Generated::Yes {
        plan.log.write(&Entry::new(Level::Info, "gateway API key generated"));
    }
    Ok(key)
}

/// Removes what one-shot runs that were killed have left.
fn remove_leftovers(plan: &Plan, docker: &Docker, roots: &Roots) {
    let project = &plan.loaded.project;
    let marker_dir = leftovers::marker_dir(&project.dir);
    if leftovers::any(&marker_dir)
        && let Err(error) = leftovers::remove(docker, &marker_dir, &project.hash, roots)
    {
        warn(plan, &format!("something of an earlier run is left: {error:#}"));
    }
}

/// Ends what is over of an earlier process, and gives the runs that go on.
fn recover(
    plan: &Plan,
    store: &Arc<Store>,
    docker: &Docker,
    roots: &Roots,
    containers: Vec<Listed>,
) -> Result<Vec<Adoption>> {
    let timeouts: BTreeMap<&str, u64> =
        plan.loaded.enabled().map(|agent| (agent.name.as_str(), agent.timeout)).collect();
    let recovery = Recovery {
        docker,
        store,
        project: &plan.loaded.project.hash,
        roots,
        policy: assemble::retry_policy(&plan.loaded.project),
        log: &plan.log,
        agents: &plan.loaded.discovered,
        timeout_of: &|agent| timeouts.get(agent).copied().map(Duration::from_secs),
    };
    Ok(recovery.run(containers)?.adoptions)
}

/// Makes the network again when somebody removed it. The listener of the containers is where it belongs when this returns.
fn restorer(docker: &Docker, settings: &Settings, phases: Sender<Phase>) -> Restore {
    let (docker, subnet) = (docker.clone(), settings.local.subnet.clone());
    Box::new(move || {
        let network = network::ensure(&docker, AL_NET, subnet.as_deref())?;
        let (told, done) = bounded(0);
        let _ = phases.send(Phase::NetworkChanged(told));
        let _ = done.recv_timeout(MOVE_LIMIT);
        Ok(network)
    })
}

fn zone(plan: &Plan) -> Zone {
    let system = Zone::system(&plan.environment);
    if let Some(warning) = system.warning {
        warn(plan, &warning);
    }
    system.zone
}

fn warn(plan: &Plan, text: &str) {
    plan.log.write(&Entry::new(Level::Warn, text));
    let _ = writeln!(std::io::stderr(), "Warning: {text}");
}

/// Has what adopted runs say to the gateway masked from its first request on.
fn learn_secrets(plan: &Plan, adoptions: &[Adoption], known: &KnownSecrets) {
    for adoption in adoptions {
        match adoption.secrets() {
            Ok(secrets) => known.learn(adoption.instance(), Masker::new(&secrets)),
            Err(error) => {
                let entry = Entry::new(Level::Warn, "secrets of an adopted run cannot be read");
                let entry = entry.field("agent", adoption.agent.as_str()).field("instance", adoption.instance());
                plan.log.write(&entry.field("err", one_line(&error)));
            }
        }
    }
}

/// Runs that were given another address of the gateway go on without it.
fn warn_of_unreachable(plan: &Plan, adoptions: &[Adoption], url: &str) {
    for adoption in adoptions.iter().filter(|adoption| adoption.gateway_url().is_some_and(|given| given != url)) {
        let entry = Entry::new(Level::Warn, "run goes on without gateway: its address has changed");
        plan.log.write(&entry.field("agent", adoption.agent.as_str()).field("instance", adoption.instance()));
    }
}
