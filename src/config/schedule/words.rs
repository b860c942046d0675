//! What a schedule means, in words. Lists are joined by commas alone: "or" and "and" are kept for the rule that joins
//! days of the month and days of the week.

use super::days::{Days, MonthDays, Rule, WeekDays};
use super::field::{Field, Stride, Values};
use super::times::Times;
use super::{Kind, Recurring};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const ORDINALS: [&str; 5] = ["first", "second", "third", "fourth", "fifth"];

/// One sentence.
pub(super) fn sentence(kind: &Kind) -> String {
    match kind {
        Kind::Once(timestamp) if timestamp.is_absolute() => {
            format!("Once, at the instant {}.", timestamp.instant(&super::Zone::UTC))
        }
        Kind::Once(timestamp) => format!("Once, when the wall clock shows {}.", timestamp.wall_text()),
        Kind::Recurring(recurring) => {
            let Recurring { has_seconds, days, times } = &**recurring;
            let mut parts = vec![time(times, *has_seconds)];
            parts.extend(day(days, times));
            if !days.months.is_all_of(Field::Month) {
                parts.push(format!("in month {}", list(days.months, |month| name(&MONTHS, month - 1))));
            }
            parts.extend(days.years.as_deref().map(years));
            format!("{}.", parts.join(", "))
        }
    }
}

/// From the finest unit to the coarsest; "every" of a unit says the same of coarser ones.
fn time(times: &Times, has_seconds: bool) -> String {
    let units = [(Field::Second, times.seconds), (Field::Minute, times.minutes), (Field::Hour, times.hours)];
    let mut parts: Vec<String> = Vec::new();
    for (index, (field, values)) in units.into_iter().enumerate() {
        let is_said = index > 0 && units[index - 1].1.is_all_of(units[index - 1].0) && values.is_all_of(field);
        let is_left_out = field == Field::Second && !has_seconds;
        if !is_said && !is_left_out {
            parts.push(unit(field, values));
        }
    }
    let text = parts.join(", ");
    match text.strip_prefix("every ") {
        Some(rest) => format!("Every {rest}"),
        None => format!("At {text}"),
    }
}

/// `minute 5`, `minutes 0, 30`, `every minute`, `every 15th minute from 0 to 45`.
fn unit(field: Field, values: Values) -> String {
    if values.is_all_of(field) {
        return format!("every {field}");
    }
    let all: Vec<u32> = values.iter().collect();
    match all[..] {
        [only] => format!("{field} {only}"),
        [first, second, .., last]
            if second - first > 1 && all.windows(2).all(|pair| pair[1] - pair[0] == second - first) =>
        {
            format!("every {} {field} from {first} to {last}", ordinal(second - first))
        }
        _ => format!("{field}s {}", list(values, |value| value.to_string())),
    }
}

fn day(days: &Days, times: &Times) -> Option<String> {
    let of_month = || format!("on {}", month_days(&days.of_month));
    let of_week = || format!("on {}", week_days(&days.of_week));
    match days.rule {
        Rule::OfMonth if days.of_month == MonthDays { days: all(Field::DayOfMonth), ..MonthDays::default() } => {
            (!times.hours.is_all_of(Field::Hour)).then(|| "every day".to_owned())
        }
        Rule::OfMonth => Some(of_month()),
        Rule::OfWeek => Some(of_week()),
        Rule::Either => Some(format!("{} or {}", of_month(), of_week())),
        Rule::Both => Some(format!("{} and only {}", of_month(), of_week())),
    }
}

fn month_days(days: &MonthDays) -> String {
    let mut parts = Vec::new();
    if !days.days.is_empty() {
        parts.push(format!("day of month {}", list(days.days, |day| day.to_string())));
    }
    let nearest = days.nearest.iter();
    parts.extend(nearest.map(|day| format!("the day from Monday to Friday nearest to day {day} of the month")));
    if days.last {
        parts.push("the last day of the month".to_owned());
    }
    if days.last_working_day {
        parts.push("the last day of the month that is from Monday to Friday".to_owned());
    }
    parts.join(", ")
}

