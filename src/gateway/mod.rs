//! The HTTP API: its faces and their routes.
//!
//! Containers reach the container face only: a listener of its own, with the routes that runs need and nothing else. The
//! public face has the rest: webhooks, control, logs. What a route acknowledges is committed to the store before; the
//! scheduler is told afterwards.

mod api_key;
mod auth;
mod call_budget;
mod client_address;
mod container_face;
mod form;
mod input;
mod pages;
mod public;
mod public_face;
mod rate_limit;
mod request_log;
mod routes;
mod routing;
mod shared;

pub use routes::items::render as item_json;
pub use routes::stats::{run_json, sums_json};
use std::io;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use crossbeam_channel::RecvTimeoutError;

use crate::base::clock::UnixMs;
use crate::base::log::{Entry, Level, Log};
use crate::base::subnet::{AddressRange, Subnet};
use crate::base::{Cancel, Secret, worker};
use crate::credentials;
use crate::http::{Face, Front, Limits, Options};
use crate::scheduler::handle::Handle;
use crate::store::Store;

use container_face::ContainerRoutes;
use public::Public;
use public_face::{CombinedRoutes, PublicRoutes};
use shared::Shared;

/// How often what is over is cleared away.
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// How long requests may take to end when a face stops.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// What the gateway is made of.
pub struct Parts {
    /// Runs registered in it are known to the gateway.
    pub store: Arc<Store>,
    /// Events go there.
    pub handle: Handle,
    pub log: Arc<Log>,
    /// Directory that only we can enter; sockets are made in it. Its path has at most 90 bytes.
    pub socket_dir: PathBuf,
    /// Life of a lock that names none.
    pub lock_timeout: Duration,
}

/// Settings of the container face.
pub struct ContainerListener {
    /// Made with [`bind`].
    pub listener: TcpListener,
    /// Peers outside of it get their connection closed.
    pub peers: Subnet,
}

/// Settings of the public face.
pub struct PublicListener {
    /// Made with [`bind`].
    pub listener: TcpListener,
    pub containers: Containers,
    pub settings: PublicSettings,
}

/// What the routes of the public face have to know.
pub struct PublicSettings {
    /// API key and secrets of webhooks are read from there again when they change.
    pub credentials: credentials::Store,
    /// The API key ([`credentials::api_key::ensure_key`]).
    pub api_key: Secret,
    /// Directory of the log files that are shown.
    pub log_dir: PathBuf,
    /// Log of the scheduler: what is done to work by request is said there, too.
    pub scheduler_log: Arc<Log>,
    /// Proxies whose forwarding headers are believed.
    pub trusted_proxies: Vec<AddressRange>,
    /// Webhooks per minute and client; 0: no limit.
    pub webhook_rate_limit: usize,
}

/// How containers reach the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Containers {
    /// By a face of their own.
    OwnFace,
    /// By the public face, through loopback: the address of the bridge is not one of this host.
    Loopback,
}

/// The gateway of this process. Faces are started one by one, and end with it.
pub struct Gateway {
    shared: Arc<Shared>,
    socket_dir: PathBuf,
    faces: Mutex<Faces>,
    cancel: Cancel,
    sweeper: Option<JoinHandle<Result<()>>>,
}

#[derive(Default)]
struct Faces {
    /// Counts those that were started, for the names of their sockets.
    started: u64,
    containers: Option<Served>,
    public: Option<Served>,
}

/// A face that is being served.
struct Served {
    front: Front,
    stopping: Arc<AtomicBool>,
}

/// Takes an address, port 0 being any free one. Clients can connect at once, and wait until the listener is served.
///
/// # Errors
/// When the address cannot be bound: an [`io::Error`] is in the chain, its kind tells why.
pub fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).with_context(|| format!("listen on {address}"))
}

/// Whether [`bind`] failed because the address is not one of this host, as that of a bridge inside a virtual machine.
pub fn is_not_of_this_host(error: &anyhow::Error) -> bool {
    let kinds = error.chain().filter_map(|cause| Some(cause.downcast_ref::<io::Error>()?.kind()));
    kinds.into_iter().any(|kind| kind == io::ErrorKind::AddrNotAvailable)
}

