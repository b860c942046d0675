//! The conversation with a language model: provider-neutral types, the loop, tools, providers, retries
//! (agent-session.md). Knows nothing of containers, log lines or exit codes: it reports [`event::Event`]s to its
//! [`Owner`], asks it before a tool runs, and returns an [`Outcome`]. [`run`] holds a session of one prompt, a [`Session`]
//! takes as many as are wanted.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::env::Environment;
use crate::secret::{Masker, Secret};
use crate::wire::config::{Limits, ModelConfig};
use crate::wire::usage::Usage;

mod classify;
mod compact;
pub mod error;
pub mod estimate;
pub mod event;
#[cfg(test)]
mod fake;
mod guard;
mod history;
pub(crate) mod http;
mod json;
mod limits;
mod lineup;
pub mod message;
mod owner;
pub mod prompt;
#[cfg(test)]
mod proofs;
pub mod provider;
pub mod providers;
pub mod registry;
mod repeats;
mod retry;
mod run;
mod sse;
pub mod tools;

pub use http::{proxy, roots};
pub(crate) use limits::Budget;
pub use owner::{Owner, Permit};
pub use run::{MOST_PERMISSION_ERRORS, Session, is_permission_text, run};
pub use tools::{Surroundings, ToolGroups};

/// What a session needs.
pub struct Input {
    /// System prompt, complete.
    pub system: String,
    /// Never empty; first choice first.
    pub models: Vec<ModelChoice>,
    /// Working directory of the tools.
    pub tool_dir: PathBuf,
    /// The session's own, writable: tools put the full text of long output there, and variables that outlive a call.
    pub tmp_dir: PathBuf,
    /// Environment of tools; also where requests look for proxies (`HTTPS_PROXY` …) and TLS roots (`SSL_CERT_FILE`).
    pub environment: Environment,
    /// File whose existence after a batch of tool calls ends the session (`al-exit`).
    pub exit_file: Option<PathBuf>,
    /// Waits that would end less than 5 s before it are not started.
    pub deadline: Option<Instant>,
    /// How long the run that ends with the deadline may take altogether.
    pub time_limit: Option<Duration>,
    pub limits: Limits,
    /// What is a secret in the results of tools, labelled with the types of credentials.
    pub secrets: Masker,
    /// The processes of tools, for whoever has to end them from outside.
    pub tool_groups: ToolGroups,
    /// Also decides whether repeated permission errors end the session (agent-session.md §6.3): in a container nobody is
    /// there to fix them.
    pub surroundings: Surroundings,
}

/// A model and the key for it.
pub struct ModelChoice {
    pub config: ModelConfig,
    /// `None` when the provider needs none.
    pub key: Option<Secret>,
}

/// How a session went.
pub struct Outcome {
    pub end: End,
    /// Text of all assistant messages, without separators.
    pub text: String,
    /// Of the whole session, failed endings included.
    pub usage: Usage,
    /// Occurrences of secrets in the results of tools.
    pub secrets_found: u64,
}

/// Why a session ended.
#[derive(Debug)]
pub enum End {
    /// The model was done, or the exit file appeared.
    Completed,
    /// Repeated permission errors.
    Aborted,
    /// A model request failed for good, or a budget is used up.
    Failed { error: Box<error::ModelError>, provider: String, model: String },
    /// The cancel token was used.
    Cancelled,
    /// The deadline passed.
    OutOfTime,
    /// The model configuration cannot be used; nothing was sent and no event but notices was reported.
    NotStarted { reason: String },
}
