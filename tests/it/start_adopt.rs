//! What a scheduler that was killed, or went away, leaves to the next one (scheduler.md §8).

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::support::daemon::{Daemon, free_port};
use crate::support::docker::{BASE, containers, docker, inspect};
use crate::support::project::{GATE, HOOK, NEVER, ON_HOOK, Project};
use crate::support::wait;

fn labelled(agent: &str) -> Vec<String> {
    containers(&format!("al.agent={agent}"))
}

/// Waits until the container of a run has ended, without its scheduler.
fn wait_for_exit(instance: &str) {
    let running = || inspect(&format!("al-{instance}"))["State"]["Running"].clone();
    wait::until("the container to end", running, |running| *running == false);
}

/// Lines that an agent wrote, without what its commands answered.
fn said(project: &Project, agent: &str) -> Vec<String> {
    let lines = project.logged(agent, "output");
    let texts = lines.iter().map(|entry| entry["text"].as_str().unwrap().to_owned());
    texts.filter(|text| !text.starts_with('{')).collect()
}

#[test]
fn a_run_goes_on_through_a_crash_and_ends_as_if_nothing_had_been() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "");
    let mut daemon = Daemon::start(&project);
    daemon.work("e", &format!("echo up; {GATE}; rlock k; echo \"lock $?\"; al-return value; exit 0"));
    project.wait_said(&agent, "up");
    let instance = daemon.wait_for_runs(&agent, 1).remove(0);
    daemon.crash();
    let daemon = daemon.again();
    daemon.wait_for(&format!("{agent}: {instance} re-adopted"));
    assert_eq!(daemon.instances(&agent), [instance.as_str()]);
    project.open_gate(&instance);
    let items = daemon.wait_for_items("done", 1);
    assert_eq!(json!([items[0]["attempts"], items[0]["instanceId"]]), json!([1, instance]));
    project.wait_said(&agent, "lock 0");
    let adopting = project.logged("scheduler", "re-adopting container");
    assert_eq!(
        json!([adopting.len(), adopting[0]["agent"], adopting[0]["instance"], adopting[0]["container"]]),
        json!([1, agent, instance, format!("al-{instance}")])
    );
    let summary = project.logged("scheduler", "recovery complete");
    let counts = ["adopted", "collected", "requeued", "dead", "killed"].map(|name| summary[0][name].clone());
    assert_eq!(counts, [1, 0, 0, 0, 0]);
    daemon.stop().expect(0);
    project.assert_clean();
}

#[test]
fn no_line_and_no_value_is_lost_that_was_said_while_nobody_listened() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "");
    let mut daemon = Daemon::start(&project);
    daemon.work("e", &format!("echo up; {GATE}; for n in $(seq 1 50); do echo down-$n; done; al-return kept; exit 0"));
    project.wait_said(&agent, "up");
    let instance = daemon.wait_for_runs(&agent, 1).remove(0);
    daemon.crash();
    project.open_gate(&instance);
    wait_for_exit(&instance);
    let daemon = daemon.again();
    let items = daemon.wait_for_items("done", 1);
    assert_eq!(items[0]["attempts"], 1);
    let lines = (1..=50).map(|n| format!("down-{n}"));
    assert_eq!(said(&project, &agent), ["up".to_owned()].into_iter().chain(lines).collect::<Vec<_>>());
    let protocol = ["run completed", "signal-result"];
    for msg in protocol {
        assert_eq!(project.logged(&agent, msg).len(), 1, "{msg}");
    }
    assert_eq!(project.logged(&agent, "signal-result")[0]["value"], "kept");
    assert_eq!(project.logged(&agent, "container finished").len(), 1);
    daemon.stop().expect(0);
    project.assert_clean();
}

