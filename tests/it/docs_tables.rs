//! What `docs/` says about commands, keys, variables and types is what the program has: nothing is missing, nothing is
//! invented.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use action_llama::config::keys::{Form, KEYS, Key, MODEL_PROVIDERS, Place, Shape};
use action_llama::config::project::Settings;
use action_llama::config::webhook::PROVIDERS;
use serde_json::Value;
use shims::credential_types::{Group, TYPES};
use shims::session::registry::recommended;
use shims::wire::{exit, paths};

use super::support::command_table;
use super::support::markdown::{Page, Table, codes, page, pages_in, root};
use super::support::project::Project;

/// Variables that act on libraries and programs that `al` uses, and are nowhere in its own source.
const PASSED_ON: [&str; 3] = ["DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "TMPDIR"];
/// Variables of the source that are no settings: build-time values, aids of tests, and what terminals say of themselves.
const NO_SETTINGS: [&str; 4] = ["AL_STATIC_DIR", "AL_TEST_CRASH_AT", "PATH", "XTERM_VERSION"];

#[track_caller]
fn same(
    what: &str,
    documented: impl IntoIterator<Item = impl AsRef<str>>,
    real: impl IntoIterator<Item = impl AsRef<str>>,
) {
    let documented: BTreeSet<String> = documented.into_iter().map(|item| item.as_ref().to_owned()).collect();
    let real: BTreeSet<String> = real.into_iter().map(|item| item.as_ref().to_owned()).collect();
    let missing: Vec<_> = real.difference(&documented).collect();
    let invented: Vec<_> = documented.difference(&real).collect();
    assert!(
        missing.is_empty() && invented.is_empty(),
        "{what}: not documented: {missing:?}; only documented: {invented:?}"
    );
}

/// The tables of a page that have this first column.
fn tables(page: &Page, first: &str) -> Vec<Table> {
    let found: Vec<Table> = page.tables().into_iter().filter(|table| table.header[0] == first).collect();
    assert!(!found.is_empty(), "{}: no table with a column {first}", page.name);
    found
}

/// Everything between backticks in the first column.
fn named(tables: &[Table]) -> Vec<String> {
    tables.iter().flat_map(|table| &table.rows).flat_map(|row| codes(&row[0])).map(str::to_owned).collect()
}

#[test]
fn commands_and_their_options_are_those_of_the_program() {
    let project = Project::without_docker("");
    let page = page("docs/commands.md");
    let real = command_table::commands(&project);
    let headings = page.headings();
    let documented: Vec<&str> =
        headings.iter().filter(|(level, _)| *level == 3).map(|(_, heading)| heading.trim_matches('`')).collect();
    same("docs/commands.md", &documented, real.iter().map(command_table::Command::usage));
    assert_eq!(documented.len(), real.len(), "a command is documented twice");

    let tables = tables(&page, "Option");
    let common: Vec<&str> = tables[0].rows.iter().flat_map(|row| codes(&row[0])).collect();
    // "Common: `-p`, `-H` (also `--check`)." names options of the first table by their shortest names; of others it
    // tells another name.
    let mut shared: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for section in page.text.split("\n### ").skip(1) {
        let usage = section.lines().next().unwrap().trim_matches('`').to_owned();
        for line in section.lines().filter(|line| line.starts_with("Common: ")) {
            for name in codes(line) {
                if let Some(display) = common.iter().find(|display| display.split([',', ' ']).next() == Some(name)) {
                    shared.entry(usage.clone()).or_default().push((*display).to_owned());
                }
            }
        }
    }
    for command in &real {
        let usage = command.usage();
        let own = tables[1..].iter().filter(|table| table.heading.trim_matches('`') == usage);
        let own = own.flat_map(|table| &table.rows).flat_map(|row| codes(&row[0])).map(str::to_owned);
        let documented = own.chain(shared.remove(&usage).unwrap_or_default());
        same(&format!("docs/commands.md, {usage}"), documented, command.options.iter().cloned());
    }
}

/// How the column "Where" names a place.
fn place(key: &Key) -> &'static str {
    match key.place {
        Place::Project => "project",
        Place::Local => "`.env.toml`",
        Place::Environment => "environment",
        Place::Agent => "agent",
        Place::ProjectAndAgent => "project, agent",
    }
}

