//! Where a person writes messages and answers questions in a conversation, at a terminal. Without cursor control
//! (`NO_COLOR`, `TERM=dumb`) a message is shown in one line that scrolls, and no escape sequence is written.

use std::io::{PipeReader, Write};
use std::sync::Arc;

use anyhow::Result;

use super::keyboard::{Key, Keyboard};
use super::raw_mode::{CtrlC, RawMode};
use super::{interactive, put};
use crate::base::term::{Style, height, sgr, width};
use crate::base::text::{columns, printable};

mod draft;
mod layout;
mod modes;

use draft::{Draft, Reaction};
use layout::{Layout, PROMPT, lay_out, window};
use modes::Modes;

/// What came of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typed {
    Message(String),
    /// Ctrl-C.
    Interrupted,
    /// Ctrl-D: there will be no more.
    Ended,
}

/// The person at the terminal. As long as it lives, nothing that is typed shows by itself, and Ctrl-C is a signal except
/// while something is read.
pub struct Composer {
    keyboard: Keyboard,
    out: Box<dyn Write>,
    style: Style,
    modes: Arc<Modes>,
    /// Messages of this conversation, oldest first.
    history: Vec<String>,
    /// Holds as long as nothing is read.
    quiet: RawMode,
}

impl Composer {
    /// Takes the terminal over. What comes from the other end of `wake` is as if it was typed; when that is closed, nothing
    /// is waited for any more.
    ///
    /// # Errors
    /// When the terminal cannot be taken over.
    pub fn new(wake: PipeReader) -> Result<Self> {
        let (mut out, style) = interactive();
        let modes = if style.live { Modes::of(&|name| std::env::var(name).ok()) } else { Modes::default() };
        let modes = Arc::new(modes);
        let ended = Arc::clone(&modes);
        let quiet = RawMode::enter(CtrlC::Signal, move || ended.end())?;
        put(&mut *out, modes.begin())?;
        Ok(Self { keyboard: Keyboard::waking(wake), out, style, modes, history: Vec::new(), quiet })
    }

    /// Has a message typed.
    ///
    /// # Errors
    /// [`crate::base::prompt::Interrupted`] when the terminal is gone or is not waited for any more.
    pub fn read(&mut self) -> Result<Typed> {
        // It was meant for what is over.
        self.keyboard.forget_woken();
        put(&mut *self.out, self.modes.begin_message())?;
        let typed = self.edit();
        put(&mut *self.out, self.modes.end_message())?;
        if let Ok(Typed::Message(text)) = &typed
            && self.history.last() != Some(text)
        {
            self.history.push(text.clone());
        }
        typed
    }

    fn edit(&mut self) -> Result<Typed> {
        let Self { keyboard, out, style, history, .. } = self;
        let mut keys = keyboard.open()?;
        let mut draft = Draft::default();
        let mut screen = Screen { style: *style, row: 0, shown: 0 };
        loop {
            // Of what came at once, a paste for example, only the end is drawn.
            if !keys.has_next() {
                put(&mut **out, &screen.draw(&draft, draft.cursor()))?;
            }
            let typed = match draft.apply(keys.next()?, history) {
                Reaction::Edited => continue,
                Reaction::Sent => Typed::Message(draft.text()),
                Reaction::Interrupted => Typed::Interrupted,
                Reaction::Ended => Typed::Ended,
            };
            let mark = if typed == Typed::Interrupted { "^C" } else { "" };
            let end = screen.draw(&draft, draft.chars().len());
            put(&mut **out, &format!("{end}{mark}\n"))?;
            return Ok(typed);
        }
    }

    /// Asks for one of several answers, each given by its key; `None` for Ctrl-C. What was typed before is no answer, nor is
    /// what is pasted or comes at once with something else.
    ///
    /// # Errors
    /// As [`Composer::read`].
    pub fn ask(&mut self, question: &str, answers: &[(char, &str)]) -> Result<Option<usize>> {
        let Self { keyboard, out, style, .. } = self;
        keyboard.forget_typed_ahead();
        let mut keys = keyboard.open()?;
        put(&mut **out, &format!("{} ", style.paint(sgr::BOLD, &printable(question))))?;
        loop {
            let mut burst = vec![keys.next_typed()?];
            while keys.has_next() {
                burst.push(keys.next_typed()?);
            }
            let answer = match key_of_answer(&burst) {
                Key::Interrupt => None,
                Key::Char(typed) => match answers.iter().position(|(key, _)| typed.eq_ignore_ascii_case(key)) {
                    Some(index) => Some(index),
                    None => continue,
                },
                _ => continue,
            };
            let word = answer.map_or("^C", |index| answers[index].1);
            put(&mut **out, &format!("{word}\n"))?;
            return Ok(answer);
        }
    }
}

