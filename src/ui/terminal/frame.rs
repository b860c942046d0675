//! What the terminal shows: the start, and then the table (scheduler.md §11.1, §11.2). Pure.

use std::sync::Arc;

use ratatui::buffer::Buffer;
use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};

use super::controls::{Controls, Pane};
use super::rows::{BOLD, DIM, PLAIN, Rank, Row, WHITE, make_room, paint};
use super::table;
use crate::base::clock::UnixMs;
use crate::base::text::{cut, single_line};
use crate::model::status::{AgentState, AgentStatus, RecentLine, SchedulerInfo};
use crate::scheduler::handle::Snapshot;

const SPINNER: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
/// How long each of its signs stands, in milliseconds.
pub(super) const SPINNER_MS: u64 = 100;
/// Width of the icons of the start.
const ICON_WIDTH: usize = 4;
/// Least width of the names of the start.
const NAME_WIDTH: usize = 14;
/// Recent lines that are shown.
const RECENT: usize = 5;
/// Longest recent line, in characters.
const RECENT_CHARS: usize = 80;
/// Rows that the table gets, as long as there is something to leave out around it.
const TABLE_ROWS: usize = 6;
const FOOTER: &str = "↑/↓: Select agent • Space: Enable/Disable • Ctrl+C: Stop • ?: Help";
const KEYS: [(&str, &str); 8] = [
    ("↑/↓", "select an agent"),
    ("Space", "enable or disable it"),
    ("r", "run it now"),
    ("k", "kill its runs"),
    ("l, Enter", "its log"),
    ("?", "these keys"),
    ("Esc", "back"),
    ("Ctrl+C", "stop the scheduler; runs go on, unless it is pressed again"),
];

/// Everything that a frame shows.
pub(super) struct Scene<'a> {
    pub(super) snapshot: &'a Snapshot,
    /// Name of the project, for as long as there is no snapshot with it.
    pub(super) project: Option<&'a str>,
    pub(super) controls: &'a Controls,
    /// The newest lines of the log that is shown.
    pub(super) log: &'a [Line<'static>],
    pub(super) now: UnixMs,
}

/// The frame for a terminal of this size: at most as many rows, and exactly as many columns.
pub(super) fn frame(scene: &Scene<'_>, columns: u16, rows: u16) -> Buffer {
    let height = usize::from(rows.max(1));
    let shown = match &scene.snapshot.scheduler {
        Some(info) if !info.initializing => running(scene, info, height, columns),
        _ => initializing(scene, height),
    };
    paint(&shown, columns.max(1), rows.max(1))
}

fn project(scene: &Scene<'_>) -> String {
    let of_snapshot = scene.snapshot.scheduler.as_ref().and_then(|info| info.project_name.as_deref());
    of_snapshot.or(scene.project).map(|name| format!(" — {}", single_line(name))).unwrap_or_default()
}

// The start.

fn initializing(scene: &Scene<'_>, height: usize) -> Vec<Row> {
    let title = format!("Action Llama{} — Initializing", project(scene));
    let mut above = vec![Row::blank(), Row::styled(Rank::Title, title, BOLD), Row::rule(), Row::blank()];
    let base_image = scene.snapshot.base_image.as_deref();
    if let Some(text) = base_image {
        let text = format!("{} Base image: {}", spinner(scene.now), single_line(text));
        above.push(Row::styled(Rank::Notice, text, PLAIN.fg(Color::Yellow)));
    }
    let footer = Row::styled(Rank::Kept, "Building Docker images... Ctrl+C to cancel", DIM);
    let mut below = vec![Row::blank(), Row::rule(), footer];
    let agents = &scene.snapshot.agents;
    let longest = agents.keys().map(|name| name.chars().count()).max().unwrap_or(0);
    let width = NAME_WIDTH.max(longest + 2);
    let room = make_room(&mut above, &mut below, height, agents.len().min(TABLE_ROWS));
    // Of many those from the first one on that something is done for.
    let first = agents.values().position(|agent| agent.state == AgentState::Building).unwrap_or(0);
    let first = first.min(agents.len().saturating_sub(room));
    let shown = agents.values().skip(first).take(room);
    let shown = shown.map(|agent| starting_row(agent, base_image.is_some(), width, scene.now));
    above.into_iter().chain(shown).chain(below).collect()
}

fn starting_row(agent: &AgentStatus, is_base_built: bool, width: usize, now: UnixMs) -> Row {
    let text = agent.status_text.as_deref();
    let (icon, style, text, text_style) = match agent.state {
        AgentState::Building => {
            (spinner(now), PLAIN.fg(Color::Yellow), text.unwrap_or("Waiting to build"), PLAIN.fg(Color::Yellow))
        }
        // It cannot run, whatever else is still built.
        AgentState::Error => {
            let text = agent.last_error.as_deref().unwrap_or("Failed");
            ('✗', PLAIN.fg(Color::Red), text, PLAIN.fg(Color::Red))
        }
        _ if is_base_built => ('○', PLAIN.fg(WHITE), text.unwrap_or("Waiting"), DIM),
        _ => ('✓', PLAIN.fg(Color::Green), text.unwrap_or("Ready"), PLAIN.fg(Color::Green)),
    };
    let name = single_line(&agent.name);
    Row::new(
        Rank::Kept,
        Line::from(vec![
            Span::styled(format!("{icon:ICON_WIDTH$}"), style),
            Span::styled(format!("{name:width$}"), BOLD),
            Span::styled(single_line(text), text_style),
        ]),
    )
}

fn spinner(now: UnixMs) -> char {
    let step = now.0.unsigned_abs() / SPINNER_MS;
    SPINNER[usize::try_from(step % 10).unwrap_or(0)]
}

