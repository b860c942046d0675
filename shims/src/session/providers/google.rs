//! Google's Gemini API (agent-session.md §13).

use self::answer::Reading;
use self::request::{Body, Thought};
use super::{COMMON_HEADERS, idle, key, name_model, patience, shown};
use crate::env::Environment;
use crate::secret::Secret;
use crate::session::error::ModelError;
use crate::session::http::Client;
use crate::session::message::Assistant;
use crate::session::provider::{Delta, Model, Provider, Request};
use crate::session::registry::Thinking;
use crate::session::{ModelChoice, classify, history};
use crate::text::percent_encode;

mod answer;
mod request;
#[cfg(test)]
mod tests;

/// The one optional parameter of a request.
const THINKING: &str = "thinkingConfig";

/// A model behind the Gemini API.
pub(super) struct Google {
    client: Client,
    model: Model,
    /// Path of its requests.
    path: String,
    auth: Option<(String, Secret)>,
    /// Calls so far that came without an id.
    made_ids: u64,
}

impl Google {
    pub(super) fn new(model: Model, choice: &ModelChoice, environment: &Environment) -> Result<Self, String> {
        let config = &choice.config;
        let key = key(choice)?;
        let auth = key.map(|key| match &config.auth_header {
            Some(name) if config.provider == "custom" => (name.clone(), Secret::new(key)),
            _ => ("x-goog-api-key".to_owned(), Secret::new(key)),
        });
        let base = model.base_url.clone().expect("a model behind this API has a base URL");
        let headers: Vec<(&str, &str)> =
            config.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let client = Client::new(&base, &headers, key, idle(config), environment)?;
        let path = format!("/models/{}:streamGenerateContent?alt=sse", percent_encode(&model.id));
        Ok(Self { client, model, path, auth, made_ids: 0 })
    }

    /// How much thinking is asked for; nothing but the answer is wanted of requests without tools.
    fn thought(&self, request: &Request<'_>) -> Option<Thought> {
        let is_refused = request.refused.iter().any(|name| name == THINKING);
        let level = if request.tools { self.model.thinking } else { Thinking::Off };
        (self.model.facts.reasoning && !is_refused).then(|| thought(&self.model.id, level))
    }
}

impl Provider for Google {
    fn model(&self) -> &Model {
        &self.model
    }

    fn send(&mut self, request: &Request<'_>, sink: &mut dyn FnMut(Delta<'_>)) -> Result<Assistant, ModelError> {
        let thought = self.thought(request);
        let sent: &[&str] = if thought.is_some() { &[THINKING] } else { &[] };
        let turns = history::for_model(request.messages, &self.model);
        let body = Body::new(request, turns, thought, &self.model.id);
        let body = serde_json::to_vec(&body).expect("the body has only string keys");
        let mut headers = Vec::from(COMMON_HEADERS);
        headers.extend(self.auth.as_ref().map(|(name, key)| (name.as_str(), key.expose())));
        let answer = self.client.post(&self.path, &headers, body, patience(request))?;
        let (status, hints) = (answer.status, answer.hints());
        if !(200..300).contains(&status) {
            let body = answer.error_body(patience(request));
            return Err(name_model(classify::of_answer(status, &body, &hints, sent), &self.model));
        }
        let mut reading = Reading::new(&mut self.made_ids, sink);
        let read = match answer.is_stream() {
            true => reading.stream(answer, request),
            false => reading.whole(answer, request),
        };
        read.and_then(|()| reading.finish(&self.model))
            .map_err(|error| name_model(shown(error, hints, &self.client), &self.model))
    }
}

/// What a model is told about thinking; the first row that fits its id counts.
fn thought(id: &str, level: Thinking) -> Thought {
    use Thinking::{High, Low, Medium, Minimal, Off, XHigh};
    let of_generation_3 = |family: &str| id.strip_prefix("gemini-3").is_some_and(|rest| rest.contains(family));
    let starts_with = |prefixes: &[&str]| prefixes.iter().any(|prefix| id.starts_with(prefix));
    // One column each for: off, minimal, low, medium, high and more.
    let column = match level {
        Off => 0,
        Minimal => 1,
        Low => 2,
        Medium => 3,
        High | XHigh => 4,
    };
    let budget = |row: [i64; 5]| Thought::ThinkingBudget(row[column]);
    let named = |row: [&'static str; 5]| Thought::ThinkingLevel(row[column]);
    match () {
        () if id.contains("2.5-pro") => budget([128, 128, 2048, 8192, 32_768]),
        () if id.contains("2.5-flash-lite") => budget([0, 512, 2048, 8192, 24_576]),
        () if id.contains("2.5-flash") => budget([0, 128, 2048, 8192, 24_576]),
        () if of_generation_3("-pro") => named(["LOW", "LOW", "LOW", "HIGH", "HIGH"]),
        () if starts_with(&["gemini-3.7-flash", "gemini-3.8-flash", "gemini-4"]) => {
            named(["LOW", "LOW", "LOW", "MEDIUM", "HIGH"])
        }
        () if of_generation_3("-flash") => named(["MINIMAL", "MINIMAL", "LOW", "MEDIUM", "HIGH"]),
        () if starts_with(&["gemma-4"]) => named(["MINIMAL", "MINIMAL", "MINIMAL", "HIGH", "HIGH"]),
        // The model decides itself how much.
        () => budget([0, -1, -1, -1, -1]),
    }
}
