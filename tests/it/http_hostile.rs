//! Hostile clients against the front of our HTTP server. Each attack is bounded in number and time; afterwards the
//! server process must live, answer a healthy request within a second, and have no thread or descriptor left over.
//!
//! The server runs in a process of its own, which is this test program started again: only there can threads and
//! descriptors be counted while other tests run.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use action_llama::base::log::{Entry, Level, Log};
use action_llama::config::webhook::Filter;
use action_llama::http::{Face, Front, Head, Limits, Options, Reply, Req};

use crate::support::gateway::{Bed, Setup, source};
use crate::support::http::{Answer, connect, connect_from, exchange, get, read_all, request};
use crate::support::wait;

const SETTINGS: &str = "AL_TEST_HOSTILE";
/// Settings with which the server is a real gateway.
const PUBLIC: &str = "public";
/// Peer that the test's face turns away.
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
const SMALL_BODY: usize = 1000;
const LARGE_BODY: usize = 10 * 1024 * 1024;

/// The face under attack: answers with the length of the body.
#[derive(Default)]
struct Echo {
    /// A handler has begun to sleep.
    asleep: AtomicBool,
}

impl Face for Echo {
    fn accepts(&self, peer: IpAddr) -> bool {
        peer != STRANGER
    }

    fn admit(&self, head: &Head, _: IpAddr) -> Result<usize, Reply> {
        match head.path() {
            "/busy" => Err(Reply::error(429, "too many requests")),
            "/large" => Ok(LARGE_BODY),
            _ => Ok(SMALL_BODY),
        }
    }

    fn handle(&self, request: &Req) -> anyhow::Result<Reply> {
        match request.path.as_str() {
            "/panic" => panic!("as asked"),
            "/fail" => anyhow::bail!("as asked"),
            "/long" => Ok(Reply::text(200, &"x".repeat(200_000))),
            "/sleep" => {
                self.asleep.store(true, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(300)); // stands for work
                Ok(Reply::text(200, "slept"))
            }
            _ => Ok(Reply::text(200, &request.body.len().to_string())),
        }
    }
}

/// Settings of the server process.
#[derive(Clone, Copy)]
struct Settings {
    head_ms: u64,
    body_ms: u64,
    body_bytes: usize,
    descriptors: u64,
}

/// Time-outs far away, as far as the test is concerned.
const DEFAULT: Settings = Settings { head_ms: 8000, body_ms: 8000, body_bytes: 64 * 1024 * 1024, descriptors: 20_000 };

/// Not a test: the server process of the tests below.
#[test]
#[ignore = "the server process that the hostile tests start"]
fn server_process() {
    let Ok(settings) = std::env::var(SETTINGS) else { return };
    if settings == PUBLIC {
        return serve_public_face();
    }
    let numbers: Vec<u64> = settings.split(',').map(|number| number.parse().unwrap()).collect();
    let descriptors = rustix::process::Rlimit { current: Some(64), maximum: Some(numbers[3]) };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, descriptors).unwrap();
    let dir = PathBuf::from(std::env::var("AL_TEST_DIR").unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let limits = Limits {
        head_time: Duration::from_millis(numbers[0]),
        body_time: Duration::from_millis(numbers[1]),
        body_bytes: numbers[2] as usize,
        idle_time: Duration::from_millis(50),
        ..Limits::default()
    };
    let front = start(listener, limits, &dir, Arc::default());
    serve_until_the_test_ends(front.address());
    front.stop(Duration::from_secs(1));
}

/// The public face of a gateway as it is, with sources `test` and `github` (signed), until the test ends.
fn serve_public_face() {
    let bed = Bed::with(Setup {
        webhook_rate_limit: 0,
        secrets: vec![("github_webhook_secret", "default", "s1".into())],
        sources: vec![source("t", "test"), source("g", "github")],
        triggers: vec![("dev", "t", Filter::default()), ("dev", "g", Filter::default())],
        ..Setup::default()
    });
    serve_until_the_test_ends(bed.public);
}

fn serve_until_the_test_ends(address: SocketAddr) {
    let mut out = std::io::stdout();
    writeln!(out, "\nport={}", address.port()).unwrap();
    let _ = std::io::stdin().read(&mut [0; 1]);
}

