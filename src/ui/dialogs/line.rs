//! One line of text that is being typed. Pure.

use crate::ui::keyboard::Key;

/// What was typed, and where the next character goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    chars: Vec<char>,
    cursor: usize,
}

impl Line {
    /// Changes the line by a key that is not Enter.
    pub(super) fn apply(&mut self, key: Key) {
        match key {
            Key::Char(c) if !c.is_control() => {
                self.chars.insert(self.cursor, c);
                self.cursor += 1;
            }
            Key::Tab => self.apply(Key::Char(' ')),
            Key::Backspace if self.cursor > 0 => {
                self.cursor -= 1;
                self.chars.remove(self.cursor);
            }
            Key::Delete if self.cursor < self.chars.len() => drop(self.chars.remove(self.cursor)),
            Key::Left => self.cursor = self.cursor.saturating_sub(1),
            Key::Right => self.cursor = (self.cursor + 1).min(self.chars.len()),
            Key::Home => self.cursor = 0,
            Key::End => self.cursor = self.chars.len(),
            Key::Clear => {
                self.chars.drain(..self.cursor);
                self.cursor = 0;
            }
            _ => {}
        }
    }

    pub(super) fn text(&self) -> String {
        self.chars.iter().collect()
    }

    /// The part to show in so many columns and the column of the cursor in it; with a mask every character is that one.
    pub(super) fn window(&self, columns: usize, mask: Option<char>) -> (String, usize) {
        let columns = columns.max(2);
        let start = (self.cursor + 1).saturating_sub(columns);
        let shown = self.chars.iter().skip(start).take(columns - 1).map(|c| mask.unwrap_or(*c)).collect();
        (shown, self.cursor - start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &[Key]) -> Line {
        let mut line = Line::default();
        keys.iter().for_each(|key| line.apply(*key));
        line
    }

    #[test]
    fn a_line_can_be_edited_in_its_middle() {
        let chars = "abc".chars().map(Key::Char);
        let keys: Vec<Key> = chars.chain([Key::Left, Key::Backspace, Key::Char('ü'), Key::Home, Key::Delete]).collect();
        let line = typed(&keys);
        assert_eq!(line.text(), "üc");
        assert_eq!(typed(&[&keys[..], &[Key::End, Key::Clear]].concat()).text(), "");
    }

    #[test]
    fn long_lines_scroll_and_secrets_are_masked() {
        let line = typed(&"0123456789".chars().map(Key::Char).collect::<Vec<_>>());
        assert_eq!(line.window(5, None), ("6789".to_owned(), 4));
        assert_eq!(line.window(20, Some('*')), ("**********".to_owned(), 10));
    }
}
