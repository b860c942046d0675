//! Questions on a terminal (cli-config.md §2.5). Without cursor control (`NO_COLOR`, `TERM=dumb`) lists are numbered and
//! answered with a number, and no escape sequence is written.

use std::io::Write;

use anyhow::Result;

use crate::base::Secret;
use crate::base::prompt::{Check, Preset, Prompter};
use crate::base::term::{Style, height, sgr, width};
use crate::base::text::printable;
use crate::ui::keyboard::{Key, Keyboard};
use crate::ui::{interactive, put};

mod line;
mod list;

use line::Line;
use list::{List, Typing};

/// Rows of a list that is searched.
const SEARCH_ROWS: usize = 7;
/// Most rows of other lists.
const LIST_ROWS: usize = 16;

/// The person at the terminal.
pub struct Terminal {
    keyboard: Keyboard,
    out: Box<dyn Write>,
    style: Style,
}

impl Terminal {
    /// Questions go to stdout, or to stderr when stdout is no terminal.
    pub fn new() -> Self {
        let (out, style) = interactive();
        Self { keyboard: Keyboard::new(), out, style }
    }

    fn write(&mut self, text: &str) -> Result<()> {
        put(&mut *self.out, text)
    }

    /// Has a line typed until it passes the check.
    fn line(&mut self, message: &str, hint: &str, mask: Option<char>, check: Check<'_>) -> Result<String> {
        let hint = if hint.is_empty() { String::new() } else { format!(" ({hint})") };
        let message = printable(message).into_owned();
        let plain = format!("{message}{hint} ");
        // A question that leaves no room for an answer has a line of its own.
        let is_long = plain.chars().count() > width() / 2;
        let prompt = if is_long { "> ".to_owned() } else { plain };
        loop {
            if is_long {
                let question = self.style.paint(sgr::BOLD, &message);
                self.write(&format!("{question}{hint}\n"))?;
            }
            let text = self.type_line(&prompt, mask)?;
            match check(&text) {
                Ok(()) => return Ok(text),
                Err(problem) => self.write(&format!("  {}\n", printable(&problem)))?,
            }
        }
    }

    fn type_line(&mut self, prompt: &str, mask: Option<char>) -> Result<String> {
        let room = width().saturating_sub(prompt.chars().count());
        let mut line = Line::default();
        let mut longest = 0;
        let shown_prompt = self.style.paint(sgr::BOLD, prompt);
        let mut keys = self.keyboard.open()?;
        put(&mut *self.out, &shown_prompt)?;
        loop {
            let key = keys.next_of_answer()?;
            if key == Key::Enter {
                put(&mut *self.out, "\n")?;
                return Ok(line.text());
            }
            line.apply(key);
            let (shown, cursor) = line.window(room, mask);
            let count = shown.chars().count();
            longest = longest.max(count);
            let rest = " ".repeat(longest - count);
            let before: String = shown.chars().take(cursor).collect();
            put(&mut *self.out, &format!("\r{shown_prompt}{shown}{rest}\r{shown_prompt}{before}"))?;
        }
    }

    /// Shows a list until Enter is pressed; `answer` is what is then left of it.
    fn list(
        &mut self,
        message: &str,
        mut list: List<'_>,
        rows: usize,
        answer: fn(&List<'_>) -> bool,
    ) -> Result<Decided> {
        let message = printable(message).into_owned();
        let rows = rows.min(height().saturating_sub(3)).max(1);
        let mut drawn = 0;
        let mut keys = self.keyboard.open()?;
        loop {
            let mut text = above(drawn);
            text += &format!("{}\n", self.style.paint(sgr::BOLD, &message));
            let lines = list.lines(width(), rows, self.style);
            drawn = lines.len() + 1;
            lines.iter().for_each(|line| text += &format!("{line}\n"));
            put(&mut *self.out, &text)?;
            let key = keys.next_of_answer()?;
            if key != Key::Enter {
                list.apply(key);
            } else if answer(&list) {
                put(&mut *self.out, &above(drawn))?;
                return Ok(Decided { chosen: list.chosen(), ticks: list.ticks() });
            }
        }
    }

    fn pick(&mut self, message: &str, items: &[String], list: List<'_>, rows: usize) -> Result<usize> {
        let chosen = self.list(message, list, rows, |list| list.chosen().is_some())?.chosen.expect("one is chosen");
        let answer = format!("{} {}\n", self.style.paint(sgr::BOLD, &printable(message)), printable(&items[chosen]));
        self.write(&answer)?;
        Ok(chosen)
    }

    /// The items with numbers, for terminals without cursor control.
    fn numbered(&mut self, message: &str, items: impl Iterator<Item = String>) -> Result<()> {
        let lines: String =
            items.enumerate().map(|(at, item)| format!("  {:>2}) {}\n", at + 1, printable(&item))).collect();
        self.write(&format!("{}\n{lines}", printable(message)))
    }

    fn pick_number(&mut self, message: &str, items: &[String], preselected: Option<usize>) -> Result<usize> {
        self.numbered(message, items.iter().cloned())?;
        let default = preselected.map(|at| (at + 1).to_string()).unwrap_or_default();
        let count = items.len();
        let check = |text: &str| match number(text, count) {
            Some(_) => Ok(()),
            None if text.trim().is_empty() && preselected.is_some() => Ok(()),
            None => Err(format!("Please enter a number from 1 to {count}.")),
        };
        let text = self.line("Number:", &default, None, &check)?;
        Ok(number(&text, count).or(preselected).expect("it was checked"))
    }
}

impl Default for Terminal {
    fn default() -> Self {
        Self::new()
    }
}

/// What a list was left with.
struct Decided {
    chosen: Option<usize>,
    ticks: Vec<bool>,
}

/// Goes back over so many lines and clears them.
fn above(lines: usize) -> String {
    if lines == 0 { String::new() } else { format!("\x1b[{lines}A\r\x1b[J") }
}

/// An index from what is counted from one.
fn number(text: &str, count: usize) -> Option<usize> {
    text.trim().parse::<usize>().ok().filter(|number| (1..=count).contains(number)).map(|number| number - 1)
}

impl Prompter for Terminal {
    fn say(&mut self, text: &str) -> Result<()> {
        self.write(&format!("{}\n", printable(text)))
    }