/// What the column "Type" says about a key.
fn type_of(shape: &Shape) -> String {
    let text = |kind: &str, form: &Form| match form {
        Form::Any => kind.to_owned(),
        Form::OneOf(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" "),
        Form::Is(what, _) => format!("{kind}: {what}"),
    };
    match shape {
        Shape::Bool => "boolean".to_owned(),
        Shape::Int(least, i64::MAX) => format!("integer, ≥ {least}"),
        Shape::Int(least, most) => format!("integer, {least}–{most}"),
        Shape::ZeroOrInt(least, most) => format!("integer, 0 or {least}–{most}"),
        Shape::Number(least, most) if *most == f64::MAX => format!("number, ≥ {least}"),
        Shape::Number(least, most) => format!("number, {least}–{most}"),
        Shape::Text(form) => text("string", form),
        Shape::Texts(form) => text("list of strings", form),
        Shape::OneOrMany(form) => text("string or list of strings", form),
        Shape::TextTable(form) => text("table of strings", form),
        Shape::Size(form) => text("string or integer", form),
        Shape::Named(_) => "table of tables".to_owned(),
        Shape::Tables(_) | Shape::Triggers => "list of tables".to_owned(),
        Shape::Table | Shape::Free => "table".to_owned(),
        Shape::Any => "anything".to_owned(),
    }
}

#[test]
fn keys_with_place_and_type_are_those_of_the_program() {
    let mut documented: BTreeMap<(String, String), Vec<(String, String)>> = BTreeMap::new();
    for table in pages_in("docs").iter().flat_map(Page::tables).filter(|table| table.header[0] == "Key") {
        if table.column("Where").is_none() {
            continue;
        }
        let [kind, notes] = ["Type", ""].map(|header| table.column(header).unwrap());
        for row in &table.rows {
            let key = codes(&row[0])[0].replace("<source>", "*");
            let found = (row[kind].clone(), row[notes].clone());
            documented.entry((key, row[1].clone())).or_default().push(found);
        }
    }
    // A plain table is there by its keys.
    let real: Vec<&Key> = KEYS.iter().filter(|key| !matches!(key.shape, Shape::Table)).collect();
    let name = |key: &str, place: &str| format!("{key} ({place})");
    same(
        "docs/",
        documented.keys().map(|(key, place)| name(key, place)),
        real.iter().map(|key| name(key.path, place(key))),
    );
    for key in real {
        let found = &documented[&(key.path.to_owned(), place(key).to_owned())];
        let [(kind, notes)] = found.as_slice() else { panic!("{} is documented {} times", key.path, found.len()) };
        assert_eq!(*kind, type_of(&key.shape), "type of {}", key.path);
        assert_eq!(notes.contains("no effect yet"), key.later, "{}: has it an effect?", key.path);
    }
}

#[test]
fn defaults_are_those_of_the_program() {
    let real = serde_json::to_value(Settings::default()).unwrap();
    let mut compared = 0;
    for table in page("docs/configuration.md").tables() {
        let Some(column) = table.column("Default") else { continue };
        for row in table.rows {
            let key = codes(&row[0])[0];
            let Some(value) = real.pointer(&format!("/{}", key.replace('.', "/"))) else { continue };
            let expected = match value {
                Value::Null | Value::Object(_) => "–".to_owned(),
                Value::String(text) => format!("`{text}`"),
                other => format!("`{other}`"),
            };
            assert_eq!(row[column], expected, "default of {key}");
            compared += 1;
        }
    }
    assert!(compared > 30, "only {compared} defaults were compared");
}

