//! Where the characters of a message stand on a screen. Pure.

use crate::base::text::columns;

/// What stands before the message, and before its further lines.
pub(super) const PROMPT: &str = "> ";
const INDENT: &str = "  ";

/// A message in rows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) rows: Vec<String>,
    /// Index of the row of the cursor.
    pub(super) row: usize,
    /// What of that row is before the cursor.
    pub(super) before: String,
}

/// Breaks a message into rows of so many columns; of more than `height` rows those up to the cursor are left.
pub(super) fn lay_out(chars: &[char], cursor: usize, width: usize, height: usize) -> Layout {
    // The last column stays free: terminals do not agree on what a cursor behind it is.
    let room = width.saturating_sub(PROMPT.len() + 1).max(4);
    let mut rows = Vec::new();
    let (mut row, mut used) = (PROMPT.to_owned(), 0);
    let mut at_cursor = None;
    for (at, c) in chars.iter().enumerate() {
        let needed = if *c == '\n' { 0 } else { columns(visible(*c)) };
        if used + needed > room {
            rows.push(std::mem::replace(&mut row, INDENT.to_owned()));
            used = 0;
        }
        if at == cursor {
            at_cursor = Some((rows.len(), row.clone()));
        }
        if *c == '\n' {
            rows.push(std::mem::replace(&mut row, INDENT.to_owned()));
            used = 0;
        } else {
            row.push(visible(*c));
            used += needed;
        }
    }
    let (mut cursor_row, before) = at_cursor.unwrap_or_else(|| (rows.len(), row.clone()));
    rows.push(row);
    let height = height.max(1);
    let first = (cursor_row + 1).saturating_sub(height);
    rows = rows.into_iter().skip(first).take(height).collect();
    cursor_row -= first;
    Layout { rows, row: cursor_row, before }
}

/// A message in one row that scrolls, for terminals without cursor control; line breaks are blanks.
pub(super) fn window(chars: &[char], cursor: usize, width: usize) -> Layout {
    let room = width.saturating_sub(PROMPT.len() + 1).max(4);
    let mut start = cursor;
    let mut used = 0;
    while start > 0 && used + columns(visible(chars[start - 1])) <= room {
        start -= 1;
        used += columns(visible(chars[start]));
    }
    let before: String = PROMPT.chars().chain(chars[start..cursor].iter().map(|c| visible(*c))).collect();
    let mut row = before.clone();
    for c in &chars[cursor..] {
        used += columns(visible(*c));
        if used > room {
            break;
        }
        row.push(visible(*c));
    }
    Layout { rows: vec![row], row: 0, before }
}

/// A character as it is shown: never one that moves the cursor.
fn visible(c: char) -> char {
    match c {
        '\n' | '\t' => ' ',
        c if crate::base::text::printable(c.encode_utf8(&mut [0; 4])).starts_with(c) => c,
        _ => '\u{FFFD}',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chars(text: &str) -> Vec<char> {
        text.chars().collect()
    }

    #[track_caller]
    fn case(text: &str, cursor: usize, rows: &[&str], row: usize, before: &str) {
        let layout = lay_out(&chars(text), cursor, 10, 24);
        assert_eq!(
            (layout.rows, layout.row, layout.before.as_str()),
            (rows.iter().map(|row| (*row).to_owned()).collect(), row, before)
        );
    }

    #[test]
    fn what_is_shown_as_a_blank_takes_one_column() {
        case("\t\t\t\t\t\t\tab", 9, &[">        ", "  ab"], 1, "  ab");
    }

    #[test]
    fn a_message_is_broken_at_the_edge_and_at_its_line_breaks() {
        case("", 0, &["> "], 0, "> ");
        case("abc", 1, &["> abc"], 0, "> a");
        case("abcdefgh", 7, &["> abcdefg", "  h"], 1, "  ");
        case("abcdefg", 7, &["> abcdefg"], 0, "> abcdefg");
        case("ab\ncd", 2, &["> ab", "  cd"], 0, "> ab");
        case("ab\ncd", 3, &["> ab", "  cd"], 1, "  ");
        case("ab\n", 3, &["> ab", "  "], 1, "  ");
        case("abcdefg\nh", 7, &["> abcdefg", "  h"], 0, "> abcdefg");
        case("a\tb\u{1B}\u{202E}", 5, &["> a b\u{FFFD}\u{FFFD}"], 0, "> a b\u{FFFD}\u{FFFD}");
    }

    #[test]
    fn wide_characters_need_two_columns_and_combining_ones_none() {
        case("日本語文字", 5, &["> 日本語", "  文字"], 1, "  文字");
        case(
            "e\u{301}e\u{301}e\u{301}e\u{301}",
            8,
            &["> e\u{301}e\u{301}e\u{301}e\u{301}"],
            0,
            "> e\u{301}e\u{301}e\u{301}e\u{301}",
        );
    }

    #[test]
    fn of_a_message_higher_than_the_screen_the_rows_up_to_the_cursor_are_left() {
        let text = chars("a\nb\nc\nd\ne");
        let shown = |cursor: usize| {
            let layout = lay_out(&text, cursor, 10, 3);
            (layout.rows.concat().replace([' ', '>'], ""), layout.row)
        };
        assert_eq!(shown(9), ("cde".to_owned(), 2));
        assert_eq!(shown(0), ("abc".to_owned(), 0));
        assert_eq!(shown(4), ("abc".to_owned(), 2));
    }

    #[test]
    fn in_one_row_a_message_scrolls() {
        let row = |text: &str, cursor: usize| {
            let layout = window(&chars(text), cursor, 10);
            (layout.rows.concat(), layout.before)
        };
        assert_eq!(row("ab\ncd", 1), ("> ab cd".to_owned(), "> a".to_owned()));
        assert_eq!(row("0123456789", 10), ("> 3456789".to_owned(), "> 3456789".to_owned()));
        assert_eq!(row("0123456789", 2), ("> 0123456".to_owned(), "> 01".to_owned()));
    }
}
