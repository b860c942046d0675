//! A project's own files: the three layers, their effective values (cli-config.md §3.1–3.5, §3.11).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value as Json};
use shims::session::registry::Registry;
use shims::wire::config::{Limits, ModelConfig};
use toml::{Table, Value};

use super::check::wrong_type;
use super::finding::{Finding, Severity};
use super::home::{Home, Selection, check_environment_name};
use super::keys::Document;
use super::layers::{Layer, Merged, dotted, table_to_json};
use super::model;
use super::webhook::{self, Exposure, Source, Sources};
use crate::base::error::ConfigError;
use crate::model::names::ProjectHash;

const CONFIG: &str = "config.toml";
const LOCAL: &str = ".env.toml";
/// Seconds a run may take when nothing says otherwise.
const DEFAULT_TIMEOUT: u64 = 900;
/// Port of the gateway when nothing says otherwise, or 0.
const DEFAULT_PORT: u16 = 8080;

/// A project with everything that its own files say.
#[derive(Clone, Debug)]
pub struct Project {
    /// Absolute, lexical.
    pub dir: PathBuf,
    pub hash: ProjectHash,
    pub home: Home,
    /// The environment that is selected, if any.
    pub environment: Option<Environment>,
    pub settings: Settings,
    /// The `[model]` list of agents that have none of their own; empty without `[model]`.
    pub model_list: Vec<ModelConfig>,
    pub dockerfile: ProjectDockerfile,
    /// All layers, checked.
    pub merged: Merged,
    /// Sources that agents may name, also those that are not valid.
    pub(super) sources: Sources,
    /// What is known about models, when this user has additions of their own.
    pub(super) registry: Option<Registry>,
}

/// A named environment.
#[derive(Clone, Debug)]
pub struct Environment {
    pub name: String,
    pub file: PathBuf,
    pub server: Option<Server>,
}

/// Effective values; keys without a value of their own have their default.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Settings {
    pub project_name: Option<String>,
    pub max_reruns: u32,
    pub max_call_depth: u32,
    pub work_queue_size: u32,
    pub work_max_attempts: u32,
    /// Seconds.
    pub work_retry_delay: u64,
    pub work_retry_errors: bool,
    /// Most simultaneous runs of the project; `None` is no limit.
    pub scale: Option<u64>,
    pub history_retention_days: u32,
    /// 0 keeps log files whatever their age.
    pub log_retention_days: u32,
    /// As written; [`Settings::log_retention_bytes`].
    #[serde(deserialize_with = "text_or_number")]
    pub log_retention_size: String,
    pub local: Local,
    pub gateway: Gateway,
    /// The valid sources by name.
    #[serde(skip_deserializing)]
    pub webhooks: BTreeMap<String, Source>,
    pub telemetry: Telemetry,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            project_name: None,
            max_reruns: 10,
            max_call_depth: 3,
            work_queue_size: 100,
            work_max_attempts: 3,
            work_retry_delay: 30,
            work_retry_errors: false,
            scale: None,
            history_retention_days: 14,
            log_retention_days: 0,
            log_retention_size: "1g".to_owned(),
            local: Local::default(),
            gateway: Gateway::default(),
            webhooks: BTreeMap::new(),
            telemetry: Telemetry::default(),
        }
    }
}

impl Settings {
    /// Most bytes of all log files together; `None` is no limit.
    pub fn log_retention_bytes(&self) -> Option<u64> {
        super::values::memory_bytes(&self.log_retention_size).filter(|bytes| *bytes > 0)
    }
}

/// `[local]`: containers of this machine.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Local {
    pub image: String,
    pub base: String,
    /// As written; [`Local::memory_bytes`].
    #[serde(deserialize_with = "text_or_number")]
    pub memory: String,
    /// `None` and 0 are no limit.
    pub cpus: Option<f64>,
    /// Seconds.
    pub timeout: u64,
    pub pids_limit: u32,
    /// As written; `None` depends on the memory limit and the host.
    pub tmp_size: Option<String>,
    /// Seconds.
    pub build_timeout: u64,
    pub subnet: Option<String>,
}

impl Default for Local {
    fn default() -> Self {
        Self {
            image: "al-agent:latest".to_owned(),
            base: "alpine:3.22".to_owned(),
            memory: "4g".to_owned(),
            cpus: None,
            timeout: DEFAULT_TIMEOUT,
            pids_limit: 1024,
            tmp_size: None,
            build_timeout: 1800,
            subnet: None,
        }
    }
}

