//! The status model: what the terminal, the gateway and scripts are shown of a running scheduler
//! (scheduler.md §10, gateway.md §14). The serialised form is that of the HTTP API.

use serde::{Serialize, Serializer};
use shims::wire::usage::Usage;

use crate::base::clock::UnixMs;

/// The scheduler itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SchedulerInfo {
    /// Always `docker`.
    pub mode: &'static str,
    /// Always `local`.
    pub runtime: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_name: Option<String>,
    /// `None` until the start is complete.
    pub gateway_port: Option<u16>,
    /// Armed schedules.
    pub cron_job_count: usize,
    /// Whether some active agent has a trigger.
    pub webhooks_active: bool,
    pub webhook_urls: Vec<String>,
    /// Only with the dashboard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dashboard_url: Option<String>,
    #[serde(serialize_with = "iso")]
    pub started_at: UnixMs,
    pub paused: bool,
    pub initializing: bool,
    /// Present while the daemon does not answer; at most 200 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker_error: Option<String>,
}

impl SchedulerInfo {
    /// A scheduler that has just been started.
    pub fn new(project_name: Option<String>, started_at: UnixMs) -> Self {
        Self {
            mode: "docker",
            runtime: "local",
            project_name,
            gateway_port: None,
            cron_job_count: 0,
            webhooks_active: false,
            webhook_urls: Vec::new(),
            dashboard_url: None,
            started_at,
            paused: false,
            initializing: true,
            docker_error: None,
        }
    }
}

/// What an agent is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentState {
    #[default]
    Idle,
    Running,
    Building,
    /// None of its runs goes on, and the last one failed.
    Error,
}

/// One agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    pub name: String,
    pub state: AgentState,
    /// Neither paused by a person nor disabled by its configuration.
    pub enabled: bool,
    pub status_text: Option<String>,
    /// At most 300 characters; gone when a run starts.
    pub last_error: Option<String>,
    /// End of the last run.
    #[serde(serialize_with = "optional_iso")]
    pub last_run_at: Option<UnixMs>,
    /// Milliseconds.
    pub last_run_duration: Option<u64>,
    #[serde(serialize_with = "optional_iso")]
    pub next_run_at: Option<UnixMs>,
    /// Queued items of every kind.
    pub queued_webhooks: u64,
    /// Granted slots.
    pub scale: u32,
    pub running_count: u32,
    /// Always null: a local run has no address.
    pub task_url: Option<String>,
    pub run_reason: Option<String>,
    pub last_run_usage: Option<Usage>,
    /// Since the process started.
    pub cumulative_usage: Option<Usage>,
    /// Paused by a person.
    #[serde(skip)]
    pub paused: bool,
    /// Its last run or reload failed.
    #[serde(skip)]
    pub failed: bool,
    /// Slots that its configuration asks for; 0 is a disabled agent.
    #[serde(skip)]
    pub wanted_scale: u32,
    /// Seconds that a run of it may take.
    #[serde(skip)]
    pub timeout_seconds: u64,
}

impl AgentStatus {
    /// An agent at rest with all the slots it asks for.
    pub fn idle(name: &str, scale: u32, timeout_seconds: u64) -> Self {
        Self {
            name: name.to_owned(),
            enabled: scale > 0,
            scale,
            wanted_scale: scale,
            timeout_seconds,
            ..Self::default()
        }
    }
}

/// What became of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum InstanceState {
    Running,
    Completed,
    Error,
    Killed,
}

/// A run that goes on.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStatus {
    pub id: String,
    pub agent_name: String,
    pub status: InstanceState,
    #[serde(serialize_with = "iso")]
    pub started_at: UnixMs,
    /// `schedule`, `manual`, `webhook:<provider>`, `agent:<caller>`.
    pub trigger: String,
    pub status_text: Option<String>,
    pub depth: u32,
    pub rerun_requested: bool,
}

/// A line of recent activity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecentLine {
    #[serde(serialize_with = "iso")]
    pub timestamp: UnixMs,
    pub agent: String,
    pub message: String,
    /// Counts all lines, so that a reader sees when it missed some.
    #[serde(skip)]
    pub number: u64,
}

fn iso<S: Serializer>(time: &UnixMs, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(time)
}

fn optional_iso<S: Serializer>(time: &Option<UnixMs>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.collect_str(time),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_has_the_members_of_the_api_in_their_order() {
        let agent = AgentStatus { last_run_at: Some(UnixMs(1_767_323_045_000)), ..AgentStatus::idle("dev", 2, 900) };
        let json = serde_json::to_string(&agent).unwrap();
        let expected = concat!(
            r#"{"name":"dev","state":"idle","enabled":true,"statusText":null,"lastError":null,"#,
            r#""lastRunAt":"2026-01-02T03:04:05.000Z","lastRunDuration":null,"nextRunAt":null,"queuedWebhooks":0,"#,
            r#""scale":2,"runningCount":0,"taskUrl":null,"runReason":null,"lastRunUsage":null,"cumulativeUsage":null}"#
        );
        assert_eq!(json, expected);
    }

    #[test]
    fn what_is_unset_of_the_scheduler_is_left_out() {
        let json = serde_json::to_value(SchedulerInfo::new(None, UnixMs(0))).unwrap();
        assert_eq!(json["gatewayPort"], serde_json::Value::Null);
        assert!(json.get("projectName").is_none() && json.get("dockerError").is_none());
    }
}
