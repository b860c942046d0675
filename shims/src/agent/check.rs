//! `al-agent check`: would a session find its model and key? No request is sent (agent-session.md §19).

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use super::report::Reporter;
use super::setup::{self, Paths};
use super::{config, credentials, gateway::Gateway, model_session};
use crate::env::Environment;
use crate::user_info::hide_user_info;
use crate::wire::config::ModelConfig;

/// The findings as one JSON object, and whether a session could begin.
pub(super) fn run() -> (Value, bool) {
    let mut found = Map::new();
    let result = look(&mut found);
    let ok = result.is_ok();
    let mut answer = Map::from_iter([("ok".to_owned(), json!(ok))]);
    for name in ["provider", "model", "api", "baseUrl", "contextWindow", "maxTokens", "thinking", "credential"] {
        answer.insert(name.to_owned(), found.remove(name).unwrap_or(Value::Null));
    }
    if let Err(error) = result {
        answer.insert("error".to_owned(), format!("{error:#}").into());
    }
    (Value::Object(answer), ok)
}

/// Fills in what is found until something is wrong.
fn look(found: &mut Map<String, Value>) -> Result<()> {
    let report = Reporter::silent();
    let mut environment = Environment::of_process();
    let secret_variables = setup::take_private_variables(&mut environment);
    let paths = Paths::of(&environment);
    let run_file = setup::load_run_file(&environment)?;
    if let Some(run_file) = &run_file {
        setup::apply_run_file(run_file, &mut environment);
    }
    let agent = config::load_agent(&paths, &mut environment, run_file.as_ref(), &report)?;
    let models = agent.config.model_list();
    if !agent.config.needs_model() {
        models.first().inspect(|model| describe_configured(model, found));
        found.insert("credential".into(), json!("not needed"));
        return Ok(());
    }
    let model = models.first().with_context(|| format!("agent {:?}: no model configured", agent.config.name))?;
    describe_configured(model, found);

    let need = credentials::Need::of(&agent.config, false);
    let gateway = Gateway::of(&environment);
    let loaded = credentials::load(&paths, &secret_variables, gateway.as_ref(), need, &report)
        .inspect_err(|_| drop(found.insert("credential".into(), json!("missing"))))?;
    let choice = credentials::choose_model(&agent.config, model, &loaded)
        .inspect_err(|_| drop(found.insert("credential".into(), json!("missing"))))?;
    let credential = if choice.key.is_some() { "found" } else { "not needed" };
    found.insert("credential".into(), json!(credential));
    // An error may quote the configuration, into which somebody may have pasted a key.
    report.mask_secrets(loaded.values().chain(choice.key.as_ref().map(|key| ("key", key))));
    let model = model_session::look_up(&choice, &environment)
        .map_err(|error| anyhow::anyhow!("{}", report.masked(&format!("{error:#}"))))?;
    found.extend([
        ("model".to_owned(), json!(model.id)),
        ("api".to_owned(), json!(model.api)),
        ("baseUrl".to_owned(), json!(model.base_url.as_deref().map(hide_user_info))),
        ("contextWindow".to_owned(), json!(model.facts.context_window)),
        ("maxTokens".to_owned(), json!(model.facts.max_tokens)),
        ("thinking".to_owned(), json!(model.thinking.as_str())),
    ]);
    Ok(())
}

fn describe_configured(model: &ModelConfig, found: &mut Map<String, Value>) {
    found.insert("provider".into(), json!(model.provider));
    found.insert("model".into(), json!(model.model));
}
