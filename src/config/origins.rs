//! The merged configuration value by value, each with the file it comes from (cli-config.md §14.2). Nothing is checked.

use std::path::Path;

use anyhow::Result;
use toml::Value;

use super::home::{Home, Selection};
use super::layers::{Merged, dotted};
use super::project;

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
