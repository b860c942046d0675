//! Secret values, and taking them out of text.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};

/// Shortest value that is masked; shorter ones would take half of every log away.
const SHORTEST: usize = 8;
/// Shortest line of a multi-line value that is masked by itself.
const SHORTEST_LINE: usize = 16;
/// Characters after which the program `base64` begins a new line.
const BASE64_LINE: usize = 76;
/// What stands in the place of a secret.
pub const MASK: &str = "***";

/// A value that must not be shown. It has no `Debug`, `Display` or `Serialize`, so it cannot be printed by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself. Every call of this function is a place to look at when something leaks.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Replaces known secrets in text by [`MASK`]: as they are, URL-encoded, as a JSON string, in base64 (all common
/// alphabets), also where they are a part of what was encoded or the program `base64` broke its lines; multi-line values
/// also line by line (containers.md §11.1).
#[derive(Default, Clone)]
pub struct Masker {
    /// With the label of the secret. Longest first, so that a value containing another one is replaced whole.
    needles: Vec<(String, String)>,
}

/// What a [`Masker`] has found in a text.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding<'m> {
    /// Labels of the secrets, each once.
    pub labels: Vec<&'m str>,
    /// Occurrences of all of them.
    pub count: u64,
    pub masked: String,
}

impl Masker {
    /// A masker for these values.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        Self::labelled(secrets.into_iter().map(|secret| ("", secret)))
    }

    /// A masker for these values, each with a label that may be shown. A value with several labels has the last one.
    pub fn labelled<'a>(secrets: impl IntoIterator<Item = (&'a str, &'a Secret)>) -> Self {
        let mut needles = BTreeMap::new();
        for (label, secret) in secrets {
            let mut forms = BTreeSet::new();
            add_forms(secret.expose().trim(), &mut forms);
            needles.extend(forms.into_iter().map(|form| (form, label.to_owned())));
        }
        let mut needles: Vec<(String, String)> = needles.into_iter().collect();
        needles.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        Self { needles }
    }

    /// The secrets in a text; `None` when there is none.
    pub fn find(&self, text: &str) -> Option<Finding<'_>> {
        let mut masked = Cow::Borrowed(text);
        let (mut labels, mut found) = (Vec::new(), 0);
        for (needle, label) in &self.needles {
            let count = masked.matches(needle.as_str()).count() as u64;
            if count > 0 {
                masked = masked.replace(needle.as_str(), MASK).into();
                found += count;
                if !labels.contains(&label.as_str()) {
                    labels.push(label);
                }
            }
        }
        (found > 0).then(|| Finding { labels, count: found, masked: masked.into_owned() })
    }

    /// The text without any of the secrets; borrowed when there was none.
    pub fn mask<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut masked = Cow::Borrowed(text);
        for (needle, _) in &self.needles {
            if masked.contains(needle.as_str()) {
                masked = masked.replace(needle.as_str(), MASK).into();
            }
        }
        masked
    }

    /// How many bytes at the beginning of a text no secret can reach into, whatever comes after the text.
    pub fn settled(&self, text: &str) -> usize {
        let longest = self.needles.first().map_or(0, |(needle, _)| needle.len());
        let begins = |start: usize| {
            let rest = &text[start..];
            self.needles.iter().any(|(needle, _)| needle.len() > rest.len() && needle.starts_with(rest))
        };
        let starts = (text.len().saturating_sub(longest)..text.len()).filter(|start| text.is_char_boundary(*start));
        let end = starts.into_iter().find(|start| begins(*start)).unwrap_or(text.len());
        // A secret that is complete may reach over that place.
        self.cut_before(text, end)
    }

    /// Where a text can be cut so that no secret is cut in two: at `place`, or before it.
    pub fn cut_before(&self, text: &str, mut place: usize) -> usize {
        while let Some(secret) = self.across(text, place) {
            place = secret.start;
        }
        place
    }

    /// As [`Masker::cut_before`]: at `place`, or behind it.
    pub fn cut_behind(&self, text: &str, mut place: usize) -> usize {
        while let Some(secret) = self.across(text, place) {
            place = secret.end;
        }
        place
    }

    /// A secret that begins before a place and ends behind it.
    fn across(&self, text: &str, place: usize) -> Option<Range<usize>> {
        self.needles.iter().find_map(|(needle, _)| {
            let starts = (place + 1).saturating_sub(needle.len())..place;
            let is_there = |start: &usize| text.as_bytes()[*start..].starts_with(needle.as_bytes());
            starts.into_iter().find(is_there).map(|start| start..start + needle.len())
        })
    }

    /// Masks every string inside a JSON value, names of members included.
    pub fn mask_json(&self, value: &mut serde_json::Value) {
        if self.needles.is_empty() {
            return;
        }
        match value {
            serde_json::Value::String(text) => {
                if let Cow::Owned(masked) = self.mask(text) {
                    *text = masked;
                }
            }
            serde_json::Value::Array(items) => items.iter_mut().for_each(|item| self.mask_json(item)),
            serde_json::Value::Object(members) => {
                if members.keys().any(|name| matches!(self.mask(name), Cow::Owned(_))) {
                    let named = |(name, item): (String, _)| (self.mask(&name).into_owned(), item);
                    *members = std::mem::take(members).into_iter().map(named).collect();
                }
                members.values_mut().for_each(|item| self.mask_json(item));
            }
            _ => {}
        }
    }
}

