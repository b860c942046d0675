//! The merged configuration value by value, each with the file it comes from (cli-config.md §14.2). Nothing is checked.

use std::path::Path;

use anyhow::Result;
use toml::Value;

use super::home::{Home, Selection};
use super::layers::{Layer, Merged, dotted};
use super::project;
use crate::base::error::ConfigError;

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
    /// What may be secret is `"***"`.
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
    let has = |key: &str| own.table.contains_key(key);
    let timeout = if has("timeout") { None } else { Some("timeout") };
    let inherits_model = !has("model") && !has("models");
    let named: Vec<String> = own
        .table
        .get("models")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(|name| format!("models.{name}."))
        .collect();
    let inherits_harness = !has("harness");
    let single = Merged::single(own);
    let mut found = Vec::new();
    for (key, value) in &single.table {
        walk(&single, dotted("", key), key, value, &mut found);
    }
    let is_own = |key: &str, found: &[Origin]| found.iter().any(|origin| origin.key == key);
    let (_, of_project) = origins(dir, home, selection)?;
    for mut origin in of_project {
        let key = origin.key.as_str();
        if key == "local.timeout"
            && let Some(timeout) = timeout
        {
            origin.key = timeout.to_owned();
        } else if !((inherits_model && key.starts_with("model."))
            || (inherits_harness && key.starts_with("harness."))
            || key.starts_with("limits.")
            || named.iter().any(|named| key.starts_with(named.as_str())))
        {
            continue;
        }
        if !is_own(&origin.key, &found) {
            found.push(origin);
        }
    }
    for (key, value) in [("scale", DEFAULT_SCALE), ("timeout", DEFAULT_TIMEOUT)] {
        if !is_own(key, &found) {
            found.push(Origin { key: key.to_owned(), value: Value::Integer(value), file: DEFAULT.to_owned() });
        }
    }
    found.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(found)
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

/// A value of an array with what may be secret in the tables in it masked.
fn masked(value: &Value, parent: &str) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.iter().map(|item| masked(item, parent)).collect()),
        Value::Table(table) => {
            let hidden = parent == "headers";
            let inner = |name: &str, value: &Value| if hidden { Value::from("***") } else { masked(value, name) };
            Value::Table(table.iter().map(|(name, value)| (name.clone(), inner(name, value))).collect())
        }
        other => other.clone(),
    }
}
