//! The models of a chat with their keys (agent-session.md §3.1, §3.3).

use anyhow::{Result, bail};
use shims::session::ModelChoice;
use shims::wire::config::ModelConfig;

use super::subject::Subject;
use crate::base::Cancel;
use crate::base::clock::UnixMs;
use crate::base::error::CredentialError;
use crate::cli::site::Site;
use crate::config::key_of;
use crate::credentials::{Store, pi};

/// How a model says that its key is pi's.
const PI: &str = "pi_auth";

/// The models, first choice first. A fallback model without a key is left out; `warn` is told why. `cancel` ends what a key
/// is waited for.
///
/// # Errors
/// The first model's key is missing or cannot be read.
pub(super) fn choose(
    subject: &Subject<'_>,
    site: &Site,
    cancel: &Cancel,
    warn: &mut dyn FnMut(&str),
) -> Result<Vec<ModelChoice>> {
    let mut choices = Vec::new();
    for model in &subject.models {
        match choose_one(model, subject, site, cancel) {
            Ok(choice) => choices.push(choice),
            Err(error) if choices.is_empty() => return Err(error),
            Err(error) => warn(&format!("fallback model {}:{} is left out: {error:#}", model.provider, model.model)),
        }
    }
    Ok(choices)
}

fn choose_one(model: &ModelConfig, subject: &Subject<'_>, site: &Site, cancel: &Cancel) -> Result<ModelChoice> {
    if model.auth_type.as_deref() == Some(PI) && model.provider != "mock" {
        let key = pi::key(&model.provider, &site.environment, UnixMs::now(), cancel)?;
        let auth_type = if key.is_oauth && model.provider == "anthropic" { "oauth_token" } else { "api_key" };
        let config = ModelConfig { auth_type: Some(auth_type.to_owned()), ..model.clone() };
        return Ok(ModelChoice { config, key: Some(key.value) });
    }
    let Some(wanted) = key_of(model, subject.listed()) else {
        return Ok(ModelChoice { config: model.clone(), key: None });
    };
    let store = Store::at(site.home.credentials());
    let key = store.read(&wanted.reference, "token")?;
    if key.is_none() && !wanted.optional {
        bail!(CredentialError(format!(
            "{reference} is missing, needed for the model {}:{}\n  add it: al creds add {reference}",
            model.provider,
            model.model,
            reference = wanted.reference
        )));
    }
    Ok(ModelChoice { config: model.clone(), key })
}
