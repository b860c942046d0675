//! In what the providers of this format differ (agent-session.md §12.3).

use serde_json::{Map, Value};

use crate::wire::config::ModelConfig;

/// How one provider wants its requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Compat {
    /// The name of the output limit.
    pub(super) max_tokens_field: &'static str,
    /// Counts of tokens have to be asked for.
    pub(super) usage_in_stream: bool,
    /// The parameter of thinking of a server of one's own; those of the others are known.
    pub(super) reasoning_param: ReasoningParam,
    /// The system prompt of a reasoning model has the role `developer`.
    pub(super) developer_role: bool,
    /// A user message must not follow a result.
    pub(super) assistant_after_tool: bool,
    /// Results carry the name of their tool.
    pub(super) tool_result_name: bool,
    /// Ids of calls have exactly nine letters and digits.
    pub(super) short_tool_ids: bool,
    /// What is to be kept in the cache is marked.
    pub(super) cache_control: bool,
    /// Images of results stay in them.
    pub(super) images_in_results: bool,
}

/// The parameter by which a model is told how much to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReasoningParam {
    ReasoningEffort,
    Reasoning,
    PromptMode,
    None,
}

/// A server that nobody has described.
const PLAIN: Compat = Compat {
    max_tokens_field: "max_tokens",
    usage_in_stream: true,
    reasoning_param: ReasoningParam::ReasoningEffort,
    developer_role: false,
    assistant_after_tool: false,
    tool_result_name: false,
    short_tool_ids: false,
    cache_control: false,
    images_in_results: false,
};

impl Compat {
    /// What the provider of a model wants, and for `custom` what its table says on top.
    ///
    /// # Errors
    /// A key of `[model.compat]` with a value that it cannot have.
    pub(super) fn of(config: &ModelConfig) -> Result<Self, String> {
        let new_limit = Self { max_tokens_field: "max_completion_tokens", ..PLAIN };
        Ok(match config.provider.as_str() {
            "openai" => Self { developer_role: true, ..new_limit },
            "mistral" => Self {
                usage_in_stream: false,
                assistant_after_tool: true,
                tool_result_name: true,
                short_tool_ids: true,
                images_in_results: true,
                ..PLAIN
            },
            "openrouter" => Self {
                assistant_after_tool: config.model.starts_with("mistralai/"),
                cache_control: config.model.starts_with("anthropic/"),
                ..new_limit
            },
            "custom" => Self::configured(config.other.get("compat"))?,
            _ => new_limit,
        })
    }

    fn configured(table: Option<&Value>) -> Result<Self, String> {
        let mut compat = PLAIN;
        let nothing = Map::new();
        let table = match table {
            None => &nothing,
            Some(Value::Object(table)) => table,
            Some(other) => return Err(format!("model.compat is {other}; it must be a table")),
        };
        for (name, flag) in [
            ("usageInStream", &mut compat.usage_in_stream),
            ("developerRole", &mut compat.developer_role),
            ("assistantAfterTool", &mut compat.assistant_after_tool),
            ("toolResultName", &mut compat.tool_result_name),
            ("shortToolIds", &mut compat.short_tool_ids),
            ("cacheControl", &mut compat.cache_control),
        ] {
            match table.get(name) {
                None => {}
                Some(Value::Bool(value)) => *flag = *value,
                Some(other) => return Err(format!("model.compat.{name} is {other}; it must be true or false")),
            }
        }
        let limits = ["max_tokens", "max_completion_tokens"].map(|name| (name, name));
        choose(table, "maxTokensField", &limits, &mut compat.max_tokens_field)?;
        let parameters = [
            ("reasoning_effort", ReasoningParam::ReasoningEffort),
            ("reasoning", ReasoningParam::Reasoning),
            ("prompt_mode", ReasoningParam::PromptMode),
            ("none", ReasoningParam::None),
        ];
        choose(table, "reasoningParam", &parameters, &mut compat.reasoning_param)?;
        Ok(compat)
    }
}

/// Sets what a word of the table stands for.
fn choose<T: Copy>(table: &Map<String, Value>, name: &str, words: &[(&str, T)], target: &mut T) -> Result<(), String> {
    let Some(value) = table.get(name) else { return Ok(()) };
    let Some((_, meant)) = words.iter().find(|(word, _)| value == word) else {
        let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        return Err(format!("model.compat.{name} is {value}; use one of {}", all.join(", ")));
    };
    *target = *meant;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn compat(provider: &str, model: &str, table: Value) -> Result<Compat, String> {
        let config = json!({"provider": provider, "model": model, "compat": table});
        Compat::of(&serde_json::from_value(config).unwrap())
    }

    #[test]
    fn the_table_of_providers() {
        /// Limit, and the first letters of the switches that are on, in the order of the table.
        #[track_caller]
        fn case(provider: &str, model: &str, limit: &str, on: &str) {
            let compat = compat(provider, model, json!({})).unwrap();
            let mut seen = String::new();
            for (is_on, letter) in [
                (compat.usage_in_stream, 'u'),
                (compat.developer_role, 'd'),
                (compat.assistant_after_tool, 'a'),
                (compat.tool_result_name, 't'),
                (compat.short_tool_ids, 's'),
                (compat.cache_control, 'c'),
                (compat.images_in_results, 'i'),
            ] {
                seen.extend(is_on.then_some(letter));
            }
            assert_eq!((compat.max_tokens_field, seen.as_str()), (limit, on), "{provider} {model}");
        }
        case("openai", "gpt-5", "max_completion_tokens", "ud");
        case("groq", "anthropic/x", "max_completion_tokens", "u");
        case("xai", "grok-4", "max_completion_tokens", "u");
        case("mistral", "magistral-small", "max_tokens", "atsi");
        case("openrouter", "openai/gpt-5", "max_completion_tokens", "u");
        case("openrouter", "mistralai/devstral", "max_completion_tokens", "ua");
        case("openrouter", "anthropic/claude", "max_completion_tokens", "uc");
        case("custom", "anthropic/claude", "max_tokens", "u");
    }

    #[test]
    fn a_server_of_ones_own_can_be_described_and_the_others_cannot() {
        let all = json!({"maxTokensField": "max_completion_tokens", "usageInStream": false, "reasoningParam": "prompt_mode",
            "developerRole": true, "assistantAfterTool": true, "toolResultName": true, "shortToolIds": true,
            "cacheControl": true});
        let expected = Compat {
            max_tokens_field: "max_completion_tokens",
            usage_in_stream: false,
            reasoning_param: ReasoningParam::PromptMode,
            developer_role: true,
            assistant_after_tool: true,
            tool_result_name: true,
            short_tool_ids: true,
            cache_control: true,
            images_in_results: false,
        };
        assert_eq!(compat("custom", "m", all.clone()), Ok(expected));
        assert_eq!(compat("groq", "m", all), compat("groq", "m", json!({})));
    }

    #[test]
    fn a_wrong_value_is_named() {
        #[track_caller]
        fn case(table: Value, expected: &str) {
            assert_eq!(compat("custom", "m", table).unwrap_err(), expected);
        }
        case(json!(3), "model.compat is 3; it must be a table");
        case(json!({"shortToolIds": "yes"}), "model.compat.shortToolIds is \"yes\"; it must be true or false");
        let limits = "model.compat.maxTokensField is \"tokens\"; use one of max_tokens, max_completion_tokens";
        case(json!({"maxTokensField": "tokens"}), limits);
        let words = "model.compat.reasoningParam is true; use one of reasoning_effort, reasoning, prompt_mode, none";
        case(json!({"reasoningParam": true}), words);
    }
}
