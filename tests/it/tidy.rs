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
        let end = text.find("#[cfg(test)]\nmod ").unwrap_or(text.len());
        text[..end].to_owned()
    };
    found.iter().map(|path| (name(path), code(path))).collect()
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

#[test]
fn no_module_reaches_up_or_sideways() {
    let mut edges = BTreeSet::new();
    for (file, text) in sources("src") {
        let Some(module) = file.strip_prefix("src/").and_then(|rest| rest.split_once('/')) else { continue };
        for used in text.split("crate::").skip(1) {
            let name: String = used.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            if layer_of(&name).is_some() && name != module.0 {
                edges.insert((module.0.to_owned(), name, file.clone()));
            }
        }
    }
    let wrong: Vec<_> = edges.iter().filter(|(from, to, _)| layer_of(to) >= layer_of(from)).collect();
    assert!(wrong.is_empty(), "a module uses one of its own or a higher layer: {wrong:#?}");
    assert!(edges.len() > 30, "the graph was not read: {edges:?}");
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
