//! `al run`: what a run ends with, and how that reaches whoever started it (scheduler.md §4.4, §15.3 item 5).

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::project::Project;

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_script_decides_about_status_and_result() {
    let project = Project::with_settings("maxReruns = 0");
    let agent = project.worker("dev");
    let case = |task: &str, status: i32, result: &str, code: i32, error: Value| {
        let done = project.run(&agent, &[task, "--json"]);
        let end = done.result();
        let seen = json!([done.status, end["result"], end["exitCode"], end["error"]]);
        assert_eq!(seen, json!([status, result, code, error]), "{task}");
    };
    let error = |code: i32, more: &str| json!(format!("Container exited with code {code}{more}"));
    case("exit 0", 0, "completed", 0, Value::Null);
    case("exit 7", 7, "error", 7, error(7, ""));
    case("exit 255", 255, "error", 255, error(255, ""));
    case("al-exit 0", 0, "completed", 0, Value::Null);
    case("al-exit 12", 12, "error", 12, error(12, " (Rate limit exceeded)"));
    case("al-exit 42", 15, "error", 15, error(15, " (Unrecoverable error)"));
    case("al-exit 200", 15, "error", 15, error(15, " (Unrecoverable error)"));
    case("al-exit 12; exit 3", 3, "error", 3, error(3, ""));
    case("kill -9 $$", 137, "error", 137, error(137, ""));
    case("kill -TERM $$", 143, "error", 143, error(143, ""));
    case("kill -SEGV $$", 139, "error", 139, error(139, ""));
    case("al-rerun", 0, "rerun", 42, Value::Null);
    case("exit 42", 0, "rerun", 42, Value::Null);
    project.assert_clean();
}

