//! The container face over real HTTP, with a scheduler that only records what it is told.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use action_llama::base::clock::UnixMs;
use action_llama::base::log::Log;
use action_llama::base::{Masker, Secret, ids};

use action_llama::base::subnet::Subnet;
use action_llama::gateway::{ContainerListener, Gateway, Parts, bind};
use action_llama::model::names::{AgentName, InstanceId};
use action_llama::model::outcome::{Class, Outcome, RunResult};
use action_llama::model::status::AgentStatus;
use action_llama::model::wire::requests as wire;
use action_llama::model::wire::run_file::TriggerKind;
use action_llama::scheduler::handle::{Event, Handle, Snapshot};
use action_llama::store::containers::{self, Identity, Origin};
use action_llama::store::runs::{self, RetryPolicy};
use action_llama::store::{Store, items, locks};
use crossbeam_channel::{Receiver, unbounded};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::http::{Answer, connect, get, post, read_all, request};
use crate::support::wait;

/// A running face and both sides of it.
struct Fixture {
    gateway: Option<Gateway>,
    address: SocketAddr,
    store: Arc<Store>,
    events: Receiver<Event>,
    handle: Handle,
    dir: tempfile::TempDir,
}

/// A registered run.
struct Run {
    instance: String,
    secret: String,
}

impl Fixture {
    fn new() -> Self {
        Self::with_peers(Subnet::LOOPBACK)
    }

    fn with_peers(peers: Subnet) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open_in_memory().unwrap());
        let (sender, events) = unbounded();
        let handle = Handle::new(sender);
        let agent = |name: &str, scale, paused| Arc::new(AgentStatus { paused, ..AgentStatus::idle(name, scale, 900) });
        let agents = [("dev", 1, false), ("reviewer", 2, false), ("off", 0, false), ("resting", 1, true)];
        let agents: BTreeMap<_, _> =
            agents.map(|(name, scale, paused)| (name.to_owned(), agent(name, scale, paused))).into();
        handle.publish(Snapshot { agents, max_call_depth: 3, ..Snapshot::default() });
        let gateway = Gateway::start(Parts {
            store: store.clone(),
            handle: handle.clone(),
            log: Arc::new(Log::new(&dir.path().join("logs"), "gateway")),
            socket_dir: dir.path().to_owned(),
            lock_timeout: Duration::from_secs(1800),
        })
        .unwrap();
        let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = gateway.start_container_face(ContainerListener { listener, peers }).unwrap();
        Self { gateway: Some(gateway), address, store, events, handle, dir }
    }

    /// Registers a run of `chain`'s last agent.
    fn run(&self, chain: &[&str]) -> Run {
        let agent = AgentName::parse(chain[chain.len() - 1]).unwrap();
        let secret = ids::uuid_v4();
        let identity = Identity { instance: InstanceId::generate(&agent), secret: Secret::new(secret.as_str()) };
        let instance = identity.instance.to_string();
        let origin = Origin {
            trigger: TriggerKind::Manual,
            source: None,
            rerun: 0,
            depth: chain.len() as u32 - 1,
            chain: chain.iter().map(|agent| (*agent).to_owned()).collect(),
            call_id: None,
        };
        self.store.write(move |tx| containers::register(tx, &identity, &origin, None, UnixMs::now())).unwrap();
        Run { instance, secret }
    }

    /// Ends a run well, with this return value.
    fn finish(&self, instance: &str, value: &str) {
        let outcome = Outcome {
            class: Class::Ok,
            result: RunResult::Completed,
            exit_code: Some(0),
            exit_reason: None,
            error: None,
            return_value: (!value.is_empty()).then(|| value.to_owned()),
            usage: None,
            model_failure: None,
            started_at: UnixMs::now(),
            finished_at: UnixMs::now(),
        };
        let policy = RetryPolicy { max_attempts: 3, delay_seconds: 30, retry_errors: false };
        let instance = instance.to_owned();
        let ended = self.store.write(move |tx| runs::finish_run(tx, &instance, &outcome, &policy, UnixMs::now()));
        assert!(ended.unwrap().is_some());
    }

    /// Takes the next call of an agent, as the scheduler does; gives the instance that works on it.
    fn claim(&self, agent: &str) -> Option<String> {
        let name = AgentName::parse(agent).unwrap();
        let identity = Identity { instance: InstanceId::generate(&name), secret: Secret::new(ids::uuid_v4()) };
        let instance = identity.instance.to_string();
        self.store.write(move |tx| items::claim_next(tx, name.as_str(), &identity, UnixMs::now())).unwrap()?;
        Some(instance)
    }

    /// A call by `run`; gives its id.
    #[track_caller]
    fn call(&self, run: &Run, target: &str) -> String {
        let answer =
            post(self.address, wire::CALLS, &json!({"secret": run.secret, "targetAgent": target, "context": ""}));
        assert_eq!((answer.status, &answer.json()["ok"]), (200, &json!(true)), "{}", answer.body);
        answer.json()["callId"].as_str().unwrap().to_owned()
    }

    /// Posts a body that says `SECRET` where the run's secret belongs.
    #[track_caller]
    fn case(&self, run: &Run, path: &str, body: &Value, status: u16, expected: &Value) {
        let body = body.to_string().replace("SECRET", &run.secret);
        let answer = request(self.address, "POST", path, "", &body);
        assert_eq!((answer.status, answer.json()), (status, expected.clone()), "{path} {body}");
        assert_eq!(answer.header("Content-Type"), Some("application/json"));
    }

    fn log(&self) -> String {
        let files = std::fs::read_dir(self.dir.path().join("logs")).into_iter().flatten();
        files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect()
    }
}

