//! Changes in `agents/` while the scheduler runs (scheduler.md §9).

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::daemon::{Daemon, free_port};
use crate::support::docker::{inspect, try_docker};
use crate::support::project::{GATE, HOOK, NEVER, ON_HOOK, Project};
use crate::support::wait;

const TICKING: &str = "schedule = \"* * * * * *\"\n";

/// Messages about reloads in the scheduler's log that concern an agent.
fn reloads(project: &Project, agent: &str) -> Vec<String> {
    let log = project.log("scheduler");
    let of_agent = log.iter().filter(|entry| entry["agent"] == agent);
    let messages = of_agent.filter_map(|entry| entry["msg"].as_str());
    messages.filter(|msg| msg.starts_with("hot reload")).map(str::to_owned).collect()
}

/// Waits until this many reloads of an agent have ended so.
#[track_caller]
fn wait_for_reload(project: &Project, agent: &str, msg: &str, count: usize) {
    let seen = || reloads(project, agent);
    wait::until(&format!("{count} × {msg}"), seen, |seen| seen.iter().filter(|found| *found == msg).count() == count);
}

/// Waits until this is shown; what is logged is shown a moment later.
#[track_caller]
fn shows(look: impl FnMut() -> Value, expected: Value) {
    wait::until(&format!("{expected} to be shown"), look, |seen| *seen == expected);
}

const UPDATED: &str = "hot reload: agent updated";

fn schedule_runs(project: &Project, agent: &str) -> usize {
    project.logged(agent, &format!("Starting {agent} container run (triggered by schedule)")).len()
}

#[test]
fn files_that_are_as_they_were_or_do_not_count_are_no_change() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "");
    let other = project.on_hook("other", "");
    let daemon = Daemon::start(&project);
    let dir = project.root().join("agents").join(&agent);
    for file in ["ACTIONS.md", "agent-config.toml", "test-script.sh"] {
        let content = fs::read(dir.join(file)).unwrap();
        fs::write(dir.join(file), &content).unwrap();
        // As editors save: a new file takes the place.
        fs::write(dir.join("new~"), &content).unwrap();
        fs::rename(dir.join("new~"), dir.join(file)).unwrap();
    }
    fs::write(dir.join(".ACTIONS.md.swp"), "swap").unwrap();
    fs::write(dir.join("notes.txt"), "notes").unwrap();
    project.write(&format!("agents/{agent}/node_modules/x/index.js"), "x");
    project.write("agents/README.md", "not an agent");
    project.write("agents/.hidden/agent-config.toml", "broken [");
    // What comes later is noticed later: whatever the others mean has been found out by then.
    project.write(&format!("agents/{other}/ACTIONS.md"), "Do it better.\n");
    wait_for_reload(&project, &other, UPDATED, 1);
    assert_eq!(reloads(&project, &agent), [""; 0]);
    let names: Vec<Value> =
        daemon.status()["agents"].as_array().unwrap().iter().map(|agent| agent["name"].clone()).collect();
    assert_eq!(names, [agent, other]);
    daemon.stop().expect(0);
}

#[test]
fn the_next_run_is_the_new_one_and_a_run_in_flight_stays_what_it_was() {
    let project = Project::with_settings(HOOK);
    let agent = project.agent("dev", &format!("echo old up; {GATE}; echo old end; exit 0"));
    project.configure(&agent, ON_HOOK);
    let daemon = Daemon::start(&project);
    daemon.work("e1", "");
    project.wait_said(&agent, "old up");
    let instance = daemon.wait_for_runs(&agent, 1).remove(0);
    let image = inspect(&format!("al-{instance}"))["Image"].as_str().unwrap().to_owned();
    project.write(&format!("agents/{agent}/test-script.sh"), "echo new; exit 0");
    daemon.wait_for("Rebuilding (config changed)").wait_for(&format!("{agent}: hot-reloaded"));
    let shown = daemon.agent(&agent);
    assert_eq!(json!([shown["state"], shown["runningCount"]]), json!(["running", 1]));
    daemon.work("e2", "");
    assert_eq!(daemon.items("queued").len(), 1);
    project.open_gate(&instance);
    daemon.wait_for_items("done", 2);
    for text in ["old end", "new"] {
        project.wait_said(&agent, text);
    }
    assert_eq!(reloads(&project, &agent), ["hot reload: agent changed", UPDATED]);
    // Nobody needs its image any more.
    wait::until("the image to go", || try_docker(&["image", "inspect", &image]).0, |is_there| !is_there);
    daemon.stop().expect(0);
    project.assert_clean();
}

