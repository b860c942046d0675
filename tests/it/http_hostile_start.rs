//! Hostile clients against both faces of a real `al start`: it goes on, acknowledges what is genuine, and has neither
//! memory, threads nor descriptors less afterwards.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::daemon::{Daemon, free_port};
use crate::support::http::{connect, exchange, get};
use crate::support::project::Project;
use crate::support::rng::Rng;
use crate::support::wait;
use crate::support::webhook::{Delivery, SECRET};

const SETTINGS: &str = "[gateway]\nwebhookRateLimit = 0\n[webhooks.hub]\ntype = \"github\"\ncredential = \"default\"\n\
                        [webhooks.hook]\ntype = \"test\"\n";
/// What `al` takes for the network of the runs, so that the test is one of the peers.
const NETWORK: &str = r#"{"Name":"al-net","Id":"0123456789abcdef","IPAM":{"Config":[{"Subnet":"127.0.0.0/8","Gateway":"127.0.0.9"}]},"Options":{"com.docker.network.bridge.enable_icc":"false"}}"#;
const FACE_OF_CONTAINERS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
/// Takes every delivery; of those of type `test` each starts with a run that stays.
const AGENT: &str = "timeout = 600\n[[webhooks]]\nsource = \"hub\"\n[[webhooks]]\nsource = \"hook\"\n";

/// A scheduler with one run that goes on, and paused: whatever comes in is accepted, and no container is started.
struct Bed<'p> {
    daemon: Daemon<'p>,
    project: &'p Project,
    agent: String,
    /// The run that goes on.
    instance: String,
    /// Its secret.
    secret: String,
}

impl<'p> Bed<'p> {
    fn project() -> Project {
        let project = Project::with_settings(SETTINGS);
        project.credential("github_webhook_secret", "secret", SECRET);
        project
    }

    #[track_caller]
    fn start(project: &'p Project) -> Self {
        let agent = project.agent("dev", "sleep 600");
        project.configure(&agent, AGENT);
        // Docker hides behind another address who on this host speaks to its bridge, and then the face is closed.
        let path = project.docker_that(&format!("network) echo '{NETWORK}'; exit 0"));
        let daemon = Daemon::launch(project, free_port(), &[], &[("PATH", &path)]);
        daemon.wait_for("scheduler started");
        Delivery::issue("first", "stays").send(daemon.address()).expect("it is accepted");
        let instance = daemon.wait_for_runs(&agent, 1).swap_remove(0);
        assert_eq!(daemon.post("/control/pause", &json!({})).status, 200);
        let secret = secret(project);
        let bed = Self { daemon, project, agent, instance, secret };
        // What the first request of each face makes, stays.
        for face in bed.faces() {
            assert_eq!(get(face, "/health").status, 200);
        }
        bed
    }

    /// The two faces.
    fn faces(&self) -> [SocketAddr; 2] {
        [self.daemon.address(), (FACE_OF_CONTAINERS, self.daemon.port).into()]
    }

    fn proc_path(&self, name: &str) -> PathBuf {
        format!("/proc/{}/{name}", self.daemon.running().pid().as_raw_nonzero()).into()
    }

    /// Threads and descriptors.
    fn count(&self) -> (usize, usize) {
        let count = |name| std::fs::read_dir(self.proc_path(name)).expect("it lives").count();
        (count("task"), count("fd"))
    }

