//! Schedules against recorded results of another implementation, against the tables of the specification, and against a
//! slow but obvious search.

use std::collections::BTreeSet;

use chrono::{DateTime, Datelike as _, Days as Count, NaiveDate, NaiveDateTime, TimeDelta, Timelike as _};
use proptest::prelude::*;
use serde_json::Value;

use super::{Schedule, Timestamp, Zone};
use crate::base::clock::UnixMs;

fn zone(name: &str) -> Zone {
    Zone::parse(name).unwrap_or_else(|| panic!("{name} is no zone"))
}

fn instant(text: &str) -> UnixMs {
    UnixMs(DateTime::parse_from_rfc3339(text).expect(text).timestamp_millis())
}

#[track_caller]
fn upcoming(text: &str, zone_name: &str, from: &str, count: usize) -> Vec<String> {
    let schedule = Schedule::parse(text).unwrap_or_else(|rejection| panic!("{rejection}"));
    schedule.upcoming(&zone(zone_name), instant(from)).take(count).map(UnixMs::to_iso).collect()
}

#[test]
fn recorded_results_are_reproduced() {
    let lines = include_str!("../../../tests/fixtures/cron-oracle.jsonl");
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let (text, zone) = (line["expr"].as_str().unwrap(), line["tz"].as_str().unwrap());
        count += 1;
        if line["error"] == true {
            if Schedule::parse(text).is_ok() {
                wrong.push(format!("{text:?} is accepted"));
            }
            continue;
        }
        let expected: Vec<&str> = line["next"].as_array().unwrap().iter().map(|at| at.as_str().unwrap()).collect();
        let found = upcoming(text, zone, line["from"].as_str().unwrap(), 5);
        if found != expected {
            wrong.push(format!("{line}: {found:?}"));
        }
    }
    assert_eq!(count, 512, "lines of the recording");
    assert!(wrong.is_empty(), "{} lines: {wrong:#?}", wrong.len());
}

#[test]
fn clock_changes_and_days_are_as_in_the_table() {
    let case = |text, zone, from, expected: &[&str]| {
        let expected: Vec<String> = expected.iter().map(|at| instant(at).to_iso()).collect();
        assert_eq!(upcoming(text, zone, from, expected.len()), expected, "{text} {zone} from {from}");
    };
    let new_york = "America/New_York";
    case("30 2 * * *", new_york, "2025-03-08T12:00:00Z", &["2025-03-09T07:30:00Z", "2025-03-10T06:30:00Z"]);
    case("*/15 2 * * *", new_york, "2025-03-09T06:00:00Z", &["2025-03-09T07:00:00Z"]);
    case("*/15 2 * * *", new_york, "2025-03-09T07:45:00Z", &["2025-03-10T06:00:00Z"]);
    case(
        "*/15 * * * *",
        new_york,
        "2025-03-09T06:40:00Z",
        &["2025-03-09T06:45:00Z", "2025-03-09T07:00:00Z", "2025-03-09T07:15:00Z"],
    );
    case("30 1 * * *", new_york, "2025-11-01T12:00:00Z", &["2025-11-02T05:30:00Z", "2025-11-03T06:30:00Z"]);
    case(
        "*/20 * * * *",
        new_york,
        "2025-11-02T05:10:00Z",
        &["2025-11-02T05:20:00Z", "2025-11-02T05:40:00Z", "2025-11-02T07:00:00Z"],
    );
    case("*/20 * * * *", new_york, "2025-11-02T06:10:00Z", &["2025-11-02T07:00:00Z"]);
    case("30 2 * * *", "Europe/Berlin", "2025-03-29T12:00:00Z", &["2025-03-30T01:30:00Z", "2025-03-31T00:30:00Z"]);
    case("10 2 * * *", "Australia/Lord_Howe", "2025-10-04T12:00:00Z", &["2025-10-04T15:40:00Z"]);
    case("45 1 * * *", "Australia/Lord_Howe", "2025-04-05T12:00:00Z", &["2025-04-05T14:45:00Z"]);
    let midnights = |days: &[&str]| days.iter().map(|day| format!("{day}T00:00:00Z")).collect::<Vec<_>>();
    for (text, from, days) in [
        ("0 0 13 * 5", "2025-06-01T00:00:00Z", &["2025-06-06", "2025-06-13", "2025-06-20"][..]),
        ("0 0 13 * +5", "2025-06-01T00:00:00Z", &["2025-06-13", "2026-02-13"]),
        (
            "0 0 31W * *",
            "2025-01-15T00:00:00Z",
            &["2025-01-31", "2025-03-31", "2025-05-30", "2025-07-31", "2025-08-29"],
        ),
    ] {
        let expected = midnights(days);
        case(text, "UTC", from, &expected.iter().map(String::as_str).collect::<Vec<_>>());
    }
    case(
        "7 1-3 1 * tue,0",
        "UTC",
        "2025-02-28T19:15:48Z",
        &["2025-03-01T01:07:00Z", "2025-03-01T02:07:00Z", "2025-03-01T03:07:00Z"],
    );
}

