//! `kill -9` of the scheduler at any moment, again and again, while deliveries and calls come in: whatever was
//! acknowledged runs exactly once, and nothing is left over (scheduler.md §8).
//!
//! What runs do is seen from outside: they tell a server of the test when they begin and end.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::daemon::{Daemon, free_port};
use crate::support::docker::containers;
use crate::support::project::Project;
use crate::support::recorder::Recorder;
use crate::support::rng::Rng;
use crate::support::state_db::StateDb;
use crate::support::wait;
use crate::support::webhook::{Delivery, SECRET};

/// More than any item needs: what dies or fails here was not lost by chance.
const MAX_ATTEMPTS: u32 = 20;
const SETTINGS: &str = "workRetryDelay = 0\nworkMaxAttempts = 20\n[gateway]\nwebhookRateLimit = 0\n[webhooks.hub]\n\
                        type = \"github\"\ncredential = \"default\"\n[webhooks.hook]\ntype = \"test\"\n";

/// Begins, holds a lock that it does not give back, and ends after the time in its title.
const WORK: &str = r#"
id=$(grep -o '"title":"[^"]*"' "$AL_PROMPT_FILE" | cut -d'"' -f4)
say begin "$id" "$AL_INSTANCE_ID" || exit 3
rlock "$id" >/dev/null
sleep "${id#*-}"
say end "$id" "$AL_INSTANCE_ID" || exit 3
"#;

/// Calls another agent until a call is accepted, and waits for what it says.
const CALLER: &str = r#"
id=$(grep -o '"title":"[^"]*"' "$AL_PROMPT_FILE" | cut -d'"' -f4)
say begin "$id" "$AL_INSTANCE_ID" || exit 3
try=1
until answer=$(printf '%s' "$id-$try" | al-call CALLED); do
  say refused "$id-$try" "$answer"
  try=$((try + 1))
  [ $try -lt 100 ] || exit 4
  sleep 0.1
done
call=$(echo "$answer" | jq -r .callId)
say called "$id-$try" "$call" || exit 3
say waited "$id-$try" "$(al-wait "$call" --timeout 120 | jq -c --arg id "$call" '.[$id]')" || exit 3
say end "$id" "$AL_INSTANCE_ID" || exit 3
"#;

/// Is called, and answers.
const CALLED: &str = r#"
id=$(grep -o '"context":"[^"]*"' "$AL_PROMPT_FILE" | cut -d'"' -f4)
say begin "$id" "$AL_INSTANCE_ID" || exit 3
sleep 0.2
al-return "did $id"
say end "$id" "$AL_INSTANCE_ID" || exit 3
"#;

/// How long a patient sender sends the same delivery again.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the senders know.
#[derive(Default)]
struct Sent {
    /// Title of each delivery that was acknowledged.
    acknowledged: Mutex<BTreeMap<String, Acknowledged>>,
    /// Deliveries that were given up without an answer.
    unanswered: Mutex<Vec<String>>,
}

#[derive(Clone, Debug)]
struct Acknowledged {
    /// Provider and delivery id.
    delivery: String,
    receipt: String,
}

/// A delivery about to be sent, and its title.
fn delivery(number: usize, rng: &mut Rng) -> (String, Delivery) {
    let title = format!("n{number}-0.{}", rng.of(1..9));
    let id = format!("d{number}");
    let delivery = match rng.of(0..3) {
        0 => Delivery::issue(&id, &title),
        1 => Delivery::test(&id, "job", &title),
        _ => Delivery::test(&id, "call", &title),
    };
    (title, delivery)
}

/// Sends at a steady rate until it is told to stop. Half of what is not acknowledged is sent again until it is.
fn send(daemon: std::net::SocketAddr, sent: &Sent, numbers: &AtomicUsize, over: &AtomicBool, mut rng: Rng) {
    while !over.load(Ordering::SeqCst) {
        let (title, delivery) = delivery(numbers.fetch_add(1, Ordering::SeqCst), &mut rng);
        let (is_patient, begin) = (rng.percent(50), Instant::now());
        let answer = loop {
            let answer = delivery.send(daemon);
            // One that the test does not wait for any longer when it has failed.
            if answer.is_some() || !is_patient || over.load(Ordering::SeqCst) && begin.elapsed() > PATIENCE {
                break answer;
            }
            thread::sleep(Duration::from_millis(20));
        };
        match answer {
            Some(answer) => {
                let receipt = answer["receiptId"].as_str().expect("what is acknowledged has a receipt").to_owned();
                let delivery = format!("{} {}", delivery.provider, delivery.id);
                sent.acknowledged.lock().unwrap().insert(title, Acknowledged { delivery, receipt });
            }
            None => sent.unanswered.lock().unwrap().push(title),
        }
        // The rate at which this machine can carry things out.
        thread::sleep(rng.millis(800..1800));
    }
}

