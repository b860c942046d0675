//! Why a run starts.

use serde_json::{Map, Value};
use shims::wire::run_file::{Trigger as WireTrigger, TriggerKind};

/// What a run was started by, with what came along.
#[derive(Clone, Debug, PartialEq)]
pub enum Trigger {
    /// A tick or an initial run.
    Schedule,
    /// A person or script, perhaps with a task.
    Manual { prompt: Option<String> },
    /// A delivery; members and order of the context: gateway.md §19.
    Webhook { context: Map<String, Value> },
    /// A call by another agent.
    Agent { caller: String, context: String },
}

impl Trigger {
    /// The kind.
    pub fn kind(&self) -> TriggerKind {
        match self {
            Self::Schedule => TriggerKind::Schedule,
            Self::Manual { .. } => TriggerKind::Manual,
            Self::Webhook { .. } => TriggerKind::Webhook,
            Self::Agent { .. } => TriggerKind::Agent,
        }
    }

    /// Provider of a webhook, calling agent of a call.
    pub fn source(&self) -> Option<&str> {
        match self {
            Self::Schedule | Self::Manual { .. } => None,
            Self::Webhook { context } => context.get("source").and_then(Value::as_str),
            Self::Agent { caller, .. } => Some(caller),
        }
    }

    /// The form in the run file.
    pub fn to_wire(&self) -> WireTrigger {
        WireTrigger { kind: self.kind(), source: self.source().map(str::to_owned) }
    }

    /// How log lines name it: `manual`, `agent (dev)`; for a rerun `schedule (rerun 2/10)`.
    pub fn details(&self, rerun: u32, max_reruns: u32) -> String {
        match self {
            Self::Agent { caller, .. } => format!("agent ({caller})"),
            _ if rerun > 0 => format!("{} (rerun {rerun}/{max_reruns})", self.kind().as_str()),
            _ => self.kind().as_str().to_owned(),
        }
    }
}
