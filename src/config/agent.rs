//! Agents: which there are, what each says, and whether it can be used (cli-config.md §3.6, §3.9).

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};
use shims::credential_types::{self, Group};
use shims::session::estimate;
use shims::session::registry::Registry;
use shims::wire::config::{AgentConfig, Harness, Limits, ModelConfig, PreflightStep};
use toml::{Table, Value};

use super::check::quoted;
use super::finding::{Finding, Rule, Severity};
use super::keys::Document;
use super::layers::{self, dotted, table_to_json};
use super::project::{self, Project};
use super::schedule::Schedule;
use super::webhook::{self, Trigger};
use super::{model, preflight};
use crate::base::clock::UnixMs;
use crate::base::files::read_optional;
use crate::base::text::nearest;
use crate::model::names::{AgentName, CredentialRef};

/// Name of the file that makes a directory an agent.
pub(super) const FILE: &str = "agent-config.toml";
/// From so many tokens on, instructions are worth a warning.
const LONG_INSTRUCTIONS: u64 = 20_000;
/// Keys of the baked configuration that are not copied from the file as they are.
const TYPED: [&str; 7] = ["name", "credentials", "model", "models", "preflight", "limits", "harness"];

/// An agent as its file says. Usable when no error finding belongs to it.
#[derive(Clone, Debug)]
pub struct Agent {
    pub name: AgentName,
    pub dir: PathBuf,
    /// Without duplicates.
    pub credentials: Vec<CredentialRef>,
    /// First choice first; empty in a usable agent only when its harness needs none.
    pub models: Vec<ModelConfig>,
    /// `None` also when what the file says is no schedule.
    pub schedule: Option<Schedule>,
    pub triggers: Vec<Trigger>,
    pub preflight: Vec<PreflightStep>,
    pub params: Map<String, Json>,
    /// What a run may use.
    pub limits: Limits,
    /// The program in place of the built-in loop; `None` also when the table has no usable value.
    pub harness: Option<Harness>,
    /// Simultaneous runs; 0 is a disabled agent.
    pub scale: u64,
    /// Seconds.
    pub timeout: u64,
    /// Text of `ACTIONS.md`, empty when there is none.
    pub instructions: String,
    /// It runs a script instead of a session.
    pub has_test_script: bool,
    pub has_dockerfile: bool,
    /// The whole file as JSON, with what it inherits from the project.
    file: Map<String, Json>,
}

impl Agent {
    /// Whether it takes part at all.
    pub fn is_enabled(&self) -> bool {
        self.scale > 0
    }

    /// The configuration that is baked into its image.
    pub fn baked(&self) -> AgentConfig {
        let mut other = self.file.clone();
        TYPED.iter().for_each(|key| drop(other.shift_remove(*key)));
        AgentConfig {
            name: self.name.to_string(),
            credentials: self.credentials.iter().map(CredentialRef::to_string).collect(),
            model: self.models.first().cloned(),
            models: if self.models.len() > 1 { self.models.clone() } else { Vec::new() },
            preflight: self.preflight.clone(),
            limits: self.limits.clone(),
            harness: self.harness.clone(),
            other,
        }
    }
}

/// Directories below `agents/` that are agents, by name.
pub(super) fn discover(project: &Path, findings: &mut Vec<Finding>) -> Vec<(String, PathBuf)> {
    let entries = match fs::read_dir(project.join("agents")) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Vec::new(),
        Err(error) => {
            findings.push(Finding::whole(Severity::Error, "agents", format!("agents: {error}")));
            return Vec::new();
        }
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') || name == "node_modules" {
            continue;
        }
        let path = entry.path();
        // Follows links, so that a dangling one is an error here.
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() && path.join(FILE).exists() => found.push((name, path)),
            Ok(_) => {}
            Err(error) => {
                let file = format!("agents/{name}");
                findings.push(Finding::whole(Severity::Warning, &file, format!("{file}: is skipped: {error}")));
            }
        }
    }
    found.sort();
    found
}

/// Reads and checks one agent. `None` when it has no valid name or its file cannot be read.
pub(super) fn load(name: &str, dir: &Path, project: &Project, findings: &mut Vec<Finding>) -> Option<Agent> {
    let file = format!("agents/{name}/{FILE}");
    let table = layers::Layer::read(&dir.join(FILE), &file).map(|layer| layer.table);
    load_table(name, dir, file, table, project, findings)
}

