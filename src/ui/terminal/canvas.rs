//! A frame below the prompt that is rewritten in place: which bytes turn the frame on the screen into another one.
//!
//! Nothing is known of where on the screen it stands: the cursor rests on its last row, in the first column, and all moves
//! are relative to that, so that whatever the terminal does with its rows, the frame stays together. Rows that are the same
//! are not written again, and a whole frame is one write: nothing flickers.

use std::fmt::Write as _;

use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};
use ratatui::text::Span;

/// What the terminal is told before the first frame: no cursor, what is pasted to be marked, and nothing below the cursor.
pub(super) const BEGIN: &str = "\x1b[?25l\x1b[?2004h\x1b[J";
/// What it is told after the last one.
pub(super) const END: &str = "\r\n\x1b[?2004l\x1b[?25h";
/// Long lines are cut, also when the terminal takes a character for wider than we do.
const CUT: &str = "\x1b[?7l";
const WRAP: &str = "\x1b[?7h";

/// What is on the screen.
#[derive(Default)]
pub(super) struct Canvas {
    /// `None`: nothing, and the cursor is where the first row is to be.
    shown: Option<Buffer>,
}

impl Canvas {
    /// Bytes that show this frame in place of the last one; none when it is the same.
    pub(super) fn draw(&mut self, frame: Buffer) -> String {
        let height = frame.area.height;
        let mut pen = Pen::default();
        match &self.shown {
            Some(shown) if *shown == frame => return String::new(),
            Some(shown) => {
                pen.at = shown.area.height.saturating_sub(1);
                pen.last = pen.at;
                let is_same_width = shown.area.width == frame.area.width;
                for row in 0..height {
                    let before = if row < shown.area.height { row_of(shown, row) } else { &[] };
                    let cells = row_of(&frame, row);
                    if before != cells || !is_same_width {
                        pen.go_to(row);
                        pen.write(cells, length(before));
                    }
                }
                if height < shown.area.height {
                    pen.go_to(height);
                    pen.text.push_str("\r\x1b[J");
                }
            }
            None => (0..height).for_each(|row| {
                pen.go_to(row);
                pen.write(row_of(&frame, row), 0);
            }),
        }
        pen.go_to(height.saturating_sub(1));
        self.shown = Some(frame);
        format!("{CUT}{}\r{WRAP}", pen.text)
    }

    /// Bytes that take the frame away, so that something else can be written in its place.
    pub(super) fn erase(&mut self) -> String {
        let Some(shown) = self.shown.take() else { return String::new() };
        format!("{}\r\x1b[J", upwards(shown.area.height.saturating_sub(1)))
    }

    /// The same after the terminal has got this size. Most terminals wrap what has become too long for a narrower one.
    pub(super) fn erase_resized(&mut self, columns: u16, rows: u16) -> String {
        let Some(shown) = self.shown.take() else { return String::new() };
        let above = (0..shown.area.height.saturating_sub(1)).map(|row| {
            let length = u16::try_from(length(row_of(&shown, row))).unwrap_or(u16::MAX);
            length.div_ceil(columns.max(1)).max(1)
        });
        let up = above.sum::<u16>().min(rows.saturating_sub(1));
        format!("{}\r\x1b[J", upwards(up))
    }
}

/// Moves over the frame and writes rows.
#[derive(Default)]
struct Pen {
    text: String,
    at: u16,
    /// The last row that the terminal has.
    last: u16,
}

impl Pen {
    fn go_to(&mut self, row: u16) {
        self.text += &upwards(self.at.saturating_sub(row));
        let down = row.min(self.last).saturating_sub(self.at);
        if down > 0 {
            let _ = write!(self.text, "\x1b[{down}B");
        }
        (self.last..row).for_each(|_| self.text.push_str("\r\n"));
        self.last = self.last.max(row);
        self.at = row;
    }

    /// Writes a row in place of one of this length. A longer one is cleared as a whole: to some terminals a row of which
    /// only the end was cleared is as long as it ever was, which counts when it is wrapped.
    fn write(&mut self, cells: &[Cell], before: usize) {
        let now = length(cells);
        self.text.push_str(if now < before { "\r\x1b[2K" } else { "\r" });
        let mut style = String::new();
        let mut skipped = 0;
        for cell in &cells[..now] {
            // Covered by a wide character.
            if skipped > 0 {
                skipped -= 1;
                continue;
            }
            let wanted = sgr(cell);
            if wanted != style {
                let _ = write!(self.text, "\x1b[0{wanted}m");
                style = wanted;
            }
            self.text.push_str(cell.symbol());
            skipped = width(cell.symbol()).saturating_sub(1);
        }
        if !style.is_empty() {
            self.text.push_str("\x1b[0m");
        }
    }
}

fn upwards(rows: u16) -> String {
    if rows == 0 { String::new() } else { format!("\x1b[{rows}A") }
}

fn row_of(buffer: &Buffer, row: u16) -> &[Cell] {
    let width = usize::from(buffer.area.width);
    &buffer.content()[usize::from(row) * width..][..width]
}

/// Cells up to the last one that is not blank. The background is all that shows of a blank's style.
fn length(cells: &[Cell]) -> usize {
    let is_blank = |cell: &Cell| cell.symbol() == " " && cell.bg == Color::Reset;
    cells.iter().rposition(|cell| !is_blank(cell)).map_or(0, |last| last + width(cells[last].symbol()).max(1))
}

fn width(symbol: &str) -> usize {
    if symbol.len() == 1 { 1 } else { Span::raw(symbol).width() }
}

