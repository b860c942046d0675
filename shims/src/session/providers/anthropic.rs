//! Anthropic's Messages API (agent-session.md §3.2, §10).

use self::reading::Reading;
use self::request::{Body, CacheControl, OutputConfig, ThinkingParam, messages, text_block, tool_list};
use self::thinking::{adaptive, budget, fit};
use super::{COMMON_HEADERS, idle, key, name_model, patience, shown};
use crate::env::Environment;
use crate::secret::Secret;
use crate::session::error::{Kind, ModelError};
use crate::session::event::Notice;
use crate::session::http::Client;
use crate::session::message::Assistant;
use crate::session::provider::{Delta, Model, Provider, Request};
use crate::session::registry::Thinking;
use crate::session::{ModelChoice, classify, history};

mod reading;
mod request;
#[cfg(test)]
mod tests;
mod thinking;

/// Most output asked for, thinking by budget apart.
const MOST_OUTPUT: u64 = 32_000;
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
        let client = Client::new(&base, &headers, key, idle(config), environment)?;
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
        read.and_then(|()| reading.finish(&self.model)).map_err(|error| self.explain(shown(error, hints, &self.client)))
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
