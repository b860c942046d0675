//! What people can do to a running scheduler: pause, resume, kill, stop, and the commands that do so (scheduler.md §2.4,
//! §7, §15).

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::al::hangups_count;
use crate::support::daemon::{Daemon, free_port};
use crate::support::docker::containers;
use crate::support::http::{exchange, request_bytes};
use crate::support::project::{GATE, HOOK, NEVER, Project};
use crate::support::state_db::{Obstacle, StateDb};
use crate::support::wait;

/// Every second.
const TICKING: &str = "schedule = \"* * * * * *\"\n";

fn labelled(agent: &str) -> Vec<String> {
    containers(&format!("al.agent={agent}"))
}

/// Posts without a body and gives the answer's message; it has to be a success.
#[track_caller]
fn post(daemon: &Daemon<'_>, target: &str) -> String {
    let answer = daemon.post(target, &json!({}));
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()["message"].as_str().unwrap().to_owned()
}

#[test]
fn a_paused_scheduler_takes_in_work_and_starts_none_even_after_a_restart() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", NEVER);
    let daemon = Daemon::start(&project);
    daemon.wait_for_initial_run(&agent);
    assert_eq!(post(&daemon, "/control/pause"), "Scheduler paused");
    assert_eq!(post(&daemon, "/control/pause"), "Scheduler paused", "twice is no error");
    for id in ["e1", "e2"] {
        assert_eq!(daemon.work(id, "exit 0").json()["matched"], 1);
    }
    let status = daemon.status();
    assert_eq!(status["scheduler"]["paused"], true);
    assert_eq!((&status["agents"][0]["queuedWebhooks"], &status["agents"][0]["enabled"]), (&json!(2), &json!(true)));
    // A person's wish counts all the same.
    daemon.trigger(&agent, "echo by hand");
    project.wait_said(&agent, "by hand");
    daemon.stop().expect(0);
    let runs =
        |how: &str| project.logged(&agent, &format!("Starting {agent} container run (triggered by {how})")).len();
    assert_eq!((runs("webhook"), runs("manual"), runs("schedule")), (0, 1, 1));

    let daemon = Daemon::start(&project);
    assert_eq!(daemon.status()["scheduler"]["paused"], true);
    assert!(daemon.running().output().contains("paused"), "{}", daemon.running().output());
    assert_eq!(daemon.items("queued").len(), 2);
    assert_eq!(post(&daemon, "/control/resume"), "Scheduler resumed");
    let mut done = daemon.wait_for_items("done", 2);
    done.sort_by_key(|item| item["startedAt"].as_str().unwrap().to_owned());
    assert_eq!([&done[0]["source"], &done[1]["source"]], ["e1", "e2"]);
    daemon.stop().expect(0);
    assert_eq!(runs("schedule"), 1, "no initial run while paused");
    for msg in ["Scheduler paused via control API", "Scheduler resumed via control API"] {
        assert!(!project.logged("scheduler", msg).is_empty(), "{msg}");
    }
}

#[test]
fn a_paused_agent_is_left_out_and_the_others_go_on() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", NEVER);
    let other = project.on_hook("other", "");
    let caller = project.on_hook("caller", "");
    let daemon = Daemon::start(&project);
    daemon.wait_for_initial_run(&agent);
    // Accepted before the pause.
    daemon.post("/control/pause", &json!({}));
    assert_eq!(daemon.work("before", "exit 0").json()["matched"], 3);
    assert_eq!(post(&daemon, &format!("/control/agents/{agent}/pause")), format!("Agent {agent} paused"));
    daemon.post("/control/resume", &json!({}));
    daemon.wait_for_items("done", 2);
    let skipped = daemon.work("while", "exit 0").json();
    assert_eq!((&skipped["matched"], &skipped["skipped"]), (&json!(2), &json!(1)));
    assert_eq!(daemon.agent(&agent)["enabled"], false);
    daemon.wait_for_items("done", 4);
    daemon.wait_until_idle();
    daemon.trigger(&caller, &format!("echo x | al-call {agent}; echo end"));
    project.wait_said(&caller, "end");
    let reason = format!("target agent \"{agent}\" is paused");
    project.wait_said(&caller, &json!({"ok": false, "reason": reason}).to_string());
    daemon.trigger(&agent, "echo by hand");
    project.wait_said(&agent, "by hand");
    daemon.stop().expect(0);

    let daemon = Daemon::start(&project);
    let queued = daemon.items("queued");
    assert_eq!(json!([queued[0]["agent"], queued[0]["source"]]), json!([agent, "before"]));
    assert_eq!((&daemon.agent(&agent)["enabled"], &daemon.agent(&other)["enabled"]), (&json!(false), &json!(true)));
    assert!(daemon.running().output().contains(&agent) && daemon.running().output().contains("paused"));
    assert_eq!(post(&daemon, &format!("/control/agents/{agent}/enable")), format!("Agent {agent} enabled"));
    wait::until("what waited", || daemon.items("queued"), Vec::is_empty);
    assert_eq!(post(&daemon, &format!("/control/agents/{agent}/disable")), format!("Agent {agent} disabled"));
    assert_eq!(post(&daemon, &format!("/control/agents/{agent}/resume")), format!("Agent {agent} resumed"));
    let unknown = daemon.post("/control/agents/ghost/pause", &json!({}));
    assert_eq!((unknown.status, unknown.json()), (404, json!({"error": "Agent ghost not found"})));
    daemon.stop().expect(0);
}

