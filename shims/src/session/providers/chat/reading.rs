//! A response as it streams in (agent-session.md §12.5–12.7).

use serde_json::{Map, Value};

use super::ids::Ids;
use super::messages::Trace;
use crate::session::classify::{self, Hints};
use crate::session::error::{Kind, ModelError};
use crate::session::history;
use crate::session::json;
use crate::session::message::{Assistant, Block, Stop, ToolCall};
use crate::session::provider::{Delta, Model};
use crate::session::providers::openai::{self, arguments, has_error, object, objects, text, tokens};
use crate::session::providers::{Progress, parse};
use crate::session::sse::SseEvent;
use crate::wire::usage::Usage;

/// Members of a delta that hold thinking; the first that says something counts.
const THINKING: [&str; 3] = ["reasoning_content", "reasoning", "reasoning_text"];

/// A response that is being read.
pub(super) struct Reading<'r> {
    model: &'r Model,
    ids: &'r mut Ids,
    sink: &'r mut dyn FnMut(Delta<'_>),
    blocks: Vec<Partial>,
    /// `reasoning_details`, pieces put together.
    details: Vec<Map<String, Value>>,
    finish_reason: Option<String>,
    usage: Usage,
    charged: Option<f64>,
}

/// A block that may not be complete yet.
enum Partial {
    Text(String),
    Thinking { text: String, trace: Trace },
    Call { index: Option<u64>, id: String, name: String, raw: String },
}

