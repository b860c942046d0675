//! From the bytes of a body to its JSON text, and from there to a payload (gateway.md §18.3).

use std::borrow::Cow;

use super::delivery::Refusal;
use super::headers::Headers;
use super::lenient;

/// Content type of HTML forms.
const FORM: &str = "application/x-www-form-urlencoded";

/// The JSON text in a body: the field `payload` of a form, else the whole body.
///
/// # Errors
/// A form without payload.
pub(super) fn json_text<'b>(headers: &Headers, body: &'b [u8]) -> Result<Cow<'b, str>, Refusal> {
    if !headers.get("content-type").is_some_and(|kind| kind.to_ascii_lowercase().contains(FORM)) {
        // Senders that put a byte-order mark before their JSON, or broken characters into it, signed them, too.
        let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
        // The exact check is much faster than the one that looks for what to replace.
        return Ok(std::str::from_utf8(body).map_or_else(|_| String::from_utf8_lossy(body), Cow::Borrowed));
    }
    let payload = form_urlencoded::parse(body).find(|(name, _)| name == "payload").map(|(_, value)| value);
    payload.filter(|value| !value.is_empty()).ok_or(Refusal::MissingPayload)
}

/// Reads a JSON text; `None` when it is another value than an object.
///
/// # Errors
/// When it is not JSON.
pub(super) fn payload<T: lenient::Object>(json: &str) -> Result<Option<T>, Refusal> {
    let read = lenient::parse(json).or_else(|error| match mended(json) {
        Some(json) => lenient::parse(&json),
        None => Err(error),
    });
    read.map_err(|_| Refusal::InvalidJson)
}

/// The JSON text with U+FFFD for every `\ud8…` that is one half of a character without the other, if there is one.
/// Senders that count in UTF-16 cut texts there; by the grammar it is JSON, but no text.
fn mended(json: &str) -> Option<String> {
    let mut fixed = String::new();
    let mut rest = json;
    while let Some(start) = rest.find('\\') {
        let (before, escape) = rest.split_at(start);
        fixed.push_str(before);
        let (kept, length) = match (code_unit(escape), escape.get(6..).and_then(code_unit)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => (&escape[..12], 12),
            (Some(0xD800..=0xDFFF), _) => (r"\ufffd", 6),
            // The escaped character, which may be another backslash.
            _ => match escape.chars().nth(1) {
                Some(escaped) => (&escape[..1 + escaped.len_utf8()], 1 + escaped.len_utf8()),
                None => (escape, 1),
            },
        };
        fixed.push_str(kept);
        rest = &escape[length..];
    }
    fixed.push_str(rest);
    (fixed != json).then_some(fixed)
}

/// The code unit that a text begins with as `\uXXXX`.
fn code_unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::super::lenient::{Text, object};
    use super::*;

    object!(Members { a: Text });

    /// The member `a` of a body, `-` without it.
    fn read(content_type: &str, body: &[u8]) -> Result<String, Refusal> {
        let headers = Headers::new([("Content-Type", content_type)]);
        let json = json_text(&headers, body)?;
        Ok(payload::<Members>(&json)?.and_then(|members| members.a).unwrap_or_else(|| "-".to_owned()))
    }

    #[track_caller]
    fn reads(content_type: &str, body: &[u8], expected: Result<&str, Refusal>) {
        assert_eq!(read(content_type, body), expected.map(str::to_owned), "{}", String::from_utf8_lossy(body));
    }

    #[test]
    fn json_is_the_whole_body() {
        for kind in ["application/json", "text/plain", "", "multipart/form-data"] {
            reads(kind, b" {\"a\":\"x\"}\r\n", Ok("x"));
            reads(kind, b"payload=%7B%7D", Err(Refusal::InvalidJson));
            reads(kind, b"", Err(Refusal::InvalidJson));
            reads(kind, b"[1]", Ok("-"));
        }
    }

    #[test]
    fn a_form_has_a_payload() {
        for kind in ["application/x-www-form-urlencoded", "Application/X-WWW-Form-Urlencoded; charset=utf-8"] {
            reads(kind, b"x=1&payload=%7B%22a%22%3A%22b+c%22%7D&payload=5", Ok("b c"));
            reads(kind, b"payload=&payload=%7B%7D", Err(Refusal::MissingPayload));
            reads(kind, b"{\"a\":\"x\"}", Err(Refusal::MissingPayload));
            reads(kind, b"", Err(Refusal::MissingPayload));
            reads(kind, b"payload=%7B", Err(Refusal::InvalidJson));
        }
    }

    #[test]
    fn marks_and_broken_characters_are_no_reason_to_refuse() {
        reads("", b"\xEF\xBB\xBF{\"a\":\"x\"}", Ok("x"));
        reads("", b"{\"a\":\"x\xFFy\"}", Ok("x\u{FFFD}y"));
        reads("", b"\xFF{\"a\":\"x\"}", Err(Refusal::InvalidJson));
    }

    #[test]
    fn half_characters_become_replacement_characters() {
        reads("", br#"{"a":"\ud83e\udd99 \ud83e"}"#, Ok("🦙 \u{FFFD}"));
        reads("", br#"{"a":"\ud83e\ud83e\udd99"}"#, Ok("\u{FFFD}🦙"));
        reads("", br#"{"a":"\udd99\\ud83e\n"}"#, Ok("\u{FFFD}\\ud83e\n"));
        reads("", br#"{"a":"\ud83e"#, Err(Refusal::InvalidJson));
        reads("", br#"{"a":"\ud83e"}\"#, Err(Refusal::InvalidJson));
        reads("", "{\"a\":\"\\ud83e\"}\\é".as_bytes(), Err(Refusal::InvalidJson));
    }
}
