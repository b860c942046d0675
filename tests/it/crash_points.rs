//! The scheduler dies at each named place; the next start makes of it what is promised (scheduler.md §8.3).

use serde_json::{Value, json};

use crate::support::daemon::{Daemon, free_port};
use crate::support::docker::{containers, inspect};
use crate::support::project::Project;
use crate::support::recorder::Recorder;
use crate::support::state_db::StateDb;
use crate::support::wait;
use crate::support::webhook::Delivery;

const SETTINGS: &str = "workRetryDelay = 0\n[webhooks.hook]\ntype = \"test\"\n";
const ON_EVENT: &str = "[[webhooks]]\nsource = \"hook\"\nevents = [\"work\"]\n";
const ON_NOTHING: &str = "[[webhooks]]\nsource = \"hook\"\nevents = [\"never\"]\n";
const MAX_ATTEMPTS: u32 = 3;

/// A project with one agent that takes deliveries, and a place where its runs are counted.
struct Bed {
    project: Project,
    agent: String,
    recorder: Recorder,
}

impl Bed {
    /// The agent says `begin`, does this, and says `end`.
    fn new(work: &str) -> Self {
        let project = Project::with_settings(SETTINGS);
        let recorder = Recorder::start();
        let agent = project.agent("dev", "");
        project.configure(&agent, ON_EVENT);
        let bed = Self { project, agent, recorder };
        bed.script(&bed.agent, work);
        bed
    }

    fn script(&self, agent: &str, work: &str) {
        let shell = self.recorder.shell();
        let text = format!("{shell}say begin {agent} $AL_INSTANCE_ID || exit 3\n{work}\nsay end {agent} || exit 3\n");
        self.project.write(&format!("agents/{agent}/test-script.sh"), text);
    }

    /// A scheduler that dies at this place.
    fn dying_at(&self, point: &str) -> Daemon<'_> {
        let daemon = Daemon::launch(&self.project, free_port(), &[], &[("AL_TEST_CRASH_AT", point)]);
        daemon.wait_for("scheduler started");
        daemon
    }

    /// Delivers something to a scheduler that dies of it; gives what was answered.
    fn crash_with(&self, point: &str) -> (Daemon<'_>, Option<Value>) {
        let mut daemon = self.dying_at(point);
        let answer = delivery("d1").send(daemon.address());
        daemon.crashed();
        StateDb::of(&self.project).assert_invariants(MAX_ATTEMPTS);
        (daemon, answer)
    }

    /// Containers of the agent's runs.
    fn containers(&self) -> Vec<String> {
        containers(&format!("al.agent={}", self.agent))
    }

    /// Directories with credentials and prompts of runs.
    fn stages(&self) -> usize {
        let staging = self.project.staging();
        staging.iter().filter(|dir| dir.to_string_lossy().contains(&self.agent)).count()
    }

    fn begun(&self) -> usize {
        self.recorder.said("begin").len()
    }

    /// The one item is done after so many attempts and one run, and nothing is left.
    #[track_caller]
    fn assert_done(&self, daemon: Daemon<'_>, attempts: u32) {
        let items = daemon.wait_for_items("done", 1);
        assert_eq!(items[0]["attempts"], attempts);
        assert_eq!(daemon.items("queued,running,failed,dead"), [Value::Null; 0]);
        self.assert_nothing_left(daemon, 1);
    }

    #[track_caller]
    fn assert_nothing_left(&self, daemon: Daemon<'_>, runs: usize) {
        wait::until("no container", || self.containers(), Vec::is_empty);
        let counts = || {
            let status = daemon.status();
            (status["running"].clone(), status["agents"][0]["runningCount"].clone())
        };
        wait::until("the status to say so", counts, |counts| *counts == (json!(0), json!(0)));
        daemon.stop().expect(0);
        self.project.assert_clean();
        assert_eq!((self.begun(), self.recorder.said("end").len()), (runs, runs), "runs that began and ended");
        StateDb::of(&self.project).assert_invariants(MAX_ATTEMPTS);
    }

    /// Classes of all runs that have ended, oldest first.
    fn classes(&self) -> Vec<String> {
        StateDb::of(&self.project).column("SELECT class FROM runs ORDER BY finished_at, rowid")
    }
}

