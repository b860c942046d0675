//! Errors of model requests, by kind (agent-session.md §9.1).

use std::time::Duration;

use crate::wire::exit;

/// What kind of failure it was; decides about retries and the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Auth,
    Permission,
    Quota,
    RateLimit,
    Overloaded,
    Server,
    Network,
    Malformed,
    ContextOverflow,
    Refusal,
    InvalidRequest,
    Limit,
}

impl Kind {
    /// The word in log lines and mock scripts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Permission => "permission",
            Self::Quota => "quota",
            Self::RateLimit => "rate_limit",
            Self::Overloaded => "overloaded",
            Self::Server => "server",
            Self::Network => "network",
            Self::Malformed => "malformed",
            Self::ContextOverflow => "context_overflow",
            Self::Refusal => "refusal",
            Self::InvalidRequest => "invalid_request",
            Self::Limit => "limit",
        }
    }

    /// All kinds, for lists in messages and for [`Kind::from_word`].
    pub const ALL: [Self; 12] = [
        Self::Auth,
        Self::Permission,
        Self::Quota,
        Self::RateLimit,
        Self::Overloaded,
        Self::Server,
        Self::Network,
        Self::Malformed,
        Self::ContextOverflow,
        Self::Refusal,
        Self::InvalidRequest,
        Self::Limit,
    ];

    /// The kind of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// Exit code of a run that ends with this error.
    pub fn exit_code(self) -> i32 {
        match self {
            Self::Auth => exit::AUTH,
            Self::Permission => exit::PERMISSION,
            Self::Quota | Self::RateLimit | Self::Overloaded => exit::RATE_LIMIT,
            Self::Server | Self::Network | Self::Malformed => exit::SERVICE,
            Self::InvalidRequest => exit::CONFIGURATION,
            Self::ContextOverflow | Self::Refusal | Self::Limit => exit::UNRECOVERABLE,
        }
    }
}

/// A failed model request.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelError {
    pub kind: Kind,
    /// For people; names what the provider said.
    pub message: String,
    /// HTTP status, when there was an answer.
    pub status: Option<u16>,
    /// How long the provider asked to wait.
    pub wait: Option<Duration>,
    /// `x-should-retry`, when the provider sent it.
    pub should_retry: Option<bool>,
    /// The optional request parameter that the provider refused (§9.3), by its name on the wire.
    pub rejected: Option<String>,
    /// The provider's id of the request.
    pub request_id: Option<String>,
    /// The key of `[limits]` that ended the session, and its value.
    pub limit: Option<(&'static str, f64)>,
}

impl ModelError {
    /// An error that did not come from an HTTP answer.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            status: None,
            wait: None,
            should_retry: None,
            rejected: None,
            request_id: None,
            limit: None,
        }
    }
}

impl std::fmt::Display for ModelError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ModelError {}