/// Names of environment variables that the host program reads.
fn variables_of_the_source() -> BTreeSet<String> {
    fn walk(path: &Path, found: &mut BTreeSet<String>) {
        if path.is_dir() {
            return fs::read_dir(path).unwrap().for_each(|entry| walk(&entry.unwrap().path(), found));
        }
        let text = fs::read_to_string(path).unwrap();
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap();
        let readers = ["get(", "get_non_empty(", "get_os(", "var(", "var_os(", "set(", "variable(", "either("];
        for line in code.lines() {
            let is_constant = line.contains("VARIABLE: &str =") || line.contains("CLIENT_THREADS: &str =");
            let is_list = line.contains("REDIRECTIONS:");
            for (index, _) in line.match_indices('"') {
                let name: String =
                    line[index + 1..].chars().take_while(|c| c.is_ascii_uppercase() || *c == '_').collect();
                let is_name = name.len() > 1 && line[index + 1 + name.len()..].starts_with('"');
                // `.set(…)` is said to an environment, `set(…)` asks for one.
                let before = &line[..index];
                let is_read = readers.iter().any(|reader| before.ends_with(reader)) && !before.ends_with(".set(");
                if is_name && (is_read || is_constant || is_list) {
                    found.insert(name);
                }
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(&root().join("src"), &mut found);
    walk(&root().join("shims/src/session/http.rs"), &mut found);
    found
}

#[test]
fn environment_variables_are_those_that_the_program_reads() {
    let real = variables_of_the_source();
    assert!(real.len() > 20, "the source was not understood: {real:?}");
    let real = real.into_iter().filter(|name| !NO_SETTINGS.contains(&name.as_str()));
    let documented = named(&tables(&page("docs/configuration.md"), "Variable"));
    same("docs/configuration.md", documented, real.chain(PASSED_ON.map(str::to_owned)));
}

#[test]
fn credential_types_are_those_of_the_program() {
    let table = tables(&page("docs/credentials.md"), "Type").remove(0);
    same("docs/credentials.md", table.rows.iter().map(|row| codes(&row[0])[0]), TYPES.iter().map(|kind| kind.id));
    for (row, kind) in table.rows.iter().zip(&TYPES) {
        assert_eq!(codes(&row[0])[0], kind.id, "types stand in the order of every listing");
        let fields = kind
            .fields
            .iter()
            .map(|field| format!("`{}`{}", field.name, if field.is_mandatory() { "" } else { " (o)" }));
        assert_eq!(row[1], fields.collect::<Vec<_>>().join(" "), "fields of {}", kind.id);
        let owner = match kind.group {
            Group::Agent => "agents",
            Group::ModelKey => "the model",
            Group::Gateway => "the gateway",
        };
        assert_eq!(row[2], owner, "who gets {}", kind.id);
        same(
            &format!("variables of {}", kind.id),
            codes(&row[3]),
            kind.fields.iter().filter_map(|field| field.variable),
        );
    }
}

#[test]
fn model_providers_are_those_of_the_program() {
    let table = tables(&page("docs/models.md"), "Provider").remove(0);
    same("docs/models.md", table.rows.iter().map(|row| codes(&row[0])[0]), MODEL_PROVIDERS);
    for row in &table.rows {
        let provider = codes(&row[0])[0];
        let key = format!("{provider}_key");
        let known = TYPES.iter().find(|kind| kind.id == key).map(|kind| kind.id);
        assert_eq!(codes(&row[1]).first().copied(), known, "key of {provider}");
        same(&format!("models of {provider}"), codes(&row[2]), recommended(provider));
    }
}

#[test]
fn webhook_providers_and_filters_are_those_of_the_program() {
    let page = page("docs/webhooks.md");
    let built = || PROVIDERS.iter().filter(|provider| provider.is_built());
    same("docs/webhooks.md", named(&tables(&page, "`type`")), built().map(|provider| provider.name.to_owned()));
    for row in &tables(&page, "`type`")[0].rows {
        let provider = built().find(|provider| provider.name == codes(&row[0])[0]).unwrap();
        assert_eq!(codes(&row[3]).first().copied(), provider.secret, "secret of {}", provider.name);
    }
    let filters = tables(&page, "Filter").remove(0);
    same("filters", filters.header[1..].iter().map(String::as_str), built().map(|provider| provider.name));
    for provider in built() {
        let column = filters.column(provider.name).unwrap();
        let ticked = filters.rows.iter().filter(|row| row[column] == "✓").flat_map(|row| codes(&row[0]));
        same(&format!("filters of {}", provider.name), ticked, provider.filters.iter().copied());
    }
}

#[test]
fn commands_of_containers_are_those_of_the_image() {
    let documented = named(&tables(&page("docs/containers.md"), "Command"));
    same("docs/containers.md", documented, paths::COMMANDS.map(str::to_owned));
}

#[test]
fn exit_statuses_of_runs_are_explained() {
    let table = page("docs/ci.md").tables().into_iter().find(|table| table.heading == "Exit status").unwrap();
    let documented = table.rows.iter().flat_map(|row| row[0].split(", ").map(str::to_owned));
    let chosen = (0..=255).filter(|code| !exit::reason(*code).starts_with("Unknown"));
    let others = [exit::FAILED, exit::TIMEOUT, exit::KILLED, exit::TERMINATED, 130];
    same("docs/ci.md", documented, chosen.chain(others).map(|code| code.to_string()));
}

#[test]
fn templates_are_those_of_the_program() {
    let table = tables(&page("docs/agents.md"), "Template").remove(0);
    let real = fs::read_dir(root().join("src/setup/templates")).unwrap();
    let real = real.map(|entry| entry.unwrap().file_name().into_string().unwrap()).chain(["custom".to_owned()]);
    same("docs/agents.md", table.rows.iter().map(|row| codes(&row[0])[0].to_owned()), real);
    for row in &table.rows {
        let template = codes(&row[0])[0];
        let path = root().join(format!("src/setup/templates/{template}/agent-config.toml"));
        let Ok(text) = fs::read_to_string(path) else { continue };
        let config: toml::Table = text.parse().unwrap();
        let needs = config["credentials"].as_array().unwrap().iter().map(|reference| reference.as_str().unwrap());
        same(&format!("credentials of {template}"), codes(&row[2]), needs);
    }
}
