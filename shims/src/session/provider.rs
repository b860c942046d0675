//! The seam between the loop and the wire formats.

use std::time::Instant;

use super::error::ModelError;
use super::message::{Assistant, Message};
use super::registry::{Facts, Thinking};
use crate::cancel::Cancel;

/// One request to a model. The system prompt and the tools never change within a session.
pub struct Request<'a> {
    pub system: &'a str,
    pub messages: &'a [Message],
    /// Output limit, already fitted to the context window (agent-session.md §14.1).
    pub max_tokens: u64,
    /// Optional parameters that this model has refused (§9.3).
    pub refused: &'a [String],
    /// Whether tools are offered. Summaries are asked for without them, and without thinking.
    pub tools: bool,
    pub cancel: &'a Cancel,
    /// The run's own deadline.
    pub deadline: Option<Instant>,
}

/// A part of a response while it streams.
pub enum Delta<'a> {
    Text(&'a str),
    Thinking(&'a str),
    /// Something odd that is no part of the response.
    Warning(&'a str),
}

/// A model as a session uses it.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// The configured `provider`.
    pub provider: String,
    /// Id as sent.
    pub id: String,
    /// Wire format: `anthropic`, `responses`, `chat`, `google` or `mock`.
    pub api: &'static str,
    /// Where requests go; `None` for the mock.
    pub base_url: Option<String>,
    /// Effective level (agent-session.md §2.5).
    pub thinking: Thinking,
    pub facts: Facts,
}

/// One wire format spoken to one model.
pub trait Provider {
    /// The model that is spoken to.
    fn model(&self) -> &Model;

    /// What the waits between retries are divided by; other than 1 only for the mock.
    fn time_scale(&self) -> f64 {
        1.0
    }

    /// Output limit that a request would have if the context window had no end. `refused` as in [`Request`].
    fn wanted_output(&self, refused: &[String]) -> u64 {
        let _ = refused;
        self.model().facts.max_tokens.min(32_000)
    }

    /// Sends one request and reads the whole response. Nothing of a failed attempt is kept.
    ///
    /// # Errors
    /// Classified by agent-session.md §9.1. Cancellation gives `network` with the token cancelled; the caller looks at
    /// the token first.
    fn send(&mut self, request: &Request<'_>, sink: &mut dyn FnMut(Delta<'_>)) -> Result<Assistant, ModelError>;
}