impl Drop for Composer {
    fn drop(&mut self) {
        if self.quiet.leave() {
            let _ = put(&mut *self.out, &self.modes.end());
        }
    }
}

/// The key that counts of those that came at once. One that comes with others was pasted, or typed without a look at the
/// question; but Ctrl-C can only be meant.
fn key_of_answer(burst: &[Key]) -> Key {
    match *burst {
        [key] => key,
        _ if burst.contains(&Key::Interrupt) => Key::Interrupt,
        _ => Key::Other,
    }
}

/// What is on the screen of a message.
struct Screen {
    style: Style,
    /// Where the cursor is, counted from the first row of the message.
    row: usize,
    /// Most columns that were ever shown, where they cannot be cleared.
    shown: usize,
}

impl Screen {
    /// What has to be written to show the message.
    fn draw(&mut self, draft: &Draft, cursor: usize) -> String {
        if self.style.live { self.rows(draft, cursor) } else { self.line(draft, cursor) }
    }

    fn rows(&mut self, draft: &Draft, cursor: usize) -> String {
        let Layout { rows, row, before } = lay_out(draft.chars(), cursor, width(), height().saturating_sub(1));
        let back = if self.row > 0 { format!("\x1b[{}A", self.row) } else { String::new() };
        let below = rows.len() - 1 - row;
        let up = if below > 0 { format!("\x1b[{below}A") } else { String::new() };
        self.row = row;
        format!("{back}\r\x1b[J{}{up}\r{}", self.painted(&rows.join("\n")), self.painted(&before))
    }

    fn line(&mut self, draft: &Draft, cursor: usize) -> String {
        let Layout { rows, before, .. } = window(draft.chars(), cursor, width());
        let row = rows.concat();
        let columns: usize = row.chars().map(columns).sum();
        self.shown = self.shown.max(columns);
        format!("\r{row}{}\r{before}", " ".repeat(self.shown - columns))
    }

    fn painted(&self, text: &str) -> String {
        match text.strip_prefix(PROMPT) {
            Some(rest) => format!("{}{rest}", self.style.paint(sgr::BOLD, PROMPT)),
            None => text.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(text: &str) -> Draft {
        let mut draft = Draft::default();
        for c in text.chars() {
            draft.apply(if c == '\n' { Key::NewLine } else { Key::Char(c) }, &[]);
        }
        draft
    }

    #[test]
    fn a_key_that_comes_with_others_is_no_answer_unless_it_is_ctrl_c() {
        assert_eq!(key_of_answer(&[Key::Char('y')]), Key::Char('y'));
        assert_eq!(key_of_answer(&[Key::Char('y'), Key::Enter]), Key::Other);
        assert_eq!(key_of_answer(&[Key::Char('n'), Key::Char('a')]), Key::Other);
        assert_eq!(key_of_answer(&[Key::Char('y'), Key::Interrupt]), Key::Interrupt);
    }

    #[test]
    fn a_message_is_drawn_over_what_was_there() {
        let mut screen = Screen { style: Style { colour: false, live: true }, row: 0, shown: 0 };
        assert_eq!(screen.draw(&draft("a\nb"), 3), "\r\x1b[J> a\n  b\r  b");
        assert_eq!(screen.draw(&draft("a\nb"), 0), "\x1b[1A\r\x1b[J> a\n  b\x1b[1A\r> ");
        assert_eq!(screen.draw(&draft("a"), 1), "\r\x1b[J> a\r> a");
    }

    #[test]
    fn without_cursor_control_it_is_overwritten_in_its_line() {
        let mut screen = Screen { style: Style::PLAIN, row: 0, shown: 0 };
        assert_eq!(screen.draw(&draft("ab\nc"), 4), "\r> ab c\r> ab c");
        assert_eq!(screen.draw(&draft("x"), 0), "\r> x   \r> ");
    }
}
