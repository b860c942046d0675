//! The texts for models and assistants say what the programs do: credential types, variables, commands and codes in them
//! are the programs' own.

use std::fs;
use std::path::Path;

use shims::credential_types::{Group, TYPES};
use shims::wire::{exit, paths};

fn text(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("agent-docs").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
}

/// Everything between backticks, with the commands' first words beside it.
#[track_caller]
fn says(page: &str, word: &str) {
    let text = text(page);
    let found = text.split('`').skip(1).step_by(2).any(|code| code == word || code.split(' ').any(|part| part == word));
    assert!(found, "agent-docs/{page} does not mention `{word}`");
}

#[test]
fn credential_types_and_their_variables_are_listed() {
    for kind in &TYPES {
        says("AGENTS.md", kind.id);
        if kind.group == Group::Agent {
            says("skills/credentials.md", kind.id);
        }
        for variable in kind.fields.iter().filter_map(|field| field.variable) {
            says("AGENTS.md", variable);
            says("skills/credentials.md", variable);
        }
    }
}

#[test]
fn no_variable_is_invented() {
    let known: Vec<&str> = TYPES.iter().flat_map(|kind| kind.fields).filter_map(|field| field.variable).collect();
    let text = text("skills/credentials.md");
    let table = text.lines().filter(|line| line.starts_with("| `") && !line.contains("git_ssh"));
    for variable in table.flat_map(|line| line.split('`').skip(3).step_by(2)) {
        assert!(known.contains(&variable) || variable == "GH_TOKEN", "{variable}");
    }
}

#[test]
fn every_command_is_explained() {
    for command in paths::COMMANDS {
        says("AGENTS.md", command);
    }
    for (page, commands) in [
        ("skills/signals.md", &["al-status", "al-return", "al-rerun", "al-exit"][..]),
        ("skills/resource-locks.md", &["rlock", "runlock", "rlock-heartbeat"]),
        ("skills/calls.md", &["al-call", "al-check", "al-wait"]),
        ("skills/README.md", &["al-wait", "rlock", "al-status"]),
    ] {
        for command in commands {
            says(page, command);
        }
    }
}

#[test]
fn every_code_of_al_exit_is_explained() {
    let text = text("skills/signals.md");
    for code in (0..=255).filter(|code| *code != exit::OK && !exit::reason(*code).starts_with("Unknown")) {
        assert!(text.contains(&format!("\n| {code} |")), "{code}");
    }
}