/// Such a line only makes the host ask for the state a little earlier.
#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_run_that_claims_to_be_completed_is_not_believed() {
    let project = Project::new();
    let agent = project.worker("dev");
    let claim = r#"echo '{"_log":true,"level":"info","msg":"run completed"}'; "#;
    let done = project.run(&agent, &[&format!("{claim} sleep 1; {claim} sleep 1; exit 7"), "--json"]);
    done.expect(7);
    assert_eq!((&done.result()["result"], &done.result()["exitCode"]), (&json!("error"), &json!(7)));
    project.assert_clean();
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn who_watches_sees_the_error_and_the_result_last() {
    let project = Project::new();
    let agent = project.worker("dev");
    let done = project.run(&agent, &["echo hello; exit 7"]);
    done.expect(7);
    let instance = project.log(&agent)[0]["instance"].as_str().unwrap().to_owned();
    assert!(done.last_line().starts_with(&format!("{instance} error (")), "{}", done.last_line());
    assert!(done.stdout.contains("Container exited with code 7\n"));
    assert!(done.stdout.contains(&format!("[{instance}] hello\n")));
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn reruns_end_at_the_limit_with_success() {
    let project = Project::with_settings("maxReruns = 2");
    let agent = project.worker("dev");
    let done = project.run(&agent, &["al-rerun", "--json"]);
    done.expect(0);
    let instances: Vec<Value> = done.events_of("start").into_iter().map(|event| event["instance"].clone()).collect();
    assert_eq!(instances.len(), 3);
    let end = done.result();
    assert_eq!(json!([end["result"], end["reruns"], end["exitCode"]]), json!(["rerun", 2, 42]));
    assert_eq!(end["instance"], instances[2], "the result is that of the last run");
    assert_eq!(project.logged(&agent, &format!("{agent} hit max reruns limit")).len(), 1);
    assert_eq!(project.logged(&agent, &format!("{agent} requested rerun")).len(), 2);
    let details: Vec<Value> = project
        .log(&agent)
        .into_iter()
        .map(|entry| entry["msg"].clone())
        .filter(|msg| msg.to_string().contains("triggered by"))
        .collect();
    let started = |details: &str| json!(format!("Starting {agent} container run (triggered by {details})"));
    assert_eq!(details, [started("manual"), started("manual (rerun 1/2)"), started("manual (rerun 2/2)")]);
    project.assert_clean();
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn an_error_ends_the_reruns() {
    let project = Project::with_settings("maxReruns = 5");
    let agent = project.worker("dev");
    let done = project.run(&agent, &["al-rerun; exit 9", "--json"]);
    done.expect(9);
    assert_eq!(done.events_of("start").len(), 1);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_run_that_takes_too_long_ends_with_124_and_says_what_to_do() {
    let project = Project::new();
    let agent = project.worker("dev");
    project.configure(&agent, "timeout = 2\n");
    for task in ["sleep 60", "trap '' TERM INT; sleep 60; sleep 60"] {
        let done = project.run(&agent, &[task]);
        done.expect(124);
        assert!(done.took < Duration::from_secs(10), "{task}: {:?}", done.took);
        assert!(done.stdout.contains("Container exited with code 124 (timeout)") && done.stdout.contains("`timeout`"));
    }
    project.assert_clean();
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn running_out_of_memory_is_told_apart_from_being_killed() {
    let project = Project::with_settings("[local]\nmemory = \"64m\"");
    let agent = project.worker("dev");
    let done = project.run(&agent, &["tail /dev/zero; exit $?", "--json"]);
    done.expect(137);
    assert_eq!(done.result()["error"], "Container exited with code 137 (out of memory)");
    // Only a child was killed and the run went on to its end.
    let done = project.run(&agent, &["tail /dev/zero; echo survived", "--json"]);
    done.expect(0);
    assert_eq!(done.said(), ["survived"]);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_return_value_survives_a_failure() {
    let project = Project::new();
    let agent = project.worker("dev");
    let returned = |task: &str| project.run(&agent, &[task, "--json"]).result()["returnValue"].clone();
    assert_eq!(returned("al-return one; al-return 'two \"quoted\"'"), "two \"quoted\"");
    assert_eq!(returned("printf 'line 1\\nline ü\\n' | al-return"), "line 1\nline ü");
    assert_eq!(returned("al-return kept; exit 7"), "kept");
    assert_eq!(returned("al-return kept; kill -9 $$"), "kept");
    assert_eq!(returned("true"), Value::Null);
    let mebibyte = "head -c 1048576 /dev/zero | tr '\\0' x | al-return";
    assert_eq!(returned(mebibyte), "x".repeat(1 << 20));
    assert_eq!(returned("head -c 1048577 /dev/zero | tr '\\0' x | al-return > /dev/null; al-exit $?"), Value::Null);
    // A person is shown its beginning.
    let done = project.run(&agent, &[mebibyte]);
    assert!(done.stdout.contains("returned: xxx") && done.stdout.len() < 10_000);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn the_fixture_of_scripts_ends_as_it_says() {
    let project = Project::fixture("script-signals", "maxReruns = 1");
    for (kind, field, value) in [
        ("github_token", "token", "ghp_0123456789abcdef"),
        ("git_ssh", "id_rsa", "no real key"),
        ("git_ssh", "username", "bot"),
        ("git_ssh", "email", "bot@example.org"),
    ] {
        project.credential(kind, field, value);
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/projects/script-signals/expected.json");
    let expected: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for (agent, expected) in expected["expectedRuns"].as_object().unwrap() {
        let done = project.run(&project.name(agent), &["--json"]);
        let end = done.result();
        for (member, name) in [("exit", "exitCode"), ("result", "result"), ("returnValue", "returnValue")] {
            if let Some(expected) = expected.get(member) {
                assert_eq!(&end[name], expected, "{agent}: {end}");
            }
        }
        // What asks for a rerun is no failure when nobody carries it out any more.
        let code = end["exitCode"].as_i64().unwrap() as i32;
        done.expect(if end["result"] == "rerun" { 0 } else { code });
        assert_eq!(end["reruns"], i32::from(end["result"] == "rerun"), "{agent}");
    }
    project.assert_clean();
}
