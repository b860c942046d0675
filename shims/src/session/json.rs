//! Reading JSON that providers wrote.

use std::borrow::Cow;

use serde::de::DeserializeOwned;

/// Parses JSON text. Halves of surrogate pairs, which models do produce and which no Rust string can hold, become
/// U+FFFD.
///
/// # Errors
/// The text is not JSON of the wanted shape.
pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, serde_json::Error> {
    serde_json::from_str(text).or_else(|error| match repaired(text) {
        Cow::Owned(text) => serde_json::from_str(&text),
        Cow::Borrowed(_) => Err(error),
    })
}

/// Replaces `\uD800`–`\uDFFF` escapes that are not half of a pair by `\uFFFD`.
fn repaired(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let mut lone = Vec::new();
    let mut at = 0;
    while let Some(found) = bytes[at..].iter().position(|byte| *byte == b'\\') {
        let here = at + found;
        at = (here + 2).min(bytes.len());
        match escape_at(bytes, here) {
            Some(0xD800..=0xDBFF) if matches!(escape_at(bytes, here + 6), Some(0xDC00..=0xDFFF)) => at = here + 12,
            Some(0xD800..=0xDFFF) => lone.push(here),
            _ => {}
        }
    }
    if lone.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut repaired = text.to_owned();
    for here in lone {
        repaired.replace_range(here + 2..here + 6, "FFFD");
    }
    Cow::Owned(repaired)
}

/// The number of the `\uXXXX` escape that starts at `at`.
fn escape_at(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn lone_surrogates_become_replacement_characters() {
        #[track_caller]
        fn case(text: &str, expected: &str) {
            assert_eq!(parse::<Value>(text).unwrap(), Value::String(expected.into()), "{text}");
        }
        case(r#""a\ud83db""#, "a\u{fffd}b");
        case(r#""\ude00\ud83d\ude00\ud83d""#, "\u{fffd}\u{1f600}\u{fffd}");
        case(r#""\ud83d\ud83d\ude00""#, "\u{fffd}\u{1f600}");
        case(r#""\\ud83d \ud83d""#, "\\ud83d \u{fffd}");
        case(r#""\ud83d\n""#, "\u{fffd}\n");
    }

    #[test]
    fn anything_else_that_is_wrong_stays_wrong() {
        for text in [r#""\ud83d"#, r#"{"a""#, r#""\u12""#, "\\", "\\u"] {
            assert!(parse::<Value>(text).is_err(), "{text}");
        }
    }
}
