//! Anthropic's Messages API (agent-session.md §3.2, §10).

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value};

use super::{COMMON_HEADERS, MOST_TOKENS, Progress, idle, key, name_model, parse, patience, read_stream, read_whole};
use crate::env::Environment;
use crate::secret::Secret;
use crate::session::error::{Kind, ModelError};
use crate::session::event::Notice;
use crate::session::history::{self, Part, Piece, Reply, Turn};
use crate::session::http::{Answer, Client};
use crate::session::message::{Assistant, Block, Stop, ToolCall};
use crate::session::provider::{Delta, Model, Provider, Request};
use crate::session::registry::Thinking;
use crate::session::sse::SseEvent;
use crate::session::{ModelChoice, classify, tools};
use crate::wire::usage::Usage;

/// Most output asked for, thinking by budget apart.
const MOST_OUTPUT: u64 = 32_000;
/// Smallest thinking budget that the API takes.
const LEAST_BUDGET: u64 = 1024;
const VENDOR_PROMPT: &str = "You are Claude Code, Anthropic's official CLI for Claude.";
const OAUTH_BETAS: &str = "claude-code-20250219,oauth-2025-04-20";
const INTERLEAVED_BETA: &str = "interleaved-thinking-2025-05-14";
const SUBSCRIPTION: &str = "subscription tokens may be limited to the vendor's own client; use an API key, or \
                            harness = \"claude\"";

/// A model behind the Messages API.
pub(super) struct Anthropic {
    client: Client,
    model: Model,
    auth: Option<(String, Secret)>,
    /// The key is a token of a subscription.
    oauth: bool,
    cache: Option<CacheControl>,
}

impl Anthropic {
    pub(super) fn new(
        mut model: Model,
        choice: &ModelChoice,
        environment: &Environment,
        notice: &mut dyn FnMut(Notice<'_>),
    ) -> Result<Self, String> {
        let config = &choice.config;
        let key = key(choice)?;
        let oauth = config.provider == "anthropic" && key.is_some_and(|key| is_oauth(key, config.auth_type.as_deref()));
        if oauth && config.auth_type.as_deref().unwrap_or("api_key") == "api_key" {
            notice(Notice::Warning("the Anthropic key is a subscription token; set model.authType = \"oauth_token\""));
        }
        let auth = key.map(|key| match &config.auth_header {
            _ if oauth => ("authorization".to_owned(), Secret::new(format!("Bearer {key}"))),
            Some(name) if config.provider == "custom" => (name.clone(), Secret::new(key)),
            _ => ("x-api-key".to_owned(), Secret::new(key)),
        });
        let cache = match config.cache_retention.as_deref() {
            Some("none") => None,
            Some("long") => Some(CacheControl { kind: "ephemeral", ttl: Some("1h") }),
            _ => Some(CacheControl { kind: "ephemeral", ttl: None }),
        };
        if cache.is_some_and(|cache| cache.ttl.is_some()) {
            model.facts.price.cache_write = 2.0 * model.facts.price.input;
        }
        let base = model.base_url.clone().expect("a model behind this API has a base URL");
        let headers: Vec<(&str, &str)> =
            config.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let client = Client::new(&base, &headers, idle(config), environment)?;
        Ok(Self { client, model, auth, oauth, cache })
    }

    /// How much thinking is asked for; nothing but the answer is wanted of requests without tools.
    fn level(&self, request: &Request<'_>) -> Thinking {
        if request.tools { self.model.thinking } else { Thinking::Off }
    }

    /// `thinking` and `output_config` of a request.
    fn thinking(&self, request: &Request<'_>) -> (Option<ThinkingParam>, Option<OutputConfig>) {
        let level = self.level(request);
        let is_refused = |name: &str| request.refused.iter().any(|refused| refused == name);
        let (thinking, effort) = if self.model.facts.adaptive {
            adaptive(&self.model.id, level)
        } else {
            (budget(level).and_then(|budget| fit(budget, request.max_tokens)), None)
        };
        let effort = effort.filter(|_| !is_refused("output_config"));
        (thinking.filter(|_| !is_refused("thinking")), effort.map(|effort| OutputConfig { effort }))
    }

    fn headers<'a>(&'a self, betas: &'a str) -> Vec<(&'a str, &'a str)> {
        let mut headers = Vec::from(COMMON_HEADERS);
        headers.extend(self.auth.as_ref().map(|(name, key)| (name.as_str(), key.expose())));
        headers.push(("anthropic-version", "2023-06-01"));
        headers.extend((!betas.is_empty()).then_some(("anthropic-beta", betas)));
        headers
    }

    /// Makes the error of an answer more helpful.
    fn explain(&self, error: ModelError) -> ModelError {
        let mut error = name_model(error, &self.model);
        if self.oauth && matches!(error.kind, Kind::Auth | Kind::Permission) {
            error.message += &format!(" ({SUBSCRIPTION})");
        }
        error
    }
}

impl Provider for Anthropic {
    fn model(&self) -> &Model {
        &self.model
    }

