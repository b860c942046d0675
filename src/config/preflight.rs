//! `[[preflight]]` steps: which parameters each provider takes (cli-config.md §3.10).

use toml::{Table, Value};

use super::check::problems;
use super::finding::Severity;
use super::keys::{Form, Shape};
use super::model::Remark;
use crate::base::text::nearest;

/// A parameter of a step.
#[derive(Debug)]
pub struct Param {
    pub name: &'static str,
    pub shape: Shape,
    pub mandatory: bool,
}

const fn param(name: &'static str, shape: Shape) -> Param {
    Param { name, shape, mandatory: true }
}

const fn optional(name: &'static str, shape: Shape) -> Param {
    Param { name, shape, mandatory: false }
}

const TEXT: Shape = Shape::Text(Form::Any);
const SOME_TEXT: Shape = Shape::Text(Form::Is("a non-empty text", super::values::non_empty));

/// The providers with their parameters.
pub static PROVIDERS: [(&str, &[Param]); 3] = [
    ("shell", &[param("command", SOME_TEXT), optional("output", TEXT)]),
    (
        "http",
        &[
            param("url", SOME_TEXT),
            param("output", SOME_TEXT),
            optional("method", TEXT),
            optional("headers", Shape::TextTable(Form::Any)),
            optional("body", TEXT),
        ],
    ),
    (
        "git-clone",
        &[
            param("repo", SOME_TEXT),
            param("dest", SOME_TEXT),
            optional("branch", TEXT),
            optional("depth", Shape::Int(1, i64::MAX)),
        ],
    ),
];

/// Checks the steps of an agent as they stand in its file; types of the common keys are checked elsewhere.
pub(super) fn check(steps: &Value) -> Vec<Remark> {
    let steps = steps.as_array().into_iter().flatten().enumerate();
    steps
        .filter_map(|(index, step)| Some(check_step(step.as_table()?, &format!("preflight[{index}]"))))
        .flatten()
        .collect()
}

fn check_step(step: &Table, shown: &str) -> Vec<Remark> {
    let Some(provider) = step.get("provider") else {
        let names = PROVIDERS.map(|(name, _)| name).join(", ");
        return vec![(Severity::Error, format!("{shown}.provider"), format!("is missing; write one of {names}"))];
    };
    let Some((name, params)) = PROVIDERS.iter().find(|(name, _)| provider.as_str() == Some(name)) else {
        return Vec::new();
    };
    let empty = Table::new();
    let given = match step.get("params") {
        None => &empty,
        Some(Value::Table(given)) => given,
        Some(_) => return Vec::new(),
    };
    let mut remarks = Vec::new();
    for param in params.iter() {
        let at = format!("{shown}.params.{}", param.name);
        match given.get(param.name) {
            None if param.mandatory => {
                remarks.push((
                    Severity::Error,
                    at,
                    format!("is missing; {name} steps need {}", param.shape.type_name()),
                ));
            }
            None => {}
            Some(value) => {
                remarks.extend(
                    problems(&param.shape, value, &at).into_iter().map(|(at, what)| (Severity::Error, at, what)),
                );
            }
        }
    }
    for key in given.keys().filter(|key| params.iter().all(|param| param.name != *key)) {
        let suggestion = nearest(key, params.iter().map(|param| param.name), 2);
        let hint = suggestion.map(|known| format!("; did you mean \"{known}\"?")).unwrap_or_default();
        let at = super::layers::dotted(&format!("{shown}.params"), key);
        remarks.push((Severity::Warning, at, format!("{name} steps have no such parameter{hint}")));
    }
    remarks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::layers::parse;

    #[track_caller]
    fn case(step: &str, expected: &[&str]) {
        let table = parse(&format!("[[preflight]]\n{step}"), "").unwrap();
        let remarks: Vec<_> =
            check(&table["preflight"]).into_iter().map(|(how, key, what)| format!("{how:?} {key} {what}")).collect();
        assert_eq!(remarks.len(), expected.len(), "{remarks:?}");
        for (remark, part) in remarks.iter().zip(expected) {
            assert!(remark.starts_with(part), "{remark:?} does not start with {part:?}");
        }
    }

    #[test]
    fn parameters_of_each_provider() {
        case("provider = 'shell'\nparams = { command = 'true' }", &[]);
        case("provider = 'shell'", &["Error preflight[0].params.command is missing"]);
        case("params = {}", &["Error preflight[0].provider is missing; write one of shell, http, git-clone"]);
        case(
            "provider = 'git-clone'\nparams = { repo = 'a/b', dest = 5, depth = 0 }",
            &["Error preflight[0].params.dest expected a string", "Error preflight[0].params.depth 0 is not allowed"],
        );
        case(
            "provider = 'http'\nparams = { url = 'x', output = 'y', headers = { a = 1 }, methd = 'GET' }",
            &[
                "Error preflight[0].params.headers.a expected a string",
                "Warning preflight[0].params.methd http steps have no such parameter; did you mean \"method\"?",
            ],
        );
    }
}