#[test]
fn a_broken_configuration_is_shown_and_the_old_one_stays_in_force() {
    let project = Project::with_settings(HOOK);
    let agent = project.agent("dev", "exit 0");
    let good = format!("scale = 2\n{TICKING}{ON_HOOK}");
    project.configure(&agent, &good);
    let daemon = Daemon::start(&project);
    project.configure(&agent, "schedule = \"* * * * * *\"\nbroken [\n");
    wait_for_reload(&project, &agent, "hot reload: invalid agent config", 1);
    daemon.wait_for(&format!("{agent}: Invalid config: "));
    let before = schedule_runs(&project, &agent);
    wait::until("a tick", || schedule_runs(&project, &agent), |count| *count > before);
    assert_eq!(daemon.work("e", "").json()["matched"], 1);
    daemon.wait_for_items("done", 1);
    for bad in [
        "schedule = \"61 * * * *\"\n",
        "[[webhooks]]\nsource = \"ghost\"\n",
        "credentials = [\"aws\"]\nschedule = \"@daily\"\n",
    ] {
        let count = reloads(&project, &agent).len();
        project.configure(&agent, bad);
        wait::until("the next refusal", || reloads(&project, &agent).len(), |now| *now > count);
    }
    assert!(reloads(&project, &agent).iter().all(|msg| msg == "hot reload: invalid agent config"));
    // A real change repairs it.
    project.configure(&agent, &format!("{NEVER}{ON_HOOK}"));
    wait_for_reload(&project, &agent, UPDATED, 1);
    wait::until("no error", || daemon.agent(&agent)["lastError"].clone(), Value::is_null);
    daemon.stop().expect(0);
}

#[test]
fn a_mistake_that_is_taken_back_is_forgotten() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "");
    let daemon = Daemon::start(&project);
    project.configure(&agent, "broken [\n");
    let state = || daemon.agent(&agent)["state"].clone();
    wait::until("the error", state, |state| *state == "error");
    assert!(daemon.agent(&agent)["lastError"].as_str().unwrap().starts_with("Invalid config: "));
    project.configure(&agent, ON_HOOK);
    wait::until("no error", state, |state| *state == "idle");
    assert_eq!(daemon.agent(&agent)["lastError"], Value::Null);
    daemon.stop().expect(0);
}

#[test]
fn an_image_that_cannot_be_built_leaves_the_old_one_in_force() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "");
    let daemon = Daemon::start(&project);
    project.write(&format!("agents/{agent}/Dockerfile"), "FROM al-agent:latest\nRUN echo the reason; exit 3\n");
    wait_for_reload(&project, &agent, "hot reload failed", 1);
    daemon.wait_for(&format!("{agent}: Hot reload error: "));
    let shown = daemon.agent(&agent);
    assert_eq!(shown["state"], "error");
    assert!(shown["lastError"].as_str().unwrap().starts_with("Hot reload error: "), "{shown}");
    daemon.work("e", "echo still; exit 0");
    daemon.wait_for_items("done", 1);
    project.wait_said(&agent, "still");
    project.write(&format!("agents/{agent}/Dockerfile"), "FROM al-agent:latest\nENV REPAIRED=yes\n");
    wait_for_reload(&project, &agent, UPDATED, 1);
    daemon.work("e2", "echo \"repaired $REPAIRED\"; exit 0");
    project.wait_said(&agent, "repaired yes");
    daemon.stop().expect(0);
}

#[test]
fn schedules_are_armed_changed_and_disarmed() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "");
    let daemon = Daemon::start(&project);
    let cron_jobs = || daemon.status()["scheduler"]["cronJobCount"].clone();
    assert_eq!((cron_jobs(), daemon.agent(&agent)["nextRunAt"].clone()), (json!(0), Value::Null));
    project.configure(&agent, &format!("schedule = \"0 0 1 1 *\"\n{ON_HOOK}"));
    wait_for_reload(&project, &agent, UPDATED, 1);
    let next = || daemon.agent(&agent)["nextRunAt"].as_str().unwrap_or_default().to_owned();
    wait::until("the next firing", next, |next| next.contains("-01-01T") || next.contains("-12-31T"));
    shows(cron_jobs, json!(1));
    assert_eq!(schedule_runs(&project, &agent), 0, "no initial run");
    project.configure(&agent, &format!("{TICKING}{ON_HOOK}"));
    wait::until("a tick", || schedule_runs(&project, &agent), |count| *count > 0);
    project.configure(&agent, ON_HOOK);
    wait_for_reload(&project, &agent, UPDATED, 3);
    shows(cron_jobs, json!(0));
    shows(|| daemon.agent(&agent)["nextRunAt"].clone(), Value::Null);
    let log = project.log_text("scheduler");
    for schedule in ["0 0 1 1 *", "* * * * * *"] {
        let armed = format!(r#""Scheduled {agent}: \"{schedule}\" ("#);
        assert_eq!(log.matches(&armed).count(), 1, "{schedule}");
    }
    daemon.stop().expect(0);
}

