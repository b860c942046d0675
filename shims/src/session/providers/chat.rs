//! OpenAI's Chat Completions, as many providers speak it (agent-session.md §12).

use serde::Serialize;

use self::compat::Compat;
use self::ids::Ids;
use self::messages::{CacheControl, Conversation, WireMessage};
use self::reading::Reading;
use self::thinking::Parameter;
use super::openai::{Cache, Effort, Function, Optional, Post, Server, functions};
use crate::env::Environment;
use crate::session::ModelChoice;
use crate::session::error::ModelError;
use crate::session::history;
use crate::session::message::{Assistant, Message};
use crate::session::provider::{Delta, Model, Provider, Request};

mod compat;
mod ids;
mod messages;
mod reading;
mod thinking;

/// A model behind Chat Completions.
pub(super) struct Chat {
    server: Server,
    compat: Compat,
    ids: Ids,
}

impl Chat {
    pub(super) fn new(model: Model, choice: &ModelChoice, environment: &Environment) -> Result<Self, String> {
        let compat = Compat::of(&choice.config)?;
        let ids = Ids::new(&model.provider, &compat);
        Ok(Self { server: Server::new(model, choice, environment)?, compat, ids })
    }
}

/// Where a provider of this format is; `None` for servers of one's own.
pub(super) fn base_url(provider: &str) -> Option<&'static str> {
    Some(match provider {
        "openai" => "https://api.openai.com/v1",
        "groq" => "https://api.groq.com/openai/v1",
        "xai" => "https://api.x.ai/v1",
        "mistral" => "https://api.mistral.ai/v1",
        "openrouter" => "https://openrouter.ai/api/v1",
        _ => return None,
    })
}

impl Provider for Chat {
    fn model(&self) -> &Model {
        &self.server.model
    }

    fn send(&mut self, request: &Request<'_>, sink: &mut dyn FnMut(Delta<'_>)) -> Result<Assistant, ModelError> {
        let Self { server, compat, ids } = self;
        let (body, sent) = body(server, compat, ids, request);
        let headers = match server.model.provider.as_str() {
            "mistral" if server.cache != Cache::None => vec![("x-affinity", server.session.as_str())],
            "openrouter" => {
                vec![("http-referer", "https://github.com/Action-Llama/action-llama"), ("x-title", "Action Llama")]
            }
            _ => Vec::new(),
        };
        let post = Post { path: "/chat/completions", headers: &headers, body, sent };
        server.exchange(request, post, Reading::new(&server.model, ids, sink))
    }
}

/// The body of a request, and which optional parameters it has.
fn body<'a>(
    server: &'a Server,
    compat: &Compat,
    ids: &mut Ids,
    request: &Request<'a>,
) -> (Body<'a>, Vec<&'static str>) {
    let Server { model, session, cache, .. } = server;
    let from = |provider: &str| model.provider == provider;
    let mut optional = Optional::new(request);
    let [max_completion_tokens, max_tokens] = limits(compat, request.max_tokens, &mut optional);
    let (reasoning_effort, reasoning, prompt_mode) = match thinking::parameter(model, compat, server.level(request)) {
        Some(Parameter::Effort(effort)) => (Some(effort), None, None),
        Some(Parameter::Reasoning(effort)) => (None, Some(Effort { effort }), None),
        Some(Parameter::PromptMode) => (None, None, Some("reasoning")),
        None => (None, None, None),
    };
    let marks = (compat.cache_control && *cache != Cache::None).then_some(CacheControl::EPHEMERAL);
    let key = (from("openai") && *cache != Cache::None).then_some(session.as_str());
    let with_tools = request.tools || has_calls(request.messages);
    let body = Body {
        model: &model.id,
        messages: conversation(model, compat, ids, request).finish(optional.add("cache_control", marks)),
        stream: true,
        stream_options: optional
            .add("stream_options", compat.usage_in_stream.then_some(StreamOptions { include_usage: true })),
        max_completion_tokens,
        max_tokens,
        tools: if with_tools { functions().map(Tool::of).collect() } else { Vec::new() },
        reasoning_effort: optional.add("reasoning_effort", reasoning_effort),
        reasoning: optional.add("reasoning", reasoning),
        prompt_mode: optional.add("prompt_mode", prompt_mode),
        store: optional.add("store", from("openai").then_some(false)),
        prompt_cache_key: optional.add("prompt_cache_key", key),
        usage: optional.add("usage", from("openrouter").then_some(UsageOptions { include: true })),
    };
    (body, optional.sent)
}

fn conversation<'a, 'c>(
    model: &Model,
    compat: &'c Compat,
    ids: &'c mut Ids,
    request: &Request<'a>,
) -> Conversation<'a, 'c> {
    let mut conversation = Conversation::new(request.system, model, compat, ids);
    history::for_model(request.messages, model).into_iter().for_each(|turn| conversation.add(turn));
    conversation
}

/// The output limit under both of its names, `max_completion_tokens` first. A server that refuses the one gets the
/// other.
fn limits(compat: &Compat, limit: u64, optional: &mut Optional<'_>) -> [Option<u64>; 2] {
    const NAMES: [&str; 2] = ["max_completion_tokens", "max_tokens"];
    let other = NAMES.into_iter().find(|name| *name != compat.max_tokens_field);
    let name = if optional.is_refused(compat.max_tokens_field) { other } else { Some(compat.max_tokens_field) };
    NAMES.map(|one| optional.add(one, (name == Some(one)).then_some(limit)))
}

fn has_calls(messages: &[Message]) -> bool {
    let calls = |message: &Message| matches!(message, Message::Assistant(said) if said.calls().next().is_some());
    messages.iter().any(calls)
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: Vec<WireMessage<'a>>,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_effort: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<Effort>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_mode: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_cache_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<UsageOptions>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
struct UsageOptions {
    include: bool,
}

#[derive(Serialize)]
struct Tool {
    #[serde(rename = "type")]
    kind: &'static str,
    function: Function,
}

impl Tool {
    fn of(function: Function) -> Self {
        Self { kind: "function", function }
    }
}

#[cfg(test)]
mod tests;
