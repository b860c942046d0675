//! The status model: what has happened, as people are shown it (scheduler.md §10). Owned by the scheduler's thread,
//! published as snapshots.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use shims::wire::usage::Usage;

use super::handle::{Handle, Snapshot};
use crate::base::clock::{UnixMs, seconds};
use crate::base::text::cut;
use crate::model::outcome::{Outcome, RunResult};
use crate::model::status::{AgentState, AgentStatus, InstanceState, InstanceStatus, RecentLine, SchedulerInfo};

/// Recent lines that are kept.
const RECENT: usize = 100;
/// Longest error text.
const ERROR_CHARS: usize = 300;

/// What a run is shown as.
pub(super) struct RunShown {
    pub(super) instance: String,
    pub(super) agent: String,
    /// `schedule`, `manual`, `webhook:<provider>`, `agent:<caller>`.
    pub(super) trigger: String,
    /// `schedule (rerun 2/10)`, `webhook (issues)`, `triggered by dev`, `manual`.
    pub(super) reason: String,
    /// What the recent line says about its start.
    pub(super) details: String,
    pub(super) depth: u32,
    pub(super) started_at: UnixMs,
}

/// The model.
pub(super) struct Status {
    info: Arc<SchedulerInfo>,
    agents: BTreeMap<String, Arc<AgentStatus>>,
    instances: Vec<Arc<InstanceStatus>>,
    recent: VecDeque<Arc<RecentLine>>,
    max_call_depth: u32,
    base_image: Option<String>,
    next_line: u64,
    changed: bool,
}

impl Status {
    pub(super) fn new(info: SchedulerInfo, max_call_depth: u32) -> Self {
        Self {
            info: Arc::new(info),
            agents: BTreeMap::new(),
            instances: Vec::new(),
            recent: VecDeque::new(),
            max_call_depth,
            base_image: None,
            next_line: 0,
            changed: true,
        }
    }

    /// Publishes what has changed since the last time. `queued`: queued items by agent.
    pub(super) fn publish(&mut self, handle: &Handle, queued: &BTreeMap<String, u64>) {
        for (name, agent) in &mut self.agents {
            let queued = queued.get(name).copied().unwrap_or(0);
            if agent.queued_webhooks != queued {
                Arc::make_mut(agent).queued_webhooks = queued;
                self.changed = true;
            }
        }
        if std::mem::take(&mut self.changed) {
            handle.publish(Snapshot {
                scheduler: Some(Arc::clone(&self.info)),
                agents: self.agents.clone(),
                instances: self.instances.clone(),
                recent: self.recent.clone(),
                max_call_depth: self.max_call_depth,
                base_image: self.base_image.clone(),
            });
        }
    }

    /// Changes what is shown of the scheduler.
    pub(super) fn scheduler(&mut self, change: impl FnOnce(&mut SchedulerInfo)) {
        change(Arc::make_mut(&mut self.info));
        self.changed = true;
    }

    /// What is being done for the image that all agents stand on; `None`: nothing.
    pub(super) fn set_base_image(&mut self, text: Option<String>) {
        self.base_image = text;
        self.changed = true;
    }

    /// Adds an agent, or changes what is shown of its configuration; its history stays.
    pub(super) fn set_agent(&mut self, name: &str, wanted: u32, granted: u32, timeout_seconds: u64) {
        let new = || Arc::new(AgentStatus::idle(name, wanted, timeout_seconds));
        let agent = Arc::make_mut(self.agents.entry(name.to_owned()).or_insert_with(new));
        (agent.wanted_scale, agent.scale, agent.timeout_seconds) = (wanted, granted, timeout_seconds);
        agent.enabled = wanted > 0 && !agent.paused;
        self.changed = true;
    }

    pub(super) fn remove_agent(&mut self, name: &str) {
        self.changed |= self.agents.remove(name).is_some();
    }

    pub(super) fn set_paused(&mut self, name: &str, paused: bool) {
        self.agent(name, |agent| {
            agent.paused = paused;
            agent.enabled = agent.wanted_scale > 0 && !paused;
        });
    }

    pub(super) fn set_next_run(&mut self, name: &str, at: Option<UnixMs>) {
        self.agent(name, |agent| agent.next_run_at = at);
    }

