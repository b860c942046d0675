//! A conversation as `messages` of a request (agent-session.md §12.2).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::compat::Compat;
use super::ids::Ids;
use crate::session::history::{Part, Piece, Reply, Turn};
use crate::session::json;
use crate::session::message::Image;
use crate::session::provider::Model;

const IMAGES_OF_RESULTS: &str = "Attached image(s) from tool result:";
const SEE_IMAGE: &str = "(see attached image)";
/// What stands between a result and what the user says for those who want something there.
const CONTINUING: &str = "Continuing.";

/// How thinking came, and so how it goes back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Trace {
    /// As a member of the message with this name.
    Field(String),
    /// As a part of the content, with or without a signature.
    Part(Option<String>),
    /// As `reasoning_details`.
    Details(Vec<Value>),
}

#[derive(Serialize)]
pub(super) struct WireMessage<'a> {
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    content: Option<Content<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<WireCall<'a>>,
    /// Thinking that is sent back beside the content.
    #[serde(flatten)]
    thinking: Map<String, Value>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Text(Cow<'a, str>),
    Parts(Vec<WirePart<'a>>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum WirePart<'a> {
    Text {
        text: Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<CacheControl>,
    },
    ImageUrl {
        image_url: ImageUrl,
    },
    Thinking {
        thinking: [ThinkingText<'a>; 1],
        #[serde(skip_serializing_if = "Option::is_none")]
        signature: Option<String>,
    },
}

#[derive(Serialize)]
#[serde(untagged)]
enum ImageUrl {
    Object { url: String },
    Text(String),
}

#[derive(Serialize)]
struct ThinkingText<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    text: &'a str,
}

#[derive(Clone, Copy, Serialize)]
pub(super) struct CacheControl {
    #[serde(rename = "type")]
    kind: &'static str,
}

impl CacheControl {
    pub(super) const EPHEMERAL: Self = Self { kind: "ephemeral" };
}

#[derive(Serialize)]
struct WireCall<'a> {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    function: WireFunction<'a>,
}

#[derive(Serialize)]
struct WireFunction<'a> {
    name: &'a str,
    arguments: String,
}

/// Messages that are being put together.
pub(super) struct Conversation<'a, 'c> {
    messages: Vec<WireMessage<'a>>,
    compat: &'c Compat,
    ids: &'c mut Ids,
}

impl<'a, 'c> Conversation<'a, 'c> {
    /// A conversation with its system prompt.
    pub(super) fn new(system: &'a str, model: &Model, compat: &'c Compat, ids: &'c mut Ids) -> Self {
        let role = if compat.developer_role && model.facts.reasoning { "developer" } else { "system" };
        Self { messages: vec![WireMessage::new(role, Content::Text(system.into()))], compat, ids }
    }

    pub(super) fn add(&mut self, turn: Turn<'a>) {
        match turn {
            Turn::User(parts) => self.add_user(parts.into_iter().map(wire_part).collect()),
            Turn::Assistant(pieces) => self.add_response(pieces),
            Turn::Results(replies) => self.add_results(replies),
        }
    }