    fn select(&mut self, message: &str, items: &[String], preselected: usize) -> Result<usize> {
        if !self.style.live {
            return self.pick_number(message, items, Some(preselected));
        }
        self.pick(message, items, List::new(items, Typing::Jumps, preselected), LIST_ROWS)
    }

    fn input(&mut self, message: &str, default: &str, check: Check<'_>) -> Result<String> {
        let or_default = |text: &str| if text.trim().is_empty() { default.to_owned() } else { text.trim().to_owned() };
        let text = self.line(message, default, None, &|text| check(&or_default(text)))?;
        Ok(or_default(&text))
    }

    fn password(&mut self, message: &str, check: Check<'_>) -> Result<Secret> {
        let text = self.line(message, "", Some('*'), &|text| check(text.trim()))?;
        Ok(Secret::new(text.trim()))
    }

    fn confirm(&mut self, message: &str, preset: Preset) -> Result<bool> {
        let hint = if preset == Preset::Yes { "Y/n" } else { "y/N" };
        let meaning = |text: &str| match text.trim().to_ascii_lowercase().as_str() {
            "" => Some(preset == Preset::Yes),
            "y" | "yes" => Some(true),
            "n" | "no" => Some(false),
            _ => None,
        };
        let check = |text: &str| meaning(text).map(drop).ok_or_else(|| "Please answer y or n.".to_owned());
        let text = self.line(message, hint, None, &check)?;
        Ok(meaning(&text).expect("it was checked"))
    }

    fn checkbox(&mut self, message: &str, items: &[(String, bool)]) -> Result<Vec<bool>> {
        let texts: Vec<String> = items.iter().map(|(text, _)| text.clone()).collect();
        let ticks: Vec<bool> = items.iter().map(|(_, ticked)| *ticked).collect();
        if self.style.live {
            let message = format!("{message} (space: tick, a: all, i: invert, enter: done)");
            return Ok(self.list(&message, List::with_ticks(&texts, ticks), LIST_ROWS, |_| true)?.ticks);
        }
        let marked = items.iter().map(|(text, ticked)| format!("[{}] {text}", if *ticked { 'x' } else { ' ' }));
        self.numbered(message, marked)?;
        let numbers = |text: &str| -> Option<Vec<usize>> {
            text.split([',', ' ']).filter(|part| !part.is_empty()).map(|part| number(part, items.len())).collect()
        };
        let check =
            |text: &str| numbers(text).map(drop).ok_or_else(|| "Please enter numbers from the list.".to_owned());
        let text = self.line("Numbers to change:", "", None, &check)?;
        let changed = numbers(&text).expect("it was checked");
        Ok(ticks.iter().enumerate().map(|(at, ticked)| *ticked != changed.contains(&at)).collect())
    }

    fn search(&mut self, message: &str, items: &[String]) -> Result<usize> {
        if !self.style.live {
            return self.pick_number(message, items, None);
        }
        self.pick(message, items, List::new(items, Typing::Filters, 0), SEARCH_ROWS)
    }

    fn paste(&mut self, message: &str, is_last: fn(&str) -> bool) -> Result<Secret> {
        let mut text = String::new();
        let mut line = Line::default();
        let mut keys = self.keyboard.open()?;
        put(&mut *self.out, &format!("{}\n", printable(message)))?;
        loop {
            match keys.next_of_answer()? {
                Key::Enter => {
                    let typed = line.text();
                    text += &format!("{typed}\n");
                    if is_last(&typed) {
                        return Ok(Secret::new(text));
                    }
                    line = Line::default();
                }
                key => line.apply(key),
            }
        }
    }
}
