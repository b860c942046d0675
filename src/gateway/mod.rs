//! The HTTP API: its faces and their routes.
//!
//! Containers reach the container face only: a listener of its own, with the routes that runs need and nothing else.
//! What a route acknowledges is committed to the store before; the scheduler is told afterwards.

mod call_budget;
mod container_face;
mod input;
mod request_log;
mod routes;
mod routing;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use crossbeam_channel::RecvTimeoutError;

use crate::base::clock::UnixMs;
use crate::base::log::{Entry, Level, Log};
use crate::base::subnet::Subnet;
use crate::base::{Cancel, Secret, error, worker};
use crate::http::{Front, Limits, Options, Reply};
use crate::scheduler::handle::Handle;
use crate::store::containers::{self, Registration};
use crate::store::{Store, Tx, calls, locks};

use call_budget::CallBudget;
use container_face::ContainerRoutes;
use request_log::RequestLog;

/// How often what is over is cleared away.
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// How long requests may take to end when a face stops.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Settings of the container face.
pub struct ContainerListener {
    /// Port 0: any free one.
    pub address: SocketAddr,
    /// Peers outside of it get their connection closed.
    pub peers: Subnet,
    /// Directory that only we can enter; a socket is made in it. Its path has at most 90 bytes.
    pub socket_dir: PathBuf,
    /// Life of a lock that names none.
    pub lock_timeout: Duration,
}

/// What the routes share.
pub struct Gateway {
    store: Arc<Store>,
    handle: Handle,
    log: Arc<Log>,
    request_log: RequestLog,
    lock_timeout: Duration,
    call_budget: CallBudget,
    /// Long polls that are waiting now.
    polls: AtomicUsize,
    stopping: AtomicBool,
}

/// The running container face.
pub struct ContainerFace {
    gateway: Arc<Gateway>,
    address: SocketAddr,
    front: Option<Front>,
    cancel: Cancel,
    sweeper: Option<JoinHandle<Result<()>>>,
}

impl Gateway {
    /// Starts serving containers. Runs registered in `store` are known to it, events go to `handle`.
    ///
    /// # Errors
    /// When the address cannot be bound (an [`std::io::Error`] is in the chain, its kind tells why) or the system
    /// refuses sockets or threads.
    pub fn start_container_face(
        listener: ContainerListener,
        store: Arc<Store>,
        handle: Handle,
        log: Arc<Log>,
    ) -> Result<ContainerFace> {
        let ContainerListener { address, peers, socket_dir, lock_timeout } = listener;
        let listener = TcpListener::bind(address).with_context(|| format!("listen for containers on {address}"))?;
        let gateway = Arc::new(Self {
            store,
            handle,
            request_log: RequestLog::new(log.clone()),
            log: log.clone(),
            lock_timeout,
            call_budget: CallBudget::default(),
            polls: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
        });
        let options =
            Options { listener, socket: socket_dir.join("gateway.sock"), limits: Limits::default(), log: log.clone() };
        let front = Front::start(options, Arc::new(ContainerRoutes { gateway: gateway.clone(), peers }))?;
        let address = front.address();
        // From here on, what was started is stopped again when something fails.
        let mut face = ContainerFace { gateway, address, front: Some(front), cancel: Cancel::new(), sweeper: None };
        let (sweeping, cancel) = (face.gateway.clone(), face.cancel.clone());
        face.sweeper = Some(worker::spawn("sweep", move || {
            while cancel.done().recv_timeout(SWEEP_EVERY) == Err(RecvTimeoutError::Timeout) {
                sweeping.sweep(UnixMs::now());
            }
        })?);
        log.write(&Entry::new(Level::Info, "listener started").field("port", address.port()));
        Ok(face)
    }

    /// Clears away what is over: expired locks, calls whose time is over, counters of ended runs.
    fn sweep(&self, now: UnixMs) {
        let snapshot = self.handle.snapshot();
        let live = self.store.write(move |tx| {
            let run_time = |agent: &str| {
                let agent = snapshot.agents.get(agent)?;
                Some(Duration::from_secs(agent.timeout_seconds))
            };
            locks::sweep(tx, now)?;
            calls::sweep(tx, run_time, now)?;
            containers::instances(tx)
        });
        match live {
            Ok(live) => self.call_budget.retain(&live),
            Err(error) => self.log_error("sweep failed", &error),
        }
        self.request_log.report(now);
    }

    /// Looks a secret up.
    ///
    /// # Errors
    /// The answer to give when it is unknown, or cannot be looked up.
    fn caller(&self, secret: &Secret) -> Result<Registration, Reply> {
        match self.store.read(|db| containers::by_secret(db, secret)) {
            Ok(caller) => caller.ok_or_else(invalid_secret),
            Err(error) => {
                self.log_error("look up secret", &error);
                Err(Reply::internal_error())
            }
        }
    }

    /// Makes a change for the run that a secret belongs to, in one transaction with the look-up: a run that has ended
    /// changes nothing.
    ///
    /// # Errors
    /// The answer to give when the secret is unknown, or `unavailable` when nothing can be committed.
    fn change<T: Send + 'static>(
        &self,
        secret: &Secret,
        unavailable: Reply,
        change: impl FnOnce(&Tx<'_>, &Registration) -> Result<T> + Send + 'static,
    ) -> Result<(Registration, T), Reply> {
        let secret = secret.clone();
        let changed = self.store.write(move |tx| {
            let Some(caller) = containers::by_secret(tx, &secret)? else { return Ok(None) };
            let value = change(tx, &caller)?;
            Ok(Some((caller, value)))
        });
        match changed {
            Ok(changed) => changed.ok_or_else(invalid_secret),
            Err(error) => {
                self.log_error("storage unavailable", &error);
                Err(unavailable.with_header("Retry-After", "60"))
            }
        }
    }

    fn log_error(&self, msg: &str, error: &anyhow::Error) {
        self.log.write(&Entry::new(Level::Error, msg).field("err", error::one_line(error)));
    }
}

fn invalid_secret() -> Reply {
    Reply::error(403, "invalid secret")
}

impl ContainerFace {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops: no new requests, long polls are answered at once, others get five seconds.
    pub fn stop(mut self) {
        self.end(STOP_GRACE);
    }

    fn end(&mut self, grace: Duration) {
        self.gateway.stopping.store(true, Ordering::Release);
        self.gateway.store.wake_call_waiters();
        if let Some(front) = self.front.take() {
            front.stop(grace);
        }
        self.cancel.cancel();
        if let Some(Err(error)) = self.sweeper.take().map(worker::join) {
            self.gateway.log_error("sweep failed", &error);
        }
        self.gateway.request_log.flush();
    }
}

impl Drop for ContainerFace {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}