#[test]
fn what_was_said_long_before_somebody_listened_again_keeps_its_time() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "");
    let mut daemon = Daemon::start(&project);
    let line = r#"{\"_log\":true,\"level\":\"info\",\"msg\":\"earlier\",\"ts\":$(date -d '30 minutes ago' +%s)000}"#;
    daemon.work("e", &format!("echo up; {GATE}; echo \"{line}\""));
    project.wait_said(&agent, "up");
    let instance = daemon.wait_for_runs(&agent, 1).remove(0);
    daemon.crash();
    {
        // The run began an hour ago, and nobody has listened since.
        let store = action_llama::store::Store::open(&project.root().join(".al")).unwrap().store;
        let begin = "UPDATE containers SET started_at = started_at - 3600000";
        store.write(move |tx| Ok(tx.execute(begin, [])?)).unwrap();
    }
    project.open_gate(&instance);
    wait_for_exit(&instance);
    let daemon = daemon.again();
    daemon.wait_for_items("done", 1);
    let earlier = project.logged(&agent, "earlier");
    let age = action_llama::base::clock::UnixMs::now().0 - earlier[0]["time"].as_i64().unwrap();
    assert!((1_790_000..2_000_000).contains(&age), "{age} ms ago");
    daemon.stop().expect(0);
    project.assert_clean();
}

#[test]
fn every_line_of_a_run_is_in_its_log_once_however_often_its_scheduler_dies() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "");
    let mut daemon = Daemon::start(&project);
    let count = "n=0; until [ -e /tmp/gate ]; do n=$((n+1)); echo line-$n; echo error-$n >&2; sleep 0.01; done";
    daemon.work("e", &format!("{count}; echo end-$n"));
    project.wait_said(&agent, "line-1");
    let instance = daemon.wait_for_runs(&agent, 1).remove(0);
    for _ in 0..3 {
        daemon.crash();
        let before = said(&project, &agent).len();
        daemon = daemon.again();
        wait::until("more lines", || said(&project, &agent).len(), |now| *now > before + 50);
    }
    project.open_gate(&instance);
    daemon.wait_for_items("done", 1);
    let lines = said(&project, &agent);
    let last = lines.len() - 1;
    let expected = (1..=last).map(|n| format!("line-{n}")).chain([format!("end-{last}")]);
    assert_eq!(lines, expected.collect::<Vec<_>>());
    let errors = project.logged(&agent, "container stderr");
    let errors: Vec<&str> = errors.iter().map(|entry| entry["stderr"].as_str().unwrap()).collect();
    assert_eq!(errors, (1..=last).map(|n| format!("error-{n}")).collect::<Vec<_>>());
    daemon.stop().expect(0);
    project.assert_clean();
}

#[test]
fn what_a_model_did_while_nobody_listened_is_in_the_log_and_the_books() {
    let project = Project::with_settings(HOOK);
    let mock = format!(
        r#"version = 1
[[turn]]
text = "First."
[[turn.call]]
tool = "bash"
args = {{ command = "{GATE}" }}
[[turn]]
text = "While nobody listened."
[[turn.call]]
tool = "bash"
args = {{ command = "al-return 'from the model'" }}
[[turn]]
text = "Last."
"#
    );
    let agent = project.model_agent("dev", &mock);
    project.configure(&agent, &format!("{ON_HOOK}[model]\nprovider = \"mock\"\nmodel = \"default\"\n"));
    let mut daemon = Daemon::start(&project);
    daemon.work("e", "");
    wait::until("the first turn", || project.logged(&agent, "bash"), |lines| lines.len() == 1);
    let instance = daemon.wait_for_runs(&agent, 1).remove(0);
    daemon.crash();
    project.open_gate(&instance);
    wait_for_exit(&instance);
    let daemon = daemon.again();
    daemon.wait_for_items("done", 1);
    let mut texts: Vec<Value> = project.logged(&agent, "assistant").iter().map(|entry| entry["text"].clone()).collect();
    // What was said in the last seconds before a crash may be written twice.
    texts.dedup();
    assert_eq!(texts, ["First.", "While nobody listened.", "Last."]);
    wait::until("the usage", || daemon.agent(&agent)["lastRunUsage"]["turnCount"].clone(), |count| *count == 3);
    let returned = project.logged(&agent, "signal-result");
    assert_eq!(returned[0]["value"], "from the model");
    daemon.stop().expect(0);
    project.assert_clean();
}