fn error(text: &str) -> Value {
    json!({ "error": text })
}

fn reason(text: &str) -> Value {
    json!({ "ok": false, "reason": text })
}

fn nobody() -> Run {
    Run { instance: String::new(), secret: ids::uuid_v4() }
}

#[test]
fn health_needs_no_secret_and_is_not_logged() {
    let fixture = Fixture::new();
    let answer = get(fixture.address, wire::HEALTH);
    assert_eq!((answer.status, answer.json()), (200, json!({"status": "ok"})));
    let answer = request(fixture.address, "HEAD", wire::HEALTH, "", "");
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    assert!(!fixture.log().contains("request"), "{}", fixture.log());
}

#[test]
fn other_paths_and_methods_are_unknown() {
    let fixture = Fixture::new();
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/health/"),
        ("GET", "/Health"),
        ("POST", "/health"),
        ("GET", "/locks/acquire"),
        ("GET", "/locks/status"),
        ("POST", "/control/pause"),
        ("GET", "/dashboard"),
        ("PUT", "/calls"),
        ("GET", "/calls/"),
        ("POST", "/webhooks/github"),
    ] {
        let answer = request(fixture.address, method, path, "", "");
        assert_eq!((answer.status, answer.body.as_str()), (404, "404 Not Found"), "{method} {path}");
        assert_eq!(answer.header("Content-Type"), Some("text/plain; charset=UTF-8"));
    }
}

