//! The tables of `al stat` and `al status` (cli-config.md §6.8). Pure.

use std::time::Duration;

use shims::wire::usage::Usage;

use crate::base::text::{single_line, thousands};

/// Widths of the columns of agents.
const AGENT_WIDTHS: [usize; 4] = [16, 16, 12, 12];
/// Widths of the columns of instances.
const INSTANCE_WIDTHS: [usize; 5] = [16, 24, 12, 20, 20];
/// Width of the column that is there when some agent has used something.
const USAGE_WIDTH: usize = 24;
/// Width of the column that `al status` has in addition.
const QUEUE_WIDTH: usize = 8;
/// Most characters of an instance's id.
const LONGEST_ID: usize = 20;

/// Which columns the table of agents has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Columns {
    Plain,
    /// The last one is the number of waiting items.
    WithQueue,
}

/// A project as a whole.
#[derive(Clone, Debug, Default)]
pub struct Overview {
    pub project: String,
    /// `None` when no gateway answered.
    pub scheduler: Option<SchedulerPart>,
    pub agents: Vec<AgentRow>,
    pub instances: Vec<InstanceRow>,
    pub locks: Vec<LockRow>,
}

/// What is said of the scheduler.
#[derive(Clone, Debug, Default)]
pub struct SchedulerPart {
    /// `Running`, `PAUSED`, `Starting`.
    pub status: String,
    pub mode: String,
    pub runtime: String,
    pub gateway: String,
    /// Why Docker cannot be used at the moment, when it cannot.
    pub docker_error: Option<String>,
}

/// An agent in the table.
#[derive(Clone, Debug, Default)]
pub struct AgentRow {
    pub name: String,
    pub trigger: String,
    pub status: String,
    pub instances: String,
    /// Tokens and cost since the scheduler started, when it has used any.
    pub usage: Option<Usage>,
    pub queue: String,
}

/// A run that goes on.
#[derive(Clone, Debug, Default)]
pub struct InstanceRow {
    pub agent: String,
    pub id: String,
    pub status: String,
    pub trigger: String,
    /// ISO instant.
    pub started: String,
}

/// A lock that is held.
#[derive(Clone, Debug, Default)]
pub struct LockRow {
    pub agent: String,
    pub key: String,
    pub held_for: Duration,
}

/// One agent.
#[derive(Clone, Debug, Default)]
pub struct AgentView {
    pub name: String,
    pub paused: bool,
    /// Lines of its configuration without indent.
    pub config: Vec<String>,
    /// Of its last run, and of all since the scheduler started.
    pub usage: [Option<Usage>; 2],
    /// `None` when no gateway answered.
    pub instances: Option<Vec<InstanceRow>>,
}

/// The project's text.
pub fn overview(overview: &Overview, columns: Columns) -> String {
    let mut text = format!("AL Status — {}\n", single_line(&overview.project));
    if let Some(scheduler) = &overview.scheduler {
        text += "\nScheduler:\n";
        let mut fields = vec![
            ("Status", scheduler.status.as_str()),
            ("Mode", scheduler.mode.as_str()),
            ("Runtime", scheduler.runtime.as_str()),
            ("Gateway", scheduler.gateway.as_str()),
        ];
        fields.extend(scheduler.docker_error.as_deref().map(|error| ("Docker", error)));
        fields.iter().for_each(|(name, value)| text += &format!("  {name}: {}\n", single_line(value)));
    }
    text += "\nAgents:\n";
    text += &agents(&overview.agents, columns);
    if overview.scheduler.is_some() {
        text += &format!("\n{}", instances(&overview.instances));
    }
    if !overview.locks.is_empty() {
        text += "\nActive locks:\n";
        for lock in &overview.locks {
            let (agent, key) = (single_line(&lock.agent), single_line(&lock.key));
            text += &format!("  {agent}: {key} (held for {})\n", rough(lock.held_for));
        }
    }
    text
}

/// The text about one agent.
pub fn agent(view: &AgentView) -> String {
    let mut text = format!("Agent: {}\n", single_line(&view.name));
    if view.paused {
        text += "  Status: PAUSED\n";
    }
    text += "Config:\n";
    view.config.iter().for_each(|line| text += &format!("  {}\n", single_line(line)));
    let used: Vec<String> = ["Last run", "Since start"]
        .iter()
        .zip(&view.usage)
        .filter_map(|(what, usage)| Some(format!("  {what}: {}\n", usage_text(&(*usage)?))))
        .collect();
    if !used.is_empty() {
        text += &format!("Usage:\n{}", used.concat());
    }
    if let Some(rows) = &view.instances {
        text += &format!("\n{}", instances(rows));
    }
    text
}