#[test]
fn webhooks_are_bound_replaced_and_unbound() {
    let project = Project::with_settings(HOOK);
    let agent = project.agent("dev", "exit 0");
    project.configure(&agent, NEVER);
    let daemon = Daemon::start(&project);
    let matched = |id: &str, event: &str| daemon.deliver(id, &json!({"event": event})).json()["matched"].clone();
    assert_eq!(daemon.status()["scheduler"]["webhooksActive"], false);
    assert_eq!(matched("d1", "deploy"), 0);
    project.configure(&agent, &format!("{NEVER}{ON_HOOK}events = [\"deploy\"]\n"));
    wait_for_reload(&project, &agent, UPDATED, 1);
    assert_eq!((matched("d2", "deploy"), matched("d3", "push")), (json!(1), json!(0)));
    shows(|| daemon.status()["scheduler"]["webhooksActive"].clone(), json!(true));
    assert_eq!(
        daemon.status()["scheduler"]["webhookUrls"],
        json!([format!("http://localhost:{}/webhooks/test", daemon.port)])
    );
    project.configure(&agent, &format!("{NEVER}{ON_HOOK}events = [\"push\"]\n"));
    wait_for_reload(&project, &agent, UPDATED, 2);
    assert_eq!((matched("d4", "deploy"), matched("d5", "push")), (json!(0), json!(1)));
    project.configure(&agent, NEVER);
    wait_for_reload(&project, &agent, UPDATED, 3);
    assert_eq!(matched("d6", "push"), 0);
    daemon.wait_for_items("done", 2);
    daemon.stop().expect(0);
}

#[test]
fn the_scale_goes_from_nothing_up_down_and_back_to_nothing() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", &format!("scale = 0\n{NEVER}"));
    let other = project.on_hook("other", "");
    let daemon = Daemon::start(&project);
    assert_eq!(daemon.work("none", "exit 0").json()["matched"], 1);
    project.configure(&agent, &format!("scale = 1\n{NEVER}{ON_HOOK}"));
    wait_for_reload(&project, &agent, UPDATED, 1);
    shows(|| daemon.status()["scheduler"]["cronJobCount"].clone(), json!(1));
    assert_eq!(schedule_runs(&project, &agent), 0);
    for id in ["e1", "e2", "e3"] {
        assert_eq!(daemon.work(id, &format!("echo {id}; {GATE}; exit 0")).json()["matched"], 2);
    }
    daemon.wait_for_runs(&agent, 1);
    project.configure(&agent, &format!("scale = 3\n{NEVER}{ON_HOOK}"));
    let runs = daemon.wait_for_runs(&agent, 3);
    shows(|| daemon.agent(&agent)["scale"].clone(), json!(3));
    project.configure(&agent, &format!("scale = 1\n{NEVER}{ON_HOOK}"));
    wait_for_reload(&project, &agent, UPDATED, 3);
    daemon.work("e4", "exit 0");
    project.open_gate(&runs[0]);
    daemon.wait_for_runs(&agent, 2);
    project.open_gate(&runs[1]);
    daemon.wait_for_runs(&agent, 1);
    // Two slots are gone, the last one is busy.
    let waiting = || daemon.items("queued").iter().filter(|item| item["agent"] == agent.as_str()).count();
    assert_eq!(waiting(), 1);
    project.configure(&agent, &format!("scale = 0\n{NEVER}{ON_HOOK}"));
    wait_for_reload(&project, &agent, UPDATED, 4);
    assert_eq!(daemon.work("e5", "exit 0").json()["matched"], 1);
    project.open_gate(&runs[2]);
    daemon.wait_for_runs(&agent, 0);
    assert_eq!(waiting(), 1, "what was accepted waits");
    let shown = || daemon.agent(&agent);
    shows(|| json!([shown()["scale"], shown()["enabled"], shown()["nextRunAt"]]), json!([0, false, null]));
    project.configure(&agent, &format!("scale = 1\n{NEVER}{ON_HOOK}"));
    wait::until("what waited", waiting, |count| *count == 0);
    daemon.post(&format!("/control/agents/{other}/kill"), &json!({}));
    daemon.post("/control/stop", &json!({"kill": true}));
    daemon.finish().expect(0);
}