fn kills() -> usize {
    std::env::var("AL_TEST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(30)
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn what_was_acknowledged_runs_once_however_often_the_scheduler_is_killed() {
    let mut rng = Rng::from_env();
    let project = Project::with_settings(SETTINGS);
    let recorder = Recorder::start();
    project.credential("github_webhook_secret", "secret", SECRET);
    let agents = agents(&project, &recorder);
    let port = free_port();
    let daemon = Daemon::launch(&project, port, &[], &[]);
    daemon.wait_for("scheduler started");
    let address = daemon.address();
    let (sent, numbers, over) = (Sent::default(), AtomicUsize::new(0), AtomicBool::new(false));
    let daemon = thread::scope(|scope| {
        for rng in [rng.split(), rng.split(), rng.split()] {
            scope.spawn(|| send(address, &sent, &numbers, &over, rng));
        }
        let stop_sending = StopSending(&over);
        let daemon = crash_again_and_again(daemon, &project, &sent, &mut rng);
        drop(stop_sending);
        daemon
    });
    let items = wait::within(Duration::from_secs(60 + 2 * kills() as u64), "all items to be over", || {
        let items = daemon.items("queued,running");
        if items.is_empty() { Ok(daemon.items("done,failed,dead")) } else { Err(json!(items).to_string()) }
    });
    assert_idle(&daemon);
    wait::until("no container", || containers(&project.label()), Vec::is_empty);
    assert_eq!(daemon.get("/locks/status").json()["locks"], json!([]));
    let began = Instant::now();
    let (title, last) = ("n9999-0.1".to_owned(), Delivery::test("last", "job", "n9999-0.1"));
    let receipt = last.send(address).expect("it is acknowledged")["receiptId"].as_str().unwrap().to_owned();
    wait::until("a new delivery to run", || recorder.said("end"), |ends| ends.iter().any(|end| end[0] == title));
    assert!(began.elapsed() < Duration::from_secs(10), "no slot was free: {:?}", began.elapsed());
    sent.acknowledged.lock().unwrap().insert(title, Acknowledged { delivery: "test last".into(), receipt });
    assert_idle(&daemon);
    daemon.stop().expect(0);
    assert_eq!(project.remains(), [""; 0]);
    assert_log_is_quiet(&project);

    let db = StateDb::of(&project);
    db.assert_invariants(MAX_ATTEMPTS);
    let unwell: Vec<&Value> = items.iter().filter(|item| item["state"] != "done").collect();
    assert!(unwell.is_empty(), "items that failed or died: {unwell:#?}");
    assert_runs(&db, &recorder, &sent);
    assert_calls(&db, &recorder, &agents.called);
}

struct Agents {
    called: String,
}

fn agents(project: &Project, recorder: &Recorder) -> Agents {
    let shell = recorder.shell();
    let work = format!("{shell}{WORK}");
    let hub = project.agent("hub", &work);
    project.configure(&hub, "scale = 2\n[[webhooks]]\nsource = \"hub\"\nevents = [\"issues\"]\n");
    let hook = project.agent("hook", &work);
    project.configure(&hook, "scale = 2\n[[webhooks]]\nsource = \"hook\"\nevents = [\"job\"]\n");
    let called = project.agent("called", &format!("{shell}{CALLED}"));
    project.configure(&called, "scale = 2\n[[webhooks]]\nsource = \"hook\"\nevents = [\"never\"]\n");
    let caller = project.agent("caller", &format!("{shell}{}", CALLER.replace("CALLED", &called)));
    project.configure(&caller, "scale = 2\n[[webhooks]]\nsource = \"hook\"\nevents = [\"call\"]\n");
    Agents { called }
}

/// Has the senders stop even when the test fails.
struct StopSending<'a>(&'a AtomicBool);

impl Drop for StopSending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Kills it at moments of chance, in its start as well as later; gives the one that goes on.
fn crash_again_and_again<'p>(mut daemon: Daemon<'p>, project: &Project, sent: &Sent, rng: &mut Rng) -> Daemon<'p> {
    for kill in 1..=kills() {
        // The moment itself is what the test is about: there is no event to wait for.
        let after = if rng.percent(30) {
            rng.millis(0..800)
        } else {
            daemon.wait_for("scheduler started");
            rng.millis(0..2000)
        };
        thread::sleep(after);
        daemon.crash();
        eprintln!("kill {kill} {after:?} later; acknowledged so far: {}", sent.acknowledged.lock().unwrap().len());
        let db = StateDb::of(project);
        db.assert_invariants(MAX_ATTEMPTS);
        let stored = db.deliveries();
        for Acknowledged { delivery, receipt } in sent.acknowledged.lock().unwrap().values() {
            let count = stored.iter().filter(|stored| *stored == delivery).count();
            assert_eq!(count, 1, "items of {delivery}, acknowledged with receipt {receipt}");
        }
        daemon = daemon.again_at_once();
    }
    daemon.wait_for("scheduler started");
    daemon
}