#[test]
fn a_day_that_a_zone_skips_fires_a_day_later() {
    // Samoa had no 30 December 2011.
    assert_eq!(
        upcoming("0 12 * * *", "Pacific/Apia", "2011-12-29T00:00:00Z", 3),
        ["2011-12-29T22:00:00.000Z", "2011-12-30T22:00:00.000Z", "2011-12-31T22:00:00.000Z"].map(str::to_owned)
    );
}

#[test]
fn every_wall_time_fires_once_in_a_year_with_both_changes() {
    for name in ["America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Kolkata"] {
        let zone = zone(name);
        let schedule = Schedule::parse("*/10 * * * *").unwrap();
        let end = instant("2026-01-01T12:00:00Z");
        let all: Vec<UnixMs> =
            schedule.upcoming(&zone, instant("2025-01-01T00:00:00Z")).take_while(|at| *at <= end).collect();
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "{name}");
        let shown: BTreeSet<String> = all.iter().map(|at| zone.show(*at)[4..20].to_owned()).collect();
        assert_eq!(shown.len(), all.len(), "{name}: a wall time fires twice");
    }
}

#[test]
fn nothing_is_found_after_2099() {
    assert_eq!(upcoming("@yearly", "UTC", "2098-06-01T00:00:00Z", 5), ["2099-01-01T00:00:00.000Z"]);
    for text in ["0 0 31 2 *", "0 0 LW * +SUN", "0 0 0 1 1 * 2100", "0 0 0 29 2 * 2025-2027"] {
        let schedule = Schedule::parse(text).unwrap();
        assert!(schedule.never_fires(instant("2025-01-01T00:00:00Z")), "{text}");
        assert_eq!(schedule.next(&Zone::UTC, UnixMs(i64::MIN)), None, "{text}");
    }
    assert_eq!(Schedule::parse("* * * * *").unwrap().next(&Zone::UTC, UnixMs(i64::MAX)), None);
}

#[test]
fn an_instant_that_may_still_come_in_some_zone_is_not_over() {
    let once = Schedule::parse("2031-05-01T09:00").unwrap();
    assert!(!once.never_fires(instant("2031-05-01T20:59:59Z")));
    assert!(once.never_fires(instant("2031-05-01T21:00:00Z")));
    assert!(!Schedule::parse("0 0 29 2 *").unwrap().never_fires(instant("2031-05-01T21:00:00Z")));
}

#[test]
fn seconds_are_kept_and_fractions_dropped() {
    assert_eq!(upcoming("* * * * * *", "UTC", "2025-01-01T00:00:00.999Z", 1), ["2025-01-01T00:00:01.000Z"]);
    assert_eq!(upcoming("0 0 1 1 *", "UTC", "1968-12-31T23:59:59.500Z", 1), ["1969-01-01T00:00:00.000Z"]);
}

/// Text, field, term, and a part of the reason.
#[track_caller]
fn rejected(text: &str, field: &str, term: &str, reason: &str) {
    let rejection = Schedule::parse(text).err().unwrap_or_else(|| panic!("{text:?} is accepted"));
    let found = rejection.field.map(|field| field.to_string()).unwrap_or_default();
    assert_eq!((found.as_str(), rejection.term.as_deref().unwrap_or_default()), (field, term), "{rejection}");
    let shown = rejection.to_string();
    assert!(shown.starts_with(&format!("\"{text}\" is not a schedule: ")), "{shown}");
    assert!(shown.contains(reason), "{shown}\nlacks {reason:?}");
}

