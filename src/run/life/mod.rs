//! The life of one run, from its row in the store to its cleaned-up end (containers.md §1, scheduler.md §4.3).
//!
//! Everything here happens on the run's own thread. A kill wish is honoured in every step: before the container runs it
//! prevents the start, afterwards the container is killed at once. A run of a scheduler can also be left: its container
//! goes on, and the next process carries on with it.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use shims::wire::run_file::RunFile;
use shims::wire::usage::Usage;

use super::daemon::DaemonWatch;
use super::kill::KillSwitch;
use super::leftovers::Marker;
use super::network::Network;
use super::observer::{Observer, Report, RunInfo};
use super::outcome::Ending;
use super::prompt;
use super::staging::{Content, Fields, Roots, Staging};
use super::stream::{Learned, Translator};
use crate::base::clock::UnixMs;
use crate::base::crash;
use crate::base::error::one_line;
use crate::base::log::{Entry, Level, Log};
use crate::base::text::cut;
use crate::base::{Cancel, KnownSecrets, Masker, worker};
use crate::config::needs::Demand;
use crate::credentials;
use crate::docker::inspect::{self, State};
use crate::docker::launch::{self, GatewayHost, LaunchSpec, Lifetime, Limits, Program};
use crate::docker::probe::Facts;
use crate::docker::{Docker, Failure, failure};
use crate::model::event::Trigger;
use crate::model::names::{AgentName, CredentialRef, ProjectHash};
use crate::model::outcome::Outcome;
use crate::store::Store;
use crate::store::containers::{Identity, Origin};
use crate::store::runs::RetryPolicy;

use self::dropped::Dropped;
use self::heard::Heard;

mod dropped;
mod ending;
mod follow;
mod heard;

/// How much longer the host waits than the run itself, so that the run's own end is what people see.
pub const HOST_GRACE: Duration = Duration::from_secs(15);

/// What all runs of this process have in common.
pub struct Host {
    pub docker: Docker,
    pub facts: Facts,
    pub project: ProjectHash,
    pub network: Network,
    /// How containers reach the gateway now.
    pub gateway: RwLock<GatewayAddress>,
    pub limits: Limits,
    pub lifetime: Lifetime,
    pub roots: Roots,
    /// Where one-shot runs put their markers down. A scheduler has rows in its store instead.
    pub marker_dir: Option<PathBuf>,
    pub credentials: credentials::Store,
    pub store: Arc<Store>,
    pub retries: RetryPolicy,
    pub observer: Arc<dyn Observer>,
    /// Where runs leave their secrets as long as they go on.
    pub secrets: KnownSecrets,
    /// Waited for when the daemon does not answer; without one a launch then fails.
    pub daemon: Option<Arc<DaemonWatch>>,
}

/// How containers reach the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayAddress {
    /// Where the name `gateway` leads.
    pub host: GatewayHost,
    /// Base URL as containers see it.
    pub url: String,
}

impl Host {
    /// How containers reach the gateway now.
    pub fn gateway(&self) -> GatewayAddress {
        self.gateway.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What all runs of an agent have in common.
pub struct Agent {
    pub name: AgentName,
    /// What is staged for its runs, model keys included.
    pub credentials: Vec<(CredentialRef, Demand)>,
    pub timeout: Duration,
    pub log: Log,
    /// Gives its image, which is built when need be.
    pub image: ImageSource,
}

/// Makes an agent's image ready; the token ends a build.
pub type ImageSource = Box<dyn Fn(&Cancel) -> Result<AgentImage> + Send + Sync>;

/// An image to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentImage {
    /// The id, never a tag.
    pub id: String,
    pub program: Program,
}

/// One run to be carried out.
pub struct Order {
    /// Registered already: the gateway accepts its secret.
    pub identity: Identity,
    pub origin: Origin,
    pub agent: Arc<Agent>,
    pub trigger: Trigger,
    pub max_reruns: u32,
    /// Which attempt at its item this is, and how many there may be.
    pub attempt: Option<(u32, u32)>,
}

impl Order {
    /// What observers are told about it.
    pub fn info(&self) -> RunInfo {
        RunInfo {
            instance: self.identity.instance.to_string(),
            agent: self.agent.name.to_string(),
            trigger: self.trigger.kind(),
            container: self.identity.instance.container_name(),
        }
    }

