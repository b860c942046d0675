//! The life of one run, from its row in the store to its cleaned-up end (containers.md §1, scheduler.md §4.3).
//!
//! Everything here happens on the run's own thread. A kill wish is honoured in every step: before the container runs it
//! prevents the start, afterwards the container is killed at once.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use crossbeam_channel::{after, at, never, select};
use shims::wire::exit;
use shims::wire::run_file::RunFile;

use super::kill::KillSwitch;
use super::leftovers::Marker;
use super::observer::{Observer, Report, RunInfo};
use super::outcome::{Ending, Observed, Verdict, judge};
use super::prompt;
use super::staging::{Content, Fields, Roots, Staging};
use super::stream::Translator;
use crate::base::clock::{UnixMs, seconds};
use crate::base::error::one_line;
use crate::base::log::{Entry, Level, Log};
use crate::base::process::Pipe;
use crate::base::text::cut;
use crate::base::{Cancel, KnownSecrets, Masker, worker};
use crate::config::needs::Demand;
use crate::credentials;
use crate::docker::attach::{self, Batch, Extent};
use crate::docker::inspect::{self, Stop};
use crate::docker::launch::{self, GatewayHost, LaunchSpec, Lifetime, Limits, Program};
use crate::docker::probe::Facts;
use crate::docker::{Docker, Failure, failure};
use crate::model::event::Trigger;
use crate::model::names::{AgentName, CredentialRef, ProjectHash};
use crate::model::outcome::{Class, Outcome, RunResult};
use crate::store::Store;
use crate::store::containers::{self, Identity, Origin};
use crate::store::runs::{self, RetryPolicy};

/// How much longer the host waits than the run itself, so that the run's own end is what people see.
const HOST_GRACE: Duration = Duration::from_secs(15);
/// Time between SIGTERM and SIGKILL at the host's limit.
const TERM_GRACE: Duration = Duration::from_secs(5);
/// A container that has not started by then never will.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How often killing is repeated until the container has ended.
const KILL_AGAIN: Duration = Duration::from_millis(500);
/// A killed container that has not ended by then is given up.
const KILL_LIMIT: Duration = Duration::from_secs(60);

/// What all runs of this process have in common.
pub struct Host {
    pub docker: Docker,
    pub facts: Facts,
    pub project: ProjectHash,
    /// Name of the network.
    pub network: String,
    pub gateway_host: GatewayHost,
    /// Base URL of the gateway as containers see it.
    pub gateway_url: String,
    pub limits: Limits,
    pub lifetime: Lifetime,
    pub roots: Roots,
    /// Where runs put their markers down.
    pub marker_dir: PathBuf,
    pub credentials: credentials::Store,
    pub store: Arc<Store>,
    pub retries: RetryPolicy,
    pub observer: Arc<dyn Observer>,
    /// Where runs leave their secrets as long as they go on.
    pub secrets: KnownSecrets,
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
}

/// Carries out a run and cleans up after it, whatever happens.
pub fn carry_out(host: &Host, order: &Order, kill: &KillSwitch) -> Outcome {
    let info = order.info();
    let mut life = Life {
        host,
        order,
        kill,
        info: &info,
        translator: Translator::new(&info.instance, Masker::default()),
        started: Instant::now(),
        host_limit: None,
        marker: None,
    };
    let started_at = UnixMs::now();
    host.observer.report(&Report::Started(&info));
    let details = order.trigger.details(order.origin.rerun, order.max_reruns);
    life.log(Entry::new(Level::Info, format!("Starting {} container run (triggered by {details})", order.agent.name)));

    let mut staging = None;
    // A panic in it is one more way to fail: what follows cleans up after every one.
    let ending = match worker::guarded(AssertUnwindSafe(|| life.live(&mut staging))).flatten() {
        Ok(ending) => ending,
        Err(error) => {
            if kill.reason().is_none() {
                let err = serde_json::json!({"type": "Error", "message": format!("{error:#}")});
                let msg = format!("{} container run failed", order.agent.name);
                life.log(Entry::new(Level::Error, msg).field("err", err));
            }
            Ending::NotStarted(one_line(&error))
        }
    };
    let outcome = life.outcome(ending, started_at);
    life.log_end(&outcome);
    life.record(&outcome);
    // Only now: removing the files earlier would take them away inside.
    drop(staging);
    life.remove_container();
    host.secrets.forget(&info.instance);
    // Whoever wished it dead while it ended by itself got what they wanted.
    kill.answer(Ok(()));
    host.observer.report(&Report::Ended { run: &info, outcome: &outcome });
    outcome
}

