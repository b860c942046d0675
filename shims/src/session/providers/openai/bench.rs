//! What the tests of both OpenAI formats stand on.

use serde_json::Value;

use super::super::bench::ask;
use super::super::read_pieces;
use super::Reading;
use crate::env::Environment;
use crate::secret::Secret;
use crate::session::ModelChoice;
use crate::session::error::{Kind, ModelError};
use crate::session::fake::{Fake, Given, Received};
use crate::session::message::{Assistant, Block, Content, Message, ToolCall, ToolResult};
use crate::session::provider::{Model, Provider};
use crate::session::providers::connect;
use crate::session::registry::{Facts, Thinking};
use crate::wire::config::Price;

/// A provider; `table` is the model table without `baseUrl`.
pub(in crate::session::providers) fn provider(url: &str, table: &Value, key: &str) -> Box<dyn Provider> {
    let mut table = table.clone();
    table["baseUrl"] = url.into();
    let choice = ModelChoice { config: serde_json::from_value(table).unwrap(), key: Some(Secret::new(key)) };
    connect(&choice, &Environment::default(), &mut |_| {}).unwrap_or_else(|error| panic!("{error}"))
}

/// The request for one conversation; `answer` is any good stream.
pub(in crate::session::providers) fn received(
    table: &Value,
    messages: &[Message],
    refused: &[&str],
    answer: &str,
) -> Received {
    let server = Fake::start(vec![Given::stream(answer)]);
    ask(&mut *provider(&server.url, table, "k"), messages, refused).1.unwrap();
    server.received().remove(0)
}

/// What a reading makes of a stream that comes in these pieces and then ends, or breaks off.
pub(in crate::session::providers) fn replay<'p, R: Reading>(
    pieces: impl IntoIterator<Item = &'p [u8]>,
    end: End,
    mut reading: R,
) -> Result<Assistant, ModelError> {
    let mut pieces = pieces.into_iter();
    let next = || match (pieces.next(), end) {
        (Some(piece), _) => Ok(Some(piece.to_vec())),
        (None, End::Regular) => Ok(None),
        (None, End::BrokenOff) => Err(ModelError::new(Kind::Network, "the answer broke off")),
    };
    read_pieces(next, |event| reading.event(&event))?;
    reading.finish()
}

/// How a replayed stream ends.
#[derive(Clone, Copy, Debug)]
pub(in crate::session::providers) enum End {
    Regular,
    BrokenOff,
}

/// A model for tests that only read answers or put messages together; it thinks and has no images.
pub(in crate::session::providers) fn model(provider: &str, id: &str, api: &'static str) -> Model {
    let price = Price::default();
    let facts =
        Facts { reasoning: true, images: false, adaptive: false, context_window: 100_000, max_tokens: 10_000, price };
    Model { provider: provider.into(), id: id.into(), api, base_url: None, thinking: Thinking::Medium, facts }
}

pub(in crate::session::providers) fn result(id: &str, tool: &str, content: Vec<Content>) -> Message {
    Message::ToolResult(ToolResult { call_id: id.into(), tool: tool.into(), content, is_error: false })
}

pub(in crate::session::providers) fn text_result(id: &str, tool: &str, text: &str) -> Message {
    result(id, tool, vec![Content::Text(text.into())])
}

/// A response of a model; those of `openai` came in the Responses API.
pub(in crate::session::providers) fn said(provider: &str, model: &str, content: Vec<Block>) -> Message {
    let api = if provider == "openai" { "responses" } else { "chat" };
    Message::Assistant(Assistant {
        content,
        provider: provider.into(),
        model: model.into(),
        api,
        ..Assistant::default()
    })
}

pub(in crate::session::providers) fn text(text: &str) -> Block {
    Block::Text { text: text.into(), signature: None }
}

pub(in crate::session::providers) fn call(id: &str, name: &str, args: &Value) -> Block {
    Block::ToolCall(ToolCall::from_raw(id, name, args.to_string()))
}
