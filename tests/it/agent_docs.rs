//! The texts for models and assistants say what the programs do: credential types, variables, commands and codes in them
//! are the programs' own.

use std::fs;
use std::path::Path;

use action_llama::config::keys::{KEYS, Place};
use action_llama::config::webhook::PROVIDERS;
use action_llama::model::webhook_context::Context;
use shims::credential_types::{Group, TYPES};
use shims::wire::{exit, paths};

use super::support::markdown::{self, codes, pages_in};
use super::support::shell_words::commands;
use super::support::shim::Shims;
use super::support::stub_gateway::StubGateway;

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

#[test]
fn every_key_of_an_agent_is_explained() {
    let text = text("AGENTS.md");
    let is_other = |c: char| !c.is_ascii_alphanumeric();
    let known: Vec<&str> = codes(&text).into_iter().flat_map(|code| code.split(is_other)).collect();
    let of_agents = KEYS.iter().filter(|key| matches!(key.place, Place::Agent | Place::ProjectAndAgent) && !key.later);
    // What hardly anybody needs is in the documentation for people.
    let rare = ["name", "headers", "authHeader", "cacheRetention", "idleTimeout", "hooks"];
    let prices = ["input", "output", "cacheRead", "cacheWrite"];
    let is_missing = |name: &&str| !known.contains(name) && !rare.contains(name) && !prices.contains(name);
    let missing: Vec<&str> = of_agents.map(|key| key.name()).filter(is_missing).collect();
    assert!(missing.is_empty(), "agent-docs/AGENTS.md does not explain {missing:?}");
}

#[test]
fn filters_are_those_of_the_providers() {
    let tables = markdown::page("agent-docs/AGENTS.md").tables();
    let table = tables.iter().find(|table| table.header[0] == "Filter").unwrap();
    for provider in PROVIDERS.iter().filter(|provider| provider.is_built()) {
        let column = table.column(provider.name).unwrap_or_else(|| panic!("no column {}", provider.name));
        let ticked = table.rows.iter().filter(|row| row[column] == "✓").flat_map(|row| codes(&row[0]));
        let (mut ticked, mut real) = (ticked.collect::<Vec<_>>(), provider.filters.to_vec());
        ticked.sort_unstable();
        real.sort_unstable();
        assert_eq!(ticked, real, "{}", provider.name);
    }
}

#[test]
fn members_of_webhooks_are_those_that_a_run_gets() {
    let some = || Some("x".to_owned());
    let context = Context {
        action: some(),
        number: Some(1),
        title: some(),
        body: some(),
        url: some(),
        author: some(),
        assignee: some(),
        labels: Some(Vec::new()),
        branch: some(),
        conclusion: some(),
        comment: some(),
        ..Context::default()
    };
    let real = |context: &Context| {
        let mut names: Vec<String> = context.clone().into_json("receipt").keys().cloned().collect();
        names.sort();
        names
    };
    let tables = markdown::page("agent-docs/skills/environment.md").tables();
    let table = tables.iter().find(|table| table.header[0] == "Member").unwrap();
    let shown = |wanted: fn(&str) -> bool| {
        let rows = table.rows.iter().filter(|row| wanted(&row[1]));
        let mut names: Vec<String> = rows.flat_map(|row| codes(&row[0])).map(str::to_owned).collect();
        names.sort();
        names
    };
    assert_eq!(shown(|_| true), real(&context));
    assert_eq!(shown(|always| always == "yes"), real(&Context::default()), "those that are always there");
    let text = text("AGENTS.md");
    let (_, list) = text.split_once("Always there: `").unwrap();
    let mut listed: Vec<String> =
        codes(&format!("`{list}"))[..2].join(" ").split_whitespace().map(str::to_owned).collect();
    listed.sort();
    assert_eq!(listed, real(&context), "agent-docs/AGENTS.md");
}

/// Lines to type, in blocks and between backticks in running text: the words of each command of the image.
fn lines_to_type() -> Vec<(String, Vec<String>)> {
    let mut lines = Vec::new();
    for page in pages_in("agent-docs/skills").into_iter().chain([markdown::page("agent-docs/AGENTS.md")]) {
        let blocks = page.blocks();
        let shell = blocks.iter().filter(|block| block.language == "bash");
        lines.extend(
            shell.flat_map(|block| commands(&block.text).into_iter().map(|words| (block.place.clone(), words))),
        );
        let text =
            blocks.iter().fold(page.text.clone(), |text, block| text.replace(&block.text, "")).replace("```", "");
        // `rlock "<key>"`, `al-wait <callId>… [--timeout N]`: what stands for something is a word like any other.
        let plain = |code: &str| {
            code.replace(['<', '>', '…'], "").replace("[--timeout N]", "--timeout 1").replace(['[', ']'], "")
        };
        let inline = codes(&text).into_iter().filter(|code| code.contains(' ')).map(plain);
        let inline: Vec<String> = inline.collect();
        lines.extend(inline.iter().flat_map(|code| commands(code)).map(|words| (page.name.clone(), words)));
    }
    lines.retain(|(_, words)| paths::COMMANDS.contains(&words[0].as_str()));
    lines
}

/// With a gateway that agrees to everything, every line that agents are shown succeeds.
#[test]
fn lines_that_agents_are_shown_are_accepted() {
    let shims = Shims::new();
    let stub = StubGateway::answering(200, r#"{"ok":true,"callId":"0b7c","status":"completed"}"#);
    let lines = lines_to_type();
    assert!(lines.len() > 30, "only {} lines", lines.len());
    for (place, words) in lines {
        // The codes of `al-exit` are written as a word where any of them may stand.
        let arguments = words[1..].iter().map(|word| if words[0] == "al-exit" && word == "code" { "10" } else { word });
        let outcome = shims.command(&words[0]).args(arguments).gateway(&stub).stdin("do it").run();
        assert_eq!(outcome.status, 0, "{place}: {words:?}: {outcome:?}");
    }
}

#[test]
fn every_exit_status_of_the_commands_is_explained() {
    let shims = Shims::new();
    let http = [200, 400, 403, 404, 409, 418, 500, 502, 503, 504];
    let of_answers = http
        .map(|status| shims.command("rlock").args(["k"]).gateway(&StubGateway::answering(status, "{}")).run().status);
    let usage = shims.command("rlock").gateway(&StubGateway::answering(200, "{}")).run().status;
    let nobody = StubGateway::answering(200, "{}").stop();
    let unreachable = shims
        .command("al-wait")
        .args(["x", "--timeout", "0"])
        .env("GATEWAY_URL", format!("http://{nobody}"))
        .run()
        .status;
    let pending = StubGateway::answering(200, r#"{"status":"pending"}"#);
    let over = shims.command("al-wait").args(["x", "--timeout", "0"]).gateway(&pending).run().status;
    let mut real: Vec<i32> = of_answers.into_iter().chain([usage, unreachable, over]).collect();
    real.sort_unstable();
    let tables = markdown::page("agent-docs/skills/README.md").tables();
    let table = tables.iter().find(|table| table.header[0] == "Status").unwrap();
    let shown: Vec<i32> = table.rows.iter().map(|row| row[0].parse().unwrap()).collect();
    assert_eq!(shown, real);
}

#[test]
fn commands_print_their_usage_as_agents_are_told() {
    let shims = Shims::new();
    for command in paths::COMMANDS {
        let outcome = shims.command(command).args(["--help"]).run();
        assert!(outcome.status == 0 && outcome.stdout.starts_with("usage: "), "{command}: {outcome:?}");
    }
}
