//! A question for entries, what was read so far to answer it, and the answer.

use std::time::Instant;

use super::super::lines::Line;
use super::super::mark::Mark;
use super::super::position::Position;
use super::super::stored::{self, Object};
use super::filter::Filter;

/// A question for entries.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// Most entries.
    pub limit: usize,
    pub filter: &'a Filter,
}

/// Entries, oldest first, and where to go on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    pub entries: Vec<Object>,
    /// Behind the last line that was looked at; `None` when the log has no file.
    pub cursor: Option<Position>,
    /// The file that the cursor is in, to be given with the cursor; `None` as long as that has no line.
    pub mark: Option<Mark>,
    /// Before the first line that was looked at; `None` at the beginning of the log, and when reading forwards.
    pub back: Option<Position>,
    /// Whether there are more complete lines behind the cursor. Only when reading forwards.
    pub has_more: bool,
}

/// What was read so far of one page.
pub(super) struct Reading<'a> {
    pub(super) query: Query<'a>,
    pub(super) entries: Vec<Object>,
    pub(super) lines_left: usize,
    pub(super) bytes_left: usize,
    /// When searching ends.
    pub(super) until: Option<Instant>,
    pub(super) is_late: bool,
}

impl Reading<'_> {
    pub(super) fn take(&mut self, line: &Line) {
        self.lines_left -= 1;
        self.look(line);
        // After a line, so that every page goes on by one.
        self.is_late = self.until.is_some_and(|until| Instant::now() >= until);
    }

    fn look(&mut self, line: &Line) {
        let Some(bytes) = line.bytes.as_deref().filter(|bytes| self.query.filter.may_match(bytes)) else { return };
        let entry = stored::parse(bytes).filter(|entry| self.query.filter.matches(entry));
        if let Some(entry) = entry {
            self.bytes_left = self.bytes_left.saturating_sub(bytes.len());
            self.entries.push(entry);
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= self.query.limit || self.lines_left == 0 || self.bytes_left == 0 || self.is_late
    }
}
