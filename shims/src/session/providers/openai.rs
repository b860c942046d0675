//! What the two OpenAI formats have in common: asking a server and reading its answer, either as a stream or whole.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, RandomState};

use serde::Serialize;
use serde_json::{Map, Value};

use super::{COMMON_HEADERS, MOST_TOKENS, Progress, idle, key, name_model, patience, read_stream, read_whole, shown};
use crate::env::Environment;
use crate::secret::Secret;
use crate::session::error::ModelError;
use crate::session::http::Client;
use crate::session::message::Assistant;
use crate::session::provider::{Model, Request};
use crate::session::registry::Thinking;
use crate::session::sse::SseEvent;
use crate::session::tools::Schema;
use crate::session::{ModelChoice, classify, tools};
use crate::wire::config::ModelConfig;

#[cfg(test)]
pub(super) mod bench;
pub(super) mod effort;

/// A model, the server behind which it is, and how to introduce oneself there.
pub(super) struct Server {
    pub(super) model: Model,
    /// Names the session where providers keep conversations in a cache.
    pub(super) session: String,
    pub(super) cache: Cache,
    client: Client,
    auth: Option<(String, Secret)>,
}

/// `model.cacheRetention`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cache {
    None,
    Short,
    Long,
}

/// What is sent.
pub(super) struct Post<'a, B> {
    /// Behind the base URL.
    pub(super) path: &'a str,
    /// Those of the format beyond the usual ones.
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) body: B,
    /// The optional parameters in the body, by their names.
    pub(super) sent: Vec<&'static str>,
}

/// What an answer is read into.
pub(super) trait Reading {
    /// Takes one event of a stream.
    fn event(&mut self, event: &SseEvent) -> Result<Progress, ModelError>;

    /// Takes a complete answer, from a server that does not stream.
    fn whole(&mut self, answer: &Map<String, Value>) -> Result<(), ModelError>;

    /// The response.
    fn finish(self) -> Result<Assistant, ModelError>;
}

impl Server {
    /// The server of a model.
    ///
    /// # Errors
    /// What is wrong with the configuration, for people.
    pub(super) fn new(model: Model, choice: &ModelChoice, environment: &Environment) -> Result<Self, String> {
        let config = &choice.config;
        let key = key(choice)?;
        let auth = key.map(|key| match &config.auth_header {
            Some(name) if config.provider == "custom" => (name.clone(), Secret::new(key)),
            _ => ("authorization".to_owned(), Secret::new(format!("Bearer {key}"))),
        });
        let base = model.base_url.clone().expect("a model behind this API has a base URL");
        let headers: Vec<(&str, &str)> =
            config.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let client = Client::new(&base, &headers, key, idle(config), environment)?;
        Ok(Self { model, session: random_uuid(), cache: Cache::of(config), client, auth })
    }

    /// Sends a body and reads the answer.
    ///
    /// # Errors
    /// As [`Provider::send`](crate::session::provider::Provider::send).
    pub(super) fn exchange<R: Reading>(
        &self,
        request: &Request<'_>,
        post: Post<'_, impl Serialize>,
        mut reading: R,
    ) -> Result<Assistant, ModelError> {
        let body = serde_json::to_vec(&post.body).expect("the body has only string keys");
        let mut answer = self.client.post(post.path, &self.headers(post.headers), body, patience(request))?;
        let (status, hints) = (answer.status, answer.hints());
        if !(200..300).contains(&status) {
            let body = answer.error_body(patience(request));
            return Err(name_model(classify::of_answer(status, &body, &hints, &post.sent), &self.model));
        }
        let read = if answer.is_stream() {
            read_stream(&mut answer, patience(request), |event| reading.event(&event)).map(|()| reading)
        } else {
            read_whole(answer, patience(request)).and_then(|answer| reading.whole(&answer).map(|()| reading))
        };
        read.and_then(Reading::finish).map_err(|error| name_model(shown(error, hints, &self.client), &self.model))
    }

    fn headers<'a>(&'a self, extra: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let mut headers = COMMON_HEADERS.to_vec();
        headers.extend(self.auth.as_ref().map(|(name, key)| (name.as_str(), key.expose())));
        headers.extend(extra);
        headers
    }

    /// How much thinking is asked for; nothing but the answer is wanted of requests without tools.
    pub(super) fn level(&self, request: &Request<'_>) -> Thinking {
        if request.tools { self.model.thinking } else { Thinking::Off }
    }
}

impl Cache {
    fn of(config: &ModelConfig) -> Self {
        match config.cache_retention.as_deref() {
            Some("none") => Self::None,
            Some("long") => Self::Long,
            _ => Self::Short,
        }
    }
}

