//! What the results of tools do to a session.

use super::bench::{Bench, calls, said};
use crate::session::message::{Block, Stop, ToolCall};
use crate::session::{End, Surroundings};

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