#[test]
fn a_wrong_number_of_fields_is_told() {
    rejected("", "", "", "0 fields; write 5 (minute hour day-of-month month day-of-week), 6 (second first) or 7");
    rejected("bad", "", "", "1 field;");
    rejected("* * * *", "", "", "4 fields;");
    rejected("* * * * * * * *", "", "", "8 fields;");
    rejected("@foo", "", "", "@foo is unknown; write fields, or one of @yearly @annually @monthly @weekly @daily");
    rejected("@every 5m", "", "", "@every 5m is unknown");
    rejected("@Reboot", "", "", "@reboot is not supported; every agent with a schedule has an initial run");
}

#[test]
fn values_out_of_range_are_told_with_the_range() {
    rejected("61 6 * * *", "minute", "61", "61 is out of range; write 0 to 59");
    rejected("0 24 * * *", "hour", "24", "0 to 23");
    rejected("60 0 0 * * *", "second", "60", "0 to 59");
    rejected("0 0 0 * *", "day-of-month", "0", "1 to 31");
    rejected("0 0 * 0 *", "month", "0", "1 to 12");
    rejected("0 0 * * 1,8", "day-of-week", "8", "0 to 7");
    rejected("0 0 0 * * * 0", "year", "0", "1 to 9999");
    rejected("100000 * * * *", "minute", "100000", "100000 is out of range");
    rejected("0 0 32W * *", "day-of-month", "32W", "32 is out of range");
}

#[test]
fn reversed_ranges_are_told_with_what_to_write() {
    rejected("0 22-6 * * *", "hour", "22-6", "reversed; write 22-23,0-6");
    rejected("0 0 * * SAT-MON", "day-of-week", "SAT-MON", "reversed; write SAT-7,0-MON");
    rejected("0 0 0 * * * 2030-2029", "year", "2030-2029", "reversed");
    assert!(Schedule::parse("0 0 * * SAT-7,0-MON").is_ok() && Schedule::parse("0 22-23,0-6 * * *").is_ok());
}

#[test]
fn steps_are_told_with_what_to_write() {
    rejected("*/0 * * * *", "minute", "*/0", "a step of 0 is out of range; write 1 to 60");
    rejected("0 */25 * * *", "hour", "*/25", "1 to 24");
    rejected("0 0 1-31/40 * *", "day-of-month", "1-31/40", "1 to 31");
    rejected("5/15 * * * *", "minute", "5/15", "write 5-59/15 or */15");
    rejected("0 0 * * MON/2", "day-of-week", "MON/2", "write 1-6/2 or */2");
    rejected("/5 * * * *", "minute", "/5", "write */5");
    rejected("0 0 0 * * * */2", "year", "*/2", "write 2026-9999/2");
    rejected("0 0 0 * * * 2026/2", "year", "2026/2", "needs a range");
}

#[test]
fn empty_entries_are_told() {
    for text in ["1,,2", "1,2,", ",1", ","] {
        rejected(&format!("{text} * * * *"), "minute", text, "empty entry");
    }
}

#[test]
fn illegal_characters_forms_and_names_are_told() {
    for term in ["a", "1.5", "ä", "1?", "*,?"] {
        let shown = term.rsplit(',').next().unwrap();
        rejected(&format!("{term} * * * *"), "minute", shown, "illegal characters; write numbers from 0 to 59");
    }
    for term in ["5-", "-5", "1-2-3", "**", "5*", "*/5*", "*/-5", "*/a", "5/", "/", "1-*"] {
        rejected(&format!("{term} * * * *"), "minute", term, "illegal form; write *, */step, value");
    }
    for term in ["1MON", "*/MON", "MON-", "5#1#2"] {
        rejected(&format!("0 0 * * {term}"), "day-of-week", term, "illegal form");
    }
    rejected("0 0 * * MONDAY", "day-of-week", "MONDAY", "three letters: SUN MON TUE WED THU FRI SAT");
    rejected("0 0 * sept *", "month", "sept", "three letters: JAN FEB MAR");
    rejected("0 0 * APRIL *", "month", "APRIL", "three letters");
    rejected("0 0 * JAN1 *", "month", "JAN1", "illegal form");
    rejected("0 0 * * JUL", "day-of-week", "JUL", "three letters");
}