#[test]
fn schedules_are_silent_while_paused_and_nothing_is_made_up() {
    let project = Project::new();
    let agent = project.agent("dev", "exit 0");
    project.configure(&agent, &format!("scale = 2\n{TICKING}"));
    let daemon = Daemon::start(&project);
    let ticks = || project.logged("scheduler", "triggering scheduled run").len();
    wait::until("a tick", ticks, |count| *count >= 1);
    for (stop, go) in [("/control/pause".into(), "/control/resume".into()), {
        let base = format!("/control/agents/{agent}");
        (format!("{base}/pause"), format!("{base}/resume"))
    }] {
        let (stop, go): (String, String) = (stop, go);
        post(&daemon, &stop);
        let before = ticks();
        assert_eq!(daemon.agent(&agent)["nextRunAt"], Value::Null);
        assert_eq!(daemon.status()["scheduler"]["cronJobCount"], i32::from(stop == "/control/pause"));
        // Two firings go by.
        let second = || action_llama::base::clock::UnixMs::now().0 / 1000;
        let begin = second();
        wait::until("two seconds", second, |now| *now >= begin + 3);
        assert_eq!(ticks(), before);
        post(&daemon, &go);
        assert!(daemon.agent(&agent)["nextRunAt"].is_string());
        assert_eq!(daemon.status()["scheduler"]["cronJobCount"], 1);
        wait::until("a tick", ticks, |count| *count > before);
    }
    daemon.post("/control/stop", &json!({"kill": true}));
    daemon.finish().expect(0);
}

#[test]
fn an_agent_without_slots_is_refused_everywhere() {
    let project = Project::with_settings(HOOK);
    let off = project.on_hook("off", &format!("scale = 0\n{NEVER}"));
    let caller = project.on_hook("caller", "");
    let daemon = Daemon::start(&project);
    assert_eq!(daemon.work("e", "exit 0").json()["matched"], 1);
    let refused = daemon.post(&format!("/control/trigger/{off}"), &json!({}));
    assert_eq!((refused.status, refused.json()), (409, json!({"error": format!("Agent {off} is disabled (scale 0)")})));
    daemon.wait_for_items("done", 1);
    daemon.wait_until_idle();
    daemon.trigger(&caller, &format!("echo x | al-call {off}; echo end"));
    let reason = format!("target agent \"{off}\" is disabled");
    project.wait_said(&caller, &json!({"ok": false, "reason": reason}).to_string());
    post(&daemon, &format!("/control/agents/{off}/enable"));
    let shown = daemon.agent(&off);
    assert_eq!(json!([shown["enabled"], shown["scale"], shown["nextRunAt"]]), json!([false, 0, null]));
    assert_eq!(daemon.status()["scheduler"]["cronJobCount"], 0);
    daemon.stop().expect(0);
}

