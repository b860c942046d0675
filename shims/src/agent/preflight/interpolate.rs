//! `${NAME}` in parameters (containers.md §12.1).

use std::borrow::Cow;

use crate::env::Environment;

/// Replaces every `${NAME}` by the variable's value, by nothing when it is not set. `$NAME` and `${NAME:-x}` stay.
pub(super) fn text(text: &str, environment: &Environment) -> String {
    replace(text, |name| Some(value(environment, name).unwrap_or_default()))
}

/// The same for a command, with two differences: what is not set is left to the shell (it may be a variable of the
/// command itself), and so is `PROMPT`, whose text comes from outside and must not become part of a program.
pub(super) fn command(text: &str, environment: &Environment) -> String {
    replace(text, |name| if name == "PROMPT" { None } else { value(environment, name) })
}

fn value<'e>(environment: &'e Environment, name: &str) -> Option<Cow<'e, str>> {
    environment.get_os(name).map(|value| value.to_string_lossy())
}

fn replace<'e>(text: &str, value: impl Fn(&str) -> Option<Cow<'e, str>>) -> String {
    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        replaced.push_str(before);
        let known = after.split_once('}').filter(|(name, _)| is_name(name)).and_then(|(name, tail)| {
            replaced.push_str(&value(name)?);
            Some(tail)
        });
        rest = known.unwrap_or_else(|| {
            replaced.push_str("${");
            after
        });
    }
    replaced.push_str(rest);
    replaced
}

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Environment {
        [("A", "1"), ("_b2", "two"), ("EMPTY", ""), ("PROMPT", "$(rm -rf x)"), ("NESTED", "${A}")].into_iter().collect()
    }

    #[test]
    fn variables_are_replaced_once() {
        #[track_caller]
        fn case(given: &str, in_text: &str, in_command: &str) {
            assert_eq!(text(given, &environment()), in_text, "{given}");
            assert_eq!(command(given, &environment()), in_command, "{given}");
        }
        case("", "", "");
        case("x${A}y${_b2}", "x1ytwo", "x1ytwo");
        case("${EMPTY}|${UNSET}|", "||", "|${UNSET}|");
        case("$A ${A:-x} ${} ${1} ${A", "$A ${A:-x} ${} ${1} ${A", "$A ${A:-x} ${} ${1} ${A");
        case("${${A}}", "${1}", "${1}");
        case("${NESTED}", "${A}", "${A}");
        case("for f in *; do echo ${f}; done", "for f in *; do echo ; done", "for f in *; do echo ${f}; done");
        case("echo \"${PROMPT}\"", "echo \"$(rm -rf x)\"", "echo \"${PROMPT}\"");
        case("ü${A}ü", "ü1ü", "ü1ü");
    }
}