#[test]
fn a_new_agent_is_there_after_its_image_is() {
    let project = Project::with_settings(HOOK);
    project.on_hook("dev", "");
    let daemon = Daemon::start(&project);
    let new = project.on_hook("new", NEVER);
    daemon.wait_for("Building (new agent)").wait_for(&format!("{new}: hot-reloaded (new)"));
    assert_eq!(reloads(&project, &new), ["hot reload: new agent detected", "hot reload: new agent ready"]);
    assert_eq!(daemon.work("e", "exit 0").json()["matched"], 2);
    daemon.wait_for_items("done", 2);
    assert_eq!(schedule_runs(&project, &new), 0, "no initial run");
    shows(|| daemon.status()["scheduler"]["cronJobCount"].clone(), json!(1));

    let off = project.name("off");
    project.write(&format!("agents/{off}/ACTIONS.md"), "Do it.\n");
    project.configure(&off, &format!("scale = 0\n{NEVER}"));
    wait_for_reload(&project, &off, "hot reload: agent registered (scale=0, disabled)", 1);
    shows(|| daemon.agent(&off)["state"].clone(), json!("idle"));

    let bad = project.name("bad");
    project.write(&format!("agents/{bad}/ACTIONS.md"), "Do it.\n");
    project.configure(&bad, "broken [\n");
    wait_for_reload(&project, &bad, "hot reload: invalid agent config", 1);
    let error = |shown: &Value| shown["lastError"].as_str().is_some_and(|text| text.starts_with("Invalid config: "));
    let shown = wait::until("the error", || daemon.agent(&bad), error);
    assert_eq!(json!([shown["scale"], shown["enabled"]]), json!([0, false]));
    assert_eq!(daemon.post(&format!("/control/trigger/{bad}"), &json!({})).status, 404);
    project.configure(&bad, ON_HOOK);
    wait_for_reload(&project, &bad, "hot reload: new agent ready", 1);
    assert_eq!(daemon.work("e2", "exit 0").json()["matched"], 3);
    daemon.wait_for_items("done", 4);
    daemon.stop().expect(0);
}

#[test]
fn a_removed_agent_takes_its_run_with_it_and_its_work_waits_for_it() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", NEVER);
    project.on_hook("other", "");
    let daemon = Daemon::start(&project);
    daemon.wait_for_initial_run(&agent);
    daemon.work("e1", &format!("echo up; {GATE}; exit 0"));
    project.wait_said(&agent, "up");
    daemon.work("e2", "exit 0");
    daemon.post(&format!("/control/agents/{agent}/pause"), &json!({}));
    fs::remove_dir_all(project.root().join("agents").join(&agent)).unwrap();
    daemon.wait_for(&format!("scheduler: {agent} removed (hot reload)"));
    let failed = daemon.wait_for_items("failed", 1);
    assert_eq!(
        json!([failed[0]["reason"], failed[0]["lastError"]]),
        json!(["killed", "Container exited with code 137 (killed: agent removed)"])
    );
    wait::until("the entry to be gone", || daemon.agent(&agent), Value::is_null);
    assert_eq!(daemon.work("e3", "exit 0").json()["matched"], 1);
    assert_eq!(daemon.post(&format!("/control/trigger/{agent}"), &json!({})).status, 404);
    let waits = || daemon.items("queued").iter().filter(|item| item["agent"] == agent.as_str()).count();
    assert_eq!(waits(), 1);
    assert_eq!(daemon.status()["scheduler"]["cronJobCount"], 0);
    assert_eq!(reloads(&project, &agent), ["hot reload: agent removed", "hot reload: agent teardown complete"]);
    // It comes back, enabled.
    project.on_hook("dev", "");
    wait::until("what waited", waits, |count| *count == 0);
    shows(|| daemon.agent(&agent)["enabled"].clone(), json!(true));
    daemon.post("/control/stop", &json!({"kill": true}));
    daemon.finish().expect(0);
}

