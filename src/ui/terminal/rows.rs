//! Rows of a frame, and which of them are left out of a terminal that is too small for all. Pure.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

/// What the standard calls white; the library has this name for it.
pub(super) const WHITE: Color = Color::Gray;
pub(super) const PLAIN: Style = Style::new();
pub(super) const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
pub(super) const DIM: Style = Style::new().add_modifier(Modifier::DIM);

/// Width of a rule, in characters.
const RULE_WIDTH: usize = 50;

/// When a row is left out: those of the first kind first, of equals the upper ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// One of several lines that go on and on.
    Passing,
    /// Heading and rule of those; they go with the last one.
    Pane,
    Address,
    Blank,
    Rule,
    Notice,
    Title,
    /// Never left out.
    Kept,
}

/// A line of a frame.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) line: Line<'static>,
    pub(super) rank: Rank,
    pub(super) is_selected: bool,
}

impl Row {
    pub(super) fn new(rank: Rank, line: impl Into<Line<'static>>) -> Self {
        Self { line: line.into(), rank, is_selected: false }
    }

    pub(super) fn styled(rank: Rank, text: impl Into<String>, style: Style) -> Self {
        Self::new(rank, Span::styled(text.into(), style))
    }

    pub(super) fn blank() -> Self {
        Self::new(Rank::Blank, "")
    }

    pub(super) fn rule() -> Self {
        Self::styled(Rank::Rule, "─".repeat(RULE_WIDTH), DIM)
    }
}

/// Leaves out rows above and below something until that has `wanted` of all rows, or nothing more can go. Gives the number
/// of rows that are left for it.
pub(super) fn make_room(above: &mut Vec<Row>, below: &mut Vec<Row>, all: usize, wanted: usize) -> usize {
    loop {
        let left = all.saturating_sub(above.len() + below.len());
        let first = above.iter().chain(below.iter()).map(|row| row.rank).min();
        let Some(rank) = first.filter(|rank| left < wanted && *rank < Rank::Kept) else { return left };
        for rows in [&mut *above, &mut *below] {
            if let Some(index) = rows.iter().position(|row| row.rank == rank) {
                rows.remove(index);
                break;
            }
        }
        if !below.iter().any(|row| row.rank == Rank::Passing) {
            below.retain(|row| row.rank != Rank::Pane);
        }
    }
}

/// The rows as cells; what is too wide or too much is cut.
pub(super) fn paint(rows: &[Row], width: u16, height: u16) -> Buffer {
    let rows = &rows[..rows.len().min(usize::from(height))];
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, u16::try_from(rows.len()).unwrap_or(height)));
    for (y, row) in (0..).zip(rows) {
        buffer.set_line(0, y, &row.line, width);
        if row.is_selected {
            let style = Style::new().fg(WHITE).bg(Color::Blue).remove_modifier(Modifier::DIM);
            buffer.set_style(Rect::new(0, y, width, 1), style);
        }
    }
    buffer
}
