//! Secret values, and taking them out of text.

use std::collections::BTreeSet;

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
    /// Longest first, so that a value containing another one is replaced whole.
    needles: Vec<String>,
}

impl Masker {
    /// A masker for these values.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let mut needles = BTreeSet::new();
        for secret in secrets {
            add_forms(secret.expose().trim(), &mut needles);
        }
        let mut needles: Vec<String> = needles.into_iter().collect();
        needles.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        Self { needles }
    }

    /// The text without any of the secrets; borrowed when there was none.
    pub fn mask<'t>(&self, text: &'t str) -> std::borrow::Cow<'t, str> {
        let mut masked = std::borrow::Cow::Borrowed(text);
        for needle in &self.needles {
            if masked.contains(needle.as_str()) {
                masked = masked.replace(needle.as_str(), MASK).into();
            }
        }
        masked
    }

    /// How many bytes at the beginning of a text no secret can reach into, whatever comes after the text.
    pub fn settled(&self, text: &str) -> usize {
        let longest = self.needles.first().map_or(0, String::len);
        let begins = |start: usize| {
            let rest = &text[start..];
            self.needles.iter().any(|needle| needle.len() > rest.len() && needle.starts_with(rest))
        };
        let starts = (text.len().saturating_sub(longest)..text.len()).filter(|start| text.is_char_boundary(*start));
        let mut end = starts.into_iter().find(|start| begins(*start)).unwrap_or(text.len());
        // A secret that is complete may reach over that place.
        while let Some(start) = self.needles.iter().find_map(|needle| {
            let mut found = text.match_indices(needle.as_str()).map(|(start, _)| start);
            found.find(|start| (*start..start + needle.len()).contains(&end) && *start < end)
        }) {
            end = start;
        }
        end
    }

    /// Masks every string inside a JSON value, names of members included.
    pub fn mask_json(&self, value: &mut serde_json::Value) {
        if self.needles.is_empty() {
            return;
        }
        match value {
            serde_json::Value::String(text) => {
                if let std::borrow::Cow::Owned(masked) = self.mask(text) {
                    *text = masked;
                }
            }
            serde_json::Value::Array(items) => items.iter_mut().for_each(|item| self.mask_json(item)),
            serde_json::Value::Object(members) => {
                if members.keys().any(|name| matches!(self.mask(name), std::borrow::Cow::Owned(_))) {
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
    needles.insert(crate::text::percent_encode(value));
    let json = serde_json::Value::from(value).to_string();
    needles.insert(json[1..json.len() - 1].to_owned());
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
    fn what_could_become_a_secret_is_not_settled() {
        let masker = Masker::new(&[Secret::new("hunter2-secret"), Secret::new("secret-key")]);
        assert_eq!(masker.settled("a hunter2-secret b"), 18);
        assert_eq!(masker.settled("a hunter2-"), 2);
        assert_eq!(masker.settled("a hunter2-secret"), 2, "it may become the other one");
        assert_eq!(masker.settled("ü"), 2);
        assert_eq!(Masker::default().settled("hunter2-"), 8);
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
