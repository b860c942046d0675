//! Requests from several clients at once, one connection each, and how long they took.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What came of many requests.
pub(crate) struct Measured {
    /// How long each took, from before its connection to the end of its answer; sorted.
    pub(crate) times: Vec<Duration>,
    /// Requests without answer, or with another status than 200.
    pub(crate) failed: usize,
    took: Duration,
}

impl Measured {
    /// From single measurements.
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self { took: times.iter().sum(), times, failed: 0 }
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.times.len() as f64 / self.took.as_secs_f64()
    }

    /// The time that so many percent of the requests did not exceed.
    pub(crate) fn percentile(&self, percent: f64) -> Duration {
        let last = self.times.len().saturating_sub(1);
        let place = (self.times.len() as f64 * percent / 100.0).ceil() as usize;
        self.times.get(place.saturating_sub(1).min(last)).copied().unwrap_or_default()
    }
}

/// Sends so many requests by so many clients at once, each as soon as its last one was answered. `request` gives the
/// bytes of one by its number.
pub(crate) fn drive(port: u16, clients: usize, count: usize, request: impl Fn(usize) -> Vec<u8> + Sync) -> Measured {
    let next = AtomicUsize::new(0);
    let failed = AtomicUsize::new(0);
    let all = Mutex::new(Vec::with_capacity(count));
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let mut times = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        break;
                    }
                    let bytes = request(number);
                    let begin = Instant::now();
                    match exchange(port, &bytes) {
                        Ok(answer) if answer.starts_with(b"HTTP/1.1 200") => times.push(begin.elapsed()),
                        _ => _ = failed.fetch_add(1, Ordering::Relaxed),
                    }
                }
                all.lock().expect("nobody panics").append(&mut times);
            });
        }
    });
    let took = start.elapsed();
    let mut times = all.into_inner().expect("nobody panics");
    times.sort_unstable();
    Measured { times, failed: failed.into_inner(), took }
}

/// One request on a connection of its own; gives all bytes of the answer.
///
/// # Errors
/// When there is no whole answer.
pub(crate) fn exchange(port: u16, request: &[u8]) -> io::Result<Vec<u8>> {
    let mut sock = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    sock.set_read_timeout(Some(PATIENCE))?;
    sock.set_nodelay(true)?;
    sock.write_all(request)?;
    let mut answer = Vec::with_capacity(512);
    let mut piece = [0; 4096];
    loop {
        match sock.read(&mut piece)? {
            0 => return Ok(answer),
            count => answer.extend_from_slice(&piece[..count]),
        }
        if is_whole(&answer) {
            return Ok(answer);
        }
    }
}

/// Whether the head and as many bytes as it announces are there: a server that keeps connections does not close.
fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
    length.and_then(|length| length.trim().parse::<usize>().ok()).is_some_and(|length| body.len() >= length)
}

/// A request as bytes.
pub(crate) fn request(method: &str, target: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}Content-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}
