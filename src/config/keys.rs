//! The one table of all configuration keys: where each may stand, its type and its range (cli-config.md §3.3).
//! Everything that checks or documents keys reads it from here.

use std::fmt;

use super::values::*;

/// Files in which a key may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `config.toml`, `.env.toml` and environment files.
    Project,
    /// `.env.toml` only.
    Local,
    /// Environment files only.
    Environment,
    /// `agent-config.toml`.
    Agent,
    /// The project's files and `agent-config.toml`.
    ProjectAndAgent,
}

/// The two kinds of document that are checked: the merged project configuration, and an agent's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Document {
    Project,
    Agent,
}

/// A key. In `path`, `*` stands for any name and `[]` for the items of an array of tables.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub path: &'static str,
    pub place: Place,
    pub shape: Shape,
    /// Accepted and checked, but without effect as yet.
    pub later: bool,
}

/// Type and range of a value.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    Bool,
    /// From the first to the second.
    Int(i64, i64),
    /// Zero, which means something special, or a range.
    ZeroOrInt(i64, i64),
    Number(f64, f64),
    Text(Form),
    Texts(Form),
    /// An array of strings; one string counts as an array of one.
    OneOrMany(Form),
    /// A table whose values are strings.
    TextTable(Form),
    /// A size as text, or an integer number of bytes.
    Size(Form),
    /// A table with the keys below this path.
    Table,
    /// A table whose names are free and whose values are tables with the keys below the given path.
    Named(&'static str),
    /// An array of tables with the keys below the given path.
    Tables(&'static str),
    /// Triggers: which keys they may have depends on their source.
    Triggers,
    /// A table with any content.
    Free,
    Any,
}

/// What a text may be.
#[derive(Clone, Copy)]
pub enum Form {
    Any,
    OneOf(&'static [&'static str]),
    /// What it has to be, in words that follow "is not", and the test for it.
    Is(&'static str, fn(&str) -> bool),
}

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.expectation())
    }
}

impl Form {
    /// Whether a text has this form.
    pub fn holds(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(words) => words.contains(&text),
            Self::Is(_, holds) => holds(text),
        }
    }

    /// What is expected, for messages and documentation.
    pub fn expectation(&self) -> String {
        match self {
            Self::Any => "a string".to_owned(),
            Self::OneOf(words) => format!("one of {}", words.join(", ")),
            Self::Is(what, _) => (*what).to_owned(),
        }
    }
}

impl Shape {
    /// The expected type, for messages: `an integer`.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Bool => "a boolean",
            Self::Int(..) | Self::ZeroOrInt(..) => "an integer",
            Self::Number(..) => "a number",
            Self::Text(_) => "a string",
            Self::Texts(_) => "an array of strings",
            Self::OneOrMany(_) => "an array of strings or a string",
            Self::TextTable(_) => "a table of strings",
            Self::Size(_) => "a string or an integer",
            Self::Table | Self::Free => "a table",
            Self::Named(_) => "a table of tables",
            Self::Tables(_) | Self::Triggers => "an array of tables",
            Self::Any => "any value",
        }
    }
}

const UNBOUNDED: i64 = i64::MAX;
const WEEK: i64 = 604_800;
const DAY: i64 = 86_400;

const TEXT: Shape = Shape::Text(Form::Any);
const SOME_TEXT: Shape = Shape::Text(Form::Is("a non-empty text", non_empty));
const URL: Shape = Shape::Text(Form::Is("a URL such as https://a.example", is_url));
const SIZE: Form = Form::Is("a memory size such as \"512m\" or \"4g\", at least 6m", is_memory);
const LOG_SIZE: Form = Form::Is("a size such as \"500m\" or \"2g\", or 0 for no limit", is_size);
const FLAG: Shape = Shape::Bool;
const PORT: Shape = Shape::Int(1, 65_535);
const LIST: Shape = Shape::Texts(Form::Any);
const FILTER: Shape = Shape::OneOrMany(Form::Any);
const USER: Shape = Shape::Text(Form::Is("a user name", is_user));