    /// The messages. Contents that are nothing but text become strings unless they have a mark.
    pub(super) fn finish(mut self, mark: Option<CacheControl>) -> Vec<WireMessage<'a>> {
        if mark.is_some() {
            self.mark(mark);
        }
        for message in &mut self.messages {
            message.simplify();
        }
        self.messages
    }

    /// Marks the system prompt and the last text that is not a result.
    fn mark(&mut self, mark: Option<CacheControl>) {
        let (system, rest) = self.messages.split_first_mut().expect("the system prompt is there");
        system.mark(mark);
        let _ = rest.iter_mut().rev().filter(|message| message.role != "tool").any(|message| message.mark(mark));
    }

    /// User messages that follow each other become one: some providers refuse two in a row.
    fn add_user(&mut self, parts: Vec<WirePart<'a>>) {
        let last = self.messages.last_mut().expect("the system prompt is there");
        if let ("user", Some(Content::Parts(before))) = (last.role, &mut last.content) {
            before.extend(parts);
            return;
        }
        if self.compat.assistant_after_tool && last.role == "tool" {
            self.messages.push(WireMessage::new("assistant", Content::Text(CONTINUING.into())));
        }
        self.messages.push(WireMessage::new("user", Content::Parts(parts)));
    }

    fn add_response(&mut self, pieces: Vec<Piece<'a>>) {
        let mut message = WireMessage { content: None, ..WireMessage::new("assistant", Content::Text("".into())) };
        let mut parts = Vec::new();
        let mut details = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Text { text, .. } => parts.push(WirePart::text(text)),
                Piece::Thinking { text, signature } => match json::parse(signature) {
                    Ok(Trace::Field(name)) => message.think(name, text),
                    Ok(Trace::Details(all)) => details.extend(all),
                    Ok(Trace::Part(signature)) => {
                        let thinking = [ThinkingText { kind: "text", text }];
                        parts.push(WirePart::Thinking { thinking, signature });
                    }
                    // Of the same model behind another format.
                    Err(_) if text.trim().is_empty() => {}
                    Err(_) => parts.push(WirePart::text(text.into())),
                },
                Piece::Redacted { .. } => {}
                Piece::Call { id, call, .. } => {
                    let arguments = serde_json::to_string(&call.args).expect("arguments have only string keys");
                    let function = WireFunction { name: &call.name, arguments };
                    message.tool_calls.push(WireCall { id: self.ids.sent(&id), kind: "function", function });
                }
            }
        }
        if !details.is_empty() {
            message.thinking = Map::from_iter([("reasoning_details".to_owned(), Value::Array(details))]);
        }
        message.content = (!parts.is_empty()).then_some(Content::Parts(parts));
        if message.content.is_some() || !message.tool_calls.is_empty() {
            self.messages.push(message);
        }
    }

    fn add_results(&mut self, replies: Vec<Reply<'a>>) {
        let mut images = Vec::new();
        for reply in replies {
            let Reply { id, tool, content, .. } = reply;
            let (texts, its_images): (Vec<_>, Vec<_>) =
                content.into_iter().partition(|part| matches!(part, Part::Text(_)));
            let texts: Vec<Cow<'_, str>> = texts
                .into_iter()
                .filter_map(|part| match part {
                    Part::Text(text) => Some(text),
                    Part::Image(_) => None,
                })
                .collect();
            let text = if texts.is_empty() && !its_images.is_empty() { SEE_IMAGE.to_owned() } else { texts.join("\n") };
            let content = if self.compat.images_in_results && !its_images.is_empty() {
                let its_images = its_images.into_iter().map(image_by_text);
                Content::Parts(std::iter::once(WirePart::text(text.into())).chain(its_images).collect())
            } else {
                images.extend(its_images.into_iter().map(wire_part));
                Content::Text(text.into())
            };
            let name = self.compat.tool_result_name.then_some(tool);
            let tool_call_id = Some(self.ids.sent(&id));
            self.messages.push(WireMessage { tool_call_id, name, ..WireMessage::new("tool", content) });
        }
        if !images.is_empty() {
            images.insert(0, WirePart::text(IMAGES_OF_RESULTS.into()));
            self.add_user(images);
        }
    }
}

impl<'a> WireMessage<'a> {
    fn new(role: &'static str, content: Content<'a>) -> Self {
        Self {
            role,
            tool_call_id: None,
            name: None,
            content: Some(content),
            tool_calls: Vec::new(),
            thinking: Map::new(),
        }
    }

    fn think(&mut self, field: String, text: &str) {
        match self.thinking.get_mut(&field) {
            Some(Value::String(before)) => before.push_str(text),
            _ => drop(self.thinking.insert(field, text.into())),
        }
    }

    /// Marks the last text. Returns whether there is one.
    fn mark(&mut self, mark: Option<CacheControl>) -> bool {
        if let Some(Content::Text(text)) = &mut self.content {
            self.content = Some(Content::Parts(vec![WirePart::text(std::mem::take(text))]));
        }
        let Some(Content::Parts(parts)) = &mut self.content else { return false };
        let last = parts.iter_mut().rev().find_map(|part| match part {
            WirePart::Text { cache_control, .. } => Some(cache_control),
            _ => None,
        });
        last.map(|place| *place = mark).is_some()
    }

    fn simplify(&mut self) {
        let Some(Content::Parts(parts)) = &mut self.content else { return };
        let plain = |part: &WirePart<'_>| matches!(part, WirePart::Text { cache_control: None, .. });
        if !parts.iter().all(plain) {
            return;
        }
        let texts = std::mem::take(parts).into_iter().filter_map(|part| match part {
            WirePart::Text { text, .. } => Some(text),
            _ => None,
        });
        // What a model said is one text, however many blocks it came in; what a user said is not.
        let between = if self.role == "user" { "\n\n" } else { "" };
        let whole = texts.reduce(|all, next| (all.into_owned() + between + &next).into());
        self.content = whole.map(Content::Text);
    }
}

impl<'a> WirePart<'a> {
    fn text(text: Cow<'a, str>) -> Self {
        Self::Text { text, cache_control: None }
    }
}

fn wire_part(part: Part<'_>) -> WirePart<'_> {
    match part {
        Part::Text(text) => WirePart::text(text),
        Part::Image(image) => WirePart::ImageUrl { image_url: ImageUrl::Object { url: data_url(image) } },
    }
}

fn image_by_text(part: Part<'_>) -> WirePart<'_> {
    match part {
        Part::Image(image) => WirePart::ImageUrl { image_url: ImageUrl::Text(data_url(image)) },
        Part::Text(text) => WirePart::text(text),
    }
}

fn data_url(image: &Image) -> String {
    format!("data:{};base64,{}", image.mime, image.base64)
}
