//! A Docker daemon that goes away and comes back (scheduler.md §2.2).

use std::fs;
use std::path::PathBuf;

use action_llama::base::clock::UnixMs;
use serde_json::{Value, json};

use crate::support::daemon::{Daemon, free_port};
use crate::support::docker::containers;
use crate::support::project::{GATE, HOOK, NEVER, Project};
use crate::support::wait;

/// What `docker` says when no daemon answers.
const GONE: &str = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?";

/// A daemon that can be made to be away.
struct Away {
    flag: PathBuf,
    path: String,
}

impl Away {
    fn prepare(project: &Project) -> Self {
        let flag = project.outer().join("away");
        let arm = format!("*) if [ -e {} ]; then echo '{GONE}' >&2; exit 1; fi", flag.display());
        Self { path: project.docker_that(&arm), flag }
    }

    fn begin(&self) {
        fs::write(&self.flag, "").unwrap();
    }

    fn end(&self) {
        fs::remove_file(&self.flag).unwrap();
    }

    fn start<'p>(&self, project: &'p Project) -> Daemon<'p> {
        let daemon = Daemon::launch(project, free_port(), &[], &[("PATH", &self.path)]);
        daemon.wait_for("scheduler started");
        daemon
    }
}

#[test]
fn work_waits_until_docker_answers_again_and_none_of_it_dies() {
    let project = Project::with_settings(&format!("workMaxAttempts = 1\nworkRetryDelay = 0\n{HOOK}"));
    let agent = project.on_hook("dev", "");
    let other = project.on_hook("other", NEVER);
    let ticking = project.agent("ticking", "exit 0");
    project.configure(&ticking, NEVER);
    let away = Away::prepare(&project);
    let daemon = away.start(&project);
    for name in [&other, &ticking] {
        daemon.wait_for_initial_run(name);
    }
    daemon.post(&format!("/control/agents/{other}/pause"), &json!({}));
    let instant = UnixMs(UnixMs::now().0 / 1000 * 1000 + 5_000).to_iso();
    project.configure(&ticking, &format!("schedule = \"{instant}\"\n"));
    wait::until("the schedule", || daemon.agent(&ticking)["nextRunAt"].clone(), |next| *next == instant.as_str());
    away.begin();
    daemon.work("e1", "exit 0");
    daemon.work("e2", "exit 0");
    wait::until("it to be noticed", || daemon.status()["scheduler"]["dockerError"].clone(), Value::is_string);
    assert_eq!(project.logged("scheduler", "Docker is not answering").len(), 1);
    daemon.wait_for("scheduler: Docker is not answering");
    let refused = daemon.post(&format!("/control/trigger/{agent}"), &json!({}));
    assert_eq!((refused.status, refused.json()), (503, json!({"error": "Trigger not available"})));
    wait::until("the firing", || daemon.agent(&ticking)["nextRunAt"].clone(), Value::is_null);
    assert_eq!(daemon.items("running,queued").len(), 2);
    away.end();
    let items = daemon.wait_for_items("done", 2);
    assert!(items.iter().all(|item| item["attempts"] == 1), "{items:?}");
    let msg = format!("Starting {ticking} container run (triggered by schedule)");
    wait::until("the run that was due", || project.logged(&ticking, &msg).len(), |count| *count == 2);
    assert_eq!(project.logged("scheduler", "Docker is answering again").len(), 1);
    assert_eq!(daemon.status()["scheduler"].get("dockerError"), None);
    daemon.wait_until_idle();
    daemon.stop().expect(0);
    project.assert_clean();
}

#[test]
fn a_run_in_flight_outlives_a_daemon_that_is_away_for_a_moment() {
    let project = Project::with_settings(&format!("workMaxAttempts = 1\n{HOOK}"));
    let agent = project.on_hook("dev", "");
    let away = Away::prepare(&project);
    let daemon = away.start(&project);
    daemon.work("e", &format!("echo up; {GATE}; exit 0"));
    project.wait_said(&agent, "up");
    let instance = daemon.wait_for_runs(&agent, 1).remove(0);
    away.begin();
    project.open_gate(&instance);
    wait::until("it to be noticed", || daemon.status()["scheduler"]["dockerError"].clone(), Value::is_string);
    away.end();
    daemon.wait_for_items("done", 1);
    daemon.wait_until_idle();
    // Not even the one that asked for the gateway, should Docker have gone just then.
    wait::until("no container", || containers(&project.label()), Vec::is_empty);
    daemon.stop().expect(0);
    project.assert_clean();
}

#[test]
fn what_is_adopted_before_the_images_are_there_waits_for_them() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "");
    let (away, building) = (project.outer().join("away"), project.outer().join("building"));
    let path = project.docker_that(&format!(
        "build) while [ -e {} ]; do sleep 0.1; done;; *) if [ -e {} ]; then echo '{GONE}' >&2; exit 1; fi",
        building.display(),
        away.display()
    ));
    let port = free_port();
    let mut daemon = Daemon::launch(&project, port, &[], &[("PATH", &path)]);
    daemon.wait_for("scheduler started");
    let task = format!("echo up; {GATE}; exit 42");
    daemon.post(&format!("/control/trigger/{agent}"), &json!({"prompt": task}));
    project.wait_said(&agent, "up");
    let instance = daemon.wait_for_runs(&agent, 1).remove(0);
    daemon.crash();

    fs::write(&building, "").unwrap();
    project.write(&format!("agents/{agent}/Dockerfile"), "FROM al-agent:latest\nRUN true\n");
    let initial = project.agent("initial", "exit 0");
    project.configure(&initial, NEVER);
    project.write(&format!("agents/{initial}/Dockerfile"), "FROM al-agent:latest\nRUN true\n");
    let daemon = Daemon::launch(&project, port, &[], &[("PATH", &path)]);
    daemon.wait_for(&format!("{agent}: {instance} re-adopted"));
    fs::write(&away, "").unwrap();
    project.open_gate(&instance);
    wait::until("it to be noticed", || daemon.status()["scheduler"]["dockerError"].clone(), Value::is_string);
    fs::remove_file(&away).unwrap();
    wait::until("it to be over", || daemon.status()["scheduler"]["dockerError"].clone(), Value::is_null);
    wait::until("the end", || project.logged(&agent, "container finished (rerun requested)").len(), |n| *n == 1);
    assert_eq!(daemon.status()["scheduler"]["initializing"], true);
    assert_eq!(project.logged("scheduler", &format!("{agent} requested rerun")).len(), 0);

    fs::remove_file(&building).unwrap();
    daemon.wait_for("started (manual (rerun 1/10))");
    let said = || project.logged(&agent, "output").iter().filter(|entry| entry["text"] == "up").count();
    wait::until("the rerun", said, |count| *count == 2);
    // Neither was it too early for the initial run.
    daemon.wait_for(&format!("{initial}: running (schedule)"));
    daemon.post("/control/stop", &json!({"kill": true}));
    daemon.finish().expect(0);
    project.assert_clean();
}
