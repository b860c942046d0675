//! What an agent can do from inside: locks, calls, signals (containers.md §14, scheduler.md §6, gateway.md §9–§12).

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::project::Project;

/// Calls an agent, waits, prints the state of the call and fails when the call was refused.
const CALL: &str = r#"
call() {
  answer=$(printf '%s' "$2" | al-call "$1") || { echo "refused $? $answer"; return 1; }
  id=$(echo "$answer" | jq -r .callId)
  al-wait "$id" | jq -c --arg id "$id" '.[$id]'
}
"#;

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_called_agent_gets_the_text_and_gives_a_value() {
    let project = Project::new();
    let agent = project.worker("dev");
    let text = r#"Say "hi" <b> ü
second line"#;
    let called = project.agent("called", "cp \"$AL_PROMPT_FILE\" /tmp/p; echo \"as $AL_TRIGGER_TYPE\"; al-return \"got $(grep -c 'second line' /tmp/p): <é>\"");
    let done = project.run(&agent, &[&format!("{CALL}call {called} '{text}'; al-return fin"), "--json"]);
    done.expect(0);
    let said = done.said();
    assert!(said.contains(&r#"{"status":"completed","returnValue":"got 1: <é>"}"#.to_owned()), "{said:?}");
    assert!(said.contains(&"as agent".to_owned()));
    let starts = done.events_of("start");
    let seen: Vec<Value> = starts.iter().map(|start| json!([start["agent"], start["trigger"]])).collect();
    assert_eq!(seen, [json!([agent, "manual"]), json!([called, "agent"])]);
    // Called first, ended first; the result is that of the caller.
    let ends = done.events_of("end");
    assert_eq!([&ends[0]["instance"], &ends[1]["instance"]], [&starts[1]["instance"], &starts[0]["instance"]]);
    assert_eq!((&done.result()["instance"], &done.result()["returnValue"]), (&starts[0]["instance"], &json!("fin")));
    assert_eq!(ends[0]["returnValue"], "got 1: <é>");
    let msg = format!("Starting {called} container run (triggered by agent ({agent}))");
    assert_eq!(project.logged(&called, &msg).len(), 1);
    project.assert_clean();
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn failures_of_a_called_agent_are_told_to_the_caller_alone() {
    let project = Project::new();
    let agent = project.worker("dev");
    let failing = project.agent("failing", "exit 7");
    let again = project.agent("again", "al-rerun; al-return v");
    let slow = project.agent("slow", "sleep 60");
    project.configure(&slow, "timeout = 1\n");
    let broken = project.agent("broken", "exit 0");
    project.write(&format!("agents/{broken}/Dockerfile"), "FROM al-agent:latest\nRUN echo the reason; exit 3\n");
    let poor = project.agent("poor", "exit 0");
    project.configure(&poor, "credentials = [\"github_token\"]\n");
    let task: String = [&failing, &again, &slow, &broken, &poor].map(|name| format!("call {name} x\n")).concat();
    let done = project.run(&agent, &[&format!("{CALL}{task}"), "--json"]);
    done.expect(0);
    let answers: Vec<Value> = done
        .said()
        .iter()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|value: &Value| value["status"].is_string())
        .collect();
    let [failing, again, slow, broken, poor] = &answers[..] else { panic!("{answers:#?}") };
    assert_eq!(*failing, json!({"status": "error", "errorMessage": "agent run failed"}));
    assert_eq!(*again, json!({"status": "completed", "returnValue": "v"}), "a called run is not repeated");
    assert_eq!(slow["errorMessage"], "agent run failed");
    assert!(broken["errorMessage"].as_str().unwrap().contains("image of agent"), "{broken}");
    assert!(poor["errorMessage"].as_str().unwrap().contains("\"github_token\""), "{poor}");
    assert_eq!(done.events_of("end").len(), 6);
    project.assert_clean();
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn calls_that_cannot_be_are_refused_with_the_reason() {
    let project = Project::with_settings("maxCallDepth = 2");
    let (agent, second, third) = (project.name("dev"), project.name("second"), project.name("third"));
    let off = project.agent("off", "exit 0");
    project.configure(&off, "scale = 0\n");
    let ghost = project.name("ghost");
    project.agent("dev", &format!("{CALL}call {ghost} x; call {agent} x; call {off} x; call {second} x"));
    project.agent("second", &format!("{CALL}call {agent} x; call {third} x"));
    project.agent("third", &format!("{CALL}call {second} x; call {off} x"));
    let done = project.run(&agent, &["--json"]);
    done.expect(0);
    let refused: Vec<String> = done.said().into_iter().filter(|line| line.starts_with("refused")).collect();
    let reason = |reason: &str| format!("refused 1 {}", json!({"ok": false, "reason": reason}));
    assert_eq!(
        refused,
        [
            reason(&format!("target agent \"{ghost}\" not found")),
            reason("agent cannot call itself"),
            reason(&format!("target agent \"{off}\" is disabled")),
            reason(&format!("call cycle: {agent} → {second} → {agent}")),
            reason("trigger depth limit reached"),
            reason("trigger depth limit reached"),
        ]
    );
    assert_eq!(done.events_of("start").len(), 3);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn who_calls_may_end_first() {
    let project = Project::new();
    let agent = project.worker("dev");
    let called = project.agent("called", "sleep 2; echo finished; exit 3");
    let done = project.run(&agent, &[&format!("al-call {called} < /dev/null > /dev/null; exit 5"), "--json"]);
    done.expect(5);
    assert!(done.took > Duration::from_secs(2) && done.said() == ["finished"]);
    let codes: Vec<Value> = done.events_of("end").iter().map(|end| end["exitCode"].clone()).collect();
    assert_eq!(codes, [5, 3]);
    assert_eq!(
        (&done.result()["exitCode"], &done.result()["instance"]),
        (&json!(5), &done.events_of("start")[0]["instance"])
    );
    let done = project.run(&agent, &[&format!("al-call {called} < /dev/null > /dev/null; exit 5")]);
    assert!(done.last_line().starts_with(&format!("{agent}-")), "{}", done.last_line());
    project.assert_clean();
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn no_more_runs_at_once_than_the_scale_allows() {
    let project = Project::new();
    let agent = project.worker("dev");
    let one = project.agent("one", "rlock one || exit 9; sleep 0.7; runlock one");
    let two = project.agent("two", "sleep 0.7");
    project.configure(&two, "scale = 2\n");
    let start = |name: &str| format!("al-call {name} < /dev/null > /dev/null || exit 8\n");
    let task = [start(&one).repeat(3), start(&two).repeat(4)].concat();
    let done = project.run(&agent, &[&task, "--json"]);
    done.expect(0);
    assert!(done.events_of("end").iter().all(|end| end["exitCode"] == 0), "{:?}", done.events_of("end"));
    assert_eq!(done.events_of("end").len(), 8);
    let most = |name: &str| {
        let (mut now, mut most) = (0, 0);
        for event in done.events() {
            let is_of =
                |member: &Value| member.as_str().is_some_and(|instance| instance.starts_with(&format!("{name}-")));
            match event["event"].as_str() {
                Some("start") if is_of(&event["instance"]) => now += 1,
                Some("end") if is_of(&event["instance"]) => now -= 1,
                _ => {}
            }
            most = most.max(now);
        }
        most
    };
    assert_eq!((most(&one), most(&two)), (1, 2));
    project.assert_clean();
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_lock_keeps_others_out_until_it_is_released_or_its_run_ends() {
    let project = Project::new();
    let agent = project.worker("dev");
    let other = project.agent(
        "other",
        "rlock 'github issue a/b#1'; echo \"other $?\"; rlock-heartbeat 'github issue a/b#1'; echo \"heartbeat $?\"; runlock 'github issue a/b#1'; echo \"unlock $?\"",
    );
    let keeper = project.agent("keeper", "rlock 'kept'");
    let task = format!(
        "{CALL}rlock 'github issue a/b#1'; echo \"mine $?\"; rlock 'github issue a/b#1'; echo \"twice $?\"
         rlock second; echo \"second $?\"
         call {other} x; rlock-heartbeat 'github issue a/b#1' | jq .ok; runlock 'github issue a/b#1'; echo \"unlocked $?\"
         runlock 'github issue a/b#1'; echo \"again $?\"
         call {keeper} x; rlock kept; echo \"kept $?\""
    );
    let done = project.run(&agent, &[&task, "--json"]);
    done.expect(0);
    let said: Vec<String> = done.said().into_iter().filter(|line| !line.starts_with('{')).collect();
    assert_eq!(
        said,
        [
            "mine 0",
            "twice 0",
            "second 1",
            "other 1",
            "heartbeat 1",
            "unlock 1",
            "true",
            "unlocked 0",
            "again 2",
            "kept 0"
        ]
    );
    let instance = done.events_of("start")[0]["instance"].as_str().unwrap().to_owned();
    let holder = format!("{{\"ok\":false,\"holder\":\"{instance}\"");
    assert!(done.said().iter().any(|line| line.starts_with(&holder)), "{:?}", done.said());
    assert_eq!(project.logged(&keeper, "locks released").len(), 1);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn an_agent_can_have_itself_shut_down() {
    let project = Project::new();
    let agent = project.worker("dev");
    let done = project.run(&agent, &["echo before; al-shutdown 'exfiltration detected'; sleep 60", "--json"]);
    done.expect(137);
    assert!(done.took < Duration::from_secs(15), "{:?}", done.took);
    let end = done.result();
    let error = "Container exited with code 137 (killed: shutdown requested: exfiltration detected)";
    assert_eq!(json!([end["result"], end["exitCode"], end["error"]]), json!(["error", 137, error]));
    assert_eq!(done.said(), ["before"]);
    assert_eq!(project.logged("gateway", "shutdown requested by container").len(), 1);
    assert_eq!(project.logged(&agent, "container killed (abort requested)").len(), 1);
    project.assert_clean();
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_called_agent_that_shuts_itself_down_takes_nobody_with_it() {
    let project = Project::new();
    let agent = project.worker("dev");
    let called = project.agent("called", "al-shutdown; sleep 60");
    let done = project.run(&agent, &[&format!("{CALL}call {called} x; exit 4"), "--json"]);
    done.expect(4);
    assert!(
        done.said().iter().any(|line| line == r#"{"status":"error","errorMessage":"agent run failed"}"#),
        "{:?}",
        done.said()
    );
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_model_session_uses_the_same_commands() {
    let project = Project::new();
    let called = project.agent("called", "al-return answer");
    let mock = format!(
        r#"version = 1
[[turn]]
text = "Calling."
[[turn.call]]
tool = "bash"
args = {{ command = "id=$(echo work | al-call {called} | jq -r .callId); al-wait $id" }}
[[turn]]
expect = {{ last_result_contains = "answer" }}
text = "Answered."
[[turn.call]]
tool = "bash"
args = {{ command = "al-status waiting; al-return 'from the model'; al-exit 11" }}
[[turn]]
text = "This is never said."
"#
    );
    let agent = project.model_agent("dev", &mock);
    let done = project.run(&agent, &["--json"]);
    done.expect(11);
    let end = done.result();
    assert_eq!((&end["returnValue"], &end["usage"]["turnCount"]), (&json!("from the model"), &json!(2)));
    assert!(!project.all_logs().contains("never said"));
    let done = project.run(&agent, &[]);
    assert!(done.stdout.contains("] Answered.\n") && done.stdout.contains("  status: waiting\n"), "{}", done.stdout);
}