/// Providers of models.
pub const MODEL_PROVIDERS: [&str; 9] =
    ["anthropic", "openai", "groq", "google", "xai", "mistral", "openrouter", "custom", "mock"];

const fn one_of(words: &'static [&'static str]) -> Shape {
    Shape::Text(Form::OneOf(words))
}

const fn is(what: &'static str, holds: fn(&str) -> bool) -> Shape {
    Shape::Text(Form::Is(what, holds))
}

const fn key(path: &'static str, place: Place, shape: Shape) -> Key {
    Key { path, place, shape, later: false }
}

const fn later(path: &'static str, place: Place, shape: Shape) -> Key {
    Key { path, place, shape, later: true }
}

use Place::{Agent, Environment, Local, Project, ProjectAndAgent};
use Shape::{Any, Free, Int, Named, Number, Size, Table, Tables, TextTable, Texts, Triggers, ZeroOrInt};

/// Every key, in the order of the reference.
#[rustfmt::skip]
pub static KEYS: &[Key] = &[
    key("projectName", Project, SOME_TEXT),
    key("environment", Local, TEXT),
    key("maxReruns", Project, Int(0, 1_000_000)),
    key("maxCallDepth", Project, Int(0, 100)),
    key("maxTriggerDepth", Project, Int(0, 100)),
    key("workQueueSize", Project, Int(1, 1_000_000)),
    key("webhookQueueSize", Project, Int(1, 1_000_000)),
    later("maxWorkQueueSize", Agent, Int(1, 1_000_000)),
    key("workMaxAttempts", Project, Int(1, 20)),
    key("workRetryDelay", Project, Int(0, 900)),
    key("workRetryErrors", Project, FLAG),
    key("scale", Project, Int(1, UNBOUNDED)),
    key("scale", Agent, Int(0, UNBOUNDED)),
    later("defaultAgentScale", Project, Int(0, UNBOUNDED)),
    key("historyRetentionDays", Project, Int(1, 3650)),
    key("logRetentionDays", Project, Int(0, 3650)),
    key("logRetentionSize", Project, Size(LOG_SIZE)),
    later("timezone", ProjectAndAgent, SOME_TEXT),
    later("resourceLockTimeout", Project, Int(1, WEEK)),
    key("model", ProjectAndAgent, Table),
    key("model.provider", ProjectAndAgent, one_of(&MODEL_PROVIDERS)),
    key("model.model", ProjectAndAgent, SOME_TEXT),
    key("model.authType", ProjectAndAgent, one_of(&["api_key", "oauth_token", "pi_auth"])),
    key("model.thinkingLevel", ProjectAndAgent, one_of(&["off", "minimal", "low", "medium", "high", "xhigh"])),
    key("model.baseUrl", ProjectAndAgent, is("a URL such as https://a.example/v1 without a slash at its end", is_base_url)),
    key("model.api", ProjectAndAgent, one_of(&["anthropic", "responses", "chat", "google"])),
    key("model.credential", ProjectAndAgent, is("a credential reference such as \"openai_key:team\"", is_reference)),
    key("model.headers", ProjectAndAgent, TextTable(Form::Any)),
    key("model.authHeader", ProjectAndAgent, is("the name of a header", is_header_name)),
    key("model.contextWindow", ProjectAndAgent, Int(1, UNBOUNDED)),
    key("model.maxTokens", ProjectAndAgent, Int(1, UNBOUNDED)),
    key("model.reasoning", ProjectAndAgent, FLAG),
    key("model.images", ProjectAndAgent, FLAG),
    key("model.cost", ProjectAndAgent, Table),
    key("model.cost.input", ProjectAndAgent, Number(0.0, f64::MAX)),
    key("model.cost.output", ProjectAndAgent, Number(0.0, f64::MAX)),
    key("model.cost.cacheRead", ProjectAndAgent, Number(0.0, f64::MAX)),
    key("model.cost.cacheWrite", ProjectAndAgent, Number(0.0, f64::MAX)),
    key("model.cacheRetention", ProjectAndAgent, one_of(&["none", "short", "long"])),
    key("model.idleTimeout", ProjectAndAgent, Int(1, DAY)),
    key("model.compat", ProjectAndAgent, Table),
    key("model.compat.maxTokensField", ProjectAndAgent, one_of(&["max_tokens", "max_completion_tokens"])),
    key("model.compat.usageInStream", ProjectAndAgent, FLAG),
    key("model.compat.reasoningParam", ProjectAndAgent, one_of(&["reasoning_effort", "reasoning", "prompt_mode", "none"])),
    key("model.compat.developerRole", ProjectAndAgent, FLAG),
    key("model.compat.assistantAfterTool", ProjectAndAgent, FLAG),
    key("model.compat.toolResultName", ProjectAndAgent, FLAG),
    key("model.compat.shortToolIds", ProjectAndAgent, FLAG),
    key("model.compat.cacheControl", ProjectAndAgent, FLAG),
    key("model.fallback", ProjectAndAgent, Tables("model")),
    key("models", Project, Named("model")),
    key("models", Agent, LIST),
    key("limits", ProjectAndAgent, Table),
    key("limits.maxTurns", ProjectAndAgent, Int(0, UNBOUNDED)),
    key("limits.maxTokens", ProjectAndAgent, Int(0, UNBOUNDED)),
    key("limits.maxToolCalls", ProjectAndAgent, Int(0, UNBOUNDED)),
    key("limits.bashTimeout", ProjectAndAgent, Int(0, UNBOUNDED)),
    key("limits.maxCost", ProjectAndAgent, Number(0.0, f64::MAX)),
    key("limits.repeatLimit", ProjectAndAgent, ZeroOrInt(2, 1000)),
    key("limits.budgetHints", ProjectAndAgent, FLAG),
    key("limits.parallelTools", ProjectAndAgent, Int(1, 16)),
    key("limits.redactToolResults", ProjectAndAgent, FLAG),
    key("limits.streamTools", ProjectAndAgent, FLAG),
    key("harness", ProjectAndAgent, Table),
    key("harness.type", ProjectAndAgent, one_of(&["builtin", "claude", "codex", "pi", "goose", "command"])),
    key("harness.command", ProjectAndAgent, LIST),
    key("harness.prompt", ProjectAndAgent, one_of(&["stdin", "arg", "file"])),
    key("harness.output", ProjectAndAgent, one_of(&["text", "claude-json", "codex-json", "pi-json"])),
    key("harness.env", ProjectAndAgent, TextTable(Form::Any)),
    key("local", Project, Table),
    key("local.image", Project, is("an image name", is_image)),
    key("local.base", Project, is("an image name", is_image)),
    key("local.memory", Project, Size(SIZE)),
    key("local.cpus", Project, Number(0.0, f64::MAX)),
    key("local.timeout", Project, Int(1, WEEK)),
    key("local.pidsLimit", Project, Int(64, 65_536)),
    key("local.tmpSize", Project, is("a size such as \"512m\" or \"2g\"", is_tmp_size)),
    key("local.buildTimeout", Project, Int(60, DAY)),
    key("local.subnet", Project, is("a subnet such as \"10.83.0.0/24\"", is_cidr)),
    key("local.enabled", Project, FLAG),
    later("local.runtime", Project, SOME_TEXT),
    later("local.egress", Project, FILTER),
    key("gateway", Project, Table),
    key("gateway.port", Project, ZeroOrInt(1, 65_535)),
    key("gateway.url", Project, is("an absolute http:// or https:// URL without query or fragment", is_gateway_url)),
    key("gateway.lockTimeout", Project, Int(1, WEEK)),
    key("gateway.containerPort", Project, PORT),
    key("gateway.containerBind", Project, is("an IP address", is_ip)),
    key("gateway.containerHost", Project, is("an IP address or \"host-gateway\"", is_container_host)),
    key("gateway.trustedProxies", Project, Texts(Form::Is("an IP address or a subnet such as \"192.0.2.0/24\"", is_ip_or_cidr))),
    key("gateway.webhookRateLimit", Project, Int(0, UNBOUNDED)),
    later("gateway.locksPerInstance", Project, Int(1, 100)),
    key("webhooks", Project, Named("webhooks.*")),
    // Which types there are is said by `webhook::PROVIDERS`.
    key("webhooks.*.type", Project, TEXT),
    key("webhooks.*.credential", Project, is("the name of a credential instance such as \"MyOrg\"", is_instance)),
    key("webhooks.*.allowUnsigned", Project, FLAG),
    later("telemetry", Project, Table),
    key("telemetry.enabled", Project, FLAG),
    key("telemetry.provider", Project, one_of(&["otel", "none"])),
    key("telemetry.endpoint", Project, URL),
    key("telemetry.serviceName", Project, SOME_TEXT),
    key("telemetry.headers", Project, TextTable(Form::Any)),
    key("telemetry.samplingRate", Project, Number(0.0, 1.0)),
    key("server", Environment, Table),
    key("server.host", Environment, is("a host name or IP address, IPv6 without brackets", is_server_host)),
    key("server.user", Environment, USER),
    key("server.port", Environment, PORT),
    key("server.keyPath", Environment, SOME_TEXT),
    key("server.basePath", Environment, is("an absolute path of two or more plain components such as \"/opt/action-llama\"", is_base_path)),
    key("server.expose", Environment, FLAG),
    key("server.gatewayPort", Environment, PORT),
    later("server.serviceUser", Environment, USER),
    key("server.service", Environment, is("a unit name of lower-case letters, digits and hyphens", is_unit)),
    key("server.hostKey", Environment, is("a host key \"<type> <base64>\"", is_host_key)),
    key("server.strictHostKey", Environment, FLAG),
    later("server.hardenSsh", Environment, FLAG),
    later("server.fail2ban", Environment, FLAG),
    later("server.keepReleases", Environment, Int(1, 100)),
    later("server.binary", Environment, SOME_TEXT),
    later("server.provider", Environment, one_of(&["vultr", "hetzner", "vps"])),
    key("server.vultrInstanceId", Environment, SOME_TEXT),
    later("server.vultrRegion", Environment, SOME_TEXT),
    key("server.vultrFirewallGroupId", Environment, SOME_TEXT),
    later("server.hetznerLocation", Environment, SOME_TEXT),
    key("server.hetznerServerId", Environment, Int(1, UNBOUNDED)),
    key("server.hetznerFirewallId", Environment, Int(1, UNBOUNDED)),
    key("server.cloudflareZoneId", Environment, SOME_TEXT),
    later("server.cloudflareDnsRecordId", Environment, SOME_TEXT),
    key("server.cloudflareHostname", Environment, is("a host name", is_dns_name)),
    key("cluster", Project, Table),
    later("cluster.engine", Project, one_of(&["none", "swarm"])),
    later("cluster.constraints", Project, LIST),
    later("cluster.local", Project, LIST),
    later("cluster.spread", Project, TEXT),
    later("cluster.network", Project, is("a network name", is_network)),
    later("cluster.gateway", Project, one_of(&["relay", "address"])),
    later("cluster.gatewayAddress", Project, SOME_TEXT),
    later("cluster.images", Project, one_of(&["load", "registry"])),
    later("cluster.registry", Project, SOME_TEXT),
    later("cluster.reserveMemory", Project, Size(SIZE)),
    later("cluster.runOnManager", Project, FLAG),
    later("cluster.encrypted", Project, FLAG),
    later("cluster.nodes", Project, TextTable(Form::Is("an address ssh://user@host[:port]", is_ssh_address))),
    later("cluster.reserveCpus", Project, Number(0.0, f64::MAX)),
    later("cluster.pendingTimeout", Project, Int(1, DAY)),
    later("cluster.lostAfter", Project, Int(10, DAY)),
    key("cloud", Project, Any),
    key("name", Agent, Any),
    key("credentials", Agent, LIST),
    key("schedule", Agent, TEXT),
    key("timeout", Agent, Int(1, WEEK)),
    key("webhooks", Agent, Triggers),
    key("webhooks[].source", Agent, TEXT),
    key("webhooks[].events", Agent, FILTER),
    key("webhooks[].actions", Agent, FILTER),
    key("webhooks[].repos", Agent, FILTER),
    key("webhooks[].projects", Agent, FILTER),
    key("webhooks[].orgs", Agent, FILTER),
    key("webhooks[].organizations", Agent, FILTER),
    key("webhooks[].labels", Agent, FILTER),
    key("webhooks[].branches", Agent, FILTER),
    key("webhooks[].conclusions", Agent, FILTER),
    key("webhooks[].resources", Agent, FILTER),
    key("webhooks[].org", Agent, TEXT),
    key("webhooks[].assignee", Agent, TEXT),
    key("webhooks[].author", Agent, TEXT),
    later("webhooks[].channels", Agent, FILTER),
    later("webhooks[].team_ids", Agent, FILTER),
    later("webhooks[].guilds", Agent, FILTER),
    later("webhooks[].commands", Agent, FILTER),
    later("webhooks[].users", Agent, FILTER),
    later("webhooks[].ignoreBots", Agent, FLAG),
    key("preflight", Agent, Tables("preflight[]")),
    key("preflight[].provider", Agent, one_of(&["shell", "http", "git-clone"])),
    key("preflight[].required", Agent, FLAG),
    key("preflight[].params", Agent, Free),
    key("preflight[].timeout", Agent, Int(1, UNBOUNDED)),
    key("params", Agent, Free),
    key("hooks", Agent, Table),
    later("hooks.pre", Agent, LIST),
    later("hooks.post", Agent, LIST),
    later("inlineCommands", Agent, FLAG),
    later("source", Agent, TEXT),
    later("runtime", Agent, Any),
];

