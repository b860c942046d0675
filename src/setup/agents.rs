//! Makes agents, and changes their configuration without asking anybody (cli-config.md §6.4, §14.1).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use toml::{Table, Value};

use super::templates::{CUSTOM, TEMPLATES, Template, custom};
use crate::base::error::{ConfigError, UsageError};
use crate::base::files::create_new;
use crate::base::text::nearest;
use crate::config::edit::{Edited, Saved};
use crate::config::{Finding, Loaded, Project, load_agent_text};
use crate::model::names::AgentName;

/// File of an agent's configuration.
const FILE: &str = "agent-config.toml";

/// Ids of the templates, and `custom`.
pub fn kinds() -> Vec<&'static str> {
    TEMPLATES.iter().map(|template| template.id).chain([CUSTOM]).collect()
}

/// Checks the name of a new agent.
///
/// # Errors
/// A sentence with the name: it breaks a rule, or is taken.
pub fn check_name(project: &Path, name: &str) -> Result<(), String> {
    AgentName::parse(name)?;
    let dir = project.join("agents").join(name);
    if dir.symlink_metadata().is_ok() {
        return Err(format!("Agent \"{name}\" is already there: {}", dir.display()));
    }
    Ok(())
}

/// Writes a new agent; gives the line to show.
///
/// # Errors
/// A template or name that cannot be, or a system that refuses.
pub fn create(project: &Path, name: &str, kind: &str) -> Result<String> {
    let (files, line) = match Template::find(kind) {
        Some(template) => (template.files(), format!("Created agent \"{name}\" from {kind} template.")),
        None if kind == CUSTOM => (custom(name), format!("Created agent \"{name}\" (custom).")),
        None => {
            let hint = nearest(kind, kinds(), 2).map(|known| format!("; did you mean {known}?")).unwrap_or_default();
            bail!(UsageError(format!(
                "error: option '--type <type>' argument '{kind}' is invalid. It must be one of {}{hint}",
                kinds().join(", ")
            )))
        }
    };
    if !project.is_dir() {
        bail!("{} is not a directory; make a project with `al new`", project.display());
    }
    check_name(project, name).map_err(ConfigError)?;
    let dir = project.join("agents").join(name);
    fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    for (file, content) in files {
        create_new(&dir.join(file), content.as_bytes(), 0o644)?;
    }
    Ok(line)
}

/// Webhook sources that an agent's triggers name and that the project does not have.
pub fn missing_sources(loaded: &Loaded, agent: &str) -> Vec<String> {
    let defined = &loaded.project.settings.webhooks;
    let Ok(file) = Edited::open(&config_file(&loaded.project, agent), FILE) else { return Vec::new() };
    let table = file.table();
    let triggers = table.get("webhooks").and_then(Value::as_array).into_iter().flatten();
    let mut sources: Vec<String> = Vec::new();
    for source in triggers.filter_map(|trigger| trigger.get("source")?.as_str()) {
        if !defined.contains_key(source) && !sources.iter().any(|known| known == source) {
            sources.push(source.to_owned());
        }
    }
    sources
}

/// File of an agent's configuration.
pub fn config_file(project: &Project, agent: &str) -> PathBuf {
    project.dir.join("agents").join(agent).join(FILE)
}

/// Opens an agent's configuration for changes.
///
/// # Errors
/// When it cannot be read or is not TOML.
pub fn open(project: &Project, agent: &str) -> Result<Edited> {
    Edited::open(&config_file(project, agent), &format!("agents/{agent}/{FILE}"))
}

/// Changes that were typed on the command line.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// `<key>=<toml value>`.
    pub set: Vec<String>,
    /// Keys.
    pub unset: Vec<String>,
}

impl Changes {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.unset.is_empty()
    }
}

/// Makes changes to an agent's configuration. The file stays as it is when something would be wrong afterwards that is not
/// wrong now.
///
/// # Errors
/// All problems that the changes would make, as `al doctor` reports them.
pub fn change(project: &Project, agent: &str, changes: &Changes) -> Result<Saved> {
    let mut file = open(project, agent)?;
    let before = file.text();
    for key in &changes.unset {
        let path = key_path(key).with_context(|| format!("--unset {key}"))?;
        file.unset(&path.iter().map(String::as_str).collect::<Vec<_>>());
    }
    for pair in &changes.set {
        let (key, text) = pair.split_once('=').with_context(|| format!("--set {pair}: has no \"=\""))?;
        let path = key_path(key).with_context(|| format!("--set {key}"))?;
        let value = value(text).with_context(|| {
            format!("--set {key}: {text} is not a TOML value; a text needs quotes: '{key}=\"{text}\"'")
        })?;
        file.set(&path.iter().map(String::as_str).collect::<Vec<_>>(), &value)?;
    }
    let problems = new_problems(project, agent, &before, &file.text());
    if !problems.is_empty() {
        let list: String = problems.iter().map(|problem| format!("\n  - {problem}")).collect();
        bail!(ConfigError(format!(
            "the change would make {} problem(s), so nothing was written{list}",
            problems.len()
        )));
    }
    file.save(0o644)
}

/// What is wrong with an agent after a change and was not before; keys that nobody knows are wrong here.
fn new_problems(project: &Project, agent: &str, before: &str, after: &str) -> Vec<String> {
    let problems = |text: &str| -> Vec<String> {
        let loaded = load_agent_text(project, agent, text);
        let is_problem = |finding: &&Finding| finding.is_error() || finding.demoted || finding.is_unknown_key();
        loaded.findings.iter().filter(is_problem).map(ToString::to_string).collect()
    };
    let known = problems(before);
    problems(after).into_iter().filter(|problem| !known.contains(problem)).collect()
}

/// The parts of a dotted key.
fn key_path(key: &str) -> Result<Vec<String>> {
    let mut table: Table = format!("{key} = 0").parse().ok().context("is not a key")?;
    let mut path = Vec::new();
    loop {
        let mut entries = table.into_iter();
        let (Some((name, value)), None) = (entries.next(), entries.next()) else { bail!("is not one key") };
        path.push(name);
        match value {
            Value::Table(below) => table = below,
            Value::Integer(0) => return Ok(path),
            _ => bail!("is not a key"),
        }
    }
}

/// A TOML value; `None` when the text is none.
pub fn value(text: &str) -> Option<Value> {
    let mut table: Table = format!("v = {text}").parse().ok()?;
    let value = table.remove("v")?;
    table.is_empty().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_are_read_as_toml() {
        assert_eq!(key_path("model.\"a b\".c").unwrap(), ["model", "a b", "c"]);
        assert!(key_path("a = 1\nb").is_err() && key_path("").is_err() && key_path("a]").is_err());
        assert_eq!(value("[1, 'x']").unwrap().to_string(), "[1, \"x\"]");
        assert_eq!((value("0 * * * *"), value("1\nw = 2"), value("")), (None, None, None));
    }
}