impl Local {
    /// The memory limit of a run.
    pub fn memory_bytes(&self) -> u64 {
        super::values::memory_bytes(&self.memory).expect("checked when it was read")
    }

    /// Size of `/tmp` when one is configured.
    pub fn tmp_size_bytes(&self) -> Option<u64> {
        self.tmp_size.as_deref().and_then(super::values::memory_bytes)
    }
}

fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(match Json::deserialize(deserializer)? {
        Json::String(text) => text,
        other => other.to_string(),
    })
}

/// `[gateway]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Gateway {
    pub port: u16,
    /// Where commands reach it, without a slash at its end.
    pub url: Option<String>,
    /// Seconds.
    pub lock_timeout: u64,
    pub container_port: Option<u16>,
    pub container_bind: Option<std::net::IpAddr>,
    /// An address or `host-gateway`.
    pub container_host: Option<String>,
    /// Addresses and subnets.
    pub trusted_proxies: Vec<String>,
    /// Requests per minute and client; 0 is no limit.
    pub webhook_rate_limit: u64,
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            port: DEFAULT_PORT,
            url: None,
            lock_timeout: 1800,
            container_port: None,
            container_bind: None,
            container_host: None,
            trusted_proxies: vec!["127.0.0.1/32".to_owned(), "::1/128".to_owned()],
            webhook_rate_limit: 120,
        }
    }
}

/// `[telemetry]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Telemetry {
    pub enabled: bool,
    pub provider: String,
    pub endpoint: Option<String>,
    pub service_name: String,
    /// Values may be secret.
    pub headers: BTreeMap<String, String>,
    pub sampling_rate: f64,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            enabled: false,
            provider: "none".to_owned(),
            endpoint: None,
            service_name: "action-llama".to_owned(),
            headers: BTreeMap::new(),
            sampling_rate: 1.0,
        }
    }
}

/// `[server]` of an environment: what checks need of it. The rest of its keys is checked, and read where it is used.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Server {
    /// Empty when missing.
    pub host: String,
    expose: Option<bool>,
    cloudflare_hostname: Option<String>,
    #[serde(flatten)]
    pub other: Map<String, Json>,
}

impl Server {
    /// Whether the server's gateway listens on all addresses.
    pub fn is_exposed(&self) -> bool {
        self.expose.unwrap_or(self.cloudflare_hostname.is_none())
    }

    /// The name under which nginx serves it, when it does.
    pub fn cloudflare_hostname(&self) -> Option<&str> {
        self.cloudflare_hostname.as_deref()
    }
}

/// What a project's `Dockerfile` adds (containers.md §3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProjectDockerfile {
    Absent,
    /// At most one line: nothing to build.
    Bare,
    Customised,
}

impl ProjectDockerfile {
    /// Looks at the text of a file.
    pub fn of(text: &str) -> Self {
        if instructions(text).count() > 1 { Self::Customised } else { Self::Bare }
    }
}

