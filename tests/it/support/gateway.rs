//! A gateway with both faces, and a scheduler that does as the test says and remembers what it was told.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use action_llama::base::clock::UnixMs;
use action_llama::base::log::Log;
use action_llama::base::subnet::{AddressRange, Subnet};
use action_llama::config::webhook::{Filter, Provider, Source, Trigger};
use action_llama::credentials;
use action_llama::credentials::api_key::ensure_key;
use action_llama::gateway::{ContainerListener, Containers, Gateway, Parts, PublicListener, PublicSettings, bind};
use action_llama::model::names::AgentName;
use action_llama::model::status::{AgentStatus, SchedulerInfo};
use action_llama::scheduler::handle::{Control, Done, Event, Handle, Refusal, Snapshot};
use action_llama::store::Store;
use action_llama::webhooks::Bindings;
use crossbeam_channel::{Receiver, unbounded};
use serde_json::Value;

use super::http::{Answer, request};

/// What a test may want to be otherwise.
pub(crate) struct Setup {
    pub(crate) webhook_rate_limit: usize,
    pub(crate) trusted_proxies: Vec<&'static str>,
    /// Where the public face listens.
    pub(crate) address: Ipv4Addr,
    pub(crate) containers: Containers,
    /// Peers of the container face.
    pub(crate) peers: Subnet,
    /// Secrets of webhooks: (type, instance, value).
    pub(crate) secrets: Vec<(&'static str, &'static str, String)>,
    pub(crate) sources: Vec<Source>,
    /// (agent, source, filter)
    pub(crate) triggers: Vec<(&'static str, &'static str, Filter)>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            webhook_rate_limit: 120,
            trusted_proxies: vec!["127.0.0.1/32", "::1/128"],
            address: Ipv4Addr::LOCALHOST,
            containers: Containers::OwnFace,
            peers: Subnet::LOOPBACK,
            secrets: Vec::new(),
            sources: Vec::new(),
            triggers: Vec::new(),
        }
    }
}

/// A webhook source that names no credential.
pub(crate) fn source(name: &str, provider: &str) -> Source {
    let provider = Provider::find(provider).unwrap();
    Source { name: name.to_owned(), provider, credential: None, allow_unsigned: None }
}

/// A running gateway. The agents are `dev` (2 slots), `reviewer`, `resting` (paused) and `off` (no slots).
pub(crate) struct Bed {
    pub(crate) public: SocketAddr,
    pub(crate) containers: SocketAddr,
    pub(crate) store: Arc<Store>,
    pub(crate) handle: Handle,
    pub(crate) credentials: credentials::Store,
    pub(crate) key: String,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) gateway: Option<Gateway>,
    seen: Arc<Mutex<Seen>>,
    scheduler: Option<JoinHandle<()>>,
}

/// What the scheduler was told, and what it answers.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) wishes: Vec<Control>,
    /// Answers to the next wishes; after them everything is done.
    pub(crate) answers: VecDeque<Result<Done, Refusal>>,
    pub(crate) notes: Vec<String>,
    pub(crate) queue_changes: usize,
    /// How often it was to check the receipts.
    pub(crate) receipt_checks: usize,
}

impl Bed {
    pub(crate) fn new() -> Self {
        Self::with(Setup::default())
    }

