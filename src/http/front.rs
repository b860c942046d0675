//! The front of one face: its own accept loop, limits and time-outs (the rules and why: `http` module comment).

use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::process::{Resource, getrlimit, setrlimit};

use super::body::Budget;
use super::client::{Client, Stop, elapsed, render, time_left};
use super::head::Head;
use super::pool::{Pool, Source};
use super::server::{Inner, Requests};
use super::table::{Entry as Place, Table};
use super::types::{Reply, Req};
use crate::base::log::{Entry, Level, Log};

/// Pause after an accept error that is not the client's, doubled each time.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Most connections of a face, however many descriptors there are.
const MOST_CONNECTIONS: usize = 256;
/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 1024;
/// A write to a client that takes nothing for this long fails.
const WRITE_TIME: Duration = Duration::from_secs(30);
/// What threads get that were told to end.
const LAST_MOMENT: Duration = Duration::from_millis(100);
/// The same complaint is logged at most this often.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(60);

/// What is served at one listener.
pub trait Face: Send + Sync + 'static {
    /// Whether this peer may talk to the face; the connections of others are closed without a word.
    fn accepts(&self, peer: IpAddr) -> bool;

    /// Most bytes that a request's body may have.
    ///
    /// # Errors
    /// The answer to a request that is refused before its body is read.
    fn admit(&self, head: &Head, peer: IpAddr) -> Result<usize, Reply>;

    /// Told of every refusal of a request whose head was read: what [`Face::admit`] answered, a body that is too large
    /// or does not come.
    fn refused(&self, _head: &Head, _peer: IpAddr, _reply: &Reply) {}

    /// Answers a request.
    ///
    /// # Errors
    /// Unexpected failures: logged and answered with 500, like panics.
    fn handle(&self, request: &Req) -> Result<Reply>;
}

/// What a front needs.
pub struct Options {
    pub listener: TcpListener,
    /// Where the inner server's sockets are made, in a directory that only we can enter. They get extensions; with
    /// those a path may have at most 107 bytes.
    pub socket: PathBuf,
    pub limits: Limits,
    pub log: Arc<Log>,
}

/// Numbers that tests make smaller.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections; `None`: as many as the descriptors of the process allow, at most 256.
    pub connections: Option<usize>,
    /// For the head of a request.
    pub head_time: Duration,
    /// For its body.
    pub body_time: Duration,
    /// For its answer.
    pub answer_time: Duration,
    /// Memory of all request bodies together.
    pub body_bytes: usize,
    /// How long a thread waits for its next connection or request before it ends.
    pub idle_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: None,
            head_time: Duration::from_secs(10),
            body_time: Duration::from_secs(30),
            // A long poll takes up to 60 s.
            answer_time: Duration::from_secs(70),
            body_bytes: 64 * 1024 * 1024,
            idle_time: Duration::from_secs(5),
        }
    }
}

/// A running front.
pub struct Front {
    shared: Arc<Shared>,
    address: SocketAddr,
    has_ended: bool,
}

struct Shared {
    listener: TcpListener,
    face: Arc<dyn Face>,
    limits: Limits,
    log: Arc<Log>,
    table: Arc<Table>,
    bodies: Arc<Budget>,
    inner: Arc<Inner>,
    connections: Arc<Pool>,
    requests: Arc<Pool>,
    stopping: AtomicBool,
    last_complaint: Mutex<Option<Instant>>,
}