#[test]
fn modifiers_are_told_where_they_go() {
    for term in ["5#0", "5#6", "5#", "5#12"] {
        rejected(&format!("0 0 * * {term}"), "day-of-week", term, "a number from 1 to 5 or L");
    }
    rejected("0 0 * * #2", "day-of-week", "#2", "needs days of the week before it");
    rejected("0 0 * * L", "day-of-week", "L", "as in 5L");
    rejected("0 0 * * 5W", "day-of-week", "5W", "W belongs to day-of-month only");
    rejected("0 5#2 * * *", "hour", "5#2", "# belongs to day-of-week only");
    rejected("0 0 5#2 * *", "day-of-month", "5#2", "# belongs to day-of-week only");
    rejected("0 5L * * *", "hour", "5L", "L belongs to day-of-month and day-of-week only");
    rejected("0 0 * L *", "month", "L", "L belongs to day-of-month and day-of-week only");
    rejected("0 15w * * *", "hour", "15w", "W belongs to day-of-month only");
    for term in ["L-3", "15L", "1,LW"] {
        let shown = term.rsplit(',').next().unwrap();
        rejected(&format!("0 0 {term} * *"), "day-of-month", shown, "L stands alone");
    }
    for term in ["W", "1W-5", "1-5W", "*W"] {
        rejected(&format!("0 0 {term} * *"), "day-of-month", term, "W needs one plain day before it, as in 15W");
    }
    rejected("0 0 13 * +", "day-of-week", "+", "as in +MON-FRI");
    rejected("0 0 +13 * *", "day-of-month", "+13", "+ belongs to the beginning of day-of-week only");
    rejected("0 0 13 * 1,+2", "day-of-week", "+2", "+ belongs to the beginning of day-of-week only");
}

#[test]
fn a_colon_makes_it_a_timestamp() {
    for text in ["12:30", "2027-13-01T09:00:00", "0 0 * * 1:2"] {
        rejected(text, "", "", "ISO 8601, for example 2031-05-01T09:00:00");
    }
    rejected(": * * * *", "minute", ":", "illegal characters");
}

#[test]
fn what_looks_alike_is_not_the_same() {
    let days = |text| {
        upcoming(text, "UTC", "2025-06-01T12:00:00Z", 3).iter().map(|at| at[5..10].to_owned()).collect::<Vec<_>>()
    };
    // A restriction to everything is a restriction, `?` and `+*` are none.
    assert_eq!(days("0 0 */1 * 1"), ["06-02", "06-03", "06-04"]);
    assert_eq!(days("0 0 ? * MON"), ["06-02", "06-09", "06-16"]);
    assert_eq!(days("0 0 5 * +*"), ["06-05", "07-05", "08-05"]);
    assert_eq!(days("0 0 * * 1,5L"), ["06-02", "06-09", "06-16"]);
    assert_eq!(days("0 0 * * */6#1"), ["06-07", "07-05", "07-06"]);
}

/// A schedule as text and, written down independently of it, what it means.
#[derive(Clone, Debug)]
struct Model {
    text: String,
    seconds: Option<BTreeSet<u32>>,
    minutes: BTreeSet<u32>,
    hours: BTreeSet<u32>,
    months: BTreeSet<u32>,
    of_month: Vec<MonthDay>,
    of_week: Vec<WeekDay>,
    both: bool,
}

#[derive(Clone, Debug)]
enum MonthDay {
    Day(u32),
    Nearest(u32),
    Last,
}

#[derive(Clone, Debug)]
enum WeekDay {
    Every(u32),
    Nth(u32, u32),
    Last(u32),
}

impl Model {
    /// Empty lists are free fields.
    fn has_day(&self, date: NaiveDate) -> bool {
        let same_month = |other: NaiveDate| other.month() == date.month();
        let weekday = |date: NaiveDate| date.weekday().num_days_from_sunday();
        let of_month = self.of_month.iter().any(|day| match *day {
            MonthDay::Day(day) => date.day() == day,
            MonthDay::Last => !same_month(date + Count::new(1)),
            MonthDay::Nearest(day) => {
                let month = (1..=31).filter_map(|day| date.with_day(day));
                let working = month.filter(|date| (1..=5).contains(&weekday(*date)));
                let nearest = working.min_by_key(|date| date.day().abs_diff(day));
                date.with_day(day).is_some() && nearest == Some(date)
            }
        });
        let of_week = self.of_week.iter().any(|day| match *day {
            WeekDay::Every(day) => weekday(date) == day % 7,
            WeekDay::Last(day) => weekday(date) == day % 7 && !same_month(date + Count::new(7)),
            WeekDay::Nth(day, nth) => {
                let earlier = (0..5).filter(|weeks| same_month(date - Count::new(7 * weeks)));
                weekday(date) == day % 7 && earlier.count() == nth as usize
            }
        });
        let days = match (self.of_month.is_empty(), self.of_week.is_empty()) {
            (true, true) => true,
            (false, true) => of_month,
            (true, false) => of_week && !self.both,
            (false, false) if self.both => of_month && of_week,
            (false, false) => of_month || of_week,
        };
        self.months.contains(&date.month()) && (days || (self.both && self.of_month.is_empty() && of_week))
    }

