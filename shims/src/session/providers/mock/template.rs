//! Placeholders in the texts of a mock script: `{{last_result}}`, `{{last_result|sh}}`, `{{prompt}}`, `{{turn}}`,
//! `{{env.NAME}}`. Two braces as such are written `{{{{`.

use serde_json::Value;

use crate::env::Environment;
use crate::text::shell_quote;

/// What placeholders stand for in one request.
pub(super) struct Values<'a> {
    /// Text of the last tool result, trimmed; empty when there is none.
    pub(super) last_result: &'a str,
    pub(super) prompt: &'a str,
    /// Counted from 1.
    pub(super) turn: u64,
    pub(super) environment: &'a Environment,
}

impl Values<'_> {
    fn get(&self, placeholder: &str) -> Option<String> {
        Some(match placeholder {
            "last_result" => self.last_result.to_owned(),
            "last_result|sh" => shell_quote(self.last_result).into_owned(),
            "prompt" => self.prompt.to_owned(),
            "turn" => self.turn.to_string(),
            other => self.environment.get(variable(other)?).unwrap_or_default().to_owned(),
        })
    }
}

/// The `NAME` of `env.NAME`.
fn variable(placeholder: &str) -> Option<&str> {
    let name = placeholder.strip_prefix("env.")?;
    let word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    (word && name.starts_with(|first: char| !first.is_ascii_digit())).then_some(name)
}

/// Checks that a text has only known placeholders.
pub(super) fn check(text: &str) -> Result<(), String> {
    let known = |placeholder: &str| {
        let fixed = ["last_result", "last_result|sh", "prompt", "turn"].contains(&placeholder);
        (fixed || variable(placeholder).is_some()).then(String::new)
    };
    expand(text, &known).map(drop)
}

/// A text with its placeholders replaced. Texts that [`check`] refuses stay as they are.
pub(super) fn render(text: &str, values: &Values<'_>) -> String {
    expand(text, &|placeholder| values.get(placeholder)).unwrap_or_else(|_| text.to_owned())
}

/// Calls `visit` with every string value at any depth.
pub(super) fn visit_strings(value: &mut Value, visit: &mut dyn FnMut(&mut String)) {
    match value {
        Value::String(text) => visit(text),
        Value::Array(items) => items.iter_mut().for_each(|item| visit_strings(item, visit)),
        Value::Object(members) => members.values_mut().for_each(|member| visit_strings(member, visit)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn expand(text: &str, value: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        expanded.push_str(before);
        rest = match after.strip_prefix("{{") {
            Some(rest) => {
                expanded.push_str("{{");
                rest
            }
            None => {
                let (placeholder, rest) =
                    after.split_once("}}").ok_or("{{ without }}; two braces as such are written {{{{")?;
                expanded.push_str(&value(placeholder).ok_or_else(|| {
                    format!(
                        "unknown placeholder {{{{{placeholder}}}}}; known are last_result, last_result|sh, prompt, \
                         turn, env.NAME, and two braces as such are written {{{{{{{{"
                    )
                })?);
                rest
            }
        };
    }
    expanded.push_str(rest);
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn case(text: &str, expected: &str) {
        let environment: Environment = [("HOME", "/home/ann")].into_iter().collect();
        let values = Values { last_result: "it's {{turn}}", prompt: "do it", turn: 3, environment: &environment };
        check(text).unwrap();
        assert_eq!(render(text, &values), expected);
    }

    #[test]
    fn placeholders_are_replaced_once() {
        case("", "");
        case("a } }} { b", "a } }} { b");
        case("<{{last_result}}>", "<it's {{turn}}>");
        case("echo {{last_result|sh}}", r"echo 'it'\''s {{turn}}'");
        case("{{turn}}{{turn}}: {{prompt}}", "33: do it");
        case("{{env.HOME}}/x{{env.MISSING}}", "/home/ann/x");
        case("{{{{ turn }} {{{{{{turn}}", "{{ turn }} {{3");
    }

    #[test]
    fn unknown_placeholders_are_refused() {
        for text in
            ["{{result}}", "{{ turn }}", "{{env.}}", "{{env.1A}}", "{{env.A B}}", "{{}}", "a {{turn", "{{{turn}}"]
        {
            assert!(check(text).is_err(), "{text}");
        }
        assert!(check("{{x}}").unwrap_err().starts_with("unknown placeholder {{x}}; known are"));
    }
}