#[track_caller]
fn assert_idle(daemon: &Daemon<'_>) {
    let is_idle =
        |agent: &Value| agent["state"] == "idle" && agent["runningCount"] == 0 && agent["queuedWebhooks"] == 0;
    let all_idle = |status: &Value| {
        status["running"] == 0
            && status["instances"] == json!([])
            && status["agents"].as_array().unwrap().iter().all(is_idle)
    };
    wait::until("all agents to be idle", || daemon.status(), all_idle);
}

/// Nothing panicked, and the database was never given up.
#[track_caller]
fn assert_log_is_quiet(project: &Project) {
    let logs = project.all_logs();
    for bad in ["panicked", "internal error", "request failed", "has been set aside", "\"level\":60"] {
        let line = logs.lines().find(|line| line.contains(bad));
        assert!(line.is_none(), "{line:?}");
    }
}

/// Every delivery that was acknowledged has run once, the others at most once, whatever the number of attempts.
#[track_caller]
fn assert_runs(db: &StateDb, recorder: &Recorder, sent: &Sent) {
    let count = |word: &str| {
        let mut counts: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in recorder.said(word) {
            counts.entry(line[0].clone()).or_default().push(line[1].clone());
        }
        counts
    };
    let (begun, ended) = (count("begin"), count("end"));
    assert_eq!(begun, ended, "every run that began has ended");
    let twice: Vec<_> = begun.iter().filter(|(_, instances)| instances.len() > 1).collect();
    assert!(twice.is_empty(), "run more than once: {twice:?}");
    let acknowledged = sent.acknowledged.lock().unwrap();
    let lost: Vec<_> = acknowledged.iter().filter(|(title, _)| !begun.contains_key(*title)).collect();
    assert!(lost.is_empty(), "acknowledged and never run: {lost:?}");
    let unanswered = sent.unanswered.lock().unwrap();
    let ran = unanswered.iter().filter(|title| begun.contains_key(*title)).count();
    eprintln!(
        "{} acknowledged, {} given up of which {ran} ran, {} runs",
        acknowledged.len(),
        unanswered.len(),
        begun.len()
    );
    // A further attempt is allowed only after one whose container never ran.
    let attempts = "SELECT w.id, w.agent, w.attempts, (SELECT group_concat(class) FROM runs r WHERE r.work_id = w.id) \
                    FROM work_items w";
    for row in db.rows(attempts) {
        let mut classes: Vec<&str> = row[3].split(',').collect();
        assert_eq!(classes.len().to_string(), row[2], "each attempt has its record: {row:?}");
        classes.retain(|class| *class != "launch_failure");
        assert_eq!(classes, ["ok"], "{row:?}");
    }
    eprintln!("attempts: {:?}", db.rows("SELECT attempts, count(*) FROM work_items GROUP BY attempts"));
}

/// Every accepted call was carried out once, and its caller got the answer.
#[track_caller]
fn assert_calls(db: &StateDb, recorder: &Recorder, called: &str) {
    let open = db.rows("SELECT * FROM calls WHERE status NOT IN ('completed', 'error')");
    assert!(open.is_empty(), "calls that hang: {open:?}");
    let begun: Vec<String> = recorder.said("begin").into_iter().map(|mut line| line.swap_remove(0)).collect();
    let answers = recorder.said("waited");
    for call in recorder.said("called") {
        assert_eq!(begun.iter().filter(|id| **id == call[0]).count(), 1, "runs of call {call:?}");
        let answer = answers.iter().find(|answer| answer[0] == call[0]).map(|answer| answer[1..].join(" "));
        let answer: Value = serde_json::from_str(&answer.expect("the caller waited")).unwrap();
        assert_eq!(answer, json!({"status": "completed", "returnValue": format!("did {}", call[0])}), "{call:?}");
        let record = db.rows(&format!("SELECT status, target_agent FROM calls WHERE call_id = '{}'", call[1]));
        assert_eq!(record, [["completed", called]], "{call:?}");
    }
    eprintln!("{} calls, {} not accepted", answers.len(), recorder.said("refused").len());
    assert!(!answers.is_empty(), "no call was made");
}