#[test]
fn a_kill_ends_all_runs_of_an_agent_or_one_and_the_next_item_starts() {
    let port = free_port();
    let project = Project::with_settings(&format!("{HOOK}[gateway]\nport = {port}\n"));
    let agent = project.on_hook("dev", "scale = 2\n");
    let daemon = Daemon::on(&project, port);
    for id in ["e1", "e2", "e3"] {
        daemon.work(id, &format!("[ {id} = e3 ] && exit 0; echo {id}; {GATE}"));
    }
    project.wait_said(&agent, "e1");
    project.wait_said(&agent, "e2");
    let instances = daemon.wait_for_runs(&agent, 2);
    let killed = project.al(&["kill", &instances[0]]).run();
    killed.expect(0);
    assert_eq!(killed.stdout, format!("Instance {} killed\n", instances[0]));
    daemon.wait_for_items("done", 1);
    daemon.wait_for_runs(&agent, 1);
    let killed = project.al(&["kill", &agent]).run();
    killed.expect(0);
    assert_eq!(killed.stdout, format!("Killed 1 instance(s) of {agent}\n"));
    let failed = daemon.wait_for_items("failed", 2);
    for item in &failed {
        assert_eq!(
            json!([item["reason"], item["attempts"], item["lastError"]]),
            json!(["killed", 1, "Container exited with code 137 (killed)"])
        );
    }
    daemon.wait_until_idle();
    let none = daemon.post(&format!("/control/agents/{agent}/kill"), &json!({})).json();
    assert_eq!(none, json!({"success": true, "message": format!("Killed 0 instance(s) of {agent}"), "killed": 0}));
    let gone = project.al(&["kill", &instances[0]]).run();
    gone.expect(1);
    assert!(gone.stderr.contains(&format!("Instance {} not found", instances[0])), "{}", gone.stderr);
    assert_eq!(daemon.agent(&agent)["enabled"], true);
    daemon.stop().expect(0);
    project.assert_clean();
}

#[test]
fn a_kill_while_the_container_is_made_prevents_the_start() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "");
    let path = project.docker_that("create) sleep 3");
    let daemon = Daemon::launch(&project, free_port(), &[], &[("PATH", &path)]);
    daemon.wait_for("scheduler started");
    daemon.work("e", "echo begun; exit 0");
    let instance = daemon.wait_for_runs(&agent, 1).remove(0);
    assert_eq!(post(&daemon, &format!("/control/kill/{instance}")), format!("Instance {instance} killed"));
    let failed = daemon.wait_for_items("failed", 1);
    assert_eq!(json!([failed[0]["reason"], failed[0]["lastError"]]), json!(["killed", "Container killed"]));
    wait::until("no container", || labelled(&agent), Vec::is_empty);
    assert!(project.logged(&agent, "output").is_empty());
    daemon.stop().expect(0);
    project.assert_clean();
}

#[test]
fn a_run_can_have_itself_shut_down() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "");
    let daemon = Daemon::start(&project);
    daemon.work("e", "rlock k; al-shutdown 'too much'; sleep 60");
    let failed = daemon.wait_for_items("failed", 1);
    assert_eq!(
        json!([failed[0]["reason"], failed[0]["lastError"]]),
        json!(["killed", "Container exited with code 137 (killed: shutdown requested: too much)"])
    );
    wait::until("the error to be shown", || daemon.agent(&agent)["state"].clone(), |state| *state == "error");
    assert_eq!(daemon.agent(&agent)["lastError"], failed[0]["lastError"]);
    assert_eq!(daemon.get("/locks/status").json(), json!({"locks": []}));
    daemon.stop().expect(0);
    project.assert_clean();
}

/// A scheduler with a run and an item that waits.
fn with_work(project: &Project, port: u16) -> (Daemon<'_>, String) {
    let agent = project.on_hook("dev", "");
    let daemon = Daemon::on(project, port);
    daemon.work("e1", &format!("echo up; {GATE}; exit 0"));
    project.wait_said(&agent, "up");
    daemon.work("e2", "exit 0");
    (daemon, agent)
}

#[test]
fn a_stop_makes_dead_letters_of_what_waits() {
    let port = free_port();
    let project = Project::with_settings(&format!("{HOOK}[gateway]\nport = {port}\n"));
    let (daemon, agent) = with_work(&project, port);
    let stop = project.al(&["stop"]).run();
    stop.expect(0);
    assert_eq!(stop.stdout, "Scheduler stopping\n");
    let done = daemon.finish();
    done.expect(0);
    assert!(done.stdout.ends_with("scheduler stopped\n"), "{}", done.stdout);
    assert_eq!(labelled(&agent).len(), 1);
    // Without a scheduler the database is looked into.
    let listed = project.al(&["queue", "--state", "dead", "--json"]).run();
    listed.expect(0);
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    let item = &listed["items"][0];
    assert_eq!(json!([item["source"], item["reason"], listed["total"]]), json!(["e2", "cleared", 1]));
    let daemon = Daemon::on(&project, port);
    let instance = daemon.wait_for_runs(&agent, 1).remove(0);
    let retry = project.al(&["queue", "retry", &item["id"].to_string()]).run();
    retry.expect(0);
    project.open_gate(&instance);
    daemon.wait_for_items("done", 2);
    daemon.stop().expect(0);
    project.assert_clean();
}