fn start(listener: TcpListener, limits: Limits, dir: &Path, face: Arc<Echo>) -> Front {
    let log = Arc::new(Log::new(dir, "gateway"));
    log.write(&Entry::new(Level::Info, "start")); // opens the file, so that it is not counted as left over
    Front::start(Options { listener, socket: dir.join("s"), limits, log }, face).unwrap()
}

/// A running server process.
struct Server {
    child: Child,
    address: SocketAddr,
    /// Threads and descriptors when nothing is going on.
    quiet: (usize, usize),
    dir: tempfile::TempDir,
    /// A path, and what is answered there to a healthy request.
    healthy: (&'static str, &'static str),
}

impl Server {
    fn start(settings: Settings) -> Self {
        let Settings { head_ms, body_ms, body_bytes, descriptors } = settings;
        Self::start_as(&format!("{head_ms},{body_ms},{body_bytes},{descriptors}"), ("/", "5"))
    }

    /// A server whose answer to `hello` at a path is known.
    fn start_as(settings: &str, healthy: (&'static str, &'static str)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "http_hostile::server_process", "--ignored", "--nocapture"])
            .env(SETTINGS, settings)
            .env("AL_TEST_DIR", dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let port = lines.find_map(|line| line.strip_prefix("port=")?.parse().ok()).expect("the server starts");
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        let mut server = Self { child, address, quiet: (0, 0), dir, healthy };
        server.healthy();
        let mut last_counts = [(0, 0); 10];
        let next_count = || {
            last_counts.rotate_left(1);
            last_counts[9] = server.count();
            last_counts
        };
        server.quiet = wait::until("quiet", next_count, |last| last.iter().all(|count| *count == last[9]))[9];
        server
    }

    /// The public face of a gateway.
    fn start_public() -> Self {
        Self::start_as(PUBLIC, ("/health", r#"{"status":"ok"}"#))
    }

    fn proc_dir(&self, name: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(format!("/proc/{}/{name}", self.child.id())).expect("the server lives");
        entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
    }

    /// Threads of connections and requests, and descriptors.
    fn count(&self) -> (usize, usize) {
        let name = |task: &PathBuf| std::fs::read_to_string(task.join("comm")).unwrap_or_default();
        let ours = |task: &PathBuf| ["conn-", "req-"].iter().any(|prefix| name(task).starts_with(prefix));
        (self.proc_dir("task").iter().filter(|task| ours(task)).count(), self.proc_dir("fd").len())
    }

    /// A healthy request; gives how long it took.
    #[track_caller]
    fn healthy(&self) -> Duration {
        let before = Instant::now();
        let answer =
            request(self.address, if self.healthy.0 == "/" { "POST" } else { "GET" }, self.healthy.0, "", "hello");
        assert_eq!((answer.status, answer.body.as_str()), (200, self.healthy.1));
        let took = before.elapsed();
        assert!(took < Duration::from_secs(1), "took {took:?}");
        took
    }

    /// What must hold after every attack.
    #[track_caller]
    fn unharmed(&self) {
        self.healthy();
        wait::until("threads and descriptors", || self.count(), |count| *count == self.quiet);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        if std::thread::panicking() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// Opens connections that send something and then nothing more.
fn open(server: &Server, count: usize, bytes: &[u8]) -> Vec<TcpStream> {
    let opened = (0..count).map(|_| connect(server.address).and_then(|mut sock| sock.write_all(bytes).map(|()| sock)));
    opened.filter_map(Result::ok).collect()
}

/// How many of the connections the server still has.
fn still_open(socks: &[TcpStream]) -> usize {
    let open = |sock: &&TcpStream| {
        sock.set_nonblocking(true).unwrap();
        matches!((&mut &**sock).read(&mut [0; 1]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    };
    socks.iter().filter(open).count()
}

/// Answers of healthy clients while an attack goes on.
#[track_caller]
fn healthy_meanwhile(server: &Server, count: usize, attack: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        scope.spawn(attack);
        for _ in 0..count {
            server.healthy();
        }
    });
}

#[test]
fn half_open_connections() {
    let server = Server::start(Settings { head_ms: 1500, ..DEFAULT });
    healthy_meanwhile(&server, 200, || {
        let socks = open(&server, 1000, b"GET / HT");
        wait::until("limit of connections", || still_open(&socks), |open| *open <= 256);
        wait::until("half-open connections", || still_open(&socks), |open| *open == 0);
    });
    server.unharmed();
}

#[test]
fn unfinished_bodies() {
    let server = Server::start(Settings { body_ms: 1500, ..DEFAULT });
    healthy_meanwhile(&server, 200, || {
        let socks = open(&server, 1000, b"POST / HTTP/1.1\r\nContent-Length: 99\r\n\r\nx");
        wait::until("limit of connections", || still_open(&socks), |open| *open <= 256);
        wait::until("unfinished bodies", || still_open(&socks), |open| *open == 0);
    });
    server.unharmed();
}

#[test]
fn few_descriptors() {
    let server = Server::start(Settings { descriptors: 200, ..DEFAULT });
    let socks = open(&server, 400, b"GET / HT");
    server.healthy();
    wait::until("limit of connections", || still_open(&socks), |open| *open <= 17);
    drop(socks);
    server.unharmed();
}

#[test]
fn slow_requests_are_told() {
    let server = Server::start(Settings { head_ms: 200, body_ms: 200, ..DEFAULT });
    for bytes in ["GET / HTTP/1.1\r\nHost: x\r\n", "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhell"] {
        let sock = connect(server.address).unwrap();
        (&sock).write_all(bytes.as_bytes()).unwrap();
        assert_eq!(Answer::parse(&read_all(&sock).unwrap()).status, 408, "{bytes:?}");
    }
    server.unharmed();
}

#[test]
fn malformed_requests() {
    let server = Server::start(DEFAULT);
    #[track_caller]
    fn case(server: &Server, bytes: &[u8], status: u16) {
        let answer = Answer::parse(&exchange(server.address, bytes).unwrap());
        assert_eq!(answer.status, status, "{:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(80)]));
        assert_eq!(answer.head.matches("Connection: close").count(), 1);
        assert_eq!(answer.header("Content-Length"), Some(answer.body.len().to_string().as_str()));
    }
    let with = |fields: &str| format!("POST / HTTP/1.1\r\n{fields}\r\n\r\nhello").into_bytes();
    case(&server, b"GET / HTTP/2.0\r\n\r\n", 505);
    case(&server, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505);
    case(&server, &with("Content-Length: 99999999999999"), 413);
    case(&server, &with("Content-Length: 18446744073709551615"), 413);
    case(&server, &with("Content-Length: 18446744073709551616"), 413);
    case(&server, &with("Content-Length: 5\r\nContent-Length: 5"), 400);
    case(&server, &with("Content-Length: 5\r\nTransfer-Encoding: chunked"), 400);
    case(&server, &with("Content-Length: +5"), 400);
    case(&server, &with("Content-Length: -5"), 400);
    case(&server, &with("Transfer-Encoding: gzip"), 501);
    case(&server, &with("Expect: something"), 417);
    case(&server, b"GET / HTTP/1.1\nHost: x\n\n", 400);
    case(&server, &with("A: b\r\n folded"), 400);
    case(&server, &with("A\u{fc}: b"), 400);
    case(&server, &with("A: \u{fc}"), 200);
    case(&server, b"GET / HTTP/1.1\r\nA: \0\r\n\r\n", 400);
    case(&server, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400);
    case(&server, &with("A: b\r\n".repeat(200).trim_end()), 431);
    case(&server, &with(&format!("A: {}", "b".repeat(20_000))), 431);
    case(&server, b"GET http://127.0.0.1/ HTTP/1.1\r\n\r\n", 400);
    case(&server, b"CONNECT x:1 HTTP/1.1\r\n\r\n", 400);
    case(&server, b"GET /busy HTTP/1.1\r\nContent-Length: 100000000\r\n\r\n", 429);
    case(&server, b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200);
    case(&server, b"BREW / HTTP/1.1\r\n\r\n", 200);
    case(&server, &with("Content-Length: 5\r\nConnection: upgrade\r\nUpgrade: h2c"), 200);
    server.unharmed();
}

#[test]
fn clients_that_leave_at_once() {
    let server = Server::start(DEFAULT);
    for bytes in [
        "GET / HTTP/2.0",
        "GET / HTTP/2.0\r\n\r\n",
        "",
        "GET / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 9",
    ] {
        for _ in 0..100 {
            let sock = connect(server.address).unwrap();
            let _ = (&sock).write_all(bytes.as_bytes());
        }
    }
    server.unharmed();
}

#[test]
fn resets() {
    let server = Server::start(DEFAULT);
    for _ in 0..200 {
        let sock = connect(server.address).unwrap();
        (&sock).write_all(b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello").unwrap();
        rustix::net::sockopt::set_socket_linger(&sock, Some(Duration::ZERO)).unwrap();
    }
    server.unharmed();
}

#[test]
fn an_endless_header_line() {
    let server = Server::start(DEFAULT);
    let mut sock = connect(server.address).unwrap();
    sock.write_all(b"GET / HTTP/1.1\r\nA: ").unwrap();
    let piece = [b'b'; 64 * 1024];
    let written = (0..3200).take_while(|_| sock.write_all(&piece).is_ok()).count() * piece.len();
    assert!(written < 16 * 1024 * 1024, "{written} bytes were taken");
    server.unharmed();
}

#[test]
fn pipelined_requests() {
    let server = Server::start(DEFAULT);
    let requests = "GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1000);
    let bytes = exchange(server.address, requests.as_bytes()).unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes).matches("HTTP/1.1 ").count(), 1);
    server.unharmed();
}

#[test]
fn chunked_bodies() {
    let server = Server::start(DEFAULT);
    #[track_caller]
    fn case(server: &Server, body: &[u8], status: u16, text: &str) {
        let head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".as_slice();
        let answer = Answer::parse(&exchange(server.address, &[head, body].concat()).unwrap());
        assert_eq!(answer.status, status, "{:?}", String::from_utf8_lossy(body));
        assert!(answer.body.contains(text), "{}", answer.body);
    }
    case(&server, b"5\r\nhello\r\n0\r\n\r\n", 200, "5");
    case(&server, b"5;a=b\r\nhello\r\n2\r\n!!\r\n0\r\nX-Trailer: y\r\n\r\n", 200, "7");
    case(&server, b"3e9\r\n", 413, "payload too large");
    case(&server, &[b"3e8\r\n".as_slice(), &[b'x'; 1000], b"\r\n1\r\n"].concat(), 413, "payload too large");
    case(&server, b"ffffffffffffffff\r\n", 400, "chunk");
    case(&server, b"5\nhello\n0\n\n", 400, "LF");
    case(&server, b"5\r\nhel", 400, "failed to read request body");
    case(&server, &[b"1;".as_slice(), &[b'e'; 300], b"\r\n"].concat(), 400, "long");
    server.unharmed();
}

#[test]
fn a_refused_body_that_never_comes_blocks_nobody() {
    let server = Server::start(DEFAULT);
    let socks = open(&server, 20, b"POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n");
    for sock in &socks {
        assert_eq!(Answer::parse(&read_all(sock).unwrap()).status, 413);
    }
    server.unharmed();
}

#[test]
fn announced_bodies_take_no_memory_and_the_largest_gives_way() {
    let server = Server::start(Settings { body_bytes: 8_000_000, ..DEFAULT });
    let head = format!("POST /large HTTP/1.1\r\nContent-Length: {LARGE_BODY}\r\n\r\n");
    let announcing = open(&server, 20, head.as_bytes());
    server.healthy();
    let filling = open(&server, 1, &[head.as_bytes(), &[b'x'; 7_000_000]].concat());
    let body = "y".repeat(2_000_000);
    assert_eq!(request(server.address, "POST", "/large", "", &body).body, "2000000");
    let answer = Answer::parse(&read_all(&filling[0]).unwrap());
    assert_eq!((answer.status, answer.header("Retry-After")), (503, Some("1")));
    assert_eq!(still_open(&announcing), 20);
    drop((announcing, filling));
    server.unharmed();
}

#[test]
fn expecting_clients_are_told_to_go_on() {
    let server = Server::start(DEFAULT);
    let mut sock = connect(server.address).unwrap();
    sock.write_all(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").unwrap();
    let mut interim = [0; 25];
    sock.read_exact(&mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    sock.write_all(b"hello").unwrap();
    assert_eq!(Answer::parse(&read_all(&sock).unwrap()).body, "5");
    server.unharmed();
}

#[test]
fn many_clients_at_once() {
    let server = Server::start(DEFAULT);
    // Also a burst of keep-alive clients on a fresh server: none waits until another one leaves.
    for count in [6, 64, 200] {
        let bytes = b"POST / HTTP/1.1\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello";
        let socks = open(&server, count, bytes);
        assert_eq!(socks.len(), count);
        for sock in &socks {
            assert_eq!(Answer::parse(&read_all(sock).unwrap()).body, "5");
        }
    }
    server.unharmed();
}

#[test]
fn readers_that_take_nothing() {
    let server = Server::start(DEFAULT);
    let socks = open(&server, 50, b"GET /long HTTP/1.1\r\n\r\n");
    server.healthy();
    drop(socks);
    server.unharmed();
}

#[test]
fn failing_handlers() {
    let server = Server::start(DEFAULT);
    for target in ["/panic", "/fail"] {
        let answer = get(server.address, target);
        assert_eq!((answer.status, answer.body.as_str()), (500, "Internal Server Error"));
    }
    server.unharmed();
}

#[test]
fn strangers_get_no_answer() {
    let server = Server::start(DEFAULT);
    let sock = connect_from(STRANGER, server.address).unwrap();
    let _ = (&sock).write_all(b"GET / HTTP/1.1\r\n\r\n");
    let answer = read_all(&sock).unwrap_or_default();
    assert_eq!(answer, b"");
    server.unharmed();
}

#[test]
fn mutated_requests() {
    let server = Server::start(DEFAULT);
    let valid = b"POST /a?b=c HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello";
    std::thread::scope(|scope| {
        for seed in 1..=8u64 {
            let server = &server;
            scope.spawn(move || {
                let mut random = Random(seed);
                for _ in 0..500 {
                    let mut bytes = valid.to_vec();
                    for _ in 0..1 + random.below(4) {
                        let at = random.below(bytes.len());
                        match random.below(3) {
                            0 => bytes[at] = random.below(256) as u8,
                            1 => drop(bytes.remove(at)),
                            _ => bytes.insert(at, random.below(256) as u8),
                        }
                    }
                    let answers = exchange(server.address, &bytes).unwrap_or_default();
                    let count = String::from_utf8_lossy(&answers).matches("HTTP/1.1 ").count();
                    assert!(count <= 1, "{count} answers to {:?}", String::from_utf8_lossy(&bytes));
                }
            });
        }
    });
    server.unharmed();
}

/// Xorshift: the same requests in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

#[test]
fn the_inner_server_is_made_again() {
    let server = Server::start(DEFAULT);
    std::fs::remove_file(server.dir.path().join("s.1")).unwrap();
    server.unharmed();
    assert!(server.dir.path().join("s.2").exists());
}

#[test]
fn stopping_answers_what_was_accepted_and_refuses_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let face = Arc::new(Echo::default());
    let front = start(TcpListener::bind("127.0.0.1:0").unwrap(), Limits::default(), dir.path(), face.clone());
    let address = front.address();
    let half_open = connect(address).unwrap();
    (&half_open).write_all(b"GET /").unwrap();
    let sleeping = connect(address).unwrap();
    (&sleeping).write_all(b"GET /sleep HTTP/1.1\r\n\r\n").unwrap();
    let answered = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let answer = Answer::parse(&read_all(&sleeping).unwrap());
            assert_eq!((answer.status, answer.body.as_str()), (200, "slept"));
            answered.store(true, Ordering::SeqCst);
        });
        // The request has to be there before the front stops.
        wait::until("handler", || face.asleep.load(Ordering::SeqCst), |asleep| *asleep);
        let before = Instant::now();
        front.stop(Duration::from_secs(5));
        assert!(before.elapsed() < Duration::from_secs(4));
    });
    assert!(answered.load(Ordering::SeqCst));
    assert_eq!(read_all(&half_open).unwrap_or_default(), b"");
    assert!(connect(address).is_err());
    half_open.shutdown(Shutdown::Both).ok();
}

