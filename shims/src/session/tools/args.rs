//! Checks the arguments of a call against the schema of its tool, and makes them fit where nothing is lost by it
//! (agent-session.md §6.3).

use serde_json::{Map, Number, Value};

use super::Schema;
use crate::secret::Masker;
use crate::text::cut;

/// Most characters of the received arguments that an error repeats; the model knows the rest.
const RECEIVED_LIMIT: usize = 4000;

/// Arguments that fit the schema: every required key is there, every value has its type.
#[derive(Debug)]
pub(super) struct Args(Map<String, Value>);

impl Args {
    /// A required string.
    pub(super) fn text(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).expect("the schema requires this string")
    }

    /// A number, floored and held within the range of the type.
    pub(super) fn integer(&self, name: &str) -> Option<i64> {
        self.0.get(name).and_then(|value| value.as_i64().or_else(|| value.as_f64().map(|number| number.floor() as i64)))
    }
}

/// Checks arguments; keys that the schema does not know are dropped.
///
/// The error lists one problem per line and the arguments as received; long ones are not cut inside one of the secrets.
pub(super) fn check(schema: &Schema, received: &Map<String, Value>, secrets: &Masker) -> Result<Args, String> {
    let mut checked = Map::new();
    let mut problems = Vec::new();
    let required = |name: &str| {
        schema.parameters["required"].as_array().is_some_and(|list| list.iter().any(|entry| entry == name))
    };
    for (name, property) in schema.parameters["properties"].as_object().into_iter().flatten() {
        match received.get(name).filter(|value| !value.is_null()) {
            None if required(name) => problems.push(format!("- {name}: required, but missing")),
            None => {}
            Some(value) => match coerce(value, property["type"].as_str().unwrap_or_default()) {
                Some(value) => _ = checked.insert(name.clone(), value),
                None => problems.push(format!(
                    "- {name}: expected a {}, got {}",
                    property["type"].as_str().unwrap_or_default(),
                    describe(value, secrets)
                )),
            },
        }
    }
    if problems.is_empty() {
        return Ok(Args(checked));
    }
    let all = Value::Object(received.clone()).to_string();
    let shown = cut_whole(&all, RECEIVED_LIMIT, secrets);
    let mark = if shown.len() < all.len() { "…" } else { "" };
    Err(format!("Invalid arguments for {}:\n{}\nReceived: {shown}{mark}", schema.name, problems.join("\n")))
}

/// The beginning of a text, without a part of a secret at its end.
fn cut_whole<'a>(text: &'a str, limit: usize, secrets: &Masker) -> &'a str {
    &text[..secrets.cut_before(text, cut(text, limit).len())]
}

/// The value as the wanted type, when it says the same.
fn coerce(value: &Value, wanted: &str) -> Option<Value> {
    match (wanted, value) {
        ("string", Value::String(_)) | ("number", Value::Number(_)) => Some(value.clone()),
        ("string", Value::Number(number)) => Some(number.to_string().into()),
        ("string", Value::Bool(flag)) => Some(flag.to_string().into()),
        ("number", Value::String(digits)) => parse_number(digits.trim()).map(Value::Number),
        _ => None,
    }
}

fn parse_number(digits: &str) -> Option<Number> {
    match digits.parse::<i64>() {
        Ok(number) => Some(number.into()),
        Err(_) => digits.parse::<f64>().ok().and_then(Number::from_f64),
    }
}

fn describe(value: &Value, secrets: &Masker) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the string {:?}", cut_whole(text, 80, secrets)),
        Value::Array(_) => "an array".into(),
        Value::Object(_) => "an object".into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::schemas;
    use super::*;
    use crate::secret::Secret;
    use crate::session::message::ToolCall;

    fn read(args: Value) -> Result<Args, String> {
        check(&schemas()[0], args.as_object().unwrap(), &Masker::default())
    }

    #[test]
    fn values_are_made_to_fit_where_nothing_is_lost() {
        #[track_caller]
        fn case(args: Value, path: &str, offset: Option<i64>) {
            let checked = read(args).unwrap();
            assert_eq!((checked.text("path"), checked.integer("offset")), (path, offset));
        }
        case(json!({"path": "a"}), "a", None);
        case(json!({"path": "a", "offset": null, "other": [1]}), "a", None);
        case(json!({"path": "a", "offset": 7}), "a", Some(7));
        case(json!({"path": "a", "offset": 7.9}), "a", Some(7));
        case(json!({"path": "a", "offset": -0.5}), "a", Some(-1));
        case(json!({"path": "a", "offset": " 12 "}), "a", Some(12));
        case(json!({"path": "a", "offset": "1.5"}), "a", Some(1));
        case(json!({"path": "a", "offset": 1e300}), "a", Some(i64::MAX));
        case(json!({"path": 5}), "5", None);
        case(json!({"path": true}), "true", None);
    }

    #[test]
    fn arguments_inside_a_string_are_unwrapped_once() {
        let call = ToolCall::from_raw("1", "read", r#""{\"path\": \"a\"}""#);
        assert!(call.complete);
        assert_eq!(check(&schemas()[0], &call.args, &Masker::default()).unwrap().text("path"), "a");
        assert!(!ToolCall::from_raw("1", "read", r#""\"{}\"""#).complete);
    }

    #[test]
    fn every_problem_has_a_line() {
        let problems = read(json!({"path": null, "offset": "soon", "limit": [1]})).unwrap_err();
        assert_eq!(
            problems,
            "Invalid arguments for read:\n- path: required, but missing\n- offset: expected a number, got the string \
             \"soon\"\n- limit: expected a number, got an array\nReceived: \
             {\"path\":null,\"offset\":\"soon\",\"limit\":[1]}"
        );
        for odd in ["", "NaN", "inf", "1e999", "0x10", "12 apples"] {
            assert!(read(json!({"path": "a", "limit": odd})).is_err(), "{odd}");
        }
    }

    #[test]
    fn what_is_repeated_of_arguments_does_not_end_inside_a_secret() {
        let secrets = Masker::new(&[Secret::new("hunter2-secret")]);
        for before in [0, 10, 60, 70, 79, 3950, 3970, 3980] {
            let path = format!("{}hunter2-secret and so on", "x".repeat(before));
            let args = json!({"offset": path, "path": [path, "x".repeat(RECEIVED_LIMIT)]});
            let problems = check(&schemas()[0], args.as_object().unwrap(), &secrets).unwrap_err();
            assert!(!secrets.mask(&problems).contains("hunter2"), "{before}");
        }
    }

    #[test]
    fn long_arguments_are_not_repeated_whole() {
        let problems = read(json!({"path": ["x".repeat(100_000)]})).unwrap_err();
        assert!(problems.len() < 5000 && problems.ends_with('…'));
    }
}
