//! What is known about models (agent-session.md §2.4, §20).

use crate::wire::config::Price;

/// Facts about one model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Facts {
    /// It has a thinking mode.
    pub reasoning: bool,
    /// It takes images.
    pub images: bool,
    /// Its thinking is adaptive, not by budget (anthropic only).
    pub adaptive: bool,
    /// Tokens.
    pub context_window: u64,
    /// Most output tokens of one response.
    pub max_tokens: u64,
    pub price: Price,
}

/// How much a model is asked to think, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Thinking {
    Off,
    Minimal,
    Low,
    Medium,
    High,
    XHigh,
}

impl Thinking {
    /// The word in configuration and log lines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Minimal => "minimal",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::XHigh => "xhigh",
        }
    }
}
