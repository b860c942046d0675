//! A conversation as `input` of a request (agent-session.md §11.2).

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value};

use super::reading::TextMark;
use crate::session::history::{Part, Piece, Reply, Turn, split_id};
use crate::session::json;
use crate::session::message::Image;
use crate::session::providers::openai::{hash, text};

/// Longest id that is taken back.
const LONGEST_ID: usize = 64;

/// Whether the ids that the server gave go back to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ids {
    Sent,
    LeftOut,
}

/// One item of `input`.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Item<'a> {
    System {
        role: &'static str,
        content: &'a str,
    },
    User {
        role: &'static str,
        content: Vec<InputPart<'a>>,
    },
    /// Exactly as it was received.
    Reasoning(Map<String, Value>),
    Typed(Typed<'a>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Typed<'a> {
    Message {
        role: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        status: &'static str,
        content: [OutputText<'a>; 1],
        #[serde(skip_serializing_if = "Option::is_none")]
        phase: Option<String>,
    },
    FunctionCall {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        call_id: String,
        name: &'a str,
        arguments: String,
    },
    FunctionCallOutput {
        call_id: String,
        output: Output<'a>,
    },
}

#[derive(Serialize)]
pub(super) struct OutputText<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    text: Cow<'a, str>,
    annotations: [(); 0],
}

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Output<'a> {
    Text(String),
    Parts(Vec<InputPart<'a>>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum InputPart<'a> {
    InputText { text: Cow<'a, str> },
    InputImage { detail: &'static str, image_url: String },
}

/// The items of a conversation. `reasoning`: the model is one that thinks.
pub(super) fn items<'a>(system: &'a str, reasoning: bool, turns: Vec<Turn<'a>>, ids: Ids) -> Vec<Item<'a>> {
    let role = if reasoning { "developer" } else { "system" };
    let mut items = vec![Item::System { role, content: system }];
    let mut unnamed = 0;
    for turn in turns {
        match turn {
            Turn::User(parts) => {
                let content = parts.into_iter().map(input_part).collect();
                items.push(Item::User { role: "user", content });
            }
            Turn::Assistant(pieces) => response(pieces, ids, &mut unnamed, &mut items),
            Turn::Results(replies) => items.extend(replies.into_iter().map(|reply| Item::Typed(output(reply)))),
        }
    }
    items
}

/// The server binds calls and messages to the thinking before them by their ids: when that thinking cannot be sent, the
/// ids must not be sent either.
fn response<'a>(mut pieces: Vec<Piece<'a>>, ids: Ids, unnamed: &mut u32, items: &mut Vec<Item<'a>>) {
    let is_thinking = |piece: &Piece<'_>| matches!(piece, Piece::Thinking { .. } | Piece::Redacted { .. });
    // Thinking at the end belongs to nothing.
    pieces.truncate(pieces.iter().rposition(|piece| !is_thinking(piece)).map_or(0, |last| last + 1));
    let complete = pieces.iter().all(|piece| !is_thinking(piece) || reasoning(piece).is_some());
    let ids = if complete { ids } else { Ids::LeftOut };
    for piece in pieces {
        match piece {
            Piece::Thinking { .. } | Piece::Redacted { .. } if ids == Ids::LeftOut => {}
            Piece::Thinking { .. } | Piece::Redacted { .. } => items.extend(reasoning(&piece).map(Item::Reasoning)),
            Piece::Text { text, signature } => {
                let mark = signature.and_then(|signature| json::parse(signature).ok()).unwrap_or_default();
                items.push(Item::Typed(message(text, mark, ids, unnamed)));
            }
            Piece::Call { id, call, .. } => {
                let (call_id, item) = split_id(&id);
                let id = item.filter(|_| ids == Ids::Sent).map(str::to_owned);
                let arguments = serde_json::to_string(&call.args).expect("arguments have only string keys");
                items.push(Item::Typed(Typed::FunctionCall {
                    id,
                    call_id: call_id.into(),
                    name: &call.name,
                    arguments,
                }));
            }
        }
    }
}

/// The item of a piece of thinking; `None` when it cannot be sent back: the server keeps nothing, so that everything
/// has to be in it.
fn reasoning(piece: &Piece<'_>) -> Option<Map<String, Value>> {
    let Piece::Thinking { signature, .. } = piece else { return None };
    let item: Map<String, Value> = json::parse(signature).ok()?;
    let sealed = text(&item, "encrypted_content").is_some_and(|content| !content.is_empty());
    (sealed && text(&item, "type") == Some("reasoning")).then_some(item)
}

fn message<'a>(text: Cow<'a, str>, mark: TextMark, ids: Ids, unnamed: &mut u32) -> Typed<'a> {
    let id = match mark.id {
        _ if ids == Ids::LeftOut => None,
        Some(id) if id.len() > LONGEST_ID => Some(format!("msg_{:016x}", hash(&id))),
        Some(id) => Some(id),
        None => {
            *unnamed += 1;
            Some(format!("msg_{unnamed}"))
        }
    };
    let content = [OutputText { kind: "output_text", text, annotations: [] }];
    Typed::Message { role: "assistant", id, status: "completed", content, phase: mark.phase }
}

fn output(reply: Reply<'_>) -> Typed<'_> {
    let texts = reply.content.iter().filter_map(|part| match part {
        Part::Text(text) => Some(&**text),
        Part::Image(_) => None,
    });
    let texts: Vec<&str> = texts.collect();
    let output = if texts.len() == reply.content.len() {
        Output::Text(texts.join("\n"))
    } else {
        Output::Parts(reply.content.into_iter().map(input_part).collect())
    };
    Typed::FunctionCallOutput { call_id: split_id(&reply.id).0.into(), output }
}

fn input_part(part: Part<'_>) -> InputPart<'_> {
    match part {
        Part::Text(text) => InputPart::InputText { text },
        Part::Image(Image { mime, base64 }) => {
            InputPart::InputImage { detail: "auto", image_url: format!("data:{mime};base64,{base64}") }
        }
    }
}
