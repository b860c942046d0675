//! Lines of log files as entries, whichever of the two formats they are in.

use serde_json::{Map, Value};

/// An entry as it is stored: `level` a number, `time` in milliseconds, and whatever else it has.
pub type Object = Map<String, Value>;

/// The entry of a line; `None` when it is not a JSON object. A line of the container protocol (`_log`, level as a word,
/// `ts`) gets the form of all others.
pub(super) fn parse(line: &[u8]) -> Option<Object> {
    if line.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    let object: Object = serde_json::from_slice(line).ok()?;
    let word = object.get("level").and_then(Value::as_str);
    match word.filter(|_| object.get("_log") == Some(&Value::Bool(true))).map(number_of_word) {
        Some(level) => Some(normalised(object, level)),
        None => Some(object),
    }
}

fn normalised(mut object: Object, level: i64) -> Object {
    let mut entry = Object::new();
    entry.insert("level".to_owned(), level.into());
    object.shift_remove("level");
    object.shift_remove("_log");
    if let Some(time) = object.shift_remove("ts") {
        object.shift_remove("time");
        entry.insert("time".to_owned(), time);
    }
    entry.extend(object);
    entry
}

fn number_of_word(word: &str) -> i64 {
    match word {
        "trace" => 10,
        "debug" => 20,
        "warn" => 40,
        "error" => 50,
        _ => 30,
    }
}

/// A level as a person or a query names it, as a word from `trace` to `fatal` or a number; `None` for anything else.
pub fn level_number(text: &str) -> Option<i64> {
    match text {
        "trace" | "debug" | "info" | "warn" | "error" => Some(number_of_word(text)),
        "fatal" => Some(60),
        number => number.parse().ok().filter(|number| *number >= 0),
    }
}

/// A member as a whole number, also when it was written with a fraction.
pub(super) fn number(entry: &Object, name: &str) -> Option<i64> {
    let value = entry.get(name)?;
    value.as_i64().or_else(|| value.as_f64().map(|number| number as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn case(line: &str, expected: Option<&str>) {
        assert_eq!(parse(line.as_bytes()).map(|entry| Value::Object(entry).to_string()).as_deref(), expected);
    }

    #[test]
    fn both_formats_give_the_same_kind_of_entry() {
        case(
            r#"{"_log":true,"level":"warn","msg":"m","ts":1772700000000,"a":{"b":1}}"#,
            Some(r#"{"level":40,"time":1772700000000,"msg":"m","a":{"b":1}}"#),
        );
        case(r#"{"_log":true,"level":"loud","msg":"m"}"#, Some(r#"{"level":30,"msg":"m"}"#));
        let other = r#"{"level":30,"time":1,"_log":false,"ts":2,"msg":"m"}"#;
        case(other, Some(other));
        case(r#"{"_log":true,"level":35}"#, Some(r#"{"_log":true,"level":35}"#));
        case(" {\"msg\":\"m\"} \r", Some(r#"{"msg":"m"}"#));
    }

    #[test]
    fn what_is_no_object_is_no_entry() {
        for line in ["", "  ", "hello", "[1]", "7", "{\"a\":", "{\"a\":1}}", "{\"a\":\"\u{1}\"}"] {
            case(line, None);
        }
        assert_eq!(parse(b"{\"a\":\"\xff\"}"), None);
    }

    #[test]
    fn levels_are_words_or_numbers() {
        let levels = ["trace", "error", "fatal", "35", "-1", "loud", ""].map(level_number);
        assert_eq!(levels, [Some(10), Some(50), Some(60), Some(35), None, None, None]);
    }
}
