//! Functions on text for people: cutting, cleaning, suggesting.

use std::borrow::Cow;

use unicode_width::UnicodeWidthChar as _;

pub use shims::text::{cut, percent_encode, shell_quote};

/// At most `limit` characters, the last one `…` when something was left out.
pub fn ellipsis(text: &str, limit: usize) -> Cow<'_, str> {
    if text.chars().count() <= limit {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(format!("{}…", cut(text, limit.saturating_sub(1))))
    }
}

/// Foreign text as it may be shown on a terminal: control characters other than line breaks and tabs, and the
/// invisible characters that reorder text, become U+FFFD.
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.contains(is_hostile) {
        Cow::Owned(text.chars().map(|c| if is_hostile(c) { '\u{FFFD}' } else { c }).collect())
    } else {
        Cow::Borrowed(text)
    }
}

fn is_hostile(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c, '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// Foreign text for a place of one line: as [`printable`], with blanks for line breaks and tabs.
pub fn single_line(text: &str) -> String {
    printable(text).replace(['\n', '\t'], " ")
}

/// JSON text that can be shown on a terminal and still means the same: what [`printable`] would replace is escaped.
pub fn printable_json(json: &str) -> Cow<'_, str> {
    if let Cow::Borrowed(text) = printable(json) {
        return Cow::Borrowed(text);
    }
    // Outside of strings JSON has none of these characters, and all are in the basic plane.
    let escaped = json.chars().map(|c| if is_hostile(c) { format!("\\u{:04x}", c as u32) } else { c.to_string() });
    Cow::Owned(escaped.collect())
}

/// Columns that a character takes on a terminal: none for those that change the one before them, two for those of
/// languages and pictures that are wide.
pub fn columns(c: char) -> usize {
    c.width().unwrap_or_default()
}

/// Number of edits between two words: characters put in, left out or replaced, and neighbours that changed places.
pub fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let replaced = last[j] + usize::from(a[i] != b[j]);
            let mut least = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

/// The candidate nearest to a mistyped word, when it is within `limit` edits; of equals the first.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>, limit: usize) -> Option<&'a str> {
    let scored = candidates.into_iter().map(|candidate| (edit_distance(word, candidate), candidate));
    scored.filter(|(distance, _)| *distance <= limit).min_by_key(|(distance, _)| *distance).map(|(_, found)| found)
}

/// The candidate that was probably meant: within three edits and not mostly different.
pub fn suggestion<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = candidates.into_iter().map(|candidate| (edit_distance(word, candidate), candidate));
    let close = scored.filter(|(distance, found)| *distance <= 3 && *distance * 10 <= found.chars().count() * 6);
    close.min_by_key(|(distance, _)| *distance).map(|(_, found)| found)
}

/// The last `limit` bytes of a text, from a character boundary.
pub fn tail(text: &str, limit: usize) -> &str {
    let mut start = text.len().saturating_sub(limit);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

/// A number with thousands separated: `12,345`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_never_reach_a_terminal() {
        assert_eq!(printable("a\x1b[31mb\tc\nd"), "a\u{FFFD}[31mb\tc\nd");
        assert_eq!(printable("a\u{202E}b"), "a\u{FFFD}b");
        assert!(matches!(printable("plain"), Cow::Borrowed(_)));
    }

    #[test]
    fn wide_and_combining_characters_have_their_columns() {
        let widths = |text: &str| text.chars().map(columns).collect::<Vec<_>>();
        assert_eq!(widths("aü€e\u{301}"), [1, 1, 1, 1, 0]);
        assert_eq!(widths("日한Ａ🙂✅\u{FE0F}"), [2, 2, 2, 2, 2, 0]);
    }

    #[test]
    fn json_for_a_terminal_means_the_same() {
        let value = serde_json::json!({"a\u{9b}b": "x\u{7f}\u{202e}\u{1b}\n", "plain": [1, "ü"]});
        let text = value.to_string();
        let shown = printable_json(&text);
        assert!(!shown.contains(is_hostile) && shown.contains("\\u009b"), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        assert!(matches!(printable_json("{\n  \"a\": 1\n}"), Cow::Borrowed(_)));
    }

    #[test]
    fn suggests_the_nearest_word() {
        let distances =
            [("gatway", "gateway"), ("dve", "dev"), ("", "abc"), ("same", "same"), ("abcd", "badc"), ("ca", "abc")];
        assert_eq!(distances.map(|(a, b)| edit_distance(a, b)), [1, 1, 3, 0, 2, 3]);
        assert_eq!(nearest("shedule", ["scale", "schedule"], 2), Some("schedule"));
        assert_eq!(nearest("bogus", ["schedule"], 2), None);
    }

    #[test]
    fn groups_digits() {
        assert_eq!(thousands(7), "7");
        assert_eq!(thousands(1_234_567), "1,234,567");
    }

    #[test]
    fn tail_starts_on_a_character() {
        assert_eq!(tail("aüb", 2), "b");
    }
}