/// What a value becomes inside a longer text in base64, such as the header of an HTTP login: the characters that depend
/// on nothing else. `before`: how many bytes of the text come before it, modulo 3.
fn inner_base64(value: &str, before: usize, engine: &impl base64::Engine) -> String {
    let bytes = [&[0; 2][..before], value.as_bytes()].concat();
    let own = (before * 8).div_ceil(6)..bytes.len() * 8 / 6;
    engine.encode(&bytes)[own].to_owned()
}

/// A value in the ways in which programs encode it for URLs and forms: they differ in what they leave as it is, in how
/// they write a space, and in the case of the digits.
fn url_forms(value: &str) -> impl Iterator<Item = String> {
    const WAYS: [(&str, &str); 6] =
        [("-._~", "%20"), ("-._~/", "%20"), ("-._~!*'()", "%20"), ("-._~", "+"), ("-._*", "+"), ("-._", "+")];
    WAYS.into_iter().flat_map(move |(kept, space)| {
        let encode = |hex: fn(u8) -> String| {
            let encode_byte = |byte: u8| match byte {
                b' ' => space.to_owned(),
                _ if byte.is_ascii_alphanumeric() || kept.as_bytes().contains(&byte) => char::from(byte).to_string(),
                _ => hex(byte),
            };
            value.bytes().map(encode_byte).collect::<String>()
        };
        [encode(|byte| format!("%{byte:02X}")), encode(|byte| format!("%{byte:02x}"))]
    })
}