#[test]
fn a_stop_can_keep_the_queue_and_kill_the_runs() {
    let port = free_port();
    let project = Project::with_settings(&format!("{HOOK}[gateway]\nport = {port}\n"));
    let (daemon, agent) = with_work(&project, port);
    project.al(&["stop", "--keep-queue", "--kill"]).run().expect(0);
    daemon.finish().expect(0);
    assert_eq!(labelled(&agent), [""; 0]);
    let daemon = Daemon::on(&project, port);
    daemon.wait_for_items("done", 1);
    let failed = daemon.wait_for_items("failed", 1);
    assert_eq!(
        json!([failed[0]["source"], failed[0]["reason"], failed[0]["lastError"]]),
        json!(["e1", "killed", "Container exited with code 137 (killed: scheduler stopped)"])
    );
    daemon.stop().expect(0);
    project.assert_clean();
}

#[test]
fn a_stop_is_an_error_of_calls_that_wait() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "");
    let called = project.on_hook("called", "");
    let daemon = Daemon::start(&project);
    post(&daemon, "/control/pause");
    let caller = daemon.trigger(
        &agent,
        &format!("id=$(echo x | al-call {called} | jq -r .callId); echo called; {GATE}; al-wait $id | jq -r .[].errorMessage; echo end"),
    );
    project.wait_said(&agent, "called");
    let port = daemon.port;
    daemon.post("/control/stop", &json!({"clearQueue": true}));
    daemon.finish().expect(0);
    let daemon = Daemon::on(&project, port);
    project.open_gate(&caller);
    project.wait_said(&agent, "scheduler stopped");
    daemon.wait_until_idle();
    daemon.stop().expect(0);
    project.assert_clean();
}

#[test]
fn a_second_signal_kills_the_runs_and_shows_in_the_status() {
    for (signal, status) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let project = Project::with_settings(HOOK);
        let agent = project.on_hook("dev", "");
        // The first signal has its effect while a launch is under way, which the end waits for.
        let path = project.docker_that("create) sleep 4");
        let daemon = Daemon::launch(&project, free_port(), &[], &[("PATH", &path)]);
        daemon.wait_for("scheduler started");
        daemon.work("e", &format!("echo up; {GATE}"));
        daemon.wait_for_runs(&agent, 1);
        daemon.running().signal(signal);
        wait::until("the end to begin", || project.all_logs(), |logs| logs.contains("stopping"));
        daemon.running().signal(signal);
        daemon.finish().expect(status);
        assert_eq!(labelled(&agent), [""; 0]);
        let daemon = Daemon::start(&project);
        let failed = daemon.wait_for_items("failed", 1);
        assert_eq!(failed[0]["reason"], "killed");
        assert!(failed[0]["lastError"].as_str().unwrap().contains("interrupted by user"), "{failed:?}");
        daemon.stop().expect(0);
        project.assert_clean();
    }
}

#[test]
fn a_stop_waits_for_what_is_being_committed_and_launches_it() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "");
    let ticking = project.agent("ticking", GATE);
    project.configure(&ticking, &format!("scale = 0\n{NEVER}"));
    let daemon = Daemon::start(&project);
    daemon.work("e", &format!("echo up; {GATE}"));
    project.wait_said(&agent, "up");
    project.configure(&ticking, TICKING);
    // Nothing is committed any more as soon as the agent is known: its first firing wants to be.
    let armed = || project.logged("scheduler", "hot reload: agent updated").len();
    wait::until("the schedule", armed, |count| *count == 1);
    let obstacle = Obstacle::of(&project);
    wait::until("a tick", || project.logged("scheduler", "triggering scheduled run").len(), |count| *count == 1);
    daemon.running().signal(Signal::TERM);
    daemon.wait_for("goes on");
    drop(obstacle);
    daemon.finish().expect(0);
    let lost = StateDb::of(&project).column("SELECT agent FROM containers WHERE state = 'starting'");
    assert_eq!(lost, [""; 0]);
    let daemon = Daemon::start(&project);
    daemon.post("/control/stop", &json!({"kill": true}));
    daemon.finish().expect(0);
    project.assert_clean();
}