impl<'r> Reading<'r> {
    /// A response of `model`, of which nothing has come yet.
    pub(super) fn new(model: &'r Model, ids: &'r mut Ids, sink: &'r mut dyn FnMut(Delta<'_>)) -> Self {
        Self {
            model,
            ids,
            sink,
            blocks: Vec::new(),
            details: Vec::new(),
            finish_reason: None,
            usage: Usage::default(),
            charged: None,
        }
    }

    /// Takes a chunk, or an answer in one piece.
    fn chunk(&mut self, chunk: &Map<String, Value>) -> Result<(), ModelError> {
        if has_error(chunk) {
            return Err(classify::of_object(chunk, &Hints::default()));
        }
        let choice = objects(chunk, "choices").next();
        let counts = object(chunk, "usage")
            .or_else(|| object(choice?, "usage"))
            .or_else(|| object(object(chunk, "x_groq")?, "usage"));
        if let Some(counts) = counts {
            self.count(counts);
        }
        let Some(choice) = choice else { return Ok(()) };
        if has_error(choice) {
            return Err(classify::of_object(choice, &Hints::default()));
        }
        if let Some(delta) = object(choice, "delta").or_else(|| object(choice, "message")) {
            self.delta(delta);
        }
        if let Some(reason) = text(choice, "finish_reason").filter(|reason| !reason.is_empty()) {
            self.finish_reason = Some(reason.to_owned());
        }
        Ok(())
    }

    fn delta(&mut self, delta: &Map<String, Value>) {
        let said = |name: &&str| text(delta, name).is_some_and(|text| !text.is_empty());
        if let Some(name) = THINKING.into_iter().find(said) {
            self.think(text(delta, name).unwrap_or_default(), Trace::Field(name.to_owned()));
        }
        self.say(text(delta, "content").unwrap_or_default());
        for part in objects(delta, "content") {
            self.part(part);
        }
        self.say(text(delta, "refusal").unwrap_or_default());
        for detail in objects(delta, "reasoning_details") {
            self.detail(detail);
        }
        for call in objects(delta, "tool_calls") {
            self.call(call);
        }
    }

    /// A part of a content that is a list.
    fn part(&mut self, part: &Map<String, Value>) {
        match text(part, "type") {
            Some("text") => self.say(text(part, "text").unwrap_or_default()),
            Some("thinking") => {
                let texts = objects(part, "thinking").filter_map(|inner| text(inner, "text"));
                let thought: String = texts.chain(text(part, "thinking")).collect();
                let signature = text(part, "signature").filter(|signature| !signature.is_empty());
                self.think(&thought, Trace::Part(signature.map(str::to_owned)));
            }
            _ => {}
        }
    }

    fn say(&mut self, part: &str) {
        if part.is_empty() {
            return;
        }
        match self.blocks.last_mut() {
            Some(Partial::Text(all)) => all.push_str(part),
            _ => self.blocks.push(Partial::Text(part.to_owned())),
        }
        (self.sink)(Delta::Text(part));
    }

    fn think(&mut self, part: &str, trace: Trace) {
        // Unlike texts, thinking goes back as it is kept.
        let part = &part.replace('\0', "");
        match (self.blocks.last_mut(), trace) {
            (Some(Partial::Thinking { text, trace: Trace::Part(known) }), Trace::Part(signature)) => {
                text.push_str(part);
                *known = signature.or(known.take());
            }
            (Some(Partial::Thinking { text, trace: known }), trace) if *known == trace => text.push_str(part),
            (_, Trace::Part(None)) if part.is_empty() => {}
            (_, trace) => self.blocks.push(Partial::Thinking { text: part.to_owned(), trace }),
        }
        if !part.is_empty() {
            (self.sink)(Delta::Thinking(part));
        }
    }

    /// Pieces of one detail are put together; everything else stays as it came.
    fn detail(&mut self, piece: &Map<String, Value>) {
        let same = |known: &&mut Map<String, Value>| {
            piece.contains_key("index") && ["index", "type"].iter().all(|name| known.get(*name) == piece.get(*name))
        };
        let Some(known) = self.details.iter_mut().find(same) else {
            self.details.push(piece.clone());
            return;
        };
        for (name, value) in piece {
            match (name.as_str(), known.get_mut(name), value) {
                (_, _, Value::Null) => {}
                ("text" | "summary", Some(Value::String(all)), Value::String(part)) => all.push_str(part),
                _ => drop(known.insert(name.clone(), value.clone())),
            }
        }
    }

    fn call(&mut self, piece: &Map<String, Value>) {
        let index = piece.get("index").and_then(Value::as_u64);
        let id = text(piece, "id").filter(|id| !id.is_empty() && *id != "null").unwrap_or_default();
        let nothing = Map::new();
        let function = object(piece, "function").unwrap_or(&nothing);
        let name = text(function, "name").unwrap_or_default();
        let at = self.blocks.iter().rposition(|block| match block {
            Partial::Call { index: known, .. } if index.is_some() => *known == index,
            Partial::Call { id: known, .. } => id.is_empty() || known == id,
            _ => false,
        });
        let at = at.filter(|at| !self.blocks[*at].is_followed_by(id, name)).unwrap_or_else(|| {
            self.blocks.push(Partial::Call { index, id: String::new(), name: String::new(), raw: String::new() });
            self.blocks.len() - 1
        });
        if let Partial::Call { id: known_id, name: known_name, raw, .. } = &mut self.blocks[at] {
            for (known, new) in [(known_id, id), (known_name, name)] {
                if known.is_empty() {
                    new.clone_into(known);
                }
            }
            raw.push_str(&arguments(function.get("arguments")).unwrap_or_default());
        }
    }

    /// The last counts replace earlier ones.
    fn count(&mut self, counts: &Map<String, Value>) {
        let (prompt, completion) = (tokens(counts, &["prompt_tokens"]), tokens(counts, &["completion_tokens"]));
        let total = tokens(counts, &["total_tokens"]);
        let reasoning = tokens(counts, &["completion_tokens_details", "reasoning_tokens"]);
        let cached = match tokens(counts, &["prompt_tokens_details", "cached_tokens"]) {
            0 => tokens(counts, &["prompt_cache_hit_tokens"]),
            cached => cached,
        };
        let cache_write_tokens = tokens(counts, &["prompt_tokens_details", "cache_write_tokens"]);
        // Who counts what was written to the cache counts it as cached as well.
        let cache_read_tokens = cached.saturating_sub(cache_write_tokens);
        let outside = reasoning > 0 && total >= prompt + completion + reasoning;
        self.usage = Usage {
            input_tokens: prompt.saturating_sub(cache_read_tokens).saturating_sub(cache_write_tokens),
            output_tokens: if outside { completion + reasoning } else { completion },
            cache_read_tokens,
            cache_write_tokens,
            ..Usage::default()
        };
        if self.model.provider == "openrouter" {
            self.charged = counts.get("cost").and_then(Value::as_f64).filter(|cost| *cost >= 0.0);
        }
    }

    fn stop(&mut self) -> Result<Stop, ModelError> {
        let has_calls = self.blocks.iter().any(|block| matches!(block, Partial::Call { .. }));
        let done = if has_calls { Stop::ToolUse } else { Stop::Stop };
        match self.finish_reason.as_deref() {
            None | Some("stop") => Ok(done),
            Some("tool_calls" | "function_call") => Ok(Stop::ToolUse),
            Some("length" | "model_length") => Ok(Stop::Length),
            Some("content_filter") => {
                let text = format!("{} refused to answer: the content filter stopped it", self.model.id);
                Err(ModelError::new(Kind::Refusal, text))
            }
            Some("error") => Err(ModelError::new(Kind::Server, "the provider reported an error without saying which")),
            Some(other) => {
                (self.sink)(Delta::Warning(&format!("unknown finish reason: {other}")));
                Ok(done)
            }
        }
    }

    /// The blocks with what has to go back with them.
    fn content(&mut self) -> Vec<Block> {
        let mut content = Vec::new();
        if !self.details.is_empty() {
            let details = std::mem::take(&mut self.details).into_iter().map(Value::Object).collect();
            content.push(thinking(String::new(), &Trace::Details(details)));
        }
        for block in std::mem::take(&mut self.blocks) {
            content.push(match block {
                Partial::Text(text) => Block::Text { text, signature: None },
                Partial::Thinking { text, trace } => thinking(text, &trace),
                Partial::Call { id, name, raw, .. } => {
                    let id = if id.is_empty() { self.ids.missing() } else { id };
                    Block::ToolCall(ToolCall::from_raw(id, name, raw))
                }
            });
        }
        content
    }
}

