//! One term of a field: values, ranges, steps, and the modifiers `L W #` (scheduler.md §3.2, §3.6).

use super::field::{Field, Stride};
use super::rejection::Fault;

/// A term of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Term {
    /// All of these values.
    Every(Stride),
    /// Of these weekdays the n-th of the month, from 1 to 5.
    Nth(Stride, usize),
    /// Of these weekdays the last of the month.
    Last(Stride),
    /// The last day of the month.
    LastDay,
    /// The last day from Monday to Friday of the month.
    LastWorkingDay,
    /// The day from Monday to Friday that is nearest to this one.
    Nearest(u32),
}

const W_FORM: &str = "W needs one plain day before it, as in 15W";
const L_ALONE: &str = "L stands alone and means the last day of the month; LW is the whole field and means the last day from \
                       Monday to Friday";

/// Parses a list of terms.
pub(super) fn parse_list(field: Field, text: &str) -> Result<Vec<Term>, Fault> {
    text.split(',')
        .map(|term| match term {
            "" => Err(Fault::at(field, text, "there is an empty entry in the list")),
            // In upper case: letters mean the same in any.
            term => parse_term(field, &term.to_ascii_uppercase()).map_err(|reason| Fault::at(field, term, reason)),
        })
        .collect()
}

fn parse_term(field: Field, term: &str) -> Result<Term, String> {
    match field {
        Field::DayOfMonth => parse_day_of_month(term),
        Field::DayOfWeek => parse_day_of_week(term),
        _ => parse_stride(field, term).map(Term::Every),
    }
}

fn parse_day_of_month(term: &str) -> Result<Term, String> {
    let field = Field::DayOfMonth;
    if term == "L" {
        return Ok(Term::LastDay);
    }
    if let Some(day) = term.strip_suffix('W') {
        return match number(day) {
            Some(day) => in_range(field, day).map(Term::Nearest),
            None if day == "L" => Err(L_ALONE.to_owned()),
            None => Err(W_FORM.to_owned()),
        };
    }
    parse_stride(field, term).map(Term::Every)
}

fn parse_day_of_week(term: &str) -> Result<Term, String> {
    let field = Field::DayOfWeek;
    if let Some((days, which)) = term.split_once('#') {
        if days.is_empty() {
            return Err("# needs days of the week before it, as in 5#2".to_owned());
        }
        let days = parse_stride(field, days)?;
        return match which.as_bytes() {
            b"L" => Ok(Term::Last(days)),
            [digit @ b'1'..=b'5'] => Ok(Term::Nth(days, usize::from(digit - b'0'))),
            _ if which.contains('#') => Err(illegal_form()),
            _ => Err("# needs a number from 1 to 5 or L after it: 5#2 is the second Friday, 5#L the last".to_owned()),
        };
    }
    match term.strip_suffix('L') {
        Some("") => Err("L needs days of the week before it, as in 5L".to_owned()),
        Some(days) => parse_stride(field, days).map(Term::Last),
        None => parse_stride(field, term).map(Term::Every),
    }
}

/// `*`, `*/step`, `value`, `value-value`, `value-value/step`.
fn parse_stride(field: Field, text: &str) -> Result<Stride, String> {
    let Some((range, step)) = text.split_once('/') else {
        return match text.split_once('-') {
            Some((first, last)) => parse_range(field, text, first, last),
            None if text == "*" => Ok(field.all_values()),
            None => parse_value(field, text).map(|value| Stride { from: value, to: value, step: 1 }),
        };
    };
    let step = parse_step(field, step)?;
    let all = field.all_values();
    match range.split_once('-') {
        Some((first, last)) => Ok(Stride { step, ..parse_range(field, range, first, last)? }),
        None if range.is_empty() => Err(format!("a step needs something to step through; write */{step}")),
        None if field == Field::Year => Err(format!("a step of years needs a range; write 2026-{}/{step}", all.to)),
        None if range == "*" => Ok(Stride { step, ..all }),
        None => {
            let value = parse_value(field, range)?;
            Err(format!("a step needs a range; write {value}-{}/{step} or */{step}", all.to))
        }
    }
}

