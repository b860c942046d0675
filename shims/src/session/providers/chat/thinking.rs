//! By which parameter a model is told how much to think (agent-session.md §12.4).

use super::compat::{Compat, ReasoningParam};
use crate::session::provider::Model;
use crate::session::providers::openai::effort::effort;
use crate::session::registry::Thinking;

/// Models of Mistral that think with an effort; the others have a mode for it.
const WITH_EFFORT: [&str; 6] = [
    "mistral-small-2603",
    "mistral-small-latest",
    "mistral-medium-3.5",
    "mistral-medium-2604",
    "mistral-medium-latest",
    "mistral-large-4",
];

/// What a request says about thinking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parameter {
    /// `reasoning_effort`.
    Effort(&'static str),
    /// `reasoning` with an effort in it.
    Reasoning(&'static str),
    /// `prompt_mode`.
    PromptMode,
}

/// What a model is told; `None` when it cannot think, or takes no such parameter.
pub(super) fn parameter(model: &Model, compat: &Compat, level: Thinking) -> Option<Parameter> {
    let id = model.id.as_str();
    let thinks = level != Thinking::Off;
    if !model.facts.reasoning {
        return None;
    }
    match (model.provider.as_str(), compat.reasoning_param) {
        ("openai", _) => effort(id, level).map(Parameter::Effort),
        ("groq", _) => groq(id, level).map(Parameter::Effort),
        ("xai", _) if id.starts_with("grok-3-mini") => {
            Some(Parameter::Effort(if level <= Thinking::Low { "low" } else { "high" }))
        }
        ("xai", _) => None,
        ("mistral", _) if WITH_EFFORT.contains(&id) => thinks.then_some(Parameter::Effort("high")),
        ("mistral", _) | (_, ReasoningParam::PromptMode) => thinks.then_some(Parameter::PromptMode),
        ("openrouter", _) | (_, ReasoningParam::Reasoning) => {
            Some(Parameter::Reasoning(if thinks { level.as_str() } else { "none" }))
        }
        (_, ReasoningParam::ReasoningEffort) => {
            // Few servers know a level above the highest of most.
            let level = level.min(Thinking::High);
            thinks.then_some(Parameter::Effort(level.as_str()))
        }
        (_, ReasoningParam::None) => None,
    }
}

fn groq(id: &str, level: Thinking) -> Option<&'static str> {
    match level {
        Thinking::Off if id.starts_with("qwen/qwen3") => Some("none"),
        _ if id.starts_with("qwen/qwen3") => Some("default"),
        _ if !id.starts_with("openai/gpt-oss-") => None,
        Thinking::Off | Thinking::Minimal | Thinking::Low => Some("low"),
        Thinking::Medium => Some("medium"),
        Thinking::High | Thinking::XHigh => Some("high"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::session::registry::Registry;
    use crate::wire::config::ModelConfig;

    /// What a model is told at each level, `off` first.
    fn told(config: Value) -> String {
        let config: ModelConfig = serde_json::from_value(config).unwrap();
        let facts = Registry::builtin().resolve(&config).facts;
        let model = Model {
            provider: config.provider.clone(),
            id: config.model.clone(),
            api: "chat",
            base_url: None,
            thinking: Thinking::Medium,
            facts,
        };
        let compat = Compat::of(&config).unwrap();
        let word = |level| match parameter(&model, &compat, level) {
            Some(Parameter::Effort(effort)) => effort.to_owned(),
            Some(Parameter::Reasoning(effort)) => format!("reasoning:{effort}"),
            Some(Parameter::PromptMode) => "mode".to_owned(),
            None => "–".to_owned(),
        };
        Thinking::ALL.map(word).join(" ")
    }

    #[test]
    fn every_provider_has_its_own_words() {
        #[track_caller]
        fn case(provider: &str, models: &str, expected: &str) {
            for model in models.split(' ') {
                assert_eq!(told(json!({"provider": provider, "model": model})), expected, "{provider} {model}");
            }
        }
        case("openai", "gpt-5", "minimal minimal low medium high high");
        case("openai", "gpt-5.1-chat-latest gpt-4o", "– – – – – –");
        case("groq", "openai/gpt-oss-120b openai/gpt-oss-20b", "low low low medium high high");
        case("groq", "qwen/qwen3-32b qwen/qwen3.8-27b", "none default default default default default");
        case("groq", "deepseek-r1-distill-llama-70b llama-3.3-70b-versatile", "– – – – – –");
        case("xai", "grok-3-mini grok-3-mini-fast", "low low low high high high");
        case("xai", "grok-4.7 grok-3", "– – – – – –");
        case("mistral", &WITH_EFFORT.join(" "), "– high high high high high");
        case("mistral", "magistral-medium-latest magistral-small", "– mode mode mode mode mode");
        case("mistral", "codestral-latest mistral-large-latest", "– – – – – –");
        let words = "reasoning:none reasoning:minimal reasoning:low reasoning:medium reasoning:high reasoning:xhigh";
        case("openrouter", "z-ai/glm-4.6", words);
        case("openrouter", "z-ai/glm-4-32b", "– – – – – –");
        case("custom", "m", "– – – – – –");
    }

    #[test]
    fn a_server_of_ones_own_is_told_in_its_own_way() {
        #[track_caller]
        fn case(parameter: Option<&str>, expected: &str) {
            let mut config = json!({"provider": "custom", "model": "m", "reasoning": true, "compat": {}});
            if let Some(parameter) = parameter {
                config["compat"]["reasoningParam"] = json!(parameter);
            }
            assert_eq!(told(config), expected, "{parameter:?}");
        }
        case(None, "– minimal low medium high high");
        case(Some("reasoning_effort"), "– minimal low medium high high");
        case(Some("prompt_mode"), "– mode mode mode mode mode");
        case(Some("none"), "– – – – – –");
        let words = "reasoning:none reasoning:minimal reasoning:low reasoning:medium reasoning:high reasoning:xhigh";
        case(Some("reasoning"), words);
    }
}
