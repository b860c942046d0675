//! A message while it is typed: text, cursor, and the messages before it. Pure.

use crate::ui::keyboard::Key;

/// What a key has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reaction {
    Edited,
    /// The message is complete.
    Sent,
    /// Ctrl-C.
    Interrupted,
    /// Ctrl-D where there is nothing to delete.
    Ended,
}

/// The message.
#[derive(Debug, Default)]
pub(super) struct Draft {
    chars: Vec<char>,
    /// Index of the character behind it.
    cursor: usize,
    /// Which of the messages before is shown; `None` is the new one.
    shown: Option<usize>,
    /// The new one while another is shown.
    kept: Vec<char>,
}

impl Draft {
    /// Changes it. `history` are the messages before, oldest first.
    pub(super) fn apply(&mut self, key: Key, history: &[String]) -> Reaction {
        match key {
            Key::Enter if self.is_blank() => {}
            Key::Enter => return Reaction::Sent,
            Key::Interrupt => return Reaction::Interrupted,
            Key::Eof if self.chars.is_empty() => return Reaction::Ended,
            Key::Char(c) if !c.is_control() || c == '\t' => self.insert(c),
            Key::NewLine => self.insert('\n'),
            Key::Tab => self.insert(' '),
            Key::Backspace => self.delete(self.cursor.saturating_sub(1), self.cursor),
            Key::Delete | Key::Eof => self.delete(self.cursor, (self.cursor + 1).min(self.chars.len())),
            Key::Clear => self.delete(self.line_start(self.cursor), self.cursor),
            Key::ClearRest => self.delete(self.cursor, self.line_end(self.cursor)),
            Key::ClearWord => self.delete(self.word_left(), self.cursor),
            Key::Left => self.cursor = self.cursor.saturating_sub(1),
            Key::Right => self.cursor = (self.cursor + 1).min(self.chars.len()),
            Key::WordLeft => self.cursor = self.word_left(),
            Key::WordRight => self.cursor = self.word_right(),
            Key::Home => self.cursor = self.line_start(self.cursor),
            Key::End => self.cursor = self.line_end(self.cursor),
            Key::Up => self.up(history),
            Key::Down => self.down(history),
            Key::Char(_) | Key::Escape | Key::Other => {}
        }
        Reaction::Edited
    }

    pub(super) fn text(&self) -> String {
        self.chars.iter().collect()
    }

    pub(super) fn chars(&self) -> &[char] {
        &self.chars
    }

    pub(super) fn cursor(&self) -> usize {
        self.cursor
    }

    fn is_blank(&self) -> bool {
        self.chars.iter().all(|c| c.is_whitespace())
    }

    fn insert(&mut self, c: char) {
        self.chars.insert(self.cursor, c);
        self.cursor += 1;
    }

    fn delete(&mut self, from: usize, to: usize) {
        self.chars.drain(from..to);
        self.cursor = from;
    }

    fn line_start(&self, at: usize) -> usize {
        self.chars[..at].iter().rposition(|c| *c == '\n').map_or(0, |newline| newline + 1)
    }

    fn line_end(&self, at: usize) -> usize {
        self.chars[at..].iter().position(|c| *c == '\n').map_or(self.chars.len(), |newline| at + newline)
    }

    fn word_left(&self) -> usize {
        let before = &self.chars[..self.cursor];
        let Some(end) = before.iter().rposition(|c| !c.is_whitespace()) else { return 0 };
        before[..end].iter().rposition(|c| c.is_whitespace()).map_or(0, |blank| blank + 1)
    }

    fn word_right(&self) -> usize {
        let behind = &self.chars[self.cursor..];
        let start = behind.iter().position(|c| !c.is_whitespace()).unwrap_or(behind.len());
        let length = behind[start..].iter().position(|c| c.is_whitespace()).unwrap_or(behind.len() - start);
        self.cursor + start + length
    }

    /// To the line above, or from the first one to the message before.
    fn up(&mut self, history: &[String]) {
        let start = self.line_start(self.cursor);
        if start > 0 {
            let above = self.line_start(start - 1);
            self.cursor = (above + self.cursor - start).min(start - 1);
        } else if let Some(before) = self.shown.unwrap_or(history.len()).checked_sub(1) {
            if self.shown.is_none() {
                self.kept = self.chars.clone();
            }
            self.show(Some(before), history[before].chars().collect());
        }
    }

