//! Preflight steps as the real program runs them: with credentials, before the script, under the time limit.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::agent_bed::{Bed, is_running, wait_until};

fn with_steps(steps: &Value) -> Bed {
    let bed = Bed::new(&json!({"name": "dev", "credentials": ["sentry_token"], "preflight": steps}));
    bed.write("credentials/sentry_token/default/token", "sntrys_0123456789");
    bed
}

#[test]
fn steps_prepare_what_the_script_finds() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nissues").unwrap();
        String::from_utf8(head).unwrap()
    });
    let bed = with_steps(&json!([
        {"provider": "http", "params": {
            "url": format!("{url}/issues"), "output": "data/issues.json",
            "headers": {"Authorization": "Bearer ${SENTRY_AUTH_TOKEN}"},
        }},
        {"provider": "shell", "params": {"command": "cat data/issues.json; echo inherited"}},
        {"provider": "git-clone", "params": {"repo": "file://${HOME}/../repo", "dest": "work"}},
    ]));
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=t", "-c", "user.email=t@example.com", "-C"]).arg(bed.path("repo")).args(arguments);
        assert!(git.output().unwrap().status.success(), "{arguments:?}");
    };
    bed.write("repo/README", "cloned");
    git(&["init", "-q"]);
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "one"]);
    bed.write("static/test-script.sh", "cat work/README");
    let ran = bed.run().expect_code(0);
    assert!(serving.join().unwrap().to_lowercase().contains("\r\nauthorization: bearer sntrys_0123456789\r\n"));
    assert!(ran.stdout.contains("issuesinherited\n"), "{}", ran.stdout);
    assert!(ran.stdout.contains("cloned"), "{}", ran.stdout);
    let messages: Vec<String> = ran.log().into_iter().map(|line| line.msg).collect();
    let from = messages.iter().position(|msg| msg == "preflight starting").unwrap();
    assert_eq!(
        messages[from..from + 11],
        [
            "preflight starting",
            "preflight http",
            "preflight http output written",
            "preflight step [1/3] http done",
            "preflight shell",
            "preflight step [2/3] shell done",
            "preflight git-clone",
            "preflight git-clone done",
            "preflight step [3/3] git-clone done",
            "preflight complete",
            "script mode: running test-script.sh instead of LLM",
        ]
    );
}

#[test]
fn a_failed_step_ends_the_run_and_does_not_tell_secrets() {
    let bed = with_steps(&json!([
        {"provider": "shell", "required": false, "params": {"command": "exit 1"}},
        {"provider": "shell", "params": {"command": "echo \"refused: ${SENTRY_AUTH_TOKEN}\" >&2; exit 4"}},
        {"provider": "shell", "params": {"command": "echo reached > reached"}},
    ]));
    bed.write("static/test-script.sh", "echo reached > reached");
    let ran = bed.run().expect_code(1);
    assert_eq!(bed.read("tmp/reached"), "");
    assert!(!ran.stdout.contains("sntrys_0123456789"), "{}", ran.stdout);
    let error = ran.line("container entry error").fields["error"].as_str().unwrap().to_owned();
    assert!(error.contains("\"shell\"") && error.contains("status 4") && error.contains("refused: ***"), "{error}");
    ran.line("preflight step [1/3] shell failed (optional, continuing)");
    ran.line("preflight step [2/3] shell failed (required)");
}

#[test]
fn the_time_limit_works_during_preflight() {
    let bed = with_steps(
        &json!([{"provider": "shell", "params": {"command": "echo $$ > pid; trap '' TERM; sleep 60; sleep 60"}}]),
    );
    bed.write("static/test-script.sh", "exit 0");
    bed.write("static/timeout", "1");
    let ran = bed.run().expect_code(124);
    assert!(ran.took < Duration::from_secs(4), "{:?}", ran.took);
    wait_until("the step is gone", || !is_running(&bed.path("tmp/pid")));
    assert!(!ran.stdout.contains("failed"), "{}", ran.stdout);
}
