//! From the configuration to a session that can be spoken to.

use super::super::compact::Dropped;
use super::super::event::{Created, Event};
use super::super::guard::Guard;
use super::super::limits::Budget;
use super::super::lineup::Lineup;
use super::super::provider::Provider;
use super::super::registry::Registry;
use super::super::{Input, ModelChoice, Owner, providers, tools};
use super::Session;
use super::context::Room;
use crate::cancel::Cancel;
use crate::wire::config::ModelConfig;
use crate::wire::usage::Usage;

impl Session {
    /// Makes the models of the list ready.
    ///
    /// # Errors
    /// What is wrong with the configuration of a model, for people.
    pub fn start(input: Input, owner: &mut dyn Owner) -> Result<Self, String> {
        let Some(first) = input.models.first() else {
            return Err("no model configured; add [model] to the configuration".into());
        };
        let mut models: Vec<Box<dyn Provider>> = Vec::with_capacity(input.models.len());
        for choice in &input.models {
            let model = providers::connect(choice, &input.environment, &mut |notice| owner.hear(Event::Notice(notice)))
                .and_then(|model| check_price(&choice.config, input.limits.max_cost).map(|()| model));
            models.push(match models.is_empty() {
                true => model?,
                false => model.map_err(|error| {
                    format!("fallback model {}:{}: {error}", choice.config.provider, choice.config.model)
                })?,
            });
        }
        announce(first, &*models[0], owner);
        Ok(Self::with_models(input, models))
    }

    pub(super) fn with_models(input: Input, models: Vec<Box<dyn Provider>>) -> Self {
        Self {
            system: input.system,
            messages: Vec::new(),
            lineup: Lineup::new(models),
            room: Room::default(),
            dropped: Dropped::default(),
            tools: tools::Context {
                dir: input.tool_dir,
                tmp_dir: input.tmp_dir,
                environment: input.environment,
                cancel: Cancel::new(),
                groups: input.tool_groups,
                surroundings: input.surroundings,
                secrets: input.secrets.clone(),
                bash_timeout: input.limits.bash_timeout.filter(|seconds| *seconds > 0),
                stream: input.limits.stream_tools == Some(true),
            },
            guard: Guard::new(input.secrets, input.limits.redact_tool_results == Some(true)),
            threads: input.limits.threads(),
            budget: Budget::new(input.limits, input.time_limit.zip(input.deadline)),
            exit_file: input.exit_file,
            deadline: input.deadline,
            permission_hits: 0,
            text: String::new(),
            usage: Usage::default(),
        }
    }
}

/// A limit on the cost needs to know what a model costs.
fn check_price(config: &ModelConfig, max_cost: Option<f64>) -> Result<(), String> {
    if max_cost.unwrap_or(0.0) <= 0.0 || Registry::builtin().knows_price(config) {
        return Ok(());
    }
    Err(format!("limits.maxCost needs the price of {}:{}; set model.cost", config.provider, config.model))
}

fn announce(choice: &ModelChoice, provider: &dyn Provider, owner: &mut dyn Owner) {
    let model = provider.model();
    owner.hear(Event::Created(Created {
        provider: &model.provider,
        model: &model.id,
        thinking: choice.config.thinking_level.as_deref(),
        effective_thinking: model.thinking.as_str(),
        context_window: model.facts.context_window,
        max_tokens: model.facts.max_tokens,
    }));
}
