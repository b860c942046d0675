//! The newest lines of an agent's log, as a conversation (scheduler.md §14).

use std::path::Path;
use std::time::{Duration, Instant};

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use super::rows::WHITE;
use crate::base::log::Entry;
use crate::base::log_files::{Filter, LogFiles, Mark, Position, Query};
use crate::base::term;
use crate::base::text::cut;
use crate::ui::log_view::conversation;

/// Lines that are kept: more than fit on any terminal.
const KEPT: usize = 200;
/// Of a line; more than fit on any terminal.
const MOST_CHARS: usize = 1000;
/// Nothing is looked for sooner after the last time.
const PAUSE: Duration = Duration::from_millis(200);
/// With colours; that is decided by whether there is a terminal UI at all.
const STYLE: term::Style = term::Style { colour: true, live: false };

/// A log that is followed.
pub(super) struct LogLines {
    files: LogFiles,
    agent: String,
    /// Behind the last entry that was read.
    position: Option<Position>,
    /// Of the file that this is in.
    mark: Option<Mark>,
    lines: Vec<Line<'static>>,
    looked: Option<Instant>,
}

impl LogLines {
    /// The log of an agent in this directory. Nothing is read yet.
    pub(super) fn of(dir: &Path, agent: &str) -> Self {
        let files = LogFiles::new(dir, agent);
        Self { files, agent: agent.to_owned(), position: None, mark: None, lines: Vec::new(), looked: None }
    }

    pub(super) fn agent(&self) -> &str {
        &self.agent
    }

    /// The newest lines, oldest first.
    pub(super) fn lines(&self) -> &[Line<'static>] {
        &self.lines
    }

    /// Reads what is new.
    pub(super) fn look(&mut self) {
        if self.looked.is_some_and(|looked| looked.elapsed() < PAUSE) {
            return;
        }
        self.looked = Some(Instant::now());
        let filter = Filter::default();
        let query = Query { limit: KEPT, filter: &filter };
        let page = match &self.position {
            Some(position) => self.files.after(position, self.mark.as_ref(), query),
            None => self.files.last(query),
        };
        // What cannot be read now may be at the next look.
        let Ok(page) = page else { return };
        self.position = page.cursor.or(self.position.take());
        self.mark = page.mark;
        let texts =
            page.entries.into_iter().flat_map(|entry| conversation(&Entry::from_stored(entry), &self.agent, STYLE));
        self.lines.extend(texts.flat_map(|text| text.split('\n').map(line).collect::<Vec<_>>()));
        self.lines.drain(..self.lines.len().saturating_sub(KEPT));
    }
}

/// A line with escape sequences for colours, which only we can have put there. What no terminal is wide enough for is left
/// out: runs write lines of any length.
fn line(text: &str) -> Line<'static> {
    let text = cut(text, MOST_CHARS);
    let mut spans = Vec::new();
    let mut style = Style::new();
    for (index, part) in text.split("\x1b[").enumerate() {
        let shown = match part.split_once('m').filter(|_| index > 0) {
            Some((codes, shown)) => {
                style = style_of(codes);
                shown
            }
            None => part,
        };
        if !shown.is_empty() {
            spans.push(Span::styled(shown.replace('\t', " "), style));
        }
    }
    Line::from(spans)
}

fn style_of(codes: &str) -> Style {
    codes.split(';').fold(Style::new(), |style, code| match code {
        "1" => style.add_modifier(Modifier::BOLD),
        "2" => style.add_modifier(Modifier::DIM),
        "31" => style.fg(Color::Red),
        "32" => style.fg(Color::Green),
        "33" => style.fg(Color::Yellow),
        "34" => style.fg(Color::Blue),
        "35" => style.fg(Color::Magenta),
        "36" => style.fg(Color::Cyan),
        "37" => style.fg(WHITE),
        "90" => style.fg(Color::DarkGray),
        _ => style,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::log::{Level, Log};

    fn texts(lines: &LogLines) -> Vec<String> {
        lines.lines().iter().map(|line| line.to_string()[10..].to_owned()).collect()
    }

    #[test]
    fn a_log_is_shown_from_its_end_and_then_followed() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::new(dir.path(), "dev");
        let mut lines = LogLines::of(dir.path(), "dev");
        lines.look();
        assert!(lines.lines().is_empty());
        let say = |text: &str| log.write(&Entry::new(Level::Info, "output").field("text", text));
        say("one\ntwo");
        log.write(&Entry::new(Level::Info, "event"));
        for number in 0..KEPT {
            say(&format!("line {number}"));
        }
        lines.looked = None;
        lines.look();
        assert_eq!(lines.lines().len(), KEPT);
        assert_eq!(texts(&lines)[KEPT - 1], "line 199");
        say("last\x1b[2J");
        lines.looked = None;
        lines.look();
        assert_eq!(texts(&lines)[KEPT - 2..], ["line 199", "last\u{FFFD}[2J"]);
        say(&"x".repeat(100_000));
        lines.looked = None;
        lines.look();
        assert!(lines.lines().last().unwrap().width() <= MOST_CHARS);
    }

    #[test]
    fn colours_become_styles() {
        let line = line("a \x1b[1;31mred\x1b[0m b");
        let spans: Vec<_> = line.spans.iter().map(|span| (span.content.as_ref(), span.style)).collect();
        let red = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
        assert_eq!(spans, [("a ", Style::new()), ("red", red), (" b", Style::new())]);
    }
}
