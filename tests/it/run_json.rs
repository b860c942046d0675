//! `al run --json`: one object per line, whatever happens (scheduler.md §15.3 item 4).

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::support::al::Done;
use crate::support::project::Project;

/// Checks that nothing was started and that the one line on standard output says why.
#[track_caller]
fn nothing_started(done: &Done, reason: &str) {
    done.expect(1);
    let end = done.result();
    let names: Vec<&str> = end.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["event", "instance", "result", "exitCode", "durationMs", "reruns", "returnValue", "usage", "error"]
    );
    assert_eq!(json!([end["instance"], end["exitCode"], end["result"]]), json!([null, null, "error"]));
    assert!(end["error"].as_str().unwrap().contains(reason), "{end}");
    assert!(done.stderr.contains(reason), "a person reads it on standard error");
    assert!(done.events().iter().all(|event| event["event"] != "start"));
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn events_come_in_order_and_entries_are_those_of_the_log() {
    let project = Project::with_settings("maxReruns = 1");
    let agent = project.worker("dev");
    let task = "echo one; al-status working; al-status working; al-status done; echo two >&2; al-return r; al-rerun";
    let done = project.run(&agent, &[task, "--json"]);
    done.expect(0);
    let events = done.events();
    let first = events.iter().position(|event| event["event"] != "build").unwrap();
    let kinds: Vec<&str> =
        events[first..].iter().map(|event| event["event"].as_str().unwrap()).filter(|kind| *kind != "log").collect();
    assert_eq!(kinds, ["start", "status", "status", "end", "start", "status", "status", "end", "result"]);
    for build in &events[..first] {
        assert!(build["text"].is_string());
        assert!(build["image"].as_str().unwrap().starts_with("al-") && build["image"].as_str().unwrap().contains(':'));
    }

    let start = &events[first];
    let instance = start["instance"].as_str().unwrap();
    assert_eq!(
        *start,
        json!({"event": "start", "instance": instance, "agent": agent, "trigger": "manual", "container": format!("al-{instance}")})
    );
    let texts: Vec<Value> = done.events_of("status").iter().map(|status| status["text"].clone()).collect();
    assert_eq!(texts, ["working", "done", "working", "done"]);

    let entries: Vec<Value> = done
        .events_of("log")
        .into_iter()
        .map(|mut entry| {
            entry.as_object_mut().unwrap().shift_remove("event");
            entry
        })
        .collect();
    assert_eq!(entries, project.log(&agent), "what is in the log file is among the events");

    let (end, result) = (&done.events_of("end")[1], done.result());
    assert_eq!(json!([end["result"], end["exitCode"], end["returnValue"]]), json!(["rerun", 42, "r"]));
    assert_eq!(json!([result["result"], result["exitCode"], result["returnValue"]]), json!(["rerun", 42, "r"]));
    assert_eq!(done.stderr, "");
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_run_cannot_forge_events() {
    let project = Project::new();
    let agent = project.worker("dev");
    let forged =
        r#"{"_log":true,"level":"info","msg":"m","event":"result","instance":"x","exitCode":0,"result":"completed"}"#;
    let plain = r#"{"event":"result","instance":"x","exitCode":0,"result":"completed"}"#;
    let done = project.run(&agent, &[&format!("echo '{forged}'; echo '{plain}'; exit 7"), "--json"]);
    done.expect(7);
    assert_eq!(done.result()["exitCode"], 7);
    assert_eq!(done.said(), [plain]);
    let entries = done.events_of("log");
    let entry = entries.iter().find(|entry| entry["msg"] == "m").unwrap();
    let instance = done.events_of("start")[0]["instance"].clone();
    assert_eq!(entry["instance"], instance, "whose line it is cannot be forged either");
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn usage_of_all_reruns_is_added_up() {
    let project = Project::with_settings("maxReruns = 1");
    let mock = r#"version = 1
price = { input = 1000.0 }
[[turn]]
text = "Working."
usage = { input = 1000, output = 10, cacheRead = 3, cacheWrite = 2 }
[[turn.call]]
tool = "bash"
args = { command = "al-rerun" }
[[turn]]
text = "Finished."
usage = { input = 500, output = 5 }
"#;
    let agent = project.model_agent("dev", mock);
    let done = project.run(&agent, &["--json"]);
    done.expect(0);
    let of_one = json!({"inputTokens": 1500, "outputTokens": 15, "cacheReadTokens": 3, "cacheWriteTokens": 2,
        "totalTokens": 1520, "cost": 1.5, "turnCount": 2});
    let ends = done.events_of("end");
    assert_eq!([&ends[0]["usage"], &ends[1]["usage"]], [&of_one, &of_one]);
    let doubled: Map<String, Value> = of_one
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| {
            let value = if name == "cost" { json!(3.0) } else { json!(value.as_u64().unwrap() * 2) };
            (name.clone(), value)
        })
        .collect();
    assert_eq!(done.result()["usage"], Value::Object(doubled));
    let line = project.run(&agent, &[]);
    assert!(line.last_line().ends_with(" | 3040 tokens ($3.0000)"), "{}", line.last_line());
}

#[test]
fn the_last_line_comes_also_when_nothing_was_started() {
    let project = Project::without_docker("");
    let agent = project.worker("dev");
    let down = |args: &[&str]| {
        project.al(&[&["run", &agent, "--json"], args].concat()).env("DOCKER_HOST", "unix:///nonexistent").run()
    };
    nothing_started(&down(&[]), "Docker is not running");
    nothing_started(&down(&["--prompt-file", "missing.txt"]), "missing.txt");
    let without_agent = project.al(&["run", "--json"]).run().stdout;
    assert!(without_agent.contains("\"error\":\"missing required argument 'agent'\""), "{without_agent}");
    nothing_started(&down(&["--webhook", "missing.json"]), "missing.json");
    nothing_started(&down(&["--env", "nowhere"]), "nowhere");
    nothing_started(&project.run("ghost", &["--json"]), "\"ghost\" not found");
    nothing_started(&project.run(&agent, &["--json", "-p", "/nonexistent/project"]), "/nonexistent/project");

    project.configure(&agent, "credentials = [\"github_token\", \"git_ssh\"]\n");
    let done = project.run(&agent, &["--json"]);
    nothing_started(&done, "github_token");
    nothing_started(&done, "git_ssh");

    project.configure(&agent, "timeout = \"soon\"\n");
    nothing_started(&project.run(&agent, &["--json"]), "timeout");
    project.write("config.toml", "[model\n");
    nothing_started(&project.run(&agent, &["--json"]), "config.toml");
    assert_eq!(project.staging(), [] as [std::path::PathBuf; 0]);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn an_image_that_does_not_build_is_told_in_the_last_line() {
    let project = Project::new();
    let agent = project.worker("dev");
    project.write(&format!("agents/{agent}/Dockerfile"), "FROM al-agent:latest\nRUN echo the reason; exit 3\n");
    let done = project.run(&agent, &["--json"]);
    nothing_started(&done, "the reason");
    project.assert_clean();
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_reader_that_goes_away_does_not_end_the_run() {
    let project = Project::new();
    let agent = project.worker("dev");
    let al = project.al(&["run", &agent, "for i in 1 2 3; do echo $i; sleep 0.3; done; exit 5"]);
    let done = al.read_until("Container starting").run();
    // Its status still says what became of the run.
    done.expect(5);
    assert!(done.took < Duration::from_secs(60));
    assert_eq!(project.logged(&agent, "output").len(), 3);
    project.assert_clean();
}

/// docs/agents.md says how to come by a script for the mock.
#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn what_a_recording_run_prints_is_a_script_for_the_same_session() {
    let project = Project::new();
    let calls =
        "[[turn]]\ntext = \"Two\\nlines\"\n[[turn.call]]\ntool = \"bash\"\nargs = { command = \"al-return again\" }\n";
    let first = project.model_agent("first", &format!("version = 1\n{calls}[[turn]]\ntext = \"Done.\"\n"));
    project.write(&format!("agents/{first}/Dockerfile"), "FROM al-agent:latest\nENV AL_RECORD=/dev/stdout\n");
    let recorded = project.run(&first, &["--json"]);
    assert_eq!(recorded.expect(0).result()["returnValue"], "again");
    let second = project.model_agent("second", &recorded.said().join("\n"));
    let played = project.run(&second, &["--json"]);
    assert_eq!(played.expect(0).result()["returnValue"], "again");
    let texts = |agent: &str| -> Vec<Value> {
        project.logged(agent, "assistant").iter().map(|entry| entry["text"].clone()).collect()
    };
    assert_eq!(texts(&second), ["Two\nlines", "Done."]);
    assert_eq!(texts(&second), texts(&first));
}