    fn wanted_output(&self, refused: &[String]) -> u64 {
        let most = self.model.facts.max_tokens;
        let base = most.min(MOST_OUTPUT);
        let thinks = !self.model.facts.adaptive && !refused.iter().any(|name| name == "thinking");
        let budget = budget(self.model.thinking).filter(|_| thinks).unwrap_or(0);
        (base + budget).min(most)
    }

    fn send(&mut self, request: &Request<'_>, sink: &mut dyn FnMut(Delta<'_>)) -> Result<Assistant, ModelError> {
        let (thinking, output_config) = self.thinking(request);
        let cache = self.cache.filter(|_| !request.refused.iter().any(|name| name == "cache_control"));
        let interleaved = matches!(thinking, Some(ThinkingParam::Enabled { .. })).then_some(INTERLEAVED_BETA);
        let betas: Vec<&str> = self.oauth.then_some(OAUTH_BETAS).into_iter().chain(interleaved).collect();
        let mut sent = Vec::new();
        sent.extend(thinking.is_some().then_some("thinking"));
        sent.extend(output_config.is_some().then_some("output_config"));
        sent.extend(cache.is_some().then_some("cache_control"));

        let turns = history::for_model(request.messages, &self.model);
        let vendor = self.oauth.then_some(VENDOR_PROMPT);
        let body = Body {
            model: &self.model.id,
            max_tokens: request.max_tokens,
            stream: true,
            system: vendor.into_iter().chain([request.system]).map(|text| text_block(text.into(), cache)).collect(),
            messages: messages(turns, cache),
            tools: if request.tools { tool_list() } else { Vec::new() },
            thinking,
            output_config,
        };
        let body = serde_json::to_vec(&body).expect("the body has only string keys");
        let betas = betas.join(",");
        let answer = self.client.post("/v1/messages", &self.headers(&betas), body, patience(request))?;
        let (status, hints) = (answer.status, answer.hints());
        if !(200..300).contains(&status) {
            let body = answer.error_body(patience(request));
            return Err(self.explain(classify::of_answer(status, &body, &hints, &sent)));
        }
        let mut reading = Reading::new(sink);
        let read = match answer.is_stream() {
            true => reading.stream(answer, request),
            false => reading.whole(answer, request),
        };
        read.and_then(|()| reading.finish(&self.model)).map_err(|mut error| {
            error.request_id = error.request_id.or(hints.request_id);
            error.wait = error.wait.or(hints.wait);
            self.explain(error)
        })
    }
}

/// Whether a key is a token of a subscription. Its beginning says more than the configuration.
fn is_oauth(key: &str, auth_type: Option<&str>) -> bool {
    match key {
        _ if key.starts_with("sk-ant-oat") => true,
        _ if key.starts_with("sk-ant-api") => false,
        _ => auth_type == Some("oauth_token"),
    }
}

/// Tokens of thinking for models that think by budget.
fn budget(level: Thinking) -> Option<u64> {
    match level {
        Thinking::Off => None,
        Thinking::Minimal => Some(1024),
        Thinking::Low => Some(2048),
        Thinking::Medium => Some(8192),
        Thinking::High | Thinking::XHigh => Some(16_384),
    }
}

/// A budget must leave room for the answer, and must not be too small.
fn fit(budget: u64, max_tokens: u64) -> Option<ThinkingParam> {
    let budget = if max_tokens <= budget { max_tokens.saturating_sub(1024) } else { budget };
    (budget >= LEAST_BUDGET).then_some(ThinkingParam::Enabled { budget_tokens: budget })
}

/// What models that decide themselves how much to think are told.
fn adaptive(id: &str, level: Thinking) -> (Option<ThinkingParam>, Option<&'static str>) {
    let effort = match level {
        // Models up to 4.8 think only when they are told to, later ones unless they are told not to.
        Thinking::Off if version(id).is_some_and(|version| version <= (4, 8)) => return (None, None),
        Thinking::Off => return (Some(ThinkingParam::Disabled), Some("low")),
        Thinking::Minimal | Thinking::Low => "low",
        Thinking::Medium => "medium",
        Thinking::High => "high",
        Thinking::XHigh if id.contains("opus-4-6") => "max",
        Thinking::XHigh if id.contains("sonnet-4-6") => "high",
        Thinking::XHigh => "xhigh",
    };
    (Some(ThinkingParam::Adaptive), Some(effort))
}

/// Major and minor version in an id like `claude-opus-4-6` or `claude-opus-4-20250514`: numbers that are no dates.
fn version(id: &str) -> Option<(u32, u32)> {
    let number = |part: &str| part.parse().ok().filter(|_| part.len() <= 2);
    let mut parts = id.split(['-', '.']).map(number).skip_while(Option::is_none);
    Some((parts.next()??, parts.next().flatten().unwrap_or(0)))
}

// The request on the wire.

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    max_tokens: u64,
    stream: bool,
    system: Vec<WireBlock<'a>>,
    messages: Vec<WireMessage<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<WireTool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<ThinkingParam>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<OutputConfig>,
}

