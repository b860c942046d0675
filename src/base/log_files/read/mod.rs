//! Entries of a log over the files of its days: the last ones and those before a place here, those after it in
//! [`after`].

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::lines::{Backward, Sizes};
use super::mark::Mark;
use super::name_and_day;
use super::position::{Day, Position};
use crate::base::clock::UnixMs;

mod after;
mod filter;
mod page;
#[cfg(test)]
mod props;
#[cfg(test)]
mod tests;

pub use filter::Filter;
use page::Reading;
pub use page::{Page, Query};

/// Most lines that are looked at for one page.
const MOST_LINES: usize = 500_000;
/// Most bytes of lines in one page, so that a page of long entries stays small; one entry is always given.
const MOST_BYTES: usize = 8 * 1024 * 1024;
/// How long lines are searched for one page: whoever wants more goes on from there.
const SEARCH_TIME: Duration = Duration::from_secs(2);
/// How long a day's file is still watched after it was last written to when the next day's is there: the day of an
/// entry is that of its own time, so one that was held up shortly before midnight comes after midnight.
const SETTLE: Duration = Duration::from_secs(2);

/// The files of one log.
#[derive(Clone, Debug)]
pub struct LogFiles {
    dir: PathBuf,
    name: String,
    settle: Duration,
    most_lines: usize,
    most_bytes: usize,
    search_time: Duration,
    sizes: Sizes,
}

impl LogFiles {
    /// The log `name` below `dir`, which need not exist.
    pub fn new(dir: &Path, name: &str) -> Self {
        Self {
            dir: dir.to_owned(),
            name: name.to_owned(),
            settle: SETTLE,
            most_lines: MOST_LINES,
            most_bytes: MOST_BYTES,
            search_time: SEARCH_TIME,
            sizes: Sizes::default(),
        }
    }

    /// The days that there is a file of, oldest first.
    ///
    /// # Errors
    /// When the directory is there but cannot be read.
    pub fn days(&self) -> io::Result<Vec<Day>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut days = Vec::new();
        for entry in entries {
            let entry = entry?;
            if let Some((name, day)) = entry.file_name().to_str().and_then(name_and_day)
                && name == self.name
                // Opening something else, a pipe, could wait for ever.
                && fs::metadata(entry.path()).is_ok_and(|found| found.is_file())
            {
                days.push(day);
            }
        }
        days.sort();
        Ok(days)
    }

    /// The last entries.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn last(&self, query: Query<'_>) -> io::Result<Page> {
        let days = self.days()?;
        let mut page = self.backward(&days, None, query)?;
        if let Some(newest) = days.last()
            && page.cursor.is_none()
        {
            (page.cursor, page.mark) = self.end_of(newest)?;
        }
        Ok(page)
    }

    /// The last entries before a place. The page has no cursor.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn before(&self, position: &Position, query: Query<'_>) -> io::Result<Page> {
        let mut days = self.days()?;
        days.retain(|day| *day <= position.day);
        let page = self.backward(&days, Some(position), query)?;
        Ok(Page { cursor: None, mark: None, ..page })
    }

    /// Reads towards the beginning, from the end of the newest of these days or from a place in it.
    fn backward(&self, days: &[Day], from: Option<&Position>, query: Query<'_>) -> io::Result<Page> {
        let mut page = Page::default();
        let mut reading = self.reading(query);
        // Both bounds are exclusive.
        let newest_wanted = query.filter.before.map(|before| Day::of(UnixMs(before.0.saturating_sub(1))));
        let oldest_wanted = query.filter.after.map(|after| UnixMs(after.0.saturating_add(1)));
        for (index, day) in days.iter().enumerate().rev() {
            if newest_wanted.as_ref().is_some_and(|newest| day > newest) {
                continue;
            }
            let Some(file) = self.open(day)? else { continue };
            let found = file.metadata()?;
            // Entries stand in the file of their day or, in files of old versions, of an earlier one; what was last
            // written to before a time has nothing later than it.
            if oldest_wanted.is_some_and(|oldest| *day < Day::of(oldest) && written_before(&found, oldest)) {
                break;
            }
            let given = from.filter(|from| from.day == *day).map_or(u64::MAX, |from| from.offset);
            let mut lines = Backward::new(&file, given.min(found.len()), self.sizes)?;
            if index + 1 == days.len() {
                page.cursor = Some(Position { day: day.clone(), offset: lines.end() });
                page.mark = Mark::of(day, &file)?;
            }
            while !reading.is_full()
                && let Some(line) = lines.next()?
            {
                reading.take(&line);
            }
            if reading.is_full() {
                let offset = lines.end();
                page.back = (offset > 0 || index > 0).then(|| Position { day: day.clone(), offset });
                break;
            }
        }
        page.entries = reading.entries;
        page.entries.reverse();
        Ok(page)
    }

    fn reading<'a>(&self, query: Query<'a>) -> Reading<'a> {
        Reading {
            query,
            entries: Vec::new(),
            lines_left: self.most_lines,
            bytes_left: self.most_bytes,
            until: query.filter.pattern.as_ref().map(|_| Instant::now() + self.search_time),
            is_late: false,
        }
    }

    /// The place behind the last complete line of a day, and the mark of its file.
    fn end_of(&self, day: &Day) -> io::Result<(Option<Position>, Option<Mark>)> {
        let (offset, mark) = match self.open(day)? {
            Some(file) => (Backward::new(&file, file.metadata()?.len(), self.sizes)?.end(), Mark::of(day, &file)?),
            None => (0, None),
        };
        Ok((Some(Position { day: day.clone(), offset }), mark))
    }

    /// The file of a day; `None` when there is none, or none any more.
    fn open(&self, day: &Day) -> io::Result<Option<File>> {
        match File::open(self.dir.join(format!("{}-{day}.log", self.name))) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn written_before(found: &fs::Metadata, time: UnixMs) -> bool {
    let written = found.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    written.and_then(|since| i64::try_from(since.as_millis()).ok()).is_some_and(|written| written < time.0)
}
