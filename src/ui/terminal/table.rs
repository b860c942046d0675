//! The table of agents: of many the ones around the selected one (scheduler.md §11.2). Pure.

use std::ops::Range;
use std::time::Duration;

use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};

use super::format;
use super::rows::{BOLD, DIM, PLAIN, Rank, Row, WHITE};
use crate::base::clock::UnixMs;
use crate::base::text::{cut, single_line};
use crate::model::status::{AgentState, AgentStatus};

/// Cells of a row: mark and name, state, enabled, last run, usage, next run.
const CELLS: usize = 6;
/// The first cell that is a number.
const FIRST_NUMBER: usize = 3;
/// Widths of all columns but the last one, where there is room. That of names, the mark included, is a least one.
const WIDTHS: [usize; CELLS - 1] = [12, 16, 10, 30, 25];
/// What they are narrowed to before anything is left out, unless their cells need more: so that they do not move whenever
/// a time gets a digit more.
const NARROW: [usize; CELLS - 1] = [12, 9, 9, 21, 18];
/// Blanks between narrowed columns.
const GAP: usize = 2;
/// Longest text below an agent, in characters.
const DETAIL_CHARS: usize = 120;

/// The rows of the agents that are shown.
pub(super) struct Table {
    pub(super) rows: Vec<Row>,
    /// Agents above and below them.
    pub(super) hidden: (usize, usize),
}

/// Rows that all agents would take.
pub(super) fn height(agents: &[&AgentStatus]) -> usize {
    agents.iter().map(|agent| height_of(agent)).sum()
}

/// The part of the table that fits into so many rows and has the selected agent in it.
pub(super) fn table(agents: &[&AgentStatus], selected: usize, room: usize, columns: u16, now: UnixMs) -> Table {
    let shown = window(agents, selected, room);
    let longest = agents.iter().map(|agent| agent.name.chars().count()).max().unwrap_or(0);
    let visible = || agents.iter().enumerate().take(shown.end).skip(shown.start);
    let cells: Vec<Cells> = visible().map(|(index, agent)| cells(agent, index == selected, now)).collect();
    let columns = usize::from(columns);
    let widths = widths(&cells, longest, columns);
    let mut rows = Vec::new();
    for ((index, agent), cells) in visible().zip(cells) {
        rows.push(Row { is_selected: index == selected, ..Row::new(Rank::Kept, line(cells, widths, columns)) });
        rows.extend(detail(agent));
    }
    rows.truncate(room);
    Table { rows, hidden: (shown.start, agents.len() - shown.end) }
}

fn height_of(agent: &AgentStatus) -> usize {
    if detail_text(agent).is_some() { 2 } else { 1 }
}

/// The agents around the selected one that fit, as many above as below it where there are enough.
fn window(agents: &[&AgentStatus], selected: usize, room: usize) -> Range<usize> {
    let Some(agent) = agents.get(selected) else { return 0..0 };
    let mut shown = selected..selected + 1;
    let mut left = room.saturating_sub(height_of(agent));
    let mut takes = |index: Option<usize>| {
        let needed = index.and_then(|index| agents.get(index)).map(|agent| height_of(agent));
        let fits = needed.is_some_and(|needed| needed <= left);
        if fits {
            left -= needed.unwrap_or(0);
        }
        fits
    };
    loop {
        let below = takes(Some(shown.end));
        shown.end += usize::from(below);
        let above = takes(shown.start.checked_sub(1));
        shown.start -= usize::from(above);
        if !below && !above {
            return shown;
        }
    }
}

/// Texts of a row and how they look.
type Cells = [(String, Style); CELLS];

fn cells(agent: &AgentStatus, is_selected: bool, now: UnixMs) -> Cells {
    let mark = if is_selected { "▶ " } else { "  " };
    let (state, colour) = state(agent);
    let (enabled, enabled_colour) = if agent.enabled { ("Enabled", Color::Green) } else { ("Disabled", Color::Yellow) };
    let usage = agent.last_run_usage.map(format::usage).unwrap_or_default();
    let next = agent.next_run_at.map(|at| format!("Next: {}", format::until(at, now))).unwrap_or_default();
    [
        (format!("{mark}{}", single_line(&agent.name)), BOLD),
        (state, PLAIN.fg(colour)),
        (enabled.to_owned(), PLAIN.fg(enabled_colour)),
        (last(agent, now), DIM),
        (usage, DIM),
        (next, DIM),
    ]
}

/// Widths of the columns in so many columns of a terminal: the usual ones, or narrower ones when those do not fit.
fn widths(rows: &[Cells], longest_name: usize, columns: usize) -> [usize; CELLS - 1] {
    let longest = |cell: usize| rows.iter().map(|row| row[cell].0.chars().count()).max().unwrap_or(0);
    let mut widths = WIDTHS;
    widths[0] = widths[0].max(longest_name + 3);
    if widths.iter().sum::<usize>() + longest(CELLS - 1) > columns {
        for (cell, width) in widths.iter_mut().enumerate() {
            *width = (*width).min(NARROW[cell].max(longest(cell) + GAP));
        }
    }
    widths
}

/// A row. A number that does not fit as a whole is left out, with everything behind it: half of it would be another one.
fn line(cells: Cells, widths: [usize; CELLS - 1], columns: usize) -> Line<'static> {
    let mut spans = Vec::new();
    let mut begin = 0;
    for (index, (text, style)) in cells.into_iter().enumerate() {
        let width = widths.get(index).copied();
        let text = width.map_or(text.as_str(), |width| cut(&text, width.saturating_sub(1))).to_owned();
        if index >= FIRST_NUMBER && begin + text.chars().count() > columns {
            break;
        }
        let width = width.unwrap_or_default();
        spans.push(Span::styled(format!("{text:width$}"), style));
        begin += width;
    }
    Line::from(spans)
}

fn state(agent: &AgentStatus) -> (String, Color) {
    let scale = agent.scale;
    match agent.state {
        AgentState::Running if scale > 1 => (format!("Running {}/{scale}", agent.running_count), Color::Green),
        AgentState::Running => ("Running".to_owned(), Color::Green),
        AgentState::Building => ("Building".to_owned(), Color::Yellow),
        AgentState::Error => ("Error".to_owned(), Color::Red),
        AgentState::Idle if scale > 1 => (format!("Idle (×{scale})"), WHITE),
        AgentState::Idle => ("Idle".to_owned(), WHITE),
    }
}

fn last(agent: &AgentStatus, now: UnixMs) -> String {
    let Some(at) = agent.last_run_at else { return String::new() };
    let took = agent.last_run_duration.map(|ms| format!(" ({})", format::duration(Duration::from_millis(ms))));
    format!("Last: {}{}", format::ago(at, now), took.unwrap_or_default())
}

fn detail(agent: &AgentStatus) -> Option<Row> {
    let (text, style) = match detail_text(agent)? {
        Detail::Status(text) => (format!("\"{}\"", cut(&single_line(text), DETAIL_CHARS)), PLAIN),
        Detail::Error(text) => (cut(&single_line(text), DETAIL_CHARS).to_owned(), PLAIN.fg(Color::Red)),
    };
    Some(Row::styled(Rank::Kept, format!("  {text}"), style))
}

/// What is said below an agent.
enum Detail<'a> {
    Status(&'a str),
    Error(&'a str),
}

fn detail_text(agent: &AgentStatus) -> Option<Detail<'_>> {
    let error = || agent.last_error.as_deref().filter(|_| agent.state == AgentState::Error);
    agent.status_text.as_deref().map(Detail::Status).or_else(|| error().map(Detail::Error))
}
