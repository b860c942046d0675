//! The server behind the front: `tiny_http` on a Unix socket that only we can reach.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use tiny_http::{Header, Request, Response, Server};

use super::front::Face;
use super::pool::Source;
use super::tickets::{Ticket, Tickets};
use super::types::{Reply, Req};
use crate::base::log::{Entry, Level, Log};
use crate::base::{error, worker};

/// How long a connection waits for a server that is being made again, and the pause between tries to make it.
const REBUILD: Duration = Duration::from_secs(1);

/// The inner server of one face. It is made again when it fails.
pub(super) struct Inner {
    /// Each server has its own extension: an old one removes its file when the last thread has left it.
    path: PathBuf,
    log: Arc<Log>,
    /// The requests that it is asked to answer.
    tickets: Arc<Tickets>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Counts the servers made.
    generation: u64,
    current: Option<Current>,
    /// Connection for the next request.
    ahead: Option<UnixStream>,
    stopping: bool,
}

struct Current {
    server: Arc<Server>,
    /// Second handle of its listener. Shutting it down ends the accept loop whatever state it is in.
    listener: UnixListener,
}

impl Inner {
    /// Makes the first server.
    ///
    /// # Errors
    /// When its socket cannot be made.
    pub(super) fn start(path: &Path, log: &Arc<Log>) -> Result<Arc<Self>> {
        let (tickets, state) = (Arc::default(), Mutex::default());
        let inner = Self { path: path.to_owned(), log: log.clone(), tickets, state, changed: Condvar::new() };
        inner.bind(&mut inner.lock())?;
        inner.connect_ahead();
        Ok(Arc::new(inner))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn socket(&self, generation: u64) -> PathBuf {
        self.path.with_extension(generation.to_string())
    }

    /// Keeps a request for the server, which finds it by what it is sent.
    pub(super) fn leave(&self, request: Req) -> Ticket {
        self.tickets.leave(request)
    }

    /// A connection to the server for one request.
    pub(super) fn connect(&self) -> io::Result<UnixStream> {
        let ahead = self.lock().ahead.take();
        ahead.map_or_else(|| self.connect_now().map(|(connection, _)| connection), Ok)
    }

    /// Connects for the next request, which then finds a thread of the server waiting for it. One connection and not
    /// more: the server has four threads at least, so those that wait in vain never take the last one.
    pub(super) fn connect_ahead(&self) {
        if self.lock().ahead.is_some() {
            return;
        }
        // A failure shows again when there is a request.
        let Ok((connection, generation)) = self.connect_now() else { return };
        let mut state = self.lock();
        if state.generation == generation && !state.stopping {
            state.ahead.get_or_insert(connection);
        }
    }

    /// A new connection, and of which server. One that does not answer any more is made again once.
    fn connect_now(&self) -> io::Result<(UnixStream, u64)> {
        let generation = self.lock().generation;
        let dead =
            |error: &io::Error| matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound);
        match UnixStream::connect(self.socket(generation)) {
            Err(error) if dead(&error) => {
                let generation = self.wait_for_rebuild(generation);
                Ok((UnixStream::connect(self.socket(generation))?, generation))
            }
            other => Ok((other?, generation)),
        }
    }

    fn wait_for_rebuild(&self, generation: u64) -> u64 {
        let until = Instant::now() + REBUILD;
        let mut state = self.lock();
        if state.generation == generation {
            state.stop_current();
        }
        while state.generation == generation && !state.stopping {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.generation
    }

    fn bind(&self, state: &mut State) -> Result<()> {
        let path = self.socket(state.generation + 1);
        let place = || format!("bind {}", path.display());
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).with_context(place),
            _ => {}
        }
        let listener = UnixListener::bind(&path).with_context(place)?;
        let second = listener.try_clone().with_context(place)?;
        // Its threads are called like the one that makes it.
        let make = worker::spawn("serve", move || Server::from_listener(listener, None))?;
        let server = worker::join(make)?.map_err(|error| anyhow!("{error}")).with_context(place)?;
        state.current = Some(Current { server: Arc::new(server), listener: second });
        state.generation += 1;
        self.changed.notify_all();
        Ok(())
    }

    /// The server to wait at, and its number. `None` when it was stopped.
    fn server(&self) -> Option<(Arc<Server>, u64)> {
        let mut state = self.lock();
        while !state.stopping {
            if let Some(current) = &state.current {
                return Some((current.server.clone(), state.generation));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        None
    }

    /// Makes the server again, unless somebody did already.
    fn make_again(&self, generation: u64) {
        loop {
            let made = {
                let mut state = self.lock();
                if state.stopping || state.generation != generation {
                    return;
                }
                (state.current, state.ahead) = (None, None);
                self.bind(&mut state)
            };
            let Err(error) = made else { break };
            self.log.write(&Entry::new(Level::Error, "inner server failed").field("err", error::one_line(&error)));
            // Not a wait for a condition: there is nothing to be told of.
            std::thread::sleep(REBUILD);
        }
        self.log.write(&Entry::new(Level::Warn, "inner server made again"));
    }

    /// Ends the server: there are no more requests.
    pub(super) fn stop(&self) {
        let mut state = self.lock();
        state.stopping = true;
        state.stop_current();
        (state.current, state.ahead) = (None, None);
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

/// The requests that the inner server received.
pub(super) struct Requests {
    pub(super) inner: Arc<Inner>,
    pub(super) face: Arc<dyn Face>,
    pub(super) log: Arc<Log>,
}

impl Source for Requests {
    type Job = Request;

    fn next(&self) -> Option<Request> {
        loop {
            let (server, generation) = self.inner.server()?;
            if let Ok(request) = server.recv() {
                return Some(request);
            }
            // It failed or is to end, and says so to one thread only: the next one is told by this one.
            server.unblock();
            drop(server);
            self.inner.make_again(generation);
        }
    }

    fn work(&self, request: Request) {
        answer(request, &self.inner.tickets, &*self.face, &self.log);
    }

    fn give_up(&self, request: Request, error: &anyhow::Error) {
        // Dropping it is an answer, too: 500.
        drop(request);
        self.log.write(&Entry::new(Level::Error, "request not started").field("err", error::one_line(error)));
    }
}

fn answer(request: Request, tickets: &Tickets, face: &dyn Face, log: &Log) {
    // When it is not there, whoever left it does not wait any more. Dropping the request is an answer, too: 500.
    let Some(asked) = tickets.take(request.url()) else { return };
    let reply = worker::guarded(|| face.handle(&asked)).and_then(|reply| reply).unwrap_or_else(|error| {
        log.write(&Entry::new(Level::Error, "request failed").field("err", error::one_line(&error)));
        Reply::internal_error()
    });
    drop(asked);
    let fields = reply.headers.iter().filter_map(|(name, value)| Header::from_bytes(*name, value.as_bytes()).ok());
    let length = reply.body.len();
    let response =
        Response::new(reply.status.into(), fields.collect(), io::Cursor::new(reply.body), Some(length), None);
    // Never chunked: the client may speak HTTP/1.0. It may also be gone, which is nobody's fault.
    let _ = request.respond(response.with_chunked_threshold(usize::MAX));
}