#[test]
fn inputs_are_checked_in_order() {
    let fixture = Fixture::new();
    let run = fixture.run(&["dev"]);
    let case = |path: &str, body: Value, status, text: &str| fixture.case(&run, path, &body, status, &error(text));
    for path in [
        wire::LOCKS_ACQUIRE,
        wire::LOCKS_RELEASE,
        wire::LOCKS_HEARTBEAT,
        wire::CALLS,
        wire::SIGNALS_RERUN,
        wire::SIGNALS_STATUS,
        wire::SIGNALS_RETURN,
        "/signals/trigger",
        wire::SHUTDOWN,
    ] {
        for body in ["", "{", "null", "[]", "\"x\"", "{} {}"] {
            let answer = request(fixture.address, "POST", path, "", body);
            assert_eq!((answer.status, answer.json()), (400, error("invalid JSON body")), "{path} {body}");
        }
        for body in [json!({}), json!({"secret": ""}), json!({"secret": 7}), json!({"secret": null})] {
            case(path, body, 400, "missing secret");
        }
        let complete = json!({"secret": "wrong", "resourceKey": "k", "targetAgent": "reviewer", "context": "c",
            "text": "t", "value": "v"});
        case(path, complete, 403, "invalid secret");
    }
    for path in [wire::LOCKS_ACQUIRE, wire::LOCKS_RELEASE, wire::LOCKS_HEARTBEAT] {
        for key in [json!(null), json!(""), json!(5)] {
            case(path, json!({"secret": "wrong", "resourceKey": key}), 400, "missing resourceKey");
        }
        case(path, json!({"secret": "wrong", "resourceKey": "ü".repeat(513)}), 400, "resourceKey too long");
        for ttl in [json!("5"), json!(-1), json!(604_801), json!(true), json!([])] {
            case(path, json!({"secret": "wrong", "resourceKey": "k", "ttl": ttl}), 400, "invalid ttl");
        }
    }
    case(wire::CALLS, json!({"secret": "wrong", "targetAgent": ""}), 400, "missing targetAgent");
    for context in [json!(null), json!(5)] {
        case(wire::CALLS, json!({"secret": "wrong", "targetAgent": "x", "context": context}), 400, "missing context");
    }
    case("/signals/trigger", json!({"secret": "wrong"}), 400, "missing targetAgent");
    case("/signals/trigger", json!({"secret": "wrong", "targetAgent": "x", "context": ""}), 400, "missing context");
    case(wire::SIGNALS_STATUS, json!({"secret": "wrong", "text": ""}), 400, "missing text");
    case(wire::SIGNALS_RETURN, json!({"secret": "wrong", "value": null}), 400, "missing value");
    let large = json!({"secret": "SECRET", "value": "x".repeat(1024 * 1024 + 1)});
    case(wire::SIGNALS_RETURN, large, 413, "payload too large");
    assert!(fixture.events.is_empty());
}

#[test]
fn bodies_have_limits_by_path() {
    let fixture = Fixture::new();
    for (path, limit) in [
        (wire::LOCKS_ACQUIRE, 131_072),
        (wire::SIGNALS_STATUS, 131_072),
        ("/unknown", 131_072),
        (wire::CALLS, 10_485_760),
        (wire::SIGNALS_RETURN, 10_485_760),
        ("/signals/trigger", 10_485_760),
    ] {
        // Refused before anything of it is read.
        let sock = connect(fixture.address).unwrap();
        write!(&sock, "POST {path} HTTP/1.1\r\nContent-Length: {}\r\n\r\n", limit + 1).unwrap();
        let answer = Answer::parse(&read_all(&sock).unwrap());
        assert_eq!((answer.status, answer.json()), (413, error("payload too large")), "{path}");
        let line = format!("\"path\":\"{path}\",\"status\":413,\"duration\":0,\"reason\":\"payload too large\"");
        assert!(fixture.log().contains(&line), "{}", fixture.log());
        let answer = request(fixture.address, "POST", path, "", &" ".repeat(limit));
        assert_ne!(answer.status, 413, "{path}");
    }
}

