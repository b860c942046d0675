//! `al stop`, `al pause`, `al resume`, `al kill`, and what all commands have in common that ask a gateway: who sees the
//! key, and what is said when something is wrong (cli-config.md §2.6, §6.8).

use std::fs;
use std::thread;
use std::time::Duration;

use action_llama::scheduler::lock::{ProjectLock, lock_path};
use serde_json::{Value, json};

use crate::support::fake_scheduler::{FakeScheduler, KEY, listen, not_found, refusal, success};
use crate::support::project::Project;
use crate::support::stub_gateway::{Answer, StubGateway};

const NOT_RUNNING: &str = "Error: Scheduler not running. Start it with 'al start'.\n";

/// Runs a command beside a scheduler whose gateway gives one answer.
#[track_caller]
fn run(args: &[&str], answer: Answer, status: i32) -> (FakeScheduler, String, String) {
    let project = Project::without_docker("");
    let fake = FakeScheduler::start(&project, move |_| answer.clone());
    let done = project.al(args).run();
    done.expect(status);
    (fake, done.stdout, done.stderr)
}

#[test]
fn every_wish_has_its_request_and_its_answer_is_printed() {
    #[track_caller]
    fn case(args: &[&str], target: &str, body: Option<Value>) {
        let (fake, stdout, stderr) = run(args, success("It is so"), 0);
        let request = &fake.requests()[0];
        assert_eq!((stdout.as_str(), stderr.as_str()), ("It is so\n", ""));
        assert_eq!(fake.asked(), [format!("POST {target}")]);
        assert_eq!((!request.body.is_empty()).then(|| request.json()), body);
        assert_eq!(request.header("content-type"), body.map(|_| "application/json"));
    }
    case(&["stop"], "/control/stop", Some(json!({"clearQueue": true})));
    case(&["stop", "--keep-queue"], "/control/stop", None);
    case(&["stop", "--kill"], "/control/stop", Some(json!({"clearQueue": true, "kill": true})));
    case(&["stop", "--kill", "--keep-queue"], "/control/stop", Some(json!({"kill": true})));
    case(&["pause"], "/control/pause", None);
    case(&["resume"], "/control/resume", None);
    case(&["pause", "dev"], "/control/agents/dev/pause", None);
    case(&["resume", "a/b ü?#%"], "/control/agents/a%2Fb%20%C3%BC%3F%23%25/resume", None);
    case(&["kill", "dev"], "/control/agents/dev/kill", None);
}

#[test]
fn what_is_no_agent_may_be_an_instance() {
    let project = Project::without_docker("");
    let fake = FakeScheduler::start(&project, |request| match request.target.as_str() {
        "/control/agents/dev-a1b2c3d4/kill" => refusal(404, "Agent dev-a1b2c3d4 not found"),
        "/control/kill/dev-a1b2c3d4" => success("Instance dev-a1b2c3d4 killed"),
        "/control/kill/other" => refusal(404, "Instance other not found"),
        _ => not_found(),
    });
    let done = project.al(&["kill", "dev-a1b2c3d4"]).run();
    assert_eq!(done.expect(0).stdout, "Instance dev-a1b2c3d4 killed\n");
    assert_eq!(fake.asked(), ["POST /control/agents/dev-a1b2c3d4/kill", "POST /control/kill/dev-a1b2c3d4"]);
    let done = project.al(&["kill", "other"]).run();
    assert_eq!(done.expect(1).stderr, "Error: Instance other not found\n");
}

#[test]
fn names_that_a_path_would_lose_are_refused_before_anything_is_asked() {
    for args in [["pause", ""], ["pause", ".."], ["kill", "."], ["resume", ""]] {
        let (fake, stdout, stderr) = run(&args, success("Scheduler paused"), 1);
        assert!(fake.asked().is_empty() && stdout.is_empty() && stderr.contains("is not a name"), "{args:?} {stderr}");
    }
}

