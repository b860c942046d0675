//! The wire formats. Each file is one provider API behind [`super::provider::Provider`].

use std::cell::Cell;
use std::path::Path;
use std::time::{Duration, Instant};

use self::mock::{Mock, Script};
use super::classify::{self, Hints};
use super::error::{Kind, ModelError};
use super::event::Notice;
use super::http::{Answer, Client, Patience};
use super::provider::{Model, Provider, Request};
use super::registry::{self, Registry, Resolved, Thinking};
use super::sse::{Parser, SseEvent, TooLong};
use super::{ModelChoice, json};
use crate::env::Environment;
use crate::text::cut;
use crate::wire::config::ModelConfig;
use crate::wire::paths;

mod anthropic;
#[cfg(test)]
pub(super) mod bench;
mod chat;
mod google;
pub mod mock;
mod openai;
mod responses;

/// Values of `model.provider`.
pub const NAMES: [&str; 9] =
    ["anthropic", "openai", "groq", "google", "xai", "mistral", "openrouter", "custom", "mock"];

/// A request is given up after this long without a byte, unless configured.
const IDLE: Duration = Duration::from_secs(600);
/// How long the end of a stream is waited for that has said everything; some servers leave it open.
const GRACE: Duration = Duration::from_secs(2);
/// No count of tokens is larger; whatever a server says, sums of them cannot overflow.
pub(crate) const MOST_TOKENS: u64 = 1 << 40;
/// What is shown of an answer that is none, in characters.
const BEGINNING: usize = 100;
/// Headers of every request.
const COMMON_HEADERS: [(&str, &str); 4] = [
    ("content-type", "application/json"),
    ("accept", "text/event-stream"),
    ("accept-encoding", "identity"),
    ("user-agent", concat!("action-llama/", env!("CARGO_PKG_VERSION"))),
];

