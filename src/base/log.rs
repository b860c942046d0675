//! Log files: one JSON object per line, one file per name and UTC date (scheduler.md §13).

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::{Map, Value};
pub use shims::wire::log::Level;

use super::Masker;
use super::clock::UnixMs;
use super::text::cut;

/// Longest line that is written; a longer one loses the end of its longest text.
const LONGEST_LINE_BYTES: usize = 256 * 1024;
/// What is left of a text where nothing long has room.
const SHORT_TEXT: usize = 200;
/// Field names of ours that a container's own fields must not overwrite.
const RESERVED: [&str; 6] = ["time", "pid", "hostname", "name", "instance", "v"];

/// One entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub level: Level,
    pub time: UnixMs,
    /// On every entry about a run.
    pub instance: Option<String>,
    /// Constant text; data is in `fields`.
    pub msg: String,
    pub fields: Map<String, Value>,
}

impl Entry {
    /// An entry of now, without fields.
    pub fn new(level: Level, msg: impl Into<String>) -> Self {
        Self { level, time: UnixMs::now(), instance: None, msg: msg.into(), fields: Map::new() }
    }

    /// An entry that was read back. Members that this program would write differently (`pid`, `hostname`, another log's
    /// `name`, a level without a word) become fields, so that [`Entry::to_object`] gives them back.
    pub fn from_stored(mut object: Map<String, Value>) -> Self {
        let number = |value: &Value| value.as_i64().or_else(|| value.as_f64().map(|number| number as i64));
        let level = object.get("level").and_then(number).unwrap_or(i64::from(Level::Info.number()));
        let nearest = match level {
            ..=20 => Level::Debug,
            21..40 => Level::Info,
            40..50 => Level::Warn,
            50.. => Level::Error,
        };
        if level == i64::from(nearest.number()) {
            object.shift_remove("level");
        }
        let time = object.shift_remove("time").as_ref().and_then(number).unwrap_or_default();
        let instance = object.shift_remove("instance").and_then(text_of).filter(|instance| !instance.is_empty());
        let msg = object.shift_remove("msg").and_then(text_of).unwrap_or_default();
        Self { level: nearest, time: UnixMs(time), instance, msg, fields: object }
    }

    /// Adds a field.
    pub fn field(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(name.to_owned(), value.into());
        self
    }

    /// Makes it an entry about a run.
    pub fn of_instance(mut self, instance: &str) -> Self {
        self.instance = Some(instance.to_owned());
        self
    }

    /// Renames fields that came from a container and would pass for ours (`c_` in front).
    pub fn with_foreign_fields(mut self, foreign: Map<String, Value>) -> Self {
        for (name, value) in foreign {
            let name = if RESERVED.contains(&name.as_str()) { format!("c_{name}") } else { name };
            if !["level", "msg"].contains(&name.as_str()) {
                self.fields.insert(name, value);
            }
        }
        self
    }

    /// Takes secrets out of every text.
    pub fn masked(mut self, masker: &Masker) -> Self {
        if let std::borrow::Cow::Owned(text) = masker.mask(&self.msg) {
            self.msg = text;
        }
        let mut fields = Value::Object(self.fields);
        masker.mask_json(&mut fields);
        self.fields = if let Value::Object(fields) = fields { fields } else { Map::new() };
        self
    }

    /// The entry as an object with the members in their order; `name` is the log's name.
    pub fn to_object(&self, name: &str) -> Map<String, Value> {
        match serde_json::to_value(Members { entry: self, name }) {
            Ok(Value::Object(object)) => object,
            _ => Map::new(),
        }
    }

    fn to_line(&self, name: &str) -> String {
        let text = serde_json::to_string(&Members { entry: self, name });
        let mut line = text.expect("entries are plain data with string keys");
        if line.len() > LONGEST_LINE_BYTES {
            let mut object = self.to_object(name);
            shorten_longest(&mut object, line.len() - LONGEST_LINE_BYTES);
            line = Value::Object(object).to_string();
        }
        if line.len() > LONGEST_LINE_BYTES {
            // Not one long text, but many fields or long names: a container may send anything.
            let bytes = line.len();
            let bare = Self { fields: Map::new(), msg: cut(&self.msg, SHORT_TEXT).to_owned(), ..self.clone() };
            let bare = bare.field("bytes", bytes).field("truncated", true);
            line = Value::Object(bare.to_object(name)).to_string();
        }
        line.push('\n');
        line
    }
}

/// The members of an entry in a log of this name, in their order.
struct Members<'e> {
    entry: &'e Entry,
    name: &'e str,
}

impl Serialize for Members<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entry = self.entry;
        let mut members = serializer.serialize_map(None)?;
        members.serialize_entry("level", &entry.level.number())?;
        members.serialize_entry("time", &entry.time.0)?;
        members.serialize_entry("pid", &std::process::id())?;
        members.serialize_entry("hostname", hostname())?;
        members.serialize_entry("name", self.name)?;
        if let Some(instance) = &entry.instance {
            members.serialize_entry("instance", instance)?;
        }
        for (name, value) in &entry.fields {
            members.serialize_entry(name, value)?;
        }
        members.serialize_entry("msg", &entry.msg)?;
        members.end()
    }
}

/// A value as text, without quotes where it is one.
fn text_of(value: Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    }
}

