//! The provider-neutral conversation (agent-session.md §4). Every provider converts to and from these types.

use serde_json::{Map, Value};

use super::json;
use crate::wire::usage::Usage;

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    User(Vec<Content>),
    Assistant(Assistant),
    ToolResult(ToolResult),
}

/// A part of a user message or tool result.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    Text(String),
    Image(Image),
}

/// An image as the providers want it.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// `image/png`, `image/jpeg`, `image/gif` or `image/webp`.
    pub mime: &'static str,
    pub base64: String,
}

/// A response of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Assistant {
    pub content: Vec<Block>,
    /// Provider and model that answered; they decide which signatures may be sent back.
    pub provider: String,
    pub model: String,
    /// The wire format it came in; signatures of one mean nothing in another, even to the same model.
    pub api: &'static str,
    /// Of this response alone.
    pub usage: Usage,
    pub stop: Stop,
    /// US dollars, when the provider says what it charges for the response.
    pub charged: Option<f64>,
}

/// A block of a response, in the order received.
#[derive(Clone, Debug, PartialEq)]
pub enum Block {
    Text {
        text: String,
        /// Opaque; goes back to the provider that made it.
        signature: Option<String>,
    },
    Thinking {
        text: String,
        signature: Option<String>,
        /// The text is withheld; `signature` holds what has to be sent back.
        redacted: bool,
    },
    ToolCall(ToolCall),
}

/// A request of the model to run a tool.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolCall {
    pub id: String,
    pub name: String,
    /// Arguments; empty when `complete` is false.
    pub args: Map<String, Value>,
    /// Argument text as streamed.
    pub raw: String,
    /// Whether `raw` was one JSON object (empty text counts as `{}`). Incomplete calls are never executed.
    pub complete: bool,
    pub signature: Option<String>,
}

impl ToolCall {
    /// A call from its streamed argument text. Some models wrap the object into a JSON string; that is undone once.
    pub fn from_raw(id: impl Into<String>, name: impl Into<String>, raw: impl Into<String>) -> Self {
        let raw = raw.into();
        let parsed = if raw.trim().is_empty() { Some(Map::new()) } else { parse_args(&raw) };
        let complete = parsed.is_some();
        Self { id: id.into(), name: name.into(), args: parsed.unwrap_or_default(), raw, complete, signature: None }
    }
}

fn parse_args(raw: &str) -> Option<Map<String, Value>> {
    match json::parse(raw).ok()? {
        Value::Object(args) => Some(args),
        Value::String(inner) => json::parse(&inner).ok(),
        _ => None,
    }
}

/// What a tool gave back.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolResult {
    pub call_id: String,
    pub tool: String,
    pub content: Vec<Content>,
    pub is_error: bool,
}

impl ToolResult {
    /// All text parts joined by newlines.
    pub fn text(&self) -> String {
        let texts = self.content.iter().filter_map(|part| match part {
            Content::Text(text) => Some(text.as_str()),
            Content::Image(_) => None,
        });
        texts.collect::<Vec<_>>().join("\n")
    }
}

/// Why a response ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stop {
    #[default]
    Stop,
    /// The output limit was reached.
    Length,
    ToolUse,
}

impl Assistant {
    /// All text blocks without separators.
    pub fn text(&self) -> String {
        let texts = self.content.iter().filter_map(|block| match block {
            Block::Text { text, .. } => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }

    /// The tool calls in order.
    pub fn calls(&self) -> impl Iterator<Item = &ToolCall> {
        self.content.iter().filter_map(|block| match block {
            Block::ToolCall(call) => Some(call),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_off_arguments_make_an_incomplete_call() {
        assert!(ToolCall::from_raw("1", "bash", "").complete);
        assert!(ToolCall::from_raw("1", "bash", r#"{"command":"x"}"#).complete);
        let cut = ToolCall::from_raw("1", "bash", r#"{"command":"x"#);
        assert!(!cut.complete && cut.args.is_empty());
        assert!(!ToolCall::from_raw("1", "bash", "[1]").complete);
    }
}