impl Key {
    fn is_in(&self, document: Document) -> bool {
        match self.place {
            Place::Project | Place::Local | Place::Environment => document == Document::Project,
            Place::Agent => document == Document::Agent,
            Place::ProjectAndAgent => true,
        }
    }

    /// The last part of the path.
    pub fn name(&self) -> &'static str {
        self.path.rsplit_once('.').map_or(self.path, |(_, name)| name)
    }
}

/// The key with this path in a document.
pub(super) fn find(document: Document, path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path && key.is_in(document))
}

/// Names of the keys directly below a path, `""` for the top level.
pub(super) fn names_below(document: Document, parent: &str) -> impl Iterator<Item = &'static str> {
    let below = move |key: &&Key| match key.path.rsplit_once('.') {
        Some((above, _)) => above == parent,
        None => parent.is_empty(),
    };
    KEYS.iter().filter(move |key| key.is_in(document)).filter(below).map(Key::name)
}

fn is_ssh_address(text: &str) -> bool {
    let host = text.strip_prefix("ssh://").and_then(|rest| rest.split_once('@'));
    host.is_some_and(|(user, host)| is_user(user) && is_server_host(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_parent_and_stands_once_per_document() {
        for document in [Document::Project, Document::Agent] {
            let keys: Vec<_> = KEYS.iter().filter(|key| key.is_in(document)).collect();
            for (index, key) in keys.iter().enumerate() {
                assert!(keys[..index].iter().all(|other| other.path != key.path), "{} twice", key.path);
                if let Some((parent, _)) = key.path.rsplit_once('.') {
                    let parent = parent.trim_end_matches(".*").trim_end_matches("[]");
                    assert!(keys.iter().any(|other| other.path == parent), "{} has no parent", key.path);
                }
            }
        }
    }
}