fn week_days(days: &WeekDays) -> String {
    let mut parts = Vec::new();
    if !days.every.is_empty() {
        parts.push(format!("day of week {}", list(days.every, |day| name(&WEEKDAYS, day))));
    }
    let nth = ORDINALS.into_iter().zip(days.nth).chain([("last", days.last)]);
    let nth: Vec<String> =
        nth.flat_map(|(which, days)| days.iter().map(move |day| format!("{which} {}", name(&WEEKDAYS, day)))).collect();
    if !nth.is_empty() {
        parts.push(format!("the {} of the month", nth.join(", ")));
    }
    parts.join(", ")
}

fn years(years: &[Stride]) -> String {
    let parts: Vec<String> = years
        .iter()
        .map(|stride| match *stride {
            Stride { from, to, .. } if from == to => from.to_string(),
            Stride { from, to, step: 1 } => format!("{from} to {to}"),
            Stride { from, to, step } => format!("every {} from {from} to {to}", ordinal(step)),
        })
        .collect();
    format!("in year {}", parts.join(", "))
}

/// `1, 3 to 7, 12`.
fn list(values: Values, show: impl Fn(u32) -> String) -> String {
    let mut parts = Vec::new();
    let mut first = None;
    for value in values.iter() {
        let begin = *first.get_or_insert(value);
        if values.contains(value + 1) {
            continue;
        }
        match value - begin {
            0 => parts.push(show(value)),
            1 => parts.extend([show(begin), show(value)]),
            _ => parts.push(format!("{} to {}", show(begin), show(value))),
        }
        first = None;
    }
    parts.join(", ")
}

fn all(field: Field) -> Values {
    field.all_values().values().collect()
}

fn name(names: &[&str], index: u32) -> String {
    names.get(index as usize).map_or_else(|| index.to_string(), |name| (*name).to_owned())
}

fn ordinal(number: u32) -> String {
    let ending = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

#[cfg(test)]
mod tests {
    use crate::config::schedule::Schedule;

    #[track_caller]
    fn case(text: &str, expected: &str) {
        assert_eq!(Schedule::parse(text).unwrap().in_words(), expected, "{text}");
    }

    #[test]
    fn every_restricted_field_is_named() {
        case("* * * * *", "Every minute.");
        case("* * * * * *", "Every second.");
        case("0 9 * * 1-5", "At minute 0, hour 9, on day of week Monday to Friday.");
        case("*/15 8-18 * * *", "Every 15th minute from 0 to 45, hours 8 to 18, every day.");
        case("*/30 * * * *", "At minutes 0, 30, every hour.");
        case("30 * * * * *", "At second 30, every minute.");
        case("* 5 * * * *", "Every second, minute 5, every hour.");
        case("0 * * * *", "At minute 0, every hour.");
        case("@daily", "At minute 0, hour 0, every day.");
        case("0 0 * 1-3,10 *", "At minute 0, hour 0, every day, in month January to March, October.");
        case(
            "0 0 0 1 1 * 2026-2028,2030",
            "At second 0, minute 0, hour 0, on day of month 1, in month January, in year 2026 to 2028, 2030.",
        );
        case(
            "0 0 0 1 1 * 2026-2036/2",
            "At second 0, minute 0, hour 0, on day of month 1, in month January, in year every 2nd from 2026 to 2036.",
        );
    }

    #[test]
    fn days_say_which_rule_joins_them() {
        case("0 0 13 * 5", "At minute 0, hour 0, on day of month 13 or on day of week Friday.");
        case("0 0 1-7 * +MON", "At minute 0, hour 0, on day of month 1 to 7 and only on day of week Monday.");
        case("0 0 */1 * 1,3", "At minute 0, hour 0, on day of month 1 to 31 or on day of week Monday, Wednesday.");
        case("0 0 0 * * +*", "At second 0, minute 0, hour 0, every day.");
        case("0 0 L * *", "At minute 0, hour 0, on the last day of the month.");
        case(
            "0 0 L,15W * 1,FRI#2,5L",
            "At minute 0, hour 0, on the day from Monday to Friday nearest to day 15 of the month, \
            the last day of the month or on day of week Monday, the second Friday, last Friday of the month.",
        );
        case("0 0 LW * *", "At minute 0, hour 0, on the last day of the month that is from Monday to Friday.");
    }

    #[test]
    fn instants_say_whose_clock_counts() {
        case("2031-05-01T09:00", "Once, when the wall clock shows 2031-05-01T09:00:00.");
        case("2031-05-01T09:00+02:00", "Once, at the instant 2031-05-01T07:00:00.000Z.");
    }
}