#[derive(Serialize)]
struct WireMessage<'a> {
    role: &'static str,
    content: Vec<WireBlock<'a>>,
}

#[derive(Serialize)]
struct WireTool {
    name: &'static str,
    description: &'static str,
    input_schema: &'static Value,
}

#[derive(Clone, Copy, Serialize)]
struct CacheControl {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ThinkingParam {
    Enabled { budget_tokens: u64 },
    Adaptive,
    Disabled,
}

#[derive(Serialize)]
struct OutputConfig {
    effort: &'static str,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum WireBlock<'a> {
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
struct Source<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    media_type: &'static str,
    data: &'a str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ResultContent<'a> {
    Text(String),
    Blocks(Vec<WireBlock<'a>>),
}

fn tool_list() -> Vec<WireTool> {
    let tools = tools::schemas().iter();
    tools
        .map(|tool| WireTool { name: tool.name, description: tool.description, input_schema: &tool.parameters })
        .collect()
}

fn text_block(text: Cow<'_, str>, cache_control: Option<CacheControl>) -> WireBlock<'_> {
    WireBlock::Text { text, cache_control }
}

/// Results and what the user says share a role, so that both make one message when they follow each other. The last
/// block of the last of them carries the cache mark.
fn messages<'a>(turns: Vec<Turn<'a>>, cache: Option<CacheControl>) -> Vec<WireMessage<'a>> {
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

// The answer.

/// A response that is being read.
struct Reading<'s> {
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
    fn new(sink: &'s mut dyn FnMut(Delta<'_>)) -> Self {
        Self { sink, blocks: Vec::new(), usage: Usage::default(), stop_reason: None, explanation: None }
    }

    fn stream(&mut self, mut answer: Answer, request: &Request<'_>) -> Result<(), ModelError> {
        read_stream(&mut answer, patience(request), |event| self.event(&event))
    }

    /// A complete answer, from a server that does not stream.
    fn whole(&mut self, answer: Answer, request: &Request<'_>) -> Result<(), ModelError> {
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

    fn finish(mut self, model: &Model) -> Result<Assistant, ModelError> {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::cancel::Cancel;
    use crate::session::fake::{Fake, Given};
    use crate::session::message::{Content, Image, Message, ToolResult};
    use crate::session::providers::connect;

    const FIRST_REQUEST: &str = include_str!("testdata/anthropic-request.json");
    const SECOND_MESSAGES: &str = include_str!("testdata/anthropic-messages-2.json");
    const TOOL_TURN: &str = include_str!("testdata/anthropic.sse");
    const OVERLOADED: &str = include_str!("testdata/anthropic-error.sse");

    /// A provider at `url`; `config` changes the model table.
    fn provider(url: &str, config: Value, key: &str) -> (Box<dyn Provider>, Vec<String>) {
        let mut table = json!({"provider": "anthropic", "model": "claude-sonnet-4-20250514", "baseUrl": url});
        table.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
        let choice = ModelChoice { config: serde_json::from_value(table).unwrap(), key: Some(Secret::new(key)) };
        let mut notices = Vec::new();
        let provider = connect(&choice, &Environment::default(), &mut |notice| notices.push(format!("{notice:?}")));
        (provider.unwrap(), notices)
    }

    /// What a provider makes of one answer: events as text, and the result.
    fn ask(
        provider: &mut dyn Provider,
        messages: &[Message],
        refused: &[&str],
    ) -> (Vec<String>, Result<Assistant, ModelError>) {
        let cancel = Cancel::new();
        let refused: Vec<String> = refused.iter().map(|name| (*name).into()).collect();
        let request = Request {
            system: "You are an autonomous agent … Current working directory: /app/static",
            messages,
            max_tokens: provider.wanted_output(&refused),
            refused: &refused,
            tools: true,
            cancel: &cancel,
            deadline: None,
        };
        let mut deltas = Vec::new();
        let result = provider.send(&request, &mut |delta| {
            deltas.push(match delta {
                Delta::Text(text) => format!("text {text}"),
                Delta::Thinking(text) => format!("thinking {text}"),
                Delta::Warning(text) => format!("warning {text}"),
            });
        });
        (deltas, result)
    }

    fn prompt() -> Message {
        let text = "<agent-config>\n{\"repos\":[\"acme/app\"]}\n</agent-config>\n\nYou are running on a schedule.";
        Message::User(vec![Content::Text(text.into())])
    }

    /// The answer to one stream.
    fn read(sse: impl Into<Vec<u8>>) -> (Vec<String>, Result<Assistant, ModelError>) {
        let server = Fake::start(vec![Given::stream(sse)]);
        ask(&mut *provider(&server.url, json!({}), "k").0, &[prompt()], &[])
    }

    /// The body of the request for one conversation.
    fn body(config: Value, messages: &[Message], refused: &[&str]) -> Value {
        let server = Fake::start(vec![Given::stream(TOOL_TURN)]);
        ask(&mut *provider(&server.url, config, "k").0, messages, refused).1.unwrap();
        server.received().remove(0).body
    }

    fn sse(events: &[Value]) -> String {
        let text = |event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap());
        events.iter().map(text).collect()
    }

    fn block(index: u64, start: Value, deltas: &[Value]) -> Vec<Value> {
        let delta = |delta: &Value| json!({"type": "content_block_delta", "index": index, "delta": delta});
        let mut events = vec![json!({"type": "content_block_start", "index": index, "content_block": start})];
        events.extend(deltas.iter().map(delta));
        events.push(json!({"type": "content_block_stop", "index": index}));
        events
    }

    /// A whole response of these blocks.
    fn response(blocks: Vec<Vec<Value>>, stop_reason: &str) -> String {
        let mut events = vec![json!({"type": "message_start", "message": {"usage": {"input_tokens": 1}}})];
        events.extend(blocks.into_iter().flatten());
        events.push(json!({"type": "message_delta", "delta": {"stop_reason": stop_reason}}));
        events.push(json!({"type": "message_stop"}));
        sse(&events)
    }

    fn without_descriptions(value: &mut Value) {
        match value {
            Value::Object(members) => {
                members.remove("description");
                members.values_mut().for_each(without_descriptions);
            }
            Value::Array(items) => items.iter_mut().for_each(without_descriptions),
            _ => {}
        }
    }

    #[test]
    fn any_pieces_give_the_same_response() {
        for stream in [TOOL_TURN, OVERLOADED] {
            let whole = read(stream);
            for size in (1..24).chain([61, 333, 1024]) {
                let server = Fake::start(vec![Given::stream(stream).in_pieces(size)]);
                let (mut provider, _) = provider(&server.url, json!({}), "k");
                assert_eq!(ask(&mut *provider, &[prompt()], &[]), whole, "pieces of {size} bytes");
            }
        }
    }

    #[test]
    fn a_stream_that_ends_anywhere_before_its_end_is_no_answer() {
        let stop = TOOL_TURN.rfind("event: message_stop").unwrap();
        let after_events = TOOL_TURN.match_indices("\n\n").map(|(at, _)| at + 2);
        for end in after_events.chain((0..stop).step_by(7)).filter(|end| *end <= stop) {
            let (_, answer) = read(&TOOL_TURN[..end]);
            assert!(answer.is_err(), "after {end} bytes: {answer:?}");
        }
    }

    #[test]
    fn transcript() {
        for chunk in [1, 7, 4096] {
            for line_end in ["\n", "\r\n"] {
                let stream = TOOL_TURN.replace('\n', line_end);
                let server = Fake::start(vec![Given::stream(stream).in_pieces(chunk), Given::stream(TOOL_TURN)]);
                let (mut provider, notices) = provider(&server.url, json!({}), "sk-ant-api03-EXAMPLE");
                assert!(notices.is_empty(), "{notices:?}");

                let mut messages = vec![prompt()];
                let (deltas, answer) = ask(&mut *provider, &messages, &[]);
                let answer = answer.unwrap();
                let thought = "I should list the open issues first.";
                let all = [&format!("thinking {thought}"), "text Checking ", "text open issues."];
                assert_eq!(deltas, all);
                let blocks = [
                    Block::Thinking {
                        text: thought.into(),
                        signature: Some("EqQBCkYIBxgCKkDa9=".into()),
                        redacted: false,
                    },
                    Block::Text { text: "Checking open issues.".into(), signature: None },
                    Block::ToolCall(ToolCall::from_raw(
                        "toolu_01XyZ",
                        "bash",
                        r#"{"command": "gh issue list -R acme/app --json number"}"#,
                    )),
                ];
                assert_eq!(answer.content, blocks);
                assert_eq!(answer.stop, Stop::ToolUse);
                let usage =
                    Usage { input_tokens: 12, output_tokens: 118, cache_write_tokens: 1834, ..Usage::default() };
                assert_eq!(answer.usage, usage);

                messages.push(Message::Assistant(answer));
                messages.push(Message::ToolResult(ToolResult {
                    call_id: "toolu_01XyZ".into(),
                    tool: "bash".into(),
                    content: vec![Content::Text("[{\"number\":42}]\n".into())],
                    is_error: false,
                }));
                ask(&mut *provider, &messages, &[]).1.unwrap();

                let mut requests = server.received();
                for request in &mut requests {
                    assert!(request.head.starts_with("post /v1/messages http/1.1\r\n"));
                    for header in [
                        ("content-type", "application/json"),
                        ("accept", "text/event-stream"),
                        ("accept-encoding", "identity"),
                        ("user-agent", "action-llama/0.13.2"),
                        ("anthropic-version", "2023-06-01"),
                        ("anthropic-beta", "interleaved-thinking-2025-05-14"),
                        ("x-api-key", "sk-ant-api03-example"),
                    ] {
                        assert_eq!(request.header(header.0), Some(header.1));
                    }
                    assert_eq!(request.header("authorization"), None);
                    without_descriptions(&mut request.body);
                }
                let mut expected: Value = serde_json::from_str(FIRST_REQUEST).unwrap();
                without_descriptions(&mut expected);
                assert_eq!(requests[0].body, expected);
                expected["messages"] = serde_json::from_str(SECOND_MESSAGES).unwrap();
                assert_eq!(requests[1].body, expected);
            }
        }
    }

    #[test]
    fn subscription_tokens_look_different() {
        let server = Fake::start(vec![Given::stream(TOOL_TURN), Given::json(403, r#"{"error":{"message":"no"}}"#)]);
        let (mut provider, notices) = provider(&server.url, json!({}), " sk-ant-oat01-X\n");
        assert!(notices.len() == 1 && notices[0].contains("oauth_token"), "{notices:?}");
        ask(&mut *provider, &[prompt()], &[]).1.unwrap();
        let request = server.received().remove(0);
        assert_eq!(request.header("authorization"), Some("bearer sk-ant-oat01-x"));
        assert_eq!(request.header("x-api-key"), None);
        let betas = "claude-code-20250219,oauth-2025-04-20,interleaved-thinking-2025-05-14";
        assert_eq!(request.header("anthropic-beta"), Some(betas));
        assert_eq!(request.body["system"][0]["text"], VENDOR_PROMPT);
        assert_eq!(request.body["system"].as_array().unwrap().len(), 2);
        assert!(request.body["system"].as_array().unwrap().iter().all(|block| block.get("cache_control").is_some()));

        let error = ask(&mut *provider, &[prompt()], &[]).1.unwrap_err();
        assert_eq!(error.kind, Kind::Permission);
        assert!(error.message.contains("harness"), "{error}");
    }

    #[test]
    fn a_server_of_ones_own_needs_no_key() {
        let server = Fake::start(vec![Given::stream(TOOL_TURN); 3]);
        let custom = json!({"provider": "custom", "api": "anthropic", "headers": {"X-Team": "a", "accept": "*/*"}});
        ask(&mut *provider(&server.url, custom.clone(), "").0, &[prompt()], &[]).1.unwrap();
        ask(&mut *provider(&server.url, custom.clone(), "sk-ant-oat1").0, &[prompt()], &[]).1.unwrap();
        let mut named = custom;
        named["authHeader"] = json!("X-Key");
        ask(&mut *provider(&server.url, named, "k1").0, &[prompt()], &[]).1.unwrap();
        let requests = server.received();
        assert_eq!((requests[0].header("x-api-key"), requests[0].header("authorization")), (None, None));
        assert_eq!((requests[0].header("x-team"), requests[0].header("accept")), (Some("a"), Some("*/*")));
        assert_eq!(requests[1].header("x-api-key"), Some("sk-ant-oat1"));
        assert_eq!((requests[2].header("x-key"), requests[2].header("x-api-key")), (Some("k1"), None));
        assert_eq!(requests[0].body["max_tokens"], 16_384);
        assert_eq!(requests[0].body.get("thinking"), None);
    }

    #[test]
    fn how_much_thinking_is_asked_for() {
        #[track_caller]
        fn case(model: &str, level: &str, max_tokens: u64, thinking: Value, effort: Value) {
            let body = body(json!({"model": model, "thinkingLevel": level}), &[prompt()], &[]);
            let seen = (body["max_tokens"].as_u64(), &body["thinking"], &body["output_config"]["effort"]);
            assert_eq!(seen, (Some(max_tokens), &thinking, &effort), "{model} {level}");
        }
        let budget = |tokens: u64| json!({"type": "enabled", "budget_tokens": tokens});
        let adaptive = || json!({"type": "adaptive"});
        case("claude-sonnet-4-20250514", "off", 32_000, Value::Null, Value::Null);
        case("claude-sonnet-4-20250514", "minimal", 33_024, budget(1024), Value::Null);
        case("claude-sonnet-4-20250514", "low", 34_048, budget(2048), Value::Null);
        case("claude-sonnet-4-20250514", "medium", 40_192, budget(8192), Value::Null);
        case("claude-sonnet-4-20250514", "high", 48_384, budget(16_384), Value::Null);
        case("claude-sonnet-4-20250514", "xhigh", 48_384, budget(16_384), Value::Null);
        case("claude-opus-4-20250514", "medium", 32_000, budget(8192), Value::Null);
        case("claude-3-haiku-20240307", "high", 4096, Value::Null, Value::Null);
        case("claude-opus-4-6", "off", 32_000, Value::Null, Value::Null);
        case("claude-opus-4-6", "minimal", 32_000, adaptive(), json!("low"));
        case("claude-opus-4-6", "low", 32_000, adaptive(), json!("low"));
        case("claude-opus-4-6", "medium", 32_000, adaptive(), json!("medium"));
        case("claude-opus-4-6", "high", 32_000, adaptive(), json!("high"));
        case("claude-opus-4-6", "xhigh", 32_000, adaptive(), json!("max"));
        case("claude-sonnet-4-6", "off", 32_000, Value::Null, Value::Null);
        case("claude-sonnet-4-6", "xhigh", 32_000, adaptive(), json!("high"));
        case("claude-opus-4-7", "xhigh", 32_000, adaptive(), json!("xhigh"));
        case("claude-opus-4-8", "off", 32_000, Value::Null, Value::Null);
        // New models are not in the table; their output limit is a guess.
        case("claude-opus-4-9", "off", 16_384, json!({"type": "disabled"}), json!("low"));
        for model in ["claude-opus-5", "claude-sonnet-5-5", "claude-fable-5-1"] {
            case(model, "off", 32_000, json!({"type": "disabled"}), json!("low"));
            case(model, "xhigh", 32_000, adaptive(), json!("xhigh"));
        }
    }

    #[test]
    fn versions_are_not_dates() {
        for (id, expected) in [
            ("claude-opus-4-6", Some((4, 6))),
            ("claude-sonnet-5", Some((5, 0))),
            ("claude-opus-4-20250514", Some((4, 0))),
            ("claude-opus-4-6-20260114", Some((4, 6))),
            ("claude-3-7-sonnet-latest", Some((3, 7))),
            ("proxy/claude-opus-4.7", Some((4, 7))),
            ("claude-next", None),
        ] {
            assert_eq!(version(id), expected, "{id}");
        }
    }

    /// Summaries are asked for without tools and without thinking.
    #[test]
    fn a_request_without_tools() {
        for (model, thinking) in [
            ("claude-sonnet-4-20250514", None),
            ("claude-opus-4-6", None),
            ("claude-opus-5", Some(json!({"type": "disabled"}))),
        ] {
            let server = Fake::start(vec![Given::stream(TOOL_TURN)]);
            let (mut provider, _) = provider(&server.url, json!({"model": model, "thinkingLevel": "high"}), "k");
            let (cancel, refused) = (Cancel::new(), []);
            let request = Request {
                system: "s",
                messages: &[prompt()],
                max_tokens: 13_107,
                refused: &refused,
                tools: false,
                cancel: &cancel,
                deadline: None,
            };
            provider.send(&request, &mut |_| {}).unwrap();
            let received = server.received().remove(0);
            assert_eq!(received.body.get("thinking"), thinking.as_ref());
            assert_eq!((received.body.get("tools"), &received.body["max_tokens"]), (None, &json!(13_107)));
            assert_eq!(received.header("anthropic-beta"), None);
        }
    }

    #[test]
    fn a_budget_shrinks_with_the_room() {
        let tokens = |budget, max_tokens| match fit(budget, max_tokens) {
            Some(ThinkingParam::Enabled { budget_tokens }) => Some(budget_tokens),
            _ => None,
        };
        assert_eq!(tokens(8192, 40_192), Some(8192));
        assert_eq!(tokens(8192, 8192), Some(7168));
        assert_eq!(tokens(8192, 2048), Some(1024));
        assert_eq!(tokens(8192, 2047), None);
        assert_eq!(tokens(8192, 100), None);
    }

    #[test]
    fn what_was_refused_is_left_out() {
        let budget = body(json!({}), &[prompt()], &["thinking", "cache_control"]);
        assert_eq!((budget.get("thinking"), budget["max_tokens"].as_u64()), (None, Some(32_000)));
        assert!(!budget.to_string().contains("cache_control"));
        let adaptive = body(json!({"model": "claude-opus-5"}), &[prompt()], &["thinking"]);
        assert_eq!((adaptive.get("thinking"), adaptive.get("output_config").is_some()), (None, true));
        let adaptive = body(json!({"model": "claude-opus-5"}), &[prompt()], &["output_config"]);
        assert_eq!((adaptive.get("thinking").is_some(), adaptive.get("output_config")), (true, None));
    }

    #[test]
    fn cache_marks() {
        let none = body(json!({"cacheRetention": "none"}), &[prompt()], &[]);
        assert!(!none.to_string().contains("cache_control"));
        let long = body(json!({"cacheRetention": "long"}), &[prompt()], &[]);
        assert_eq!(long["system"][0]["cache_control"], json!({"type": "ephemeral", "ttl": "1h"}));
        let (long, _) = provider("http://x", json!({"cacheRetention": "long"}), "k");
        assert_eq!(long.model().facts.price.cache_write, 6.0);
    }

    #[test]
    fn results_with_images_and_all_results_of_a_turn_in_one_message() {
        let call = |id: &str| Block::ToolCall(ToolCall::from_raw(id, "read", r#"{"path":"a"}"#));
        let image = || Content::Image(Image { mime: "image/png", base64: "AA==".into() });
        let result = |id: &str, content, is_error| {
            Message::ToolResult(ToolResult { call_id: id.into(), tool: "read".into(), content, is_error })
        };
        let messages = [
            prompt(),
            Message::Assistant(Assistant {
                content: vec![call("a"), call("b"), call("c")],
                provider: "anthropic".into(),
                model: "claude-sonnet-4-20250514".into(),
                api: "anthropic",
                ..Assistant::default()
            }),
            result("a", vec![image()], false),
            result("b", vec![Content::Text("Read image".into()), image()], false),
            Message::User(vec![Content::Text("And?".into())]),
        ];
        let body = body(json!({}), &messages, &[]);
        let source = json!({"type": "base64", "media_type": "image/png", "data": "AA=="});
        let image = json!({"type": "image", "source": source});
        let text = |text: &str| json!({"type": "text", "text": text});
        let result = |id: &str, content, is_error| json!({"type": "tool_result", "tool_use_id": id, "content": content, "is_error": is_error});
        let expected = json!([
            result("a", json!([text("(see attached image)"), image]), false),
            result("b", json!([text("Read image"), image]), false),
            result("c", json!("No result is available for this call."), true),
            {"type": "text", "text": "And?", "cache_control": {"type": "ephemeral"}},
        ]);
        assert_eq!(body["messages"][2], json!({"role": "user", "content": expected}));
        assert_eq!(body["messages"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn parallel_calls_whose_deltas_are_mixed() {
        let start = |id: &str, index: u64| {
            json!({"type": "content_block_start", "index": index,
            "content_block": {"type": "tool_use", "id": id, "name": "bash", "input": {}}})
        };
        let delta = |index: u64, part: &str| {
            json!({"type": "content_block_delta", "index": index,
            "delta": {"type": "input_json_delta", "partial_json": part}})
        };
        let events = vec![
            start("a", 0),
            start("b", 1),
            delta(1, r#"{"command":"#),
            delta(0, r#"{"command":"one""#),
            delta(1, r#""two"}"#),
            delta(0, "}"),
        ];
        let answer = read(response(vec![events], "tool_use")).1.unwrap();
        let calls: Vec<_> = answer.calls().map(|call| (call.id.as_str(), call.args["command"].as_str())).collect();
        assert_eq!(calls, [("a", Some("one")), ("b", Some("two"))]);
    }

    #[test]
    fn a_call_cut_by_the_output_limit_is_incomplete() {
        let call = json!({"type": "tool_use", "id": "a", "name": "write", "input": {}});
        let cut = json!({"type": "input_json_delta", "partial_json": r#"{"path":"/tmp/x","content":"ha"#});
        let answer = read(response(vec![block(0, call, &[cut])], "max_tokens")).1.unwrap();
        assert_eq!(answer.stop, Stop::Length);
        assert!(!answer.calls().next().unwrap().complete);
    }

    #[test]
    fn unknown_events_blocks_and_deltas_are_skipped() {
        let blocks = vec![
            vec![json!({"type": "weather"})],
            block(0, json!({"type": "server_tool_use", "id": "x"}), &[json!({"type": "text_delta", "text": "no"})]),
            block(
                1,
                json!({"type": "text", "text": "y"}),
                &[json!({"type": "mood_delta"}), json!({"type": "text_delta", "text": "es"})],
            ),
            block(2, json!({"type": "redacted_thinking", "data": "opaque"}), &[]),
            block(3, json!({"type": "tool_use", "id": "a", "name": "read", "input": {"path": "x"}}), &[]),
        ];
        let stream = response(blocks, "pause_turn").replacen("event:", ": hello\nevent: ping\n\nevent:", 1);
        let (deltas, answer) = read(stream);
        let answer = answer.unwrap();
        assert_eq!((deltas, answer.text()), (vec!["text y".to_owned(), "text es".to_owned()], "yes".to_owned()));
        let redacted = Block::Thinking { text: String::new(), signature: Some("opaque".into()), redacted: true };
        assert_eq!(answer.content[1], redacted);
        assert_eq!(answer.calls().next().unwrap().args["path"], "x");
    }

    #[test]
    fn half_characters_become_replacement_characters() {
        let mut text = response(
            vec![block(0, json!({"type": "text", "text": ""}), &[json!({"type": "text_delta", "text": "LONE"})])],
            "end_turn",
        );
        text = text.replace("LONE", r"a\ud83d!");
        assert_eq!(read(text).1.unwrap().text(), "a\u{fffd}!");
        let call = json!({"type": "tool_use", "id": "a", "name": "bash", "input": {}});
        let raw = json!({"type": "input_json_delta", "partial_json": r#"{"command":"\ude00"}"#});
        let answer = read(response(vec![block(0, call, &[raw])], "tool_use")).1.unwrap();
        assert_eq!(answer.calls().next().unwrap().args["command"], "\u{fffd}");
    }

    #[test]
    fn a_long_delta() {
        let long = "ü".repeat(512 << 10);
        let delta = json!({"type": "text_delta", "text": long});
        let stream = response(vec![block(0, json!({"type": "text", "text": ""}), &[delta])], "end_turn");
        assert_eq!(read(stream).1.unwrap().text(), long);
    }

    #[test]
    fn stop_reasons() {
        #[track_caller]
        fn case(reason: &str, text: &str, expected: Result<Stop, Kind>) {
            let stream = response(vec![block(0, json!({"type": "text", "text": text}), &[])], reason);
            let (deltas, answer) = read(stream);
            assert_eq!(answer.map(|answer| answer.stop).map_err(|error| error.kind), expected, "{reason}");
            let warned = deltas.iter().any(|delta| delta.starts_with("warning"));
            assert_eq!(warned, reason == "tired");
        }
        case("end_turn", "x", Ok(Stop::Stop));
        case("stop_sequence", "x", Ok(Stop::Stop));
        case("max_tokens", "x", Ok(Stop::Length));
        case("model_context_window_exceeded", "x", Ok(Stop::Length));
        case("model_context_window_exceeded", "", Err(Kind::ContextOverflow));
        case("refusal", "x", Err(Kind::Refusal));
        case("sensitive", "x", Err(Kind::Refusal));
        case("tired", "x", Ok(Stop::Stop));
        let delta = json!({"stop_reason": "refusal", "stop_details": {"explanation": "too spicy"}});
        let stream = sse(&[json!({"type": "message_delta", "delta": delta}), json!({"type": "message_stop"})]);
        assert!(read(stream).1.unwrap_err().message.contains("too spicy"));
    }

    #[test]
    fn the_last_count_of_each_kind_counts() {
        let stream = sse(&[
            json!({"type": "message_start", "message": {"usage": {"input_tokens": 5, "cache_read_input_tokens": null, "output_tokens": 1}}}),
            json!({"type": "message_delta", "delta": {}, "usage": {"output_tokens": 7, "input_tokens": null}}),
            json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9, "cache_read_input_tokens": 3}}),
            json!({"type": "message_stop"}),
        ]);
        let usage = read(stream).1.unwrap().usage;
        assert_eq!((usage.input_tokens, usage.output_tokens, usage.cache_read_tokens), (5, 9, 3));
    }

    #[test]
    fn errors_of_answers() {
        #[track_caller]
        fn case(given: Given, kind: Kind, text: &str) -> ModelError {
            let server = Fake::start(vec![given.header("request-id", "req_1")]);
            let error =
                ask(&mut *provider(&server.url, json!({"idleTimeout": 1}), "k").0, &[prompt()], &[]).1.unwrap_err();
            assert_eq!(error.kind, kind, "{error}");
            assert!(error.message.contains(text), "{error}");
            error
        }
        let body = |kind: &str, message: &str| {
            json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_2"}).to_string()
        };
        case(Given::json(401, &body("authentication_error", "invalid x-api-key")), Kind::Auth, "invalid x-api-key");
        case(Given::json(403, &body("permission_error", "not yours")), Kind::Permission, "not yours");
        let missing = case(
            Given::json(404, &body("not_found_error", "model: claude-sonnet-4-20250514")),
            Kind::InvalidRequest,
            "consider claude-sonnet-5-5",
        );
        assert_eq!((missing.status, missing.request_id.as_deref()), (Some(404), Some("req_1")));
        let limited = Given::json(429, &body("rate_limit_error", "This request would exceed your limit"));
        let limited = case(limited.header("retry-after", "12"), Kind::RateLimit, "exceed your limit");
        assert_eq!(limited.wait, Some(Duration::from_secs(12)));
        let spent = case(
            Given::json(400, &body("invalid_request_error", "thinking: adaptive is not supported")),
            Kind::InvalidRequest,
            "adaptive",
        );
        assert_eq!(spent.rejected.as_deref(), Some("thinking"));
        case(Given::stream(OVERLOADED), Kind::Overloaded, "Overloaded");
        case(Given::stream(&TOOL_TURN[..900]), Kind::Network, "stream ended early");
        case(Given::stream(&TOOL_TURN[..900]).cut(), Kind::Network, "");
        case(Given::stream(&TOOL_TURN[..900]).hang(), Kind::Network, "nothing received for 1 s");
        case(Given::stream("data: {\"type\":\n\n"), Kind::Malformed, "JSON");
        case(Given::json(200, "pong"), Kind::Malformed, "JSON");
        case(Given::json(200, "{}"), Kind::Malformed, "neither");
        case(Given::json(200, &body("overloaded_error", "busy")), Kind::Overloaded, "busy");
        case(Given::json(302, ""), Kind::InvalidRequest, "302");
    }

    #[test]
    fn a_server_that_does_not_stream() {
        let message = json!({"type": "message", "stop_reason": "tool_use",
            "usage": {"input_tokens": 3, "output_tokens": 4},
            "content": [{"type": "text", "text": "Hi"}, {"type": "tool_use", "id": "a", "name": "bash", "input": {"command": "x"}}]});
        let server = Fake::start(vec![Given::json(200, &message.to_string())]);
        let (deltas, answer) = ask(&mut *provider(&server.url, json!({}), "k").0, &[prompt()], &[]);
        let answer = answer.unwrap();
        assert_eq!(deltas, ["text Hi"]);
        assert_eq!((answer.stop, answer.usage.output_tokens), (Stop::ToolUse, 4));
        assert_eq!(answer.calls().next().unwrap().args["command"], "x");
    }
}
