//! Timestamps: a schedule that fires once, and what `al cron --from` takes.

use chrono::{FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta};

use super::zone::Zone;
use crate::base::clock::UnixMs;

/// `YYYY-MM-DDThh:mm[:ss[.fff]]`, then nothing, `Z` or an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp {
    wall: NaiveDateTime,
    /// `None`: the wall clock of whichever zone it is read in.
    offset: Option<FixedOffset>,
}

impl Timestamp {
    /// Parses a timestamp; `None` when it has another form or does not exist.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_uppercase();
        let zone_at = text.char_indices().skip(16).find(|(_, c)| matches!(c, 'Z' | '+' | '-'));
        let (wall, offset) = text.split_at(zone_at.map_or(text.len(), |(at, _)| at));
        Some(Self { wall: parse_wall(wall)?, offset: parse_offset(offset)? })
    }

    /// The instant that it means in a zone.
    pub fn instant(&self, zone: &Zone) -> UnixMs {
        match self.offset {
            Some(offset) => {
                let utc = self.wall - TimeDelta::seconds(offset.local_minus_utc().into());
                UnixMs(utc.and_utc().timestamp_millis())
            }
            None => zone.instant(self.wall),
        }
    }

    /// Whether it means the same instant in every zone.
    pub(super) fn is_absolute(&self) -> bool {
        self.offset.is_some()
    }

    /// As it would be written without a zone.
    pub(super) fn wall_text(&self) -> String {
        self.wall.format("%Y-%m-%dT%H:%M:%S%.f").to_string()
    }
}

fn parse_wall(text: &str) -> Option<NaiveDateTime> {
    if !["0-0-0T0:0", "0-0-0T0:0:0", "0-0-0T0:0:0.0"].contains(&shape(text).as_str()) {
        return None;
    }
    let digits: Vec<&str> = text.split(['-', 'T', ':', '.']).collect();
    let lengths: Vec<usize> = digits.iter().map(|digits| digits.len()).collect();
    if ![4, 2, 2, 2, 2, 2, 3].starts_with(&lengths) {
        return None;
    }
    let number = |at: usize| digits.get(at).map_or(Some(0), |digits| digits.parse::<u32>().ok());
    let date = NaiveDate::from_ymd_opt(i32::try_from(number(0)?).ok()?, number(1)?, number(2)?)?;
    let second = number(5).filter(|second| *second < 60)?;
    Some(date.and_time(NaiveTime::from_hms_milli_opt(number(3)?, number(4)?, second, number(6)?)?))
}

/// `Some(None)` when there is no zone.
fn parse_offset(text: &str) -> Option<Option<FixedOffset>> {
    match text {
        "" => Some(None),
        "Z" => Some(FixedOffset::east_opt(0)),
        offset => {
            let (sign, digits) = offset.split_at_checked(1)?;
            let time = (shape(digits) == "0:0" && digits.len() == 5).then(|| digits.split_once(':')).flatten()?;
            let (hours, minutes): (i32, i32) = (time.0.parse().ok()?, time.1.parse().ok()?);
            let seconds = (hours * 60 + minutes) * 60;
            let east = if sign == "-" { -seconds } else { seconds };
            (hours < 24 && minutes < 60).then(|| FixedOffset::east_opt(east))
        }
    }
}

/// The text with every run of digits as one `0`.
fn shape(text: &str) -> String {
    let mut shape = String::new();
    for c in text.chars() {
        match c {
            '0'..='9' if shape.ends_with('0') => {}
            '0'..='9' => shape.push('0'),
            other => shape.push(other),
        }
    }
    shape
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn means(text: &str, zone: &str, expected: &str) {
        let zone = Zone::parse(zone).unwrap();
        assert_eq!(Timestamp::parse(text).expect(text).instant(&zone).to_iso(), expected);
    }

    #[test]
    fn a_zone_of_its_own_counts_more_than_that_of_the_reader() {
        means("2031-05-01T09:00", "Europe/Berlin", "2031-05-01T07:00:00.000Z");
        means("2031-05-01T09:00:01.250", "UTC", "2031-05-01T09:00:01.250Z");
        means("2031-05-01t09:00:00z", "Europe/Berlin", "2031-05-01T09:00:00.000Z");
        means("2031-05-01T09:00+05:30", "Europe/Berlin", "2031-05-01T03:30:00.000Z");
        means("2031-05-01T09:00:00.5".replace(".5", ".500-03:00").as_str(), "UTC", "2031-05-01T12:00:00.500Z");
        means("2025-03-30T02:30", "Europe/Berlin", "2025-03-30T01:30:00.000Z");
        means("2025-10-26T02:30", "Europe/Berlin", "2025-10-26T00:30:00.000Z");
    }

    #[test]
    fn nothing_else_is_a_timestamp() {
        for text in [
            "",
            "12:30",
            "2031-05-01",
            "2031-05-01T09",
            "2031-05-01 09:00",
            "2031-5-1T09:00",
            "2031-05-01T9:00",
            "2031-13-01T09:00",
            "2031-02-29T09:00",
            "2031-05-01T24:00",
            "2031-05-01T09:60",
            "2031-05-01T09:00:60",
            "2031-05-01T09:00:00.5",
            "2031-05-01T09:00:00.",
            "2031-05-01T09:00Zx",
            "2031-05-01T09:00+5:30",
            "2031-05-01T09:00+05",
            "2031-05-01T09:00+24:00",
            "2031-05-01T09:00+05:60",
            "12031-05-01T09:00",
            "2031-05-01T09:00 Z",
            "２０31-05-01T09:00",
            "2031-05-01T09:00:00.000000",
        ] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
    }
}