#[test]
fn json_is_the_answer_itself_or_an_error_with_its_kind() {
    let (_fake, stdout, _) = run(
        &["kill", "dev", "--json"],
        Answer::json(200, r#"{"success":true,"message":"Killed 2 instance(s) of dev","killed":2}"#),
        0,
    );
    assert_eq!(stdout, "{\"success\":true,\"message\":\"Killed 2 instance(s) of dev\",\"killed\":2}\n");
    let (_fake, stdout, stderr) = run(&["pause", "--json"], refusal(500, "Failed to pause scheduler: disk full"), 1);
    let expected =
        json!({"ok": false, "error": {"kind": "gateway", "message": "Failed to pause scheduler: disk full"}});
    assert_eq!(serde_json::from_str::<Value>(&stdout).unwrap(), expected);
    assert_eq!(stderr, "Error: Failed to pause scheduler: disk full\n");
    let project = Project::without_docker("");
    let kind = |args: &[&str]| {
        let done = project.al(args).run();
        serde_json::from_str::<Value>(&done.expect(1).stdout).unwrap()["error"]["kind"].as_str().unwrap().to_owned()
    };
    assert_eq!(kind(&["stop", "--json"]), "gateway");
    assert_eq!(kind(&["stop", "--json", "--bogus"]), "usage");
    assert_eq!(kind(&["stop", "--json", "-E", "nope"]), "config");
}

#[test]
fn without_a_held_lock_nobody_is_asked_whoever_has_the_port() {
    let stranger = listen(|_| success("Give me the key"));
    let project =
        Project::without_docker(&format!("[gateway]\nport = {}\nurl = \"http://localhost:{0}\"\n", stranger.port()));
    project.credential("gateway_api_key", "key", KEY);
    let refused = || {
        for args in [&["stop"][..], &["pause", "dev"], &["resume"], &["kill", "dev"]] {
            let done = project.al(args).run();
            assert_eq!((done.expect(1).stdout.as_str(), done.stderr.as_str()), ("", NOT_RUNNING), "{args:?}");
        }
        for args in [&["queue"][..], &["queue", "clear"]] {
            let done = project.al(args).run();
            assert!(done.expect(1).stderr.contains("there are no work items"), "{args:?}: {}", done.stderr);
        }
        project.al(&["stat"]).run().expect(0);
        project.al(&["logs"]).run().expect(1);
        assert!(stranger.requests().is_empty(), "{:?}", stranger.requests());
    };
    refused();
    // What a killed scheduler has left says nothing, nor does what stands there beside a run of one agent.
    let content = format!("{{\"pid\":{},\"port\":{},\"startedAt\":\"\"}}", std::process::id(), stranger.port());
    fs::create_dir(project.root().join(".al")).unwrap();
    fs::write(lock_path(&project.root()), &content).unwrap();
    refused();
    let _run = ProjectLock::for_one_shot(&project.root()).unwrap();
    refused();
}

#[test]
fn a_scheduler_that_is_starting_is_waited_for() {
    let project = Project::without_docker("");
    let fake = FakeScheduler::starting(&project, |_| success("Scheduler stopping"));
    let running = project.al(&["stop"]).start();
    thread::sleep(Duration::from_millis(400));
    assert!(fake.asked().is_empty());
    fake.set_port();
    assert_eq!(running.finish().expect(0).stdout, "Scheduler stopping\n");
    // One that ends meanwhile does not run.
    let running = {
        let project = Project::without_docker("");
        let fake = FakeScheduler::starting(&project, |_| success("x"));
        let stop = project.al(&["stop"]).start();
        thread::sleep(Duration::from_millis(400));
        drop(fake);
        let done = stop.finish();
        (done.status, done.stderr)
    };
    assert_eq!(running, (1, NOT_RUNNING.to_owned()));
}

#[test]
fn a_scheduler_that_never_answers_is_named() {
    let project = Project::without_docker("");
    let fake = FakeScheduler::start(&project, |_| success("x"));
    // The port that it has said is not its own any more, and nobody's.
    let port = fake.port();
    let lock_holder = {
        let stub = fake.leave_port();
        let lock = ProjectLock::for_scheduler(&project.root()).unwrap();
        lock.set_port(port).unwrap();
        drop(stub);
        lock
    };
    let done = project.al(&["pause"]).run();
    drop(lock_holder);
    let pid = format!("process {}", std::process::id());
    for part in ["does not answer", &format!("http://localhost:{port}"), &pid, "scheduler.lock", "try again"] {
        assert!(done.expect(1).stderr.contains(part), "{part}: {}", done.stderr);
    }
}

#[test]
fn a_wrong_or_missing_key_is_said_with_the_way_out() {
    let project = Project::without_docker("");
    let fake = FakeScheduler::start(&project, |_| success("x"));
    let url = format!("http://localhost:{}", fake.port());
    project.credential("gateway_api_key", "key", "another-key-0123456789\n");
    let done = project.al(&["pause"]).run();
    for part in ["Error: ", &url, "401", "does not match", "al doctor"] {
        assert!(done.expect(1).stderr.contains(part), "{part}: {}", done.stderr);
    }
    project.credential("gateway_api_key", "key", "");
    let done = project.al(&["pause"]).run();
    assert!(done.expect(1).stderr.contains("no gateway API key is stored") && done.stderr.contains("al doctor"));
    assert_eq!(fake.requests()[1].header("authorization"), None);
    project.credential("gateway_api_key", "key", "two words\nand lines");
    let done = project.al(&["pause"]).run();
    assert!(done.expect(1).stderr.starts_with("Credential error: gateway_api_key"), "{}", done.stderr);
    assert!(!done.stderr.contains("two words"));
}

#[test]
fn what_is_no_gateway_is_quoted_shortly_and_without_the_key() {
    let page = |status: &str, body: &str| {
        Answer::Raw(format!("HTTP/1.1 {status}\r\nContent-Type: text/html\r\n\r\n{body}").into_bytes())
    };
    let long = format!("<html>\u{1b}[2J{KEY} {}", "x".repeat(500));
    let (_fake, stdout, stderr) = run(&["pause"], page("502 Bad Gateway", &long), 1);
    assert!(stdout.is_empty() && !stderr.contains('\u{1b}') && !stderr.contains(KEY), "{stderr}");
    for part in ["Error: ", "502", "is not JSON: <html>\u{fffd}[2J*** xxx", "x…\n", "proxy", "gateway.url"] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    let quote = stderr.split("is not JSON: ").nth(1).unwrap().split('…').next().unwrap();
    assert_eq!(quote.chars().count(), 120);
    let (_fake, _, stderr) = run(&["pause"], page("200 OK", ""), 1);
    assert!(stderr.contains("HTTP 200") && stderr.contains("(empty)"), "{stderr}");
    for (answer, part) in [("[1]", "has no message: [1]"), ("{\"success\":true}", "has no message")] {
        let (_fake, _, stderr) = run(&["pause"], Answer::json(200, answer), 1);
        assert!(stderr.contains(part), "{stderr}");
    }
    let (_fake, _, stderr) = run(&["pause"], Answer::json(500, "{\"error\":7}"), 1);
    assert!(stderr.contains("HTTP 500") && stderr.contains("says no error: {\"error\":7}"), "{stderr}");
}

#[test]
fn the_key_does_not_follow_a_redirect() {
    let other = StubGateway::answering(200, r#"{"message":"thanks for the key"}"#);
    let head = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: {}/control/pause\r\nContent-Length: 0\r\n\r\n",
        other.url()
    );
    let (_fake, stdout, stderr) = run(&["pause"], Answer::Raw(head.into_bytes()), 1);
    assert!(stdout.is_empty() && other.requests().is_empty());
    assert!(stderr.contains("307") && stderr.contains(&other.url()) && stderr.contains("gateway.url"), "{stderr}");
}

#[test]
fn texts_of_a_gateway_cannot_do_anything_to_the_terminal() {
    let hostile = "a\u{1b}[2Jb\u{9b}c\u{202e}d\r";
    let shown = "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d\u{fffd}";
    let (_fake, stdout, _) = run(&["pause"], success(hostile), 0);
    assert_eq!(stdout, format!("{shown}\n"));
    let (_fake, _, stderr) = run(&["pause"], refusal(409, hostile), 1);
    assert_eq!(stderr, format!("Error: {shown}\n"));
    let (_fake, stdout, _) = run(&["pause", "--json"], success(hostile), 0);
    assert!(!stdout.trim_end().contains(char::is_control), "{stdout:?}");
    assert_eq!(serde_json::from_str::<Value>(&stdout).unwrap()["message"], hostile);
    let (_fake, _, stderr) = run(&["pause"], refusal(500, &"e".repeat(100_000)), 1);
    assert!(stderr.len() < 3000, "{}", stderr.len());
}

#[test]
fn a_slow_answer_is_waited_for_and_a_huge_or_broken_one_is_an_error() {
    let slow = Answer::After(Duration::from_millis(1500), Box::new(success("at last")));
    assert_eq!(run(&["pause"], slow, 0).1, "at last\n");
    let huge = Answer::Json(200, format!("{{\"message\":\"{}\"}}", "x".repeat(33 << 20)));
    let (_fake, _, stderr) = run(&["pause"], huge, 1);
    assert!(stderr.contains("more than 33554432 bytes") && stderr.len() < 500, "{stderr}");
    let cut = Answer::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"mess".to_vec());
    for answer in [cut, Answer::Close] {
        let (fake, _, stderr) = run(&["pause"], answer, 1);
        let url = format!("http://localhost:{}", fake.port());
        assert!(stderr.starts_with("Error: ") && stderr.contains(&url), "{stderr}");
    }
}

