//! `run.json`: what the host tells one run (containers.md §6.2).

use serde::{Deserialize, Serialize};

use super::requests::expose;
use crate::secret::Secret;

/// Content of the run file. All members are always written; the two telemetry members only when they have a value.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunFile {
    /// Format version, 1.
    pub v: u32,
    pub agent_name: String,
    pub instance_id: String,
    /// Base URL of the gateway's container face, `None` when there is none.
    pub gateway_url: Option<String>,
    /// Identifies and authorises this run at the gateway.
    #[serde(with = "expose::option")]
    pub shutdown_secret: Option<Secret>,
    pub timeout_seconds: u64,
    pub trigger: Trigger,
    pub call_depth: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_parent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otlp_endpoint: Option<String>,
}

/// Why the run was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    #[serde(rename = "type")]
    pub kind: TriggerKind,
    /// Provider of a webhook, calling agent of a call.
    pub source: Option<String>,
}

/// Kind of a trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TriggerKind {
    Schedule,
    Webhook,
    /// A call by another agent.
    Agent,
    Manual,
}

impl TriggerKind {
    /// The word used in files, logs and the environment.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Webhook => "webhook",
            Self::Agent => "agent",
            Self::Manual => "manual",
        }
    }
}