    /// Memory in bytes.
    fn memory(&self) -> u64 {
        let text = std::fs::read_to_string(self.proc_path("status")).expect("it lives");
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("there is such a line");
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Threads and descriptors when nothing has happened for a while: idle threads end after some seconds.
    fn quiet(&self) -> (usize, usize) {
        let mut last = (self.count(), Instant::now());
        wait::within(Duration::from_secs(60), "threads and descriptors to stay as many", || {
            let now = self.count();
            if now != last.0 {
                last = (now, Instant::now());
            }
            if last.1.elapsed() > Duration::from_secs(7) { Ok(now) } else { Err(format!("{now:?}")) }
        })
    }

    /// What must hold after every attack.
    #[track_caller]
    fn assert_unharmed(self, quiet: (usize, usize)) {
        Delivery::issue("after", "it").send(self.daemon.address()).expect("it is accepted");
        // The inner server of each face keeps four threads at rest, and one or two that were working when it counted.
        let is_back = |now: &(usize, usize)| now.0 <= quiet.0 + 4 && now.1 <= quiet.1;
        wait::until(&format!("threads and descriptors as before ({quiet:?})"), || self.count(), is_back);
        assert_eq!(self.daemon.instances(&self.agent), [self.instance.as_str()], "the run goes on");
        let logs = self.project.all_logs();
        for bad in ["panicked", "internal error", "request failed", "\"status\":500"] {
            let line = logs.lines().find(|line| line.contains(bad));
            assert!(line.is_none(), "{line:?}");
        }
        self.daemon.post("/control/stop", &json!({"kill": true, "clearQueue": true}));
        let done = self.daemon.finish();
        done.expect(0);
        assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
        self.project.assert_clean();
    }
}

/// The secret of the only run: its container has it in a file.
fn secret(project: &Project) -> String {
    let file = |dir: &PathBuf| std::fs::read_to_string(dir.join("run/run.json")).ok();
    let text = wait::until("the run's secret", || project.staging().iter().find_map(file), Option::is_some).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    value["shutdownSecret"].as_str().unwrap_or_else(|| panic!("{text}")).to_owned()
}

/// Keeps a connection busy with a request that never ends.
fn drip(socks: &mut Vec<TcpStream>, over: &AtomicBool) {
    while !over.load(Ordering::SeqCst) {
        // Those that the server has closed are not opened again: the number is bounded.
        socks.retain_mut(|sock| sock.write_all(b"x").is_ok());
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_thousand_half_open_and_a_thousand_slow_connections_keep_no_webhook_waiting() {
    let project = Bed::project();
    let bed = Bed::start(&project);
    let (quiet, memory) = (bed.quiet(), bed.memory());
    let open = |count: usize, bytes: &[u8]| -> Vec<TcpStream> {
        let faces = bed.faces();
        let one = |number: usize| connect(faces[number % 2]).and_then(|mut sock| sock.write_all(bytes).map(|()| sock));
        (0..count).filter_map(|number| one(number).ok()).collect()
    };
    let slow = b"POST /webhooks/github HTTP/1.1\r\nContent-Length: 100000\r\nX-GitHub-Event: push\r\n\r\n";
    let over = AtomicBool::new(false);
    let mut times = thread::scope(|scope| {
        scope.spawn(|| {
            let half_open = open(1000, b"POST /webhooks/github HT");
            let mut dripping = open(1000, slow);
            drip(&mut dripping, &over);
            drop(half_open);
        });
        let mut times = Vec::new();
        for number in 0..100 {
            let before = Instant::now();
            let answer = Delivery::issue(&format!("g{number}"), "it").send(bed.daemon.address());
            assert_eq!(answer.expect("it is acknowledged")["matched"], 1);
            times.push(before.elapsed());
        }
        over.store(true, Ordering::SeqCst);
        times
    });
    times.sort_unstable();
    eprintln!("acknowledged after {:?} in the middle, {:?} at most", times[50], times[99]);
    assert!(times[95] < Duration::from_secs(1), "acknowledged after {:?}", &times[90..]);
    let grown = bed.memory().saturating_sub(memory);
    assert!(grown < 40 << 20, "{grown} bytes more");
    bed.assert_unharmed(quiet);
}

const METHODS: [&str; 9] = ["GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "get", "P\u{00d6}ST", "G E T"];
/// Paths of both faces. Not among them: what ends the scheduler or its run, and what starts runs.
const PATHS: [&str; 44] = [
    "/health",
    "/webhooks/github",
    "/webhooks/test",
    "/webhooks/%",
    "/login",
    "/logout",
    "/api/auth/login",
    "/api/auth/logout",
    "/api/auth/check",
    "/control/instances",
    "/control/status",
    "/control/pause",
    "/control/kill/%",
    "/control/trigger/%",
    "/control/agents/%/enable",
    "/control/agents/%/disable",
    "/control/agents/%/pause",
    "/control/agents/%/kill",
    "/control/queue",
    "/control/queue/%",
    "/control/queue/%/clear",
    "/control/items/%",
    "/control/items/%/retry",
    "/control/items/%/drop",
    "/locks/status",
    "/api/webhooks",
    "/api/webhooks/simulate",
    "/api/webhooks/%/replay",
    "/api/stats/webhooks/%",
    "/api/stats/activity",
    "/api/stats/agents/%/runs",
    "/api/stats/agents/%/runs/%",
    "/api/logs/scheduler",
    "/api/logs/agents/%",
    "/api/logs/agents/%/%",
    "/locks/acquire",
    "/locks/release",
    "/locks/heartbeat",
    "/locks/list",
    "/calls",
    "/calls/%",
    "/signals/%",
    "/credentials/%",
    "/",
];
const PARAMETERS: [&str; 15] = [
    "1",
    "-1",
    "99999999999999999999",
    "..",
    "%2e%2e%2f",
    "%00",
    "%",
    "%zz",
    "a b",
    "\u{fc}",
    "AGENTx",
    "status",
    "return",
    "rerun",
    "",
];
const QUERIES: [&str; 14] = [
    "limit=5",
    "limit=-1",
    "limit=99999999999999999999",
    "cursor=%ff",
    "follow=1",
    "state=queued,,dead",
    "state=x",
    "lines=1e9",
    "secret=SECRET",
    "secret=%00",
    "wait=1",
    "after=18446744073709551616",
    "a=%",
    "&&==&",
];
const FIELDS: [&str; 22] = [
    "Content-Type: application/json",
    "Content-Type: application/x-www-form-urlencoded",
    "Content-Type: \u{0}",
    "Authorization: Bearer KEY",
    "Authorization: Bearer KEY",
    "Authorization: Bearer",
    "Authorization: Basic !!!",
    "Cookie: al_session=x; ; =; al_session",
    "X-GitHub-Event: issues",
    "X-GitHub-Event: \u{fc}",
    "X-GitHub-Delivery: ",
    "X-Hub-Signature-256: sha256=00",
    "X-Delivery-Id: d",
    "X-Forwarded-For: 1.2.3.4, ::1, x",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: gzip, chunked",
    "Content-Length: 5",
    "Content-Length: 99999999999",
    "Content-Length: -1",
    "Expect: 100-continue",
    " folded: x",
    "no colon",
];
/// Members that requests have, with values of all kinds.
const NAMES: [&str; 18] = [
    "secret",
    "resourceKey",
    "targetAgent",
    "context",
    "value",
    "text",
    "status",
    "reason",
    "details",
    "agent",
    "prompt",
    "queue",
    "event",
    "title",
    "repository",
    "issue",
    "action",
    "key",
];

/// Requests that are wrong in every way, or nearly right.
struct Generator<'b> {
    rng: Rng,
    secret: &'b str,
    agent: &'b str,
    key: &'b str,
}

impl Generator<'_> {
    fn one_of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.rng.of(0..all.len() as u64) as usize]
    }