    /// To the line below, or from the last one to the message after.
    fn down(&mut self, history: &[String]) {
        let end = self.line_end(self.cursor);
        if end < self.chars.len() {
            let column = self.cursor - self.line_start(self.cursor);
            self.cursor = (end + 1 + column).min(self.line_end(end + 1));
        } else if let Some(shown) = self.shown {
            match history.get(shown + 1) {
                Some(after) => self.show(Some(shown + 1), after.chars().collect()),
                None => {
                    let kept = std::mem::take(&mut self.kept);
                    self.show(None, kept);
                }
            }
        }
    }

    fn show(&mut self, which: Option<usize>, chars: Vec<char>) {
        self.cursor = chars.len();
        self.chars = chars;
        self.shown = which;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys: `<` and `>` are left and right, `^` and `v` up and down, `|` is a new line, everything else itself.
    fn keys(text: &str) -> impl Iterator<Item = Key> + '_ {
        text.chars().map(|c| match c {
            '<' => Key::Left,
            '>' => Key::Right,
            '^' => Key::Up,
            'v' => Key::Down,
            '|' => Key::NewLine,
            c => Key::Char(c),
        })
    }

    fn typed(text: &str, more: &[Key], history: &[String]) -> Draft {
        let mut draft = Draft::default();
        for key in keys(text).chain(more.iter().copied()) {
            assert_eq!(draft.apply(key, history), Reaction::Edited, "{key:?}");
        }
        draft
    }

    /// The text with a bar at the cursor.
    fn shown(draft: &Draft) -> String {
        let (before, behind) = draft.chars.split_at(draft.cursor);
        before.iter().chain(&['|']).chain(behind).collect()
    }

    #[track_caller]
    fn case(text: &str, more: &[Key], expected: &str) {
        assert_eq!(shown(&typed(text, more, &[])), expected);
    }

    #[test]
    fn text_is_changed_at_the_cursor() {
        case("grün<<X", &[], "grX|ün");
        case("ab", &[Key::Home, Key::Char('x'), Key::End, Key::Char('y')], "xaby|");
        case("abc<", &[Key::Backspace, Key::Delete, Key::Delete], "a|");
        case("ab<<<", &[Key::Backspace, Key::Eof], "|b");
        case("one|two", &[Key::Home, Key::Backspace], "one|two");
        case("a\u{1B}\t", &[Key::Other], "a\t|");
    }

    #[test]
    fn words_and_lines_are_taken_away_whole() {
        case("one  two ", &[Key::ClearWord], "one  |");
        case("one  two ", &[Key::ClearWord, Key::ClearWord, Key::ClearWord], "|");
        case("one|two three", &[Key::ClearWord, Key::Clear], "one\n|");
        case("one|two<<", &[Key::ClearRest, Key::Clear], "one\n|");
        case("one two", &[Key::WordLeft, Key::WordLeft, Key::WordLeft, Key::WordRight], "one| two");
        case("one two", &[Key::Home, Key::WordRight, Key::WordRight, Key::WordRight], "one two|");
    }

    #[test]
    fn up_and_down_keep_the_column_as_far_as_there_is_one() {
        case("long line|x|another", &[Key::Up], "long line\nx|\nanother");
        case("long line|x|another", &[Key::Up, Key::Up], "l|ong line\nx\nanother");
        case("ab|cd^v", &[], "ab\ncd|");
        case("ab|c^<<", &[Key::Down], "ab\n|c");
    }

    #[test]
    fn messages_before_are_reached_from_the_first_and_the_last_line() {
        let history = ["first".to_owned(), "second\nline".to_owned()];
        let case = |keys: &str, expected: &str| assert_eq!(shown(&typed(keys, &[], &history)), expected, "{keys}");
        case("new^", "second\nline|");
        case("new^^^^", "first|");
        case("new^^^^v", "second\nline|");
        case("new^v", "new|");
        case("new^^^vvvvv", "new|");
        case("a|b^^", "second\nline|");
        case("new^!^<", "seco|nd\nline!");
    }

    #[test]
    fn keys_that_end_a_message() {
        let mut draft = typed(" ", &[], &[]);
        assert_eq!(draft.apply(Key::Enter, &[]), Reaction::Edited, "there is nothing to send");
        assert_eq!(draft.apply(Key::Char('x'), &[]), Reaction::Edited);
        assert_eq!(draft.apply(Key::Enter, &[]), Reaction::Sent);
        assert_eq!(draft.apply(Key::Eof, &[]), Reaction::Edited, "it deletes");
        assert_eq!(draft.apply(Key::Interrupt, &[]), Reaction::Interrupted);
        assert_eq!(Draft::default().apply(Key::Eof, &[]), Reaction::Ended);
    }
}