/// The optional parameters of a request. What has been refused is left out.
pub(super) struct Optional<'r> {
    refused: &'r [String],
    /// Those that are sent, by their names on the wire.
    pub(super) sent: Vec<&'static str>,
}

impl<'r> Optional<'r> {
    /// None so far.
    pub(super) fn new(request: &Request<'r>) -> Self {
        Self { refused: request.refused, sent: Vec::new() }
    }

    /// A value unless its parameter has been refused.
    pub(super) fn add<T>(&mut self, name: &'static str, value: Option<T>) -> Option<T> {
        let value = value.filter(|_| !self.is_refused(name));
        self.sent.extend(value.is_some().then_some(name));
        value
    }

    pub(super) fn is_refused(&self, name: &str) -> bool {
        self.refused.iter().any(|refused| refused == name)
    }
}

/// `reasoning` of a request.
#[derive(Serialize)]
pub(super) struct Effort {
    pub(super) effort: &'static str,
}

/// A tool, as both formats describe it apart from what is around it.
#[derive(Serialize)]
pub(super) struct Function {
    name: &'static str,
    description: &'static str,
    parameters: &'static Value,
}

/// All tools.
pub(super) fn functions() -> impl Iterator<Item = Function> {
    let function = |tool: &'static Schema| Function {
        name: tool.name,
        description: tool.description,
        parameters: &tool.parameters,
    };
    tools::schemas().iter().map(function)
}

/// An error in an answer that calls itself a success.
pub(super) fn has_error(answer: &Map<String, Value>) -> bool {
    answer.get("error").is_some_and(|error| !error.is_null()) || text(answer, "object") == Some("error")
}

/// A member that is a text.
pub(super) fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    object.get(name)?.as_str()
}

/// A member that is an object.
pub(super) fn object<'a>(data: &'a Map<String, Value>, name: &str) -> Option<&'a Map<String, Value>> {
    data.get(name)?.as_object()
}

/// The objects in a member that is a list.
pub(super) fn objects<'a>(
    data: &'a Map<String, Value>,
    name: &str,
) -> impl Iterator<Item = &'a Map<String, Value>> + use<'a> {
    data.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object)
}

/// A number of tokens behind a path of names; 0 when there is none.
pub(super) fn tokens(usage: &Map<String, Value>, path: &[&str]) -> u64 {
    let (last, path) = path.split_last().expect("a path has a last name");
    let mut at = Some(usage);
    for name in path {
        at = at.and_then(|inner| object(inner, name));
    }
    at.and_then(|inner| inner.get(*last)?.as_u64()).unwrap_or(0).min(MOST_TOKENS)
}

/// Arguments of a call: a text, or from some servers the object itself.
pub(super) fn arguments(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::Null => None,
        Value::String(raw) => Some(raw.clone()),
        other => Some(other.to_string()),
    }
}

/// A number that is the same for the same text, within one session.
pub(super) fn hash(text: &str) -> u64 {
    BuildHasherDefault::<DefaultHasher>::new().hash_one(text)
}

/// A version 4 UUID, unique but not secret.
fn random_uuid() -> String {
    let random = RandomState::new();
    let (high, low) = (random.hash_one(0), random.hash_one(1));
    let (high, low) = (high & !0xF000 | 0x4000, low & !(3 << 62) | 2 << 62);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xFFFF,
        high & 0xFFFF,
        low >> 48,
        low & 0xFFFF_FFFF_FFFF
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_has_an_id_of_its_own() {
        let (one, two) = (random_uuid(), random_uuid());
        assert_ne!(one, two);
        for uuid in [one, two] {
            let groups: Vec<usize> = uuid.split('-').map(str::len).collect();
            assert_eq!(groups, [8, 4, 4, 4, 12], "{uuid}");
            assert!(uuid.chars().all(|c| c == '-' || c.is_ascii_hexdigit()), "{uuid}");
            assert_eq!(uuid.as_bytes()[14], b'4');
            assert!(b"89ab".contains(&uuid.as_bytes()[19]), "{uuid}");
        }
    }

    #[test]
    fn a_count_is_a_number_that_can_be_added_up() {
        let usage = serde_json::json!({"a": 3, "b": {"c": u64::MAX, "d": -1, "e": "5"}});
        let usage = usage.as_object().unwrap();
        let seen = [&["a"][..], &["b", "c"], &["b", "d"], &["b", "e"], &["x", "y"]].map(|path| tokens(usage, path));
        assert_eq!(seen, [3, MOST_TOKENS, 0, 0, 0]);
    }
}
