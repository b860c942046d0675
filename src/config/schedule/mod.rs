//! Schedules: what their text means and when they fire (scheduler.md §3).
//!
//! Everything that has to do with schedules asks this one parser: checks of files, the scheduler, `al cron`.

use crate::base::clock::UnixMs;

mod days;
mod field;
mod grammar;
mod offsets;
mod rejection;
mod term;
mod times;
mod timestamp;
mod words;
mod zone;

#[cfg(test)]
mod tests;

pub use field::Field;
pub use rejection::Rejection;
pub use timestamp::Timestamp;
pub use zone::{SystemZone, Zone};

use days::Days;
use times::Times;

/// The furthest west that a zone's clocks are, in milliseconds behind UTC.
const LATEST_ZONE_MS: i64 = 12 * 60 * 60 * 1000;

/// When an agent starts by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    text: String,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// At one instant.
    Once(Timestamp),
    /// Whenever the wall clock shows one of these times on one of these days.
    Recurring(Box<Recurring>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Recurring {
    /// Seconds were written, not left out.
    has_seconds: bool,
    days: Days,
    times: Times,
}

impl Schedule {
    /// Parses a nickname, five to seven fields, or a timestamp.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence that quotes all of it.
    pub fn parse(text: &str) -> Result<Self, Rejection> {
        let kind = grammar::parse(text).map_err(|fault| fault.within(text))?;
        Ok(Self { text: text.to_owned(), kind })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The first instant later than `from` at which it fires, with the wall clock of a zone; `None` when there is none
    /// to the end of 2099.
    pub fn next(&self, zone: &Zone, from: UnixMs) -> Option<UnixMs> {
        match &self.kind {
            Kind::Once(timestamp) => Some(timestamp.instant(zone)).filter(|at| *at > from),
            Kind::Recurring(recurring) => recurring.next(zone, from),
        }
    }

    /// All instants at which it fires, each found from the one before.
    pub fn upcoming(&self, zone: &Zone, from: UnixMs) -> impl Iterator<Item = UnixMs> {
        std::iter::successors(self.next(zone, from), move |last| self.next(zone, *last))
    }

    /// Whether it fires in no zone at all from now on, as a 31st of February.
    pub fn never_fires(&self, now: UnixMs) -> bool {
        self.next(&Zone::UTC, UnixMs(now.0.saturating_sub(LATEST_ZONE_MS))).is_none()
    }

    /// What it means, in one English sentence that names every field that is not free.
    pub fn in_words(&self) -> String {
        words::sentence(&self.kind)
    }
}

impl Recurring {
    fn next(&self, zone: &Zone, from: UnixMs) -> Option<UnixMs> {
        let mut wall = zone.wall_clock(from)?;
        loop {
            let time = if self.days.matches(wall.date()) { self.times.after(wall.time()) } else { None };
            wall = match time {
                Some(time) => wall.date().and_time(time),
                None => self.days.after(wall.date())?.and_time(self.times.first()),
            };
            let instant = zone.instant(wall);
            // It is not later in the second pass of an hour that the clock goes through twice.
            if instant > from {
                return Some(instant);
            }
        }
    }
}