/// Parameters of the escape sequence that gives a cell's style, each with a `;` before it.
fn sgr(cell: &Cell) -> String {
    let mut codes = String::new();
    for (modifier, code) in [(Modifier::BOLD, ";1"), (Modifier::DIM, ";2")] {
        if cell.modifier.contains(modifier) {
            codes.push_str(code);
        }
    }
    for (colour, base) in [(cell.fg, 30), (cell.bg, 40)] {
        if let Some(number) = number(colour) {
            let _ = write!(codes, ";{}", base + number);
        }
    }
    codes
}

fn number(colour: Color) -> Option<u8> {
    Some(match colour {
        Color::Red => 1,
        Color::Green => 2,
        Color::Yellow => 3,
        Color::Blue => 4,
        Color::Magenta => 5,
        Color::Cyan => 6,
        // What the standard calls white.
        Color::Gray => 7,
        Color::DarkGray => 60,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ratatui::layout::Rect;
    use ratatui::style::Style;
    use vt100::Parser;

    use super::*;

    const COLUMNS: u16 = 12;
    const ROWS: u16 = 8;

    fn buffer(width: u16, lines: &[(String, Style)]) -> Buffer {
        let mut buffer = Buffer::empty(Rect::new(0, 0, width, u16::try_from(lines.len()).unwrap()));
        for (row, (text, style)) in (0..).zip(lines) {
            buffer.set_stringn(0, row, text, usize::from(width), *style);
        }
        buffer
    }

    fn plain(width: u16, lines: &[&str]) -> Buffer {
        buffer(width, &lines.iter().map(|line| ((*line).to_owned(), Style::new())).collect::<Vec<_>>())
    }

    /// The rows of a screen down to the one with the cursor.
    fn screen(parser: &Parser) -> Vec<String> {
        let (row, column) = parser.screen().cursor_position();
        assert_eq!(column, 0, "the cursor rests in the first column");
        parser.screen().rows(0, COLUMNS).take(usize::from(row) + 1).map(|line| line.trim_end().to_owned()).collect()
    }

    #[test]
    fn what_stood_above_stays_and_what_is_said_meanwhile_joins_it() {
        let mut parser = Parser::new(ROWS, COLUMNS, 0);
        let mut canvas = Canvas::default();
        parser.process(b"$ al start\r\n");
        parser.process(canvas.draw(plain(COLUMNS, &["", "one", "two"])).as_bytes());
        assert_eq!(screen(&parser), ["$ al start", "", "one", "two"]);
        parser.process(format!("{}said\r\n", canvas.erase()).as_bytes());
        parser.process(canvas.draw(plain(COLUMNS, &["", "three"])).as_bytes());
        assert_eq!(screen(&parser), ["$ al start", "said", "", "three"]);
        assert_eq!(canvas.draw(plain(COLUMNS, &["", "three"])), "");
        parser.process(END.as_bytes());
        assert_eq!(screen(&parser), ["$ al start", "said", "", "three", ""]);
    }

    #[test]
    fn rows_that_a_narrower_terminal_wraps_go_with_the_frame() {
        let mut canvas = Canvas::default();
        canvas.draw(plain(12, &["0123456789", "", "0123456789", "01234567"]));
        // 3 + 1 + 3 rows stand above the last one.
        assert_eq!(canvas.erase_resized(4, 24), "\x1b[7A\r\x1b[J");
        canvas.draw(plain(12, &["0123456789", "", "0123456789", "01234567"]));
        assert_eq!(canvas.erase_resized(4, 5), "\x1b[4A\r\x1b[J");
        assert_eq!(canvas.erase_resized(4, 5), "");
    }

    fn line() -> impl Strategy<Value = (String, Style)> {
        let style = prop_oneof![
            Just(Style::new()),
            Just(Style::new().fg(Color::Red)),
            Just(Style::new().fg(Color::Gray).bg(Color::Blue).add_modifier(Modifier::BOLD)),
        ];
        (prop_oneof![Just(String::new()), "[a-c ]{0,14}", "[ab語é]{1,9}"], style)
    }

    proptest! {
        #[test]
        fn any_frame_is_turned_into_any_other_one(frames in prop::collection::vec(prop::collection::vec(line(), 1..8), 1..6)) {
            let mut parser = Parser::new(ROWS, COLUMNS, 0);
            parser.process(b"$\r\n");
            let mut canvas = Canvas::default();
            let mut above = vec!["$".to_owned()];
            for lines in frames {
                let frame = buffer(COLUMNS, &lines);
                parser.process(canvas.draw(frame.clone()).as_bytes());
                let height = usize::from(frame.area.height);
                if height == usize::from(ROWS) {
                    above.clear();
                }
                let wanted: Vec<String> = (0..frame.area.height).map(|row| {
                    let mut text = String::new();
                    let mut skipped = 0;
                    for cell in row_of(&frame, row) {
                        if skipped == 0 {
                            text.push_str(cell.symbol());
                            skipped = width(cell.symbol());
                        }
                        skipped -= 1;
                    }
                    text.trim_end().to_owned()
                }).collect();
                prop_assert_eq!(screen(&parser), [&above[..], &wanted[..]].concat());
                for (row, cells) in (above.len()..).zip((0..frame.area.height).map(|row| row_of(&frame, row))) {
                    for (column, cell) in cells.iter().enumerate() {
                        let shown = parser.screen().cell(row as u16, column as u16).unwrap();
                        let blue = shown.bgcolor() == vt100::Color::Idx(4);
                        prop_assert_eq!((blue, shown.bold()), (cell.bg == Color::Blue, cell.modifier.contains(Modifier::BOLD)));
                    }
                }
            }
        }
    }
}