impl Gateway {
    /// A gateway without faces.
    ///
    /// # Errors
    /// When the system refuses threads.
    pub fn start(parts: Parts) -> Result<Self> {
        let Parts { store, handle, log, socket_dir, lock_timeout } = parts;
        let shared = Arc::new(Shared::new(store, handle, log, lock_timeout));
        let (sweeping, cancel) = (shared.clone(), Cancel::new());
        let done = cancel.clone();
        let sweeper = worker::spawn("sweep", move || {
            while done.done().recv_timeout(SWEEP_EVERY) == Err(RecvTimeoutError::Timeout) {
                sweeping.sweep(UnixMs::now());
            }
        })?;
        Ok(Self { shared, socket_dir, faces: Mutex::default(), cancel, sweeper: Some(sweeper) })
    }

    /// Serves containers; gives the address. A container face that was served before is ended afterwards, as
    /// [`Gateway::stop`] does.
    ///
    /// # Errors
    /// When the system refuses sockets or threads; what was served before still is.
    pub fn start_container_face(&self, listener: ContainerListener) -> Result<SocketAddr> {
        let ContainerListener { listener, peers } = listener;
        let shared = self.shared.clone();
        let served = self.serve(listener, |stopping| ContainerRoutes { shared, peers, stopping })?;
        let address = served.front.address();
        let before = self.lock().containers.replace(served);
        before.into_iter().for_each(|served| self.end([Some(served)], STOP_GRACE));
        Ok(address)
    }

    /// Serves everybody else; gives the address. Bindings and secrets of webhooks have to be known before.
    ///
    /// # Errors
    /// When the system refuses sockets or threads.
    pub fn start_public_face(&self, listener: PublicListener) -> Result<SocketAddr> {
        let PublicListener { listener, containers, settings } = listener;
        let public = Public::new(self.shared.clone(), settings);
        let served = match containers {
            Containers::OwnFace => self.serve(listener, |stopping| PublicRoutes { public, stopping })?,
            Containers::Loopback => {
                self.shared.log.write(&Entry::new(Level::Info, "containers are served by the public listener"));
                let (shared, peers) = (self.shared.clone(), Subnet::LOOPBACK);
                self.serve(listener, |stopping| CombinedRoutes {
                    containers: ContainerRoutes { shared, peers, stopping: stopping.clone() },
                    public: PublicRoutes { public, stopping },
                })?
            }
        };
        let address = served.front.address();
        let before = self.lock().public.replace(served);
        before.into_iter().for_each(|served| self.end([Some(served)], STOP_GRACE));
        Ok(address)
    }

    fn serve<F: Face>(&self, listener: TcpListener, face: impl FnOnce(Arc<AtomicBool>) -> F) -> Result<Served> {
        let number = {
            let mut faces = self.lock();
            faces.started += 1;
            faces.started
        };
        let log = self.shared.log.clone();
        let socket = self.socket_dir.join(format!("face-{number}.sock"));
        let stopping = Arc::<AtomicBool>::default();
        let options = Options { listener, socket, limits: Limits::default(), log: log.clone() };
        let front = Front::start(options, Arc::new(face(stopping.clone())))?;
        log.write(&Entry::new(Level::Info, "listener started").field("port", front.address().port()));
        Ok(Served { front, stopping })
    }

    /// Stops: no new requests, long polls are answered at once, others get five seconds.
    pub fn stop(mut self) {
        self.end_all(STOP_GRACE);
    }

    fn end_all(&mut self, grace: Duration) {
        self.shared.closing.store(true, Ordering::Release);
        let Faces { public, containers, .. } = std::mem::take(&mut *self.lock());
        self.end([public, containers], grace);
        self.cancel.cancel();
        if let Some(Err(error)) = self.sweeper.take().map(worker::join) {
            self.shared.log_error("sweep failed", &error);
        }
        self.shared.request_log.flush();
    }

    /// Ends faces together: all of them refuse new connections before the first one is waited for.
    fn end<const N: usize>(&self, faces: [Option<Served>; N], grace: Duration) {
        let until = Instant::now() + grace;
        for served in faces.iter().flatten() {
            served.stopping.store(true, Ordering::Release);
            served.front.close();
        }
        self.shared.store.wake_call_waiters();
        for served in faces.into_iter().flatten() {
            served.front.stop(until.saturating_duration_since(Instant::now()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Faces> {
        self.faces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.end_all(Duration::ZERO);
    }
}