/// A project with an environment file `prod`.
fn with_environment(content: &str) -> Project {
    let project = Project::without_docker("");
    project.credential("gateway_api_key", "key", KEY);
    let dir = project.home().join(".action-llama/environments");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("prod.toml"), content).unwrap();
    project
}

#[test]
fn an_environment_says_where_its_gateway_is_and_no_lock_is_asked() {
    let gateway = listen(|_| success("Scheduler paused"));
    let url = format!("http://127.0.0.1:{}/al/", gateway.port());
    let project = with_environment(&format!("[server]\nhost = \"a.example\"\n[gateway]\nurl = \"{url}\"\n"));
    let done = project.al(&["pause", "-E", "prod"]).run();
    assert_eq!((done.expect(0).stdout.as_str(), done.stderr.as_str()), ("Scheduler paused\n", ""));
    assert_eq!(gateway.request().target, "/al/control/pause");
    let done = project.al(&["pause"]).env("AL_ENV", "prod").run();
    done.expect(0);
    assert_eq!(project.al(&["pause"]).run().expect(1).stderr, NOT_RUNNING);
    drop(gateway);
    let done = project.al(&["pause", "-E", "prod"]).run();
    for part in [url.trim_end_matches('/'), "connection refused"] {
        assert!(done.expect(1).stderr.contains(part), "{part}: {}", done.stderr);
    }
}