/// `1,500tok $0.0123`
pub fn usage_text(usage: &Usage) -> String {
    format!("{}tok ${:.4}", thousands(usage.total_tokens), usage.cost)
}

fn agents(rows: &[AgentRow], columns: Columns) -> String {
    let mut widths = AGENT_WIDTHS.to_vec();
    let mut lines = vec![["AGENT", "TRIGGER", "STATUS", "INSTANCES"].map(str::to_owned).to_vec()];
    lines.extend(
        rows.iter().map(|row| [&row.name, &row.trigger, &row.status, &row.instances].map(String::clone).to_vec()),
    );
    let mut add = |width: usize, title: &str, cell: &dyn Fn(&AgentRow) -> String| {
        widths.push(width);
        let cells = std::iter::once(title.to_owned()).chain(rows.iter().map(cell));
        lines.iter_mut().zip(cells).for_each(|(line, cell)| line.push(cell));
    };
    if rows.iter().any(|row| row.usage.is_some()) {
        add(USAGE_WIDTH, "USAGE", &|row| row.usage.as_ref().map_or_else(|| "-".to_owned(), usage_text));
    }
    if columns == Columns::WithQueue {
        add(QUEUE_WIDTH, "QUEUE", &|row| row.queue.clone());
    }
    table(&widths, &lines)
}

fn instances(rows: &[InstanceRow]) -> String {
    if rows.is_empty() {
        return "No running instances.\n".to_owned();
    }
    let mut lines = vec![["AGENT", "INSTANCE ID", "STATUS", "TRIGGER", "STARTED"].map(str::to_owned).to_vec()];
    lines.extend(rows.iter().map(|row| {
        let (agent, status, trigger) = (row.agent.clone(), row.status.clone(), row.trigger.clone());
        vec![agent, short_id(&row.id), status, trigger, without_zone(&row.started)]
    }));
    format!("Running Instances:\n{}", table(&INSTANCE_WIDTHS, &lines))
}

/// Left-aligned columns; a rule below the first line. What is too long for its column moves the rest of its line.
fn table(widths: &[usize], lines: &[Vec<String>]) -> String {
    let mut text = String::new();
    for (index, cells) in lines.iter().enumerate() {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(widths) {
            let cell = single_line(cell);
            let blanks = width.saturating_sub(cell.chars().count()).max(1);
            line += &format!("{cell}{}", " ".repeat(blanks));
        }
        text += &format!("{}\n", line.trim_end());
        if index == 0 {
            text += &format!("{}\n", "-".repeat(widths.iter().sum()));
        }
    }
    text
}

fn short_id(id: &str) -> String {
    let count = id.chars().count();
    if count <= LONGEST_ID {
        return id.to_owned();
    }
    format!("...{}", id.chars().skip(count + 3 - LONGEST_ID).collect::<String>())
}

/// `2026-01-02T03:04:05.000Z` as `2026-01-02 03:04:05`; anything else as it is.
fn without_zone(instant: &str) -> String {
    match instant.get(..19).filter(|_| instant.ends_with('Z') && instant.get(10..11) == Some("T")) {
        Some(seconds) => seconds.replace('T', " "),
        None => instant.to_owned(),
    }
}

