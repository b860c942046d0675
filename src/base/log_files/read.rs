//! Entries of a log over the files of its days: the last ones, those before a place, those after it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::lines::{Backward, Forward, Line, Sizes};
use super::mark::{Mark, put_aside};
use super::name_and_day;
use super::pattern::Pattern;
use super::position::{Day, Position};
use super::stored::{self, Object, number};
use crate::base::clock::UnixMs;

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

/// Which entries are wanted. What is `None` wants all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this instance.
    pub instance: Option<String>,
    /// Later than this.
    pub after: Option<UnixMs>,
    /// Earlier than this.
    pub before: Option<UnixMs>,
    /// At this level or above; an entry without a level counts as `info`.
    pub least_level: Option<i64>,
    /// With this somewhere in its line, as it stands in the file.
    pub pattern: Option<Pattern>,
}

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

impl Filter {
    /// Whether an entry is wanted, but for the pattern: that is about its line.
    pub fn matches(&self, entry: &Object) -> bool {
        let level = || number(entry, "level").unwrap_or(30);
        let time = || number(entry, "time");
        self.instance.as_ref().is_none_or(|wanted| entry.get("instance").and_then(|id| id.as_str()) == Some(wanted))
            && self.least_level.is_none_or(|least| level() >= least)
            && self.after.is_none_or(|after| time().is_some_and(|time| time > after.0))
            && self.before.is_none_or(|before| time().is_some_and(|time| time < before.0))
    }

    /// Whether a line can have a wanted entry. Looking for the instance's id costs much less than reading the entry; ids
    /// are written as they are.
    fn may_match(&self, line: &[u8]) -> bool {
        let is_plain = |id: &str| id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let id = self.instance.as_deref().filter(|id| is_plain(id));
        if id.is_none() && self.pattern.is_none() {
            return true;
        }
        let Ok(line) = std::str::from_utf8(line) else { return false };
        id.is_none_or(|id| line.contains(id)) && self.pattern.as_ref().is_none_or(|pattern| pattern.is_in(line))
    }
}

/// What was read so far of one page.
struct Reading<'a> {
    query: Query<'a>,
    entries: Vec<Object>,
    lines_left: usize,
    bytes_left: usize,
    /// When searching ends.
    until: Option<Instant>,
    is_late: bool,
}

