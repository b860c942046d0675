//! An answer while it is read.

use std::time::{SystemTime, UNIX_EPOCH};

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
    /// Calls of the session so far that came without an id.
    made_ids: &'s mut u64,
    blocks: Vec<Block>,
    usage: Usage,
    finish_reason: Option<String>,
    finish_message: Option<String>,
}

impl<'s> Reading<'s> {
    pub(super) fn new(made_ids: &'s mut u64, sink: &'s mut dyn FnMut(Delta<'_>)) -> Self {
        Self { sink, made_ids, blocks: Vec::new(), usage: Usage::default(), finish_reason: None, finish_message: None }
    }

    pub(super) fn stream(&mut self, mut answer: Answer, request: &Request<'_>) -> Result<(), ModelError> {
        read_stream(&mut answer, patience(request), |event| self.event(&event))
    }

    /// A complete answer, from a server that does not stream.
    pub(super) fn whole(&mut self, answer: Answer, request: &Request<'_>) -> Result<(), ModelError> {
        match self.chunks(read_whole(answer, patience(request))?)? {
            Progress::More => {
                let text = "the answer is neither a stream nor a complete response";
                Err(ModelError::new(Kind::Malformed, text))
            }
            Progress::Enough | Progress::Complete => Ok(()),
        }
    }

    fn event(&mut self, event: &SseEvent) -> Result<Progress, ModelError> {
        if event.data.is_empty() {
            return Ok(Progress::More);
        }
        self.chunks(parse(&event.data)?)
    }

    /// One object, or several in a list: that is how servers answer that do not know `alt=sse`.
    fn chunks(&mut self, data: Value) -> Result<Progress, ModelError> {
        let list = match data {
            Value::Array(list) => list,
            one => vec![one],
        };
        for chunk in list {
            let Value::Object(chunk) = chunk else {
                return Err(ModelError::new(Kind::Malformed, "the answer has something else than objects in it"));
            };
            self.chunk(chunk)?;
        }
        Ok(if self.finish_reason.is_some() { Progress::Enough } else { Progress::More })
    }

    fn chunk(&mut self, mut chunk: Map<String, Value>) -> Result<(), ModelError> {
        if chunk.get("error").is_some_and(|error| !error.is_null()) {
            return Err(classify::of_object(&chunk, &classify::Hints::default()));
        }
        if let Some(Value::Object(usage)) = chunk.get("usageMetadata") {
            self.count(usage);
        }
        if let Some(Value::Object(feedback)) = chunk.get("promptFeedback") {
            check_feedback(feedback)?;
        }
        let candidate = chunk.get_mut("candidates").and_then(|candidates| candidates.get_mut(0));
        let Some(Value::Object(candidate)) = candidate else { return Ok(()) };
        if let Some(Value::Array(parts)) = candidate.get_mut("content").and_then(|content| content.get_mut("parts")) {
            parts.iter_mut().filter_map(Value::as_object_mut).for_each(|part| self.part(part));
        }
        if let Some(reason) = text(candidate, "finishReason") {
            self.finish_reason = Some(reason.to_owned());
            self.finish_message = text(candidate, "finishMessage").map(str::to_owned);
        }
        Ok(())
    }

    /// The last numbers count.
    fn count(&mut self, usage: &Map<String, Value>) {
        let number = |name: &str| usage.get(name).and_then(Value::as_u64).unwrap_or(0).min(MOST_TOKENS);
        let cache_read_tokens = number("cachedContentTokenCount");
        self.usage = Usage {
            input_tokens: number("promptTokenCount").saturating_sub(cache_read_tokens),
            output_tokens: number("candidatesTokenCount") + number("thoughtsTokenCount"),
            cache_read_tokens,
            ..Usage::default()
        };
    }

    /// Takes a part; those of types that are not known are left out.
    fn part(&mut self, part: &mut Map<String, Value>) {
        let signature = text(part, "thoughtSignature").filter(|it| !it.is_empty()).map(str::to_owned);
        if let Some(Value::Object(mut call)) = part.remove("functionCall") {
            self.call(&mut call, signature);
            return;
        }
        let Some(Value::String(said)) = part.remove("text") else {
            // A signature may come alone.
            if signature.is_some() && part.len() == 1 {
                self.text(String::new(), signature);
            }
            return;
        };
        match part.get("thought") {
            Some(Value::Bool(true)) => self.thinking(&said),
            _ => self.text(said, signature),
        }
    }

    fn thinking(&mut self, said: &str) {
        if said.is_empty() {
            return;
        }
        (self.sink)(Delta::Thinking(said));
        if let Some(Block::Thinking { text, .. }) = self.blocks.last_mut() {
            text.push_str(said);
        } else {
            self.blocks.push(Block::Thinking { text: said.to_owned(), signature: None, redacted: false });
        }
    }

    /// A text that has a signature goes back as a part of its own, so that it does not become part of the one before.
    fn text(&mut self, said: String, signature: Option<String>) {
        if !said.is_empty() {
            (self.sink)(Delta::Text(&said));
        }
        match self.blocks.last_mut() {
            Some(Block::Text { text, signature: None }) if signature.is_none() => text.push_str(&said),
            _ if said.is_empty() && signature.is_none() => {}
            _ => self.blocks.push(Block::Text { text: said, signature }),
        }
    }

    fn call(&mut self, call: &mut Map<String, Value>, signature: Option<String>) {
        let name = text(call, "name").unwrap_or_default().to_owned();
        let id = text(call, "id").filter(|id| !id.is_empty()).map(str::to_owned);
        let id = id.unwrap_or_else(|| {
            *self.made_ids += 1;
            made_id(&name, *self.made_ids)
        });
        let raw = match call.remove("args") {
            None | Some(Value::Null) => "{}".to_owned(),
            Some(args) => args.to_string(),
        };
        self.blocks.push(Block::ToolCall(ToolCall { signature, ..ToolCall::from_raw(id, name, raw) }));
    }

    pub(super) fn finish(self, model: &Model) -> Result<Assistant, ModelError> {
        let stop = self.stop(model)?;
        let (provider, id) = (model.provider.clone(), model.id.clone());
        let mut assistant =
            Assistant { content: self.blocks, provider, model: id, usage: self.usage, ..Assistant::default() };
        (assistant.stop, assistant.api) = (stop, model.api);
        history::distinct_ids(&mut assistant);
        Ok(assistant)
    }

    fn stop(&self, model: &Model) -> Result<Stop, ModelError> {
        let reason = self.finish_reason.as_deref().unwrap_or_default();
        let kind = match reason {
            "STOP" if self.blocks.iter().any(|block| matches!(block, Block::ToolCall(_))) => return Ok(Stop::ToolUse),
            "STOP" => return Ok(Stop::Stop),
            "MAX_TOKENS" | "CONTINUATION" => return Ok(Stop::Length),
            "SAFETY" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" | "RECITATION" | "LANGUAGE" | "ESCALATION"
            | "MODEL_ARMOR" | "NO_IMAGE" => Kind::Refusal,
            image if image.starts_with("IMAGE_") => Kind::Refusal,
            "PUP_LIMITED_DISABLED" => Kind::Permission,
            "MISSING_THOUGHT_SIGNATURE" => Kind::InvalidRequest,
            // A call that nobody can read, and reasons that say nothing or that nobody knows.
            _ => Kind::Malformed,
        };
        let why = self.finish_message.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
        Err(ModelError::new(kind, format!("{} ended its answer with {reason}{why}", model.id)))
    }
}

/// Whether the prompt was let through.
fn check_feedback(feedback: &Map<String, Value>) -> Result<(), ModelError> {
    let Some(reason) = text(feedback, "blockReason") else { return Ok(()) };
    let why = text(feedback, "blockReasonMessage").map(|why| format!(": {why}")).unwrap_or_default();
    Err(ModelError::new(Kind::Refusal, format!("the prompt was blocked with {reason}{why}")))
}

/// An id for a call that came without one.
fn made_id(name: &str, number: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{name}_{}_{number}", now.as_millis())
}

/// Whether an id was made here.
pub(super) fn is_made_id(id: &str, name: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let rest = id.strip_prefix(name).and_then(|rest| rest.strip_prefix('_'));
    rest.and_then(|rest| rest.split_once('_')).is_some_and(|(at, number)| digits(at) && digits(number))
}

fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    object.get(name)?.as_str()
}
