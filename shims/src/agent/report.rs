//! Log lines of `al-agent` on stdout (containers.md §11): one JSON object per line, written whole, numbered, without
//! secrets.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use serde_json::{Map, Value};

use crate::secret::{Masker, Secret};
use crate::text;
use crate::wire::log::{Level, LogLine};

/// Value of a member of a log line. Secrets are taken out of every one of them, before anything is cut.
pub(super) enum Field<'a> {
    Value(Value),
    Text(&'a str),
    /// The first characters of a text.
    Cut(&'a str, usize),
    /// The first characters of a JSON text.
    CutJson(Value, usize),
}

impl<'a> From<&'a str> for Field<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl From<Value> for Field<'_> {
    fn from(value: Value) -> Self {
        Self::Value(value)
    }
}

impl From<u64> for Field<'_> {
    fn from(number: u64) -> Self {
        Self::Value(number.into())
    }
}

impl From<i32> for Field<'_> {
    fn from(number: i32) -> Self {
        Self::Value(number.into())
    }
}

/// The one writer of log lines.
pub(super) struct Reporter {
    state: Mutex<State>,
}

struct State {
    out: Box<dyn Write + Send>,
    /// Number of the last line.
    seq: u64,
    masker: Masker,
    /// Others write to the same place, perhaps the beginning of a line.
    shared: bool,
    closed: bool,
}

