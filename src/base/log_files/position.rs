//! Days that log files are named after, places in them, and the form in which a place travels.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{NaiveDate, NaiveTime};

use crate::base::clock::UnixMs;

/// A date in UTC, `YYYY-MM-DD`. Order is that of time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(String);

impl Day {
    /// Bytes of every day.
    pub(super) const LENGTH: usize = 10;

    /// Reads ten characters of the right kinds; whether the calendar has such a day does not matter here.
    pub fn parse(text: &str) -> Option<Self> {
        let fits =
            |(index, byte): (usize, u8)| if [4, 7].contains(&index) { byte == b'-' } else { byte.is_ascii_digit() };
        (text.len() == Self::LENGTH && text.bytes().enumerate().all(fits)).then(|| Self(text.to_owned()))
    }

    /// The day of an instant.
    pub fn of(time: UnixMs) -> Self {
        Self(time.utc_date())
    }

    /// Its first instant; `None` when the calendar has no such day.
    pub fn start(&self) -> Option<UnixMs> {
        let date = NaiveDate::parse_from_str(&self.0, "%Y-%m-%d").ok()?;
        Some(UnixMs(date.and_time(NaiveTime::MIN).and_utc().timestamp_millis()))
    }

    /// `YYYY-MM-DD`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A place between two lines of a log. Order is that of the log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub day: Day,
    /// Bytes from the beginning of that day's file.
    pub offset: u64,
}

impl Position {
    /// The beginning of a day's file, whether there is one or not.
    pub fn start_of(day: Day) -> Self {
        Self { day, offset: 0 }
    }

    /// Reads a cursor; `None` when it is malformed.
    pub fn parse(cursor: &str) -> Option<Self> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
        let (day, offset) = text.split_once(':')?;
        if offset.is_empty() || !offset.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        // More than any file has is as good as the largest number.
        Some(Self { day: Day::parse(day)?, offset: offset.parse().unwrap_or(u64::MAX) })
    }
}

/// The cursor: base64url without padding of `<YYYY-MM-DD>:<offset>`.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(format!("{}:{}", self.day, self.offset)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_a_first_instant_when_there_is_such_a_day() {
        assert_eq!(Day::parse("2026-03-01").unwrap().start(), Some(UnixMs(1_772_323_200_000)));
        assert_eq!(Day::parse("2026-02-29").unwrap().start(), None);
    }

    #[test]
    fn a_cursor_has_the_documented_form() {
        let position = Position { day: Day::parse("2026-03-05").unwrap(), offset: 871 };
        assert_eq!(position.to_string(), "MjAyNi0wMy0wNTo4NzE");
        assert_eq!(Position::parse("MjAyNi0wMy0wNTo4NzE"), Some(position));
    }

    #[test]
    fn anything_else_is_no_cursor() {
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let malformed =
            ["2026-03-05:", "2026-3-05:1", "2026-03-05:-1", "2026-03-05:+1", "2026-03-05", ":1", "../../x:1"];
        for text in malformed.map(encode).into_iter().chain(["", "*", "MjAyNi0wMy0wNTo4NzE="].map(str::to_owned)) {
            assert_eq!(Position::parse(&text), None, "{text}");
        }
        let huge = Position::parse(&encode("2026-03-05:99999999999999999999999")).unwrap();
        assert_eq!(huge.offset, u64::MAX);
    }
}
