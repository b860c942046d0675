//! HTTP/1.1 to the gateway over `std::net` (containers.md §14.1).
//!
//! One plain request per connection, every step under a deadline. No proxy (the variables are never looked at), no
//! redirects, no TLS: the gateway is one hop away on the network of the containers. An answer is hostile input until it
//! is read: its size and shape are bounded in [`answer`].

mod address;
mod answer;

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use self::answer::Broken;
pub use self::answer::{Answer, BODY_LIMIT};
use crate::env::Environment;
use crate::text::cut;

/// First pause between two attempts to connect; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// The gateway as a container sees it.
#[derive(Clone, Debug)]
pub struct Gateway {
    url: String,
}

/// How long a request may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Finding the address and connecting, all attempts together.
    pub connect: Duration,
    /// The whole request, connecting included.
    pub total: Duration,
    pub connecting: Connecting,
}

/// What happens when the gateway does not accept a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connecting {
    /// The request has failed.
    Once,
    /// It is tried again until the time for connecting is over: the gateway may be restarting.
    Repeated,
}

impl Limits {
    /// 5 s to connect, 10 s in all, one attempt.
    pub const STANDARD: Self =
        Self { connect: Duration::from_secs(5), total: Duration::from_secs(10), connecting: Connecting::Once };
    /// The same with repeated attempts to connect.
    pub const PATIENT: Self = Self { connecting: Connecting::Repeated, ..Self::STANDARD };
}

/// Why there is no answer. The texts name host and port, never the path, which may contain the secret of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The URL cannot be used.
    Url(String),
    /// No connection; nothing was sent.
    Connect(String),
    /// There was a connection but no answer; the gateway may have carried out the request.
    NoAnswer(String),
    /// What came back is not an HTTP answer, is cut short or too large.
    Unreadable(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Url(text) | Self::Connect(text) | Self::NoAnswer(text) | Self::Unreadable(text)) = self;
        f.write_str(text)
    }
}

impl std::error::Error for Failure {}

impl Gateway {
    /// The gateway at a base URL. Whether the URL is usable shows with the first request.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into() }
    }

    /// The gateway that `GATEWAY_URL` names; `None` when the variable is unset or empty.
    pub fn from_env(env: &Environment) -> Option<Self> {
        env.get_os("GATEWAY_URL").filter(|url| !url.is_empty()).map(|url| Self::new(url.to_string_lossy()))
    }

    /// `GET`; `target` is the path and query below the base URL, already percent-encoded.
    pub fn get(&self, target: &str, limits: Limits) -> Result<Answer, Failure> {
        self.exchange("GET", target, None, limits)
    }

    /// `POST` of a JSON body.
    pub fn post<T: Serialize>(&self, path: &str, body: &T, limits: Limits) -> Result<Answer, Failure> {
        let body = serde_json::to_vec(body).expect("a request body has string keys and no failing member");
        self.exchange("POST", path, Some(&body), limits)
    }

    fn exchange(&self, method: &str, target: &str, body: Option<&[u8]>, limits: Limits) -> Result<Answer, Failure> {
        let started = Instant::now();
        let url = Url::parse(&self.url).map_err(Failure::Url)?;
        let request = url.request(method, target, body);
        let stream = connect(&url, started + limits.connect, limits.connecting)
            .map_err(|cause| Failure::Connect(format!("connect to {}: {cause}", url.authority)))?;
        // The request is one write already; without the option the tail of a large one would wait for an ACK.
        let _ = stream.set_nodelay(true);
        let mut timed = Timed { stream: &stream, deadline: started + limits.total };
        // A gateway that refuses a request before it has read all of it closes the connection, which ends the writing
        // with an error: its answer counts all the same.
        let sent = timed.write_all(&request);
        let received = answer::read(&mut timed);
        let authority = url.authority;
        let unsure = if body.is_some() { " (it may have carried out the request)" } else { "" };
        match (sent, received) {
            (_, Ok(answer)) => Ok(answer),
            (Ok(()), Err(Broken::Unreadable(text))) => Err(Failure::Unreadable(format!("{authority}: {text}"))),
            (Ok(()), Err(Broken::Nothing(text))) => Err(Failure::NoAnswer(format!("{authority}: {text}{unsure}"))),
            (Err(error), Err(_)) => Err(Failure::NoAnswer(format!("{authority}: send the request: {error}{unsure}"))),
        }
    }
}

/// The parts of a base URL.
struct Url<'a> {
    /// Host and port as written, for the `Host` header and for messages.
    authority: &'a str,
    /// Without the brackets of an IPv6 address.
    host: &'a str,
    port: u16,
    /// Path without a slash at its end.
    prefix: &'a str,
}

