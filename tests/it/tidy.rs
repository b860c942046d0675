//! The shape of the source: layers without an arrow back up, and walls around what may be replaced one day.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Modules by layer, lowest first. A module uses its own layer's and lower ones; those of one line do not know each
/// other unless they are the same.
const LAYERS: [&[&str]; 8] = [
    &["base"],
    &["model"],
    &["config", "credentials"],
    &["docker", "http", "store", "watch", "webhooks"],
    &["run"],
    &["scheduler"],
    &["gateway", "setup", "ui"],
    &["cli"],
];

/// The same for the in-container programs.
const SHIMS_LAYERS: [&[&str]; 4] = [
    &["cancel", "credential_types", "env", "secret", "text"],
    &["gateway", "tool_environment", "user_info", "wire"],
    &["session"],
    &["agent", "cmd"],
];

/// (word, the only places where it may stand, relative to the project)
const WALLS: [(&str, &[&str]); 8] = [
    ("rusqlite", &["src/store"]),
    ("tiny_http", &["src/http"]),
    ("notify::", &["src/watch"]),
    ("argh::", &["src/cli"]),
    ("ureq::", &["src/base/web.rs", "shims/src/session", "shims/src/agent/preflight"]),
    ("println!(", &["src/cli", "src/ui"]),
    // Commands write to `term::stdout`, whose errors say what could not be written.
    (
        "std::io::stdout()",
        &["src/ui", "src/base/term.rs", "src/cli/commands/docs.rs", "src/scheduler/shell/ending.rs", "shims"],
    ),
    ("todo!(", &[]),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Rust files below a folder of the project, with their text before the tests in them.
pub(super) fn sources(folder: &str) -> BTreeMap<String, String> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), &mut found);
    let name = |path: &Path| path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
    let code = |path: &Path| {
        let text = fs::read_to_string(path).unwrap();
        // Tests with a file of their own leave only a line at the top.
        let is_inside = |at: &usize| text[*at..].lines().nth(1).is_some_and(|line| line.ends_with('{'));
        let tests = text.match_indices("#[cfg(test)]\nmod ").map(|(at, _)| at).find(is_inside);
        text[..tests.unwrap_or(text.len())].to_owned()
    };
    found.iter().map(|path| (name(path), code(path))).collect()
}

/// The module at the top of a folder that a file belongs to.
fn module_of<'a>(folder: &str, file: &'a str) -> &'a str {
    let below = file.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/')).unwrap();
    below.split_once('/').map_or_else(|| below.trim_end_matches(".rs"), |(module, _)| module)
}

/// Looks whether each module of a folder uses only those of lower layers, and how often one uses another.
#[track_caller]
fn check_layers(folder: &str, layers: &[&[&str]], least_edges: usize) {
    let layer_of = |module: &str| layers.iter().position(|layer| layer.contains(&module));
    let mut edges = BTreeSet::new();
    for (file, text) in sources(folder) {
        let module = module_of(folder, &file);
        if layer_of(module).is_none() {
            continue;
        }
        for used in text.split("crate::").skip(1) {
            let name: String = used.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            if layer_of(&name).is_some() && name != module {
                edges.insert((module.to_owned(), name, file.clone()));
            }
        }
    }
    let wrong: Vec<_> = edges.iter().filter(|(from, to, _)| layer_of(to) >= layer_of(from)).collect();
    assert!(wrong.is_empty(), "a module uses one of its own or a higher layer: {wrong:#?}");
    assert!(edges.len() > least_edges, "the graph was not read: {edges:?}");
}

#[test]
fn no_module_reaches_up_or_sideways() {
    check_layers("src", &LAYERS, 30);
    check_layers("shims/src", &SHIMS_LAYERS, 20);
}

#[test]
fn every_module_has_a_layer() {
    for (folder, layers) in [("src", LAYERS.as_slice()), ("shims/src", SHIMS_LAYERS.as_slice())] {
        let known: BTreeSet<&str> = layers.iter().flat_map(|layer| layer.iter().copied()).collect();
        // Crate roots stand above all of them.
        let is_root = |module: &str| matches!(module, "lib" | "main" | "bin");
        let files = sources(folder);
        let modules: BTreeSet<&str> = files.keys().map(|file| module_of(folder, file)).collect();
        let without: Vec<_> =
            modules.into_iter().filter(|module| !is_root(module) && !known.contains(module)).collect();
        assert!(without.is_empty(), "{folder}: {without:?}");
    }
}

#[test]
fn walls_stand() {
    let mut broken = Vec::new();
    for (file, text) in sources("src").into_iter().chain(sources("shims/src")) {
        for (word, places) in WALLS {
            let stands = |line: &&str| line.contains(word) && !line.trim_start().starts_with("//");
            if !places.iter().any(|place| file.starts_with(place)) {
                broken.extend(text.lines().filter(stands).map(|line| format!("{file}: {}", line.trim())));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_file_says_what_it_is() {
    let silent: Vec<String> = sources("src")
        .into_iter()
        .chain(sources("shims/src"))
        .filter(|(_, text)| !text.starts_with("//!"))
        .map(|(file, _)| file)
        .collect();
    assert!(silent.is_empty(), "without a first line `//! …`: {silent:?}");
}

#[test]
fn the_changelog_knows_this_version() {
    let changelog = fs::read_to_string(root().join("CHANGELOG.md")).unwrap();
    assert!(changelog.contains("Unreleased") || changelog.contains(env!("CARGO_PKG_VERSION")));
}
