//! Functions on text for people: cutting, cleaning, suggesting.

use std::borrow::Cow;

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
    match u32::from(c) {
        0x0300..=0x036F | 0x0483..=0x0489 | 0x0591..=0x05BD | 0x064B..=0x065F | 0x0E34..=0x0E3A | 0x0E47..=0x0E4E => 0,
        0x1AB0..=0x1AFF | 0x1DC0..=0x1DFF | 0x200B..=0x200F | 0x20D0..=0x20F0 | 0xFE00..=0xFE0F | 0xFE20..=0xFE2F => 0,
        0xE0100..=0xE01EF => 0,
        0x1100..=0x115F | 0x2E80..=0x303E | 0x3041..=0xA4CF | 0xA960..=0xA97C | 0xAC00..=0xD7A3 | 0xF900..=0xFAFF => 2,
        0xFE30..=0xFE6F | 0xFF01..=0xFF60 | 0xFFE0..=0xFFE6 | 0x20000..=0x3FFFD => 2,
        0x231A..=0x231B | 0x23E9..=0x23EC | 0x2614..=0x2615 | 0x2705 | 0x270A..=0x270B | 0x2728 | 0x274C | 0x274E => 2,
        0x2753..=0x2755 | 0x2757 | 0x2795..=0x2797 | 0x27B0 | 0x2B1B..=0x2B1C | 0x2B50 | 0x2B55 => 2,
        0x1F004 | 0x1F0CF | 0x1F18E | 0x1F191..=0x1F19A | 0x1F200..=0x1F320 | 0x1F32D..=0x1F64F => 2,
        0x1F680..=0x1F6FF | 0x1F7E0..=0x1F7EB | 0x1F90C..=0x1F9FF | 0x1FA70..=0x1FAFF => 2,
        _ => 1,
    }
}

/// Number of single-character edits between two words.
pub fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let replace = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
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
        assert_eq!(edit_distance("gatway", "gateway"), 1);
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