impl Reading<'_> {
    fn take(&mut self, line: &Line) {
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

    fn is_full(&self) -> bool {
        self.entries.len() >= self.query.limit || self.lines_left == 0 || self.bytes_left == 0 || self.is_late
    }
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

    /// The first entries after a place, and on into the files of later days. `mark`: the file that the place is in, where
    /// that is known. When another one has taken its place, that is read from its beginning, after the rest of the one
    /// that was put aside.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn after(&self, position: &Position, mark: Option<&Mark>, query: Query<'_>) -> io::Result<Page> {
        let mut page = Page { cursor: Some(position.clone()), mark: mark.cloned(), ..Page::default() };
        let mut reading = self.reading(query);
        let sources = self.sources(position, mark)?;
        for (index, source) in sources.iter().enumerate() {
            let later = &sources[index + 1..];
            let Some(file) = self.file_of(source)? else { continue };
            // Before its lines are read: one that is written anew meanwhile is noticed the next time.
            let mark = Mark::of(&source.day, &file)?;
            let mut lines = Forward::new(&file, source.start, self.sizes);
            while !reading.is_full()
                && let Some(line) = lines.next()?
            {
                reading.take(&line);
            }
            page.cursor = Some(Position { day: source.day.clone(), offset: lines.at() });
            page.mark = if mark.is_some() { mark } else { Mark::of(&source.day, &file)? };
            if reading.is_full() {
                page.has_more = lines.next()?.is_some() || self.any_line(later)?;
                break;
            }
            if !later.is_empty() && !self.is_settled(source, &file, later)? {
                break;
            }
        }
        page.entries = reading.entries;
        Ok(page)
    }

    /// What there is to read after a place, in order.
    fn sources(&self, position: &Position, mark: Option<&Mark>) -> io::Result<Vec<Source>> {
        let days = self.days()?;
        let own = if days.contains(&position.day) { self.open(&position.day)? } else { None };
        let mark = mark.filter(|mark| mark.is_of(&position.day));
        let is_own = |mark: &Mark| match &own {
            Some(own) => Ok::<_, io::Error>(Mark::of(&position.day, own)?.as_ref() == Some(mark)),
            None => Ok(false),
        };
        let mut sources = Vec::new();
        let mut start = position.offset;
        if let Some(mark) = mark
            && !is_own(mark)?
        {
            start = 0;
            if let Some(file) = put_aside(&self.dir, &self.name, &position.day, mark)? {
                let (day, start) = (position.day.clone(), position.offset);
                sources.push(Source { day, file: Some(file), start, is_aside: true });
            }
        }
        if let Some(own) = own {
            // Beyond the end: the file was truncated.
            start = if start > own.metadata()?.len() { 0 } else { start };
            sources.push(Source { day: position.day.clone(), file: Some(own), start, is_aside: false });
        }
        let later = days.into_iter().filter(|day| *day > position.day);
        sources.extend(later.map(|day| Source { day, file: None, start: 0, is_aside: false }));
        Ok(sources)
    }

    /// Whether nothing more is expected of a file, so that the later ones can be read.
    fn is_settled(&self, source: &Source, file: &File, later: &[Source]) -> io::Result<bool> {
        // Who writes to a file that was put aside does not know that; when somebody does, a later one has a line.
        if source.is_aside && !self.any_line(later)? {
            return Ok(false);
        }
        // A time ahead of the clock says nothing.
        Ok(!file.metadata()?.modified()?.elapsed().is_ok_and(|quiet| quiet < self.settle))
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

    fn any_line(&self, sources: &[Source]) -> io::Result<bool> {
        for source in sources {
            if let Some(file) = self.file_of(source)?
                && Forward::new(&file, source.start, self.sizes).next()?.is_some()
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn file_of(&self, source: &Source) -> io::Result<Option<File>> {
        match &source.file {
            Some(file) => file.try_clone().map(Some),
            None => self.open(&source.day),
        }
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

/// A file that is read forwards.
struct Source {
    day: Day,
    /// `None`: it is opened when its turn comes.
    file: Option<File>,
    start: u64,
    /// It was the day's file and is not any more.
    is_aside: bool,
}

fn written_before(found: &fs::Metadata, time: UnixMs) -> bool {
    let written = found.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    written.and_then(|since| i64::try_from(since.as_millis()).ok()).is_some_and(|written| written < time.0)
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write as _;

    use serde_json::json;

    use super::*;

    const ALL: Filter = Filter { instance: None, after: None, before: None, least_level: None, pattern: None };
    pub(super) const FIRST: i64 = 1_772_323_200_000; // 2026-03-01T00:00:00Z

    pub(super) struct Bed {
        pub(super) dir: tempfile::TempDir,
        pub(super) files: LogFiles,
    }

    impl Bed {
        pub(super) fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let files = LogFiles { settle: Duration::ZERO, ..LogFiles::new(dir.path(), "dev") };
            Self { dir, files }
        }

        pub(super) fn append(&self, file: &str, text: impl AsRef<[u8]>) {
            let path = self.dir.path().join(file);
            OpenOptions::new().append(true).create(true).open(path).unwrap().write_all(text.as_ref()).unwrap();
        }

        /// Entries of a day, one a second.
        fn fill(&self, day: u8, numbers: std::ops::Range<i64>) {
            let line = |n: i64| {
                let time = FIRST + i64::from(day - 1) * 86_400_000 + n * 1000;
                let level = if n % 2 == 0 { 20 } else { 30 };
                format!("{}\n", json!({"level": level, "time": time, "instance": format!("dev-{}", n % 3), "n": n}))
            };
            self.append(&format!("dev-2026-03-0{day}.log"), numbers.map(line).collect::<String>());
        }
    }

    fn query(limit: usize, filter: &Filter) -> Query<'_> {
        Query { limit, filter }
    }

    pub(super) fn numbers(page: &Page) -> Vec<i64> {
        page.entries.iter().map(|entry| entry["n"].as_i64().unwrap()).collect()
    }

    #[test]
    fn the_last_entries_come_from_as_many_days_as_needed() {
        let bed = Bed::new();
        assert_eq!(bed.files.last(query(5, &ALL)).unwrap(), Page::default());
        bed.fill(1, 0..4);
        bed.append("dev-2026-03-02.log", "");
        bed.fill(3, 4..6);
        bed.append("dev-2026-03-03.log", "not an entry\n{\"n\":\"half");
        bed.append("dev-ops-2026-03-04.log", "{\"n\":99}\n");
        let page = bed.files.last(query(4, &ALL)).unwrap();
        assert_eq!(numbers(&page), [2, 3, 4, 5]);
        assert!(!page.has_more);
        let back = bed.files.before(&page.back.unwrap(), query(10, &ALL)).unwrap();
        assert_eq!((numbers(&back), back.back, back.cursor), (vec![0, 1], None, None));
        // The half of an entry becomes one, and it comes next.
        bed.append("dev-2026-03-03.log", "\"}\n{\"n\":7}\n");
        let next = bed.files.after(&page.cursor.unwrap(), None, query(10, &ALL)).unwrap();
        assert_eq!(
            next.entries,
            [json!({"n": "half"}), json!({"n": 7})].map(|entry| entry.as_object().unwrap().clone())
        );
    }

    #[test]
    fn the_way_back_ends_at_the_beginning_of_the_oldest_file() {
        let bed = Bed::new();
        bed.fill(1, 0..2);
        bed.fill(2, 2..4);
        let page = bed.files.last(query(2, &ALL)).unwrap();
        assert_eq!(page.back.clone().map(|at| at.offset), Some(0), "the older file is not read yet");
        let page = bed.files.before(&page.back.unwrap(), query(2, &ALL)).unwrap();
        assert_eq!((numbers(&page), page.back), (vec![0, 1], None));
        assert_eq!(bed.files.last(query(4, &ALL)).unwrap().back, None);
    }

    #[test]
    fn filters_choose_and_nothing_before_them_is_counted() {
        let bed = Bed::new();
        bed.fill(1, 0..40);
        bed.fill(2, 40..80);
        let of = |filter: Filter| numbers(&bed.files.last(query(3, &filter)).unwrap());
        assert_eq!(of(Filter { instance: Some("dev-1".into()), ..ALL }), [73, 76, 79]);
        // An id in another member is not the entry's.
        bed.append("dev-2026-03-02.log", "{\"instance\":\"dev-2\",\"text\":\"dev-1\",\"n\":99,\"level\":20}\n");
        assert_eq!(of(Filter { instance: Some("dev-1".into()), ..ALL }), [73, 76, 79]);
        assert_eq!(of(Filter { least_level: Some(30), ..ALL }), [75, 77, 79]);
        let second = FIRST + 86_400_000;
        assert_eq!(of(Filter { before: Some(UnixMs(second + 42_000)), ..ALL }), [39, 40, 41]);
        assert_eq!(of(Filter { before: Some(UnixMs(second)), ..ALL }), [37, 38, 39]);
        assert_eq!(of(Filter { after: Some(UnixMs(second + 77_000)), ..ALL }), [78, 79]);
        let searched = |text: &str| Filter { pattern: Some(Pattern::parse(text).unwrap()), ..ALL };
        assert_eq!(of(searched("\"n\":[0-9]?7[,}]")), [57, 67, 77]);
        assert_eq!(of(Filter { instance: Some("dev-1".into()), ..searched("\"n\":[0-9]?7[,}]") }), [7, 37, 67]);
        assert!(of(searched("\"N\":")).is_empty());
        let none = Filter { instance: Some("dev".into()), ..ALL };
        let page = bed.files.last(query(3, &none)).unwrap();
        assert!(page.entries.is_empty() && page.back.is_none() && page.cursor.is_some());
    }

    #[test]
    fn days_that_cannot_have_what_is_wanted_are_not_read() {
        let bed = Bed::new();
        for day in 1..=3 {
            bed.fill(day, 0..10);
            let file = File::open(bed.dir.path().join(format!("dev-2026-03-0{day}.log"))).unwrap();
            let end = FIRST + i64::from(day) * 86_400_000;
            file.set_modified(std::time::UNIX_EPOCH + Duration::from_millis(end as u64)).unwrap();
        }
        // Whoever reads the other days runs out of lines before the second one.
        let files = LogFiles { most_lines: 10, ..bed.files.clone() };
        let second = FIRST + 86_400_000;
        let filter = Filter { after: Some(UnixMs(second - 1)), before: Some(UnixMs(second + 86_400_000)), ..ALL };
        let page = files.last(query(100, &filter)).unwrap();
        assert_eq!(page.entries.len(), 10);
        assert_eq!(page.cursor.unwrap().day.as_str(), "2026-03-03", "the cursor is the end of the log all the same");
    }

    #[test]
    fn a_page_has_limits_of_lines_and_bytes_and_says_where_to_go_on() {
        let bed = Bed::new();
        bed.fill(1, 0..10);
        let nobody = Filter { instance: Some("x".into()), ..ALL };
        let files = LogFiles { most_lines: 4, ..bed.files.clone() };
        let page = files.last(query(5, &nobody)).unwrap();
        let back = files.before(&page.back.unwrap(), query(5, &ALL)).unwrap();
        assert_eq!((page.entries.len(), numbers(&back)), (0, vec![2, 3, 4, 5]));
        let start = Position::start_of(Day::parse("2026-03-01").unwrap());
        let page = files.after(&start, None, query(5, &nobody)).unwrap();
        assert!(page.entries.is_empty() && page.has_more);
        assert_eq!(numbers(&files.after(&page.cursor.unwrap(), None, query(1, &ALL)).unwrap()), [4]);
        let files = LogFiles { search_time: Duration::ZERO, ..bed.files.clone() };
        let searched = Filter { pattern: Some(Pattern::parse("x").unwrap()), ..ALL };
        let page = files.last(query(5, &searched)).unwrap();
        assert_eq!(numbers(&files.before(&page.back.unwrap(), query(1, &ALL)).unwrap()), [8]);
        let page = files.after(&start, None, query(5, &searched)).unwrap();
        assert!(page.entries.is_empty() && page.has_more);
        assert_eq!(numbers(&files.after(&page.cursor.unwrap(), None, query(1, &ALL)).unwrap()), [1]);
        let files = LogFiles { most_bytes: 1, ..bed.files.clone() };
        assert_eq!(numbers(&files.last(query(5, &ALL)).unwrap()), [9]);
        assert_eq!(numbers(&files.after(&start, None, query(5, &ALL)).unwrap()), [0]);
    }

    #[test]
    fn following_goes_on_into_later_days_and_starts_again_in_a_truncated_file() {
        let bed = Bed::new();
        bed.fill(1, 0..3);
        let start = Position::start_of(Day::parse("2026-02-01").unwrap());
        let page = bed.files.after(&start, None, query(2, &ALL)).unwrap();
        assert_eq!((numbers(&page), page.has_more), (vec![0, 1], true));
        bed.fill(2, 3..4);
        let page = bed.files.after(&page.cursor.unwrap(), None, query(9, &ALL)).unwrap();
        assert_eq!((numbers(&page), page.has_more), (vec![2, 3], false));
        let end = page.cursor.unwrap();
        let page = bed.files.after(&end, None, query(9, &ALL)).unwrap();
        assert_eq!((page.entries.len(), page.cursor.as_ref()), (0, Some(&end)));
        fs::write(bed.dir.path().join("dev-2026-03-02.log"), "{\"n\":7}\n").unwrap();
        assert_eq!(numbers(&bed.files.after(&end, None, query(9, &ALL)).unwrap()), [7]);
        let future = Position { day: Day::parse("2027-01-01").unwrap(), offset: 9 };
        let page = bed.files.after(&future, None, query(9, &ALL)).unwrap();
        assert_eq!((page.entries.len(), page.cursor), (0, Some(future)));
    }

    /// A follower: what it sees next.
    struct Follower<'b> {
        bed: &'b Bed,
        at: Position,
        mark: Option<Mark>,
    }

    impl<'b> Follower<'b> {
        fn of(bed: &'b Bed) -> Self {
            let page = bed.files.last(query(1, &ALL)).unwrap();
            Self { bed, at: page.cursor.unwrap(), mark: page.mark }
        }

        fn look(&mut self, limit: usize) -> Vec<i64> {
            let page = self.bed.files.after(&self.at, self.mark.as_ref(), query(limit, &ALL)).unwrap();
            let seen = numbers(&page);
            (self.at, self.mark) = (page.cursor.unwrap(), page.mark);
            seen
        }
    }

    #[test]
    fn a_follower_sees_the_rest_of_a_file_that_was_renamed_and_then_the_longer_new_one() {
        let bed = Bed::new();
        let (own, aside) = (bed.dir.path().join("dev-2026-03-01.log"), bed.dir.path().join("dev-2026-03-01.log.1"));
        bed.fill(1, 0..2);
        let mut follower = Follower::of(&bed);
        bed.fill(1, 2..4);
        fs::rename(&own, &aside).unwrap();
        assert_eq!(follower.look(1), [2]);
        // Whoever had it open goes on writing there, also when there is an empty new one.
        fs::write(&own, "").unwrap();
        assert_eq!(follower.look(9), [3]);
        bed.append("dev-2026-03-01.log.1", "{\"n\":4}\n");
        assert_eq!(follower.look(9), [4]);
        bed.fill(1, 5..50);
        assert_eq!(follower.look(3), [5, 6, 7]);
        assert_eq!(follower.look(99), (8..50).collect::<Vec<_>>());
        assert!(follower.look(9).is_empty());
    }

    #[test]
    fn a_follower_sees_the_rest_of_a_file_that_was_copied_and_emptied() {
        let bed = Bed::new();
        let own = bed.dir.path().join("dev-2026-03-01.log");
        bed.fill(1, 0..2);
        let mut follower = Follower::of(&bed);
        bed.fill(1, 2..4);
        fs::copy(&own, bed.dir.path().join("dev-2026-03-01.log-1")).unwrap();
        File::options().write(true).open(&own).unwrap().set_len(0).unwrap();
        bed.fill(1, 4..50);
        assert_eq!(follower.look(99), (2..50).collect::<Vec<_>>());
        // Over midnight, without a file of the old day.
        bed.fill(1, 50..51);
        fs::rename(&own, bed.dir.path().join("dev-2026-03-01.log.0")).unwrap();
        bed.fill(2, 51..53);
        assert_eq!(follower.look(99), [50, 51, 52]);
        // What went for good cannot be shown; what took its place can.
        fs::write(bed.dir.path().join("dev-2026-03-02.log"), format!("{}{{\"n\":54}}\n", "{\"n\":53}\n".repeat(99)))
            .unwrap();
        assert_eq!(follower.look(999).len(), 100);
    }

    #[test]
    fn an_entry_that_comes_late_to_yesterdays_file_is_not_lost() {
        let bed = Bed::new();
        let files = LogFiles { settle: Duration::from_secs(3600), ..bed.files.clone() };
        bed.fill(1, 0..1);
        bed.fill(2, 2..3);
        let start = Position::start_of(Day::parse("2026-03-01").unwrap());
        let page = files.after(&start, None, query(9, &ALL)).unwrap();
        assert_eq!((numbers(&page), page.has_more), (vec![0], false), "yesterday's file was written to just now");
        bed.fill(1, 1..2);
        let page = files.after(&page.cursor.unwrap(), None, query(9, &ALL)).unwrap();
        assert_eq!(numbers(&page), [1]);
        assert_eq!(numbers(&bed.files.after(&page.cursor.unwrap(), None, query(9, &ALL)).unwrap()), [2]);
    }

    #[test]
    fn only_files_are_read() {
        let bed = Bed::new();
        fs::create_dir(bed.dir.path().join("dev-2026-03-09.log")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            bed.dir.path().join("dev-2026-03-08.log"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        assert_eq!(bed.files.days().unwrap(), []);
        bed.append("dev-2026-03-01.log", b"{\"n\":1,\"t\":\"\xff\"}\n{\"n\":2}\n");
        assert_eq!(numbers(&bed.files.last(query(9, &ALL)).unwrap()), [2]);
    }
}

#[cfg(test)]
mod props {
    use proptest::prelude::*;
    use serde_json::json;

    use super::tests::{Bed, numbers};
    use super::*;

    /// What happens to a log, in order.
    #[derive(Clone, Debug)]
    enum Step {
        /// So many bytes of what waits to be written go to the file.
        Write(usize),
        /// Everything that waits is written, and the next entries go to the next day's file.
        NextDay,
        Read(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![5 => (1usize..60).prop_map(Step::Write), 1 => Just(Step::NextDay), 3 => (1usize..5).prop_map(Step::Read)]
    }

    /// Lines of entries and of other things, numbered in order.
    fn lines() -> impl Strategy<Value = Vec<String>> {
        let text = prop_oneof![Just(String::new()), "[a-zäöü€😀]{1,40}", Just("x".repeat(300))];
        prop::collection::vec((text, any::<bool>()), 1..20).prop_map(|lines| {
            let line = |(n, (text, noise)): (usize, (String, bool))| {
                let noise = if noise { format!("{}\n", text.replace('{', "")) } else { String::new() };
                format!("{noise}{}\n", json!({"n": n, "text": text}))
            };
            lines.into_iter().enumerate().map(line).collect()
        })
    }

    proptest! {
        #[test]
        fn a_follower_sees_every_entry_once_while_a_writer_appends(
            lines in lines(), steps in prop::collection::vec(step(), 0..40), piece in 1usize..50
        ) {
            let mut bed = Bed::new();
            bed.files.sizes = Sizes { piece, longest: 100_000 };
            let mut waiting: std::collections::VecDeque<u8> = lines.concat().into_bytes().into();
            let mut days = (1..=28).map(|day| format!("dev-2026-03-{day:02}.log")).cycle();
            let (mut file, mut seen) = (days.next().unwrap(), Vec::new());
            bed.append(&file, "");
            let mut cursor = bed.files.last(Query { limit: 1, filter: &Filter::default() }).unwrap().cursor.unwrap();
            let mut days_used = 1;
            for step in steps.into_iter().chain([Step::Write(usize::MAX), Step::Read(usize::MAX)]) {
                match step {
                    Step::Write(count) => {
                        let count = count.min(waiting.len());
                        bed.append(&file, waiting.drain(..count).collect::<Vec<u8>>());
                    }
                    // A writer changes files between two lines.
                    Step::NextDay if days_used < 28 => {
                        let end = waiting.iter().position(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
                        bed.append(&file, waiting.drain(..end).collect::<Vec<u8>>());
                        file = days.next().unwrap();
                        days_used += 1;
                    }
                    Step::NextDay => {}
                    Step::Read(limit) => {
                        let page = bed.files.after(&cursor, None, Query { limit, filter: &Filter::default() }).unwrap();
                        prop_assert!(page.entries.len() <= limit);
                        seen.extend(numbers(&page));
                        cursor = page.cursor.unwrap();
                    }
                }
            }
            prop_assert_eq!(seen, (0..lines.len() as i64).collect::<Vec<_>>());
        }

        #[test]
        fn pages_backwards_and_forwards_have_the_same_entries(
            lines in lines(), limit in 1usize..6, piece in 1usize..50, per_day in 1usize..8
        ) {
            let mut bed = Bed::new();
            bed.files.sizes = Sizes { piece, longest: 100_000 };
            for (day, lines) in lines.chunks(per_day).enumerate() {
                bed.append(&format!("dev-2026-03-{:02}.log", day + 1), lines.concat());
            }
            let expected: Vec<i64> = (0..lines.len() as i64).collect();
            let query = Query { limit, filter: &Filter::default() };
            let mut page = bed.files.last(query).unwrap();
            let mut seen = numbers(&page);
            while let Some(back) = page.back {
                page = bed.files.before(&back, query).unwrap();
                seen.splice(0..0, numbers(&page));
            }
            prop_assert_eq!(&seen, &expected);
            let mut at = Position::start_of(Day::parse("2026-01-01").unwrap());
            let mut seen = Vec::new();
            loop {
                let page = bed.files.after(&at, None, query).unwrap();
                seen.extend(numbers(&page));
                at = page.cursor.unwrap();
                if !page.has_more {
                    break;
                }
            }
            prop_assert_eq!(seen, expected);
        }
    }
}
