//! Results of tools that say that a permission is missing, and how many of them end a run (agent-session.md §6.3).

use super::super::{End, Surroundings};
use super::{Fake, Format, Given, Seen, hold_in};

const TEXTS: [&str; 7] = [
    "permission denied",
    "could not read from remote repository",
    "resource not accessible by personal access token",
    "bad credentials",
    "authentication failed",
    "the requested url returned error: 403",
    "denied to ",
];

/// A command that fails and says this.
fn failing(text: &str) -> String {
    format!("printf '%s\\n' '{text}' >&2; exit 1")
}

/// A session in which the model runs these commands, one after another, and then is done.
fn with_commands(surroundings: Surroundings, commands: &[String]) -> (Seen, usize) {
    let format = Format::Chat;
    let mut answers: Vec<Given> = commands.iter().map(|command| Given::stream(format.calls(&[command]))).collect();
    answers.push(Given::stream(format.hello()));
    let server = Fake::start(answers);
    let mut table = format.table(&server.url);
    // The model must not be suspected of having no room.
    table["contextWindow"] = 100_000.into();
    (hold_in(surroundings, table), server.received().len())
}

#[track_caller]
fn assert_aborted(commands: &[String], requests: usize) {
    let (seen, received) = with_commands(Surroundings::Container, commands);
    assert!(matches!(seen.end, End::Aborted), "{commands:?}: {:?}", seen.end);
    assert_eq!((received, seen.notices), (requests, vec!["RepeatedPermissionErrors".to_owned()]), "{commands:?}");
}

#[track_caller]
fn assert_goes_on(commands: &[String]) {
    let (seen, received) = with_commands(Surroundings::Container, commands);
    assert!(matches!(seen.end, End::Completed), "{commands:?}: {:?}", seen.end);
    assert_eq!((received, seen.tools), (commands.len() + 1, commands.len()), "{commands:?}");
}

#[test]
fn the_third_of_each_text_ends_the_run_without_another_request() {
    for text in TEXTS {
        let written = |text: &str| failing(&format!("remote: {text}bot, see the manual"));
        let commands = [written(text), written(&text.to_uppercase()), written(text), "echo never".to_owned()];
        assert_aborted(&commands, 3);
        assert_goes_on(&commands[..2]);
    }
}

#[test]
fn the_count_is_that_of_the_whole_session_and_of_all_texts() {
    let quiet = || "true".to_owned();
    let commands = [failing(TEXTS[0]), quiet(), failing(TEXTS[3]), quiet(), failing(TEXTS[6]), quiet()];
    assert_aborted(&commands, 5);
    // One call counts once, whatever it says.
    assert_goes_on(&[failing(&TEXTS.join(", ")), failing(&TEXTS.concat())]);
}

#[test]
fn what_succeeds_or_says_something_else_does_not_count() {
    let harmless = ["access denied", "denied to", "error: 403", "authentication required", "permission  denied"];
    assert_goes_on(&harmless.map(failing));
    assert_goes_on(&TEXTS.map(|text| format!("echo '{text}'")));
}

#[test]
fn calls_behind_the_third_failure_are_not_carried_out() {
    let text = failing(TEXTS[4]);
    for format in Format::ALL {
        let commands = [text.as_str(), "true", &text, &text, "echo never", &text];
        let server = Fake::start(vec![Given::stream(format.calls(&commands)), Given::stream(format.hello())]);
        let seen = hold_in(Surroundings::Container, format.table(&server.url));
        assert!(matches!(seen.end, End::Aborted), "{format:?}: {:?}", seen.end);
        assert_eq!((seen.tools, server.received().len()), (4, 1), "{format:?}");
    }
}

/// There somebody can do something about it.
#[test]
fn a_conversation_with_a_person_goes_on() {
    let commands: Vec<String> = TEXTS.iter().map(|text| failing(text)).collect();
    let (seen, received) = with_commands(Surroundings::Terminal, &commands);
    assert!(matches!(seen.end, End::Completed), "{:?}", seen.end);
    assert_eq!((received, seen.text.as_str()), (8, "Hello."));
}