    pub(crate) fn with(setup: Setup) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let credentials = credentials::Store::at(dir.path().join("home/credentials"));
        for (kind, instance, value) in &setup.secrets {
            let path = credentials.root().join(kind).join(instance);
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join("secret"), value).unwrap();
        }
        let (api_key, _) = ensure_key(&credentials).unwrap();
        let key = api_key.expose().to_owned();
        let store = Arc::new(Store::open(&dir.path().join(".al")).unwrap().store);
        let (sender, events) = unbounded();
        let handle = Handle::new(sender);
        handle.publish(snapshot());
        handle.set_bindings(bindings(&setup));
        let seen = Arc::<Mutex<Seen>>::default();
        let scheduler = play_scheduler(events, seen.clone());
        let gateway = Gateway::start(Parts {
            store: store.clone(),
            handle: handle.clone(),
            log: Arc::new(Log::new(&dir.path().join("logs"), "gateway")),
            socket_dir: dir.path().to_owned(),
            lock_timeout: Duration::from_secs(1800),
        })
        .unwrap();
        let any_port = |address: Ipv4Addr| bind((address, 0).into()).unwrap();
        let settings = PublicSettings {
            credentials: credentials.clone(),
            api_key,
            log_dir: dir.path().join("logs"),
            scheduler_log: Arc::new(Log::new(&dir.path().join("logs"), "scheduler")),
            trusted_proxies: setup.trusted_proxies.iter().map(|range| AddressRange::parse(range).unwrap()).collect(),
            webhook_rate_limit: setup.webhook_rate_limit,
        };
        let listener = PublicListener { listener: any_port(setup.address), containers: setup.containers, settings };
        let public = gateway.start_public_face(listener).unwrap();
        let public = SocketAddr::from((Ipv4Addr::LOCALHOST, public.port()));
        let containers = match setup.containers {
            Containers::Loopback => public,
            Containers::OwnFace => {
                let listener = ContainerListener { listener: any_port(Ipv4Addr::LOCALHOST), peers: setup.peers };
                gateway.start_container_face(listener).unwrap()
            }
        };
        let gateway = Some(gateway);
        Self { public, containers, store, handle, credentials, key, dir, gateway, seen, scheduler }
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    /// The header line that shows the API key.
    pub(crate) fn bearer(&self) -> String {
        format!("Authorization: Bearer {}\r\n", self.key)
    }

    /// A request with the API key.
    #[track_caller]
    pub(crate) fn get(&self, target: &str) -> Answer {
        request(self.public, "GET", target, &self.bearer(), "")
    }

    /// A request with the API key.
    #[track_caller]
    pub(crate) fn post(&self, target: &str, body: &str) -> Answer {
        request(self.public, "POST", target, &self.bearer(), body)
    }

    /// What the gateway has logged.
    pub(crate) fn log(&self) -> String {
        let files = std::fs::read_dir(self.dir.path().join("logs")).into_iter().flatten();
        files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect()
    }

    /// The entries of the gateway's log with this message.
    pub(crate) fn logged(&self, msg: &str) -> Vec<Value> {
        let log = self.log();
        let entries = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        entries.filter(|entry| entry["msg"] == msg).collect()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        drop(self.gateway.take());
        self.handle.send(Event::Stop { signal: 15 });
        if let Some(thread) = self.scheduler.take() {
            let _ = thread.join();
        }
    }
}

fn snapshot() -> Snapshot {
    let agent = |name: &str, scale| AgentStatus::idle(name, scale, 900);
    let resting = AgentStatus { paused: true, enabled: false, ..agent("resting", 1) };
    let agents = [agent("dev", 2), agent("reviewer", 1), resting, agent("off", 0)];
    let agents: BTreeMap<_, _> = agents.map(|agent| (agent.name.clone(), Arc::new(agent))).into();
    let scheduler = SchedulerInfo::new(Some("acme".into()), UnixMs(1_767_322_800_000));
    Snapshot { scheduler: Some(Arc::new(scheduler)), agents, max_call_depth: 3, ..Snapshot::default() }
}

/// The triggers of the setup, resolved.
pub(crate) fn bindings(setup: &Setup) -> Bindings {
    let mut agents: Vec<(AgentName, Vec<Trigger>)> = Vec::new();
    for (agent, source, filter) in &setup.triggers {
        let provider = setup.sources.iter().find(|known| known.name == *source).unwrap().provider;
        let trigger = Trigger { source: (*source).to_owned(), provider, filter: filter.clone() };
        match agents.iter_mut().find(|(name, _)| name.as_str() == *agent) {
            Some((_, triggers)) => triggers.push(trigger),
            None => agents.push((AgentName::parse(agent).unwrap(), vec![trigger])),
        }
    }
    Bindings::new(&setup.sources, agents.iter().map(|(agent, triggers)| (agent, triggers.as_slice())))
}

fn play_scheduler(events: Receiver<Event>, seen: Arc<Mutex<Seen>>) -> Option<JoinHandle<()>> {
    Some(std::thread::spawn(move || {
        for event in events {
            let mut seen = seen.lock().unwrap();
            match event {
                Event::Control { control, reply } => {
                    seen.wishes.push(control);
                    let answer = seen.answers.pop_front().unwrap_or(Ok(Done::Yes));
                    drop(reply.send(answer));
                }
                Event::Note { agent, message } => seen.notes.push(format!("{agent} | {message}")),
                Event::QueueChanged => seen.queue_changes += 1,
                Event::ReceiptsDue => seen.receipt_checks += 1,
                Event::Stop { .. } => return,
                _ => {}
            }
        }
    }))
}