#[test]
fn a_bearer_token_stands_for_the_secret() {
    let fixture = Fixture::new();
    let run = fixture.run(&["dev"]);
    let bearer = format!("Authorization: Bearer {}\r\n", run.secret);
    let answer = request(fixture.address, "POST", wire::LOCKS_ACQUIRE, &bearer, r#"{"resourceKey":"k"}"#);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let answer = request(fixture.address, "GET", "/locks/list", &bearer, "");
    assert_eq!(answer.json()[0]["resourceKey"], "k");
    let lower = format!("Authorization: bearer {}\r\n", run.secret);
    assert_eq!(request(fixture.address, "GET", "/locks/list", &lower, "").status, 400);
}

#[test]
fn locks() {
    let fixture = Fixture::new();
    let (dev, reviewer) = (fixture.run(&["dev"]), fixture.run(&["reviewer"]));
    let body = |key: &str| json!({"secret": "SECRET", "resourceKey": key});
    let acquired = |key: &str| json!({"ok": true, "resourceKey": key});
    let key = "github issue acme/app#42";
    let (acquire, release) = (wire::LOCKS_ACQUIRE, wire::LOCKS_RELEASE);

    fixture.case(&dev, acquire, &body(key), 200, &acquired(key));
    let held = get(fixture.address, &format!("/locks/list?secret={}", dev.secret)).json();
    let (since, expires) = (held[0]["heldSince"].as_i64().unwrap(), held[0]["expiresAt"].as_i64().unwrap());
    assert_eq!((held[0]["holder"].as_str(), expires - since), (Some(dev.instance.as_str()), 1_800_000));
    assert_eq!(get(fixture.address, &format!("/locks/list?secret={}", reviewer.secret)).body, "[]");

    // Again by the holder: longer, but held since then.
    fixture.case(&dev, acquire, &json!({"secret": "SECRET", "resourceKey": key, "ttl": 3600.5}), 200, &acquired(key));
    let held = get(fixture.address, &format!("/locks/list?secret={}", dev.secret)).json();
    assert_eq!(held[0]["heldSince"], since);
    assert!(held[0]["expiresAt"].as_i64().unwrap() >= since + 3_600_500);

    let text = format!("already holding lock on {key} — release it first");
    fixture.case(&dev, acquire, &body("other"), 409, &reason(&text));
    let by_other = json!({"ok": false, "holder": dev.instance, "heldSince": since});
    fixture.case(&reviewer, acquire, &body(key), 409, &by_other);
    fixture.case(&reviewer, release, &body(key), 409, &reason(&format!("held by {}", dev.instance)));
    fixture.case(&reviewer, wire::LOCKS_HEARTBEAT, &body(key), 409, &reason(&format!("held by {}", dev.instance)));
    fixture.case(&dev, release, &body("other"), 404, &reason("lock not found"));
    fixture.case(&dev, wire::LOCKS_HEARTBEAT, &body("other"), 404, &reason("lock not found"));
    let answer = post(fixture.address, wire::LOCKS_HEARTBEAT, &json!({"secret": dev.secret, "resourceKey": key}));
    assert_eq!((answer.status, &answer.json()["ok"]), (200, &json!(true)));
    assert!(answer.json()["expiresAt"].as_i64().unwrap() > since);
    fixture.case(&dev, release, &body(key), 200, &json!({"ok": true}));
    fixture.case(&dev, release, &body(key), 404, &reason("lock not found"));

    // An expired lock is as good as none, and the end of a run releases what it held.
    fixture.case(&dev, acquire, &json!({"secret": "SECRET", "resourceKey": key, "ttl": 0.001}), 200, &acquired(key));
    wait::until(
        "expiry",
        || post(fixture.address, acquire, &json!({"secret": reviewer.secret, "resourceKey": key})).status,
        |status| *status == 200,
    );
    fixture.finish(&reviewer.instance, "");
    fixture.case(&dev, acquire, &body(key), 200, &acquired(key));
    fixture.case(&reviewer, acquire, &body("new"), 403, &error("invalid secret"));

    let list = |query: &str| get(fixture.address, &format!("/locks/list{query}"));
    assert_eq!((list("").status, list("").json()), (400, error("missing secret")));
    assert_eq!((list("?secret=x").status, list("?secret=x").json()), (403, error("invalid secret")));
}

/// Two runs, of which only the first has this secret.
fn with_secret<'f>(fixture: &'f Fixture, secret: &str) -> (Run, Run, impl Fn() -> Vec<String> + use<'f>) {
    let (dev, reviewer) = (fixture.run(&["dev"]), fixture.run(&["reviewer"]));
    fixture.handle.secrets().learn(&dev.instance, Masker::new(&[Secret::new(secret)]));
    let shown = || {
        let locks = fixture.store.read(|db| locks::all(db, UnixMs::now())).unwrap();
        locks.into_iter().map(|(lock, _)| lock.resource_key).collect()
    };
    (dev, reviewer, shown)
}