/// Cuts the longest text so that the line gets at least `excess` bytes shorter. In JSON a character takes up to six bytes,
/// which is allowed for.
fn shorten_longest(object: &mut Map<String, Value>, excess: usize) {
    let size = |value: &Value| value.to_string().len();
    let longest = object.iter().max_by_key(|(_, value)| size(value)).map(|(name, _)| name.clone());
    let Some(value) = longest.and_then(|name| object.get_mut(&name)) else { return };
    let room = size(value).saturating_sub(excess + SHORT_TEXT) / 6;
    let shorter = match &*value {
        Value::String(text) => Value::from(cut(text, room)),
        other => Value::from(format!("({} bytes)", size(other))),
    };
    *value = shorter;
    object.insert("truncated".into(), true.into());
}

/// A log by name, kept in one file per UTC date. Writing never fails the caller: the first error goes to stderr.
pub struct Log {
    dir: PathBuf,
    name: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: Option<(String, File)>,
    error_reported: bool,
}

impl Log {
    /// A log below `dir`, which is created when the first entry is written.
    pub fn new(dir: &Path, name: &str) -> Self {
        Self { dir: dir.to_owned(), name: name.to_owned(), state: Mutex::default() }
    }

    /// The name part of its files.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directory of its files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file that an entry of this instant goes to.
    pub fn path(&self, time: UnixMs) -> PathBuf {
        self.dir.join(format!("{}-{}.log", self.name, time.utc_date()))
    }

    /// Appends an entry with one `write`.
    pub fn write(&self, entry: &Entry) {
        let line = entry.to_line(&self.name);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.append(&mut state, entry.time, &line)
            && !std::mem::replace(&mut state.error_reported, true)
        {
            // Not a macro that panics when stderr is closed.
            let path = self.path(entry.time);
            let _ = writeln!(std::io::stderr(), "Warning: cannot write {}: {error}", path.display());
        }
    }

    fn append(&self, state: &mut State, time: UnixMs, line: &str) -> std::io::Result<()> {
        let date = time.utc_date();
        if state.open.as_ref().is_none_or(|(open, _)| *open != date) {
            std::fs::create_dir_all(&self.dir)?;
            let file = OpenOptions::new().append(true).create(true).mode(0o600).open(self.path(time))?;
            state.open = Some((date, file));
        }
        match &mut state.open {
            Some((_, file)) => file.write_all(line.as_bytes()),
            None => Ok(()),
        }
    }
}

/// The host's name, as log entries carry it.
fn hostname() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| rustix::system::uname().nodename().to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_in_the_documented_order() {
        let entry = Entry { time: UnixMs(1_767_323_045_000), ..Entry::new(Level::Info, "container launched") }
            .of_instance("dev-a1b2c3d4")
            .field("container", "al-dev-a1b2c3d4");
        let keys: Vec<String> = entry.to_object("dev").keys().cloned().collect();
        assert_eq!(keys, ["level", "time", "pid", "hostname", "name", "instance", "container", "msg"]);
    }

    #[test]
    fn an_entry_that_was_read_back_is_the_one_that_was_written() {
        for level in [10, 20, 35, 40, 50, 60] {
            let stored = serde_json::json!({"level": level, "time": 1_767_323_045_000_i64, "pid": 7, "hostname": "vps1",
                "name": "dev", "instance": "dev-a1b2c3d4", "cmd": "x", "msg": "bash"});
            let stored = stored.as_object().unwrap().clone();
            let entry = Entry::from_stored(stored.clone());
            assert_eq!(entry.to_object("other"), stored);
            assert_eq!((entry.time.0, entry.msg.as_str()), (1_767_323_045_000, "bash"));
        }
        let odd = serde_json::json!({"level": "high", "time": "now", "msg": 7, "instance": null});
        let entry = Entry::from_stored(odd.as_object().unwrap().clone());
        assert_eq!((entry.level, entry.time.0, entry.msg.as_str(), entry.instance), (Level::Info, 0, "7", None));
    }

    #[test]
    fn foreign_fields_cannot_pass_for_ours() {
        let foreign = serde_json::json!({"time": 1, "name": "x", "level": 60, "tool": "bash"});
        let entry = Entry::new(Level::Info, "m").with_foreign_fields(foreign.as_object().unwrap().clone());
        let names: Vec<&str> = entry.fields.keys().map(String::as_str).collect();
        assert_eq!(names, ["c_time", "c_name", "tool"]);
    }

    #[test]
    fn huge_entries_are_shortened_and_say_so() {
        let line = Entry::new(Level::Info, "m").field("text", "\u{1}".repeat(400_000)).to_line("dev");
        assert!(line.len() <= LONGEST_LINE_BYTES + 1);
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["truncated"], true);
        assert!(value["text"].as_str().unwrap().len() > 1000);
    }

    #[test]
    fn an_entry_of_long_names_or_many_fields_comes_to_an_end() {
        let long_name = Entry::new(Level::Info, "m").field(&"k".repeat(300_000), 1);
        let many = (0..60_000).fold(Entry::new(Level::Info, "m"), |entry, n| entry.field(&n.to_string(), n));
        for entry in [long_name, many] {
            let value: Value = serde_json::from_str(&entry.to_line("dev")).unwrap();
            assert_eq!((&value["msg"], &value["truncated"]), (&Value::from("m"), &Value::from(true)));
            assert!(value["bytes"].as_u64().unwrap() > LONGEST_LINE_BYTES as u64);
        }
    }

    #[test]
    fn appends_lines_to_the_file_of_the_date() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::new(&dir.path().join("logs"), "dev");
        for time in [1_767_311_999_000, 1_767_312_000_000] {
            log.write(&Entry { time: UnixMs(time), ..Entry::new(Level::Info, "x") });
        }
        assert!(dir.path().join("logs/dev-2026-01-01.log").exists());
        assert!(dir.path().join("logs/dev-2026-01-02.log").exists());
    }
}