/// Lines that are neither blank nor comments.
fn instructions(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

impl Project {
    /// Reads the project's own files. Problems with values go into `findings`.
    ///
    /// # Errors
    /// A file that is not TOML, or an environment that does not exist: nothing else can be said then.
    pub(super) fn read(dir: &Path, home: &Home, selection: &Selection, findings: &mut Vec<Finding>) -> Result<Self> {
        let layers = Layers::read(dir, home, selection)?;
        let environment = layers.environment.clone();
        let mut merged = layers.merge(findings);
        let raw = merged.table.clone();
        let mut table = raw.clone();
        super::check::check(&mut table, Document::Project, &|key| merged.file_of(key).to_owned(), findings);
        check_models(&raw, &merged, findings);
        check_server(&raw, environment.as_ref(), &merged, findings);
        let sources = webhook::sources(&table, &raw, &merged, findings);
        let mut settings = settings(&table, &merged, findings);
        settings.webhooks = sources.iter().filter_map(|(name, source)| Some((name.clone(), source.clone()?))).collect();
        let registry = read_registry(home, findings);
        let own = table.get("model").and_then(Value::as_table);
        let model_list = own.map(|own| baked(model::list(&table_to_json(own)), registry.as_ref()));
        let environment = environment.map(|(name, file)| {
            let server = table.get("server").and_then(Value::as_table).map(table_to_json);
            let server = server.map(|server| serde_json::from_value(Json::Object(server)).unwrap_or_default());
            Environment { name, file, server }
        });
        let dockerfile = check_dockerfile(dir, findings);
        merged.table = table;
        Ok(Self {
            dir: dir.to_owned(),
            hash: ProjectHash::of(dir),
            home: home.clone(),
            environment,
            settings,
            model_list: model_list.unwrap_or_default(),
            dockerfile,
            merged,
            sources,
            registry,
        })
    }

    /// The merged and checked configuration as JSON.
    pub fn to_json(&self) -> Map<String, Json> {
        table_to_json(&self.merged.table)
    }

    /// What a session may use that no agent says otherwise about.
    pub fn limits(&self) -> Limits {
        let own = self.table("limits").map(|own| serde_json::from_value(Json::Object(table_to_json(own))));
        own.and_then(Result::ok).unwrap_or_default()
    }

    /// Whether a gateway of this project, where its environment says it runs, can be reached from outside.
    pub fn exposure(&self) -> Exposure {
        let server = self.environment.as_ref().and_then(|environment| environment.server.as_ref());
        if server.is_some_and(Server::is_exposed) { Exposure::Exposed } else { Exposure::Loopback }
    }

    /// A table of the merged configuration.
    pub(super) fn table(&self, name: &str) -> Option<&Table> {
        self.merged.table.get(name).and_then(Value::as_table)
    }
}

/// The user's `models.txt` over the compiled-in table.
fn read_registry(home: &Home, findings: &mut Vec<Finding>) -> Option<Registry> {
    let path = home.path().join("models.txt");
    let name = path.display().to_string();
    let mut registry = Registry::builtin();
    let read = crate::base::files::read_optional(&path).map_err(|error| format!("{error:#}"));
    match read.and_then(|text| text.map(|text| registry.merge(&text)).transpose()) {
        Ok(merged) => merged.map(|()| registry),
        Err(problem) => {
            findings.push(Finding::whole(Severity::Error, &name, format!("{name}: {problem}")));
            None
        }
    }
}

/// Models with what the user's registry knows about them.
pub(super) fn baked(mut models: Vec<ModelConfig>, registry: Option<&Registry>) -> Vec<ModelConfig> {
    if let Some(registry) = registry {
        models.iter_mut().for_each(|model| registry.bake(model));
    }
    models
}

/// The name of the environment that is selected, and all layers, unchecked.
///
/// # Errors
/// A file that is not TOML, or an environment that does not exist.
pub(super) fn merged(dir: &Path, home: &Home, selection: &Selection) -> Result<(Option<String>, Merged)> {
    let layers = Layers::read(dir, home, selection)?;
    let name = layers.environment.as_ref().map(|(name, _)| name.clone());
    Ok((name, layers.merge(&mut Vec::new())))
}

/// The layers before they are merged.
struct Layers {
    config: Layer,
    local: Layer,
    named: Option<Layer>,
    /// Name and file.
    environment: Option<(String, PathBuf)>,
}

impl Layers {
    fn read(dir: &Path, home: &Home, selection: &Selection) -> Result<Self> {
        let mut problems = Vec::new();
        let mut read = |path: &Path, name: &str| match Layer::read(path, name) {
            Ok(layer) => layer,
            Err(problem) => {
                problems.push(problem);
                Layer { name: name.to_owned(), table: Table::new() }
            }
        };
        let config = read(&dir.join(CONFIG), CONFIG);
        let local = read(&dir.join(LOCAL), LOCAL);
        let mut named = None;
        let mut environment = None;
        match select(&local.table, home, selection) {
            Ok(None) => {}
            Ok(Some((name, file))) => {
                named = Some(read(&file, &file.display().to_string()));
                environment = Some((name, file));
            }
            Err(problem) => problems.push(problem),
        }
        match problems.as_slice() {
            [] => Ok(Self { config, local, named, environment }),
            [one] => bail!(ConfigError(one.clone())),
            many => bail!(ConfigError(format!("{} problems:\n  - {}", many.len(), many.join("\n  - ")))),
        }
    }

    /// Lays the layers over each other; keys that stand where they have no effect are taken out and reported.
    fn merge(mut self, findings: &mut Vec<Finding>) -> Merged {
        let mut warn = |layer: &mut Layer, key: &str, message: &str| {
            if layer.table.remove(key).is_some() {
                findings.push(Finding::at(Severity::Warning, &layer.name, key, message));
            }
        };
        for layer in [Some(&mut self.config), Some(&mut self.local), self.named.as_mut()].into_iter().flatten() {
            warn(layer, "cloud", "is ignored; use [server] in an environment file");
        }
        for layer in [&mut self.config, &mut self.local] {
            warn(layer, "server", "is only read from an environment file");
        }
        for layer in [Some(&mut self.config), self.named.as_mut()].into_iter().flatten() {
            warn(layer, "environment", "is ignored here; its place is .env.toml");
        }
        // Of another type they stay, and are reported with the rest.
        if self.local.table.get("environment").is_some_and(Value::is_str) {
            self.local.table.remove("environment");
        }
        let mut name = Layer { name: LOCAL.to_owned(), table: Table::new() };
        if let Some((key, value)) = self.local.table.remove_entry("projectName") {
            name.table.insert(key, value);
        }
        let mut merged = Merged::single(self.config);
        merged.add(self.local);
        self.named.into_iter().for_each(|layer| merged.add(layer));
        merged.add(name);
        merged
    }
}

/// Name and file of the environment that applies.
fn select(local: &Table, home: &Home, selection: &Selection) -> Result<Option<(String, PathBuf)>, String> {
    if selection.is_none() {
        return Ok(None);
    }
    let (name, whence) = match (selection.explicit(), local.get("environment")) {
        (Some((name, whence)), _) => (name, whence.to_owned()),
        (None, None) => return Ok(None),
        (None, Some(Value::String(name))) if name.is_empty() => return Ok(None),
        (None, Some(Value::String(name))) => (name.as_str(), format!("{LOCAL}: environment")),
        (None, Some(other)) => return Err(format!("{LOCAL}: environment: {}", wrong_type("a string", other))),
    };
    check_environment_name(name).map_err(|problem| format!("{whence}: {problem}"))?;
    let file = home.environment_file(name);
    if !file.exists() {
        return Err(format!(
            "{whence}: environment \"{name}\" does not exist: there is no {}; create it with `al env init {name}`, or \
             see which there are with `al env list`",
            file.display()
        ));
    }
    Ok(Some((name.to_owned(), file)))
}

fn check_models(raw: &Table, origin: &Merged, findings: &mut Vec<Finding>) {
    let mut tables: Vec<(String, &Table)> = Vec::new();
    tables.extend(raw.get("model").and_then(Value::as_table).map(|table| ("model".to_owned(), table)));
    for (name, value) in raw.get("models").and_then(Value::as_table).into_iter().flatten() {
        tables.extend(value.as_table().map(|table| (dotted("models", name), table)));
    }
    for (shown, table) in tables {
        findings.extend(model::findings(table, &shown, &|key| origin.file_of(key).to_owned()));
    }
}

fn check_server(raw: &Table, environment: Option<&(String, PathBuf)>, origin: &Merged, findings: &mut Vec<Finding>) {
    let (Some(Value::Table(server)), Some((name, _))) = (raw.get("server"), environment) else { return };
    let mut say = |severity, key: &str, message: String| {
        findings.push(Finding::at(severity, origin.file_of(key), key, message));
    };
    match server.get("host").map(Value::as_str) {
        None => say(Severity::Error, "server.host", "is missing; write the address of the server".to_owned()),
        Some(Some(host @ ("REPLACE_ME" | "PENDING"))) => {
            let message = format!(
                "environment \"{name}\" has no server yet ({host}); write the address of one here: `al env prov {name}`, \
                 which would make one, is not built yet"
            );
            say(Severity::Error, "server.host", message);
        }
        Some(_) => {}
    }
    if server.get("serviceUser").and_then(Value::as_str) == Some("root") {
        say(Severity::Warning, "server.serviceUser", "the service would run as root".to_owned());
    }
}

fn settings(table: &Table, origin: &Merged, findings: &mut Vec<Finding>) -> Settings {
    let mut warn = |key: &str, message: String| {
        findings.push(Finding::at(Severity::Warning, origin.file_of(key), key, message));
    };
    let mut json = table_to_json(table);
    for (old, new) in [("maxTriggerDepth", "maxCallDepth"), ("webhookQueueSize", "workQueueSize")] {
        let Some(value) = json.remove(old) else { continue };
        if json.contains_key(new) {
            warn(old, format!("is ignored, because {new} is there"));
        } else {
            warn(old, format!("is an old name; write {new}"));
            json.insert(new.to_owned(), value);
        }
    }
    if table.get("local").and_then(|local| local.get("enabled")?.as_bool()) == Some(false) {
        warn("local.enabled", "has no effect: runs are always in containers".to_owned());
    }
    let mut settings: Settings =
        serde_json::from_value(Json::Object(json)).expect("every key was checked against the table of keys");
    if settings.gateway.port == 0 {
        settings.gateway.port = DEFAULT_PORT;
    }
    settings.gateway.url = settings.gateway.url.map(|url| url.trim_end_matches('/').to_owned());
    let telemetry = &settings.telemetry;
    if telemetry.enabled && telemetry.provider == "otel" && telemetry.endpoint.is_none() {
        warn("telemetry.endpoint", "is missing: nothing is exported".to_owned());
    }
    settings
}

fn check_dockerfile(dir: &Path, findings: &mut Vec<Finding>) -> ProjectDockerfile {
    let text = match crate::base::files::read_optional(&dir.join("Dockerfile")) {
        Ok(Some(text)) => text,
        Ok(None) => return ProjectDockerfile::Absent,
        Err(error) => {
            findings.push(Finding::whole(Severity::Error, "Dockerfile", format!("Dockerfile: {error:#}")));
            return ProjectDockerfile::Absent;
        }
    };
    let found = ProjectDockerfile::of(&text);
    let only = instructions(&text).next().filter(|_| found == ProjectDockerfile::Bare);
    let image = only.and_then(|line| line.split_whitespace().nth(1));
    if image.is_some_and(|image| image != "al-agent" && !image.starts_with("al-agent:")) {
        let message =
            "Dockerfile: has no effect, because it has only one line; write FROM al-agent:latest and what to add";
        findings.push(Finding::whole(Severity::Warning, "Dockerfile", message));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::KEYS;
    use crate::config::layers;

    #[test]
    fn exposed_unless_said_otherwise_or_behind_a_proxy() {
        let server = |text: &str| serde_json::from_str::<Server>(text).unwrap().is_exposed();
        assert!(server(r#"{"host":"a"}"#));
        assert!(!server(r#"{"host":"a","cloudflareHostname":"b"}"#));
        assert!(server(r#"{"host":"a","cloudflareHostname":"b","expose":true}"#));
        assert!(!server(r#"{"host":"a","expose":false}"#));
    }

    #[test]
    fn no_value_of_any_type_gets_past_the_check_and_stops_the_reading() {
        let samples = ["-1", "0", "1", "7000000000", "0.5", "nan", "true", "''", "'x'", "'4g'", "[]", "[1]", "['x']"];
        let samples = samples.into_iter().chain(["{}", "{ x = 1 }", "[{ x = 1 }]", "2020-01-01"]);
        for sample in samples {
            for key in KEYS.iter().filter(|key| !key.path.contains(['*', '['])) {
                let table = layers::parse(&format!("{} = {sample}", key.path), "").unwrap();
                let merged = Merged::single(Layer { name: CONFIG.to_owned(), table: table.clone() });
                let (mut checked, mut findings) = (table.clone(), Vec::new());
                crate::config::check::check(&mut checked, Document::Project, &|_| String::new(), &mut findings);
                check_models(&table, &merged, &mut findings);
                webhook::sources(&checked, &table, &merged, &mut findings);
                settings(&checked, &merged, &mut findings).local.memory_bytes();
            }
        }
    }

    #[test]
    fn defaults_are_those_of_the_reference() {
        let settings = settings(&Table::new(), &Merged::default(), &mut Vec::new());
        assert_eq!(settings.local.memory_bytes(), 4 << 30);
        assert_eq!((settings.gateway.port, settings.gateway.webhook_rate_limit), (8080, 120));
        assert_eq!(settings.log_retention_bytes(), Some(1 << 30));
        let unlimited = Settings { log_retention_size: "0".to_owned(), ..settings };
        assert_eq!(unlimited.log_retention_bytes(), None);
    }
}