#[test]
fn a_lock_on_a_key_with_a_secret_excludes_by_the_key_and_is_kept_without_the_secret() {
    let fixture = Fixture::new();
    let (dev, reviewer, shown) = with_secret(&fixture, "hunter2-hunter2");
    let body = |key: &str| json!({"secret": "SECRET", "resourceKey": key});
    let acquired = |key: &str| json!({"ok": true, "resourceKey": key});
    let (key, masked) = ("deploy hunter2-hunter2", "deploy ***");
    fixture.case(&dev, wire::LOCKS_ACQUIRE, &body(key), 200, &acquired(key));
    let list = get(fixture.address, &format!("/locks/list?secret={}", dev.secret)).json();
    assert_eq!(list[0]["resourceKey"], masked);
    // Another run does not know that it is a secret, and is kept out all the same.
    let by_dev = json!({"ok": false, "holder": dev.instance, "heldSince": list[0]["heldSince"]});
    fixture.case(&reviewer, wire::LOCKS_ACQUIRE, &body(key), 409, &by_dev);
    fixture.case(&reviewer, wire::LOCKS_RELEASE, &body(key), 409, &reason(&format!("held by {}", dev.instance)));
    // What only looks the same is another key.
    fixture.case(&reviewer, wire::LOCKS_ACQUIRE, &body(masked), 200, &acquired(masked));
    assert_eq!(shown(), [masked, masked]);
    let holds = format!("already holding lock on {masked} — release it first");
    fixture.case(&dev, wire::LOCKS_ACQUIRE, &body(masked), 409, &reason(&holds));
    fixture.case(&dev, wire::LOCKS_RELEASE, &body(masked), 409, &reason(&format!("held by {}", reviewer.instance)));
    let heartbeat = post(fixture.address, wire::LOCKS_HEARTBEAT, &json!({"secret": dev.secret, "resourceKey": key}));
    assert_eq!((heartbeat.status, &heartbeat.json()["ok"]), (200, &json!(true)));
    fixture.case(&dev, wire::LOCKS_RELEASE, &body(key), 200, &json!({"ok": true}));
    assert_eq!(shown(), [masked]);
    assert!(!fixture.log().contains("hunter2"));
}

