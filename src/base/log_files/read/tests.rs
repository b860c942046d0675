//! Reading in both directions.

use std::fs::OpenOptions;
use std::io::Write as _;

use serde_json::json;

use super::super::pattern::Pattern;
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
    assert_eq!(next.entries, [json!({"n": "half"}), json!({"n": 7})].map(|entry| entry.as_object().unwrap().clone()));
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