fn delivery(id: &str) -> Delivery {
    Delivery::test(id, "work", "one")
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn before_the_commit_nothing_is_stored_and_the_sender_knows() {
    let bed = Bed::new("");
    let (daemon, answer) = bed.crash_with("accept");
    assert_eq!(answer, None);
    assert_eq!(StateDb::of(&bed.project).column("SELECT id FROM work_items"), [""; 0]);
    let daemon = daemon.again();
    let answer = delivery("d1").send(daemon.address()).expect("it is accepted");
    assert_eq!((&answer["matched"], &answer["duplicate"]), (&json!(1), &Value::Null));
    bed.assert_done(daemon, 1);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn between_commit_and_answer_the_repeated_delivery_is_a_duplicate() {
    let bed = Bed::new("");
    let (daemon, answer) = bed.crash_with("accepted");
    assert_eq!(answer, None);
    let stored = StateDb::of(&bed.project).rows("SELECT state, attempts FROM work_items");
    assert!(stored == [["queued", "0"]] || stored == [["running", "1"]], "{stored:?}");
    let daemon = daemon.again();
    let answer = delivery("d1").send(daemon.address()).expect("it is accepted");
    assert_eq!((&answer["matched"], &answer["duplicate"]), (&json!(0), &json!(true)));
    assert!(answer["receiptId"].is_string());
    let attempts = if stored[0][0] == "queued" { 1 } else { 2 };
    bed.assert_done(daemon, attempts);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn between_claim_and_container_the_item_is_tried_again() {
    let bed = Bed::new("grep -q 'attempt 2 of 3' \"$AL_PROMPT_FILE\" || exit 9");
    let (daemon, answer) = bed.crash_with("claimed");
    assert_eq!(answer.expect("it was accepted")["matched"], 1);
    assert_eq!(bed.containers(), [""; 0]);
    assert_eq!(StateDb::of(&bed.project).column("SELECT state FROM containers"), ["starting"]);
    assert_eq!(bed.stages(), 1);
    let daemon = daemon.again();
    bed.assert_done(daemon, 2);
    assert_eq!(bed.classes(), ["launch_failure", "ok"]);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_container_that_was_only_created_is_removed_and_the_item_tried_again() {
    let bed = Bed::new("");
    let (daemon, _) = bed.crash_with("created");
    let [created] = &bed.containers()[..] else { panic!("one container was created") };
    assert_eq!(inspect(created)["State"]["Status"], "created");
    let daemon = daemon.again();
    bed.assert_done(daemon, 2);
    assert_eq!(bed.classes(), ["launch_failure", "ok"]);
}

/// Regression: the client of the killed process may still be at it.
#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_container_that_is_being_removed_already_does_not_keep_the_scheduler_from_starting() {
    let bed = Bed::new("");
    let (daemon, _) = bed.crash_with("created");
    let path = bed.project.docker_that(
        "rm) if mkdir \"${0%/*}/removed\" 2>/dev/null; then PATH=${PATH#*:} docker \"$@\" >/dev/null; \
         echo \"Error response from daemon: removal of container $2 is already in progress\" >&2; exit 1; fi",
    );
    let daemon = Daemon::launch(&bed.project, daemon.port, &[], &[("PATH", &path)]);
    daemon.wait_for("scheduler started");
    bed.assert_done(daemon, 2);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn between_start_and_its_record_the_container_is_found_and_adopted() {
    let bed = Bed::new("sleep 3; al-return found");
    let (daemon, _) = bed.crash_with("started");
    assert_eq!(StateDb::of(&bed.project).column("SELECT state FROM containers"), ["starting"]);
    // Its client goes on without the process.
    wait::until("the run to begin", || bed.begun(), |begun| *begun == 1);
    let daemon = daemon.again_at_once();
    daemon.wait_for("re-adopted").wait_for("scheduler started");
    bed.assert_done(daemon, 1);
    assert_eq!(StateDb::of(&bed.project).rows("SELECT class, return_value FROM runs"), [["ok", "found"]]);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_run_goes_on_and_is_adopted() {
    let bed = Bed::new("sleep 3; al-return 'went on'");
    let mut daemon = bed.dying_at("nowhere");
    delivery("d1").send(daemon.address()).expect("it is accepted");
    wait::until("the run to begin", || bed.begun(), |begun| *begun == 1);
    daemon.crash();
    let daemon = daemon.again_at_once();
    daemon.wait_for("re-adopted").wait_for("scheduler started");
    let status = daemon.status();
    assert_eq!((&status["running"], &status["instances"][0]["agentName"]), (&json!(1), &json!(bed.agent)));
    bed.assert_done(daemon, 1);
    assert_eq!(StateDb::of(&bed.project).rows("SELECT class, return_value FROM runs"), [["ok", "went on"]]);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn what_ended_before_its_record_is_collected() {
    let bed = Bed::new("al-return 'long ago'");
    let (daemon, _) = bed.crash_with("ended");
    let [exited] = &bed.containers()[..] else { panic!("its container is there") };
    assert_eq!(inspect(exited)["State"]["Status"], "exited");
    assert_eq!(bed.stages(), 1);
    let daemon = daemon.again();
    bed.assert_done(daemon, 1);
    assert_eq!(StateDb::of(&bed.project).rows("SELECT class, return_value FROM runs"), [["ok", "long ago"]]);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn what_was_recorded_is_removed_and_does_not_run_again() {
    let bed = Bed::new("");
    let (daemon, _) = bed.crash_with("recorded");
    assert_eq!(bed.containers().len(), 1);
    assert_eq!(StateDb::of(&bed.project).column("SELECT state FROM work_items"), ["done"]);
    let daemon = daemon.again();
    bed.assert_done(daemon, 1);
    assert_eq!(bed.classes(), ["ok"]);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_failure_that_was_not_recorded_is_still_one_failure() {
    let bed = Bed::new("say end $AL_AGENT; exit 7");
    let (daemon, _) = bed.crash_with("ended");
    let daemon = daemon.again();
    let items = daemon.wait_for_items("failed", 1);
    assert_eq!((&items[0]["attempts"], &items[0]["reason"]), (&json!(1), &json!("agent_error")));
    bed.assert_nothing_left(daemon, 1);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_kill_that_was_committed_is_carried_out_by_the_next_process() {
    let bed = Bed::new("say end $AL_AGENT; sleep 60");
    let mut daemon = bed.dying_at("doomed");
    delivery("d1").send(daemon.address()).expect("it is accepted");
    wait::until("the run to be at work", || bed.recorder.said("end"), |ends| ends.len() == 1);
    let kill = format!("/control/agents/{}/kill", bed.agent);
    assert_eq!(daemon.try_post(&kill), None, "the process dies before it can answer");
    daemon.crashed();
    let daemon = daemon.again();
    let items = daemon.wait_for_items("failed", 1);
    assert_eq!((&items[0]["attempts"], &items[0]["reason"]), (&json!(1), &json!("killed")));
    bed.assert_nothing_left(daemon, 1);
}

/// A caller and the agent that it calls; what the caller hears is said.
fn calling(bed: &Bed) -> String {
    let called = bed.project.agent("called", "");
    bed.project.configure(&called, ON_NOTHING);
    bed.script(&called, "sleep 2; al-return pong");
    let call = format!(
        "try=1\nuntil answer=$(printf ping | al-call {called}); do try=$((try + 1)); [ $try -lt 50 ] || exit 4; sleep 0.2; \
         done\nid=$(echo \"$answer\" | jq -r .callId)\n\
         say heard $try \"$(al-wait \"$id\" --timeout 60 | jq -r --arg id \"$id\" '.[$id].returnValue')\""
    );
    bed.script(&bed.agent, &call);
    called
}

#[track_caller]
fn assert_heard(bed: &Bed, daemon: Daemon<'_>, called: &str, is_first: bool, runs: usize) {
    let heard = wait::until("the caller to hear of it", || bed.recorder.said("heard"), |heard| !heard.is_empty());
    assert_eq!(heard[0][1], "pong");
    assert_eq!(heard[0][0] == "1", is_first, "{heard:?}");
    daemon.wait_for_items("done", runs + 1);
    bed.assert_nothing_left(daemon, runs + 1);
    let begun = bed.recorder.said("begin");
    assert_eq!(begun.iter().filter(|line| line[0] == called).count(), runs);
    let calls = StateDb::of(&bed.project).column("SELECT status FROM calls");
    assert_eq!(calls, vec!["completed"; runs]);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_value_reaches_its_caller_through_a_crash() {
    let bed = Bed::new("");
    let called = calling(&bed);
    let mut daemon = bed.dying_at("nowhere");
    delivery("d1").send(daemon.address()).expect("it is accepted");
    wait::until("the called run to begin", || bed.begun(), |begun| *begun == 2);
    daemon.crash();
    let daemon = daemon.again();
    assert_heard(&bed, daemon, &called, true, 1);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_call_that_was_not_committed_is_made_again() {
    let bed = Bed::new("");
    let called = calling(&bed);
    let (daemon, _) = bed.crash_with("call-accept");
    let daemon = daemon.again();
    assert_heard(&bed, daemon, &called, false, 1);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_call_that_was_committed_and_not_answered_is_carried_out() {
    let bed = Bed::new("");
    let called = calling(&bed);
    let (daemon, _) = bed.crash_with("call-accepted");
    let daemon = daemon.again();
    assert_heard(&bed, daemon, &called, false, 2);
}
