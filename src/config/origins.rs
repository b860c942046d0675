//! The merged configuration value by value, each with the file it comes from (cli-config.md §14.2). Nothing is checked.

use std::path::Path;

use anyhow::Result;
use toml::{Table, Value};

use super::home::{Home, Selection};
use super::layers::{Layer, Merged, dotted};
use super::project;
use crate::base::error::ConfigError;
use crate::base::hide_user_info;

/// What stands in the place of a file for values that nobody set.
const DEFAULT: &str = "default";
const DEFAULT_SCALE: i64 = 1;
/// Seconds.
const DEFAULT_TIMEOUT: i64 = 900;

/// A value that is set in a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Origin {
    /// Dotted.
    pub key: String,
    /// What may be secret is `"***"`, in a URL name and password.
    pub value: Value,
    pub file: String,
}

/// All values of a project, sorted by key, and the environment that is selected.
///
/// # Errors
/// A file that is not TOML, or an environment that does not exist.
pub fn origins(dir: &Path, home: &Home, selection: &Selection) -> Result<(Option<String>, Vec<Origin>)> {
    let (environment, merged) = project::merged(dir, home, selection)?;
    let mut found = Vec::new();
    for (key, value) in &merged.table {
        walk(&merged, dotted("", key), key, value, &mut found);
    }
    found.sort_by(|a, b| a.key.cmp(&b.key));
    Ok((environment, found))
}

/// All values that count for an agent, sorted by key: its own, those that it inherits from the project, and the defaults of
/// what every agent has.
///
/// # Errors
/// As [`origins`], and when the agent's file is not TOML.
pub fn origins_of_agent(dir: &Path, home: &Home, selection: &Selection, agent: &str) -> Result<Vec<Origin>> {
    let name = format!("agents/{agent}/{}", super::agent::FILE);
    let own = Layer::read(&dir.join(&name), &name).map_err(ConfigError)?;
    let own = Merged::single(own);
    let mut found = Vec::new();
    for (key, value) in &own.table {
        walk(&own, dotted("", key), key, value, &mut found);
    }
    let (_, of_project) = origins(dir, home, selection)?;
    let inherited = of_project.into_iter().filter_map(|origin| inherited(&own.table, origin));
    let default = |(key, value): (&str, i64)| Origin {
        key: key.to_owned(),
        value: Value::Integer(value),
        file: DEFAULT.to_owned(),
    };
    for origin in inherited.chain([("scale", DEFAULT_SCALE), ("timeout", DEFAULT_TIMEOUT)].map(default)) {
        if found.iter().all(|known: &Origin| known.key != origin.key) {
            found.push(origin);
        }
    }
    found.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(found)
}

/// A value of the project as it counts for an agent with this file; `None` when it does not.
fn inherited(own: &Table, origin: Origin) -> Option<Origin> {
    let key = origin.key.as_str();
    if key == "local.timeout" {
        return Some(Origin { key: "timeout".to_owned(), ..origin });
    }
    let has = |name: &str| own.contains_key(name);
    let is_of = |name: &str| key.starts_with(&format!("{}.", dotted("models", name)));
    let names = own.get("models").and_then(Value::as_array).into_iter().flatten();
    let counts = key.starts_with("limits.")
        || (key.starts_with("model.") && !has("model") && !has("models"))
        || (key.starts_with("harness.") && !has("harness"))
        || names.filter_map(Value::as_str).any(is_of);
    counts.then_some(origin)
}

/// `parent` is the name of the table that `value` stands in, or its own at the top.
fn walk(merged: &Merged, key: String, parent: &str, value: &Value, found: &mut Vec<Origin>) {
    match value {
        Value::Table(table) => {
            for (name, value) in table {
                walk(merged, dotted(&key, name), name, value, found);
            }
        }
        value => {
            let file = merged.file_of(&key).to_owned();
            let is_secret = key.contains(".headers.") || key.starts_with("harness.env.");
            let value = if is_secret { Value::from("***") } else { masked(value, parent) };
            found.push(Origin { key, value, file });
        }
    }
}

/// A value with what may be secret masked: what the tables in an array say, and who is named in a URL.
fn masked(value: &Value, parent: &str) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.iter().map(|item| masked(item, parent)).collect()),
        Value::Table(table) => {
            let hidden = parent == "headers";
            let inner = |name: &str, value: &Value| if hidden { Value::from("***") } else { masked(value, name) };
            Value::Table(table.iter().map(|(name, value)| (name.clone(), inner(name, value))).collect())
        }
        Value::String(text) => Value::from(&*hide_user_info(text)),
        other => other.clone(),
    }
}
