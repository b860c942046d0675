//! What a session reports while it goes on (agent-session.md §4.1), in this order per turn.

use std::time::Duration;

use super::error::ModelError;
use super::message::{Assistant, Message, ToolCall, ToolResult};
use super::provider::Model;
use crate::wire::usage::Usage;

/// One event. Deltas are provisional until [`Event::MessageEnd`], and void after [`Event::AttemptFailed`].
#[derive(Debug)]
pub enum Event<'a> {
    /// The first one: the models are resolved, nothing has been sent.
    Created(Created<'a>),
    AgentStart,
    TurnStart,
    MessageStart(Role),
    TextDelta(&'a str),
    ThinkingDelta(&'a str),
    /// Everything streamed since `MessageStart` is withdrawn.
    AttemptFailed(&'a ModelError),
    MessageEnd(&'a Message),
    /// Calls that run at the same time begin and end in any order; their messages follow in the order of the calls.
    ToolStart(&'a ToolCall),
    /// A line that a command has printed, without its end; only with `limits.streamTools`.
    ToolOutput {
        call: &'a ToolCall,
        line: &'a str,
    },
    ToolEnd {
        call: &'a ToolCall,
        result: &'a ToolResult,
        took: Duration,
    },
    TurnEnd {
        message: &'a Assistant,
        results: &'a [ToolResult],
        usage: Usage,
    },
    RetryStart(Retry<'a>),
    RetryEnd {
        success: bool,
        attempt: u32,
    },
    /// The first model cannot be had for now; the conversation goes on with the second.
    ModelSwitched {
        from: &'a Model,
        to: &'a Model,
        error: &'a ModelError,
    },
    /// The conversation is about to be shortened.
    CompactionStart(CompactionReason),
    CompactionEnd(Compaction),
    /// A condition worth a log line of its own.
    Notice(Notice<'a>),
    AgentEnd,
}

/// What the session will use; for the log line `creating agent session`.
#[derive(Clone, Copy, Debug)]
pub struct Created<'a> {
    pub provider: &'a str,
    /// Id as sent, after aliases.
    pub model: &'a str,
    /// The configured thinking level, when there is one.
    pub thinking: Option<&'a str>,
    /// `off`, `minimal`, `low`, `medium`, `high` or `xhigh`.
    pub effective_thinking: &'a str,
    /// Tokens.
    pub context_window: u64,
    /// Tokens.
    pub max_tokens: u64,
}

/// Who a message is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    User,
    Assistant,
    ToolResult,
}

/// A request that is about to be repeated.
#[derive(Clone, Copy, Debug)]
pub struct Retry<'a> {
    pub phase: RetryPhase,
    /// From 1 within the phase.
    pub attempt: u32,
    pub max_attempts: u32,
    pub delay: Duration,
    pub error: &'a ModelError,
}

/// Which part of the schedule of agent-session.md §9.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryPhase {
    Fast,
    Slow,
}

/// Why a conversation is shortened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompactionReason {
    /// It comes near the end of the context window.
    Threshold,
    /// The provider found it too long.
    Overflow,
}

impl CompactionReason {
    /// The word in log lines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Threshold => "threshold",
            Self::Overflow => "overflow",
        }
    }
}

/// What shortening a conversation has brought.
#[derive(Clone, Copy, Debug)]
pub struct Compaction {
    pub reason: CompactionReason,
    /// Tokens of the conversation, as counted by the provider if it has been.
    pub tokens_before: u64,
    /// An estimate.
    pub tokens_after: u64,
    /// Characters of the new summary; 0 when none was made.
    pub summary_length: usize,
    /// What the summary has cost.
    pub usage: Usage,
}

/// Conditions that are neither part of a turn nor an error.
#[derive(Clone, Copy, Debug)]
pub enum Notice<'a> {
    /// The configured id is an alias.
    ModelAlias { from: &'a str, to: &'a str },
    /// The registry does not have this model.
    UnknownModel { provider: &'a str, model: &'a str },
    /// An optional parameter was refused and is left out from now on.
    ParameterRejected { param: &'a str },
    /// The output limit was reached more often in a row than the session goes on.
    OutputLimit,
    /// A final response without text and calls.
    EmptyResponse,
    /// No model of the list can be had; they are asked again after the delay. Passes count from 0.
    ModelsExhausted { pass: u32, delay: Duration },
    /// The last pass was in vain as well, because of rate limits or overload.
    ModelsGivenUp,
    /// A result of this tool contains secrets of credentials of these types; each type is reported once. `redacted`: the
    /// model gets the result without them.
    SecretInToolOutput { kinds: &'a [&'a str], tool: &'a str, redacted: bool },
    /// Anything else, already worded.
    Warning(&'a str),
    /// Three tool results looked like missing permissions; the session ends.
    RepeatedPermissionErrors,
}