/// Makes a model ready to be spoken to; nothing is sent. Conditions worth a log line go to `notice`.
///
/// # Errors
/// What is wrong with the configuration or missing, for people.
pub fn connect(
    choice: &ModelChoice,
    environment: &Environment,
    notice: &mut dyn FnMut(Notice<'_>),
) -> Result<Box<dyn Provider>, String> {
    let config = &choice.config;
    check(config)?;
    if config.provider == "mock" {
        return connect_mock(config, environment).map_err(|error| format!("{error:#}"));
    }
    let resolved = Registry::builtin().resolve(config);
    report(config, &resolved, notice);
    let api = api(config)?;
    let model = |default_url: &str| -> Result<Model, String> {
        Ok(Model {
            provider: config.provider.clone(),
            id: resolved.id.clone(),
            api,
            base_url: Some(base_url(config, default_url)?),
            thinking: Thinking::effective(config, &resolved.facts)?,
            facts: resolved.facts,
        })
    };
    match api {
        "anthropic" => {
            let model = model("https://api.anthropic.com")?;
            Ok(Box::new(anthropic::Anthropic::new(model, choice, environment, notice)?))
        }
        "responses" => {
            let model = model("https://api.openai.com/v1")?;
            Ok(Box::new(responses::Responses::new(model, choice, environment)?))
        }
        "chat" => {
            let model = model(chat::base_url(&config.provider).unwrap_or_default())?;
            Ok(Box::new(chat::Chat::new(model, choice, environment)?))
        }
        "google" => {
            let model = model("https://generativelanguage.googleapis.com/v1beta")?;
            Ok(Box::new(google::Google::new(model, choice, environment)?))
        }
        _ => Err(format!(
            "model.provider = \"{}\" with model.api = \"{api}\" is not available in this build",
            config.provider
        )),
    }
}

/// The mock has its facts from its script.
fn connect_mock(config: &ModelConfig, environment: &Environment) -> anyhow::Result<Box<dyn Provider>> {
    let named = environment.get_non_empty("AL_MOCK_SCRIPT").map(Path::new);
    let static_dir = environment.get_non_empty("AL_STATIC_DIR").unwrap_or(paths::STATIC_DIR);
    let script = Script::load(named, &Script::candidates(Path::new(static_dir), &config.model), &config.model)?;
    let facts = registry::overridden(script.facts(), config);
    let model = Model {
        provider: config.provider.clone(),
        id: config.model.clone(),
        api: "mock",
        base_url: None,
        thinking: Thinking::effective(config, &facts).map_err(anyhow::Error::msg)?,
        facts,
    };
    Ok(Box::new(Mock::new(script, model, environment.clone())?))
}

/// What no provider can work with.
fn check(config: &ModelConfig) -> Result<(), String> {
    let one_of = |key: &str, value: Option<&str>, allowed: &[&str]| match value {
        Some(value) if !allowed.contains(&value) => {
            Err(format!("model.{key} = \"{value}\" does not exist; use one of {}", allowed.join(", ")))
        }
        _ => Ok(()),
    };
    one_of("provider", Some(&config.provider), &NAMES)?;
    one_of("authType", config.auth_type.as_deref(), &["api_key", "oauth_token", "pi_auth"])?;
    one_of("cacheRetention", config.cache_retention.as_deref(), &["none", "short", "long"])?;
    if config.model.trim().is_empty() {
        return Err("model.model is empty; name the model to use".into());
    }
    for (key, value) in [
        ("contextWindow", config.context_window),
        ("maxTokens", config.max_tokens),
        ("idleTimeout", config.idle_timeout),
    ] {
        if value == Some(0) {
            return Err(format!("model.{key} must be greater than 0"));
        }
    }
    Ok(())
}

fn report(config: &ModelConfig, resolved: &Resolved, notice: &mut dyn FnMut(Notice<'_>)) {
    if resolved.aliased {
        notice(Notice::ModelAlias { from: &config.model, to: &resolved.id });
    }
    if resolved.assumed {
        notice(Notice::UnknownModel { provider: &config.provider, model: &resolved.id });
    }
    if config.auth_type.as_deref() == Some("oauth_token") && config.provider != "anthropic" {
        let text = format!("model.authType = \"oauth_token\" means nothing to {}; used as api_key", config.provider);
        notice(Notice::Warning(&text));
    }
}

/// The wire format of a provider.
fn api(config: &ModelConfig) -> Result<&'static str, String> {
    const APIS: [&str; 4] = ["anthropic", "responses", "chat", "google"];
    let own = match config.provider.as_str() {
        "anthropic" => "anthropic",
        "openai" => "responses",
        "google" => "google",
        _ => "chat",
    };
    let Some(wanted) = config.api.as_deref() else { return Ok(own) };
    if !matches!(config.provider.as_str(), "custom" | "openai") {
        return Err(format!("model.api cannot be set for provider {}; remove it", config.provider));
    }
    let (whose, apis) = match config.provider.as_str() {
        "openai" => (" for openai", &APIS[1..3]),
        _ => ("", &APIS[..]),
    };
    let found = apis.iter().find(|api| **api == wanted).copied();
    found.ok_or_else(|| format!("model.api = \"{wanted}\" does not exist{whose}; use one of {}", apis.join(", ")))
}

fn base_url(config: &ModelConfig, default: &str) -> Result<String, String> {
    match config.base_url.as_deref().map(str::trim).filter(|url| !url.is_empty()) {
        Some(url) => Ok(url.trim_end_matches('/').into()),
        None if config.provider == "custom" => {
            Err("model.baseUrl is missing; provider custom needs the URL of its server".into())
        }
        None => Ok(default.into()),
    }
}

/// The key of a model, trimmed; `None` where none is needed.
fn key(choice: &ModelChoice) -> Result<Option<&str>, String> {
    let key = choice.key.as_ref().map(|key| key.expose().trim()).filter(|key| !key.is_empty());
    let provider = choice.config.provider.as_str();
    let named = choice.config.credential.as_deref();
    match (key, named) {
        // As a header it could not be sent.
        (Some(key), _) if !key.bytes().all(|byte| matches!(byte, b' '..=b'~')) => {
            let name = named.map_or_else(|| format!("{provider}_key"), str::to_owned);
            let what = format!("the {name} credential has characters that no key has");
            Err(format!("{what}, perhaps from pasting; store it again with `al creds add {name}`"))
        }
        (Some(key), _) => Ok(Some(key)),
        (None, Some(credential)) => Err(format!("missing {credential} credential (model.credential); run `al doctor`")),
        (None, None) if provider == "custom" => Ok(None),
        (None, None) => Err(format!("missing {provider}_key credential; run `al doctor`")),
    }
}

fn idle(config: &ModelConfig) -> Duration {
    config.idle_timeout.map_or(IDLE, Duration::from_secs)
}

fn patience<'a>(request: &Request<'a>) -> Patience<'a> {
    Patience { cancel: request.cancel, deadline: request.deadline }
}