/// As [`load`], with this text in the place of its file.
pub(super) fn load_text(
    name: &str,
    dir: &Path,
    text: &str,
    project: &Project,
    findings: &mut Vec<Finding>,
) -> Option<Agent> {
    let file = format!("agents/{name}/{FILE}");
    let table = layers::parse(text, &file);
    load_table(name, dir, file, table, project, findings)
}

fn load_table(
    name: &str,
    dir: &Path,
    file: String,
    table: Result<Table, String>,
    project: &Project,
    findings: &mut Vec<Finding>,
) -> Option<Agent> {
    let mut checker = Checker { project, name, file, findings: Vec::new() };
    let valid_name = checker.name();
    let raw = checker.readable(table);
    let mut is_disabled = false;
    let agent = raw.and_then(|raw| {
        let table = checker.keys(&raw);
        is_disabled = table.get("scale").and_then(Value::as_integer) == Some(0);
        checker.agent(&raw, &table, dir, valid_name)
    });
    for mut finding in checker.findings {
        finding.agent = Some(name.to_owned());
        if is_disabled && finding.is_error() {
            finding.severity = Severity::Warning;
            finding.demoted = true;
        }
        findings.push(finding);
    }
    agent
}

struct Checker<'a> {
    project: &'a Project,
    name: &'a str,
    /// As messages call it.
    file: String,
    findings: Vec<Finding>,
}