    /// How log lines name what it was started by.
    pub fn details(&self) -> String {
        self.trigger.details(self.origin.rerun, self.max_reruns)
    }
}

/// A run of an earlier process that is carried on with.
#[derive(Clone, Debug)]
pub struct Inherited {
    pub started_at: UnixMs,
    /// When the host stops it.
    pub deadline_at: UnixMs,
    pub last_seq: u64,
    pub return_value: Option<String>,
    pub usage: Option<Usage>,
    /// Its private directory, when it is still there.
    pub stage: Option<PathBuf>,
    /// Its end was found at the start of this process: the host itself may have gone down.
    pub is_collected: bool,
}

/// How carrying out a run came to its end.
pub enum End {
    /// The run has ended; everything of it is recorded and cleaned up.
    Ended(Box<Outcome>),
    /// It goes on without this process.
    Left,
}

/// Carries out a run and cleans up after it, whatever happens.
pub fn carry_out(host: &Host, order: &Order, kill: &KillSwitch) -> End {
    let info = order.info();
    let started_at = UnixMs::now();
    let mut life = Life::new(host, order, kill, &info, started_at);
    host.observer.report(&Report::Started(&info));
    let text = format!("Starting {} container run (triggered by {})", order.agent.name, order.details());
    life.log(Entry::new(Level::Info, text));
    let mut staging = None;
    // A panic in it is one more way to fail: what follows cleans up after every one.
    let ending = worker::guarded(AssertUnwindSafe(|| life.live(&mut staging))).flatten();
    life.conclude(ending, staging, started_at)
}

/// Carries on with a run whose container was there when this process started.
pub fn carry_on(host: &Host, order: &Order, kill: &KillSwitch, inherited: Inherited) -> End {
    let info = order.info();
    let started_at = inherited.started_at;
    let mut life = Life::new(host, order, kill, &info, started_at);
    host.observer.report(&Report::Started(&info));
    let staging = inherited.stage.clone().map(Staging::inherited);
    let ending = worker::guarded(AssertUnwindSafe(|| life.resume(&inherited, staging.as_ref()))).flatten();
    life.conclude(ending, staging, started_at)
}

/// A run under way.
struct Life<'a> {
    host: &'a Host,
    order: &'a Order,
    kill: &'a KillSwitch,
    info: &'a RunInfo,
    /// When it began, perhaps with an earlier process.
    began: UnixMs,
    translator: Translator,
    started: Instant,
    /// Set when the host's own limit was reached.
    host_limit: Option<Duration>,
    /// Put down before there may be a container.
    marker: Option<Marker>,
    /// Whether there may be a container that has to be removed.
    may_have_container: bool,
    is_collected: bool,
    /// When its container ended, where only Docker knows.
    ended_at: Option<UnixMs>,
    /// Asks for the container's state since the program inside said that it ends.
    asked_early: Option<JoinHandle<Result<Result<Option<State>>>>>,
    /// While the container's log is followed: what of it is known.
    heard: Option<Heard>,
    /// What of the translator's knowledge the store has.
    saved: Learned,
    /// Lines of the container that were lost.
    dropped: Dropped,
}

impl<'a> Life<'a> {
    fn new(host: &'a Host, order: &'a Order, kill: &'a KillSwitch, info: &'a RunInfo, began: UnixMs) -> Self {
        Self {
            host,
            order,
            kill,
            info,
            began,
            translator: Translator::new(&info.instance, Masker::default(), began),
            started: Instant::now(),
            host_limit: None,
            marker: None,
            may_have_container: false,
            is_collected: false,
            ended_at: None,
            asked_early: None,
            heard: None,
            saved: Learned::default(),
            dropped: Dropped::default(),
        }
    }

    /// Everything up to the end of the container; `None` when it was left.
    fn live(&mut self, staging: &mut Option<Staging>) -> Result<Option<Ending>> {
        self.check_wish()?;
        let credentials = self.read_credentials()?;
        let secrets = credentials.iter().flat_map(|(_, fields)| fields.values()).chain([&self.order.identity.secret]);
        self.mask(Masker::new(secrets));
        let gateway = self.host.gateway();
        let staged = staging.insert(self.stage(&credentials, &gateway)?);
        let image = (self.order.agent.image)(self.kill.token())
            .with_context(|| format!("image of agent {}", self.order.agent.name))?;
        if let Some(dir) = &self.host.marker_dir {
            self.marker = Some(Marker::put(dir, &self.info.instance)?);
        }
        self.may_have_container = true;
        let mut network_restored = false;
        loop {
            match self.launch(staged.dir(), &image) {
                // The daemon creates a container for a network that is gone, and does not start it.
                Err(error) if !network_restored && is_network_missing(&error) => {
                    network_restored = true;
                    inspect::remove(&self.host.docker, &self.info.container)?;
                    self.restore_network()?;
                }
                launched => return launched,
            }
        }
    }

    /// From nothing to the end of the container; `None` when it was left.
    fn launch(&mut self, stage: &Path, image: &AgentImage) -> Result<Option<Ending>> {
        if self.host.network.is_gone() {
            self.restore_network()?;
        }
        let gateway = self.host.gateway();
        self.check_wish()?;
        if !self.create(stage, image, &gateway)? {
            return Ok(None);
        }
        self.check_wish()?;
        self.run_container(stage, image, &gateway)
    }

    fn restore_network(&self) -> Result<()> {
        self.host.network.restore().context("make the network of the runs again")
    }