impl Front {
    /// Starts serving a face.
    ///
    /// # Errors
    /// When the inner server's socket cannot be made or the system refuses threads.
    pub fn start(options: Options, face: Arc<dyn Face>) -> Result<Self> {
        let address = options.listener.local_addr().context("find the address of a listener")?;
        // Again, for a longer queue than it was bound with: a client whose connection finds it full tries again only
        // after a second.
        rustix::net::listen(&options.listener, BACKLOG).with_context(|| format!("listen on {address}"))?;
        let connections = options.limits.connections.unwrap_or_else(|| connection_limit(raise_descriptor_limit()));
        let inner = Inner::start(&options.socket, &options.log)?;
        let requests = Arc::new(Requests { inner: inner.clone(), face: face.clone(), log: options.log.clone() });
        let shared = Arc::new(Shared {
            listener: options.listener,
            face,
            bodies: Budget::new(options.limits.body_bytes),
            log: options.log,
            table: Table::new(connections),
            inner,
            connections: Pool::new("conn", options.limits.idle_time),
            requests: Pool::new("req", options.limits.idle_time),
            limits: options.limits,
            stopping: AtomicBool::new(false),
            last_complaint: Mutex::default(),
        });
        // Whatever of it was started is stopped again when something fails, by dropping it.
        let front = Self { shared, address, has_ended: false };
        front.shared.requests.start(&requests)?;
        front.shared.connections.start(&front.shared)?;
        Ok(front)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Refuses new connections from now on.
    pub fn close(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        // Makes a blocked `accept` return, too.
        let _ = rustix::net::shutdown(&self.shared.listener, rustix::net::Shutdown::Both);
    }

    /// Stops accepting, waits for requests that are being answered, and ends all threads. What did not end within
    /// `grace` is cut off and logged by name.
    pub fn stop(mut self, grace: Duration) {
        self.end(grace);
    }

    fn end(&mut self, grace: Duration) {
        self.has_ended = true;
        let until = Instant::now() + grace;
        self.close();
        let shared = &self.shared;
        shared.connections.leave(until.max(Instant::now() + LAST_MOMENT));
        shared.table.evict_sending();
        shared.table.drain(until);
        shared.inner.stop();
        // Those that were cut off above get a moment to see it.
        let until = until.max(Instant::now() + LAST_MOMENT);
        for name in [shared.connections.close(until), shared.requests.close(until)].concat() {
            shared.log.write(&Entry::new(Level::Warn, "thread did not end").field("thread", name));
        }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        if !self.has_ended {
            self.end(Duration::ZERO);
        }
    }
}

/// A client that has come.
struct Connection {
    place: Place,
    sock: Arc<TcpStream>,
    peer: IpAddr,
}

impl Source for Shared {
    type Job = Connection;