    /// An image of the agent is being built.
    pub(super) fn building(&mut self, name: &str, text: &str) {
        self.agent(name, |agent| {
            agent.state = AgentState::Building;
            agent.status_text = Some(text.to_owned());
        });
    }

    /// Nothing is built any more; `error` when that failed.
    pub(super) fn built(&mut self, name: &str, error: Option<String>) {
        self.agent(name, |agent| {
            if agent.state == AgentState::Building {
                agent.status_text = None;
            }
            if let Some(error) = error {
                agent.last_error = Some(cut(&error, ERROR_CHARS).to_owned());
                agent.failed = true;
            }
            agent.state = derived(agent);
        });
    }

    /// A successful reload: what was wrong with it is history.
    pub(super) fn clear_error(&mut self, name: &str) {
        self.agent(name, |agent| {
            agent.last_error = None;
            agent.failed = false;
            agent.state = derived(agent);
        });
    }

    /// This error is over; a later one stays.
    pub(super) fn withdraw_error(&mut self, name: &str, error: &str) {
        let is_shown = |agent: &Arc<AgentStatus>| agent.last_error.as_deref() == Some(cut(error, ERROR_CHARS));
        if self.agents.get(name).is_some_and(is_shown) {
            self.clear_error(name);
        }
    }

    pub(super) fn run_started(&mut self, run: &RunShown) {
        self.add_run(run);
        self.note(&run.agent, format!("{} started ({})", run.instance, run.details));
    }

    /// A run of an earlier process goes on.
    pub(super) fn run_adopted(&mut self, run: &RunShown) {
        self.add_run(run);
        self.note(&run.agent, format!("{} re-adopted", run.instance));
    }

    fn add_run(&mut self, run: &RunShown) {
        self.instances.push(Arc::new(InstanceStatus {
            id: run.instance.clone(),
            agent_name: run.agent.clone(),
            status: InstanceState::Running,
            started_at: run.started_at,
            trigger: run.trigger.clone(),
            status_text: None,
            depth: run.depth,
            rerun_requested: false,
        }));
        self.agent(&run.agent, |agent| {
            agent.running_count += 1;
            if agent.state != AgentState::Building {
                agent.state = AgentState::Running;
            }
            agent.status_text = None;
            agent.last_error = None;
            agent.run_reason = Some(run.reason.clone());
        });
        self.changed = true;
    }

    /// Gives the agent of an instance that goes on.
    fn agent_of(&self, instance: &str) -> Option<String> {
        self.instances.iter().find(|shown| shown.id == instance).map(|shown| shown.agent_name.clone())
    }

    pub(super) fn status_text(&mut self, instance: &str, text: &str) {
        let Some(agent) = self.agent_of(instance) else { return };
        self.instance(instance, |shown| shown.status_text = Some(text.to_owned()));
        self.agent(&agent, |agent| agent.status_text = Some(text.to_owned()));
    }

    pub(super) fn rerun_requested(&mut self, instance: &str) {
        self.instance(instance, |shown| shown.rerun_requested = true);
    }

    pub(super) fn tool_error(&mut self, agent: &str, text: &str) {
        self.agent(agent, |agent| agent.last_error = Some(cut(text, ERROR_CHARS).to_owned()));
    }

    pub(super) fn run_ended(&mut self, agent: &str, instance: &str, outcome: &Outcome) {
        self.instances.retain(|shown| shown.id != instance);
        let took = outcome.finished_at.since(outcome.started_at);
        self.agent(agent, |agent| {
            agent.running_count = agent.running_count.saturating_sub(1);
            agent.last_run_at = Some(outcome.finished_at);
            agent.last_run_duration = u64::try_from(took.as_millis()).ok();
            agent.last_run_usage = outcome.usage;
            if let Some(usage) = outcome.usage {
                *agent.cumulative_usage.get_or_insert_with(Usage::default) += usage;
            }
            agent.status_text = None;
            agent.failed = outcome.result == RunResult::Error;
            if agent.failed {
                agent.last_error = outcome.error.as_deref().map(|error| cut(error, ERROR_CHARS).to_owned());
            }
            if agent.running_count == 0 {
                agent.run_reason = None;
            }
            // A build that goes on is still to be seen.
            if agent.state != AgentState::Building {
                agent.state = derived(agent);
            }
        });
        self.changed = true;
        self.note(agent, ended_line(instance, outcome.result, took));
    }