/// A run under way.
struct Life<'a> {
    host: &'a Host,
    order: &'a Order,
    kill: &'a KillSwitch,
    info: &'a RunInfo,
    translator: Translator,
    started: Instant,
    /// Set when the host's own limit was reached.
    host_limit: Option<Duration>,
    /// Put down before there may be a container.
    marker: Option<Marker>,
}

impl Life<'_> {
    /// Everything up to the end of the container.
    fn live(&mut self, staging: &mut Option<Staging>) -> Result<Ending> {
        self.check_wish()?;
        let credentials = self.read_credentials()?;
        let secrets = credentials.iter().flat_map(|(_, fields)| fields.values()).chain([&self.order.identity.secret]);
        let masker = Masker::new(secrets);
        self.host.secrets.learn(&self.info.instance, masker.clone());
        self.translator = Translator::new(&self.info.instance, masker);
        let staged = staging.insert(self.stage(&credentials)?);
        let image = (self.order.agent.image)(self.kill.token())
            .with_context(|| format!("image of agent {}", self.order.agent.name))?;
        self.check_wish()?;
        self.create(staged, &image)?;
        self.check_wish()?;
        self.run_container()
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

    fn stage(&self, credentials: &[(CredentialRef, Fields)]) -> Result<Staging> {
        let order = self.order;
        let run_file = RunFile {
            v: 1,
            agent_name: order.agent.name.to_string(),
            instance_id: order.identity.instance.to_string(),
            gateway_url: Some(self.host.gateway_url.clone()),
            shutdown_secret: Some(order.identity.secret.clone()),
            timeout_seconds: order.agent.timeout.as_secs(),
            trigger: order.trigger.to_wire(),
            call_depth: order.origin.depth,
            trace_parent: None,
            otlp_endpoint: None,
        };
        let prompt = prompt::dynamic(&order.trigger, None);
        let root = self.host.roots.usable()?;
        let content = Content { credentials, run_file: &run_file, prompt: &prompt };
        Staging::create(&root, &self.host.project, &order.identity.instance, &content)
    }

    fn create(&mut self, staged: &Staging, image: &AgentImage) -> Result<()> {
        let spec = LaunchSpec {
            project: &self.host.project,
            instance: &self.order.identity.instance,
            lifetime: self.host.lifetime,
            network: &self.host.network,
            gateway: Some(self.host.gateway_host),
            gateway_url: Some(&self.host.gateway_url),
            limits: self.host.limits,
            stage: Some(staged.dir()),
            trace_parent: None,
            otlp_endpoint: None,
            program: image.program,
            image_id: &image.id,
        };
        self.marker = Some(Marker::put(&self.host.marker_dir, &self.info.instance)?);
        // Not cancelled by a kill wish: the daemon would go on creating what nobody removes then.
        Ok(launch::create(&self.host.docker, &spec, &self.host.facts)?)
    }

    /// Starts the container and follows it to its end.
    fn run_container(&mut self) -> Result<Ending> {
        self.started = Instant::now();
        let deadline = self.started + self.order.agent.timeout + HOST_GRACE;
        let mut output = attach::start(&self.host.docker, &self.info.container)?;
        self.log(Entry::new(Level::Info, "container launched").field("container", self.info.container.as_str()));
        let mut stopping = Stopping::default();
        let mut recovered = false;
        loop {
            match self.follow(&output, deadline, &mut stopping) {
                Followed::ToItsEnd => output.finish(),
                // Dropping the output ends the client.
                Followed::NotStarted => bail!("the container did not start within {} s", START_LIMIT.as_secs()),
                Followed::GivenUp => {
                    let entry = Entry::new(Level::Error, "container does not end");
                    self.log(entry.field("container", self.info.container.as_str()));
                    return Ok(Ending::Lost);
                }
            };
            match self.state_at_end(deadline) {
                Some(state) if state.is_running() => {
                    // The client died, not the container.
                    recovered = true;
                    match self.reattach(deadline) {
                        Ok(again) => output = again,
                        Err(error) => {
                            self.warn("container could not be followed again", &format!("{error:#}"));
                            return Ok(Ending::Lost);
                        }
                    }
                }
                Some(state) if state.started_at.is_none() => {
                    let reason =
                        if state.error.is_empty() { "the container did not start".to_owned() } else { state.error };
                    bail!("docker start failed: {reason}");
                }
                Some(state) => {
                    if recovered {
                        self.read_missed_lines();
                    }
                    return Ok(Ending::Exited { code: state.exit_code, oom_killed: state.oom_killed });
                }
                None => return Ok(Ending::Lost),
            }
        }
    }

    /// Takes lines until the client closes its pipes; stops the container when it is time or wished.
    fn follow(&mut self, output: &attach::Output, deadline: Instant, stopping: &mut Stopping) -> Followed {
        let mut start_check = Some(self.started + START_LIMIT);
        let nobody = never();
        loop {
            let wish = if stopping.wish_done { &nobody } else { self.kill.token().done() };
            let next = [stopping.next(deadline), start_check].into_iter().flatten().min();
            let timer = next.map_or_else(never, at);
            select! {
                recv(output.batches()) -> batch => match batch {
                    Ok(batch) => {
                        start_check = None;
                        self.take(batch);
                    }
                    Err(_) => return Followed::ToItsEnd,
                },
                recv(wish) -> _ => {
                    stopping.wish_done = true;
                    self.log(Entry::new(Level::Info, "Container agent runner abort requested"));
                    let killed = inspect::kill(&self.host.docker, &self.info.container, Stop::Kill);
                    self.kill.answer(killed.map_err(|error| error.to_string()));
                    stopping.give_up_at = Some(Instant::now() + KILL_LIMIT);
                    stopping.kill_at = Some(Instant::now() + KILL_AGAIN);
                }
                recv(timer) -> _ => {
                    let now = Instant::now();
                    if start_check.is_some_and(|check| now >= check) {
                        start_check = None;
                        if !self.has_started() {
                            return Followed::NotStarted;
                        }
                    }
                    if stopping.give_up_at.is_some_and(|limit| now >= limit) {
                        return Followed::GivenUp;
                    }
                    self.advance(stopping, deadline, now);
                }
            }
        }
    }

    /// The next step of ending a container that is over its time.
    fn advance(&mut self, stopping: &mut Stopping, deadline: Instant, now: Instant) {
        if stopping.kill_at.is_some_and(|limit| now >= limit) {
            // Again and again: a container that is just being started does not count as running yet.
            stopping.kill_at = Some(now + KILL_AGAIN);
            stopping.give_up_at.get_or_insert(now + KILL_LIMIT);
            self.send(Stop::Kill);
        } else if !stopping.term_sent && stopping.give_up_at.is_none() && now >= deadline {
            stopping.term_sent = true;
            stopping.kill_at = Some(now + TERM_GRACE);
            self.host_limit = Some(self.order.agent.timeout);
            self.send(Stop::Terminate);
        }
    }

    fn send(&self, stop: Stop) {
        if let Err(error) = inspect::kill(&self.host.docker, &self.info.container, stop) {
            self.warn("container could not be stopped", &error.to_string());
        }
    }

    fn has_started(&self) -> bool {
        !matches!(inspect::state(&self.host.docker, &self.info.container), Ok(Some(state)) if state.started_at.is_none())
    }

    /// State after the client ended; asked again while the daemon does not answer, until the deadline.
    fn state_at_end(&self, deadline: Instant) -> Option<inspect::State> {
        let mut attempt = 0;
        loop {
            match inspect::state(&self.host.docker, &self.info.container) {
                Ok(state) => return state,
                // A wish to end is not kept waiting for a daemon; the marker of this run stays.
                Err(error)
                    if failure(&error) == Failure::DaemonDown
                        && self.kill.reason().is_none()
                        && Instant::now() < deadline =>
                {
                    self.pause(attempt);
                    attempt += 1;
                }
                Err(error) => {
                    self.warn("container status unreadable", &format!("{error:#}"));
                    return None;
                }
            }
        }
    }

    fn reattach(&self, deadline: Instant) -> Result<attach::Output> {
        let mut attempt = 0;
        while self.kill.reason().is_none() && Instant::now() < deadline && !self.host.docker.daemon_answers() {
            self.pause(attempt);
            attempt += 1;
        }
        attach::reattach(&self.host.docker, &self.info.container)
    }

    /// Waits before asking the daemon again; a kill wish shortens it.
    fn pause(&self, attempt: u32) {
        let timer = after(inspect::pause_before_retry(attempt));
        select! {
            recv(timer) -> _ => {}
            recv(self.kill.token().done()) -> _ => {}
        }
    }

    /// Protocol lines that were written while no client was attached.
    fn read_missed_lines(&mut self) {
        let Ok(output) = attach::logs(&self.host.docker, &self.info.container, Extent::Everything) else { return };
        for batch in output.batches() {
            for line in batch.lines.iter().filter(|line| line.pipe == Pipe::Stdout && !line.is_cut) {
                if let Some(entry) = self.translator.again(&line.text) {
                    self.log(entry);
                }
            }
        }
        output.finish();
    }

    fn take(&mut self, batch: Batch) {
        if batch.dropped > 0 {
            let entry = Entry::new(Level::Warn, "output lines dropped").field("dropped", batch.dropped);
            self.log(entry.of_instance(&self.info.instance));
        }
        for line in batch.lines {
            let entry = match line.pipe {
                Pipe::Stderr => self.translator.stderr(&line.text),
                Pipe::Stdout if line.is_cut => self.translator.plain(&line.text),
                Pipe::Stdout => self.translator.stdout(&line.text),
            };
            if let Some(entry) = entry {
                self.log(entry);
            }
        }
    }

    fn check_wish(&self) -> Result<()> {
        match self.kill.reason() {
            Some(reason) => bail!("killed before its start: {reason}"),
            None => Ok(()),
        }
    }

    fn outcome(&self, ending: Ending, started_at: UnixMs) -> Outcome {
        let learned = &self.translator.learned;
        let reason = self.kill.reason();
        let exit_code = match ending {
            Ending::Exited { code, .. } => Some(code),
            _ => None,
        };
        let ending = if reason.is_some() && exit_code.is_none() { Ending::Lost } else { ending };
        let Verdict { class, result, error } = judge(&Observed {
            ending,
            kill_reason: reason.as_deref(),
            host_limit: self.host_limit,
            container_name: &self.info.container,
            exit_signal: learned.exit_signal.is_some(),
        });
        let posted = || self.host.store.read(|db| containers::return_value(db, &self.info.instance)).ok().flatten();
        Outcome {
            class,
            result,
            exit_code,
            exit_reason: learned.exit_signal.as_ref().map(|(_, reason)| reason.clone()),
            error,
            return_value: learned.return_value.clone().or_else(posted),
            usage: learned.usage,
            model_failure: learned.model_failure.clone(),
            started_at,
            finished_at: UnixMs::now(),
        }
    }

    /// The last entry about the container is always one of ours, whatever it printed itself: whoever reads the log goes by
    /// it.
    fn log_end(&self, outcome: &Outcome) {
        let Some(code) = outcome.exit_code else {
            // What failed before there was a container is in the log already.
            if outcome.class != Class::LaunchFailure {
                let err = serde_json::json!({"type": "Error", "message": outcome.error});
                let msg = format!("{} container run failed", self.info.agent);
                self.log(Entry::new(Level::Error, msg).field("err", err));
            }
            return;
        };
        let elapsed = seconds(self.started.elapsed());
        let (level, msg) = match (outcome.class, outcome.result) {
            (Class::Killed, _) => (Level::Info, "container killed (abort requested)"),
            (_, RunResult::Completed) => (Level::Info, "container finished"),
            (_, RunResult::Rerun) => (Level::Info, "container finished (rerun requested)"),
            _ => (Level::Error, "container exited with error"),
        };
        let mut entry = Entry::new(level, msg).field("exitCode", code).field("elapsed", elapsed);
        let reason = match outcome.class {
            Class::Killed => self.kill.reason(),
            _ if (10..=16).contains(&code) => Some(exit::reason(code)),
            _ => None,
        };
        if let Some(reason) = reason {
            entry = entry.field("reason", cut(&reason, 200));
        }
        if outcome.class == Class::Oom {
            entry = entry.field("oomKilled", true);
        }
        self.log(entry);
    }

    /// Ends the run in the store: record, item, call, locks, registration.
    fn record(&self, outcome: &Outcome) {
        let (instance, outcome, policy) = (self.info.instance.clone(), outcome.clone(), self.host.retries);
        let now = UnixMs::now();
        match self.host.store.write(move |tx| runs::finish_run(tx, &instance, &outcome, &policy, now)) {
            Ok(Some(ended)) if ended.locks_released > 0 => {
                self.log(Entry::new(Level::Info, "locks released").field("count", ended.locks_released));
            }
            Ok(_) => {}
            Err(error) => self.warn("the run's record could not be written", &format!("{error:#}")),
        }
    }

    fn remove_container(&mut self) {
        let Some(marker) = self.marker.take() else { return };
        match inspect::remove(&self.host.docker, &self.info.container) {
            Ok(()) => {
                if let Err(error) = marker.take_away() {
                    self.warn("marker could not be removed", &format!("{error:#}"));
                }
            }
            // The marker stays, so the next run of the project tries again.
            Err(error) => self.warn("container could not be removed", &error.to_string()),
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

/// How far ending a container has come.
#[derive(Default)]
struct Stopping {
    wish_done: bool,
    term_sent: bool,
    kill_at: Option<Instant>,
    give_up_at: Option<Instant>,
}

/// Why following a container's output ended.
enum Followed {
    /// The client closed its pipes.
    ToItsEnd,
    NotStarted,
    /// It goes on although it was killed.
    GivenUp,
}

impl Stopping {
    /// When to look again.
    fn next(&self, deadline: Instant) -> Option<Instant> {
        let deadline = (!self.term_sent && self.give_up_at.is_none()).then_some(deadline);
        [deadline, self.kill_at, self.give_up_at].into_iter().flatten().min()
    }
}

/// Where an agent's log files are.
pub fn log_dir(project: &std::path::Path) -> PathBuf {
    project.join(".al/logs")
}
