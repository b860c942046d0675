//! Checks a document against the table of keys: types, ranges, unknown keys.
//!
//! What is wrong is reported and taken out of the document, so that whoever reads it afterwards finds valid values or
//! none.

use toml::{Table, Value};

use super::finding::{Finding, Rule, Severity};
use super::keys::{self, Document, Form, Key, Shape};
use super::layers::dotted;
use crate::base::hide_user_info;
use crate::base::text::{ellipsis, nearest, printable};

/// Checks a document whose values came from the files that `file_of` names.
pub(super) fn check(
    table: &mut Table,
    document: Document,
    file_of: &dyn Fn(&str) -> String,
    findings: &mut Vec<Finding>,
) {
    Walk { document, file_of, findings }.table(table, "", "");
}

struct Walk<'a> {
    document: Document,
    file_of: &'a dyn Fn(&str) -> String,
    findings: &'a mut Vec<Finding>,
}

impl Walk<'_> {
    /// `pattern` is the table's path in the table of keys, `shown` its path for people.
    fn table(&mut self, table: &mut Table, pattern: &str, shown: &str) {
        table.retain(|name, value| {
            let shown = dotted(shown, name);
            let path = if pattern.is_empty() { name.to_owned() } else { format!("{pattern}.{name}") };
            match keys::find(self.document, &path) {
                Some(key) => self.value(key, value, &shown),
                None => {
                    self.unknown(name, pattern, &shown);
                    true
                }
            }
        });
    }

    /// Whether the value may stay.
    fn value(&mut self, key: &Key, value: &mut Value, shown: &str) -> bool {
        if key.later {
            let file = (self.file_of)(shown);
            let note = format!("{file}: {shown} has no effect yet");
            self.findings.push(Finding::whole(Severity::Note, &file, note).about(shown));
        }
        match (key.shape, value) {
            (Shape::Table, Value::Table(table)) => self.table(table, key.path, shown),
            (Shape::Named(pattern), Value::Table(tables)) => {
                tables.retain(|name, value| self.inner(value, pattern, &dotted(shown, name)));
            }
            (Shape::Tables(pattern), Value::Array(items)) => {
                let mut index = 0..;
                items.retain_mut(|item| {
                    let index = index.next().unwrap_or(0);
                    self.inner(item, pattern, &format!("{shown}[{index}]"))
                });
            }
            // Looked at with their sources at hand.
            (Shape::Triggers, _) => {}
            (shape, value) => {
                let wrong = problems(&shape, value, shown);
                let fine = wrong.is_empty();
                for (at, message) in wrong {
                    self.findings.push(Finding::at(Severity::Error, &(self.file_of)(&at), &at, message));
                }
                return fine;
            }
        }
        true
    }

    fn inner(&mut self, value: &mut Value, pattern: &str, shown: &str) -> bool {
        match value {
            Value::Table(table) => {
                self.table(table, pattern, shown);
                true
            }
            other => {
                let message = wrong_type("a table", other);
                self.findings.push(Finding::at(Severity::Error, &(self.file_of)(shown), shown, message));
                false
            }
        }
    }

    fn unknown(&mut self, name: &str, pattern: &str, shown: &str) {
        let file = (self.file_of)(shown);
        let suggestion = nearest(name, keys::names_below(self.document, pattern), 2);
        let hint = suggestion.map(|known| format!("; did you mean \"{known}\"?")).unwrap_or_default();
        let text = format!("{file}: unknown key {shown}{hint}");
        self.findings.push(Finding::whole(Severity::Warning, &file, text).about(shown).of(Rule::UnknownKey));
    }
}

/// What is wrong with a value: where, and a message with the value or its type.
pub(super) fn problems(shape: &Shape, value: &Value, shown: &str) -> Vec<(String, String)> {
    let here = |message: String| vec![(shown.to_owned(), message)];
    match (shape, value) {
        (Shape::Any, _) | (Shape::Bool, Value::Boolean(_)) | (Shape::Free, Value::Table(_)) => Vec::new(),
        (Shape::Int(least, most), Value::Integer(number)) => {
            let fits = (least..=most).contains(&number);
            if fits { Vec::new() } else { here(out_of_range(value, &int_range(*least, *most))) }
        }
        (Shape::ZeroOrInt(least, most), Value::Integer(number)) => {
            let fits = *number == 0 || (least..=most).contains(&number);
            if fits { Vec::new() } else { here(out_of_range(value, &format!("{} or 0", int_range(*least, *most)))) }
        }
        (Shape::Number(least, most), Value::Integer(_) | Value::Float(_)) => {
            let number = value.as_float().or(value.as_integer().map(|number| number as f64)).unwrap_or(f64::NAN);
            let fits = number.is_finite() && (least..=most).contains(&&number);
            if fits { Vec::new() } else { here(out_of_range(value, &number_range(*least, *most))) }
        }
        (Shape::Text(form) | Shape::OneOrMany(form) | Shape::Size(form), Value::String(text)) => {
            wrong_form(form, text).map(here).unwrap_or_default()
        }
        (Shape::Size(form), Value::Integer(number)) => {
            wrong_form(form, &number.to_string()).map(here).unwrap_or_default()
        }
        (Shape::Texts(form) | Shape::OneOrMany(form), Value::Array(items)) => {
            let wrong = items.iter().enumerate().filter_map(|(index, item)| {
                wrong_text(form, item).map(|message| (format!("{shown}[{index}]"), message))
            });
            wrong.collect()
        }
        (Shape::TextTable(form), Value::Table(table)) => {
            let wrong = table
                .iter()
                .filter_map(|(name, item)| wrong_text(form, item).map(|message| (dotted(shown, name), message)));
            wrong.collect()
        }
        _ => here(wrong_type(shape.type_name(), value)),
    }
}

