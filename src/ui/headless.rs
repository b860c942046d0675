//! `al start` without a terminal: one line per event on stdout (scheduler.md §12). What has happened is read off two
//! snapshots, so that whoever shows it needs no way of its own to learn of events.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use shims::wire::usage::Usage;

use crate::base::clock::{UnixMs, seconds};
use crate::base::text::printable;
use crate::model::status::{AgentState, AgentStatus, SchedulerInfo};
use crate::scheduler::handle::Snapshot;

/// Turns snapshots into lines.
#[derive(Default)]
pub struct Headless {
    announced: Option<Announced>,
    agents: BTreeMap<String, Shown>,
    next_line: u64,
    base_image: Option<String>,
}

/// What was said of the scheduler.
#[derive(Clone, PartialEq)]
struct Announced {
    port: Option<u16>,
    cron_jobs: usize,
    webhooks: bool,
    urls: Vec<String>,
    dashboard: Option<String>,
}

/// What was said of an agent.
#[derive(Clone, PartialEq)]
struct Shown {
    state: AgentState,
    status_text: Option<String>,
    last_error: Option<String>,
    last_run_at: Option<UnixMs>,
    last_run_duration: Option<u64>,
    run_reason: Option<String>,
    usage: Option<Usage>,
}

impl Headless {
    /// The first line.
    pub fn initializing(now: UnixMs) -> String {
        format!("[{now}] scheduler initializing")
    }

    /// The last line.
    pub fn stopped(now: UnixMs) -> String {
        format!("[{now}] scheduler stopped")
    }

    /// What is new in a snapshot.
    pub fn lines(&mut self, snapshot: &Snapshot, now: UnixMs) -> Vec<String> {
        let mut lines = Vec::new();
        let Some(info) = &snapshot.scheduler else { return lines };
        let project = info.project_name.as_ref().map(|name| format!("[{}] ", printable(name))).unwrap_or_default();
        if self.base_image != snapshot.base_image {
            self.base_image.clone_from(&snapshot.base_image);
            lines.extend(self.base_image.iter().map(|text| format!("[{now}] base image: {}", one_line(text))));
        }
        self.recent(snapshot, &project, &mut lines);
        for agent in snapshot.agents.values() {
            self.agent(agent, &project, now, &mut lines);
        }
        self.agents.retain(|name, _| snapshot.agents.contains_key(name));
        self.scheduler(info, now, &mut lines);
        lines
    }

    fn recent(&mut self, snapshot: &Snapshot, project: &str, lines: &mut Vec<String>) {
        let first = self.next_line;
        for line in snapshot.recent.iter().filter(|line| line.number >= first) {
            if line.number > self.next_line {
                lines.push(format!("[{}] … {} lines were not shown", line.timestamp, line.number - self.next_line));
            }
            self.next_line = line.number + 1;
            lines.push(format!("[{}] {project}{}: {}", line.timestamp, line.agent, one_line(&line.message)));
        }
    }

    fn agent(&mut self, agent: &AgentStatus, project: &str, now: UnixMs, lines: &mut Vec<String>) {
        let shown = Shown {
            state: agent.state,
            status_text: agent.status_text.clone(),
            last_error: agent.last_error.clone(),
            last_run_at: agent.last_run_at,
            last_run_duration: agent.last_run_duration,
            run_reason: agent.run_reason.clone(),
            usage: agent.last_run_usage,
        };
        let before = self.agents.insert(agent.name.clone(), shown.clone());
        if before.as_ref() == Some(&shown) {
            return;
        }
        let mut say = |text: String| lines.push(format!("[{now}] {project}{}: {text}", agent.name));
        let ended = before.as_ref().is_some_and(|before| before.last_run_at != shown.last_run_at);
        let failed = agent.failed && shown.last_error.is_some();
        if ended && !failed {
            let took = Duration::from_millis(shown.last_run_duration.unwrap_or(0));
            say(format!("completed ({}){}", seconds(took), usage_text(shown.usage)));
        }
        if shown.last_error.is_some() && before.as_ref().is_none_or(|before| before.last_error != shown.last_error) {
            say(format!("error: {}", one_line(shown.last_error.as_deref().unwrap_or_default())));
        }
        if ended && let Some(next) = agent.next_run_at {
            say(format!("next run: {next}"));
        }
        let changed = before.as_ref().is_none_or(|before| {
            (before.state, &before.status_text, &before.run_reason)
                != (shown.state, &shown.status_text, &shown.run_reason)
        });
        match shown.state {
            AgentState::Building if changed => {
                say(format!("building: {}", one_line(shown.status_text.as_deref().unwrap_or_default())));
            }
            AgentState::Running if changed => {
                let reason = shown.run_reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
                let text = shown.status_text.as_ref().map(|text| format!(": {}", one_line(text))).unwrap_or_default();
                say(format!("running{}{text}", one_line(&reason)));
            }
            _ => {}
        }
    }

