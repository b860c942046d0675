//! What the results of tools do to a session.

use std::path::Path;

use serde_json::json;

use super::bench::{Bench, calls, name, said};
use crate::session::event::Event;
use crate::session::message::{Block, Stop, ToolCall};
use crate::session::{End, Owner, Permit, Surroundings};

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