/// Reads a stream until `handle` says that it is complete, or until its end if that may come.
fn read_stream(
    answer: &mut Answer,
    patience: Patience<'_>,
    mut handle: impl FnMut(SseEvent) -> Result<Progress, ModelError>,
) -> Result<(), ModelError> {
    let until = Cell::new(None);
    let next = || answer.next(patience.until(until.get()));
    read_pieces(next, |event| {
        let progress = handle(event)?;
        if progress == Progress::Enough {
            until.set(Some(Instant::now() + GRACE));
        }
        Ok(progress)
    })
}

/// As [`read_stream`], from wherever the pieces come.
fn read_pieces(
    mut next: impl FnMut() -> Result<Option<Vec<u8>>, ModelError>,
    mut handle: impl FnMut(SseEvent) -> Result<Progress, ModelError>,
) -> Result<(), ModelError> {
    let too_long = |TooLong| ModelError::new(Kind::Malformed, "the stream has a line of more than 32 MiB");
    let mut parser = Parser::new();
    let mut events = Vec::new();
    let mut enough = false;
    loop {
        let bytes = match next() {
            Ok(Some(bytes)) => bytes,
            Ok(None) => break,
            Err(_) if enough => return Ok(()),
            Err(error) => return Err(error),
        };
        parser.feed(&bytes, &mut events).map_err(too_long)?;
        for event in events.drain(..) {
            match handle(event)? {
                Progress::More => {}
                Progress::Enough => enough = true,
                Progress::Complete => return Ok(()),
            }
        }
    }
    let last = parser.finish().map_err(too_long)?;
    match last.map(handle) {
        Some(Ok(Progress::Complete | Progress::Enough)) => return Ok(()),
        // The stream may have ended in the middle of this event.
        Some(Err(error)) if error.kind != Kind::Malformed => return Err(error),
        _ if enough => return Ok(()),
        _ => {}
    }
    Err(ModelError::new(Kind::Network, "stream ended early"))
}

/// Whether a stream has said everything.
#[derive(PartialEq, Eq)]
enum Progress {
    /// Its end would be too early.
    More,
    /// From now on it may end, and need not be waited for long; what still comes belongs to it.
    Enough,
    /// Nothing that comes after this is of interest.
    Complete,
}

/// The JSON of an answer that is not a stream.
fn read_whole<T: serde::de::DeserializeOwned>(answer: Answer, patience: Patience<'_>) -> Result<T, ModelError> {
    let kind = answer.header("content-type").unwrap_or("no content type").to_owned();
    let masker = answer.masker().clone();
    let body = answer.whole(patience)?;
    json::parse(body.trim_start_matches('\u{feff}')).map_err(|_| {
        let body = masker.mask(&body);
        let begin = cut(body.trim_start(), BEGINNING);
        let text = format!("the answer is neither a stream nor JSON ({kind}), it begins with: {begin}");
        ModelError::new(Kind::Malformed, text)
    })
}

/// Parses what must be JSON.
fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, ModelError> {
    json::parse(text)
        .map_err(|error| ModelError::new(Kind::Malformed, format!("the answer is not valid JSON: {error}")))
}

/// Completes the error of an answer with a good status by what its head says, and makes its message fit to be shown.
fn shown(mut error: ModelError, hints: Hints, client: &Client) -> ModelError {
    error.request_id = error.request_id.or(hints.request_id);
    error.wait = error.wait.or(hints.wait);
    let message = client.masker().mask(&error.message);
    error.message = cut(&message, classify::MESSAGE).to_owned();
    error
}

