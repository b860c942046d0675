//! What the tests of all wire formats stand on.

use crate::cancel::Cancel;
use crate::session::error::ModelError;
use crate::session::message::{Assistant, Content, Image, Message};
use crate::session::provider::{Delta, Provider, Request};

/// What a provider makes of one answer: deltas as text, and the result.
pub(in crate::session) fn ask(
    provider: &mut dyn Provider,
    messages: &[Message],
    refused: &[&str],
) -> (Vec<String>, Result<Assistant, ModelError>) {
    send(provider, messages, refused, true)
}

/// As [`ask`], with or without tools.
pub(super) fn send(
    provider: &mut dyn Provider,
    messages: &[Message],
    refused: &[&str],
    tools: bool,
) -> (Vec<String>, Result<Assistant, ModelError>) {
    let cancel = Cancel::new();
    let refused: Vec<String> = refused.iter().map(|name| (*name).into()).collect();
    let request = Request {
        system: "You are an autonomous agent … Current working directory: /app/static",
        messages,
        max_tokens: provider.wanted_output(&refused),
        refused: &refused,
        tools,
        cancel: &cancel,
        deadline: None,
    };
    let mut deltas = Vec::new();
    let result = provider.send(&request, &mut |delta| deltas.push(delta_text(&delta)));
    (deltas, result)
}

pub(super) fn delta_text(delta: &Delta<'_>) -> String {
    match delta {
        Delta::Text(text) => format!("text {text}"),
        Delta::Thinking(text) => format!("thinking {text}"),
        Delta::Warning(text) => format!("warning {text}"),
    }
}

/// The prompt of a run that a person started.
pub(in crate::session) fn prompt() -> Message {
    user("You have been triggered manually.")
}

pub(super) fn user(text: &str) -> Message {
    Message::User(vec![Content::Text(text.into())])
}

pub(super) fn image() -> Content {
    Content::Image(Image { mime: "image/png", base64: "AA==".into() })
}

/// Positions just behind each event of a stream.
pub(in crate::session) fn event_ends(stream: &str) -> Vec<usize> {
    stream.match_indices("\n\n").map(|(at, end)| at + end.len()).collect()
}