    /// Adds a line of recent activity.
    pub(super) fn note(&mut self, agent: &str, message: impl Into<String>) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        let line = RecentLine {
            timestamp: UnixMs::now(),
            agent: agent.to_owned(),
            message: message.into(),
            number: self.next_line,
        };
        self.next_line += 1;
        self.recent.push_back(Arc::new(line));
        self.changed = true;
    }

    fn agent(&mut self, name: &str, change: impl FnOnce(&mut AgentStatus)) {
        if let Some(agent) = self.agents.get_mut(name) {
            change(Arc::make_mut(agent));
            self.changed = true;
        }
    }

    fn instance(&mut self, id: &str, change: impl FnOnce(&mut InstanceStatus)) {
        if let Some(shown) = self.instances.iter_mut().find(|shown| shown.id == id) {
            change(Arc::make_mut(shown));
            self.changed = true;
        }
    }
}

/// The state of an agent whose image nobody builds.
fn derived(agent: &AgentStatus) -> AgentState {
    match agent.running_count {
        0 if agent.failed => AgentState::Error,
        0 => AgentState::Idle,
        _ => AgentState::Running,
    }
}

fn ended_line(instance: &str, result: RunResult, took: Duration) -> String {
    format!("{instance} {} ({})", result.as_str(), seconds(took))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::outcome::Class;
    use crossbeam_channel::unbounded;

    fn status() -> Status {
        let mut status = Status::new(SchedulerInfo::new(None, UnixMs(0)), 3);
        status.set_agent("dev", 2, 2, 900);
        status
    }

    fn run(instance: &str) -> RunShown {
        RunShown {
            instance: instance.into(),
            agent: "dev".into(),
            trigger: "schedule".into(),
            reason: "schedule".into(),
            details: "schedule".into(),
            depth: 0,
            started_at: UnixMs(0),
        }
    }

    fn outcome(result: RunResult) -> Outcome {
        let failed = result == RunResult::Error;
        Outcome {
            class: if failed { Class::AgentError } else { Class::Ok },
            result,
            exit_code: Some(i32::from(failed)),
            exit_reason: None,
            error: failed.then(|| "Container exited with code 1".into()),
            return_value: None,
            usage: Some(Usage { total_tokens: 5, ..Usage::default() }),
            model_failure: None,
            started_at: UnixMs(0),
            finished_at: UnixMs(1_250),
        }
    }

    fn dev(status: &mut Status) -> Arc<AgentStatus> {
        let handle = Handle::new(unbounded().0);
        status.changed = true;
        status.publish(&handle, &BTreeMap::from([("dev".to_owned(), 4)]));
        handle.snapshot().agents["dev"].clone()
    }

    #[test]
    fn an_error_shows_only_when_nothing_runs_and_goes_when_something_starts() {
        let mut status = status();
        status.run_started(&run("dev-1"));
        status.run_started(&run("dev-2"));
        status.run_ended("dev", "dev-1", &outcome(RunResult::Error));
        assert_eq!(dev(&mut status).state, AgentState::Running);
        status.run_ended("dev", "dev-2", &outcome(RunResult::Error));
        let shown = dev(&mut status);
        assert_eq!(
            (shown.state, shown.last_error.as_deref()),
            (AgentState::Error, Some("Container exited with code 1"))
        );
        assert_eq!((shown.queued_webhooks, shown.cumulative_usage.unwrap().total_tokens), (4, 10));
        status.run_started(&run("dev-3"));
        let shown = dev(&mut status);
        assert_eq!((shown.state, &shown.last_error), (AgentState::Running, &None));
    }

    #[test]
    fn a_build_ends_in_what_is_true_then() {
        let mut status = status();
        status.building("dev", "Building agent image");
        assert_eq!(dev(&mut status).state, AgentState::Building);
        status.built("dev", Some("Image build failed: x".into()));
        assert_eq!(dev(&mut status).state, AgentState::Error);
        status.clear_error("dev");
        assert_eq!(dev(&mut status).state, AgentState::Idle);
    }

    #[test]
    fn the_last_hundred_lines_are_kept() {
        let mut status = status();
        (0..150).for_each(|n| status.note("dev", format!("line {n}")));
        assert_eq!((status.recent.len(), status.recent[0].message.as_str()), (100, "line 50"));
    }
}