    /// Never ends except on shutdown.
    fn next(&self) -> Option<Connection> {
        let mut pause = SHORTEST_PAUSE;
        while !self.stopping.load(Ordering::Acquire) {
            match self.listener.accept() {
                Ok((sock, peer)) => {
                    pause = SHORTEST_PAUSE;
                    let peer = peer.ip().to_canonical();
                    let taken = if self.face.accepts(peer) { self.take(sock, peer) } else { None };
                    if taken.is_some() {
                        return taken;
                    }
                }
                Err(error) if is_the_clients(&error) => {}
                Err(_) if self.stopping.load(Ordering::Acquire) => {}
                Err(error) => {
                    self.complain("accept failed", &error);
                    // Out of descriptors or memory: nothing tells when there are some again.
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
        None
    }

    fn work(&self, connection: Connection) {
        self.serve_connection(&connection);
        // The client is gone before anything is done for the next one.
        drop(connection);
        self.inner.connect_ahead();
    }

    fn give_up(&self, connection: Connection, error: &anyhow::Error) {
        drop(connection);
        self.complain("connection not started", error);
    }
}

impl Shared {
    fn take(&self, sock: TcpStream, peer: IpAddr) -> Option<Connection> {
        let _ = sock.set_nodelay(true);
        let _ = sock.set_write_timeout(Some(WRITE_TIME));
        let sock = Arc::new(sock);
        let place = self.table.admit(&sock);
        if place.is_none() {
            refuse_busy(&sock);
        }
        Some(Connection { place: place?, sock, peer })
    }

    fn serve_connection(&self, connection: &Connection) {
        let Connection { place, sock, peer } = connection;
        let mut client = Client::new(sock);
        let mut share = self.bodies.share(sock);
        match client.receive(&*self.face, *peer, &self.limits, &mut share) {
            // The share stays taken until the request is answered.
            Ok((head, body)) if place.begin_serving() => self.pass_on(client, sock, head.into_request(body, *peer)),
            // A client that is refused can still be told to leave: refusals take a second to linger.
            Err(Stop::Refuse(reply)) => client.refuse(&reply),
            Ok(_) | Err(Stop::Gone) => {}
        }
    }

    fn pass_on(&self, client: Client<'_>, sock: &TcpStream, request: Req) {
        let mut inner = match self.inner.connect() {
            Ok(inner) => inner,
            Err(error) => {
                self.complain("inner server not reachable", &error);
                return client.refuse(&Reply::error(503, "server busy").with_header("Retry-After", "1"));
            }
        };
        let until = Instant::now() + self.limits.answer_time;
        let ticket = self.inner.leave(request);
        // A failure here shows as a missing answer below. The ticket is too short for the write to block.
        let _ = inner.write_all(&ticket.to_bytes());
        match relay(&inner, sock, until) {
            Ok(Relayed::Answer) => client.close(),
            Ok(Relayed::Nothing) => client.refuse(&Reply::internal_error()),
            Ok(Relayed::Late) => client.refuse(&Reply::error(504, "no answer in time")),
            // The client is gone, or the answer broke off.
            Err(_) => {}
        }
    }

    fn complain(&self, msg: &str, error: &dyn std::fmt::Display) {
        let mut last = self.last_complaint.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() >= COMPLAINT_PAUSE) {
            *last = Some(Instant::now());
            self.log.write(&Entry::new(Level::Error, msg).field("err", error.to_string()));
        }
    }
}

/// What became of an answer.
enum Relayed {
    Answer,
    /// The inner server closed without a word.
    Nothing,
    /// Nothing came until the deadline.
    Late,
}

/// Copies an answer as it comes, with `Connection: close` behind its status line.
fn relay(inner: &UnixStream, mut sock: &TcpStream, until: Instant) -> io::Result<Relayed> {
    let mut piece = [0; 16 * 1024];
    let mut start = Vec::new();
    loop {
        let count = match read_inner(inner, &mut piece, until) {
            Ok(0) => return Ok(Relayed::Nothing),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return Ok(Relayed::Late),
            Err(_) => return Ok(Relayed::Nothing),
        };
        start.extend_from_slice(&piece[..count]);
        if let Some(line) = start.windows(2).position(|pair| pair == b"\r\n") {
            start.splice(line..line, *b"\r\nConnection: close");
            break;
        }
    }
    sock.write_all(&start)?;
    loop {
        match read_inner(inner, &mut piece, until)? {
            0 => return Ok(Relayed::Answer),
            count => sock.write_all(&piece[..count])?,
        }
    }
}

fn read_inner(mut inner: &UnixStream, buffer: &mut [u8], until: Instant) -> io::Result<usize> {
    use std::io::Read as _;
    loop {
        inner.set_read_timeout(Some(time_left(until)?))?;
        match inner.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map_err(elapsed),
        }
    }
}

/// Says that everything is in use, with one write that cannot block.
fn refuse_busy(mut sock: &TcpStream) {
    let reply = Reply::error(503, "server busy").with_header("Retry-After", "1");
    if sock.set_nonblocking(true).is_ok() {
        let _ = sock.write(&render(&reply, false));
    }
}

/// Errors of `accept` that concern one connection only.
fn is_the_clients(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::INTR | Errno::CONNABORTED | Errno::PROTO))
}

/// Raises the soft limit of descriptors to the hard one; gives what it is then.
fn raise_descriptor_limit() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    let before = limit.current;
    limit.current = limit.maximum;
    let now = if setrlimit(Resource::Nofile, limit).is_ok() { limit.current } else { before };
    now.unwrap_or(u64::MAX)
}

/// Connections that a face may have: four descriptors each at most, and as many again for everything else.
fn connection_limit(descriptors: u64) -> usize {
    let possible = usize::try_from(descriptors.saturating_sub(64) / 8).unwrap_or(usize::MAX);
    possible.clamp(1, MOST_CONNECTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_follow_the_descriptors() {
        assert_eq!(connection_limit(u64::MAX), 256);
        assert_eq!(connection_limit(1024), 120);
        assert_eq!(connection_limit(200), 17);
        assert_eq!(connection_limit(10), 1);
    }
}