    fn scheduler(&mut self, info: &SchedulerInfo, now: UnixMs, lines: &mut Vec<String>) {
        if info.initializing {
            return;
        }
        let announced = Announced {
            port: info.gateway_port,
            cron_jobs: info.cron_job_count,
            webhooks: info.webhooks_active,
            urls: info.webhook_urls.clone(),
            dashboard: info.dashboard_url.clone(),
        };
        if self.announced.as_ref() == Some(&announced) {
            return;
        }
        let mut parts = vec![format!("mode={}", info.mode), format!("runtime={}", info.runtime)];
        parts.extend(announced.port.map(|port| format!("gateway=:{port}")));
        parts.push(format!("cron_jobs={}", announced.cron_jobs));
        parts.extend(announced.webhooks.then(|| "webhooks=active".to_owned()));
        lines.push(format!("[{now}] scheduler started ({})", parts.join(", ")));
        lines.extend(announced.urls.iter().map(|url| format!("[{now}] listening: {url}")));
        lines.extend(announced.dashboard.iter().map(|url| format!("[{now}] dashboard: {url}")));
        self.announced = Some(announced);
    }
}

/// Writes lines and flushes. Whoever does not read them any more keeps nothing from working.
pub fn print(lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn one_line(text: &str) -> String {
    printable(text).replace(['\n', '\t'], " ")
}

fn usage_text(usage: Option<Usage>) -> String {
    usage.map(|usage| format!(" | {} tokens (${:.4})", usage.total_tokens, usage.cost)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::status::RecentLine;
    use std::sync::Arc;

    const T: UnixMs = UnixMs(1_767_323_045_000);

    fn snapshot(info: SchedulerInfo, agent: AgentStatus) -> Snapshot {
        Snapshot {
            scheduler: Some(Arc::new(info)),
            agents: BTreeMap::from([(agent.name.clone(), Arc::new(agent))]),
            ..Snapshot::default()
        }
    }

    #[test]
    fn each_event_is_one_line_and_nothing_is_said_twice() {
        let mut headless = Headless::default();
        let mut info = SchedulerInfo::new(Some("acme".into()), T);
        let mut agent = AgentStatus::idle("dev", 1, 900);
        assert_eq!(headless.lines(&snapshot(info.clone(), agent.clone()), T), [""; 0]);
        (info.initializing, info.gateway_port, info.cron_job_count) = (false, Some(8080), 2);
        info.webhooks_active = true;
        info.webhook_urls = vec!["http://localhost:8080/webhooks/github".into()];
        assert_eq!(
            headless.lines(&snapshot(info.clone(), agent.clone()), T),
            [
                "[2026-01-02T03:04:05.000Z] scheduler started (mode=docker, runtime=local, gateway=:8080, cron_jobs=2, webhooks=active)",
                "[2026-01-02T03:04:05.000Z] listening: http://localhost:8080/webhooks/github",
            ]
        );
        agent.state = AgentState::Running;
        agent.run_reason = Some("webhook (issues)".into());
        agent.status_text = Some("reviewing\nPR".into());
        assert_eq!(
            headless.lines(&snapshot(info.clone(), agent.clone()), T),
            ["[2026-01-02T03:04:05.000Z] [acme] dev: running (webhook (issues)): reviewing PR"]
        );
        assert_eq!(headless.lines(&snapshot(info.clone(), agent.clone()), T), [""; 0]);
        (agent.state, agent.status_text, agent.run_reason) = (AgentState::Idle, None, None);
        (agent.last_run_at, agent.last_run_duration) = (Some(T), Some(5_200));
        agent.last_run_usage = Some(Usage { total_tokens: 1234, cost: 0.0456, ..Usage::default() });
        agent.next_run_at = Some(T);
        assert_eq!(
            headless.lines(&snapshot(info.clone(), agent.clone()), T),
            [
                "[2026-01-02T03:04:05.000Z] [acme] dev: completed (5.2s) | 1234 tokens ($0.0456)",
                "[2026-01-02T03:04:05.000Z] [acme] dev: next run: 2026-01-02T03:04:05.000Z",
            ]
        );
        (agent.failed, agent.last_error) = (true, Some("Container exited with code 1".into()));
        agent.last_run_at = Some(UnixMs(T.0 + 1));
        agent.next_run_at = None;
        assert_eq!(
            headless.lines(&snapshot(info, agent), T),
            ["[2026-01-02T03:04:05.000Z] [acme] dev: error: Container exited with code 1"]
        );
    }

    #[test]
    fn recent_lines_come_once_and_a_gap_is_told() {
        let mut headless = Headless::default();
        let line = |number| Arc::new(RecentLine { timestamp: T, agent: "dev".into(), message: "x".into(), number });
        let mut snapshot = snapshot(SchedulerInfo::new(None, T), AgentStatus::idle("dev", 1, 900));
        snapshot.recent = [line(0), line(1)].into();
        assert_eq!(headless.lines(&snapshot, T).len(), 2);
        snapshot.recent = [line(1), line(5)].into();
        let lines = headless.lines(&snapshot, T);
        assert!(lines[0].ends_with("… 3 lines were not shown") && lines[1].ends_with("dev: x"), "{lines:?}");
    }
}