impl<'a> Url<'a> {
    /// The error does not repeat the URL: a wrong one may contain a password.
    fn parse(url: &'a str) -> Result<Self, String> {
        let (scheme, rest) =
            url.trim().split_once("://").ok_or("GATEWAY_URL has no scheme, it must begin with http://")?;
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(format!("scheme {:?} of GATEWAY_URL is not supported, only http is", cut(scheme, 20)));
        }
        // Anything else could end the request line or the Host header.
        if !rest.bytes().all(|byte| byte.is_ascii_graphic()) || rest.contains(['?', '#', '@']) {
            return Err("GATEWAY_URL must be http://<host>:<port> and nothing else".into());
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = match authority.strip_prefix('[') {
            Some(inner) => inner.split_once(']').ok_or("the bracket of GATEWAY_URL's host is not closed")?,
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let port = match port.strip_prefix(':').unwrap_or(port) {
            "" => 80,
            digits => digits.parse().map_err(|_| format!("{:?} is not a port", cut(digits, 20)))?,
        };
        if host.is_empty() {
            return Err("GATEWAY_URL has no host".into());
        }
        Ok(Self { authority, host, port, prefix: path.trim_end_matches('/') })
    }

    /// The whole request, so that it leaves with one write.
    fn request(&self, method: &str, target: &str, body: Option<&[u8]>) -> Vec<u8> {
        let Self { authority, prefix, .. } = self;
        let mut request = format!("{method} {prefix}{target} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n");
        if let Some(body) = body {
            request += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        }
        request += "\r\n";
        let mut request = request.into_bytes();
        request.extend_from_slice(body.unwrap_or_default());
        request
    }
}

/// A connection, or why there is none.
fn connect(url: &Url<'_>, deadline: Instant, connecting: Connecting) -> Result<TcpStream, String> {
    let mut addresses = Vec::new();
    let mut pause = FIRST_PAUSE;
    loop {
        let cause = match connect_once(url, &mut addresses, deadline) {
            Ok(stream) => return Ok(stream),
            Err(cause) => cause,
        };
        if connecting == Connecting::Once {
            return Err(cause);
        }
        // Nothing tells when a port begins to listen.
        thread::sleep(pause.min(deadline.saturating_duration_since(Instant::now())));
        pause = (pause * 2).min(LONGEST_PAUSE);
        if Instant::now() >= deadline {
            return Err(cause);
        }
    }
}

/// One attempt on every address of the host, in order; the error is that of the last one. The addresses are looked up
/// when there are none yet.
fn connect_once(url: &Url<'_>, addresses: &mut Vec<SocketAddr>, deadline: Instant) -> Result<TcpStream, String> {
    if addresses.is_empty() {
        *addresses = address::resolve(url.host, url.port, deadline)?;
    }
    let mut cause = String::from("the name has no address");
    for (index, address) in addresses.iter().enumerate() {
        let untried = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let share = deadline.saturating_duration_since(Instant::now()) / untried;
        match connect_to(address, share.max(Duration::from_millis(1))) {
            Ok(stream) => return Ok(stream),
            Err(error) => cause = error.to_string(),
        }
    }
    Err(cause)
}

fn connect_to(address: &SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(address, limit)?;
    // When nobody listens on a loopback port, the kernel may choose that very port for our end: we would be connected
    // to ourselves and read our own request.
    if stream.local_addr().is_ok_and(|own| own == *address) {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}

/// A connection whose reads and writes all end at one deadline, with [`io::ErrorKind::TimedOut`].
struct Timed<'a> {
    stream: &'a TcpStream,
    deadline: Instant,
}

impl Timed<'_> {
    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

/// Linux says `WouldBlock` when the time-out of a socket has elapsed.
fn elapsed(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { error }
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(buffer).map_err(elapsed)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(bytes).map_err(elapsed)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn short() -> Limits {
        Limits {
            connect: Duration::from_millis(200),
            total: Duration::from_millis(400),
            connecting: Connecting::Repeated,
        }
    }

    /// A listener that serves one connection: reads `expected` bytes at least, then writes the answer and closes.
    fn serve_once(expected: usize, answer: &'static [u8]) -> (Gateway, thread::JoinHandle<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let gateway = Gateway::new(format!("http://{}/", listener.local_addr().unwrap()));
        let served = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while request.len() < expected {
                let mut piece = [0; 4096];
                let read = stream.read(&mut piece).unwrap();
                assert_ne!(read, 0, "the request ended after {} bytes", request.len());
                request.extend_from_slice(&piece[..read]);
            }
            stream.write_all(answer).unwrap();
            request
        });
        (gateway, served)
    }

    #[test]
    fn urls_are_taken_apart() {
        #[track_caller]
        fn case(url: &str, expected: (&str, &str, u16, &str)) {
            let parsed = Url::parse(url).unwrap();
            assert_eq!((parsed.authority, parsed.host, parsed.port, parsed.prefix), expected);
        }
        case("http://gateway:3000", ("gateway:3000", "gateway", 3000, ""));
        case("HTTP://gateway:3000/", ("gateway:3000", "gateway", 3000, ""));
        case("http://10.1.2.3", ("10.1.2.3", "10.1.2.3", 80, ""));
        case("http://gateway:/al/x//", ("gateway:", "gateway", 80, "/al/x"));
        case("http://[fd00::1]:81/al\n", ("[fd00::1]:81", "fd00::1", 81, "/al"));
    }

    #[test]
    fn urls_that_cannot_be_used_are_refused_without_being_repeated() {
        #[track_caller]
        fn case(url: &str, expected: &str) {
            let error = Url::parse(url).err().unwrap();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        case("https://gateway:3000", "\"https\"");
        case("unix:///run/hunter2", "\"unix\"");
        case("gateway:3000", "no scheme");
        case("http://", "no host");
        case("http://user:hunter2@gateway", "nothing else");
        case("http://gateway:3000/?hunter2", "nothing else");
        case("http://gate way", "nothing else");
        case("http://gateway:3000/\r\nX: hunter2", "nothing else");
        case("http://gateway:port", "\"port\" is not a port");
        case("http://gateway:99999", "is not a port");
        case("http://[::1", "bracket");
    }

    #[test]
    fn a_post_is_one_complete_request() {
        let head = "POST /locks/acquire HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\
                    Content-Type: application/json\r\nContent-Length: 6\r\n\r\n";
        let (gateway, served) = serve_once(head.len() + 10, b"HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\n{}");
        let answer = gateway.post("/locks/acquire", &["\""], Limits::STANDARD).unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (409, &b"{}"[..]));
        let host = gateway.url.trim_start_matches("http://").trim_end_matches('/');
        let request = String::from_utf8(served.join().unwrap()).unwrap();
        assert_eq!(request, head.replace("HOST", host) + "[\"\\\"\"]");
    }

    #[test]
    fn an_early_answer_counts_though_the_request_could_not_be_sent_whole() {
        let (gateway, served) =
            serve_once(10, b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 2\r\n\r\n{}and more");
        let answer = gateway.post("/calls", &"x".repeat(16 << 20), Limits::STANDARD);
        assert_eq!(answer.map(|answer| answer.status), Ok(413));
        served.join().unwrap();
    }

    #[test]
    fn connecting_is_repeated_until_its_time_is_over() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let gateway = Gateway::new(format!("http://localhost:{port}"));
        let started = Instant::now();
        let failure = gateway.get("/health?secret=s3cret", short()).unwrap_err();
        assert!(matches!(&failure, Failure::Connect(text) if text.contains("refused")), "{failure:?}");
        assert!(!failure.to_string().contains("s3cret"), "{failure}");
        assert!(started.elapsed() >= short().connect, "{:?}", started.elapsed());
        let once = Instant::now();
        gateway.get("/", Limits { connecting: Connecting::Once, ..short() }).unwrap_err();
        assert!(once.elapsed() < short().connect, "{:?}", once.elapsed());
    }

    #[test]
    fn a_silent_gateway_is_given_up_at_the_deadline() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let gateway = Gateway::new(format!("http://{}", listener.local_addr().unwrap()));
        let started = Instant::now();
        assert!(matches!(gateway.get("/health", short()), Err(Failure::NoAnswer(_))));
        // A body that is too large for the buffers of the kernel: the writing ends at the deadline, too.
        assert!(matches!(gateway.post("/calls", &"x".repeat(32 << 20), short()), Err(Failure::NoAnswer(_))));
        let took = started.elapsed();
        assert!(took >= 2 * short().total && took < Duration::from_secs(5), "{took:?}");
    }

    #[test]
    fn a_byte_now_and_then_does_not_prolong_the_deadline() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let gateway = Gateway::new(format!("http://{}", listener.local_addr().unwrap()));
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            while stream.write_all(b"H").is_ok() {
                thread::sleep(Duration::from_millis(50));
            }
        });
        let started = Instant::now();
        assert!(matches!(gateway.get("/health", short()), Err(Failure::NoAnswer(_))));
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    }

    #[test]
    fn an_empty_variable_means_no_gateway() {
        let of = |pairs: &[(&str, &str)]| Gateway::from_env(&pairs.iter().copied().collect());
        assert!(of(&[]).is_none());
        assert!(of(&[("GATEWAY_URL", "")]).is_none());
        assert!(of(&[("GATEWAY_URL", "http://gateway:3000")]).is_some());
    }
}