#[test]
fn a_container_that_ended_while_nobody_looked_counts_with_its_status() {
    let project = Project::with_settings(&format!("workRetryDelay = 0\n{HOOK}"));
    let agent = project.on_hook("dev", "scale = 3\n");
    let mut daemon = Daemon::start(&project);
    for (id, code) in [("own", 11), ("lost", 143), ("again", 42)] {
        daemon.work(
            id,
            &format!("grep -q 'attempt 2 [o]f 3' \"$AL_PROMPT_FILE\" && exit 0; echo {id}; {GATE}; exit {code}"),
        );
        project.wait_said(&agent, id);
    }
    let instances = daemon.wait_for_runs(&agent, 3);
    daemon.crash();
    for instance in &instances {
        project.open_gate(instance);
        wait_for_exit(instance);
    }
    let daemon = daemon.again();
    let failed = daemon.wait_for_items("failed", 1);
    assert_eq!(
        json!([failed[0]["source"], failed[0]["attempts"], failed[0]["reason"]]),
        json!(["own", 1, "agent_error"])
    );
    let done = daemon.wait_for_items("done", 2);
    let attempts = |source: &str| done.iter().find(|item| item["source"] == source).unwrap()["attempts"].clone();
    assert_eq!((attempts("lost"), attempts("again")), (json!(2), json!(1)));
    assert_eq!(project.logged("scheduler", "recovery complete")[0]["collected"], 3);
    daemon.stop().expect(0);
    project.assert_clean();
}

#[test]
fn a_caller_learns_the_end_of_a_call_through_a_crash() {
    let project = Project::with_settings(HOOK);
    let dev = project.worker("dev");
    project.configure(&dev, ON_HOOK);
    let called = project.agent("called", &format!("echo up; {GATE}; al-return value"));
    project.configure(&called, ON_HOOK);
    let mut daemon = Daemon::start(&project);
    daemon.trigger(
        &dev,
        &format!("id=$(echo x | al-call {called} | jq -r .callId)\nal-wait $id | jq -r .[].returnValue; echo end"),
    );
    project.wait_said(&called, "up");
    let instance = daemon.wait_for_runs(&called, 1).remove(0);
    daemon.crash();
    project.open_gate(&instance);
    let daemon = daemon.again();
    project.wait_said(&dev, "end");
    project.wait_said(&dev, "value");
    assert_eq!(daemon.wait_for_items("done", 1)[0]["attempts"], 1);
    daemon.wait_until_idle();
    assert_eq!(project.logged(&dev, "container finished").len(), 1);
    daemon.stop().expect(0);
    project.assert_clean();
}

#[test]
fn an_adopted_run_that_had_to_wait_goes_on_with_its_chain() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "");
    let mut daemon = Daemon::start(&project);
    daemon.work("first", GATE);
    let first = daemon.wait_for_runs(&agent, 1).remove(0);
    let task = format!("echo up; {GATE}; exit 42");
    let queued = daemon.post(&format!("/control/trigger/{agent}"), &json!({"prompt": task, "queue": true}));
    assert_eq!(queued.status, 202, "{}", queued.body);
    project.open_gate(&first);
    project.wait_said(&agent, "up");
    let instance = daemon.wait_for_runs(&agent, 1).remove(0);
    daemon.crash();
    let daemon = daemon.again();
    project.open_gate(&instance);
    daemon.wait_for("started (manual (rerun 1/10))");
    let ups = || project.logged(&agent, "output").iter().filter(|entry| entry["text"] == "up").count();
    wait::until("the task to be carried out again", ups, |ups| *ups == 2);
    assert_eq!(daemon.items("done").len(), 2);
    daemon.post("/control/stop", &json!({"kill": true}));
    daemon.finish().expect(0);
    project.assert_clean();
}

#[test]
fn a_container_that_is_gone_is_a_lost_run() {
    let project = Project::with_settings(&format!("workRetryDelay = 0\n{HOOK}"));
    let agent = project.on_hook("dev", "");
    let mut daemon = Daemon::start(&project);
    daemon.work("e", &format!("grep -q 'attempt 2 [o]f 3' \"$AL_PROMPT_FILE\" && exit 0; echo up; {GATE}"));
    project.wait_said(&agent, "up");
    let instance = daemon.wait_for_runs(&agent, 1).remove(0);
    // The row says that it runs a moment later.
    wait::until("the run's row", || daemon.agent(&agent)["state"].clone(), |state| *state == "running");
    daemon.crash();
    docker(&["rm", "-f", &format!("al-{instance}")]);
    let daemon = daemon.again();
    assert_eq!(daemon.wait_for_items("done", 1)[0]["attempts"], 2);
    assert_eq!(project.logged("scheduler", "recovery complete")[0]["requeued"], 1);
    daemon.stop().expect(0);
    project.assert_clean();
}

