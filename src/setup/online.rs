//! Asks model providers whether they accept the stored keys and know the configured models, without spending tokens
//! (agent-session.md §22.7).

use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::Value;
use shims::env::Environment;
use shims::wire::config::ModelConfig;

use crate::base::clock::UnixMs;
use crate::base::error::CredentialError;
use crate::base::text::{edit_distance, percent_encode, single_line};
use crate::base::web::{Address, Answer, Limits, Request, Web};
use crate::base::{Secret, hide_user_info};
use crate::config::Loaded;
use crate::credentials::Store;
use crate::credentials::format::check_oauth;
use crate::model::names::CredentialRef;

const LIMITS: Limits =
    Limits { connect: Duration::from_secs(10), whole: Duration::from_secs(10), answer_bytes: 8 << 20 };
/// A clock that is more than this apart from others is wrong.
const LARGEST_SKEW: Duration = Duration::from_secs(60);
/// How many ids are suggested in the place of an unknown one.
const SUGGESTED: usize = 5;

/// What the providers said.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// What is fine, and who could not be asked.
    pub notes: Vec<String>,
    /// What is not as it should be on this machine.
    pub warnings: Vec<String>,
    /// Keys that are refused and models that nobody knows.
    pub refused: Vec<String>,
}

impl Answers {
    /// The result of the check.
    ///
    /// # Errors
    /// When something was refused, all of it.
    pub fn conclude(&self) -> Result<()> {
        if self.refused.is_empty() {
            return Ok(());
        }
        let list: String = self.refused.iter().map(|text| format!("\n  - {text}")).collect();
        bail!(CredentialError(format!("{} model(s) cannot be used{list}", self.refused.len())))
    }
}

/// Where a provider is asked, and how it takes keys.
struct Door {
    base: String,
    header: (&'static str, String),
    /// The answer is about the model itself; otherwise it is a list of all.
    is_single: bool,
}

/// Asks about every model of every enabled agent, each once.
///
/// # Errors
/// A stored credential that cannot be read.
pub fn check(loaded: &Loaded, store: &Store, environment: &Environment) -> Result<Answers> {
    let mut answers = Answers::default();
    let mut seen: Vec<(&str, &str, Option<CredentialRef>)> = Vec::new();
    for agent in loaded.enabled() {
        for (model, reference) in agent.models.iter().zip(agent.model_key_refs()) {
            let what = (model.provider.as_str(), model.model.as_str(), reference.clone());
            if model.provider == "mock" || seen.contains(&what) {
                continue;
            }
            seen.push(what);
            let key = reference.as_ref().map(|reference| store.read(reference, "token")).transpose()?.flatten();
            let name = format!("{}:{}", model.provider, model.model);
            match ask(model, key.as_ref(), environment, &mut answers.warnings) {
                Said::Fine => answers.notes.push(format!("{name} accepts the key")),
                Said::Nothing(why) => answers.notes.push(format!("{name} was not asked: {}", single_line(&why))),
                Said::No(why) => answers.refused.push(format!("{name}: {}", single_line(&why))),
            }
        }
    }
    Ok(answers)
}

enum Said {
    Fine,
    No(String),
    Nothing(String),
}

fn ask(model: &ModelConfig, key: Option<&Secret>, environment: &Environment, warnings: &mut Vec<String>) -> Said {
    if model.provider == "anthropic"
        && let Some(token) = key.map(Secret::expose).filter(|_| model.auth_type.as_deref() == Some("oauth_token"))
    {
        return check_oauth(token).map_or_else(Said::No, |()| Said::Fine);
    }
    if key.is_none() && model.provider != "custom" {
        return Said::Nothing("its key is not stored".to_owned());
    }
    let Some(door) = door(model, key.map_or("", Secret::expose)) else {
        return Said::Nothing("nobody knows how".to_owned());
    };
    let Some(address) = Address::parse(&door.base) else {
        return Said::Nothing(format!("{} is no URL", hide_user_info(&door.base)));
    };
    let path = if door.is_single { format!("/models/{}", percent_encode(&model.model)) } else { "/models".to_owned() };
    let mut headers = vec![(door.header.0, door.header.1.as_str())];
    if key.is_none() {
        headers.clear();
    }
    if model.provider == "anthropic" {
        headers.push(("anthropic-version", "2023-06-01"));
    }
    let request = Request { path: &path, headers: &headers, ..Request::default() };
    let sent = Web::to(&address, environment).map_err(|why| why.to_string());
    let answered = sent.and_then(|web| web.send(request, LIMITS).map_err(|failure| failure.reason));
    if let Ok(answer) = &answered {
        compare_clocks(answer, warnings);
    }
    match answered {
        Err(why) => Said::Nothing(why),
        Ok(answer) => match answer.status {
            401 | 403 => Said::No(format!("the key is refused (HTTP {})", answer.status)),
            404 if door.is_single => Said::No("the provider does not know this model".to_owned()),
            200..300 if door.is_single => Said::Fine,
            200..300 => listed(&model.model, &answer.body),
            status => Said::Nothing(format!("it answered with HTTP {status}")),
        },
    }
}

/// Says once how far this machine's clock is from that of whoever has answered.
fn compare_clocks(answer: &Answer, warnings: &mut Vec<String>) {
    let Some(theirs) = answer.header("date").and_then(UnixMs::parse_http_date) else { return };
    let ours = UnixMs::now();
    let (apart, how) = if ours > theirs { (ours.since(theirs), "ahead") } else { (theirs.since(ours), "behind") };
    if apart > LARGEST_SKEW && warnings.is_empty() {
        let seconds = apart.as_secs();
        warnings
            .push(format!("the clock of this machine is {seconds} s {how}; set it, or schedules fire at wrong times"));
    }
}

fn door(model: &ModelConfig, key: &str) -> Option<Door> {
    let bearer = || ("authorization", format!("Bearer {key}"));
    let (base, header, is_single) = match model.provider.as_str() {
        "anthropic" => ("https://api.anthropic.com/v1", ("x-api-key", key.to_owned()), true),
        "openai" => ("https://api.openai.com/v1", bearer(), true),
        "google" => ("https://generativelanguage.googleapis.com/v1beta", ("x-goog-api-key", key.to_owned()), true),
        "groq" => ("https://api.groq.com/openai/v1", bearer(), false),
        "xai" => ("https://api.x.ai/v1", bearer(), false),
        "mistral" => ("https://api.mistral.ai/v1", bearer(), false),
        "openrouter" => ("https://openrouter.ai/api/v1", bearer(), false),
        "custom" => ("", bearer(), false),
        _ => return None,
    };
    let base = model.base_url.clone().unwrap_or_else(|| base.to_owned());
    // Anthropic's own address is configured without the version.
    let base = if model.provider == "anthropic" && !base.ends_with("/v1") { format!("{base}/v1") } else { base };
    Some(Door { base, header, is_single })
}

/// Whether a model is in a list, and what is like it when it is not.
fn listed(id: &str, body: &[u8]) -> Said {
    let list: Value = serde_json::from_slice(body).unwrap_or_default();
    let items = list["data"].as_array().or(list["models"].as_array()).or(list.as_array());
    let Some(items) = items else { return Said::Nothing("its list of models cannot be read".to_owned()) };
    let mut ids: Vec<&str> = items.iter().filter_map(|item| item["id"].as_str()).collect();
    if ids.contains(&id) {
        return Said::Fine;
    }
    ids.sort_by_key(|known| edit_distance(id, known));
    ids.truncate(SUGGESTED);
    Said::No(format!("the provider does not know this model; near it: {}", ids.join(", ")))
}
