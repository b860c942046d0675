//! A request on the wire (agent-session.md §10.1–10.3).

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::session::history::{Part, Piece, Reply, Turn};
use crate::session::tools;

#[derive(Serialize)]
pub(super) struct Body<'a> {
    pub(super) model: &'a str,
    pub(super) max_tokens: u64,
    pub(super) stream: bool,
    pub(super) system: Vec<WireBlock<'a>>,
    pub(super) messages: Vec<WireMessage<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tools: Vec<WireTool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) thinking: Option<ThinkingParam>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) output_config: Option<OutputConfig>,
}

#[derive(Serialize)]
pub(super) struct WireMessage<'a> {
    role: &'static str,
    content: Vec<WireBlock<'a>>,
}

#[derive(Serialize)]
pub(super) struct WireTool {
    name: &'static str,
    description: &'static str,
    input_schema: &'static Value,
}

#[derive(Clone, Copy, Serialize)]
pub(super) struct CacheControl {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ttl: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ThinkingParam {
    Enabled { budget_tokens: u64 },
    Adaptive,
    Disabled,
}

#[derive(Serialize)]
pub(super) struct OutputConfig {
    pub(super) effort: &'static str,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum WireBlock<'a> {
    Text {
        text: Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<CacheControl>,
    },
    Image {
        source: Source<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<CacheControl>,
    },
    Thinking {
        thinking: &'a str,
        signature: &'a str,
    },
    RedactedThinking {
        data: &'a str,
    },
    ToolUse {
        id: Cow<'a, str>,
        name: &'a str,
        input: &'a Map<String, Value>,
    },
    ToolResult {
        tool_use_id: Cow<'a, str>,
        content: ResultContent<'a>,
        is_error: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<CacheControl>,
    },
}

#[derive(Serialize)]
pub(super) struct Source<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    media_type: &'static str,
    data: &'a str,
}

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum ResultContent<'a> {
    Text(String),
    Blocks(Vec<WireBlock<'a>>),
}

pub(super) fn tool_list() -> Vec<WireTool> {
    let tools = tools::schemas().iter();
    tools
        .map(|tool| WireTool { name: tool.name, description: tool.description, input_schema: &tool.parameters })
        .collect()
}

pub(super) fn text_block(text: Cow<'_, str>, cache_control: Option<CacheControl>) -> WireBlock<'_> {
    WireBlock::Text { text, cache_control }
}

/// Results and what the user says share a role, so that both make one message when they follow each other. The last
/// block of the last of them carries the cache mark.
pub(super) fn messages<'a>(turns: Vec<Turn<'a>>, cache: Option<CacheControl>) -> Vec<WireMessage<'a>> {
    let mut messages: Vec<WireMessage<'a>> = Vec::new();
    for turn in turns {
        let (role, content) = match turn {
            Turn::User(parts) => ("user", parts.into_iter().map(part_block).collect::<Vec<_>>()),
            Turn::Results(replies) => ("user", replies.into_iter().map(result_block).collect()),
            Turn::Assistant(pieces) => ("assistant", pieces.into_iter().map(piece_block).collect()),
        };
        match messages.last_mut() {
            Some(last) if last.role == role => last.content.extend(content),
            _ => messages.push(WireMessage { role, content }),
        }
    }
    let last = messages.iter_mut().rev().find(|message| message.role == "user");
    if let Some(block) = last.and_then(|message| message.content.last_mut()) {
        block.mark(cache);
    }
    messages
}

impl WireBlock<'_> {
    fn mark(&mut self, cache: Option<CacheControl>) {
        match self {
            Self::Text { cache_control, .. }
            | Self::Image { cache_control, .. }
            | Self::ToolResult { cache_control, .. } => *cache_control = cache,
            Self::Thinking { .. } | Self::RedactedThinking { .. } | Self::ToolUse { .. } => {}
        }
    }
}

fn part_block(part: Part<'_>) -> WireBlock<'_> {
    match part {
        Part::Text(text) => text_block(text, None),
        Part::Image(image) => {
            let source = Source { kind: "base64", media_type: image.mime, data: &image.base64 };
            WireBlock::Image { source, cache_control: None }
        }
    }
}

fn piece_block(piece: Piece<'_>) -> WireBlock<'_> {
    match piece {
        Piece::Text { text, .. } => text_block(text, None),
        Piece::Thinking { text, signature } => WireBlock::Thinking { thinking: text, signature },
        Piece::Redacted { data } => WireBlock::RedactedThinking { data },
        Piece::Call { id, call, .. } => WireBlock::ToolUse { id, name: &call.name, input: &call.args },
    }
}

fn result_block(reply: Reply<'_>) -> WireBlock<'_> {
    let texts = reply.content.iter().filter_map(|part| match part {
        Part::Text(text) => Some(&**text),
        Part::Image(_) => None,
    });
    let texts: Vec<&str> = texts.collect();
    let content = if texts.len() == reply.content.len() {
        ResultContent::Text(texts.join("\n"))
    } else {
        let caption = texts.is_empty().then(|| text_block("(see attached image)".into(), None));
        ResultContent::Blocks(caption.into_iter().chain(reply.content.into_iter().map(part_block)).collect())
    };
    WireBlock::ToolResult { tool_use_id: reply.id, content, is_error: reply.is_error, cache_control: None }
}