#[test]
fn a_container_without_a_row_is_killed_and_strangers_are_left_alone() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "");
    let orphan = format!("al-{agent}-0badc0de");
    let created = format!("al-{agent}-0badc0df");
    let foreign = format!("x-al-{agent}-1");
    let label = project.label();
    let of_agent = format!("al.agent={agent}");
    let run = |name: &str, verb: &[&str], labels: &[&str]| {
        let labels: Vec<&str> = labels.iter().flat_map(|label| ["--label", *label]).collect();
        docker(&[verb, &["--name", name], &labels[..], &[BASE, "sleep", "600"]].concat());
    };
    run(&orphan, &["run", "-d"], &[&label, &of_agent, "al.instance=x"]);
    run(&created, &["create"], &[&label, &of_agent, "al.instance=y"]);
    run(&foreign, &["run", "-d"], &[&of_agent]);
    let daemon = Daemon::start(&project);
    let names = || labelled(&agent);
    wait::until("the orphans to be gone", names, |names| *names == [foreign.clone()]);
    let warnings = project.logged("scheduler", "found orphan container");
    let tasks: Vec<Value> = warnings.iter().map(|warning| warning["task"].clone()).collect();
    assert!(tasks.contains(&json!(orphan)) && warnings[0]["agent"] == agent.as_str(), "{warnings:?}");
    daemon.stop().expect(0);
    docker(&["rm", "-f", &foreign]);
}

#[test]
fn a_project_that_is_started_through_another_path_finds_its_runs() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "");
    let mut daemon = Daemon::start(&project);
    daemon.work("e", &format!("echo up; {GATE}; exit 0"));
    project.wait_said(&agent, "up");
    let instance = daemon.wait_for_runs(&agent, 1).remove(0);
    daemon.crash();
    let link = project.outer().join("link");
    symlink(project.root(), &link).unwrap();
    let link = link.to_str().unwrap();
    let daemon = Daemon::launch(&project, daemon.port, &["-p", link], &[]);
    daemon.wait_for(&format!("{agent}: {instance} re-adopted")).wait_for("scheduler started");
    project.open_gate(&instance);
    assert_eq!(daemon.wait_for_items("done", 1)[0]["attempts"], 1);
    daemon.stop().expect(0);
    assert_eq!(labelled(&agent), [""; 0]);
}

#[test]
fn two_projects_with_equal_names_do_not_meet() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "");
    let twin = Project::with_settings(HOOK);
    // The same name in another project.
    let files = ["ACTIONS.md", "agent-config.toml", "test-script.sh"];
    for file in files {
        let path = format!("agents/{agent}/{file}");
        twin.write(&path, fs::read(project.root().join(&path)).unwrap());
    }
    let one = Daemon::start(&project);
    one.work("e", &format!("echo up; {GATE}; exit 0"));
    project.wait_said(&agent, "up");
    let instance = one.wait_for_runs(&agent, 1).remove(0);
    let mut two = Daemon::start(&twin);
    two.work("e", "echo mine; exit 0");
    two.wait_for_items("done", 1);
    two.crash();
    let two = two.again();
    two.post(&format!("/control/agents/{agent}/kill"), &json!({}));
    assert_eq!(two.post(&format!("/control/kill/{instance}"), &json!({})).status, 404);
    assert_eq!(one.instances(&agent), [instance.as_str()]);
    two.stop().expect(0);
    project.open_gate(&instance);
    one.wait_for_items("done", 1);
    one.stop().expect(0);
    project.assert_clean();
}

