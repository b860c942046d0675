//! Reading TOML files, laying them over each other, and knowing from which file a value came (cli-config.md §3.1).

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value as Json;
use toml::{Table, Value};

use crate::base::hide_user_info;
use crate::base::text::printable;

/// A file's tables with the name that messages call it by.
pub(super) struct Layer {
    pub(super) name: String,
    pub(super) table: Table,
}

impl Layer {
    /// Reads a file; a missing one is an empty layer.
    ///
    /// # Errors
    /// A message that names the file, and for malformed TOML line, column and the line itself.
    pub(super) fn read(path: &Path, name: &str) -> Result<Self, String> {
        // The file has its name already.
        let text =
            crate::base::files::read_optional(path).map_err(|error| format!("{name}: {}", error.root_cause()))?;
        let table = text.map(|text| parse(&text, name)).transpose()?.unwrap_or_default();
        Ok(Self { name: name.to_owned(), table })
    }
}

/// Parses a file.
///
/// # Errors
/// A message `<file>:<line>:<column>: <what>` and the offending line.
pub(super) fn parse(text: &str, name: &str) -> Result<Table, String> {
    text.parse::<Table>().map_err(|error| {
        let at = error.span().map_or(0, |span| span.start.min(text.len()));
        // A span that points behind the last line of the file means the end of that line.
        let at = if at == text.len() { text.trim_end().len() } else { at };
        let before = text.get(..at).unwrap_or_default();
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        let column = before[start..].chars().count() + 1;
        let offending = hide_user_info(text[start..].lines().next().unwrap_or_default());
        let message = error.message().replace('\n', "; ");
        let text = format!("{name}:{line}:{column}: {message}\n      {}", offending.trim_end());
        printable(&text).into_owned()
    })
}

/// Several layers merged, later ones winning, with the origin of every value.
#[derive(Clone, Debug, Default)]
pub struct Merged {
    pub(super) table: Table,
    files: Vec<String>,
    /// Dotted key → index into `files`. A table belongs to the first file that has it.
    origins: BTreeMap<String, usize>,
}

impl Merged {
    /// Lays one more file over what is there.
    pub(super) fn add(&mut self, layer: Layer) {
        self.files.push(layer.name);
        let mut base = std::mem::take(&mut self.table);
        self.overlay(&mut base, layer.table, "");
        self.table = base;
    }

    /// One file alone.
    pub(super) fn single(layer: Layer) -> Self {
        let mut merged = Self::default();
        merged.add(layer);
        merged
    }

    /// Name of the file that the value of a key came from; for a key that is not there, that of its nearest parent.
    pub fn file_of(&self, key: &str) -> &str {
        let mut key = key;
        loop {
            if let Some(index) = self.origins.get(key) {
                return &self.files[*index];
            }
            match key.rfind(['.', '[']) {
                Some(end) => key = &key[..end],
                None => return self.files.first().map_or("config.toml", String::as_str),
            }
        }
    }

    fn overlay(&mut self, base: &mut Table, over: Table, prefix: &str) {
        for (key, value) in over {
            let path = dotted(prefix, &key);
            match (base.get_mut(&key), value) {
                (Some(Value::Table(below)), Value::Table(above)) => self.overlay(below, above, &path),
                (_, Value::Table(above)) => {
                    self.forget(&path);
                    self.note(&path);
                    let mut fresh = Table::new();
                    self.overlay(&mut fresh, above, &path);
                    base.insert(key, Value::Table(fresh));
                }
                (_, other) => {
                    self.forget(&path);
                    self.note(&path);
                    base.insert(key, other);
                }
            }
        }
    }

    fn note(&mut self, path: &str) {
        self.origins.insert(path.to_owned(), self.files.len() - 1);
    }

    fn forget(&mut self, path: &str) {
        let below = format!("{path}.");
        self.origins.retain(|key, _| key != path && !key.starts_with(&below));
    }
}

/// A key below a prefix as TOML writes it, `a.b."c d"`.
pub(super) fn dotted(prefix: &str, key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    let key = if bare { key.to_owned() } else { Value::from(key).to_string() };
    if prefix.is_empty() { key } else { format!("{prefix}.{key}") }
}

/// A TOML value as JSON; dates become text, numbers that JSON does not have become null.
pub(super) fn to_json(value: &Value) -> Json {
    match value {
        Value::String(text) => Json::from(text.as_str()),
        Value::Integer(number) => Json::from(*number),
        Value::Float(number) => Json::from(*number),
        Value::Boolean(truth) => Json::from(*truth),
        Value::Datetime(instant) => Json::from(instant.to_string()),
        Value::Array(items) => items.iter().map(to_json).collect(),
        Value::Table(table) => Json::Object(table_to_json(table)),
    }
}

/// A TOML table as a JSON object.
pub(super) fn table_to_json(table: &Table) -> serde_json::Map<String, Json> {
    table.iter().map(|(key, value)| (key.clone(), to_json(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(name: &str, text: &str) -> Layer {
        Layer { name: name.to_owned(), table: parse(text, name).unwrap() }
    }

    #[test]
    fn tables_merge_and_everything_else_replaces() {
        let mut merged = Merged::single(layer("one", "a = [1, 2]\nb = 1\n[t]\nx = 1\ny = 1\n[u.v]\nz = 1"));
        merged.add(layer("two", "a = [3]\nu = 5\n[t]\ny = 2\n[b]\nc = 1"));
        let expected = parse("a = [3]\nu = 5\n[t]\nx = 1\ny = 2\n[b]\nc = 1", "").unwrap();
        assert_eq!(merged.table, expected);
    }

    #[track_caller]
    fn origin(merged: &Merged, key: &str, file: &str) {
        assert_eq!(merged.file_of(key), file, "{key}");
    }

    #[test]
    fn every_value_knows_its_file() {
        let mut merged = Merged::single(layer("one", "[t]\nx = 1\ny = 1\n[u.v]\nz = 1"));
        merged.add(layer("two", "u = 5\n[t]\ny = 2\n\"a b\" = 1\nl = [{ p = 1 }]"));
        origin(&merged, "t.x", "one");
        origin(&merged, "t.y", "two");
        origin(&merged, "t.missing", "one");
        origin(&merged, "t.\"a b\"", "two");
        origin(&merged, "t.l[0].p", "two");
        origin(&merged, "u", "two");
        origin(&merged, "u.v.z", "two");
        origin(&merged, "nowhere", "one");
    }

    #[track_caller]
    fn syntax(text: &str, parts: &[&str]) {
        let message = parse(text, "f.toml").unwrap_err();
        for part in parts {
            assert!(message.contains(part), "{message:?} lacks {part:?}");
        }
    }

    #[test]
    fn syntax_errors_say_where() {
        syntax("a = 1\n[gateway\nport = 1\n", &["f.toml:2:", "[gateway"]);
        syntax("environment = staging\n", &["f.toml:1:", "environment = staging"]);
        syntax("a = 1\na = 2\n", &["f.toml:2:", "a = 2"]);
        syntax("a = [\n", &["f.toml:1:", "a = ["]);
        syntax("a = \"ü\" x\n", &["f.toml:1:9:"]);
    }
}
