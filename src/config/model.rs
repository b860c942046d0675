//! `[model]` tables: rules between their keys, the list of models of an agent, and which credential is a model's key
//! (agent-session.md §2.1, §3.1, §9.5).

use serde_json::{Map, Value as Json};
use shims::credential_types::{self, Group};
use shims::session::registry;
use shims::wire::config::ModelConfig;
use toml::{Table, Value};

use super::check::quoted;
use super::finding::{Finding, Severity};
use super::keys::MODEL_PROVIDERS;
use crate::model::names::CredentialRef;

/// Something to say about a key: how bad, which key, what.
pub(super) type Remark = (Severity, String, String);

/// Checks what the types of the keys do not say. `table` is as it stands in the file; values of a wrong type are
/// somebody else's business.
pub(super) fn findings(table: &Table, shown: &str, file_of: &dyn Fn(&str) -> String) -> Vec<Finding> {
    let remarks = check(table, shown).into_iter();
    let mut findings: Vec<Finding> =
        remarks.map(|(severity, key, message)| Finding::at(severity, &file_of(&key), &key, message)).collect();
    let fallback = table.get("fallback").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_table);
    for one in std::iter::once(table).chain(fallback) {
        let text = |key: &str| one.get(key).and_then(Value::as_str).unwrap_or_default();
        if let Some(instead) = registry::replacement(text("provider"), text("model")) {
            let key = format!("{shown}.model");
            let file = file_of(&key);
            let note = format!("{file}: {} is no longer served, consider {instead}", text("model"));
            findings.push(Finding::whole(Severity::Note, &file, note).about(&key));
        }
    }
    findings
}

fn check(table: &Table, shown: &str) -> Vec<Remark> {
    let mut remarks = one(table, shown);
    let fallback = table.get("fallback").and_then(Value::as_array).into_iter().flatten();
    for (index, item) in fallback.enumerate() {
        let Value::Table(item) = item else { continue };
        let shown = format!("{shown}.fallback[{index}]");
        remarks.extend(one(item, &shown));
        if item.contains_key("fallback") {
            let message = "fallback models cannot have fallback models; list them one after the other";
            remarks.push((Severity::Error, format!("{shown}.fallback"), message.to_owned()));
        }
    }
    remarks
}

fn one(table: &Table, shown: &str) -> Vec<Remark> {
    let mut remarks = Vec::new();
    let mut say = |severity, key: &str, message: String| remarks.push((severity, format!("{shown}.{key}"), message));
    let text = |key: &str| table.get(key).and_then(Value::as_str);
    let provider = text("provider").unwrap_or_default();
    if !table.contains_key("provider") {
        say(Severity::Error, "provider", format!("is missing; write one of {}", MODEL_PROVIDERS.join(", ")));
    }
    if !table.contains_key("model") {
        say(Severity::Error, "model", "is missing; write the id of the model".to_owned());
    }
    if provider == "custom" && !table.contains_key("baseUrl") {
        let message = "is missing; the provider \"custom\" needs the address of the server";
        say(Severity::Error, "baseUrl", message.to_owned());
    }
    match (text("api"), provider) {
        (None, _) | (Some(_), "custom" | "") | (Some("responses" | "chat"), "openai") => {}
        (Some(api), "openai") => {
            say(Severity::Error, "api", format!("{} is not one of responses, chat, for openai", quoted(api)));
        }
        (Some(api), _) => say(
            Severity::Error,
            "api",
            format!("{} is not allowed with the provider \"{provider}\"; only custom and openai have it", quoted(api)),
        ),
    }
    for key in ["authHeader", "compat"].into_iter().filter(|key| table.contains_key(*key) && provider != "custom") {
        say(Severity::Warning, key, "has an effect only with the provider \"custom\"".to_owned());
    }
    if text("authType") == Some("oauth_token") {
        let (severity, message) = match provider {
            "anthropic" => (Severity::Note, "subscription tokens may be limited to the vendor's own client"),
            _ => (Severity::Warning, "oauth_token exists only with anthropic; it is treated as api_key"),
        };
        say(severity, "authType", message.to_owned());
    }
    if let Some(problem) = text("credential").and_then(wrong_credential) {
        say(Severity::Error, "credential", problem);
    }
    remarks
}

fn wrong_credential(text: &str) -> Option<String> {
    let reference = CredentialRef::parse(text).ok()?;
    let known = credential_types::find(reference.kind())?;
    if known.group == Group::Gateway {
        return Some(format!("{} is never given to an agent; name another credential", quoted(text)));
    }
    let has_token = known.fields.iter().any(|field| field.name == "token");
    (!has_token).then(|| format!("{} has no field \"token\", which would be the key", quoted(text)))
}

/// The list that a `[model]` table stands for: itself, then its fallback models.
pub(super) fn list(table: &Map<String, Json>) -> Vec<ModelConfig> {
    let fallback = table.get("fallback").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_object);
    std::iter::once(table).chain(fallback).filter_map(typed).collect()
}

