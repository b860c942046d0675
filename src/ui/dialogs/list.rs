//! A list of which one or several are chosen. Pure.

use crate::base::term::{Style, sgr};
use crate::base::text::{ellipsis, single_line};
use crate::ui::keyboard::Key;

/// What typing does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Typing {
    /// Goes to the next item that begins so.
    Jumps,
    /// Narrows the list down to items that contain it.
    Filters,
}

/// A list while it is shown.
pub(super) struct List<'a> {
    items: &'a [String],
    /// Of a list of which several may be chosen.
    ticks: Option<Vec<bool>>,
    typing: Typing,
    filter: String,
    /// Index into the items that are visible.
    cursor: usize,
}

impl<'a> List<'a> {
    pub(super) fn new(items: &'a [String], typing: Typing, cursor: usize) -> Self {
        Self { items, ticks: None, typing, filter: String::new(), cursor }
    }

    /// A list with boxes.
    pub(super) fn with_ticks(items: &'a [String], ticks: Vec<bool>) -> Self {
        Self { ticks: Some(ticks), ..Self::new(items, Typing::Jumps, 0) }
    }

    /// Changes it by a key that is not Enter.
    pub(super) fn apply(&mut self, key: Key) {
        let visible = self.visible();
        let last = visible.len().saturating_sub(1);
        match key {
            Key::Up => self.cursor = if self.cursor == 0 { last } else { self.cursor - 1 },
            Key::Down => self.cursor = if self.cursor >= last { 0 } else { self.cursor + 1 },
            Key::Home => self.cursor = 0,
            Key::End => self.cursor = last,
            Key::Backspace => drop(self.filter.pop()),
            Key::Clear => self.filter.clear(),
            Key::Char(c) if self.typing == Typing::Filters => {
                self.filter.push(c);
                self.cursor = 0;
            }
            Key::Char('k') => self.apply(Key::Up),
            Key::Char('j') => self.apply(Key::Down),
            Key::Char(c) => self.char(c, &visible),
            _ => {}
        }
        self.cursor = self.cursor.min(self.visible().len().saturating_sub(1));
    }

    fn char(&mut self, c: char, visible: &[usize]) {
        if let Some(ticks) = &mut self.ticks {
            match c {
                ' ' => ticks[self.cursor] = !ticks[self.cursor],
                'a' => ticks.fill(true),
                'i' => ticks.iter_mut().for_each(|tick| *tick = !*tick),
                _ => {}
            }
            return;
        }
        let begins = |at: &usize| self.items[visible[*at]].to_lowercase().starts_with(&c.to_lowercase().to_string());
        let after = (self.cursor + 1..visible.len()).chain(0..=self.cursor.min(visible.len().saturating_sub(1)));
        if let Some(at) = after.into_iter().find(begins) {
            self.cursor = at;
        }
    }

    /// Index of the item under the cursor.
    pub(super) fn chosen(&self) -> Option<usize> {
        self.visible().get(self.cursor).copied()
    }

    pub(super) fn ticks(self) -> Vec<bool> {
        self.ticks.unwrap_or_default()
    }

    fn visible(&self) -> Vec<usize> {
        let wanted = self.filter.to_lowercase();
        (0..self.items.len()).filter(|index| self.items[*index].to_lowercase().contains(&wanted)).collect()
    }

    /// The lines below the question, at most `rows` of them and a line for the filter.
    pub(super) fn lines(&self, columns: usize, rows: usize, style: Style) -> Vec<String> {
        let visible = self.visible();
        let mut lines = Vec::new();
        if self.typing == Typing::Filters {
            lines.push(format!("  search: {}", self.filter));
        }
        let first = (self.cursor + 1).saturating_sub(rows).min(visible.len().saturating_sub(rows));
        for (at, index) in visible.iter().enumerate().skip(first).take(rows) {
            let is_here = at == self.cursor;
            let tick = self.ticks.as_ref().map(|ticks| if ticks[*index] { "[x] " } else { "[ ] " }).unwrap_or_default();
            let text = format!("{} {tick}{}", if is_here { ">" } else { " " }, single_line(&self.items[*index]));
            let text = ellipsis(&text, columns.max(10) - 1).into_owned();
            lines.push(if is_here { style.paint(sgr::CYAN, &text) } else { text });
        }
        if visible.is_empty() {
            lines.push("  nothing matches".to_owned());
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items() -> Vec<String> {
        ["anthropic", "openai", "groq", "google"].map(str::to_owned).to_vec()
    }

    #[test]
    fn arrows_letters_and_beginnings_move_the_cursor() {
        let items = items();
        let mut list = List::new(&items, Typing::Jumps, 0);
        for (key, expected) in [
            (Key::Down, 1),
            (Key::Char('k'), 0),
            (Key::Up, 3),
            (Key::Char('g'), 2),
            (Key::Char('g'), 3),
            (Key::Char('o'), 1),
            (Key::Char('x'), 1),
        ] {
            list.apply(key);
            assert_eq!(list.chosen(), Some(expected), "{key:?}");
        }
    }

    #[test]
    fn typing_narrows_a_search_down() {
        let items = items();
        let mut list = List::new(&items, Typing::Filters, 0);
        "GO".chars().for_each(|c| list.apply(Key::Char(c)));
        assert_eq!(list.chosen(), Some(3));
        assert_eq!(list.lines(80, 7, Style::PLAIN), ["  search: GO", "> google"]);
        list.apply(Key::Char('z'));
        assert_eq!(list.chosen(), None);
    }

    #[test]
    fn boxes_are_ticked_one_by_one_or_all_at_once() {
        let items = items();
        let mut list = List::with_ticks(&items, vec![true, false, false, false]);
        list.apply(Key::Char(' '));
        list.apply(Key::Char('i'));
        list.apply(Key::Down);
        list.apply(Key::Char(' '));
        assert_eq!(list.lines(80, 2, Style::PLAIN), ["  [x] anthropic", "> [ ] openai"]);
        list.apply(Key::Char('a'));
        assert_eq!(list.ticks(), [true; 4]);
    }
}
