//! A response as it streams in (agent-session.md §11.4, §11.5).

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::session::classify::{self, Hints};
use crate::session::error::{Kind, ModelError};
use crate::session::history::plain_id;
use crate::session::message::{Assistant, Block, Stop, ToolCall};
use crate::session::provider::{Delta, Model};
use crate::session::providers::openai::{self, arguments, has_error, object, objects, text, tokens};
use crate::session::providers::{Progress, parse};
use crate::session::sse::SseEvent;
use crate::wire::usage::Usage;

/// Longest part of the id of a call, in bytes.
const LONGEST_ID: usize = 64;

/// A response that is being read.
pub(super) struct Reading<'r> {
    model: &'r Model,
    sink: &'r mut dyn FnMut(Delta<'_>),
    /// By `output_index`.
    items: BTreeMap<u64, Partial>,
    usage: Usage,
    /// The output limit was reached.
    cut: bool,
}

/// An item that may not be complete yet.
enum Partial {
    /// `item` is what has to be sent back, once it is known.
    Reasoning {
        text: String,
        item: Option<Map<String, Value>>,
    },
    Message {
        text: String,
        mark: TextMark,
    },
    Call(PartialCall),
    /// Of a type that is not known.
    Other,
}

#[derive(Default)]
struct PartialCall {
    item_id: String,
    call_id: String,
    name: String,
    raw: String,
}

/// What is remembered of a message besides its text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct TextMark {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) phase: Option<String>,
}