    fn request(&mut self) -> Vec<u8> {
        if self.rng.percent(30) {
            return self.nearly_right();
        }
        let body = self.body();
        let mut head = self.line();
        for _ in 0..self.rng.of(0..5) {
            head += self.one_of(&FIELDS);
            head += "\r\n";
        }
        if self.rng.percent(2) {
            head += &format!("X-Long: {}\r\n", "y".repeat(self.rng.of(1000..40_000) as usize));
        }
        if self.rng.percent(90) {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        head += if self.rng.percent(97) { "\r\n" } else { "\n" };
        let mut bytes = self.filled_in(head, &body);
        self.damage(&mut bytes);
        bytes
    }

    /// One that gets past everything that looks at form alone.
    fn nearly_right(&mut self) -> Vec<u8> {
        let body = self.object(0).to_string().replace("SECRET", self.secret).into_bytes();
        let mut head = self.line();
        head += "Content-Type: application/json\r\nAuthorization: Bearer KEY\r\nX-GitHub-Event: issues\r\n";
        head += &format!("Content-Length: {}\r\n\r\n", body.len());
        self.filled_in(head, &body)
    }

    fn filled_in(&self, head: String, body: &[u8]) -> Vec<u8> {
        let head = head.replace("SECRET", self.secret).replace("AGENTx", self.agent).replace("KEY", self.key);
        [head.as_bytes(), body].concat()
    }

    fn line(&mut self) -> String {
        let mut path = self.one_of(&PATHS).to_owned();
        let may_name_agent = !path.ends_with("/kill") && !path.contains("trigger");
        while let Some(at) = path.find('%') {
            let parameter = match self.one_of(&PARAMETERS) {
                "AGENTx" if !may_name_agent => "nobody",
                other => other,
            };
            // A percent sign of its own would be replaced again.
            path.replace_range(at..=at, &parameter.replace('%', "\u{1}"));
        }
        let path = path.replace('\u{1}', "%");
        let query = if self.rng.percent(30) { format!("?{}", self.one_of(&QUERIES)) } else { String::new() };
        let method =
            if self.rng.percent(85) { ["GET", "POST"][self.rng.of(0..2) as usize] } else { self.one_of(&METHODS) };
        let version = if self.rng.percent(97) { "HTTP/1.1" } else { "HTTP/9.9" };
        format!("{method} {path}{query} {version}\r\nHost: x\r\n")
    }

    fn body(&mut self) -> Vec<u8> {
        match self.rng.of(0..20) {
            0 => Vec::new(),
            1 => b"[".repeat(self.rng.of(1..60_000) as usize),
            2 => vec![0xff; self.rng.of(1..300) as usize],
            3 => format!("payload={}", "%7b".repeat(self.rng.of(0..50) as usize)).into_bytes(),
            4 => b"5\r\nhello\r\nffffffffffffffff\r\nx".to_vec(),
            5 if self.rng.percent(20) => format!("{{\"context\":\"{}\"}}", "z".repeat(400_000)).into_bytes(),
            _ => self.object(0).to_string().replace("SECRET", self.secret).into_bytes(),
        }
    }

    fn object(&mut self, depth: u32) -> Value {
        let mut members = serde_json::Map::new();
        if depth == 0 && self.rng.percent(60) {
            members.insert("secret".into(), "SECRET".into());
        }
        for _ in 0..self.rng.of(0..6) {
            let name = self.one_of(&NAMES);
            let value = self.value(depth);
            members.entry(name).or_insert(value);
        }
        Value::Object(members)
    }

    fn value(&mut self, depth: u32) -> Value {
        match self.rng.of(0..10) {
            0 => Value::Null,
            1 => json!(u64::MAX),
            2 => json!(-1e300),
            3 => json!(true),
            4 => json!("\u{0}\u{202e}\u{1b}[31m"),
            5 => json!("\u{1f600}".repeat(self.rng.of(0..300) as usize)),
            6 if depth < 4 => Value::Array((0..self.rng.of(0..4)).map(|_| self.value(depth + 1)).collect()),
            7 if depth < 4 => self.object(depth + 1),
            8 => json!(self.agent),
            _ => json!("plain"),
        }
    }

    /// Changes some bytes, or cuts it off.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        if self.rng.percent(25) {
            for _ in 0..self.rng.of(1..5) {
                let at = self.rng.of(0..bytes.len() as u64) as usize;
                bytes[at] = self.rng.of(0..256) as u8;
            }
        }
        if self.rng.percent(8) {
            bytes.truncate(self.rng.of(0..bytes.len() as u64) as usize);
        }
    }
}