/// A duration in its two largest units: `5s`, `1m5s`, `2h3m`, `4d1h`.
pub fn rough(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{}s", seconds % 60),
        3600..86_400 => format!("{hours}h{}m", minutes % 60),
        _ => format!("{days}d{}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn shows(text: &str, expected: &Expect) {
        expected.assert_eq(text);
    }

    fn row(name: &str, trigger: &str, status: &str, instances: &str, queue: &str) -> AgentRow {
        let [name, trigger, status, instances, queue] = [name, trigger, status, instances, queue].map(str::to_owned);
        AgentRow { name, trigger, status, instances, usage: None, queue }
    }

    fn instance(id: &str) -> InstanceRow {
        InstanceRow {
            agent: "dev".into(),
            id: id.into(),
            status: "running".into(),
            trigger: "schedule".into(),
            started: "2026-01-02T03:04:05.678Z".into(),
        }
    }

    fn example() -> Overview {
        Overview {
            project: "/srv/acme".into(),
            scheduler: Some(SchedulerPart {
                status: "Running".into(),
                mode: "docker".into(),
                runtime: "local".into(),
                gateway: "http://localhost:8080".into(),
                docker_error: None,
            }),
            agents: vec![row("dev", "cron + webhook", "Running", "1 running", "12")],
            instances: vec![instance("dev-a1b2c3d4")],
            locks: vec![LockRow {
                agent: "dev".into(),
                key: "github issue acme/app#42".into(),
                held_for: Duration::from_secs(65),
            }],
        }
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        shows(
            &overview(&example(), Columns::Plain),
            &expect![[r#"
                AL Status — /srv/acme

                Scheduler:
                  Status: Running
                  Mode: docker
                  Runtime: local
                  Gateway: http://localhost:8080

                Agents:
                AGENT           TRIGGER         STATUS      INSTANCES
                --------------------------------------------------------
                dev             cron + webhook  Running     1 running

                Running Instances:
                AGENT           INSTANCE ID             STATUS      TRIGGER             STARTED
                --------------------------------------------------------------------------------------------
                dev             dev-a1b2c3d4            running     schedule            2026-01-02 03:04:05

                Active locks:
                  dev: github issue acme/app#42 (held for 1m5s)
            "#]],
        );
    }

    #[test]
    fn long_values_move_the_rest_of_their_line_and_hostile_ones_stay_in_it() {
        let agents = vec![
            row("a-name-of-16-let", "(invalid config)", "-", "-", "-"),
            row("evil\u{1b}[2J\nname", "(manual)", "Idle", "0 running", "0"),
        ];
        let instances = vec![instance("a-long-agent-name-a1b2c3d4")];
        let scheduler = SchedulerPart { docker_error: Some("no\nsocket".into()), ..example().scheduler.unwrap() };
        shows(
            &overview(
                &Overview { agents, instances, locks: Vec::new(), scheduler: Some(scheduler), ..example() },
                Columns::WithQueue,
            ),
            &expect![[r#"
                AL Status — /srv/acme

                Scheduler:
                  Status: Running
                  Mode: docker
                  Runtime: local
                  Gateway: http://localhost:8080
                  Docker: no socket

                Agents:
                AGENT           TRIGGER         STATUS      INSTANCES   QUEUE
                ----------------------------------------------------------------
                a-name-of-16-let (invalid config) -           -           -
                evil�[2J name   (manual)        Idle        0 running   0

                Running Instances:
                AGENT           INSTANCE ID             STATUS      TRIGGER             STARTED
                --------------------------------------------------------------------------------------------
                dev             ...ent-name-a1b2c3d4    running     schedule            2026-01-02 03:04:05
            "#]],
        );
    }

    #[test]
    fn what_agents_have_used_is_a_column_of_its_own() {
        let used = |tokens, cost| Some(Usage { total_tokens: tokens, cost, ..Usage::default() });
        let agents = vec![
            AgentRow { usage: used(1500, 0.0123), ..row("dev", "cron", "Idle", "0 running", "0") },
            AgentRow { usage: used(1_234_567_890, 4321.5), ..row("docs", "webhook", "Idle", "0 running", "12") },
            row("fresh", "cron", "Idle", "0 running", "0"),
        ];
        let bare = Overview { project: "/p".into(), agents, ..Overview::default() };
        shows(
            &overview(&bare, Columns::WithQueue),
            &expect![[r#"
                AL Status — /p

                Agents:
                AGENT           TRIGGER         STATUS      INSTANCES   USAGE                   QUEUE
                ----------------------------------------------------------------------------------------
                dev             cron            Idle        0 running   1,500tok $0.0123        0
                docs            webhook         Idle        0 running   1,234,567,890tok $4321.5000 12
                fresh           cron            Idle        0 running   -                       0
            "#]],
        );
    }

    #[test]
    fn without_a_gateway_nothing_is_said_about_runs() {
        let agents = vec![row("dev", "cron", "Idle", "-", "-")];
        let bare = Overview { project: "/p".into(), agents, ..Overview::default() };
        shows(
            &overview(&bare, Columns::Plain),
            &expect![[r#"
                AL Status — /p

                Agents:
                AGENT           TRIGGER         STATUS      INSTANCES
                --------------------------------------------------------
                dev             cron            Idle        -
            "#]],
        );
    }

    #[test]
    fn one_agent() {
        let view = AgentView {
            name: "dev".into(),
            paused: true,
            config: vec!["Schedule: (none)".into(), "Webhooks:".into(), "  gh: issues; repos: acme/app".into()],
            usage: [Some(Usage { total_tokens: 1500, cost: 0.01234, ..Usage::default() }), None],
            instances: Some(Vec::new()),
        };
        shows(
            &agent(&view),
            &expect![[r#"
                Agent: dev
                  Status: PAUSED
                Config:
                  Schedule: (none)
                  Webhooks:
                    gh: issues; repos: acme/app
                Usage:
                  Last run: 1,500tok $0.0123

                No running instances.
            "#]],
        );
    }

    #[test]
    fn durations_have_two_units() {
        let shown = [0, 59, 60, 3599, 3600, 90_000, 1_000_000].map(|seconds| rough(Duration::from_secs(seconds)));
        assert_eq!(shown, ["0s", "59s", "1m0s", "59m59s", "1h0m", "1d1h", "11d13h"]);
    }
}
