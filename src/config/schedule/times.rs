//! At which times of a day a schedule fires.

use std::str::FromStr as _;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};

use super::field::{Field, Values};

/// The times of a day at which a schedule fires.
///
/// They are found by the crate `cron`, which only ever sees numbers written by us, never what a user wrote: its grammar,
/// its days and its notion of clock changes are others than ours (scheduler.md §3.7). So it is asked about one pretended
/// day without clock changes, and days are ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) seconds: Values,
    pub(super) minutes: Values,
    pub(super) hours: Values,
    engine: cron::Schedule,
    first: NaiveTime,
}

impl Times {
    /// The combinations of these. `None` when one of them is empty.
    pub(super) fn new(seconds: Values, minutes: Values, hours: Values) -> Option<Self> {
        let [second, minute, hour] = [(Field::Second, seconds), (Field::Minute, minutes), (Field::Hour, hours)]
            .map(|(field, values)| list(field, values));
        let engine = cron::Schedule::from_str(&format!("{second} {minute} {hour} * * *")).ok()?;
        let first = engine.after(&midnight()?.checked_sub_signed(chrono::TimeDelta::seconds(1))?).next()?.time();
        Some(Self { seconds, minutes, hours, engine, first })
    }

    /// The first one of a day.
    pub(super) fn first(&self) -> NaiveTime {
        self.first
    }

    /// The first one on the same day that is later than this.
    pub(super) fn after(&self, time: NaiveTime) -> Option<NaiveTime> {
        let midnight = midnight()?;
        let found = self.engine.after(&(midnight + (time - NaiveTime::MIN))).next()?;
        (found.date_naive() == midnight.date_naive()).then(|| found.time())
    }
}

/// Beginning of the pretended day.
fn midnight() -> Option<DateTime<Utc>> {
    Some(NaiveDate::from_ymd_opt(2000, 1, 1)?.and_time(NaiveTime::MIN).and_utc())
}

/// The values as the crate reads them.
fn list(field: Field, values: Values) -> String {
    if values.is_all_of(field) {
        return "*".to_owned();
    }
    values.iter().map(|value| value.to_string()).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(seconds: &[u32], minutes: &[u32], hours: &[u32]) -> Times {
        let [seconds, minutes, hours] = [seconds, minutes, hours].map(|values| values.iter().copied().collect());
        Times::new(seconds, minutes, hours).unwrap()
    }

    #[test]
    fn times_of_a_day_end_with_the_day() {
        let times = times(&[0, 30], &[5], &[0, 23]);
        let mut found = vec![times.first()];
        while let Some(next) = times.after(found[found.len() - 1]) {
            found.push(next);
        }
        let texts: Vec<String> = found.iter().map(NaiveTime::to_string).collect();
        assert_eq!(texts, ["00:05:00", "00:05:30", "23:05:00", "23:05:30"]);
    }

    #[test]
    fn midnight_is_the_first_time_of_its_own_day() {
        let times = times(&[0], &[0], &[0]);
        assert_eq!((times.first(), times.after(NaiveTime::MIN)), (NaiveTime::MIN, None));
    }
}
