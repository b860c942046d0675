//! The server behind the front: `tiny_http` on a Unix socket that only we can reach.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use tiny_http::{Header, Request, Response, Server};

use super::front::Face;
use super::head::PEER_HEADER;
use super::pool::Pool;
use super::types::{Headers, Method, Query, Reply, Req};
use crate::base::log::{Entry, Level, Log};
use crate::base::{error, worker};

/// How long a connection waits for a server that is being made again, and the pause between tries to make it.
const REBUILD: Duration = Duration::from_secs(1);

/// The inner server of one face. It is made again when it fails.
pub(super) struct Inner {
    path: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Counts the servers made.
    generation: u64,
    current: Option<Current>,
    stopping: bool,
}

struct Current {
    server: Arc<Server>,
    /// Second handle of its listener. Shutting it down ends the accept loop whatever state it is in.
    listener: UnixListener,
}

impl Inner {
    pub(super) fn new(path: &Path) -> Arc<Self> {
        Arc::new(Self { path: path.to_owned(), state: Mutex::default(), changed: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new connection to the server. A server that does not answer any more is made again once.
    pub(super) fn connect(&self) -> io::Result<UnixStream> {
        let generation = self.lock().generation;
        let dead =
            |error: &io::Error| matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound);
        match UnixStream::connect(&self.path) {
            Err(error) if dead(&error) => {
                self.wait_for_rebuild(generation);
                UnixStream::connect(&self.path)
            }
            other => other,
        }
    }

    fn wait_for_rebuild(&self, generation: u64) {
        let until = Instant::now() + REBUILD;
        let mut state = self.lock();
        if state.generation == generation {
            state.stop_current();
        }
        while state.generation == generation && !state.stopping {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Makes the server, or makes it again.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub(super) fn bind(&self) -> Result<Option<Arc<Server>>> {
        let mut state = self.lock();
        // The old server removes the socket's file when it goes, so it has to go first.
        state.current = None;
        if state.stopping {
            return Ok(None);
        }
        let place = || format!("bind {}", self.path.display());
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).with_context(place),
            _ => {}
        }
        let listener = UnixListener::bind(&self.path).with_context(place)?;
        let second = listener.try_clone().with_context(place)?;
        let server = Server::from_listener(listener, None).map_err(|error| anyhow!("{error}")).with_context(place)?;
        let server = Arc::new(server);
        state.current = Some(Current { server: server.clone(), listener: second });
        state.generation += 1;
        self.changed.notify_all();
        Ok(Some(server))
    }

    /// Ends the server; [`serve`] then returns.
    pub(super) fn stop(&self) {
        let mut state = self.lock();
        state.stopping = true;
        state.stop_current();
        self.changed.notify_all();
    }
}

impl State {
    fn stop_current(&self) {
        if let Some(current) = &self.current {
            let _ = rustix::net::shutdown(&current.listener, rustix::net::Shutdown::Both);
            current.server.unblock();
        }
    }
}

/// Hands requests to threads until the server is stopped. `first` is the server made at the start.
pub(super) fn serve(inner: &Inner, first: Arc<Server>, face: &Arc<dyn Face>, requests: &Pool, log: &Arc<Log>) {
    let mut server = first;
    loop {
        while let Ok(request) = server.recv() {
            let (face, its_log) = (face.clone(), log.clone());
            let started = requests.run(move || answer(request, &*face, &its_log));
            if let Err(error) = started {
                log.write(&Entry::new(Level::Error, "request not started").field("err", error::one_line(&error)));
            }
        }
        drop(server);
        server = loop {
            match inner.bind() {
                Ok(Some(server)) => break server,
                Ok(None) => return,
                Err(error) => {
                    log.write(&Entry::new(Level::Error, "inner server failed").field("err", error::one_line(&error)));
                    // Not a wait for a condition: there is nothing to be told of.
                    std::thread::sleep(REBUILD);
                }
            }
        };
        log.write(&Entry::new(Level::Warn, "inner server made again"));
    }
}

fn answer(mut request: Request, face: &dyn Face, log: &Log) {
    let read = read_request(&mut request);
    let reply = read.and_then(|request| worker::guarded(|| face.handle(&request)).and_then(|reply| reply));
    let reply = reply.unwrap_or_else(|error| {
        log.write(&Entry::new(Level::Error, "request failed").field("err", error::one_line(&error)));
        Reply::internal_error()
    });
    let fields = reply.headers.iter().filter_map(|(name, value)| Header::from_bytes(*name, value.as_bytes()).ok());
    let length = reply.body.len();
    let response =
        Response::new(reply.status.into(), fields.collect(), io::Cursor::new(reply.body), Some(length), None);
    // Never chunked: the client may speak HTTP/1.0. It may also be gone, which is nobody's fault.
    let _ = request.respond(response.with_chunked_threshold(usize::MAX));
}

/// Whether a field was put there by the front, for the way to here.
fn is_ours(name: &str) -> bool {
    [PEER_HEADER, "Connection"].iter().any(|ours| name.eq_ignore_ascii_case(ours))
}

fn read_request(request: &mut Request) -> Result<Req> {
    let mut body = Vec::with_capacity(request.body_length().unwrap_or(0));
    request.as_reader().read_to_end(&mut body).context("read request from the front")?;
    let fields = request.headers().iter().map(|field| (field.field.to_string(), field.value.to_string()));
    let mut headers = Headers(fields.collect());
    let peer = headers.get(PEER_HEADER).and_then(|peer| peer.parse().ok()).context("request without peer")?;
    headers.0.retain(|(name, _)| !is_ours(name));
    let (path, query) = request.url().split_once('?').unwrap_or((request.url(), ""));
    Ok(Req {
        method: Method::from_token(request.method().as_str()),
        path: path.to_owned(),
        query: Query::parse(query),
        headers,
        body,
        peer,
    })
}