impl<'r> Reading<'r> {
    /// A response of `model`, of which nothing has come yet.
    pub(super) fn new(model: &'r Model, sink: &'r mut dyn FnMut(Delta<'_>)) -> Self {
        Self { model, sink, items: BTreeMap::new(), usage: Usage::default(), cut: false }
    }

    /// The key of the item that an event is about. Some servers do not number items.
    fn index(&self, event: &Map<String, Value>) -> u64 {
        let numbered = event.get("output_index").and_then(Value::as_u64);
        let id = text(event, "item_id").or_else(|| text(object(event, "item")?, "id")).filter(|id| !id.is_empty());
        let named = || self.items.iter().find(|(_, partial)| id.is_some() && partial.id() == id).map(|(at, _)| *at);
        let next = || self.items.last_key_value().map_or(0, |(last, _)| last.saturating_add(1));
        numbered.or_else(named).unwrap_or_else(next)
    }

    fn open(&mut self, event: &Map<String, Value>) {
        if let Some(item) = object(event, "item") {
            self.items.insert(self.index(event), Partial::of(item));
        }
    }

    /// The final form of an item; it replaces what has been streamed. What it leaves out stays.
    fn close(&mut self, index: u64, item: &Map<String, Value>) {
        let mut partial = Partial::of(item);
        let before = self.items.remove(&index);
        match (&mut partial, before) {
            (Partial::Message { text, mark }, before) => {
                let (streamed, known) = match before {
                    Some(Partial::Message { text, mark }) => (text, mark),
                    _ => Default::default(),
                };
                if text.is_empty() {
                    *text = streamed;
                } else if let Some(rest) = text.strip_prefix(&streamed).filter(|rest| !rest.is_empty()) {
                    (self.sink)(Delta::Text(rest));
                }
                mark.id = mark.id.take().or(known.id);
                mark.phase = mark.phase.take().or(known.phase);
            }
            (Partial::Reasoning { text, item: whole }, before) => {
                *whole = Some(item.clone());
                if let Some(Partial::Reasoning { text: streamed, .. }) = before
                    && !streamed.is_empty()
                {
                    *text = streamed;
                }
            }
            (Partial::Call(call), Some(Partial::Call(before))) => {
                for (known, new) in [
                    (before.item_id, &mut call.item_id),
                    (before.call_id, &mut call.call_id),
                    (before.name, &mut call.name),
                    (before.raw, &mut call.raw),
                ] {
                    if new.is_empty() {
                        *new = known;
                    }
                }
            }
            (Partial::Other, Some(before)) => partial = before,
            _ => {}
        }
        self.items.insert(index, partial);
    }

    fn said(&mut self, event: &Map<String, Value>) {
        let index = self.index(event);
        let new = Partial::Message { text: String::new(), mark: TextMark::default() };
        if let (Partial::Message { text: all, .. }, Some(part)) =
            (self.items.entry(index).or_insert(new), text(event, "delta").filter(|part| !part.is_empty()))
        {
            all.push_str(part);
            (self.sink)(Delta::Text(part));
        }
    }

    fn thought(&mut self, event: &Map<String, Value>) {
        let index = self.index(event);
        let new = Partial::Reasoning { text: String::new(), item: None };
        if let (Partial::Reasoning { text: all, .. }, Some(part)) =
            (self.items.entry(index).or_insert(new), text(event, "delta").filter(|part| !part.is_empty()))
        {
            all.push_str(part);
            (self.sink)(Delta::Thinking(part));
        }
    }

    fn called(&mut self, event: &Map<String, Value>) {
        let index = self.index(event);
        let new = || Partial::Call(PartialCall::default());
        if let Partial::Call(call) = self.items.entry(index).or_insert_with(new) {
            if let Some(whole) = arguments(event.get("arguments")).filter(|whole| !whole.is_empty()) {
                call.raw = whole;
            }
            call.raw.push_str(text(event, "delta").unwrap_or_default());
        }
    }

    /// Takes the object with which a response ends.
    fn end(&mut self, response: &Map<String, Value>) -> Result<(), ModelError> {
        if self.items.is_empty() {
            for (index, item) in (0..).zip(objects(response, "output")) {
                self.close(index, item);
            }
        }
        if let Some(usage) = object(response, "usage") {
            self.usage = count(usage);
        }
        Ok(())
    }

    /// As [`Reading::end`], for a response that is not what it was to be.
    fn end_incomplete(&mut self, response: &Map<String, Value>) -> Result<(), ModelError> {
        self.end(response)?;
        let reason = object(response, "incomplete_details").and_then(|details| text(details, "reason"));
        if reason == Some("content_filter") {
            let text = format!("{} refused to answer: the content filter stopped it", self.model.id);
            return Err(ModelError::new(Kind::Refusal, text));
        }
        self.cut = true;
        Ok(())
    }
}

impl openai::Reading for Reading<'_> {
    fn event(&mut self, event: &SseEvent) -> Result<Progress, ModelError> {
        if event.data.is_empty() {
            return Ok(Progress::More);
        }
        if event.data.trim() == "[DONE]" {
            return Err(ModelError::new(Kind::Network, "stream ended early"));
        }
        let data: Map<String, Value> = parse(&event.data)?;
        let nothing = Map::new();
        let response = object(&data, "response").unwrap_or(&nothing);
        match text(&data, "type").unwrap_or(&event.name) {
            "response.output_item.added" => self.open(&data),
            "response.output_text.delta" | "response.refusal.delta" => self.said(&data),
            "response.function_call_arguments.delta" | "response.function_call_arguments.done" => self.called(&data),
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => self.thought(&data),
            "response.output_item.done" => {
                if let Some(item) = object(&data, "item") {
                    self.close(self.index(&data), item);
                }
            }
            "response.completed" => {
                self.end(response)?;
                return Ok(Progress::Complete);
            }
            "response.incomplete" => {
                self.end_incomplete(response)?;
                return Ok(Progress::Complete);
            }
            "response.failed" => return Err(failure(response)),
            "error" => return Err(failure(&data)),
            _ => {}
        }
        Ok(Progress::More)
    }

    fn whole(&mut self, answer: &Map<String, Value>) -> Result<(), ModelError> {
        match text(answer, "status") {
            Some("failed") => Err(failure(answer)),
            _ if has_error(answer) => Err(failure(answer)),
            _ if text(answer, "object") != Some("response") => {
                Err(ModelError::new(Kind::Malformed, "the answer is neither a stream nor a response"))
            }
            Some("incomplete") => self.end_incomplete(answer),
            _ => self.end(answer),
        }
    }

    fn finish(self) -> Result<Assistant, ModelError> {
        let mut ids = HashSet::new();
        let content: Vec<Block> = self.items.into_values().filter_map(|partial| partial.block(&mut ids)).collect();
        let has_calls = content.iter().any(|block| matches!(block, Block::ToolCall(_)));
        let stop = match (self.cut, has_calls) {
            (true, _) => Stop::Length,
            (false, true) => Stop::ToolUse,
            (false, false) => Stop::Stop,
        };
        Ok(Assistant {
            content,
            provider: self.model.provider.clone(),
            model: self.model.id.clone(),
            api: self.model.api,
            usage: self.usage,
            stop,
            charged: None,
        })
    }
}

