//! On which days a schedule fires: years, months, days of the month, days of the week, and the rule that joins the last
//! two (scheduler.md §3.2, §3.3).

use chrono::{Datelike as _, NaiveDate};

use super::field::{Stride, Values};

/// Nobody looks further ahead.
const LAST_YEAR: i32 = 2099;

/// The days of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Days {
    pub(super) of_month: MonthDays,
    pub(super) months: Values,
    pub(super) of_week: WeekDays,
    /// Any of them; `None` is every year.
    pub(super) years: Option<Vec<Stride>>,
    pub(super) rule: Rule,
}

/// Which of the two fields for days has to match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    OfMonth,
    OfWeek,
    Either,
    Both,
}

/// Days of a month.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MonthDays {
    pub(super) days: Values,
    /// The last one.
    pub(super) last: bool,
    /// For each the day from Monday to Friday that is nearest to it.
    pub(super) nearest: Values,
    /// The last one from Monday to Friday.
    pub(super) last_working_day: bool,
}

/// Days of a week, 0 is Sunday.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct WeekDays {
    pub(super) every: Values,
    /// Only the first, second, … such day of the month.
    pub(super) nth: [Values; 5],
    /// Only the last such day of the month.
    pub(super) last: Values,
}

/// A month of a year, with what its days have in common.
#[derive(Clone, Copy)]
struct Month {
    length: u32,
    /// Weekday of its first day.
    begins: u32,
}

impl Days {
    /// Whether the schedule fires on this day.
    pub(super) fn matches(&self, date: NaiveDate) -> bool {
        date.year() <= LAST_YEAR
            && self.has_year(date.year())
            && self.months.contains(date.month())
            && Month::of(date.year(), date.month()).is_some_and(|month| self.has_day(month, date.day()))
    }

    /// The first matching day after this one.
    pub(super) fn after(&self, date: NaiveDate) -> Option<NaiveDate> {
        let (mut month, mut day) = (date.month(), date.day() + 1);
        for year in date.year()..=LAST_YEAR {
            if self.has_year(year) {
                for month in (month..=12).filter(|month| self.months.contains(*month)) {
                    let first = if month == date.month() && year == date.year() { day } else { 1 };
                    let found = Month::of(year, month)?;
                    if let Some(day) = (first..=found.length).find(|day| self.has_day(found, *day)) {
                        return NaiveDate::from_ymd_opt(year, month, day);
                    }
                }
            }
            (month, day) = (1, 1);
        }
        None
    }

    fn has_year(&self, year: i32) -> bool {
        let Some(years) = &self.years else { return true };
        u32::try_from(year).is_ok_and(|year| years.iter().any(|stride| stride.contains(year)))
    }

    fn has_day(&self, month: Month, day: u32) -> bool {
        let of_month = || self.of_month.has(month, day);
        let of_week = || self.of_week.has(month, day);
        match self.rule {
            Rule::OfMonth => of_month(),
            Rule::OfWeek => of_week(),
            Rule::Either => of_month() || of_week(),
            Rule::Both => of_month() && of_week(),
        }
    }
}

impl MonthDays {
    fn has(&self, month: Month, day: u32) -> bool {
        self.days.contains(day)
            || (self.last && day == month.length)
            || (self.last_working_day && day == month.nearest_working_day(month.length))
            || (!self.nearest.is_empty()
                && (day.saturating_sub(2)..=month.length.min(day + 2))
                    .any(|wanted| self.nearest.contains(wanted) && month.nearest_working_day(wanted) == day))
    }
}

impl WeekDays {
    fn has(&self, month: Month, day: u32) -> bool {
        let weekday = month.weekday(day);
        self.every.contains(weekday)
            || self.nth[(day as usize - 1) / 7].contains(weekday)
            || (self.last.contains(weekday) && day + 7 > month.length)
    }
}

impl Month {
    fn of(year: i32, month: u32) -> Option<Self> {
        let first = NaiveDate::from_ymd_opt(year, month, 1)?;
        let begins = first.weekday().num_days_from_sunday();
        Some(Self { length: first.num_days_in_month().into(), begins })
    }

    /// 0 is Sunday.
    fn weekday(self, day: u32) -> u32 {
        (self.begins + day - 1) % 7
    }

    /// The day from Monday to Friday that is nearest to a day, without leaving the month. Of the last day it is the last
    /// such day of the month.
    fn nearest_working_day(self, day: u32) -> u32 {
        match self.weekday(day) {
            6 if day == 1 => 3,
            6 => day - 1,
            0 if day == self.length => day - 2,
            0 => day + 1,
            _ => day,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn working_days_near(text: &str, days: &[u32]) -> Vec<u32> {
        let first = date(text);
        let month = Month::of(first.year(), first.month()).unwrap();
        days.iter().map(|day| month.nearest_working_day(*day)).collect()
    }

    #[test]
    fn the_nearest_working_day_stays_in_its_month() {
        // Begins on a Saturday, ends on a Monday.
        assert_eq!(working_days_near("2025-03-01", &[1, 2, 3, 15, 16, 30, 31]), [3, 3, 3, 14, 17, 31, 31]);
        // Begins on a Sunday, ends on a Monday.
        assert_eq!(working_days_near("2025-06-01", &[1, 28, 29, 30]), [2, 27, 30, 30]);
        // Ends on a Sunday.
        assert_eq!(working_days_near("2025-08-01", &[30, 31]), [29, 29]);
    }
}
