//! Changing a TOML file: comments, the order of keys and all formatting stay as they are, except where something was
//! changed (cli-config.md §3.12).

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use toml::Value;
use toml_edit::{ArrayOfTables, Decor, Document, DocumentMut, Item, Table, TableLike};

use super::layers;
use crate::base::error::ConfigError;
use crate::base::files::{read_optional, write_atomic};

/// A file that is being changed.
pub struct Edited {
    path: PathBuf,
    /// As messages call it.
    name: String,
    before: Option<String>,
    document: DocumentMut,
}

/// Whether a file was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    Changed,
    /// There was nothing to write.
    Unchanged,
}

impl Edited {
    /// Reads a file, which need not exist. `name` is what messages call it.
    ///
    /// # Errors
    /// A file that cannot be read or is not TOML.
    pub fn open(path: &Path, name: &str) -> Result<Self> {
        let before = read_optional(path)?;
        let text = before.as_deref().unwrap_or_default();
        // Our own reader says where it is wrong.
        layers::parse(text, name).map_err(ConfigError)?;
        let document = text.parse::<DocumentMut>().with_context(|| format!("read {name}"))?;
        Ok(Self { path: path.to_owned(), name: name.to_owned(), before, document })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The content as it is now.
    pub fn text(&self) -> String {
        let text = self.document.to_string();
        if text.is_empty() || text.ends_with('\n') { text } else { text + "\n" }
    }

    /// The values as they are now.
    pub fn table(&self) -> toml::Table {
        self.text().parse().expect("an edited document is TOML")
    }

    /// Gives a key a value; tables on the way to it are made. A comment behind the old value stays.
    ///
    /// # Errors
    /// When something on the way is no table.
    pub fn set(&mut self, key: &[&str], value: &Value) -> Result<()> {
        let (last, parents) = key.split_last().expect("a key has a name");
        let end = self.document.trailing().as_str().unwrap_or_default().to_owned();
        let is_new = parents.first().is_some_and(|first| !self.document.contains_key(first));
        let mut table: &mut dyn TableLike = self.document.as_table_mut();
        for parent in parents {
            let item = table.entry(parent).or_insert_with(|| Item::Table(Table::new()));
            table = item
                .as_table_like_mut()
                .with_context(|| format!("{}: {}: {parent} is not a table", self.name, key.join(".")))?;
        }
        put(table, last, value);
        // Comments at the end of the file belong to what was its last table.
        if is_new
            && !end.trim().is_empty()
            && let Some(Item::Table(table)) = parents.first().and_then(|first| self.document.get_mut(first))
        {
            table.decor_mut().set_prefix(format!("{}\n\n", end.trim_end()));
            self.document.set_trailing("");
        }
        Ok(())
    }

    /// Takes a key away, with everything below it. Comments above it stay unless it is a table. Nothing happens when it
    /// is not there.
    pub fn unset(&mut self, key: &[&str]) {
        if let Some(text) = without_lines(&self.document.to_string(), key)
            && let Ok(document) = text.parse()
        {
            self.document = document;
            return;
        }
        let (last, parents) = key.split_last().expect("a key has a name");
        let mut table: &mut dyn TableLike = self.document.as_table_mut();
        for parent in parents {
            match table.get_mut(parent).and_then(Item::as_table_like_mut) {
                Some(below) => table = below,
                None => return,
            }
        }
        table.remove(last);
    }

    /// Adds a table to an array of tables.
    ///
    /// # Errors
    /// When the key is something else.
    pub fn push(&mut self, key: &str, entries: &[(String, Value)]) -> Result<()> {
        let item = self.document.entry(key).or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
        let mut table = Table::new();
        entries.iter().for_each(|(name, value)| put(&mut table, name, value));
        match item {
            Item::ArrayOfTables(tables) => tables.push(table),
            Item::Value(toml_edit::Value::Array(array)) => array.push(table.into_inline_table()),
            _ => return Err(ConfigError(format!("{}: {key}: is not an array of tables", self.name)).into()),
        }
        Ok(())
    }

    /// Gives a key of one table of an array a value, or takes it away.
    pub fn set_in(&mut self, key: &str, index: usize, name: &str, value: Option<&Value>) {
        let table: Option<&mut dyn TableLike> = match self.document.get_mut(key) {
            Some(Item::ArrayOfTables(tables)) => tables.get_mut(index).map(|table| table as &mut dyn TableLike),
            Some(Item::Value(toml_edit::Value::Array(array))) => array
                .get_mut(index)
                .and_then(|value| value.as_inline_table_mut())
                .map(|table| table as &mut dyn TableLike),
            _ => None,
        };
        match (table, value) {
            (Some(table), Some(value)) => put(table, name, value),
            (Some(table), None) => drop(table.remove(name)),
            (None, _) => {}
        }
    }

    /// Takes one table of an array away, and the array when it was the last.
    pub fn remove_from(&mut self, key: &str, index: usize) {
        let is_empty = match self.document.get_mut(key) {
            Some(Item::ArrayOfTables(tables)) => {
                tables.remove(index);
                tables.is_empty()
            }
            Some(Item::Value(toml_edit::Value::Array(array))) => {
                array.remove(index);
                array.is_empty()
            }
            _ => false,
        };
        if is_empty {
            self.document.remove(key);
        }
    }

    /// Writes the file when something changed; a new one gets this mode.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, mode: u32) -> Result<Saved> {
        let text = self.text();
        if self.before.as_deref().unwrap_or_default() == text {
            return Ok(Saved::Unchanged);
        }
        // A link stays a link: what it leads to is replaced.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let mode = fs::metadata(&path).map_or(mode, |found| found.permissions().mode() & 0o777);
        write_atomic(&path, text.as_bytes(), mode)?;
        Ok(Saved::Changed)
    }
}