fn add_forms(value: &str, needles: &mut BTreeSet<String>) {
    if value.len() < SHORTEST {
        return;
    }
    for engine in [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD] {
        for text in [value, &format!("{value}\n")] {
            let encoded = engine.encode(text);
            let lines = encoded.as_bytes().chunks(BASE64_LINE).filter(|line| line.len() >= SHORTEST_LINE);
            needles.extend(lines.map(|line| String::from_utf8_lossy(line).into_owned()));
            needles.insert(encoded);
        }
    }
    for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
        needles.extend((0..3).map(|before| inner_base64(value, before, engine)));
    }
    needles.extend(url_forms(value));
    let json = serde_json::Value::from(value).to_string();
    let json = &json[1..json.len() - 1];
    needles.insert(json.to_owned());
    // Some programs write a slash in this way.
    needles.insert(json.replace('/', r"\/"));
    needles.insert(value.to_owned());
    for line in value.lines().map(str::trim).filter(|line| line.len() >= SHORTEST_LINE && *line != value) {
        needles.insert(line.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_the_value_in_every_form() {
        let masker = Masker::new(&[Secret::new("hunter2-very+secret"), Secret::new("short")]);
        assert_eq!(masker.mask("a hunter2-very+secret b short"), "a *** b short");
        assert_eq!(masker.mask("aHVudGVyMi12ZXJ5K3NlY3JldA=="), "***");
        assert_eq!(masker.mask("token=hunter2-very%2Bsecret&x"), "token=***&x");
    }

    #[test]
    fn says_what_it_has_found() {
        let (key, token) = (Secret::new("hunter2-very-secret"), Secret::new("hunter2-very-secret-token"));
        let masker = Masker::labelled([("key", &key), ("token", &token)]);
        assert_eq!(masker.find("hunter2"), None);
        let masked = "a *** b *** c ***".to_owned();
        let text = "a hunter2-very-secret b hunter2-very-secret-token c hunter2-very-secret";
        assert_eq!(masker.find(text), Some(Finding { labels: vec!["token", "key"], count: 3, masked }));
        let masked = "***".to_owned();
        assert_eq!(
            masker.find("aHVudGVyMi12ZXJ5LXNlY3JldA=="),
            Some(Finding { labels: vec!["key"], count: 1, masked })
        );
    }

    #[test]
    fn masks_what_is_encoded_for_urls_whoever_does_it() {
        let masker = Masker::new(&[Secret::new("p a/s+s*w~\u{fc}!'(o)rd")]);
        for encoded in [
            // curl, Python's quote, JavaScript's encodeURIComponent, Go's QueryEscape, an HTML form, PHP's urlencode.
            "p%20a%2Fs%2Bs%2Aw~%C3%BC%21%27%28o%29rd",
            "p%20a/s%2Bs%2Aw~%C3%BC%21%27%28o%29rd",
            "p%20a%2Fs%2Bs*w~%C3%BC!'(o)rd",
            "p+a%2Fs%2Bs%2Aw~%C3%BC%21%27%28o%29rd",
            "p+a%2Fs%2Bs*w%7E%C3%BC%21%27%28o%29rd",
            "p+a%2Fs%2Bs%2Aw%7E%C3%BC%21%27%28o%29rd",
            // .NET's.
            "p+a%2fs%2bs%2aw%7e%c3%bc%21%27%28o%29rd",
        ] {
            assert_eq!(masker.mask(&format!("q={encoded}&x=1")), "q=***&x=1", "{encoded}");
        }
        let masker = Masker::new(&[Secret::new("aaaa/bbbb/cccc")]);
        assert_eq!(masker.mask(r#"{"key":"aaaa\/bbbb\/cccc"}"#), r#"{"key":"***"}"#);
    }

    #[test]
    fn values_are_masked_from_8_characters_on_and_lines_from_16() {
        let lines = "abcdefghijklmno\npqrstuvwxyzabcdef\r\n  indented-and-long-enough  ";
        let masker = Masker::new(&["1234567", "12345678", lines].map(Secret::new));
        for (text, masked) in [
            ("1234567", "1234567"),
            ("x12345678x", "x***x"),
            ("abcdefghijklmno", "abcdefghijklmno"),
            ("> pqrstuvwxyzabcdef", "> ***"),
            ("indented-and-long-enough", "***"),
            // Nothing says that two halves belong together.
            ("1234\n5678", "1234\n5678"),
        ] {
            assert_eq!(masker.mask(text), masked);
        }
    }

    #[test]
    fn what_could_become_a_secret_is_not_settled() {
        let masker = Masker::new(&[Secret::new("hunter2-secret"), Secret::new("secret-key")]);
        assert_eq!(masker.settled("a hunter2-secret b"), 18);
        assert_eq!(masker.settled("a hunter2-"), 2);
        assert_eq!(masker.settled("a hunter2-secret"), 2, "it may become the other one");
        assert_eq!(masker.settled("ü"), 2);
        assert_eq!(Masker::default().settled("hunter2-"), 8);
    }

    #[test]
    fn a_cut_goes_around_a_secret() {
        let masker = Masker::new(&[Secret::new("hunter2-secret"), Secret::new("secret-key")]);
        let text = "ü hunter2-secret-key b";
        for (place, before, behind) in [(3, 3, 3), (4, 3, 21), (10, 3, 21), (17, 3, 21), (21, 21, 21), (22, 22, 22)] {
            assert_eq!((masker.cut_before(text, place), masker.cut_behind(text, place)), (before, behind), "{place}");
        }
        let masker = Masker::new(&[Secret::new("abababab")]);
        assert_eq!((masker.cut_before("ababababab", 9), masker.cut_behind("ababababab", 1)), (0, 10));
        assert_eq!(Masker::default().cut_before(text, 10), 10);
    }

    #[test]
    fn masks_what_is_encoded_together_with_other_text() {
        let masker = Masker::new(&[Secret::new("hunter2-very-secret-\u{fc}?")]);
        for before in ["", "a", "ab", "abc", "x-access-token:"] {
            let masked =
                masker.mask(&STANDARD.encode(format!("{before}hunter2-very-secret-\u{fc}?, and so on"))).into_owned();
            let rest = masked.replace(MASK, "");
            assert!(masked.contains(MASK) && rest.len() < before.len() * 4 / 3 + 20, "{masked}");
        }
    }

    #[test]
    fn masks_each_line_of_broken_base64() {
        let key = "sk-".to_owned() + &"0123456789".repeat(11);
        let encoded = STANDARD.encode(format!("{key}\n"));
        let (first, second) = encoded.split_at(BASE64_LINE);
        assert_eq!(Masker::new(&[Secret::new(key)]).mask(&format!("{first}\n{second}\n")), "***\n***\n");
    }

    #[test]
    fn masks_what_json_writes_otherwise() {
        let masker = Masker::new(&[Secret::new("pass\"word\\one")]);
        assert_eq!(masker.mask(r#"{"password":"pass\"word\\one"}"#), r#"{"password":"***"}"#);
    }

    #[test]
    fn masks_lines_of_a_key_file() {
        let key = "-----BEGIN KEY-----\nAAAABBBBCCCCDDDDEEEE\nshort\n-----END KEY-----";
        let masker = Masker::new(&[Secret::new(key)]);
        assert_eq!(masker.mask("x AAAABBBBCCCCDDDDEEEE y short"), "x *** y short");
    }

    #[test]
    fn a_value_that_contains_another_is_replaced_whole() {
        let masker = Masker::new(&[Secret::new("abcdefgh"), Secret::new("abcdefgh-ijkl")]);
        assert_eq!(masker.mask("abcdefgh-ijkl"), "***");
    }
}