impl Partial {
    /// An item as far as it is known.
    fn of(item: &Map<String, Value>) -> Self {
        let owned = |name: &str| text(item, name).unwrap_or_default().to_owned();
        match text(item, "type") {
            Some("reasoning") => {
                let texts = objects(item, "summary").chain(objects(item, "content"));
                let texts: Vec<&str> = texts.filter_map(|part| text(part, "text")).collect();
                Self::Reasoning { text: texts.join("\n\n"), item: None }
            }
            Some("message") => {
                let texts = objects(item, "content").filter_map(|part| text(part, "text").or(text(part, "refusal")));
                let own = |name: &str| text(item, name).filter(|value| !value.is_empty()).map(str::to_owned);
                Self::Message { text: texts.collect(), mark: TextMark { id: own("id"), phase: own("phase") } }
            }
            Some("function_call") => Self::Call(PartialCall {
                item_id: owned("id"),
                call_id: owned("call_id"),
                name: owned("name"),
                raw: arguments(item.get("arguments")).unwrap_or_default(),
            }),
            _ => Self::Other,
        }
    }

    fn id(&self) -> Option<&str> {
        match self {
            Self::Reasoning { item, .. } => text(item.as_ref()?, "id"),
            Self::Message { mark, .. } => mark.id.as_deref(),
            Self::Call(call) => Some(&call.item_id),
            Self::Other => None,
        }
    }

    /// The finished block. `ids` are those of the calls before.
    fn block(self, ids: &mut HashSet<String>) -> Option<Block> {
        match self {
            // Without an item to send back there is a mark all the same: this is no thinking of another provider.
            Self::Reasoning { text, item } => {
                let signature = Value::Object(item.unwrap_or_default()).to_string();
                Some(Block::Thinking { text, signature: Some(signature), redacted: false })
            }
            Self::Message { text, .. } if text.is_empty() => None,
            Self::Message { text, mark } => {
                let signature = serde_json::to_string(&mark).expect("the mark has only string keys");
                Some(Block::Text { text, signature: Some(signature) })
            }
            Self::Call(PartialCall { item_id, call_id, name, raw }) => {
                Some(Block::ToolCall(ToolCall::from_raw(call_id_of(&call_id, &item_id, ids), name, raw)))
            }
            Self::Other => None,
        }
    }
}

/// Our id of a call, `<call id>|<item id>`. Results are matched by its first part.
fn call_id_of(call_id: &str, item_id: &str, ids: &mut HashSet<String>) -> String {
    let wanted = plain_id([call_id, item_id].into_iter().find(|id| !id.is_empty()).unwrap_or("call"));
    let mut call = wanted.clone().into_owned();
    while !ids.insert(call.clone()) {
        let ending = format!("_{}", ids.len());
        call = format!("{}{ending}", crate::text::cut(&wanted, LONGEST_ID - ending.len()));
    }
    if item_id.is_empty() {
        return call;
    }
    let item = if item_id.starts_with("fc_") { item_id.to_owned() } else { format!("fc_{item_id}") };
    format!("{call}|{}", plain_id(&item))
}

fn count(usage: &Map<String, Value>) -> Usage {
    let cache_read_tokens = tokens(usage, &["input_tokens_details", "cached_tokens"]);
    let cache_write_tokens = tokens(usage, &["input_tokens_details", "cache_write_tokens"]);
    let all = tokens(usage, &["input_tokens"]);
    Usage {
        input_tokens: all.saturating_sub(cache_read_tokens).saturating_sub(cache_write_tokens),
        output_tokens: tokens(usage, &["output_tokens"]),
        cache_read_tokens,
        cache_write_tokens,
        ..Usage::default()
    }
}

/// The error in a response or event. Codes that are not known mean that the request was not understood.
fn failure(object_with_error: &Map<String, Value>) -> ModelError {
    let error = object(object_with_error, "error").unwrap_or(object_with_error);
    let unknown = if text(error, "code").is_some() { Kind::InvalidRequest } else { Kind::Server };
    classify::of_object_or(object_with_error, &Hints::default(), unknown)
}