/// Sets a key, with what stands around its old value.
fn put(table: &mut dyn TableLike, name: &str, value: &Value) {
    let mut value = converted(value);
    match table.get_mut(name) {
        Some(Item::Value(old)) => {
            *value.decor_mut() = old.decor().clone();
            *old = value;
        }
        _ => {
            *value.decor_mut() = Decor::default();
            drop(table.insert(name, Item::Value(value)));
        }
    }
}

fn converted(value: &Value) -> toml_edit::Value {
    value.to_string().parse().expect("a value is written as TOML")
}

/// The text without the lines of a key and its value, when the key stands at the beginning of a line of its own.
fn without_lines(text: &str, key: &[&str]) -> Option<String> {
    let document: Document<&str> = Document::parse(text).ok()?;
    let (last, parents) = key.split_last()?;
    let mut table: &dyn TableLike = document.as_table();
    for parent in parents {
        table = table.get(parent)?.as_table_like()?;
    }
    let (found, item) = table.get_key_value(last)?;
    let (start, end) = (found.span()?.start, item.as_value()?.span()?.end);
    let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
    let line_end = text[end..].find('\n').map_or(text.len(), |newline| end + newline + 1);
    // Something before the key on its line means that it is part of an inline table.
    let is_own_line = text[line_start..start].chars().all(|c| c.is_whitespace() || c == '.' || c.is_alphanumeric());
    let rest = text[end..line_end].trim();
    (is_own_line && (rest.is_empty() || rest.starts_with('#')))
        .then(|| format!("{}{}", &text[..line_start], &text[line_end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# On top.\nname = 1 # behind\n\n# About the list.\nlist = [ 1,  2 ] # odd   blanks\nlast = 'x'\n\n# About the \
                        table.\n[t]\n  a = 1 # indented\n# at the end\n";

    fn edited(text: &str, change: impl FnOnce(&mut Edited)) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.toml");
        fs::write(&path, text).unwrap();
        let mut edited = Edited::open(&path, "f.toml").unwrap();
        change(&mut edited);
        edited.save(0o600).unwrap();
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn only_what_is_set_changes() {
        let text = edited(FILE, |file| {
            file.set(&["name"], &Value::from("new")).unwrap();
            file.set(&["t", "a"], &Value::Array(vec![Value::from(1), Value::from("b")])).unwrap();
        });
        assert_eq!(text, FILE.replace("name = 1", "name = \"new\"").replace("a = 1", "a = [1, \"b\"]"));
        let text = edited(FILE, |file| file.set(&["u", "v"], &Value::from(true)).unwrap());
        let parsed: toml::Table = text.parse().unwrap();
        assert_eq!(parsed["u"]["v"].as_bool(), Some(true));
        assert!(text.contains(FILE.trim_end()), "{text}");
        assert_eq!(edited("", |file| file.set(&["a"], &Value::from(1)).unwrap()), "a = 1\n");
    }

    #[test]
    fn what_is_taken_away_leaves_comments_and_the_rest() {
        assert_eq!(edited(FILE, |file| file.unset(&["name"])), FILE.replace("name = 1 # behind\n", ""));
        assert_eq!(edited(FILE, |file| file.unset(&["list"])), FILE.replace("list = [ 1,  2 ] # odd   blanks\n", ""));
        assert_eq!(edited(FILE, |file| file.unset(&["t", "a"])), FILE.replace("  a = 1 # indented\n", ""));
        assert_eq!(edited(FILE, |file| file.unset(&["not", "there"])), FILE);
        assert_eq!(edited("t = { a = 1, b = 2 }\n", |file| file.unset(&["t", "a"])), "t = { b = 2 }\n");
        assert_eq!(edited("a = [\n  1,\n]\nb = 2", |file| file.unset(&["a"])), "b = 2\n");
    }

    #[test]
    fn tables_of_an_array_are_added_changed_and_removed() {
        let entries = |source: &str| vec![("source".to_owned(), Value::from(source))];
        let file = "# first\n[[w]]\nsource = 'a' # why\n\n# second\n[[w]]\nsource = 'b'\n";
        let text = edited(file, |file| {
            file.push("w", &entries("c")).unwrap();
            file.set_in("w", 0, "events", Some(&Value::Array(vec![Value::from("push")])));
            file.remove_from("w", 1);
        });
        let expected = "# first\n[[w]]\nsource = 'a' # why\nevents = [\"push\"]\n\n[[w]]\nsource = \"c\"\n";
        assert_eq!(text, expected);
        assert_eq!(edited("[[w]]\nsource = 'a'\n", |file| file.remove_from("w", 0)), "");
        assert_eq!(edited("w = []\n", |file| file.push("w", &entries("c")).unwrap()), "w = [{ source = \"c\" }]\n");
    }

    #[test]
    fn nothing_is_written_when_nothing_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.toml");
        assert_eq!(Edited::open(&path, "f").unwrap().save(0o600).unwrap(), Saved::Unchanged);
        assert!(!path.exists());
        fs::write(&path, "a = 1").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let mut file = Edited::open(&path, "f").unwrap();
        file.set(&["b"], &Value::from(2)).unwrap();
        assert_eq!(file.save(0o600).unwrap(), Saved::Changed);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_to_string(&path).unwrap(), "a = 1\nb = 2\n");
    }
}