#[test]
fn an_agent_that_is_back_before_its_run_is_killed_is_not_shown_as_paused() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "");
    project.on_hook("other", "");
    let path = project.docker_that("kill) sleep 5");
    let daemon = Daemon::launch(&project, free_port(), &[], &[("PATH", &path)]);
    daemon.wait_for("scheduler started");
    daemon.work("e", &format!("echo up; {GATE}"));
    project.wait_said(&agent, "up");
    daemon.post(&format!("/control/agents/{agent}/pause"), &json!({}));
    fs::remove_dir_all(project.root().join("agents").join(&agent)).unwrap();
    daemon.wait_for(&format!("scheduler: {agent} removed (hot reload)"));
    project.on_hook("dev", "");
    wait_for_reload(&project, &agent, "hot reload: new agent ready", 1);
    assert_eq!(daemon.instances(&agent).len(), 1);
    shows(|| daemon.agent(&agent)["enabled"].clone(), json!(true));
    daemon.wait_for_items("failed", 1);
    assert_eq!(daemon.work("next", "exit 0").json()["skipped"], 0);
    daemon.post("/control/stop", &json!({"kill": true}));
    daemon.finish().expect(0);
}

#[test]
fn the_projects_limit_is_shared_out_again() {
    let project = Project::with_settings(&format!("scale = 3\n{HOOK}"));
    let first = project.on_hook("a", "scale = 1\n");
    let second = project.on_hook("b", "scale = 2\n");
    let daemon = Daemon::start(&project);
    let scale = |agent: &str| daemon.agent(agent)["scale"].clone();
    assert_eq!((scale(&first), scale(&second)), (json!(1), json!(2)));
    project.configure(&first, &format!("scale = 2\n{ON_HOOK}"));
    wait_for_reload(&project, &first, UPDATED, 1);
    shows(|| json!([scale(&first), scale(&second)]), json!([2, 1]));
    let reduced = project.logged("scheduler", "Agent scale reduced due to project scale limit");
    assert_eq!(reduced.len(), 1);
    assert_eq!(
        json!([
            reduced[0]["level"],
            reduced[0]["agent"],
            reduced[0]["requested"],
            reduced[0]["reduced"],
            reduced[0]["projectLimit"]
        ]),
        json!([40, second, 2, 1, 3])
    );
    daemon.stop().expect(0);
}

#[test]
fn a_directory_that_is_exchanged_as_a_whole_is_a_change() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "");
    let daemon = Daemon::start(&project);
    let agents = project.root().join("agents");
    let (new, old) = (project.outer().join("new"), project.outer().join("old"));
    fs::create_dir_all(new.join(&agent)).unwrap();
    for file in fs::read_dir(agents.join(&agent)).unwrap().map(Result::unwrap) {
        fs::copy(file.path(), new.join(&agent).join(file.file_name())).unwrap();
    }
    fs::write(new.join(&agent).join("test-script.sh"), "echo exchanged; exit 0").unwrap();
    fs::rename(&agents, &old).unwrap();
    fs::rename(&new, &agents).unwrap();
    wait_for_reload(&project, &agent, UPDATED, 1);
    daemon.work("e", "");
    project.wait_said(&agent, "exchanged");
    daemon.stop().expect(0);
}

#[test]
fn nobody_waits_for_the_removal_of_an_old_image() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "");
    project.on_hook("other", "");
    let (hold, removing) = (project.outer().join("hold"), project.outer().join("removing"));
    fs::write(&hold, "").unwrap();
    let arm = format!(
        "image) if [ $2 = rm ]; then : > {removing}; while [ -e {hold} ]; do sleep 0.1; done; rm -f {removing}; fi",
        removing = removing.display(),
        hold = hold.display()
    );
    let path = project.docker_that(&arm);
    let daemon = Daemon::launch(&project, free_port(), &[], &[("PATH", &path)]);
    daemon.wait_for("scheduler started");
    project.write(&format!("agents/{agent}/ACTIONS.md"), "Do it better.\n");
    wait::until("the removal", || removing.exists(), |exists| *exists);
    daemon.work("e", "exit 0");
    // Docker's commands have a limit of half a minute.
    wait::within(Duration::from_secs(20), "both runs", || match daemon.items("done").len() {
        2 => Ok(()),
        count => Err(format!("{count} done")),
    });
    assert!(removing.exists(), "it is not over yet");
    fs::remove_file(&hold).unwrap();
    wait::until("the removal's end", || removing.exists(), |exists| !*exists);
    daemon.stop().expect(0);
}