/// Says which model a refused request was for, and what to use when it is known to be gone.
fn name_model(mut error: ModelError, model: &Model) -> ModelError {
    let about_model = error.status == Some(404) || error.message.contains(&model.id);
    if error.kind == Kind::InvalidRequest && about_model {
        error.message = format!("model {}: {}", model.id, error.message);
        if let Some(instead) = registry::replacement(&model.provider, &model.id) {
            error.message += &format!(" (this id is no longer served, consider {instead})");
        }
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::Cancel;
    use crate::secret::Secret;
    use crate::session::fake::{Fake, Given};

    #[test]
    fn what_is_wrong_with_a_configuration() {
        #[track_caller]
        fn case(config: serde_json::Value, expected: &str) {
            let mut whole = serde_json::json!({"provider": "anthropic", "model": "claude-opus-4-6"});
            whole.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
            let config = serde_json::from_value(whole).unwrap();
            let choice = ModelChoice { config, key: Some(Secret::new(" ")) };
            let error = connect(&choice, &Environment::default(), &mut |_| {}).err().expect("this is wrong");
            assert!(error.contains(expected), "{error}");
        }
        use serde_json::json;
        case(json!({}), "missing anthropic_key credential");
        case(json!({"credential": "my_key:team"}), "missing my_key:team credential");
        case(json!({"provider": "cohere"}), "anthropic, openai, groq");
        case(json!({"model": " "}), "model.model");
        case(json!({"authType": "basic"}), "model.authType = \"basic\"");
        case(json!({"thinkingLevel": "max"}), "model.thinkingLevel = \"max\"");
        case(json!({"cacheRetention": "ever"}), "model.cacheRetention");
        case(json!({"idleTimeout": 0}), "model.idleTimeout");
        case(json!({"api": "chat"}), "model.api");
        case(json!({"provider": "custom", "api": "soap"}), "model.api = \"soap\"");
        case(json!({"provider": "custom", "api": "anthropic"}), "model.baseUrl is missing");
        case(json!({"provider": "custom", "api": "anthropic", "baseUrl": "x"}), "model.baseUrl");
        case(json!({"provider": "google"}), "missing google_key credential");
        case(json!({"provider": "openai"}), "missing openai_key credential");
        case(json!({"provider": "groq"}), "missing groq_key credential");
        case(json!({"provider": "openai", "api": "anthropic"}), "model.api = \"anthropic\" does not exist for openai");
        case(json!({"provider": "custom", "baseUrl": "http://x", "compat": 1}), "model.compat is 1");
    }

    #[test]
    fn the_mock_needs_a_script_and_nothing_else() {
        let connect = |model: &str, environment: &[(&str, &str)]| {
            let config = serde_json::json!({"provider": "mock", "model": model, "contextWindow": 5000});
            let choice = ModelChoice { config: serde_json::from_value(config).unwrap(), key: None };
            super::connect(&choice, &environment.iter().copied().collect(), &mut |notice| panic!("{notice:?}"))
        };
        let echo = connect("echo", &[("AL_MOCK_TIME_SCALE", "10")]).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((echo.model().facts.context_window, echo.time_scale()), (5000, 10.0));
        assert!(connect("other", &[]).err().unwrap().contains("\"other\""));
        assert!(connect("echo", &[("AL_MOCK_SCRIPT", "/none.toml")]).err().unwrap().contains("/none.toml"));
    }

    /// Some servers say everything and then leave the connection open, perhaps with comments in it.
    #[test]
    fn an_answer_that_is_complete_is_not_waited_for() {
        let chat = r#"{"choices":[{"delta":{"content":"all"},"finish_reason":"stop"}]}"#;
        let google = r#"{"candidates":[{"content":{"parts":[{"text":"all"}]},"finishReason":"STOP"}]}"#;
        for (api, last) in [("chat", chat), ("google", google)] {
            let server = Fake::start(vec![Given::stream(format!("data: {last}\n\n: still here\n\n")).hang()]);
            let config = serde_json::json!({"provider": "custom", "model": "m", "api": api, "baseUrl": server.url});
            let choice = ModelChoice { config: serde_json::from_value(config).unwrap(), key: None };
            let mut provider = connect(&choice, &Environment::default(), &mut |_| {}).unwrap();
            let cancel = Cancel::new();
            let request = Request {
                system: "s",
                messages: &[],
                max_tokens: 10,
                refused: &[],
                tools: true,
                cancel: &cancel,
                deadline: None,
            };
            let started = Instant::now();
            assert_eq!(provider.send(&request, &mut |_| {}).unwrap().text(), "all", "{api}");
            // The server would wait for 20 s, the usual patience with a silent one is 600.
            assert!(started.elapsed() < Duration::from_secs(15), "{api}: {:?}", started.elapsed());
        }
    }

    #[test]
    fn an_id_that_is_gone_gets_a_replacement() {
        let config: ModelConfig = serde_json::from_value(serde_json::json!({
            "provider": "anthropic", "model": "claude-opus-4-20250514",
        }))
        .unwrap();
        let choice = ModelChoice { config, key: Some(Secret::new("k")) };
        let provider = connect(&choice, &Environment::default(), &mut |_| {}).unwrap();
        let mut error = ModelError::new(Kind::InvalidRequest, "HTTP 404: not found");
        error.status = Some(404);
        let named = name_model(error, provider.model()).message;
        assert_eq!(
            named,
            "model claude-opus-4-20250514: HTTP 404: not found (this id is no longer served, consider claude-opus-5-5)"
        );
    }
}