/// The values of `first-last`, which is what `text` is.
fn parse_range(field: Field, text: &str, first: &str, last: &str) -> Result<Stride, String> {
    if first.is_empty() || last.is_empty() || last.contains('-') {
        return Err(complaint_about(field, text));
    }
    let from = parse_value(field, first)?;
    let to = if field == Field::DayOfWeek && last == "SUN" { 7 } else { parse_value(field, last)? };
    let (lowest, highest) = field.range();
    match (from <= to, field) {
        (true, _) => Ok(Stride { from, to, step: 1 }),
        (false, Field::Year) => Err("the range is reversed".to_owned()),
        (false, _) => Err(format!("the range is reversed; write {first}-{highest},{lowest}-{last}")),
    }
}

fn parse_step(field: Field, text: &str) -> Result<u32, String> {
    let most = field.largest_step();
    match number(text) {
        Some(step) if (1..=most).contains(&step) => Ok(step),
        Some(step) => Err(format!("a step of {step} is out of range; write 1 to {most}")),
        None if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Err(format!("a step of {text} is out of range; write 1 to {most}"))
        }
        None => Err(illegal_form()),
    }
}

fn parse_value(field: Field, text: &str) -> Result<u32, String> {
    if let Some(value) = number(text) {
        return in_range(field, value);
    }
    if let Some(index) = field.names().iter().position(|name| *name == text) {
        let (lowest, _) = field.range();
        return Ok(lowest + u32::try_from(index).unwrap_or(0));
    }
    Err(complaint_about(field, text))
}

fn in_range(field: Field, value: u32) -> Result<u32, String> {
    let (least, most) = field.range();
    if (least..=most).contains(&value) { Ok(value) } else { Err(out_of_range(field, &value.to_string())) }
}

fn out_of_range(field: Field, value: &str) -> String {
    let (least, most) = field.range();
    format!("{value} is out of range; write {least} to {most}")
}

/// One to five digits.
fn number(text: &str) -> Option<u32> {
    let is_number = (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

/// What is wrong with something that is neither a number nor a name.
fn complaint_about(field: Field, text: &str) -> String {
    let is = |test: fn(&u8) -> bool| !text.is_empty() && text.bytes().all(|byte| test(&byte));
    let before =
        |modifier: char| text.strip_suffix(modifier).filter(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()));
    if is(u8::is_ascii_digit) {
        return out_of_range(field, text);
    }
    if text.contains('#') {
        return "# belongs to day-of-week only".to_owned();
    }
    if text.contains('+') {
        return "+ belongs to the beginning of day-of-week only".to_owned();
    }
    match field {
        Field::DayOfMonth if text.contains('W') => return W_FORM.to_owned(),
        Field::DayOfMonth if text.starts_with('L') || before('L').is_some() => return L_ALONE.to_owned(),
        _ if before('W').is_some() => return "W belongs to day-of-month only".to_owned(),
        _ if before('L').is_some() => return "L belongs to day-of-month and day-of-week only".to_owned(),
        _ => {}
    }
    let names = field.names();
    if is(u8::is_ascii_alphabetic) && !names.is_empty() {
        return format!("it is no name; names have three letters: {}", names.join(" "));
    }
    let is_known = |byte: u8| match byte {
        b'0'..=b'9' | b'*' | b'-' => true,
        letter => letter.is_ascii_alphabetic() && !names.is_empty(),
    };
    if text.bytes().all(is_known) {
        return illegal_form();
    }
    let (least, most) = field.range();
    let or_names = if names.is_empty() { "" } else { " or names of three letters" };
    format!("it has illegal characters; write numbers from {least} to {most}{or_names}, with , - and / between them")
}

fn illegal_form() -> String {
    "it has an illegal form; write *, */step, value, value-value or value-value/step".to_owned()
}