/// A terminal that is closed hangs up more than once: its shell does, and the system when the shell has gone.
#[test]
fn whoever_hangs_up_twice_kills_nothing() {
    if !hangups_count() {
        return;
    }
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "");
    // The first signal has its effect while a launch is under way, which the end waits for.
    let path = project.docker_that("create) sleep 4");
    let daemon = Daemon::launch(&project, free_port(), &[], &[("PATH", &path)]);
    daemon.wait_for("scheduler started");
    daemon.work("e", &format!("echo up; {GATE}"));
    let instance = daemon.wait_for_runs(&agent, 1).remove(0);
    daemon.running().signal(Signal::HUP);
    wait::until("the end to begin", || project.all_logs(), |logs| logs.contains("stopping"));
    daemon.running().signal(Signal::HUP);
    daemon.finish().expect(0);
    let daemon = Daemon::start(&project);
    project.open_gate(&instance);
    assert_eq!(daemon.wait_for_items("done", 1)[0]["attempts"], 1);
    daemon.stop().expect(0);
    project.assert_clean();
}

#[test]
fn a_stop_that_kills_leaves_nothing_running_whatever_just_came() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "scale = 4\n");
    let daemon = Daemon::start(&project);
    let address = daemon.address();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(move || {
                let body = json!({"event": "e", "title": "sleep 0.2"}).to_string();
                let delivery = request_bytes("POST", "/webhooks/test", "", body.as_bytes());
                // Until nobody listens any more.
                while exchange(address, &delivery).is_ok_and(|answer| !answer.is_empty()) {}
            });
        }
        daemon.wait_for_runs(&agent, 4);
        daemon.post("/control/stop", &json!({"kill": true}));
    });
    daemon.finish().expect(0);
    assert_eq!(labelled(&agent), [""; 0]);
}

#[test]
fn commands_say_what_the_scheduler_says() {
    let port = free_port();
    let project = Project::with_settings(&format!("{HOOK}[gateway]\nport = {port}\n"));
    let agent = project.on_hook("dev", NEVER);
    let daemon = Daemon::on(&project, port);
    daemon.wait_for_initial_run(&agent);
    let run = |args: &[&str]| {
        let done = project.al(args).run();
        done.expect(0);
        done.stdout
    };
    assert_eq!(run(&["pause"]), "Scheduler paused\n");
    assert!(run(&["stat"]).contains("Status: PAUSED"));
    assert_eq!(run(&["resume"]), "Scheduler resumed\n");
    assert_eq!(run(&["pause", &agent]), format!("Agent {agent} paused\n"));
    assert!(run(&["stat", &agent]).contains("Status: PAUSED"));
    assert_eq!(run(&["resume", &agent]), format!("Agent {agent} resumed\n"));
    daemon.work("e1", &format!("rlock 'my lock'; echo up; {GATE}"));
    project.wait_said(&agent, "up");
    daemon.work("e2", "exit 0");
    let stat = run(&["stat"]);
    for part in ["Status: Running", "1 running", "webhook:test", &format!("{agent}: my lock (held for ")] {
        assert!(stat.contains(part), "{part:?} in {stat}");
    }
    assert!(stat.contains(&format!("Gateway: http://localhost:{port}")), "{stat}");
    let status: Value = serde_json::from_str(&run(&["stat", "--json"])).unwrap();
    assert_eq!(status["agents"][0]["runningCount"], 1);
    assert_eq!(status["locks"][0]["resourceKey"], "my lock");
    let queue = run(&["queue"]);
    assert!(queue.lines().any(|line| line.contains("e2") && line.contains("queued")), "{queue}");
    assert!(queue.lines().any(|line| line.contains("e1") && line.contains("running")), "{queue}");
    let items = daemon.items("queued");
    let shown: Value = serde_json::from_str(&run(&["queue", "show", &items[0]["id"].to_string()])).unwrap();
    assert_eq!(shown["context"]["title"], "exit 0");
    assert_eq!(run(&["queue", "drop", &items[0]["id"].to_string()]), format!("Item {} dropped\n", items[0]["id"]));
    let logs = run(&["logs", &agent, "-n", "5"]);
    assert!(logs.contains("up"), "{logs}");
    assert!(run(&["logs", "-r"]).contains("webhook triggering agent"));
    let busy = project.al(&["run", &agent]).run();
    busy.expect(1);
    assert!(busy.stderr.contains(&format!("Agent {agent} has no free runner")), "{}", busy.stderr);
    assert!(run(&["kill", &agent]).starts_with("Killed 1 instance(s)"));
    daemon.wait_until_idle();
    let waited = project.al(&["run", &agent, "echo followed; exit 12", "--wait"]).run();
    waited.expect(12);
    assert!(waited.stdout.contains("followed"), "{}", waited.stdout);
    assert_eq!(run(&["stop"]), "Scheduler stopping\n");
    daemon.finish().expect(0);
    let gone = project.al(&["pause"]).run();
    gone.expect(1);
    assert!(gone.stderr.contains("al start"), "{}", gone.stderr);
}