fn typed(table: &Map<String, Json>) -> Option<ModelConfig> {
    let mut table = table.clone();
    table.remove("fallback");
    let mut model: ModelConfig = serde_json::from_value(Json::Object(table)).ok()?;
    let oauth_elsewhere = model.auth_type.as_deref() == Some("oauth_token") && model.provider != "anthropic";
    if model.auth_type.is_none() || oauth_elsewhere {
        model.auth_type = Some("api_key".to_owned());
    }
    Some(model)
}

/// The credential whose field `token` is a model's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelKey {
    pub reference: CredentialRef,
    /// Used when it is stored, never demanded.
    pub optional: bool,
}

/// Which key a model has for an agent that lists these credentials; `None` when it needs none.
pub fn key_of(model: &ModelConfig, listed: &[CredentialRef]) -> Option<ModelKey> {
    if model.provider == "mock" || model.provider.is_empty() {
        return None;
    }
    if let Some(named) = model.credential.as_deref().and_then(|text| CredentialRef::parse(text).ok()) {
        return Some(ModelKey { reference: named, optional: false });
    }
    let kind = format!("{}_key", model.provider);
    Some(match listed.iter().find(|reference| reference.kind() == kind) {
        Some(listed) => ModelKey { reference: listed.clone(), optional: false },
        None => ModelKey { reference: CredentialRef::default_of(&kind), optional: model.provider == "custom" },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::layers::{parse, table_to_json};

    #[track_caller]
    fn case(text: &str, expected: &[&str]) {
        let remarks = check(&parse(text, "f").unwrap(), "model");
        let remarks: Vec<_> =
            remarks.into_iter().map(|(severity, key, message)| format!("{severity:?} {key} {message}")).collect();
        assert_eq!(remarks.len(), expected.len(), "{remarks:?}");
        for (remark, part) in remarks.iter().zip(expected) {
            assert!(remark.starts_with(part), "{remark:?} does not start with {part:?}");
        }
    }

    #[test]
    fn keys_that_depend_on_each_other() {
        case("provider = 'openai'\nmodel = 'm'\napi = 'chat'", &[]);
        case("", &["Error model.provider", "Error model.model"]);
        case("provider = 'custom'\nmodel = 'm'", &["Error model.baseUrl"]);
        case("provider = 'openai'\nmodel = 'm'\napi = 'google'", &["Error model.api \"google\""]);
        case("provider = 'groq'\nmodel = 'm'\napi = 'chat'", &["Error model.api"]);
        case("provider = 'groq'\nmodel = 'm'\nauthHeader = 'X'", &["Warning model.authHeader"]);
        case("provider = 'groq'\nmodel = 'm'\nauthType = 'oauth_token'", &["Warning model.authType"]);
        case("provider = 'anthropic'\nmodel = 'm'\nauthType = 'oauth_token'", &["Note model.authType"]);
        case("provider = 'groq'\nmodel = 'm'\ncredential = 'gateway_api_key'", &["Error model.credential"]);
        case("provider = 'groq'\nmodel = 'm'\ncredential = 'aws'", &["Error model.credential \"aws\" has no field"]);
        case(
            "provider = 'mock'\nmodel = 'm'\n[[fallback]]\nprovider = 'mock'\nfallback = []",
            &["Error model.fallback[0].model", "Error model.fallback[0].fallback"],
        );
    }

    #[test]
    fn the_list_is_the_model_and_its_fallbacks() {
        let text =
            "provider = 'groq'\nmodel = 'a'\nauthType = 'oauth_token'\n[[fallback]]\nprovider = 'xai'\nmodel = 'b'";
        let models = list(&table_to_json(&parse(text, "").unwrap()));
        let shown: Vec<_> = models.iter().map(|model| (model.model.as_str(), model.auth_type.as_deref())).collect();
        assert_eq!(shown, [("a", Some("api_key")), ("b", Some("api_key"))]);
        assert!(!models[0].other.contains_key("fallback"));
    }

    #[track_caller]
    fn key(provider: &str, credential: Option<&str>, listed: &[&str], expected: Option<(&str, bool)>) {
        let model = ModelConfig {
            provider: provider.into(),
            credential: credential.map(str::to_owned),
            ..ModelConfig::default()
        };
        let listed: Vec<_> = listed.iter().map(|text| CredentialRef::parse(text).unwrap()).collect();
        let found = key_of(&model, &listed).map(|key| (key.reference.to_string(), key.optional));
        assert_eq!(found, expected.map(|(text, optional)| (text.to_owned(), optional)));
    }

    #[test]
    fn which_key_a_model_has() {
        key("groq", None, &["github_token"], Some(("groq_key", false)));
        key("groq", None, &["groq_key:a", "groq_key:b"], Some(("groq_key:a", false)));
        key("groq", Some("groq_key:team"), &["groq_key:a"], Some(("groq_key:team", false)));
        key("custom", None, &[], Some(("custom_key", true)));
        key("custom", None, &["custom_key"], Some(("custom_key", false)));
        key("mock", None, &["github_token"], None);
    }
}