impl Reporter {
    /// A reporter that writes to this process's stdout.
    ///
    /// # Errors
    /// Stdout is closed or the process has no file descriptor left.
    pub(super) fn to_stdout() -> io::Result<Self> {
        let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Self::new(Stubborn(stdout)))
    }

    /// A reporter that writes nothing, for looking at a run without holding it.
    pub(super) fn silent() -> Self {
        Self::new(io::sink())
    }

    fn new(out: impl Write + Send + 'static) -> Self {
        Self {
            state: Mutex::new(State {
                out: Box::new(out),
                seq: 0,
                masker: Masker::default(),
                shared: false,
                closed: false,
            }),
        }
    }

    /// Takes these values out of everything that is written from now on. Their labels may be written.
    pub(super) fn mask_secrets<'a>(&self, secrets: impl IntoIterator<Item = (&'a str, &'a Secret)>) {
        let masker = Masker::labelled(secrets);
        self.lock().masker = masker;
    }

    /// What takes the values out.
    pub(super) fn masker(&self) -> Masker {
        self.lock().masker.clone()
    }

    /// The text without any secret.
    pub(super) fn masked<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.lock().masker.mask(text)
    }

    pub(super) fn debug(&self, msg: &str, fields: &[(&str, Field<'_>)]) {
        self.log(Level::Debug, msg, fields);
    }

    pub(super) fn info(&self, msg: &str, fields: &[(&str, Field<'_>)]) {
        self.log(Level::Info, msg, fields);
    }

    pub(super) fn warn(&self, msg: &str, fields: &[(&str, Field<'_>)]) {
        self.log(Level::Warn, msg, fields);
    }

    pub(super) fn error(&self, msg: &str, fields: &[(&str, Field<'_>)]) {
        self.log(Level::Error, msg, fields);
    }

    /// Writes one line. Failures are ignored: there is nobody left to tell.
    pub(super) fn log(&self, level: Level, msg: &str, fields: &[(&str, Field<'_>)]) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        state.seq += 1;
        let line = LogLine {
            level,
            msg: state.masker.mask(msg).into_owned(),
            ts: Some(now_ms()),
            seq: Some(state.seq),
            fields: fields.iter().map(|(name, field)| ((*name).to_owned(), field.render(&state.masker))).collect(),
        };
        // Whatever stands before it must not become part of it; readers ignore blank lines.
        let line = format!("{}{}\n", if state.shared { "\n" } else { "" }, line.render());
        let _ = state.out.write_all(line.as_bytes());
        let _ = state.out.flush();
    }

    /// From now on others write to the same place.
    pub(super) fn share_output(&self) {
        self.lock().shared = true;
    }

    /// Ignores every further line, so that the one written last stays the last.
    pub(super) fn close(&self) {
        self.lock().closed = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Field<'_> {
    fn render(&self, masker: &Masker) -> Value {
        let masked = |value: &Value| {
            let mut value = value.clone();
            masker.mask_json(&mut value);
            value
        };
        match self {
            Self::Value(value) => masked(value),
            Self::Text(text) => masker.mask(text).into(),
            Self::Cut(text, limit) => text::cut(&masker.mask(text), *limit).into(),
            Self::CutJson(value, limit) => text::cut(&masker.mask(&masked(value).to_string()), *limit).into(),
        }
    }
}

/// Milliseconds since the epoch.
fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

/// The members of a serialised value as a JSON object, for lines whose fields are a struct.
pub(super) fn members(value: &impl serde::Serialize) -> Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(members)) => members,
        _ => Map::new(),
    }
}

/// A file that is written even when a child has made it non-blocking: scripts share stdout with this process, and some
/// interpreters set that flag on whatever they inherit.
struct Stubborn(File);

impl Write for Stubborn {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let flags = fcntl_getfl(&self.0)?;
                fcntl_setfl(&self.0, flags - OFlags::NONBLOCK)?;
                self.0.write(bytes)
            }
            other => other,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::*;

    /// Collects what a reporter writes.
    #[derive(Clone, Default)]
    pub(in crate::agent) struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        /// A reporter and the lines it will have written.
        pub(in crate::agent) fn new() -> (Reporter, Self) {
            let lines = Self::default();
            (Reporter::new(lines.clone()), lines)
        }

        pub(in crate::agent) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }

        /// The lines without `ts` and `seq`, as `level msg {fields}`.
        pub(in crate::agent) fn brief(&self) -> Vec<String> {
            let text = self.text();
            let brief = |line: &str| {
                let line = LogLine::parse(line).unwrap();
                format!("{} {} {}", line.level.as_str(), line.msg, Value::Object(line.fields))
            };
            text.lines().map(brief).collect()
        }
    }

    #[test]
    fn numbers_lines_and_keeps_the_order_of_members() {
        let (report, lines) = Lines::new();
        report.info("a", &[]);
        report.warn("b", &[("x", "y".into()), ("n", 3.into())]);
        let text = lines.text();
        let (first, second) = text.split_once('\n').unwrap();
        assert!(first.starts_with(r#"{"_log":true,"level":"info","msg":"a","ts":"#), "{first}");
        assert!(first.ends_with(r#","seq":1}"#), "{first}");
        assert!(second.contains(r#""msg":"b","x":"y","n":3,"ts":"#) && second.ends_with("\"seq\":2}\n"), "{second}");
    }

    #[test]
    fn masks_before_it_cuts() {
        let (report, lines) = Lines::new();
        report.mask_secrets([("t", &Secret::new("hunter2-hunter2"))]);
        report.info(
            "x hunter2-hunter2",
            &[
                ("cmd", Field::Cut("echo hunter2-hunter2", 12)),
                ("json", Field::CutJson(serde_json::json!({"a": "hunter2-hunter2"}), 10)),
                ("deep", serde_json::json!(["hunter2-hunter2"]).into()),
            ],
        );
        assert_eq!(lines.brief(), [r#"info x *** {"cmd":"echo ***","json":"{\"a\":\"***\"","deep":["***"]}"#]);
        assert!(!lines.text().contains("hunt"));
    }

    #[test]
    fn masks_a_secret_that_json_would_escape() {
        let (report, lines) = Lines::new();
        report.mask_secrets([("t", &Secret::new("pass\"word\\1"))]);
        report.info("m", &[("json", Field::CutJson(serde_json::json!({"a": "pass\"word\\1"}), 500))]);
        assert_eq!(lines.brief(), [r#"info m {"json":"{\"a\":\"***\"}"}"#]);
    }

    #[test]
    fn nothing_follows_the_last_line() {
        let (report, lines) = Lines::new();
        report.info("last", &[]);
        report.close();
        report.info("late", &[]);
        assert_eq!(lines.brief(), ["info last {}"]);
    }

    #[test]
    fn a_stdout_made_non_blocking_loses_nothing() {
        let (reader, writer) = io::pipe().unwrap();
        let flags = fcntl_getfl(&writer).unwrap();
        fcntl_setfl(&writer, flags | OFlags::NONBLOCK).unwrap();
        let reading = std::thread::spawn(move || io::read_to_string(reader).unwrap().len());
        Stubborn(File::from(std::os::fd::OwnedFd::from(writer))).write_all(&vec![b'x'; 1 << 20]).unwrap();
        assert_eq!(reading.join().unwrap(), 1 << 20);
    }
}