fn wrong_text(form: &Form, value: &Value) -> Option<String> {
    match value {
        Value::String(text) => wrong_form(form, text),
        other => Some(wrong_type("a string", other)),
    }
}

fn wrong_form(form: &Form, text: &str) -> Option<String> {
    if form.holds(text) {
        return None;
    }
    let shown = quoted(text);
    Some(match form {
        Form::OneOf(words) => {
            let hint = nearest(text, words.iter().copied(), 2);
            let hint = hint.map(|word| format!("; did you mean \"{word}\"?")).unwrap_or_default();
            format!("{shown} is not one of {}{hint}", words.join(", "))
        }
        other => format!("{shown} is not {}", other.expectation()),
    })
}

fn out_of_range(value: &Value, range: &str) -> String {
    format!("{value} is not allowed; write {range}")
}

fn int_range(least: i64, most: i64) -> String {
    if most == i64::MAX { format!("{least} or more") } else { format!("an integer from {least} to {most}") }
}

fn number_range(least: f64, most: f64) -> String {
    if most == f64::MAX { format!("{least} or more") } else { format!("a number from {least} to {most}") }
}

/// `expected an integer, found a string`.
pub(super) fn wrong_type(expected: &str, found: &Value) -> String {
    format!("expected {expected}, found {}", type_name(found))
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) => "an integer",
        Value::Float(_) => "a float",
        Value::Boolean(_) => "a boolean",
        Value::Datetime(_) => "a date or time",
        Value::Array(_) => "an array",
        Value::Table(_) => "a table",
    }
}

/// A text from a file as it stands in a message: a URL without name and password, and not all of what is long.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", printable(&ellipsis(&hide_user_info(text), 120)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::layers::parse;

    fn checked(document: Document, text: &str) -> (Table, Vec<String>) {
        let mut table = parse(text, "f").unwrap();
        let mut findings = Vec::new();
        check(&mut table, document, &|_| "f".to_owned(), &mut findings);
        (table, findings.into_iter().map(|finding| format!("{:?} {finding}", finding.severity)).collect())
    }

    #[track_caller]
    fn case(document: Document, text: &str, expected: &[&str]) {
        assert_eq!(checked(document, text).1, expected, "{text}");
    }

    #[test]
    fn types_ranges_and_names() {
        use Document::{Agent, Project};
        case(Project, "gateway = { port = 0, url = 'https://a' }", &[]);
        case(Project, "gateway = { port = '80' }", &["Error f: gateway.port: expected an integer, found a string"]);
        case(
            Project,
            "gateway = { port = 70000 }",
            &["Error f: gateway.port: 70000 is not allowed; write an integer from 1 to 65535 or 0"],
        );
        case(Project, "scale = 0", &["Error f: scale: 0 is not allowed; write 1 or more"]);
        case(Agent, "scale = 1.5", &["Error f: scale: expected an integer, found a float"]);
        case(Agent, "credentials = 'x'", &["Error f: credentials: expected an array of strings, found a string"]);
        case(Agent, "credentials = [1]", &["Error f: credentials[0]: expected a string, found an integer"]);
        case(Project, "local = { cpus = 1, memory = 8388608 }", &[]);
        case(Project, "local = { cpus = nan }", &["Error f: local.cpus: nan is not allowed; write 0 or more"]);
        case(Project, "local = 1", &["Error f: local: expected a table, found an integer"]);
        case(Project, "gatway = 1", &["Warning f: unknown key gatway; did you mean \"gateway\"?"]);
        case(Project, "local = { x = 1 }", &["Warning f: unknown key local.x"]);
        case(Project, "schedule = 'x'", &["Warning f: unknown key schedule"]);
        case(Project, "timezone = 'UTC'", &["Note f: timezone has no effect yet"]);
        case(
            Project,
            "server = { host = 'a', fail2ban = true, keepReleases = 2 }",
            &["Note f: server.fail2ban has no effect yet", "Note f: server.keepReleases has no effect yet"],
        );
        case(
            Project,
            "webhooks.'a b' = { allowUnsigned = 'no' }",
            &["Error f: webhooks.\"a b\".allowUnsigned: expected a boolean, found a string"],
        );
        case(Project, "models.fast = 3", &["Error f: models.fast: expected a table, found an integer"]);
        case(
            Project,
            "[[model.fallback]]\nthinkingLevel = 'hihg'",
            &[
                "Error f: model.fallback[0].thinkingLevel: \"hihg\" is not one of off, minimal, low, medium, high, xhigh; \
               did you mean \"high\"?",
            ],
        );
        case(Agent, "[params]\nanything = 1\n[[preflight]]\nprovider = 'shell'\nparams = { x = 1 }", &[]);
    }

    #[test]
    fn what_is_wrong_is_taken_out() {
        let (table, _) = checked(Document::Project, "maxReruns = 'x'\nscale = 2\nfuture = 1");
        assert_eq!(table, parse("scale = 2\nfuture = 1", "").unwrap());
    }
}
