//! Project, agent and environment files: loading, merging, checking.
//!
//! [`load`] reads everything in one pass and collects all that is wrong; what it gives is typed, with defaults filled in,
//! and keeps for every value the file it came from. All keys are in one table, [`keys::KEYS`].

use std::path::Path;

use anyhow::Result;

use crate::base::error::UnknownAgent;
use crate::base::text::suggestion;

mod agent;
mod check;
pub mod edit;
pub mod finding;
pub mod home;
pub mod keys;
mod layers;
mod model;
pub mod needs;
pub mod origins;
pub mod preflight;
pub mod project;
pub mod schedule;
mod values;
pub mod webhook;

pub use agent::Agent;
pub use finding::{Finding, Rule, Severity};
pub use home::{Home, Selection};
pub use layers::Merged;
pub use model::{ModelKey, key_of};
pub use project::Project;

/// A project with its agents and everything there is to say about its files.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub project: Project,
    /// Names of all agents in order, also of those that are broken.
    pub discovered: Vec<String>,
    /// Agents whose name is valid and whose file could be read. One is usable when [`Loaded::is_usable`] says so.
    pub agents: Vec<Agent>,
    /// In the order in which they are shown.
    pub findings: Vec<Finding>,
}

/// Reads a project; a directory that does not exist is an empty project. `dir` is absolute and lexical.
///
/// # Errors
/// A file of the project that is not TOML, or an environment that does not exist. Everything else is a finding.
pub fn load(dir: &Path, home: &Home, selection: &Selection) -> Result<Loaded> {
    let mut findings = Vec::new();
    let project = Project::read(dir, home, selection, &mut findings)?;
    let found = agent::discover(dir, &mut findings);
    let mut agents = Vec::new();
    for (name, path) in &found {
        agents.extend(agent::load(name, path, &project, &mut findings));
    }
    check_scale(&project, &agents, &mut findings);
    Ok(Loaded { project, discovered: found.into_iter().map(|(name, _)| name).collect(), agents, findings })
}

/// Reads one agent of a loaded project again: the project with this agent alone, or without any when it is broken.
pub fn load_agent(project: &Project, name: &str) -> Loaded {
    let mut findings = Vec::new();
    let dir = project.dir.join("agents").join(name);
    let agents: Vec<Agent> = agent::load(name, &dir, project, &mut findings).into_iter().collect();
    check_scale(project, &agents, &mut findings);
    Loaded { project: project.clone(), discovered: vec![name.to_owned()], agents, findings }
}

/// What an agent would be if this were its file.
pub fn load_agent_text(project: &Project, name: &str, text: &str) -> Loaded {
    let mut findings = Vec::new();
    let dir = project.dir.join("agents").join(name);
    let agents: Vec<Agent> = agent::load_text(name, &dir, text, project, &mut findings).into_iter().collect();
    check_scale(project, &agents, &mut findings);
    Loaded { project: project.clone(), discovered: vec![name.to_owned()], agents, findings }
}

impl Loaded {
    /// The agent with this name.
    pub fn agent(&self, name: &str) -> Option<&Agent> {
        self.agents.iter().find(|agent| agent.name.as_str() == name)
    }

    /// Makes sure that there is an agent of this name, broken or not.
    ///
    /// # Errors
    /// When there is none, with the names that there are.
    pub fn require(&self, name: &str) -> Result<(), UnknownAgent> {
        if self.discovered.iter().any(|known| known == name) {
            return Ok(());
        }
        Err(UnknownAgent(self.unknown_agent(name)))
    }

    /// What is said of an agent that the project does not have.
    pub fn unknown_agent(&self, name: &str) -> String {
        let names = &self.discovered;
        if names.is_empty() {
            let dir = self.project.dir.join("agents");
            return format!("Agent \"{name}\" not found.\nNo agents found in {}.", dir.display());
        }
        let near = suggestion(name, names.iter().map(String::as_str));
        let near = near.map(|near| format!("\n(Did you mean {near}?)")).unwrap_or_default();
        format!("Agent \"{name}\" not found.\nAvailable agents: {}{near}", names.join(", "))
    }

    /// Agents that take part.
    pub fn enabled(&self) -> impl Iterator<Item = &Agent> {
        self.agents.iter().filter(|agent| agent.is_enabled())
    }

    /// Findings about one agent.
    pub fn findings_of<'a>(&'a self, agent: &'a str) -> impl Iterator<Item = &'a Finding> {
        self.findings.iter().filter(move |finding| finding.agent.as_deref() == Some(agent))
    }

    /// Whether an agent can be started by the scheduler, as far as its own files go.
    pub fn is_usable(&self, agent: &str) -> bool {
        self.agent(agent).is_some() && !self.findings_of(agent).any(Finding::is_error)
    }

    /// Whether other agents can call it in a one-shot run: there it needs neither schedule nor trigger.
    pub fn is_callable(&self, agent: &str) -> bool {
        let is_error = |finding: &Finding| finding.is_error() && finding.rule != Rule::NoTrigger;
        self.agent(agent).is_some_and(Agent::is_enabled) && !self.findings_of(agent).any(is_error)
    }
}

/// What is wrong with taking this for a project's directory: it is not there, or it is an agent's. `command` is what to run
/// in the project's root instead.
pub fn directory_problem(dir: &Path, command: &str) -> Option<String> {
    if !dir.is_dir() {
        return Some(format!("{} is not a directory; make a project with `al new`", dir.display()));
    }
    ["agent-config.toml", "ACTIONS.md"].iter().any(|file| dir.join(file).exists()).then(|| {
        format!(
            "{} is an agent directory, not a project; run `{command}` in the project's root, or name that with \
             --project",
            dir.display()
        )
    })
}

fn check_scale(project: &Project, agents: &[Agent], findings: &mut Vec<Finding>) {
    let Some(limit) = project.settings.scale else { return };
    for agent in agents.iter().filter(|agent| agent.scale > limit) {
        let file = format!("agents/{}/{}", agent.name, agent::FILE);
        let message = format!("its scale ({}) is above the project's scale ({limit})", agent.scale);
        let mut finding = Finding::at(Severity::Error, &file, "scale", message).of(Rule::Scale);
        finding.agent = Some(agent.name.to_string());
        findings.push(finding);
    }
    let sum = agents.iter().map(|agent| agent.scale).fold(0u64, u64::saturating_add);
    if sum > limit && agents.iter().all(|agent| agent.scale <= limit) {
        let message =
            format!("{limit} is below the sum of the agents' scales ({sum}): they will not all get their slots");
        findings.push(Finding::at(Severity::Warning, project.merged.file_of("scale"), "scale", message));
    }
}