impl Checker<'_> {
    fn error(&mut self, key: &str, message: impl Into<String>) {
        self.findings.push(Finding::at(Severity::Error, &self.file, key, message));
    }

    fn warn(&mut self, key: &str, message: impl Into<String>) {
        self.findings.push(Finding::at(Severity::Warning, &self.file, key, message));
    }

    /// Something about a whole file of the agent's directory.
    fn about_file(&mut self, severity: Severity, file: &str, message: &str) {
        let file = format!("agents/{}/{file}", self.name);
        self.findings.push(Finding::whole(severity, &file, format!("{file}: {message}")));
    }

    fn name(&mut self) -> Option<AgentName> {
        let dir = format!("agents/{}", self.name);
        match AgentName::parse(self.name) {
            Err(problem) => {
                let message = format!("{dir}: {problem}; rename the directory");
                self.findings.push(Finding::whole(Severity::Error, &dir, message));
                None
            }
            Ok(name) => {
                if ["scheduler", "gateway"].contains(&name.as_str()) {
                    let message = format!("{dir}: agent \"{name}\" shares its log file with the program's own log");
                    self.findings.push(Finding::whole(Severity::Warning, &dir, message));
                }
                Some(name)
            }
        }
    }

    fn readable(&mut self, table: Result<Table, String>) -> Option<Table> {
        table.map_err(|message| self.findings.push(Finding::whole(Severity::Error, &self.file, message))).ok()
    }

    /// The table without values of a wrong type or range.
    fn keys(&mut self, raw: &Table) -> Table {
        let mut table = raw.clone();
        super::check::check(&mut table, Document::Agent, &|_| self.file.clone(), &mut self.findings);
        if raw.contains_key("name") {
            self.warn("name", "is ignored: an agent is called like its directory");
        }
        table
    }

    fn agent(&mut self, raw: &Table, table: &Table, dir: &Path, name: Option<AgentName>) -> Option<Agent> {
        let json = table_to_json(table);
        let number = |key: &str| json.get(key).and_then(Json::as_u64);
        let scale = number("scale").unwrap_or(1);
        let timeout = number("timeout").unwrap_or(self.project.settings.local.timeout);
        let schedule = self.schedule(raw, table, scale);
        let file = with_inherited(json.clone(), self.project);
        let harness = self.harness(raw, &file);
        let models = self.models(raw, table, harness.as_ref());
        let credentials = self.credentials(table);
        let triggers = raw.get("webhooks").map_or_else(Vec::new, |value| {
            webhook::triggers(value, &self.project.sources, &self.file, &mut self.findings)
        });
        for (severity, key, message) in raw.get("preflight").map(preflight::check).unwrap_or_default() {
            self.findings.push(Finding::at(severity, &self.file, &key, message));
        }
        let steps = json.get("preflight").and_then(Json::as_array).cloned().unwrap_or_default();
        let instructions = self.instructions(dir);
        let has_dockerfile = self.dockerfile(dir);
        let limits = file.get("limits").and_then(|limits| serde_json::from_value(limits.clone()).ok());
        let limits: Limits = limits.unwrap_or_default();
        self.cost_limit(raw, &limits, &models);
        Some(Agent {
            name: name?,
            dir: dir.to_owned(),
            credentials,
            models,
            schedule,
            triggers,
            preflight: steps.into_iter().filter_map(|step| serde_json::from_value(step).ok()).collect(),
            params: file.get("params").and_then(Json::as_object).cloned().unwrap_or_default(),
            limits,
            harness,
            scale,
            timeout,
            instructions,
            has_test_script: dir.join("test-script.sh").is_file(),
            has_dockerfile,
            file,
        })
    }

    fn schedule(&mut self, raw: &Table, table: &Table, scale: u64) -> Option<Schedule> {
        let has_triggers = match raw.get("webhooks") {
            Some(Value::Array(items)) => !items.is_empty(),
            other => other.is_some(),
        };
        if !raw.contains_key("schedule") && !has_triggers && scale > 0 {
            let message = "there is neither a schedule nor a trigger; write `schedule = \"…\"`, add [[webhooks]], or disable \
                           it with `scale = 0`: `al run` starts it all the same";
            let finding = Finding::at(Severity::Error, &self.file, "schedule, webhooks", message);
            self.findings.push(finding.of(Rule::NoTrigger));
        }
        match Schedule::parse(table.get("schedule")?.as_str()?) {
            Ok(schedule) => {
                if schedule.never_fires(UnixMs::now()) {
                    let message = format!(
                        "\"{}\" never fires: it matches no instant from now to the end of 2099",
                        schedule.text()
                    );
                    self.warn("schedule", message);
                }
                Some(schedule)
            }
            Err(rejection) => {
                self.error("schedule", rejection.to_string());
                None
            }
        }
    }

    /// The program that holds the sessions, checked as far as that is possible without its image.
    fn harness(&mut self, raw: &Table, file: &Map<String, Json>) -> Option<Harness> {
        let harness: Harness = serde_json::from_value(file.get("harness")?.clone()).ok()?;
        if !harness.is_external() {
            return Some(harness);
        }
        let own = raw.contains_key("harness");
        let place = if own { &self.file } else { self.project.merged.file_of("harness.type") }.to_owned();
        let mut error =
            |key: &str, message: &str| self.findings.push(Finding::at(Severity::Error, &place, key, message));
        match harness.command.first() {
            None if harness.kind == "command" => {
                error("harness.command", "is missing; write the program and its arguments as an array of strings");
            }
            Some(program) if program.is_empty() => error("harness.command", "begins with an empty name"),
            _ => {}
        }
        let names_file = harness.command.iter().any(|part| part.contains("{promptFile}"));
        if harness.prompt.as_deref() == Some("file") && !names_file {
            error("harness.prompt", "\"file\" needs {promptFile} in harness.command");
        }
        let program = harness.command.first().map_or(harness.kind.as_str(), String::as_str);
        let note = format!("the image must contain {program}; install it in agents/{}/Dockerfile", self.name);
        self.findings.push(Finding::at(Severity::Note, &place, "harness.type", note));
        Some(harness)
    }

    fn models(&mut self, raw: &Table, table: &Table, harness: Option<&Harness>) -> Vec<ModelConfig> {
        if let Some(Value::Table(own)) = raw.get("model") {
            self.findings.extend(model::findings(own, "model", &|_| self.file.clone()));
        }
        let named = table.get("models").and_then(Value::as_array).filter(|names| !names.is_empty());
        let (models, file) = match (named, table.get("model")) {
            (Some(names), own) => {
                if own.is_some() {
                    self.warn("model", "is ignored, because models is there");
                }
                (self.named_models(names), self.file.clone())
            }
            (None, Some(Value::Table(own))) => (model::list(&table_to_json(own)), self.file.clone()),
            (None, _) => (self.project.model_list.clone(), self.project.merged.file_of("model.authType").to_owned()),
        };
        let wanted = ["model", "models"].iter().any(|key| raw.contains_key(*key));
        let needed = harness.is_none_or(Harness::needs_model);
        if models.is_empty() && needed && !wanted && self.project.table("model").is_none() {
            let message = format!("there is no model; add [model] to config.toml or to {}", self.file);
            self.findings.push(Finding::at(Severity::Error, "config.toml", "model", message));
        }
        if models.iter().any(|model| model.auth_type.as_deref() == Some("pi_auth")) {
            let message = "pi_auth is not supported in containers; write authType = \"api_key\" or \"oauth_token\" and \
                           store the key with `al creds add`";
            self.findings.push(Finding::at(Severity::Error, &file, "model.authType", message));
        }
        project::baked(models, self.project.registry.as_ref())
    }

    /// A limit on the cost needs to know what each model costs.
    fn cost_limit(&mut self, raw: &Table, limits: &Limits, models: &[ModelConfig]) {
        if limits.max_cost.unwrap_or(0.0) <= 0.0 {
            return;
        }
        let own = raw.get("limits").and_then(|limits| limits.get("maxCost")).is_some();
        let file = if own { &self.file } else { self.project.merged.file_of("limits.maxCost") }.to_owned();
        let registry = Registry::builtin();
        for model in models.iter().filter(|model| !registry.knows_price(model)) {
            let message = format!("needs the price of {}:{}; write it into model.cost", model.provider, model.model);
            self.findings.push(Finding::at(Severity::Error, &file, "limits.maxCost", message));
        }
    }

    /// The models of a list of names; `default` is the project's `[model]` unless another has the name.
    fn named_models(&mut self, names: &[Value]) -> Vec<ModelConfig> {
        let defined = self.project.table("models");
        let mut models = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let Some(name) = name.as_str() else { continue };
            match defined.and_then(|tables| tables.get(name)) {
                Some(Value::Table(own)) => models.extend(model::list(&table_to_json(own))),
                _ if name == "default" && !self.project.model_list.is_empty() => {
                    models.extend(self.project.model_list.iter().cloned());
                }
                _ => {
                    let names: Vec<&str> = defined.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
                    let names = if names.is_empty() { "(none)".to_owned() } else { names.join(", ") };
                    let shown = dotted("models", name);
                    let message = format!("there is no [{shown}] in config.toml; defined: {names}");
                    self.error(&format!("models[{index}]"), message);
                }
            }
        }
        models
    }

    fn credentials(&mut self, table: &Table) -> Vec<CredentialRef> {
        let mut credentials = Vec::new();
        let texts = table.get("credentials").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        for (index, text) in texts.enumerate() {
            let key = format!("credentials[{index}]");
            let reference = match CredentialRef::parse(text) {
                Ok(reference) => reference,
                Err(problem) => {
                    self.error(&key, problem);
                    continue;
                }
            };
            match credential_types::find(reference.kind()) {
                None => {
                    let known = credential_types::TYPES.iter().map(|known| known.id);
                    let hint = nearest(reference.kind(), known, 2);
                    let hint = hint.map(|known| format!("did you mean \"{known}\"? ")).unwrap_or_default();
                    let message = format!("{} is of no known type; {hint}`al creds types` lists them", quoted(text));
                    self.error(&key, message);
                    continue;
                }
                Some(known) if known.group == Group::Gateway => {
                    self.warn(&key, format!("{} is never given to an agent", quoted(text)));
                }
                Some(_) => {}
            }
            if !credentials.contains(&reference) {
                credentials.push(reference);
            }
        }
        credentials
    }

    fn instructions(&mut self, dir: &Path) -> String {
        let text = match read_optional(&dir.join("ACTIONS.md")) {
            Ok(text) => text.unwrap_or_default(),
            Err(error) => {
                self.about_file(Severity::Error, "ACTIONS.md", &format!("{error:#}"));
                return String::new();
            }
        };
        if text.trim().is_empty() {
            self.about_file(Severity::Warning, "ACTIONS.md", "is missing or empty; the agent has no instructions");
        }
        let tokens = estimate::text(&text);
        if tokens >= LONG_INSTRUCTIONS {
            let message = format!("has about {tokens} tokens, which every request of a run pays for; shorten it");
            self.about_file(Severity::Warning, "ACTIONS.md", &message);
        }
        text
    }

    fn dockerfile(&mut self, dir: &Path) -> bool {
        let is_from = |line: &str| line.split_whitespace().next().is_some_and(|word| word.eq_ignore_ascii_case("from"));
        match read_optional(&dir.join("Dockerfile")) {
            Ok(None) => false,
            Ok(Some(text)) => {
                if !text.lines().any(is_from) {
                    self.about_file(
                        Severity::Error,
                        "Dockerfile",
                        "has no FROM line; begin it with FROM al-agent:latest",
                    );
                }
                true
            }
            Err(error) => {
                self.about_file(Severity::Error, "Dockerfile", &format!("{error:#}"));
                true
            }
        }
    }
}