    /// The rest of a run that an earlier process started.
    fn resume(&mut self, inherited: &Inherited, staging: Option<&Staging>) -> Result<Option<Ending>> {
        self.may_have_container = true;
        self.is_collected = inherited.is_collected;
        let secrets = staging.map(Staging::secrets).transpose()?.unwrap_or_default();
        self.mask(Masker::new(secrets.iter().chain([&self.order.identity.secret])));
        self.translator.learned = Learned {
            last_seq: inherited.last_seq,
            return_value: inherited.return_value.clone(),
            usage: inherited.usage,
            ..Learned::default()
        };
        self.saved = self.translator.learned.clone();
        let now = UnixMs::now();
        self.started = Instant::now().checked_sub(now.since(inherited.started_at)).unwrap_or_else(Instant::now);
        let left = inherited.deadline_at.since(now).min(self.order.agent.timeout + HOST_GRACE);
        self.follow_again(Instant::now() + left)
    }

    /// From now on everything that the run says is masked.
    fn mask(&mut self, masker: Masker) {
        self.host.secrets.learn(&self.info.instance, masker.clone());
        self.translator = Translator::new(&self.info.instance, masker, self.began);
    }

    fn read_credentials(&self) -> Result<Vec<(CredentialRef, Fields)>> {
        let mut found = Vec::new();
        for (reference, demand) in &self.order.agent.credentials {
            match self.host.credentials.read_all(reference)?.filter(|fields| !fields.is_empty()) {
                Some(fields) => found.push((reference.clone(), fields)),
                None => match demand {
                    Demand::Required => {
                        bail!("credential \"{reference}\" is missing; run `al doctor` to see what is needed")
                    }
                    Demand::Wanted => self.warn("credential of a fallback model is missing", &reference.to_string()),
                    Demand::Optional => {}
                },
            }
        }
        Ok(found)
    }

    fn stage(&self, credentials: &[(CredentialRef, Fields)], gateway: &GatewayAddress) -> Result<Staging> {
        let order = self.order;
        let run_file = RunFile {
            v: 1,
            agent_name: order.agent.name.to_string(),
            instance_id: order.identity.instance.to_string(),
            gateway_url: Some(gateway.url.clone()),
            shutdown_secret: Some(order.identity.secret.clone()),
            timeout_seconds: order.agent.timeout.as_secs(),
            trigger: order.trigger.to_wire(),
            call_depth: order.origin.depth,
            trace_parent: None,
            otlp_endpoint: None,
        };
        let prompt = prompt::dynamic(&order.trigger, order.attempt);
        let root = self.host.roots.usable()?;
        let content = Content { credentials, run_file: &run_file, prompt: &prompt };
        Staging::create(&root, &self.host.project, &order.identity.instance, &content)
    }

    /// Creates the container; false when the process ends while the daemon does not answer.
    fn create(&mut self, stage: &Path, image: &AgentImage, gateway: &GatewayAddress) -> Result<bool> {
        let spec = LaunchSpec {
            project: &self.host.project,
            instance: &self.order.identity.instance,
            lifetime: self.host.lifetime,
            network: self.host.network.name(),
            gateway: Some(gateway.host),
            gateway_url: Some(&gateway.url),
            limits: self.host.limits,
            stage: Some(stage),
            trace_parent: None,
            otlp_endpoint: None,
            program: image.program,
            image_id: &image.id,
        };
        crash::point("claimed");
        loop {
            // Not cancelled by a kill wish: the daemon would go on creating what nobody removes then.
            let error = match launch::create(&self.host.docker, &spec, &self.host.facts) {
                Ok(()) => return Ok(true),
                Err(error) => anyhow::Error::from(error),
            };
            match (failure(&error), &self.host.daemon) {
                (Failure::DaemonDown, Some(daemon)) => {
                    daemon.report(&one_line(&error));
                    if !daemon.wait_until_up(self.kill.token()) {
                        self.check_wish()?;
                        return Ok(false);
                    }
                    // The one that the daemon may have made before it went.
                    inspect::remove(&self.host.docker, &self.info.container)?;
                }
                _ => return Err(error),
            }
        }
    }

    fn check_wish(&self) -> Result<()> {
        match self.kill.reason() {
            Some(reason) => bail!("killed before its start: {reason}"),
            None => Ok(()),
        }
    }

    fn warn(&self, msg: &str, error: &str) {
        self.log(Entry::new(Level::Warn, msg).field("error", cut(error, 500)));
    }

    /// Writes an entry of this run and shows it.
    fn log(&self, entry: Entry) {
        let entry = entry.of_instance(&self.info.instance);
        self.order.agent.log.write(&entry);
        self.host.observer.report(&Report::Entry { agent: &self.info.agent, entry: &entry });
    }
}

fn is_network_missing(error: &anyhow::Error) -> bool {
    let not_started = error.downcast_ref::<follow::StartFailed>().map(|error| error.failure);
    not_started.unwrap_or_else(|| failure(error)) == Failure::NetworkMissing
}

/// Where an agent's log files are.
pub fn log_dir(project: &Path) -> PathBuf {
    project.join(".al/logs")
}