    fn has_time(&self, wall: NaiveDateTime) -> bool {
        let seconds = self.seconds.as_ref().map_or(wall.second() == 0, |seconds| seconds.contains(&wall.second()));
        seconds && self.minutes.contains(&wall.minute()) && self.hours.contains(&wall.hour())
    }

    /// The next instant whose wall clock is before `end`, found by trying every wall clock.
    fn search(&self, zone: &Zone, from: UnixMs, end: NaiveDateTime) -> Option<UnixMs> {
        let step = TimeDelta::seconds(if self.seconds.is_some() { 1 } else { 60 });
        let begin = zone.wall_clock(from).unwrap();
        let mut wall = if self.seconds.is_some() { begin } else { begin.with_second(0).unwrap() } + step;
        while wall < end {
            if self.has_time(wall) && self.has_day(wall.date()) {
                let at = plain_instant(zone, wall);
                if at > from {
                    return Some(at);
                }
            }
            wall += step;
        }
        None
    }
}

/// The step from wall clock to instant, using the other direction only.
fn plain_instant(zone: &Zone, wall: NaiveDateTime) -> UnixMs {
    const HALF_HOUR: i64 = 30 * 60 * 1000;
    let utc = wall.and_utc().timestamp_millis();
    let offset = |at: i64| zone.wall_clock(UnixMs(at)).unwrap().and_utc().timestamp_millis() - at;
    let around = (-60..=60).map(|steps| utc + steps * HALF_HOUR);
    let exact = around.clone().map(|at| UnixMs(utc - offset(at))).filter(|at| zone.wall_clock(*at) == Some(wall));
    exact.min().unwrap_or_else(|| {
        let before = around.filter(|at| zone.wall_clock(UnixMs(*at)).unwrap() < wall).max().unwrap();
        UnixMs(utc - offset(before))
    })
}

/// Some values of a field as a list of terms, or all of them as `*`.
fn values(least: u32, most: u32, dense: bool) -> impl Strategy<Value = (String, BTreeSet<u32>)> {
    let term = (least..=most, least..=most, 1..=(most - least + 1), 0..4u8).prop_map(move |(a, b, step, form)| {
        let (a, b) = (a.min(b), a.max(b));
        match form {
            0 => (format!("*/{step}"), (least..=most).step_by(step as usize).collect::<Vec<_>>()),
            1 => (format!("{a}-{b}"), (a..=b).collect()),
            2 => (format!("{a}-{b}/{step}"), (a..=b).step_by(step as usize).collect()),
            _ => (format!("{a:02}"), vec![a]),
        }
    });
    let some = proptest::collection::vec(term, 1..3).prop_map(|terms| {
        let text: Vec<String> = terms.iter().map(|(text, _)| text.clone()).collect();
        (text.join(","), terms.into_iter().flat_map(|(_, values)| values).collect())
    });
    let all = Just(("*".to_owned(), (least..=most).collect()));
    prop_oneof![if dense { 3 } else { 1 } => all, 2 => some]
}

fn month_days() -> impl Strategy<Value = (String, Vec<MonthDay>)> {
    let term = prop_oneof![
        4 => (1..=31u32).prop_map(|day| (day.to_string(), MonthDay::Day(day))),
        1 => (1..=31u32).prop_map(|day| (format!("{day}W"), MonthDay::Nearest(day))),
        1 => Just(("L".to_owned(), MonthDay::Last)),
    ];
    terms(term)
}

fn week_days() -> impl Strategy<Value = (String, Vec<WeekDay>)> {
    let term = prop_oneof![
        4 => (0..=7u32).prop_map(|day| (day.to_string(), WeekDay::Every(day))),
        1 => (0..=7u32, 1..=5u32).prop_map(|(day, nth)| (format!("{day}#{nth}"), WeekDay::Nth(day, nth))),
        1 => (0..=7u32).prop_map(|day| (format!("{day}L"), WeekDay::Last(day))),
    ];
    terms(term)
}