#[test]
fn a_called_agent_gets_the_context_without_the_secrets_of_the_caller() {
    let fixture = Fixture::new();
    let (dev, reviewer, _) = with_secret(&fixture, "hunter2-hunter2");
    let context = "plain hunter2-hunter2, in base64 aHVudGVyMi1odW50ZXIy, in a URL x?a=hunter2-hunter2";
    for path in [wire::CALLS, "/signals/trigger"] {
        let body = json!({"secret": dev.secret, "targetAgent": "reviewer", "context": context});
        assert_eq!(post(fixture.address, path, &body).status, 200, "{path}");
    }
    // Nobody knows it as a secret of this run.
    let body = json!({"secret": reviewer.secret, "targetAgent": "dev", "context": "hunter2-hunter2"});
    assert_eq!(post(fixture.address, wire::CALLS, &body).status, 200);
    let contexts = |table: &str| -> Vec<String> {
        let sql = format!("SELECT context FROM {table} ORDER BY rowid");
        let rows = |db: &Connection| {
            let mut query = db.prepare(&sql)?;
            Ok(query.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
        };
        fixture.store.read(rows).unwrap()
    };
    let masked = "plain ***, in base64 ***, in a URL x?a=***";
    assert_eq!(contexts("calls"), [masked, "hunter2-hunter2"]);
    let of_item = |text: &str| json!({ "context": text }).to_string();
    assert_eq!(contexts("work_items"), [of_item(masked), of_item(masked), of_item("hunter2-hunter2")]);
}

#[test]
fn calls_that_are_refused() {
    let fixture = Fixture::new();
    let dev = fixture.run(&["dev"]);
    let reviewer = fixture.run(&["dev", "reviewer"]);
    let deep = fixture.run(&["a", "b", "c", "dev"]);
    #[track_caller]
    fn case(fixture: &Fixture, run: &Run, target: &str, text: &str) {
        let body = json!({"secret": "SECRET", "targetAgent": target, "context": "c"});
        for path in [wire::CALLS, "/signals/trigger"] {
            fixture.case(run, path, &body, 409, &reason(text));
        }
    }
    case(&fixture, &dev, "dev", "agent cannot call itself");
    case(&fixture, &deep, "nobody", "trigger depth limit reached");
    case(&fixture, &deep, "dev", "agent cannot call itself");
    case(&fixture, &dev, "nobody", "target agent \"nobody\" not found");
    case(&fixture, &dev, "off", "target agent \"off\" is disabled");
    case(&fixture, &dev, "resting", "target agent \"resting\" is paused");
    case(&fixture, &reviewer, "dev", "call cycle: dev → reviewer → dev");
    assert!(fixture.claim("dev").is_none(), "a refused call leaves nothing");
    fixture.handle.publish(Snapshot::default());
    let body = json!({"secret": "SECRET", "targetAgent": "reviewer", "context": ""});
    fixture.case(&dev, wire::CALLS, &body, 503, &reason("call dispatcher not ready"));
    assert!(fixture.events.is_empty());
}

#[test]
fn a_run_may_make_a_thousand_calls() {
    let mut fixture = Fixture::new();
    let dev = fixture.run(&["dev"]);
    for _ in 0..1000 {
        fixture.call(&dev, "reviewer");
    }
    let body = json!({"secret": "SECRET", "targetAgent": "reviewer", "context": ""});
    fixture.case(&dev, wire::CALLS, &body, 409, &reason("call limit of this run reached"));
    fixture.call(&fixture.run(&["dev"]), "reviewer");
    // Nor does a run fill the log.
    fixture.gateway.take().unwrap().stop();
    assert!(fixture.log().contains("request lines suppressed"));
}

#[test]
fn a_call_from_acceptance_to_its_result() {
    let fixture = Fixture::new();
    let (dev, other) = (fixture.run(&["dev"]), fixture.run(&["dev"]));
    let id = fixture.call(&dev, "reviewer");
    assert!(matches!(fixture.events.try_recv(), Ok(Event::QueueChanged)));
    let show = |run: &Run, rest: &str| get(fixture.address, &format!("/calls/{id}?secret={}{rest}", run.secret));
    assert_eq!(show(&dev, "").json(), json!({"status": "pending"}));
    // None of these is a wait.
    for wait in ["&wait=61", "&wait=-1", "&wait=x", "&wait=", "&wait=1.5", "&wait=0"] {
        let before = Instant::now();
        assert_eq!(show(&dev, wait).json(), json!({"status": "pending"}));
        assert!(before.elapsed() < Duration::from_millis(900), "{wait}");
    }
    let instance = fixture.claim("reviewer").unwrap();
    assert_eq!(show(&dev, "").json(), json!({"status": "running"}));
    let answer = show(&other, "");
    assert_eq!((answer.status, answer.json()), (404, error("call not found")));
    assert_eq!(show(&nobody(), "").json(), error("invalid secret"));
    let answer = get(fixture.address, &format!("/calls/{id}"));
    assert_eq!((answer.status, answer.json()), (400, error("missing secret")));
    fixture.finish(&instance, "all good — ü");
    assert_eq!(show(&dev, "").json(), json!({"status": "completed", "returnValue": "all good — ü"}));
    let second = fixture.call(&dev, "reviewer");
    fixture.finish(&fixture.claim("reviewer").unwrap(), "");
    let answer = get(fixture.address, &format!("/calls/{second}?secret={}", dev.secret));
    assert_eq!(answer.body, r#"{"status":"completed"}"#);
}

#[test]
fn a_long_poll_hears_of_the_end_at_once() {
    let fixture = Fixture::new();
    let dev = fixture.run(&["dev"]);
    let id = fixture.call(&dev, "reviewer");
    let target = format!("/calls/{id}?secret={}&wait=60", dev.secret);
    std::thread::scope(|scope| {
        let poll = scope.spawn(|| (get(fixture.address, &target), Instant::now()));
        let instance = fixture.claim("reviewer").unwrap();
        // Let it wait through the first change, which does not end the call.
        wait::until("poll", || fixture.log().matches("/calls/:callId").count(), |count| *count > 0);
        let finished = Instant::now();
        fixture.finish(&instance, "done");
        let (answer, answered) = poll.join().unwrap();
        assert_eq!(answer.json(), json!({"status": "completed", "returnValue": "done"}));
        assert!(answered - finished < Duration::from_millis(500), "{:?}", answered - finished);
    });
}

#[test]
fn long_polls_give_the_state_when_their_time_is_over_and_when_there_are_too_many() {
    let fixture = Fixture::new();
    let dev = fixture.run(&["dev"]);
    let id = fixture.call(&dev, "reviewer");
    let before = Instant::now();
    let answer = get(fixture.address, &format!("/calls/{id}?secret={}&wait=1", dev.secret));
    assert_eq!(answer.json(), json!({"status": "pending"}));
    assert!(before.elapsed() >= Duration::from_secs(1));

    let target = format!("GET /calls/{id}?secret={}&wait=60 HTTP/1.1\r\n\r\n", dev.secret);
    let open = || {
        let sock = connect(fixture.address).unwrap();
        (&sock).write_all(target.as_bytes()).unwrap();
        sock.set_nonblocking(true).unwrap();
        sock
    };
    // One more than may wait: one of them, whichever comes last, is answered at once.
    let polls: Vec<_> = (0..65).map(|_| open()).collect();
    let answered = |sock: &&TcpStream| matches!(sock.peek(&mut [0; 1]), Ok(1));
    wait::until("a poll too many", || polls.iter().filter(answered).count(), |count| *count == 1);
    assert_eq!(get(fixture.address, wire::HEALTH).status, 200);
    fixture.finish(&fixture.claim("reviewer").unwrap(), "");
    let mut states: Vec<String> = Vec::new();
    for poll in polls {
        poll.set_nonblocking(false).unwrap();
        let state = Answer::parse(&read_all(&poll).unwrap()).json()["status"].clone();
        states.push(state.as_str().unwrap().to_owned());
    }
    states.sort();
    assert_eq!((states[63].as_str(), states[64].as_str()), ("completed", "pending"));
}

#[test]
fn stopping_ends_long_polls() {
    let mut fixture = Fixture::new();
    let dev = fixture.run(&["dev"]);
    let id = fixture.call(&dev, "reviewer");
    let sock = connect(fixture.address).unwrap();
    write!(&sock, "GET /calls/{id}?secret={}&wait=60 HTTP/1.1\r\n\r\n", dev.secret).unwrap();
    wait::until("poll", || fixture.log().matches("/calls/:callId").count(), |count| *count > 0);
    let before = Instant::now();
    fixture.gateway.take().unwrap().stop();
    assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
    assert_eq!(Answer::parse(&read_all(&sock).unwrap()).json(), json!({"status": "pending"}));
    assert!(connect(fixture.address).is_err());
}

#[test]
fn signals() {
    let fixture = Fixture::new();
    let dev = fixture.run(&["dev"]);
    let ok = json!({"ok": true});
    fixture.case(&dev, wire::SIGNALS_RERUN, &json!({"secret": "SECRET", "extra": 1}), 200, &ok);
    let event = fixture.events.try_recv().unwrap();
    assert!(matches!(event, Event::RerunRequested { instance } if instance == dev.instance));

    fixture.case(&dev, wire::SIGNALS_STATUS, &json!({"secret": "SECRET", "text": "ü".repeat(1001)}), 200, &ok);
    match fixture.events.try_recv().unwrap() {
        Event::StatusText { instance, text } => assert_eq!((instance, text), (dev.instance.clone(), "ü".repeat(1000))),
        _ => panic!("another event"),
    }

    fixture.case(
        &dev,
        "/signals/trigger",
        &json!({"secret": "SECRET", "targetAgent": "reviewer", "context": "c"}),
        200,
        &ok,
    );
    assert!(matches!(fixture.events.try_recv(), Ok(Event::QueueChanged)));
    assert!(fixture.claim("reviewer").is_some());

    // The value of the run that answers a call, as text or as JSON; the last one wins.
    let id = fixture.call(&dev, "reviewer");
    let secret = ids::uuid_v4();
    let name = AgentName::parse("reviewer").unwrap();
    let identity = Identity { instance: InstanceId::generate(&name), secret: Secret::new(secret.as_str()) };
    let called = Run { instance: identity.instance.to_string(), secret };
    fixture.store.write(move |tx| items::claim_next(tx, "reviewer", &identity, UnixMs::now())).unwrap().unwrap();
    fixture.case(&called, wire::SIGNALS_RETURN, &json!({"secret": "SECRET", "value": "text"}), 200, &ok);
    fixture.case(&called, wire::SIGNALS_RETURN, &json!({"secret": "SECRET", "value": {"b": 1, "a": [true]}}), 200, &ok);
    fixture.finish(&called.instance, "");
    let answer = get(fixture.address, &format!("/calls/{id}?secret={}", dev.secret));
    assert_eq!(answer.json()["returnValue"], r#"{"b":1,"a":[true]}"#);
}

#[test]
fn shutdown_revokes_the_secret_and_kills() {
    let fixture = Fixture::new();
    for (killed, status) in [(Ok(()), 200), (Err("no such container".to_owned()), 500)] {
        let dev = fixture.run(&["dev"]);
        let expected = match &killed {
            Ok(()) => json!({"killed": true, "container": format!("al-{}", dev.instance)}),
            Err(cause) => error(&format!("failed to kill container: {cause}")),
        };
        std::thread::scope(|scope| {
            scope.spawn(|| match fixture.events.recv_timeout(Duration::from_secs(10)).unwrap() {
                Event::Kill { instance, reason, reply } => {
                    assert_eq!((instance, reason.as_str()), (dev.instance.clone(), "shutdown requested: exfiltration"));
                    // Already now the secret is worth nothing.
                    assert_eq!(get(fixture.address, &format!("/locks/list?secret={}", dev.secret)).status, 403);
                    reply.send(killed).unwrap();
                }
                _ => panic!("another event"),
            });
            let body = json!({"secret": "SECRET", "reason": "exfiltration", "details": "key \u{1b}[2J sent"});
            fixture.case(&dev, wire::SHUTDOWN, &body, status, &expected);
        });
        fixture.case(&dev, wire::SHUTDOWN, &json!({"secret": "SECRET"}), 403, &error("invalid secret"));
    }
    let log = fixture.log();
    assert!(
        log.contains("\"reason\":\"exfiltration\"") && log.contains("\"details\":\"key \u{fffd}[2J sent\""),
        "{log}"
    );
}

#[test]
fn credentials_are_never_fetched() {
    let fixture = Fixture::new();
    let dev = fixture.run(&["dev"]);
    for (secret, text) in [(dev.secret.as_str(), "credential fetch disabled"), ("x", "invalid secret")] {
        let answer = get(fixture.address, &format!("/credentials/{secret}"));
        assert_eq!((answer.status, answer.json()), (403, error(text)));
        assert_eq!(answer.header("Cache-Control"), Some("no-store"));
    }
    get(fixture.address, &format!("/credentials/{}/", dev.secret));
    get(fixture.address, &format!("/calls/x?secret={}", dev.secret));
    assert!(!fixture.log().contains(&dev.secret), "{}", fixture.log());
    assert!(fixture.log().contains("\"path\":\"/credentials/:secret\""));
}

#[test]
fn peers_outside_the_network_get_no_answer() {
    let fixture = Fixture::with_peers(Subnet::parse("172.18.0.0/16").unwrap());
    let sock = connect(fixture.address).unwrap();
    let _ = (&sock).write_all(b"GET /health HTTP/1.1\r\n\r\n");
    assert_eq!(read_all(&sock).unwrap_or_default(), b"");
}

#[test]
fn an_address_in_use_says_so() {
    let fixture = Fixture::new();
    let error = bind(fixture.address).expect_err("the address is taken");
    assert!(error.to_string().contains(&fixture.address.to_string()), "{error}");
    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    assert_eq!(kind, Some(std::io::ErrorKind::AddrInUse));
    assert_eq!(fixture.address.ip(), IpAddr::V4(Ipv4Addr::LOCALHOST));
}