#[test]
fn a_server_without_an_address_of_its_gateway_is_a_mistake_in_its_file() {
    let stranger = listen(|_| success("x"));
    let project = with_environment("[server]\nhost = \"a.example\"\n");
    project.write("config.toml", format!("[gateway]\nport = {}\n", stranger.port()));
    let done = project.al(&["stop", "-E", "prod"]).run();
    assert!(done.expect(1).stderr.starts_with("Configuration error: "), "{}", done.stderr);
    assert!(done.stderr.contains("prod.toml: gateway.url"), "{}", done.stderr);
    assert!(stranger.requests().is_empty());
}

#[test]
fn others_on_the_way_are_warned_of_once() {
    let project = with_environment("[gateway]\nurl = \"http://nowhere.invalid:8080\"\n");
    let done = project.al(&["kill", "dev", "-E", "prod"]).run();
    let warning = "Warning: sending the gateway API key over plain HTTP to nowhere.invalid.\n";
    assert!(done.expect(1).stderr.starts_with(warning), "{}", done.stderr);
    assert_eq!(done.stderr.matches("Warning").count(), 1);
    assert!(done.stderr.contains("http://nowhere.invalid:8080: the host name"), "{}", done.stderr);
    // A project, which may come from anywhere, does not say where the key goes.
    let project = Project::without_docker("[gateway]\nurl = \"http://192.168.0.1.nowhere.invalid\"\n");
    let done = project.al(&["kill", "dev"]).run();
    assert!(done.expect(1).stderr.starts_with("Configuration error: config.toml: gateway.url: "), "{}", done.stderr);
    let project = with_environment("[gateway]\nurl = \"https://nowhere.invalid\"\n");
    let done = project.al(&["pause", "-E", "prod"]).run();
    assert!(!done.expect(1).stderr.contains("Warning"), "{}", done.stderr);
}

#[test]
fn finer_exit_codes_are_given_to_who_wants_them() {
    let project = with_environment("[gateway]\nurl = \"https://nowhere.invalid\"\n");
    let status = |args: &[&str]| project.al(args).env("AL_EXIT_CODES", "detailed").run().status;
    assert_eq!(status(&["pause", "--bogus"]), 2);
    assert_eq!(status(&["pause", "-E", "nope"]), 3);
    assert_eq!(status(&["pause"]), 5);
    assert_eq!(status(&["pause", "-E", "prod"]), 5);
    let fake = FakeScheduler::start(&project, |_| refusal(500, "no"));
    assert_eq!(status(&["pause"]), 1);
    project.credential("gateway_api_key", "key", "wrong-0123456789");
    assert_eq!(status(&["pause"]), 6);
    drop(fake);
}

#[test]
fn a_directory_that_is_not_there_is_no_project() {
    let project = Project::without_docker("");
    for words in ["doctor -H", "stat", "stats", "stop", "agent list", "config show", "logs dev", "run dev", "start -H"]
    {
        let words: Vec<&str> = words.split(' ').chain(["-p", "mistyped"]).collect();
        let done = project.al(&words).run();
        let said = &done.expect(1).stderr;
        assert!(said.contains("mistyped is not a directory") && said.contains("al new"), "{words:?}: {said}");
    }
}

#[test]
fn an_agents_directory_is_no_project() {
    let project = Project::without_docker("");
    project.write("agents/dev/agent-config.toml", "");
    let done = project.al(&["stop", "-p", "agents/dev"]).run();
    assert!(done.expect(1).stderr.contains("agent directory") && done.stderr.contains("al stop"), "{}", done.stderr);
}
