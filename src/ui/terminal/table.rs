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

/// Least width of the column of names, the mark of the selected one included.
const NAME_WIDTH: usize = 12;
const STATE_WIDTH: usize = 16;
const ENABLED_WIDTH: usize = 10;
const LAST_WIDTH: usize = 30;
const USAGE_WIDTH: usize = 25;
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
pub(super) fn table(agents: &[&AgentStatus], selected: usize, room: usize, now: UnixMs) -> Table {
    let shown = window(agents, selected, room);
    let longest = agents.iter().map(|agent| agent.name.chars().count()).max().unwrap_or(0);
    let width = NAME_WIDTH.max(longest + 3);
    let mut rows = Vec::new();
    for (index, agent) in agents.iter().enumerate().take(shown.end).skip(shown.start) {
        rows.push(agent_row(agent, index == selected, width, now));
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

fn agent_row(agent: &AgentStatus, is_selected: bool, name_width: usize, now: UnixMs) -> Row {
    let mark = if is_selected { "▶ " } else { "  " };
    let (state, colour) = state(agent);
    let (enabled, enabled_colour) = if agent.enabled { ("Enabled", Color::Green) } else { ("Disabled", Color::Yellow) };
    let usage = agent.last_run_usage.map(format::usage).unwrap_or_default();
    let next = agent.next_run_at.map(|at| format!("Next: {}", format::until(at, now))).unwrap_or_default();
    let line = Line::from(vec![
        column(&format!("{mark}{}", single_line(&agent.name)), name_width, BOLD),
        column(&state, STATE_WIDTH, PLAIN.fg(colour)),
        column(enabled, ENABLED_WIDTH, PLAIN.fg(enabled_colour)),
        column(&last(agent, now), LAST_WIDTH, DIM),
        column(&usage, USAGE_WIDTH, DIM),
        Span::styled(next, DIM),
    ]);
    Row { is_selected, ..Row::new(Rank::Kept, line) }
}

/// A text in its column; what is too long for it is cut.
fn column(text: &str, width: usize, style: Style) -> Span<'static> {
    let text = cut(text, width.saturating_sub(1));
    Span::styled(format!("{text:width$}"), style)
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
