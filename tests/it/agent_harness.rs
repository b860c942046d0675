//! `al-agent` around another program that holds the session: what ends it from outside, and what `check` says of it.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::agent_bed::{Bed, Ran, is_running, signal, wait_until};

/// An agent whose session is this shell script.
fn with_program(script: &str) -> Bed {
    let harness = json!({"type": "command", "command": ["sh", "-c", script]});
    Bed::new(&json!({"name": "dev", "credentials": [], "harness": harness})).variable("PROMPT", "Go on.")
}

#[test]
fn sigterm_reaches_the_program_which_may_say_goodbye() {
    let bed = with_program("trap 'echo bye > said; exit 0' TERM; echo $$ > pid; while :; do sleep 0.01; done");
    let (child, started) = (bed.command().spawn().unwrap(), std::time::Instant::now());
    wait_until("the program runs", || !bed.read("tmp/pid").is_empty());
    signal(&child, Signal::TERM);
    let ran = Ran::from_output(child.wait_with_output().unwrap(), started).expect_code(143);
    assert_eq!(bed.read("tmp/said"), "bye\n");
    assert!(!is_running(&bed.path("tmp/pid")));
    ran.line("token-usage");
    for end in ["session error", "run completed", "prompt returned"] {
        assert!(!ran.stdout.contains(end), "{}", ran.stdout);
    }
}

#[test]
fn the_time_limit_ends_the_program_and_what_it_has_started() {
    let bed = with_program("sleep 1000 & echo $! > pid; sleep 1000");
    bed.write("static/timeout", "1");
    let ran = bed.run().expect_code(124);
    assert!(!ran.stdout.contains("session error"), "{}", ran.stdout);
    wait_until("nothing is left", || !is_running(&bed.path("tmp/pid")));
}

#[test]
fn signal_files_of_the_program_count_when_it_ends_well() {
    let ran = with_program("echo half > $AL_SIGNAL_DIR/return; touch $AL_SIGNAL_DIR/rerun").run().expect_code(42);
    assert_eq!(ran.line("run completed, rerun requested").fields["outputLength"], 0);
    let ran = with_program("touch $AL_SIGNAL_DIR/rerun; exit 3").run().expect_code(15);
    assert!(!ran.stdout.contains("rerun requested"), "{}", ran.stdout);
}

#[test]
fn check_wants_no_model_for_a_command_of_ones_own() {
    let bed = with_program("true");
    let mut command = bed.command();
    command.arg("check");
    let ran = Ran::of(command).expect_code(0);
    let answer: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        (&answer["ok"], &answer["credential"], &answer["model"]),
        (&json!(true), &json!("not needed"), &Value::Null)
    );
}
