//! What a run ended with (scheduler.md §4.4).

use shims::wire::usage::Usage;

use crate::base::clock::UnixMs;

/// Result class of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    LaunchFailure,
    Lost,
    Killed,
    Timeout,
    Oom,
    Ok,
    Interrupted,
    AgentError,
}

impl Class {
    /// The name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LaunchFailure => "launch_failure",
            Self::Lost => "lost",
            Self::Killed => "killed",
            Self::Timeout => "timeout",
            Self::Oom => "oom",
            Self::Ok => "ok",
            Self::Interrupted => "interrupted",
            Self::AgentError => "agent_error",
        }
    }

    /// Whether the run was lost to the machinery rather than ended by itself; only then is an item tried again.
    pub fn is_infrastructure(self) -> bool {
        matches!(self, Self::LaunchFailure | Self::Lost | Self::Interrupted)
    }
}

/// What people are told about a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunResult {
    Completed,
    /// It asked to be run again at once.
    Rerun,
    Error,
}

impl RunResult {
    /// The word in records and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Rerun => "rerun",
            Self::Error => "error",
        }
    }
}

/// The last error of the model's provider, as the run reported it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFailure {
    /// The word of its kind (agent-session.md §9.1).
    pub kind: String,
    /// Provider, model, and what the provider said.
    pub text: String,
}

/// Record of an ended run.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub class: Class,
    pub result: RunResult,
    /// Exit status of the container, when it came to an end that could be read.
    pub exit_code: Option<i32>,
    /// What the agent gave with `al-exit`.
    pub exit_reason: Option<String>,
    /// Why it is no success, for people.
    pub error: Option<String>,
    pub return_value: Option<String>,
    /// `None` when the run reported none.
    pub usage: Option<Usage>,
    /// Why the model could not be had, when that ended the run.
    pub model_failure: Option<ModelFailure>,
    pub started_at: UnixMs,
    pub finished_at: UnixMs,
}

impl Outcome {
    /// Of a run that did not even get so far as to try.
    pub fn not_started(error: &anyhow::Error) -> Self {
        let now = UnixMs::now();
        Self {
            class: Class::LaunchFailure,
            result: RunResult::Error,
            exit_code: None,
            exit_reason: None,
            error: Some(error.to_string()),
            return_value: None,
            usage: None,
            model_failure: None,
            started_at: now,
            finished_at: now,
        }
    }
}
