//! What of a run's output is in its log already, when a container is followed again from the log that the daemon keeps.
//! Plain lines have no numbers; they are known by what was made of them.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use serde_json::Value;

use crate::base::clock::UnixMs;
use crate::base::log::{Entry, Log};
use crate::base::log_files::{Filter, LogFiles, Query};
use crate::base::process::Pipe;

/// How long before the last entry a line may have been written that was not taken any more: on a busy machine entries are
/// written well after what they are made of.
const OVERLAP: Duration = Duration::from_secs(30);
/// Most entries that are compared.
const MOST_ENTRIES: usize = 5000;

/// Entries of the last moment in which somebody listened.
pub(super) struct Heard {
    /// What was written before is in the log.
    pub(super) since: UnixMs,
    stdout: Taken,
    stderr: Taken,
}

/// How often something was taken; `None` once a line was not. Lines of a pipe are taken in their order, so what comes
/// after it was not either.
type Taken = Option<HashMap<String, usize>>;

impl Heard {
    /// What the log has of this instance. Without any entry of it nothing was heard.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub(super) fn in_log(log: &Log, instance: &str) -> io::Result<Self> {
        let filter = Filter { instance: Some(instance.to_owned()), ..Filter::default() };
        let page = LogFiles::new(log.dir(), log.name()).last(Query { limit: MOST_ENTRIES, filter: &filter })?;
        let mut entries: Vec<Entry> = page.entries.into_iter().map(Entry::from_stored).collect();
        let last = entries.last().map_or(UnixMs(0), |entry| entry.time.min(UnixMs::now()));
        let mut since = UnixMs(last.0.saturating_sub(OVERLAP.as_millis() as i64).max(0));
        if entries.len() == MOST_ENTRIES {
            since = since.max(entries[0].time);
        }
        entries.retain(|entry| entry.time >= since);
        let (mut stdout, mut stderr) = (HashMap::new(), HashMap::new());
        for entry in entries {
            let taken = if entry.msg == "container stderr" { &mut stderr } else { &mut stdout };
            *taken.entry(content(entry)).or_default() += 1;
        }
        Ok(Self { since, stdout: Some(stdout), stderr: Some(stderr) })
    }

    /// Whether lines of this pipe may be in the log already.
    pub(super) fn is_behind(&self, pipe: Pipe) -> bool {
        match pipe {
            Pipe::Stdout => self.stdout.is_some(),
            Pipe::Stderr => self.stderr.is_some(),
        }
    }

    /// Whether the entry of the next line is in the log already.
    pub(super) fn has(&mut self, pipe: Pipe, entry: &Entry) -> bool {
        let taken = match pipe {
            Pipe::Stdout => &mut self.stdout,
            Pipe::Stderr => &mut self.stderr,
        };
        let count = taken.as_mut().and_then(|taken| taken.get_mut(&content(entry.clone())));
        match count.filter(|count| **count > 0) {
            Some(count) => {
                *count -= 1;
                true
            }
            None => {
                *taken = None;
                false
            }
        }
    }
}

/// What an entry says, whoever wrote it and when.
fn content(mut entry: Entry) -> String {
    for name in ["pid", "hostname", "name"] {
        entry.fields.shift_remove(name);
    }
    format!("{} {}", entry.msg, Value::Object(entry.fields))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::log::Level;

    fn said(text: &str, time: i64) -> Entry {
        Entry { time: UnixMs(time), ..Entry::new(Level::Info, "output").field("text", text).of_instance("dev-1") }
    }

    #[test]
    fn only_what_came_before_the_first_new_line_was_heard() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::new(dir.path(), "dev");
        assert_eq!(Heard::in_log(&log, "dev-1").unwrap().since, UnixMs(0));
        let errors = Entry { time: UnixMs(20_000), ..Entry::new(Level::Warn, "container stderr") };
        let errors = errors.field("stderr", "oops").of_instance("dev-1");
        let of_other = said("of another", 41_000).of_instance("dev-2");
        for entry in [said("tick", 9_000), said("tick", 10_000), errors.clone(), said("last", 40_000), of_other] {
            log.write(&entry);
        }
        let mut heard = Heard::in_log(&log, "dev-1").unwrap();
        assert_eq!(heard.since, UnixMs(10_000));
        let mut has = |text: &str| heard.has(Pipe::Stdout, &said(text, 77));
        // The first tick was before that time, so the second one that is read now is new.
        assert_eq!(["tick", "last", "tick", "last"].map(&mut has), [true, true, false, false]);
        assert!(!heard.is_behind(Pipe::Stdout) && heard.is_behind(Pipe::Stderr));
        assert!(heard.has(Pipe::Stderr, &errors) && !heard.has(Pipe::Stderr, &errors));
    }
}
