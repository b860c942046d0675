//! From the text of a schedule to sets of values (scheduler.md §3.2), or to the reason why it is none (§3.6).

use super::days::{Days, MonthDays, Rule, WeekDays};
use super::field::{ALL, Field, Stride, Values};
use super::rejection::Fault;
use super::term::{self, Term};
use super::times::Times;
use super::timestamp::Timestamp;
use super::{Kind, Recurring};

const NICKNAMES: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// Parses a whole schedule.
pub(super) fn parse(text: &str) -> Result<Kind, Fault> {
    let text = text.trim();
    if text.find(':').is_some_and(|at| at >= 1) {
        let timestamp = Timestamp::parse(text).ok_or_else(|| {
            Fault::whole(
                "a \":\" makes it one instant, which has to be an existing one in the form of ISO 8601, for example \
                 2031-05-01T09:00:00 or 2031-05-01T09:00:00Z",
            )
        })?;
        return Ok(Kind::Once(timestamp));
    }
    let text = if text.starts_with('@') { nickname(text)? } else { text };
    Ok(Kind::Recurring(Box::new(fields(text)?)))
}

fn nickname(text: &str) -> Result<&'static str, Fault> {
    let lower = text.to_ascii_lowercase();
    if let Some((_, fields)) = NICKNAMES.iter().find(|(name, _)| *name == lower) {
        return Ok(fields);
    }
    if lower == "@reboot" {
        return Err(Fault::whole(
            "@reboot is not supported; every agent with a schedule has an initial run when the scheduler starts, and with \
             \"0 0 31 2 *\" it has no other",
        ));
    }
    let known: Vec<&str> = NICKNAMES.iter().map(|(name, _)| *name).collect();
    Err(Fault::whole(format!("{text} is unknown; write fields, or one of {}", known.join(" "))))
}

fn fields(text: &str) -> Result<Recurring, Fault> {
    let mut texts: Vec<&str> = text.split([' ', '\t']).filter(|field| !field.is_empty()).collect();
    let count = texts.len();
    if !(5..=7).contains(&count) {
        let plural = if count == 1 { "" } else { "s" };
        return Err(Fault::whole(format!(
            "it has {count} field{plural}; write 5 (minute hour day-of-month month day-of-week), 6 (second first) or 7 \
             (second first, year last)"
        )));
    }
    if count == 5 {
        texts.insert(0, "0");
    }
    if count < 7 {
        texts.push("*");
    }
    let mut parsed = Vec::with_capacity(ALL.len());
    for (field, text) in ALL.into_iter().zip(texts) {
        parsed.push(FieldTerms::parse(field, text)?);
    }
    let [seconds, minutes, hours, of_month, months, of_week, years] = &parsed[..] else {
        return Err(Fault::whole("it has too few fields"));
    };
    let times = Times::new(seconds.values(), minutes.values(), hours.values());
    Ok(Recurring {
        has_seconds: count > 5,
        times: times.ok_or_else(|| Fault::whole("it has no time of day"))?,
        days: Days {
            of_month: of_month.month_days(),
            months: months.values(),
            of_week: of_week.week_days(),
            years: (!years.is_free).then(|| years.strides().collect()),
            rule: rule(of_month, of_week),
        },
    })
}

fn rule(of_month: &FieldTerms, of_week: &FieldTerms) -> Rule {
    match (of_month.is_free, of_week.is_free) {
        (_, true) => Rule::OfMonth,
        (_, false) if of_week.has_plus => Rule::Both,
        (true, false) => Rule::OfWeek,
        (false, false) => Rule::Either,
    }
}

/// What stands in one field.
struct FieldTerms {
    terms: Vec<Term>,
    /// It is exactly `*`.
    is_free: bool,
    has_plus: bool,
}

impl FieldTerms {
    fn parse(field: Field, text: &str) -> Result<Self, Fault> {
        let text = if text == "?" { "*" } else { text };
        let list = match text.strip_prefix('+') {
            Some("") if field == Field::DayOfWeek => {
                return Err(Fault::at(field, text, "+ needs days of the week after it, as in +MON-FRI"));
            }
            Some(rest) if field == Field::DayOfWeek => rest,
            _ => text,
        };
        let terms = if field == Field::DayOfMonth && list.eq_ignore_ascii_case("LW") {
            vec![Term::LastWorkingDay]
        } else {
            term::parse_list(field, list)?
        };
        Ok(Self { terms, is_free: list == "*", has_plus: list.len() < text.len() })
    }

    fn strides(&self) -> impl Iterator<Item = Stride> {
        self.terms.iter().filter_map(|term| match term {
            Term::Every(stride) => Some(*stride),
            _ => None,
        })
    }

    fn values(&self) -> Values {
        self.strides().flat_map(Stride::values).collect()
    }

    fn month_days(&self) -> MonthDays {
        let mut found = MonthDays { days: self.values(), ..MonthDays::default() };
        for term in &self.terms {
            match term {
                Term::LastDay => found.last = true,
                Term::LastWorkingDay => found.last_working_day = true,
                Term::Nearest(day) => found.nearest.insert(*day),
                Term::Every(_) | Term::Nth(..) | Term::Last(_) => {}
            }
        }
        found
    }

    fn week_days(&self) -> WeekDays {
        let mut found = WeekDays::default();
        for term in &self.terms {
            let (stride, days) = match term {
                Term::Every(stride) => (stride, &mut found.every),
                Term::Nth(stride, nth) => (stride, &mut found.nth[nth - 1]),
                Term::Last(stride) => (stride, &mut found.last),
                Term::LastDay | Term::LastWorkingDay | Term::Nearest(_) => continue,
            };
            stride.values().for_each(|day| days.insert(day % 7));
        }
        found
    }
}
