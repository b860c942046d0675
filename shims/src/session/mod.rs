//! The conversation with a language model: provider-neutral types, the loop, tools, providers, retries
//! (agent-session.md). Knows nothing of containers, log lines or exit codes: it reports [`event::Event`]s and returns an
//! [`Outcome`].

use std::path::PathBuf;
use std::time::Instant;

use crate::cancel::Cancel;
use crate::env::Environment;
use crate::secret::Secret;
use crate::wire::config::ModelConfig;
use crate::wire::usage::Usage;

mod classify;
pub mod error;
pub mod estimate;
pub mod event;
mod http;
mod json;
pub mod message;
pub mod provider;
pub mod providers;
pub mod registry;
mod retry;
mod run;
mod sse;
pub mod tools;

pub use run::run;

/// What a session needs.
pub struct Input {
    /// System prompt, complete.
    pub system: String,
    /// The one user message.
    pub prompt: String,
    /// Never empty; first choice first.
    pub models: Vec<ModelChoice>,
    /// Working directory of the tools.
    pub tool_dir: PathBuf,
    /// Where tools put the full text of long output; must be writable.
    pub tmp_dir: PathBuf,
    /// Environment of tools; also where requests look for proxies (`HTTPS_PROXY` …) and TLS roots (`SSL_CERT_FILE`).
    pub environment: Environment,
    /// File whose existence after a batch of tool calls ends the session (`al-exit`).
    pub exit_file: Option<PathBuf>,
    /// Waits that would end less than 5 s before it are not started.
    pub deadline: Option<Instant>,
    /// Ends the running request and the running tool.
    pub cancel: Cancel,
    pub permission_errors: PermissionErrors,
}

/// A model and the key for it.
pub struct ModelChoice {
    pub config: ModelConfig,
    /// `None` when the provider needs none.
    pub key: Option<Secret>,
}

/// What three tool results that look like missing permissions do (agent-session.md §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PermissionErrors {
    /// End the session: nobody is there to fix them.
    Abort,
    /// Nothing: a person is talking to the model.
    Ignore,
}

/// How a session went.
pub struct Outcome {
    pub end: End,
    /// Text of all assistant messages, without separators.
    pub text: String,
    /// Of the whole session, failed endings included.
    pub usage: Usage,
}

/// Why a session ended.
#[derive(Debug)]
pub enum End {
    /// The model was done, or the exit file appeared.
    Completed,
    /// Repeated permission errors.
    Aborted,
    /// A model request failed for good.
    Failed { error: error::ModelError, provider: String, model: String },
    /// The cancel token was used.
    Cancelled,
    /// The deadline passed.
    OutOfTime,
    /// The model configuration cannot be used; nothing was sent and no event but notices was reported.
    NotStarted { reason: String },
}
