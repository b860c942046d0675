//! `al run` when a scheduler of the project runs: it is triggered there and, with `--wait`, followed (scheduler.md §15.2).

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use action_llama::base::clock::UnixMs;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::fake_scheduler::{FakeScheduler, KEY, json, listen, log_api, not_found, refusal};
use crate::support::project::Project;
use crate::support::stub_gateway::{Answer, Request, StubGateway};

const ONE: &str = "dev-a1b2c3d4";
const TWO: &str = "dev-0badcafe";

fn project() -> Project {
    let project = Project::without_docker("");
    for agent in ["dev", "other"] {
        project.write(&format!("agents/{agent}/agent-config.toml"), "schedule = \"0 8 * * *\"\n");
    }
    fs::create_dir_all(project.root().join(".al/logs")).unwrap();
    project
}

fn triggered() -> Answer {
    json(&json!({"success": true, "message": "Agent dev triggered", "instanceId": ONE}))
}

/// A scheduler that starts whatever it is told to.
fn scheduler(project: &Project) -> FakeScheduler {
    FakeScheduler::start(project, |request| match request.target.as_str() {
        "/control/trigger/dev" => triggered(),
        _ => not_found(),
    })
}

#[test]
fn a_scheduler_that_runs_is_told_to_run_it() {
    let project = project();
    let fake = scheduler(&project);
    let done = project.al(&["run", "dev"]).run();
    assert_eq!((done.expect(0).stdout.as_str(), done.stderr.as_str()), ("Agent dev triggered\n", ""));
    project.write("task", "from a file\n");
    project.al(&["run", "dev", "do this", "-H"]).run().expect(0);
    project.al(&["run", "dev", "--prompt-file", "task"]).run().expect(0);
    project.al(&["run", "dev", " \n"]).run().expect(0);
    let bodies: Vec<String> =
        fake.requests().iter().map(|request| String::from_utf8(request.body.clone()).unwrap()).collect();
    assert_eq!(bodies, ["", r#"{"prompt":"do this"}"#, r#"{"prompt":"from a file\n"}"#, ""]);
    assert_eq!(fake.asked(), ["POST /control/trigger/dev"; 4]);
    let done = project.al(&["run", "dev", "--json"]).run();
    assert_eq!(done.expect(0).stdout.lines().count(), 1);
    let result = done.result();
    assert_eq!(
        (&result["instance"], &result["result"], &result["exitCode"]),
        (&json!(ONE), &json!("triggered"), &json!(null))
    );
}

#[test]
fn a_job_summary_names_the_trigger_also_when_nothing_was_started() {
    let project = project();
    let _fake = FakeScheduler::start(&project, |_| refusal(500, "it is tired"));
    project.write("hook.json", r#"{"source":"github","event":"push"}"#);
    for (words, trigger) in [(&["run", "dev"][..], "manual"), (&["run", "dev", "--webhook", "hook.json"], "webhook")] {
        let summary = project.outer().join(trigger);
        let al = project.al(words).env("GITHUB_ACTIONS", "true").env("GITHUB_STEP_SUMMARY", &summary);
        al.run().expect(1);
        let text = fs::read_to_string(summary).unwrap();
        assert!(text.contains(&format!("| Instance | – |\n| Trigger | {trigger} |\n")), "{text}");
    }
}

#[test]
fn what_a_scheduler_cannot_do_is_said_before_it_is_asked() {
    let project = project();
    let fake = scheduler(&project);
    let done = project.al(&["run", "nobody"]).run();
    assert_eq!(done.expect(1).stderr, "Error: Agent \"nobody\" not found.\nAvailable agents: dev, other\n");
    project.write("hook.json", r#"{"source":"github","event":"issues"}"#);
    let done = project.al(&["run", "dev", "--webhook", "hook.json"]).run();
    assert!(done.expect(1).stderr.contains("one-shot mode"), "{}", done.stderr);
    let done = project.al(&["run", "dev", "--prompt-file", "-"]).stdin("x".repeat(64 * 1024 + 1)).run();
    assert!(done.expect(1).stderr.contains("64 KiB") && done.stderr.contains("65537"), "{}", done.stderr);
    assert!(fake.asked().is_empty());
    let done = project.al(&["run", "dev", "--prompt-file", "-"]).stdin("x".repeat(64 * 1024)).run();
    done.expect(0);
}

#[test]
fn a_refusal_is_a_failure_with_its_reason() {
    let project = project();
    let _fake = FakeScheduler::start(&project, |_| refusal(409, "Agent dev has no free runner"));
    for args in [&["run", "dev"][..], &["run", "dev", "--wait"]] {
        let done = project.al(args).run();
        assert_eq!(
            (done.expect(1).stdout.as_str(), done.stderr.as_str()),
            ("", "Error: Agent dev has no free runner\n")
        );
    }
    let done = project.al(&["run", "dev", "--json"]).run();
    let result = done.expect(1).result();
    assert_eq!((&result["result"], &result["error"]), (&json!("error"), &json!("Agent dev has no free runner")));
}

#[test]
fn a_scheduler_that_is_starting_is_waited_for() {
    let project = project();
    let fake = FakeScheduler::starting(&project, |_| triggered());
    let running = project.al(&["run", "dev"]).start();
    std::thread::sleep(std::time::Duration::from_millis(400));
    assert!(fake.asked().is_empty());
    fake.set_port();
    assert_eq!(running.finish().expect(0).stdout, "Agent dev triggered\n");
}

#[test]
fn without_a_held_lock_no_stranger_is_asked() {
    let stranger = listen(|_| triggered());
    let project = Project::without_docker(&format!("[gateway]\nport = {}\n", stranger.port()));
    project.credential("gateway_api_key", "key", KEY);
    // The run in this process fails at once: its configuration cannot be used.
    project.write("agents/dev/agent-config.toml", "timeout = \"long\"\n");
    let done = project.al(&["run", "dev"]).run();
    assert!(done.expect(1).stderr.contains("Configuration error: "), "{}", done.stderr);
    assert!(stranger.requests().is_empty());
}

#[test]
fn an_environments_gateway_is_told_to_run_it() {
    let project = project();
    project.credential("gateway_api_key", "key", KEY);
    let gateway = listen(|_| triggered());
    let dir = project.home().join(".action-llama/environments");
    fs::create_dir_all(&dir).unwrap();
    let content = format!("[server]\nhost = \"a.example\"\n[gateway]\nurl = \"http://127.0.0.1:{}\"\n", gateway.port());
    fs::write(dir.join("prod.toml"), content).unwrap();
    assert_eq!(project.al(&["run", "dev", "-E", "prod"]).run().expect(0).stdout, "Agent dev triggered\n");
    assert_eq!(gateway.request().target, "/control/trigger/dev");
}

/// A scheduler whose runs the test plays.
struct Played {
    project: Project,
    running: Arc<Mutex<Vec<Value>>>,
    record: Arc<Mutex<Value>>,
    fake: Option<FakeScheduler>,
}

impl Played {
    fn new() -> Self {
        let project = project();
        let (running, record) = (Arc::<Mutex<Vec<Value>>>::default(), Arc::<Mutex<Value>>::default());
        let root = project.root();
        let fake = FakeScheduler::start(&project, {
            let (running, record) = (Arc::clone(&running), Arc::clone(&record));
            move |request| answer(&root, &running, &record, request)
        });
        let played = Self { project, running, record, fake: Some(fake) };
        // Something of earlier runs, which is not shown.
        played.log("dev-00000000", "bash", json!({"cmd": "of an earlier run"}));
        played
    }

    fn list(&self, instances: &[(&str, &str)]) {
        let list = instances.iter().map(|(id, status)| json!({"id": id, "agentName": "dev", "statusText": status}));
        *self.running.lock().unwrap() = list.collect();
    }

    fn path(&self) -> PathBuf {
        self.project.root().join(format!(".al/logs/dev-{}.log", UnixMs::now().utc_date()))
    }

    fn log(&self, instance: &str, msg: &str, fields: Value) {
        let mut entry = json!({"level": 30, "time": UnixMs::now().0, "pid": 4711, "hostname": "vps1", "name": "dev",
            "instance": instance});
        entry.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        entry["msg"] = msg.into();
        let mut file = OpenOptions::new().append(true).create(true).open(self.path()).unwrap();
        file.write_all(format!("{entry}\n").as_bytes()).unwrap();
    }

    fn start_run(&self, instance: &str, details: &str) {
        self.list(&[(instance, "")]);
        self.log(instance, &format!("Starting dev container run (triggered by {details})"), json!({}));
    }

    fn end_run(&self, instance: &str, msg: &str, code: i32) {
        let level = if code == 0 || code == 42 { 30 } else { 50 };
        self.log(instance, msg, json!({"level": level, "exitCode": code, "elapsed": "1.2s"}));
        self.list(&[]);
    }
}

fn answer(root: &Path, running: &Mutex<Vec<Value>>, record: &Mutex<Value>, request: &Request) -> Answer {
    match request.target.as_str() {
        "/control/trigger/dev" => {
            *running.lock().unwrap() = vec![json!({"id": ONE, "agentName": "dev", "statusText": null})];
            triggered()
        }
        "/control/instances" => json(&json!({"instances": *running.lock().unwrap()})),
        target if target.starts_with("/api/stats/agents/dev/runs/") && !record.lock().unwrap().is_null() => {
            json(&json!({"run": *record.lock().unwrap()}))
        }
        _ => log_api(root, request).unwrap_or_else(not_found),
    }
}

#[test]
fn a_run_that_is_waited_for_is_shown_to_its_end_and_gives_its_status() {
    let played = Played::new();
    let waiting = played.project.al(&["run", "dev", "--wait"]).start();
    waiting.wait_for("Agent dev triggered\n");
    played.start_run(ONE, "manual");
    waiting.wait_for("Starting dev container run");
    played.log("dev-00000009", "bash", json!({"cmd": "of another run"}));
    played.log(ONE, "bash", json!({"cmd": "git status"}));
    played.list(&[(ONE, "at\nwork")]);
    waiting.wait_for("$ git status").wait_for("status: at work");
    played.log(ONE, "container finished", json!({"exitCode": 0, "elapsed": "0.1s"}));
    played.log(ONE, "signal-result", json!({"type": "return", "value": "the value"}));
    played.log(ONE, "token-usage", json!({"totalTokens": 1234, "cost": 0.0456}));
    // What the container said about its end does not count, as long as the scheduler says that it goes on.
    waiting.wait_for("Container finished (0.1s)");
    played.end_run(ONE, "container exited with error", 7);
    let done = waiting.finish();
    done.expect(7);
    assert!(!done.stdout.contains("earlier run") && !done.stdout.contains("another run"), "{}", done.stdout);
    assert!(done.stdout.contains("returned: the value\nContainer exited with code 7\n"), "{}", done.stdout);
    assert!(done.last_line().starts_with(&format!("{ONE} error (")), "{}", done.last_line());
    assert!(done.last_line().ends_with(" | 1234 tokens ($0.0456)"), "{}", done.last_line());
}

#[test]
fn reruns_belong_to_what_is_waited_for() {
    let played = Played::new();
    let waiting = played.project.al(&["run", "dev", "--wait", "--json"]).start();
    waiting.wait_for("\"start\"");
    played.start_run(ONE, "manual");
    played.log(ONE, "token-usage", json!({"totalTokens": 1, "cost": 0.5}));
    waiting.wait_for("token-usage");
    played.end_run(ONE, "container finished (rerun requested)", 42);
    played.start_run(TWO, "manual (rerun 1/10)");
    waiting.wait_for(&format!("\"event\":\"start\",\"instance\":\"{TWO}\""));
    played.log(TWO, "token-usage", json!({"totalTokens": 2, "cost": 0.25}));
    played.end_run(TWO, "container finished", 0);
    let done = waiting.finish();
    done.expect(0);
    let kinds: Vec<String> = done
        .events()
        .iter()
        .map(|event| format!("{} {}", event["event"].as_str().unwrap(), event["instance"].as_str().unwrap()))
        .collect();
    let log = |instance: &str| format!("log {instance}");
    let [one, two] = [ONE, TWO].map(log);
    let expected = [
        format!("start {ONE}"),
        one.clone(),
        one.clone(),
        one,
        format!("end {ONE}"),
        format!("start {TWO}"),
        two.clone(),
        two.clone(),
        two,
        format!("end {TWO}"),
        format!("result {TWO}"),
    ];
    assert_eq!(kinds, expected);
    let first = &done.events_of("log")[0];
    assert_eq!((&first["pid"], &first["hostname"]), (&json!(4711), &json!("vps1")), "entries are as they are stored");
    let result = done.result();
    assert_eq!(
        (&result["reruns"], &result["usage"]["totalTokens"], &result["usage"]["cost"]),
        (&json!(1), &json!(3), &json!(0.75))
    );
    assert_eq!(
        (&result["result"], &result["exitCode"], &result["error"]),
        (&json!("completed"), &json!(0), &json!(null))
    );
}

#[test]
fn a_rerun_that_does_not_take_place_ends_the_chain_well() {
    let played = Played::new();
    let waiting = played.project.al(&["run", "dev", "--wait", "--json"]).start();
    waiting.wait_for("\"start\"");
    played.start_run(ONE, "manual");
    played.end_run(ONE, "container finished (rerun requested)", 42);
    let done = waiting.finish();
    let result = done.expect(0).result();
    assert_eq!((&result["result"], &result["exitCode"], &result["reruns"]), (&json!("rerun"), &json!(42), &json!(0)));
}

#[test]
fn the_record_of_the_run_says_what_its_log_cannot() {
    let played = Played::new();
    let waiting = played.project.al(&["run", "dev", "--wait", "--json"]).start();
    waiting.wait_for("\"start\"");
    played.start_run(ONE, "manual");
    played.log(ONE, "container finished", json!({"exitCode": 0, "elapsed": "0.1s"}));
    waiting.wait_for("container finished");
    *played.record.lock().unwrap() =
        json!({"instanceId": ONE, "result": "error", "exitCode": null, "error": "Container lost"});
    played.list(&[]);
    let done = waiting.finish();
    let result = done.expect(1).result();
    assert_eq!((&result["error"], &result["exitCode"]), (&json!("Container lost"), &json!(null)));
}

#[test]
fn waiting_outlives_a_restart_of_the_scheduler() {
    let mut played = Played::new();
    let waiting = played.project.al(&["run", "dev", "--wait", "--json"]).start();
    waiting.wait_for("\"start\"");
    played.start_run(ONE, "manual");
    waiting.wait_for("Starting dev");
    let stranger: StubGateway = played.fake.take().unwrap().leave_port();
    let asked = stranger.requests().len();
    played.log(ONE, "bash", json!({"cmd": "x"}));
    // Time for more than one look.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert!(stranger.requests().len() <= asked + 1, "whoever has the port now is not asked");
    let (root, running, record) = (played.project.root(), Arc::clone(&played.running), Arc::clone(&played.record));
    let again = FakeScheduler::start(&played.project, move |request| answer(&root, &running, &record, request));
    played.end_run(ONE, "container finished", 0);
    let done = waiting.finish();
    assert_eq!(done.expect(0).events_of("log").len(), 3);
    assert!(!again.requests().is_empty());
}

#[test]
fn ctrl_c_ends_the_waiting_and_not_the_run() {
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let played = Played::new();
        let waiting = played.project.al(&["run", "dev", "--wait", "--json"]).start();
        waiting.wait_for("\"start\"");
        waiting.signal(signal);
        let done = waiting.finish();
        let result = done.expect(status).result();
        assert!(result["error"].as_str().unwrap().contains("interrupted"), "{result}");
        let asked = played.fake.as_ref().unwrap().asked();
        assert!(!asked.iter().any(|target| target.contains("kill")), "{asked:?}");
    }
}

#[test]
fn without_an_instance_nothing_can_be_waited_for() {
    let project = project();
    let root = project.root();
    let _fake = FakeScheduler::start(&project, move |request| match request.method.as_str() {
        "POST" => json(&json!({"success": true, "message": "Agent dev triggered"})),
        _ => log_api(&root, request).unwrap_or_else(not_found),
    });
    let done = project.al(&["run", "dev", "--wait"]).run();
    assert!(done.expect(1).stderr.contains("does not say which instance"), "{}", done.stderr);
}