/// Answers of the public face to bodies that are meant to hurt whoever reads them.
#[test]
fn bodies_that_are_hard_to_read() {
    let server = Server::start_public();
    let deep = |open: &str| open.repeat(10_000_000 / open.len());
    #[track_caller]
    fn case(server: &Server, path: &str, fields: &str, body: &str, allowed: &[u16]) {
        let answer = request(server.address, "POST", path, fields, body);
        assert!(allowed.contains(&answer.status), "{path} {fields} {:?}: {answer:?}", &body[..body.len().min(40)]);
    }
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let multipart = "Content-Type: multipart/form-data; boundary=b\r\n";
    for open in ["[", "{\"a\":", "{\"event\":[", "\"\\u0000"] {
        case(&server, "/webhooks/test", "", &deep(open), &[400]);
        case(&server, "/webhooks/github", "", &deep(open), &[401]);
    }
    let nested = |depth: usize| format!("{{\"event\":\"x\",\"other\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    case(&server, "/webhooks/test", "", &nested(4_000_000), &[200, 400]);
    case(&server, "/webhooks/test", form, &format!("payload={}", deep("%5B")), &[400]);
    case(&server, "/webhooks/test", form, &deep("a=&"), &[400]);
    case(&server, "/api/auth/login", "", &"[".repeat(131_072), &[400]);
    case(&server, "/login", multipart, &"--b\r\n".repeat(21_000), &[401]);
    case(&server, "/login", form, &"key=x&".repeat(21_000), &[401]);
    case(&server, "/login", "", &"\0".repeat(131_072), &[429, 401]);
    server.unharmed();
}

#[test]
fn heads_that_are_hard_to_read() {
    let server = Server::start_public();
    let many = |item: &str| item.repeat(15_000 / item.len());
    for field in [
        format!("X-Forwarded-For: {}", many("127.0.0.1,")),
        format!("X-Forwarded-For: {}", many(",")),
        format!("X-Forwarded-For: {}", many("[")),
        format!("Cookie: {}", many("al_session=;")),
        format!("Cookie: {}", many("=")),
        format!("Cookie: al_session={}", many("a")),
        format!("Authorization: Bearer {}", many("a")),
        format!("X-Hub-Signature-256: sha256={}", many("f")),
        format!("X-Hub-Signature-256: {}", "\u{20ac}".repeat(1000)),
        format!("Accept: {}", many("text/html,")),
        format!("Content-Type: {}", many("multipart/form-data; boundary=")),
        format!("Origin: {}", many("http://")),
    ] {
        for path in ["/webhooks/github", "/control/pause", "/login", "/api/logs/agents/x", "/locks/status"] {
            let answer = request(server.address, "POST", path, &format!("{field}\r\n"), "{}");
            assert!([401, 302, 404, 429].contains(&answer.status), "{path} {:?}: {answer:?}", &field[..40]);
        }
    }
    for path in ["/api/logs/agents/", "/control/kill/", "/webhooks/", "/"] {
        let answer = request(server.address, "POST", &format!("{path}{}", many("%00%ff/..%2f")), "", "");
        assert!([401, 404].contains(&answer.status), "{path}: {answer:?}");
    }
    server.unharmed();
}

#[test]
fn the_public_face_is_not_shut_out_by_unfinished_deliveries() {
    let server = Server::start_public();
    let head = format!("POST /webhooks/github HTTP/1.1\r\nContent-Length: {LARGE_BODY}\r\n\r\n");
    healthy_meanwhile(&server, 200, || {
        let bytes = [head.as_bytes(), &[b'x'; 10_000]].concat();
        drop((open(&server, 400, b"POST /login HT"), open(&server, 400, &bytes)));
    });
    server.unharmed();
}
