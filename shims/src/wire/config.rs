//! `agent-config.json`: the agent's configuration as baked into its image (containers.md §3.5).

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// Configuration of an agent. Member names are those of the TOML file; members that no program in the container uses
/// are carried along in `other`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentConfig {
    pub name: String,
    /// Refs in canonical form, duplicates collapsed.
    pub credentials: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelConfig>,
    /// The model list when there is one; its first entry is `model`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelConfig>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub preflight: Vec<PreflightStep>,
    #[serde(skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub harness: Option<Harness>,
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl AgentConfig {
    /// The model list, first choice first; empty when no model is configured.
    pub fn model_list(&self) -> Vec<&ModelConfig> {
        match (self.models.is_empty(), &self.model) {
            (true, Some(model)) => vec![model],
            (true, None) => Vec::new(),
            (false, _) => self.models.iter().collect(),
        }
    }

    /// The program that holds the session in place of the built-in loop.
    pub fn external_harness(&self) -> Option<&Harness> {
        self.harness.as_ref().filter(|harness| harness.is_external())
    }

    /// Whether a run needs a model and its key, unless it is a script.
    pub fn needs_model(&self) -> bool {
        self.external_harness().is_none_or(Harness::needs_model)
    }
}

/// A `[harness]` table (agent-session.md §22.1): another program in place of the built-in loop. Absent members have the
/// defaults of the type.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Harness {
    /// `builtin`, also when empty, `claude`, `codex`, `pi`, `goose` or `command`.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Program and arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// `stdin`, `arg` or `file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// `text`, `claude-json`, `codex-json` or `pi-json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Further variables.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Harness {
    /// Whether it is another program.
    pub fn is_external(&self) -> bool {
        !matches!(self.kind.as_str(), "" | "builtin")
    }

    /// Whether it cannot be used without a model and its key.
    pub fn needs_model(&self) -> bool {
        self.kind != "command"
    }
}

/// A `[model]` table (agent-session.md §2.1). Absent members have the defaults given there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ModelConfig {
    pub provider: String,
    pub model: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thinking_level: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api: Option<String>,
    /// Ref whose field `token` is the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_header: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_window: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<bool>,
    /// Thinking is adaptive, not by budget; comes from the host's `models.txt`, not from the table itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adaptive: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Price>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_retention: Option<String>,
    /// Seconds without a byte after which a request is given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<u64>,
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Prices in US dollars per million tokens. Members that are absent are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Price {
    pub input: f64,
    pub output: f64,
    pub cache_read: f64,
    pub cache_write: f64,
}

/// A `[limits]` table (agent-session.md §22.2). What is absent or 0 has no limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// Responses of models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_turns: Option<u64>,
    /// US dollars.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_cost: Option<f64>,
    /// Tokens of all kinds together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tool_calls: Option<u64>,
    /// Seconds that a command may take at most, and takes at most when the model says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bash_timeout: Option<u64>,
    /// The same call with the same result so often in a row ends the session; 10 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat_limit: Option<u64>,
    /// Whether the model is told when little is left; it is unless this is false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_hints: Option<bool>,
    /// Most tool calls that run at the same time; one when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallel_tools: Option<u64>,
    /// The model gets the results of tools without secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redact_tool_results: Option<bool>,
    /// What commands print is logged while they run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_tools: Option<bool>,
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Limits {
    /// Most tool calls that run at the same time, at least one.
    pub fn threads(&self) -> usize {
        self.parallel_tools.and_then(|most| usize::try_from(most).ok()).unwrap_or(1).max(1)
    }

    /// Whether there is nothing in the table.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One step of `[[preflight]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreflightStep {
    pub provider: String,
    /// Anything but `false` means true.
    #[serde(default = "yes", deserialize_with = "unless_false")]
    pub required: bool,
    #[serde(default)]
    pub params: Map<String, Value>,
    /// Limit of this step in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
}

fn yes() -> bool {
    true
}

fn unless_false<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Value::deserialize(deserializer)? != Value::Bool(false))
}