fn terms<T: Clone + std::fmt::Debug>(
    term: impl Strategy<Value = (String, T)>,
) -> impl Strategy<Value = (String, Vec<T>)> {
    proptest::collection::vec(term, 0..4).prop_map(|terms| {
        let (texts, terms): (Vec<String>, Vec<T>) = terms.into_iter().unzip();
        (if texts.is_empty() { "*".to_owned() } else { texts.join(",") }, terms)
    })
}

fn models() -> impl Strategy<Value = Model> {
    let second = proptest::option::weighted(0.3, values(0, 59, true));
    let fields = (
        second,
        values(0, 59, true),
        values(0, 23, true),
        month_days(),
        values(1, 12, true),
        week_days(),
        any::<bool>(),
    );
    fields.prop_map(|(second, minute, hour, of_month, month, of_week, both)| {
        let plus = if both && !of_week.1.is_empty() { "+" } else { "" };
        let first = second.as_ref().map(|(text, _)| format!("{text} ")).unwrap_or_default();
        Model {
            text: format!("{first}{} {} {} {} {plus}{}", minute.0, hour.0, of_month.0, month.0, of_week.0),
            seconds: second.map(|(_, values)| values),
            minutes: minute.1,
            hours: hour.1,
            months: month.1,
            of_month: of_month.1,
            of_week: of_week.1,
            both,
        }
    })
}

/// Instants of which half are near a clock change of one of [`ZONES`].
fn instants() -> impl Strategy<Value = UnixMs> {
    const CHANGES: [&str; 8] = [
        "2025-03-09T07:00:00Z",
        "2025-11-02T06:00:00Z",
        "2025-03-30T01:00:00Z",
        "2025-10-26T01:00:00Z",
        "2025-10-04T15:30:00Z",
        "2025-04-05T15:00:00Z",
        "2011-12-30T10:00:00Z",
        "2025-03-29T14:45:00Z",
    ];
    let near = (0..CHANGES.len(), -7_200_000..7_200_000i64).prop_map(|(at, ms)| UnixMs(instant(CHANGES[at]).0 + ms));
    prop_oneof![near, (946_684_800_000..4_070_908_800_000i64).prop_map(UnixMs)]
}

const ZONES: [&str; 8] = [
    "UTC",
    "America/New_York",
    "Europe/Berlin",
    "Australia/Lord_Howe",
    "Asia/Kolkata",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Africa/Casablanca",
];

proptest! {
    #[test]
    fn next_is_what_a_search_through_all_wall_clocks_finds(model in models(), at in 0..ZONES.len(), from in instants()) {
        let zone = zone(ZONES[at]);
        let schedule = Schedule::parse(&model.text).map_err(|rejection| TestCaseError::fail(rejection.to_string()))?;
        let next = schedule.next(&zone, from);
        prop_assert!(next.is_none_or(|next| next > from));
        let length = if model.seconds.is_some() { TimeDelta::hours(6) } else { TimeDelta::days(10) };
        let end = zone.wall_clock(from).unwrap() + length;
        match model.search(&zone, from, end) {
            Some(expected) => prop_assert_eq!(next.map(UnixMs::to_iso), Some(expected.to_iso())),
            // Near the end a clock change may carry it over.
            None => prop_assert!(next.is_none_or(|next| zone.wall_clock(next).unwrap() >= end - TimeDelta::hours(25))),
        }
    }

    #[test]
    fn any_text_is_a_schedule_or_a_reason(text in "[ 0-9*/,#LWJANMONSU+?:@-]{0,20}") {
        if let Ok(schedule) = Schedule::parse(&text) {
            let _ = (schedule.next(&Zone::UTC, UnixMs(0)), schedule.in_words());
        }
    }

    #[test]
    fn a_timestamp_means_what_its_zone_shows(from in instants(), at in 0..ZONES.len()) {
        let zone = zone(ZONES[at]);
        let shown = zone.show(from);
        let [_, date, time, offset] = shown.split(' ').collect::<Vec<_>>()[..] else { panic!("{shown}") };
        let timestamp = Timestamp::parse(&format!("{date}T{time}{offset}")).unwrap();
        prop_assert_eq!(timestamp.instant(&zone), from);
    }
}