#[test]
fn a_run_of_an_agent_that_was_removed_meanwhile_is_killed() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "");
    project.on_hook("stays", "");
    let mut daemon = Daemon::start(&project);
    daemon.work("e", &format!("echo up; {GATE}; exit 0"));
    project.wait_said(&agent, "up");
    let instance = daemon.wait_for_runs(&agent, 1).remove(0);
    daemon.crash();
    fs::remove_dir_all(project.root().join("agents").join(&agent)).unwrap();
    let daemon = daemon.again();
    let failed = daemon.wait_for_items("failed", 1).remove(0);
    assert_eq!(json!([failed["agent"], failed["reason"], failed["instanceId"]]), json!([agent, "killed", instance]));
    assert!(failed["lastError"].as_str().unwrap().contains("agent removed"), "{failed}");
    assert_eq!(labelled(&agent), [""; 0]);
    daemon.post("/control/stop", &json!({"kill": true}));
    daemon.finish().expect(0);
    project.assert_clean();
}

#[test]
fn adopted_runs_count_for_the_limits() {
    let project = Project::with_settings(&format!("scale = 1\n{HOOK}"));
    let agent = project.on_hook("dev", "");
    let other = project.on_hook("other", NEVER);
    let mut daemon = Daemon::start(&project);
    daemon.wait_for_initial_run(&other);
    daemon.trigger(&agent, &format!("echo up; {GATE}; exit 0"));
    project.wait_said(&agent, "up");
    let instance = daemon.wait_for_runs(&agent, 1).remove(0);
    daemon.crash();
    let daemon = daemon.again();
    daemon.work("e", "exit 0");
    assert_eq!(daemon.items("queued").len(), 2);
    let full = daemon.post(&format!("/control/trigger/{other}"), &json!({}));
    assert_eq!((full.status, full.json()), (409, json!({"error": "Project limit of 1 runs reached"})));
    project.open_gate(&instance);
    daemon.wait_for_items("done", 2);
    daemon.stop().expect(0);
}

#[test]
fn a_kill_that_was_wished_before_the_crash_is_carried_out() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "");
    let mut daemon = Daemon::start(&project);
    daemon.work("e", &format!("echo up; {GATE}; exit 0"));
    project.wait_said(&agent, "up");
    let instance = daemon.wait_for_runs(&agent, 1).remove(0);
    daemon.crash();
    {
        let store = action_llama::store::Store::open(&project.root().join(".al")).unwrap().store;
        let id = instance.clone();
        store.write(move |tx| action_llama::store::containers::set_kill_reason(tx, &id, "operator").map(drop)).unwrap();
    }
    let daemon = daemon.again();
    let failed = daemon.wait_for_items("failed", 1);
    assert_eq!(json!([failed[0]["reason"], failed[0]["attempts"]]), json!(["killed", 1]));
    daemon.stop().expect(0);
    project.assert_clean();
}

#[test]
fn a_run_goes_on_without_gateway_when_the_port_is_another_one() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "");
    let mut daemon = Daemon::start(&project);
    daemon.work("e", &format!("echo up; {GATE}; exit 0"));
    project.wait_said(&agent, "up");
    let instance = daemon.wait_for_runs(&agent, 1).remove(0);
    daemon.crash();
    let daemon = Daemon::launch(&project, free_port(), &[], &[]);
    daemon.wait_for("re-adopted").wait_for("scheduler started");
    let warnings: Vec<Value> =
        project.log("scheduler").into_iter().filter(|entry| entry["instance"] == instance.as_str()).collect();
    assert!(warnings.iter().any(|entry| entry["level"] == 40), "{warnings:?}");
    project.open_gate(&instance);
    daemon.wait_for_items("done", 1);
    daemon.stop().expect(0);
}

#[test]
fn a_deleted_database_loses_the_work_and_kills_what_ran() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "");
    let mut daemon = Daemon::start(&project);
    daemon.work("e", &format!("echo up; {GATE}; exit 0"));
    project.wait_said(&agent, "up");
    daemon.crash();
    for file in ["state.db", "state.db-wal", "state.db-shm"] {
        let _ = fs::remove_file(project.root().join(".al").join(file));
    }
    let daemon = daemon.again();
    wait::until("the container to be gone", || labelled(&agent), Vec::is_empty);
    assert_eq!(daemon.items("queued,running,done,failed,dead").len(), 0);
    daemon.stop().expect(0);
    project.assert_clean();
}
