//! A response as it streams in (agent-session.md §10.5).

use serde_json::{Map, Value};

use super::super::{MOST_TOKENS, Progress, parse, patience, read_stream, read_whole};
use crate::session::error::{Kind, ModelError};
use crate::session::http::Answer;
use crate::session::message::{Assistant, Block, Stop, ToolCall};
use crate::session::provider::{Delta, Model, Request};
use crate::session::sse::SseEvent;
use crate::session::{classify, history};
use crate::wire::usage::Usage;

/// A response that is being read.
pub(super) struct Reading<'s> {
    sink: &'s mut dyn FnMut(Delta<'_>),
    /// By the index of the stream, in order of appearance.
    blocks: Vec<(u64, Partial)>,
    usage: Usage,
    stop_reason: Option<String>,
    explanation: Option<String>,
}

enum Partial {
    Text(String),
    Thinking { text: String, signature: String },
    Redacted(String),
    Call { id: String, name: String, raw: String, input: Option<Value> },
}

impl<'s> Reading<'s> {
    pub(super) fn new(sink: &'s mut dyn FnMut(Delta<'_>)) -> Self {
        Self { sink, blocks: Vec::new(), usage: Usage::default(), stop_reason: None, explanation: None }
    }

    pub(super) fn stream(&mut self, mut answer: Answer, request: &Request<'_>) -> Result<(), ModelError> {
        read_stream(&mut answer, patience(request), |event| self.event(&event))
    }

    /// A complete answer, from a server that does not stream.
    pub(super) fn whole(&mut self, answer: Answer, request: &Request<'_>) -> Result<(), ModelError> {
        let hints = answer.hints();
        let message: Map<String, Value> = read_whole(answer, patience(request))?;
        if message.contains_key("error") {
            return Err(classify::of_object(&message, &hints));
        }
        if text(&message, "type") != Some("message") {
            return Err(ModelError::new(Kind::Malformed, "the answer is neither a stream nor a message"));
        }
        for (index, block) in (0..).zip(message.get("content").and_then(Value::as_array).into_iter().flatten()) {
            self.start_block(index, block.as_object());
        }
        self.count(message.get("usage"));
        self.stop(&message);
        Ok(())
    }

    fn event(&mut self, event: &SseEvent) -> Result<Progress, ModelError> {
        if event.data.is_empty() {
            return Ok(Progress::More);
        }
        let data: Map<String, Value> = parse(&event.data)?;
        let index = data.get("index").and_then(Value::as_u64).unwrap_or(0);
        match text(&data, "type").unwrap_or(&event.name) {
            "message_start" => self.count(object(&data, "message").and_then(|message| message.get("usage"))),
            "content_block_start" => self.start_block(index, object(&data, "content_block")),
            "content_block_delta" => self.delta(index, object(&data, "delta")),
            "message_delta" => {
                self.count(data.get("usage"));
                if let Some(delta) = object(&data, "delta") {
                    self.stop(delta);
                }
            }
            "message_stop" => return Ok(Progress::Complete),
            "error" => return Err(classify::of_object(&data, &classify::Hints::default())),
            _ => {}
        }
        Ok(Progress::More)
    }

    /// Takes the numbers that are there; they replace earlier ones.
    fn count(&mut self, usage: Option<&Value>) {
        let Some(usage) = usage else { return };
        let fields = [
            ("input_tokens", &mut self.usage.input_tokens),
            ("output_tokens", &mut self.usage.output_tokens),
            ("cache_read_input_tokens", &mut self.usage.cache_read_tokens),
            ("cache_creation_input_tokens", &mut self.usage.cache_write_tokens),
        ];
        for (name, field) in fields {
            *field = usage.get(name).and_then(Value::as_u64).map_or(*field, |count| count.min(MOST_TOKENS));
        }
    }

    /// Blocks of types that are not known are left out, and so are their deltas.
    fn start_block(&mut self, index: u64, block: Option<&Map<String, Value>>) {
        let Some(block) = block else { return };
        let owned = |name: &str| text(block, name).unwrap_or_default().to_owned();
        let partial = match text(block, "type") {
            Some("text") => Partial::Text(owned("text")),
            Some("thinking") => Partial::Thinking { text: owned("thinking"), signature: owned("signature") },
            Some("redacted_thinking") => Partial::Redacted(owned("data")),
            Some("tool_use") => {
                let input = block.get("input").cloned();
                Partial::Call { id: owned("id"), name: owned("name"), raw: String::new(), input }
            }
            _ => return,
        };
        match &partial {
            Partial::Text(text) if !text.is_empty() => (self.sink)(Delta::Text(text)),
            Partial::Thinking { text, .. } if !text.is_empty() => (self.sink)(Delta::Thinking(text)),
            _ => {}
        }
        self.blocks.push((index, partial));
    }

    fn delta(&mut self, index: u64, delta: Option<&Map<String, Value>>) {
        let block = self.blocks.iter_mut().rev().find(|(at, _)| *at == index);
        let (Some((_, block)), Some(delta)) = (block, delta) else { return };
        match (block, text(delta, "type").unwrap_or_default()) {
            (Partial::Text(all), "text_delta") => {
                let part = text(delta, "text").unwrap_or_default();
                all.push_str(part);
                (self.sink)(Delta::Text(part));
            }
            (Partial::Thinking { text: all, .. }, "thinking_delta") => {
                let part = text(delta, "thinking").unwrap_or_default();
                all.push_str(part);
                (self.sink)(Delta::Thinking(part));
            }
            (Partial::Thinking { signature, .. }, "signature_delta") => {
                signature.push_str(text(delta, "signature").unwrap_or_default());
            }
            (Partial::Call { raw, .. }, "input_json_delta") => {
                raw.push_str(text(delta, "partial_json").unwrap_or_default());
            }
            _ => {}
        }
    }

    fn stop(&mut self, delta: &Map<String, Value>) {
        if let Some(reason) = text(delta, "stop_reason") {
            self.stop_reason = Some(reason.to_owned());
        }
        let details = object(delta, "stop_details").and_then(|details| text(details, "explanation"));
        self.explanation = details.map(str::to_owned).or(self.explanation.take());
    }

    pub(super) fn finish(mut self, model: &Model) -> Result<Assistant, ModelError> {
        let stop = self.stop_of(model)?;
        let mut assistant = Assistant {
            content: self.blocks.into_iter().map(|(_, partial)| partial.block()).collect(),
            provider: model.provider.clone(),
            model: model.id.clone(),
            api: model.api,
            usage: self.usage,
            stop,
            charged: None,
        };
        history::distinct_ids(&mut assistant);
        Ok(assistant)
    }

    fn stop_of(&mut self, model: &Model) -> Result<Stop, ModelError> {
        let said_something = || {
            self.blocks.iter().any(|(_, block)| match block {
                Partial::Text(text) => !text.trim().is_empty(),
                Partial::Call { .. } => true,
                _ => false,
            })
        };
        match self.stop_reason.as_deref() {
            Some("end_turn" | "stop_sequence" | "pause_turn") => Ok(Stop::Stop),
            Some("max_tokens") => Ok(Stop::Length),
            Some("tool_use") => Ok(Stop::ToolUse),
            Some("model_context_window_exceeded") if said_something() => Ok(Stop::Length),
            Some("model_context_window_exceeded") => {
                Err(ModelError::new(Kind::ContextOverflow, "the context window is full"))
            }
            Some("refusal" | "sensitive") => {
                let why = self.explanation.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
                Err(ModelError::new(Kind::Refusal, format!("{} refused to answer{why}", model.id)))
            }
            other => {
                let reason = other.unwrap_or("none");
                (self.sink)(Delta::Warning(&format!("unknown stop reason: {reason}")));
                Ok(Stop::Stop)
            }
        }
    }
}

impl Partial {
    fn block(self) -> Block {
        match self {
            Self::Text(text) => Block::Text { text, signature: None },
            Self::Thinking { text, signature } => {
                Block::Thinking { text, signature: Some(signature).filter(|it| !it.is_empty()), redacted: false }
            }
            Self::Redacted(data) => Block::Thinking { text: String::new(), signature: Some(data), redacted: true },
            Self::Call { id, name, raw, input } => {
                let raw = match input {
                    Some(input) if raw.is_empty() => input.to_string(),
                    _ => raw,
                };
                Block::ToolCall(ToolCall::from_raw(id, name, raw))
            }
        }
    }
}

fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    object.get(name)?.as_str()
}

fn object<'a>(data: &'a Map<String, Value>, name: &str) -> Option<&'a Map<String, Value>> {
    data.get(name)?.as_object()
}
