//! What the results of tools do to a session.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::bench::{Bench, calls, name, said};
use crate::secret::{Masker, Secret};
use crate::session::error::ModelError;
use crate::session::event::Event;
use crate::session::message::{Assistant, Block, Stop, ToolCall};
use crate::session::{End, Owner, Permit, Surroundings};
use crate::wire::config::Limits;

#[test]
fn a_cut_call_is_not_executed() {
    let mut cut = calls(&[]).unwrap();
    cut.content = vec![Block::ToolCall(ToolCall::from_raw("1", "bash", r#"{"command":"touch made"#))];
    cut.stop = Stop::Length;
    let bench = Bench::new(vec![Ok(cut), said("sorry")]);
    let made = bench.dir.path().join("made");
    let seen = bench.run();
    assert!(!made.exists());
    assert_eq!((seen.count("done true"), seen.outcome.text.as_str()), (1, "sorry"));
}

#[test]
fn repeated_permission_errors_end_a_run_but_not_a_chat() {
    let commands = ["echo Permission denied; false", "echo Permission denied", "echo 'access denied to x'; false"];
    let more = ["echo bad credentials; false", "touch made"];
    let bench = Bench::new(vec![calls(&commands), calls(&more), said("never")]);
    let seen = bench.run();
    assert!(matches!(seen.outcome.end, End::Aborted));
    assert_eq!((seen.count("tool "), seen.count("notice RepeatedPermissionErrors")), (4, 1));
    assert_eq!((seen.asked.len(), seen.count("turn end 2")), (2, 1));

    let mut bench = Bench::new(vec![calls(&commands), calls(&more), said("fine")]);
    bench.surroundings = Surroundings::Terminal;
    assert_eq!(bench.run().outcome.text, "fine");
}

#[test]
fn the_exit_file_ends_the_session_after_the_batch() {
    let seen = Bench::new(vec![calls(&["echo 3 > exit", "echo two"]), said("never")]).run();
    assert!(matches!(seen.outcome.end, End::Completed));
    assert_eq!((seen.asked.len(), seen.count("tool "), seen.outcome.text.as_str()), (1, 2, ""));
}

/// A command that makes a file and then waits for another one, though not for ever.
fn meet(made: &str, awaited: &str) -> String {
    format!("touch {made}; for i in $(seq 1000); do [ -e {awaited} ] && echo {made} && exit; sleep 0.01; done; exit 1")
}

fn at_once(threads: u64, answers: Vec<Result<Assistant, ModelError>>) -> Bench {
    let mut bench = Bench::new(answers);
    bench.limits = Limits { parallel_tools: Some(threads), ..Limits::default() };
    bench
}

#[test]
fn calls_run_at_the_same_time_and_their_results_come_in_order() {
    let (first, second) = (meet("a", "b"), meet("b", "a") + "; true");
    let slow = format!("sleep 0.1; {first}");
    let seen = at_once(2, vec![calls(&[&slow, &second, "echo third"]), said("done")]).run();
    assert_eq!(seen.last_results(), ["a\n", "b\n", "third\n"]);
    assert_eq!((seen.count("tool "), seen.count("done false"), seen.count("end ToolResult")), (3, 3, 3));
    let results_begin = seen.events.iter().position(|event| event == "start ToolResult").unwrap();
    let last_end = seen.events.iter().rposition(|event| event == "done false").unwrap();
    assert!(last_end < results_begin, "{:?}", seen.events);
}

#[test]
fn no_more_calls_run_at_the_same_time_than_allowed() {
    let command = "echo in >> log; sleep 0.03; echo out >> log";
    for (threads, allowed) in [(1, 1), (3, 3)] {
        let bench = at_once(threads, vec![calls(&[command; 7]), said("done")]);
        let dir = Arc::clone(&bench.dir);
        assert_eq!(bench.run().count("done false"), 7);
        let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
        let running = log.lines().scan(0, |running, line| {
            *running += if line == "in" { 1 } else { -1 };
            Some(*running)
        });
        assert!(running.max() <= Some(allowed), "{threads}: {log}");
    }
}

#[test]
fn what_changes_files_runs_alone() {
    let mut answer = calls(&["sleep 0.05; cat made || echo nothing yet"]).unwrap();
    let write = r#"{"path":"made","content":"x"}"#;
    answer.content.push(Block::ToolCall(ToolCall::from_raw("w", "write", write)));
    let seen = at_once(4, vec![Ok(answer), said("done")]).run();
    assert!(seen.last_results()[0].ends_with("nothing yet\n"), "{:?}", seen.last_results());
}

#[test]
fn calls_that_run_together_are_judged_when_all_are_done() {
    let hopeless = "echo permission denied; false";
    let bench = at_once(2, vec![calls(&[hopeless, hopeless, hopeless, "touch made"]), said("never")]);
    let dir = Arc::clone(&bench.dir);
    let seen = bench.run();
    assert!(matches!(seen.outcome.end, End::Aborted));
    assert_eq!((seen.count("notice RepeatedPermissionErrors"), seen.count("turn end 1")), (1, 1));
    assert!(dir.path().join("made").exists());

    let seen = at_once(2, vec![calls(&["touch exit", "sleep 0.1; echo two"]), said("never")]).run();
    assert!(matches!(seen.outcome.end, End::Completed));
    assert_eq!((seen.asked.len(), seen.count("done false")), (1, 2));
}

#[test]
fn cancelling_ends_all_calls_that_run_and_starts_no_other() {
    let wait = |name: &str| format!("touch {name}; sleep 60");
    let bench = at_once(2, vec![calls(&[&wait("a"), &wait("b"), &wait("c")]), said("never")]);
    let (dir, cancel) = (Arc::clone(&bench.dir), bench.cancel.clone());
    let waiting = Arc::clone(&dir);
    let helper = std::thread::spawn(move || {
        let limit = Instant::now() + Duration::from_secs(20);
        while !["a", "b"].iter().all(|name| waiting.path().join(name).exists()) && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(5));
        }
        cancel.cancel();
    });
    let seen = bench.run();
    helper.join().unwrap();
    assert!(matches!(seen.outcome.end, End::Cancelled));
    assert_eq!((seen.count("tool "), seen.count("done true")), (2, 2));
    assert!(!dir.path().join("c").exists());
}

#[test]
fn secrets_in_results_are_counted_and_the_model_sees_them_unless_it_must_not() {
    for (redacts, parallel) in [(None, 1), (Some(true), 1), (Some(true), 2)] {
        let command = "echo hunter2-very-secret; echo hunter2-very-secret";
        let mut bench = at_once(parallel, vec![calls(&[command, "echo nothing"]), calls(&[command]), said("done")]);
        bench.limits.redact_tool_results = redacts;
        bench.secrets = Masker::labelled([("github_token", &Secret::new("hunter2-very-secret"))]);
        let seen = bench.run();
        let redacted = redacts == Some(true);
        let notice =
            format!(r#"notice SecretInToolOutput {{ kinds: ["github_token"], tool: "bash", redacted: {redacted} }}"#);
        assert_eq!(seen.count(&notice), 1);
        assert_eq!(seen.outcome.secrets_found, 4);
        let shown = if redacts.is_some() { "***\n***\n" } else { "hunter2-very-secret\nhunter2-very-secret\n" };
        assert_eq!(seen.last_results(), [shown, "nothing\n", shown]);
    }
}

#[test]
fn every_type_of_secret_in_results_is_reported_once() {
    let both = "echo hunter2-very-secret; echo another-very-secret";
    let third = "echo hunter2-very-secret; echo third-very-secret";
    let mut bench = at_once(1, vec![calls(&[both, both]), calls(&[third]), said("done")]);
    let secrets = ["hunter2-very-secret", "another-very-secret", "third-very-secret"].map(Secret::new);
    bench.secrets = Masker::labelled(["github_token", "git_ssh", "custom_key"].into_iter().zip(&secrets));
    let seen = bench.run();
    let notices: Vec<&str> = seen.events.iter().filter_map(|event| event.strip_prefix("notice ")).collect();
    let expected = [r#"["git_ssh", "github_token"]"#, r#"["custom_key"]"#]
        .map(|kinds| format!(r#"SecretInToolOutput {{ kinds: {kinds}, tool: "bash", redacted: false }}"#));
    assert_eq!(notices, expected);
}

#[test]
fn what_commands_print_is_reported_while_they_run_if_wanted() {
    for (streams, parallel) in [(None, 1), (Some(true), 1), (Some(true), 2)] {
        let mut bench = at_once(parallel, vec![calls(&["echo one; echo two >&2; printf three", "true"]), said("done")]);
        bench.limits.stream_tools = streams;
        let seen = bench.run();
        let printed: Vec<&str> = seen.events.iter().filter_map(|event| event.strip_prefix("printed ")).collect();
        assert_eq!(printed, if streams.is_some() { &["one", "two", "three"][..] } else { &[] });
        let first_end = seen.events.iter().position(|event| event == "done false").unwrap();
        let first_line = seen.events.iter().position(|event| event.starts_with("printed "));
        assert!(parallel > 1 || first_line.is_none_or(|line| line < first_end));
        assert_eq!(seen.last_results(), ["one\ntwo\nthree", "(no output)"]);
    }
}

/// Refuses what says so.
struct Strict(Vec<String>);

impl Owner for Strict {
    fn hear(&mut self, event: Event<'_>) {
        self.0.push(name(&event));
    }

    fn permit(&mut self, call: &ToolCall, target: Option<&Path>) -> Permit {
        self.0.push(format!(
            "asked {} {}",
            call.name,
            target.map(Path::display).map(|path| path.to_string()).unwrap_or_default()
        ));
        if call.raw.contains("refuse") { Permit::Refused("not this".into()) } else { Permit::Granted }
    }
}

#[test]
fn a_call_runs_only_when_its_owner_permits_it() {
    let write = |id: &str, path: &str| {
        let args = json!({"path": path, "content": "x"});
        Block::ToolCall(ToolCall::from_raw(id, "write", args.to_string()))
    };
    let mut response = calls(&["touch made", "touch refused", "ls"]).unwrap();
    let invalid = Block::ToolCall(ToolCall::from_raw("c", "write", "{}"));
    response.content.splice(2..2, [write("a", "granted.txt"), write("b", "refused.txt"), invalid]);
    let bench = Bench::new(vec![Ok(response), said("I see")]);
    let dir = bench.dir.path().to_owned();
    let mut owner = Strict(Vec::new());
    let seen = bench.run_for(&mut owner);
    let asked: Vec<&str> = owner.0.iter().filter_map(|event| event.strip_prefix("asked ")).collect();
    let [granted, refused] = ["granted.txt", "refused.txt"].map(|file| format!("write {}", dir.join(file).display()));
    assert_eq!(asked, ["bash ", "bash ", &granted, &refused, "bash "], "nothing is asked about what cannot run");
    let results = seen.last_results();
    assert_eq!(
        (results[1].as_str(), results[3].as_str(), results[5].as_str()),
        ("not this", "not this", "granted.txt\nmade\n")
    );
}