/// Sends so many requests to both faces; how often there was which status.
fn send_many(bed: &Bed<'_>, rng: &mut Rng, count: usize) -> BTreeMap<String, usize> {
    let (faces, key, statuses) = (bed.faces(), bed.daemon.key(), Mutex::new(BTreeMap::new()));
    thread::scope(|scope| {
        for _ in 0..8 {
            let mut generator = Generator { rng: rng.split(), secret: &bed.secret, agent: &bed.agent, key: &key };
            let statuses = &statuses;
            scope.spawn(move || {
                for number in 0..count / 8 {
                    let bytes = generator.request();
                    let answer = exchange(faces[number % 2], &bytes).unwrap_or_default();
                    let text = String::from_utf8_lossy(&answer);
                    // Asked for by `Expect`; the answer itself comes after it.
                    let text = text.trim_start_matches("HTTP/1.1 100 Continue\r\n\r\n");
                    let status =
                        text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).unwrap_or("none").to_owned();
                    let request = String::from_utf8_lossy(&bytes[..bytes.len().min(2000)]).into_owned();
                    assert_ne!(status, "500", "answer to {request:?}: {text}");
                    *statuses.lock().unwrap().entry(status).or_default() += 1;
                }
            });
        }
    });
    statuses.into_inner().unwrap()
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn ten_thousand_malformed_requests_do_no_harm() {
    let project = Bed::project();
    let bed = Bed::start(&project);
    let mut rng = Rng::from_env();
    // What is made once for all later requests is no loss.
    send_many(&bed, &mut rng, 400);
    let (quiet, memory) = (bed.quiet(), bed.memory());
    let statuses = send_many(&bed, &mut rng, 10_000);
    eprintln!("{statuses:?}");
    const SPECIFIED: [&str; 19] = [
        "none", "200", "202", "204", "302", "400", "401", "403", "404", "408", "409", "413", "415", "417", "429",
        "431", "501", "503", "505",
    ];
    let others: Vec<&String> = statuses.keys().filter(|status| !SPECIFIED.contains(&status.as_str())).collect();
    assert!(others.is_empty(), "{others:?}");
    assert!(statuses["200"] > 200 && statuses["400"] > 500, "the requests reach what they are meant for: {statuses:?}");
    let grown = bed.memory().saturating_sub(memory);
    eprintln!("{grown} bytes more");
    assert!(grown < 40 << 20, "{grown} bytes more");
    bed.assert_unharmed(quiet);
}