impl Partial {
    /// Whether a piece with this id and name begins another call. Some servers give all calls the same index.
    fn is_followed_by(&self, id: &str, name: &str) -> bool {
        let Self::Call { id: known, raw, .. } = self else { return false };
        let other = !known.is_empty() && !id.is_empty() && known != id && !name.is_empty();
        other && json::parse::<Map<String, Value>>(raw).is_ok()
    }
}

impl openai::Reading for Reading<'_> {
    fn event(&mut self, event: &SseEvent) -> Result<Progress, ModelError> {
        match event.data.trim() {
            "" => return Ok(Progress::More),
            "[DONE]" => return Ok(Progress::Complete),
            _ => {}
        }
        let data: Map<String, Value> = parse(&event.data)?;
        if event.name == "error" {
            return Err(classify::of_object(&data, &Hints::default()));
        }
        self.chunk(&data)?;
        // Counts may still come, and not every server says that this is the end.
        Ok(if self.finish_reason.is_some() { Progress::Enough } else { Progress::More })
    }

    fn whole(&mut self, answer: &Map<String, Value>) -> Result<(), ModelError> {
        if !has_error(answer) && text(answer, "object") != Some("chat.completion") {
            return Err(ModelError::new(Kind::Malformed, "the answer is neither a stream nor a chat completion"));
        }
        self.chunk(answer)
    }

    fn finish(mut self) -> Result<Assistant, ModelError> {
        let stop = self.stop()?;
        let mut assistant = Assistant {
            content: self.content(),
            provider: self.model.provider.clone(),
            model: self.model.id.clone(),
            api: self.model.api,
            usage: self.usage,
            stop,
            charged: self.charged,
        };
        history::distinct_ids(&mut assistant);
        Ok(assistant)
    }
}

fn thinking(text: String, trace: &Trace) -> Block {
    let signature = serde_json::to_string(trace).expect("the trace has only string keys");
    Block::Thinking { text, signature: Some(signature), redacted: false }
}
