//! OpenAI's Responses API (agent-session.md §11).

use serde::Serialize;

use self::input::{Ids, Item};
use self::reading::Reading;
use super::openai::effort::effort;
use super::openai::{Cache, Effort, Function, Optional, Post, Server, functions};
use crate::env::Environment;
use crate::session::error::ModelError;
use crate::session::history;
use crate::session::message::Assistant;
use crate::session::provider::{Delta, Model, Provider, Request};
use crate::session::{ModelChoice, classify};

mod input;
mod reading;

/// A model behind the Responses API.
pub(super) struct Responses {
    server: Server,
}

impl Responses {
    pub(super) fn new(model: Model, choice: &ModelChoice, environment: &Environment) -> Result<Self, String> {
        Ok(Self { server: Server::new(model, choice, environment)? })
    }

    /// The body of a request, and which optional parameters it has.
    fn body<'a>(&'a self, request: &Request<'a>) -> (Body<'a>, Vec<&'static str>) {
        let Server { model, session, cache, .. } = &self.server;
        let reasoning = model.facts.reasoning;
        let effort = reasoning.then(|| effort(&model.id, self.server.level(request))).flatten();
        let mut optional = Optional::new(request);
        // Thinking that has been taken out of the conversation leaves calls behind whose ids refer to it.
        let ids = if optional.is_refused(classify::THINKING_BLOCKS) { Ids::LeftOut } else { Ids::Sent };
        let body = Body {
            model: &model.id,
            input: input::items(request.system, reasoning, history::for_model(request.messages, model), ids),
            stream: true,
            max_output_tokens: request.max_tokens,
            tools: if request.tools { functions().map(Tool::of).collect() } else { Vec::new() },
            store: optional.add("store", Some(false)),
            prompt_cache_key: optional.add("prompt_cache_key", (*cache != Cache::None).then_some(session)),
            prompt_cache_retention: optional.add("prompt_cache_retention", (*cache == Cache::Long).then_some("24h")),
            reasoning: optional.add("reasoning", effort.map(|effort| Effort { effort })),
            include: optional.add("include", effort.map(|_| ["reasoning.encrypted_content"])),
        };
        (body, optional.sent)
    }
}

impl Provider for Responses {
    fn model(&self) -> &Model {
        &self.server.model
    }

    fn send(&mut self, request: &Request<'_>, sink: &mut dyn FnMut(Delta<'_>)) -> Result<Assistant, ModelError> {
        let (body, sent) = self.body(request);
        let post = Post { path: "/responses", headers: &[], body, sent };
        self.server.exchange(request, post, Reading::new(&self.server.model, sink))
    }
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    input: Vec<Item<'a>>,
    stream: bool,
    max_output_tokens: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_cache_key: Option<&'a String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_cache_retention: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<Effort>,
    #[serde(skip_serializing_if = "Option::is_none")]
    include: Option<[&'static str; 1]>,
}

#[derive(Serialize)]
struct Tool {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    function: Function,
    strict: bool,
}

impl Tool {
    fn of(function: Function) -> Self {
        Self { kind: "function", function, strict: false }
    }
}

#[cfg(test)]
mod tests;
