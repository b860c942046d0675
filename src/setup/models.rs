//! Which model a project or an agent is to have (cli-config.md §6.1).

use anyhow::Result;
use shims::session::registry::{Thinking, recommended};
use toml::Value;

use crate::base::prompt::{Prompter, something};

/// The providers in the order in which they are offered.
pub const OFFERED: [&str; 8] = ["anthropic", "openai", "groq", "google", "xai", "mistral", "openrouter", "custom"];
/// What is written when a model of a server of one's own is not named.
const CUSTOM_MODEL: &str = "model-name";
/// The script of the provider `mock` that is there without a file.
const MOCK_SCRIPT: &str = "echo";
/// The last entry of a list of models.
const OTHER: &str = "other";

/// A `[model]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    pub provider: String,
    pub model: String,
    pub thinking: Option<String>,
    /// Of a server of one's own.
    pub base_url: Option<String>,
}

impl Model {
    /// The model that is offered first.
    pub fn first_of(provider: &str) -> String {
        let unnamed = if provider == "mock" { MOCK_SCRIPT } else { CUSTOM_MODEL };
        recommended(provider).next().unwrap_or(unnamed).to_owned()
    }

    /// Its keys in the order in which they are written; `auth_type` is that of the key.
    pub fn entries(&self, auth_type: &str) -> Vec<(&'static str, Value)> {
        let mut entries = vec![("provider", Value::from(&*self.provider)), ("model", Value::from(&*self.model))];
        entries.extend(self.thinking.as_deref().map(|level| ("thinkingLevel", Value::from(level))));
        entries.push(("authType", Value::from(auth_type)));
        entries.extend(self.base_url.as_deref().map(|url| ("baseUrl", Value::from(url))));
        entries
    }
}

/// Asks for provider and model; the current ones, if any, are offered first. The thinking level is the provider's usual
/// one.
///
/// # Errors
/// When nobody answers.
pub fn ask(prompter: &mut dyn Prompter, current: Option<&Model>) -> Result<Model> {
    let providers = OFFERED.map(str::to_owned);
    let known = current.and_then(|current| OFFERED.iter().position(|offered| *offered == current.provider));
    let provider = OFFERED[prompter.select("Provider:", &providers, known.unwrap_or(0))?];
    let current = current.filter(|current| current.provider == provider);
    let model = ask_model(prompter, provider, current.map(|current| current.model.as_str()))?;
    let base_url = match provider {
        "custom" => {
            let before = current.and_then(|current| current.base_url.as_deref()).unwrap_or_default();
            Some(prompter.input(
                "Base URL of the server (for example http://10.0.0.5:4000/v1):",
                before,
                &is_base_url,
            )?)
        }
        _ => None,
    };
    Ok(Model { provider: provider.to_owned(), model, thinking: usual_thinking(provider), base_url })
}

/// The thinking level that is written when nobody chooses.
pub fn usual_thinking(provider: &str) -> Option<String> {
    (provider == "anthropic").then(|| Thinking::Medium.as_str().to_owned())
}

/// Asks for a thinking level.
///
/// # Errors
/// When nobody answers.
pub fn ask_thinking(prompter: &mut dyn Prompter, current: Option<&str>) -> Result<String> {
    let levels = Thinking::ALL.map(|level| level.as_str().to_owned());
    let at = levels.iter().position(|level| Some(level.as_str()) == current);
    let at = at.or_else(|| levels.iter().position(|level| level == "medium")).unwrap_or(0);
    Ok(levels[prompter.select("Thinking level:", &levels, at)?].clone())
}

fn ask_model(prompter: &mut dyn Prompter, provider: &str, current: Option<&str>) -> Result<String> {
    let mut ids: Vec<String> = recommended(provider).map(str::to_owned).collect();
    if ids.len() < 2 {
        return prompter.input("Model:", current.unwrap_or(&Model::first_of(provider)), &something);
    }
    ids.push(OTHER.to_owned());
    let at = current.map(|current| ids.iter().position(|id| id == current).unwrap_or(ids.len() - 1));
    let chosen = prompter.select("Model:", &ids, at.unwrap_or(0))?;
    if chosen + 1 < ids.len() {
        return Ok(ids.swap_remove(chosen));
    }
    prompter.input("Model id:", current.unwrap_or_default(), &something)
}

fn is_base_url(text: &str) -> Result<(), String> {
    let is_url = (text.starts_with("http://") || text.starts_with("https://")) && !text.ends_with('/');
    if is_url {
        Ok(())
    } else {
        Err("It has to be a URL such as http://10.0.0.5:4000/v1 without a slash at its end.".into())
    }
}