// The table.

fn running(scene: &Scene<'_>, info: &SchedulerInfo, height: usize, columns: u16) -> Vec<Row> {
    let agents: Vec<&AgentStatus> = scene.snapshot.agents.values().map(Arc::as_ref).collect();
    let needed = table::height(&agents);
    let mut above = header(scene, info, &agents);
    let mut below = below(scene, height.saturating_sub(above.len()), needed);
    let room = make_room(&mut above, &mut below, height, needed.min(TABLE_ROWS));
    let table = table::table(&agents, scene.controls.place(), room, columns, scene.now);
    let mark = |row: Option<&mut Row>, sign: char, count: usize| {
        if let Some(row) = row.filter(|row| row.rank == Rank::Blank && count > 0) {
            *row = Row::styled(Rank::Blank, format!("  {sign} {count} more"), DIM);
        }
    };
    mark(above.last_mut(), '↑', table.hidden.0);
    mark(below.first_mut(), '↓', table.hidden.1);
    above.into_iter().chain(table.rows).chain(below).collect()
}

fn header(scene: &Scene<'_>, info: &SchedulerInfo, agents: &[&AgentStatus]) -> Vec<Row> {
    let mut rows = vec![Row::blank(), Row::styled(Rank::Title, title(scene, info, agents), BOLD)];
    if info.paused {
        rows.push(Row::styled(Rank::Notice, "▐▐ Scheduler paused", BOLD.fg(Color::Yellow)));
    }
    let gateway = info.gateway_port.map(|port| format!("Gateway: :{port}"));
    let webhooks = info.webhooks_active.then(|| "Webhooks: active".to_owned());
    let parts: Vec<String> = gateway.into_iter().chain(webhooks).collect();
    if !parts.is_empty() {
        rows.push(Row::styled(Rank::Address, parts.join(" | "), DIM));
    }
    rows.extend(info.webhook_urls.iter().map(|url| Row::styled(Rank::Address, format!("  {url}"), DIM)));
    rows.extend(info.dashboard_url.iter().map(|url| Row::styled(Rank::Address, format!("Dashboard: {url}"), DIM)));
    rows.extend([Row::rule(), Row::blank()]);
    rows
}

fn title(scene: &Scene<'_>, info: &SchedulerInfo, agents: &[&AgentStatus]) -> String {
    let counted = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let enabled = agents.iter().filter(|agent| agent.enabled).count();
    let disabled = match agents.len() - enabled {
        0 => String::new(),
        count => format!(", {count} disabled"),
    };
    let (all, jobs) = (counted(agents.len(), "agent"), counted(info.cron_job_count, "cron job"));
    format!("Action Llama{} (Docker mode) — {all} ({enabled} enabled{disabled}), {jobs}", project(scene))
}

/// What stands below the table; `room`: rows for it and the table, which needs `needed` of them.
fn below(scene: &Scene<'_>, room: usize, needed: usize) -> Vec<Row> {
    let mut rows = vec![Row::blank(), Row::rule()];
    match scene.controls.pane {
        Pane::Recent => recent(scene, &mut rows),
        Pane::Log => {
            // Blank, two rules, heading, footer; the table keeps half of the rest if it needs that much.
            let free = room.saturating_sub(5);
            log(scene, free.saturating_sub(needed.min(free / 2)), &mut rows);
        }
        Pane::Help => {
            rows.push(Row::new(Rank::Pane, "Keys:"));
            let line = |(keys, what): &(&str, &str)| Row::new(Rank::Passing, format!("  {keys:10}{what}"));
            rows.extend(KEYS.iter().map(line));
            rows.push(pane_rule());
        }
    }
    rows.push(match &scene.controls.question {
        Some(question) => {
            let text = format!("Kill {} run(s) of {}? y/n", question.runs, single_line(&question.agent));
            Row::styled(Rank::Kept, text, BOLD.fg(Color::Yellow))
        }
        None => Row::styled(Rank::Kept, FOOTER, DIM),
    });
    rows
}

fn pane_rule() -> Row {
    Row { rank: Rank::Pane, ..Row::rule() }
}

fn recent(scene: &Scene<'_>, rows: &mut Vec<Row>) {
    let lines = &scene.snapshot.recent;
    if lines.is_empty() {
        return;
    }
    rows.push(Row::new(Rank::Pane, "Recent:"));
    rows.extend(lines.iter().skip(lines.len().saturating_sub(RECENT)).map(|line| recent_row(line)));
    rows.push(pane_rule());
}

fn recent_row(line: &RecentLine) -> Row {
    let time = line.timestamp.local_time();
    let text = format!("[{}] {}", single_line(&line.agent), cut(&single_line(&line.message), RECENT_CHARS));
    Row::new(Rank::Passing, Line::from(vec![Span::styled(format!("  {time} "), DIM), Span::raw(text)]))
}

fn log(scene: &Scene<'_>, room: usize, rows: &mut Vec<Row>) {
    let agent = scene.controls.log_wanted().unwrap_or_default();
    rows.push(Row::new(Rank::Pane, format!("Log of {}:", single_line(agent))));
    if scene.log.is_empty() {
        rows.push(Row::styled(Rank::Passing, "  nothing yet", DIM));
    }
    let newest = &scene.log[scene.log.len().saturating_sub(room)..];
    rows.extend(newest.iter().map(|line| {
        let spans = std::iter::once(Span::styled("  ", Style::new())).chain(line.spans.iter().cloned());
        Row::new(Rank::Passing, Line::from(spans.collect::<Vec<_>>()))
    }));
    rows.push(pane_rule());
}