/// An agent's file with the tables of which it inherits keys: `limits` key by key, `harness` as a whole.
fn with_inherited(mut file: Map<String, Json>, project: &Project) -> Map<String, Json> {
    if let Some(limits) = project.table("limits") {
        let mut limits = table_to_json(limits);
        limits.extend(file.get("limits").and_then(Json::as_object).cloned().unwrap_or_default());
        file.insert("limits".to_owned(), Json::Object(limits));
    }
    if let Some(harness) = project.table("harness").filter(|_| !file.contains_key("harness")) {
        file.insert("harness".to_owned(), Json::Object(table_to_json(harness)));
    }
    file
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::config::{Home, Loaded, Selection, load};

    fn loaded(files: &[(&str, &str)]) -> Loaded {
        let dir = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        load(dir.path(), &Home::at(dir.path().join("home")), &Selection::default()).unwrap()
    }

    /// What is said of an agent with these files.
    fn findings(config: &str, own: &str) -> Vec<String> {
        let files = [("config.toml", config), ("agents/dev/agent-config.toml", own), ("agents/dev/ACTIONS.md", "x")];
        let loaded = loaded(&files);
        loaded.findings.iter().map(|finding| format!("{:?} {finding}", finding.severity)).collect()
    }

    #[test]
    fn another_program_must_be_in_the_image_and_must_be_named() {
        #[track_caller]
        fn case(harness: &str, expected: &[&str]) {
            let config = "[model]\nprovider = 'mock'\nmodel = 'echo'\n";
            let found = findings(config, &format!("schedule = '@daily'\n[harness]\n{harness}"));
            assert_eq!(found, expected, "{harness}");
        }
        let note = |program: &str| {
            format!(
                "Note agents/dev/agent-config.toml: harness.type: the image must contain {program}; install it in \
                 agents/dev/Dockerfile (agent \"dev\")"
            )
        };
        let error = |what: &str| format!("Error agents/dev/agent-config.toml: harness.{what} (agent \"dev\")");
        case("type = 'builtin'", &[]);
        case("type = 'goose'", &[&note("goose")]);
        case("type = 'codex'\ncommand = ['/opt/codex']", &[&note("/opt/codex")]);
        let missing = error("command: is missing; write the program and its arguments as an array of strings");
        case("type = 'command'", &[&missing, &note("command")]);
        let unnamed = error("prompt: \"file\" needs {promptFile} in harness.command");
        case("type = 'command'\ncommand = ['x']\nprompt = 'file'", &[&unnamed, &note("x")]);
        case("type = 'command'\ncommand = ['x', '-f{promptFile}']\nprompt = 'file'", &[&note("x")]);
    }

    #[test]
    fn a_command_of_ones_own_needs_no_model_and_is_inherited_whole() {
        let own = "schedule = '@daily'\n";
        let loaded = loaded(&[
            ("config.toml", "[harness]\ntype = 'command'\ncommand = ['x']\nenv = { A = '1' }\n"),
            ("agents/dev/agent-config.toml", own),
            ("agents/other/agent-config.toml", &format!("{own}[harness]\ntype = 'pi'\n")),
        ]);
        assert!(loaded.is_usable("dev") && !loaded.is_usable("other"), "{:?}", loaded.findings);
        let baked = |name: &str| serde_json::to_value(loaded.agent(name).unwrap().baked()).unwrap();
        assert_eq!(baked("dev")["harness"], json!({"type": "command", "command": ["x"], "env": {"A": "1"}}));
        assert_eq!(baked("other")["harness"], json!({"type": "pi"}));
    }

    #[test]
    fn the_baked_configuration_has_what_is_inherited_and_what_nobody_knows() {
        let config = "[model]\nprovider = 'groq'\nmodel = 'qwen/qwen3-32b'\nmaxTokens = 9\n[model.compat]\ncacheControl = true\n\
                      [[model.fallback]]\nprovider = 'mock'\nmodel = 'b'\n[limits]\nmaxTurns = 1\nmaxCost = 2.5\n";
        let agent = "name = 'other'\ncredentials = ['github_token:default', 'github_token']\nschedule = '@daily'\n\
                     since = 2020-01-01\n[params]\nx = [1, 'y']\n[limits]\nmaxTurns = 2\n\
                     [[preflight]]\nprovider = 'shell'\nparams = { command = 'true' }\n";
        let loaded = loaded(&[("config.toml", config), ("agents/dev/agent-config.toml", agent)]);
        assert!(loaded.is_usable("dev"), "{:?}", loaded.findings);
        let baked = serde_json::to_value(loaded.agent("dev").unwrap().baked()).unwrap();
        let first = json!({"provider": "groq", "model": "qwen/qwen3-32b", "authType": "api_key", "maxTokens": 9,
            "compat": {"cacheControl": true}});
        let expected = json!({
            "name": "dev",
            "credentials": ["github_token"],
            "model": first,
            "models": [first, {"provider": "mock", "model": "b", "authType": "api_key"}],
            "preflight": [{"provider": "shell", "required": true, "params": {"command": "true"}}],
            "schedule": "@daily",
            "since": "2020-01-01",
            "params": {"x": [1, "y"]},
            "limits": {"maxTurns": 2, "maxCost": 2.5},
        });
        assert_eq!(baked, expected);
    }

    #[test]
    fn a_limit_on_the_cost_needs_prices() {
        #[track_caller]
        fn case(limits: &str, own: &str, expected: Option<&str>) {
            let config = format!("[model]\nprovider = 'custom'\nmodel = 'm'\nbaseUrl = 'http://x/v1'\n{limits}");
            let agent = format!("schedule = '@daily'\n{own}");
            let loaded = loaded(&[("config.toml", &config), ("agents/dev/agent-config.toml", &agent)]);
            let found = loaded.findings.iter().find(|finding| finding.is_error()).map(ToString::to_string);
            assert_eq!(found.as_deref(), expected);
        }
        let problem = |file: &str| {
            format!("{file}: limits.maxCost: needs the price of custom:m; write it into model.cost (agent \"dev\")")
        };
        case("[limits]\nmaxCost = 1", "", Some(&problem("config.toml")));
        case("", "[limits]\nmaxCost = 0.5", Some(&problem("agents/dev/agent-config.toml")));
        case("[limits]\nmaxCost = 1", "[limits]\nmaxCost = 0", None);
        case("[model.cost]\ninput = 1\n[limits]\nmaxCost = 1", "", None);
        case("[limits]\nmaxTurns = 1", "", None);
    }

    #[test]
    fn the_users_own_facts_about_models_are_baked() {
        let config = "[model]\nprovider = 'custom'\nmodel = 'local'\nbaseUrl = 'http://10.0.0.5/v1'\n";
        let files = [("config.toml", config), ("agents/dev/agent-config.toml", "schedule = '@daily'")];
        let registry = ("home/models.txt", "[custom]\nlocal R 4096 512 0 0 0 0\n");
        let found = loaded(&[files[0], files[1], registry]);
        assert_eq!(found.agent("dev").unwrap().models[0].context_window, Some(4096));
        let found = loaded(&[files[0], files[1], ("home/models.txt", "[custom]\nlocal\n")]);
        let problem = found.findings.iter().find(|finding| finding.is_error()).unwrap().to_string();
        assert!(problem.contains("models.txt: line 2"), "{problem}");
    }

    #[test]
    fn one_broken_agent_does_not_hide_the_others() {
        let loaded = loaded(&[
            ("config.toml", "[model]\nprovider = 'mock'\nmodel = 'a'\n"),
            ("agents/a/agent-config.toml", "schedule = ["),
            ("agents/b/agent-config.toml", "schedule = '@daily'"),
            ("agents/c/agent-config.toml", "schedule = '@daily'\nmodels = ['default', 'nope']"),
            ("agents/d/notes.md", "no agent"),
        ]);
        assert_eq!(loaded.discovered, ["a", "b", "c"]);
        assert_eq!(["a", "b", "c"].map(|name| loaded.is_usable(name)), [false, true, false]);
        let problem = loaded.findings_of("c").find(|finding| finding.is_error()).unwrap().to_string();
        assert_eq!(
            problem,
            "agents/c/agent-config.toml: models[1]: there is no [models.nope] in config.toml; defined: (none) (agent \"c\")"
        );
    }
}
