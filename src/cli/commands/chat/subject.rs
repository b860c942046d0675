//! What a chat is about: the project, or one agent of it.

use std::path::PathBuf;

use anyhow::{Result, bail};
use shims::wire::config::{Limits, ModelConfig};

use super::context;
use crate::base::error::ConfigError;
use crate::base::files::read_optional;
use crate::cli::site::Site;
use crate::config::{Agent, Finding};
use crate::model::names::CredentialRef;
use crate::setup::scaffold::agents_md;

/// The model when nobody has configured one.
const PROVIDER: &str = "anthropic";
const MODEL: &str = "claude-sonnet-4-20250514";
const THINKING: &str = "medium";

/// Everything about a chat that the configuration decides.
pub(super) struct Subject<'s> {
    /// The agent; `None` for the project.
    pub(super) agent: Option<&'s Agent>,
    /// Where the tools work.
    pub(super) dir: PathBuf,
    /// First choice first, never empty.
    pub(super) models: Vec<ModelConfig>,
    pub(super) limits: Limits,
}

impl<'s> Subject<'s> {
    /// Looks it up.
    ///
    /// # Errors
    /// An agent that does not exist or whose configuration cannot be read, or a model that is configured wrongly.
    pub(super) fn of(site: &'s Site, agent: Option<&str>) -> Result<Self> {
        let Some(name) = agent else { return Self::project(site) };
        site.loaded.require(name)?;
        let findings: Vec<&Finding> = site.loaded.findings_of(name).filter(|finding| finding.is_error()).collect();
        let Some(agent) = site.loaded.agent(name) else { bail!(ConfigError(list(&findings))) };
        check_model(findings.into_iter(), &agent.models)?;
        if agent.models == site.loaded.project.model_list {
            check_model(of_project(site), &agent.models)?;
        }
        Ok(Self {
            agent: Some(agent),
            dir: agent.dir.clone(),
            models: or_default(&agent.models),
            limits: agent.limits.clone(),
        })
    }

    fn project(site: &'s Site) -> Result<Self> {
        let project = &site.loaded.project;
        check_model(of_project(site), &project.model_list)?;
        Ok(Self {
            agent: None,
            dir: project.dir.clone(),
            models: or_default(&project.model_list),
            limits: project.limits(),
        })
    }

    /// What it is called.
    pub(super) fn name(&self) -> &'s str {
        self.agent.map_or("project", |agent| agent.name.as_str())
    }

    /// Credentials that the agent lists.
    pub(super) fn listed(&self) -> &'s [CredentialRef] {
        self.agent.map_or(&[], |agent| &agent.credentials)
    }

    /// Under which path the model is told its context, and the context. `loaded` are the credentials that the tools have.
    ///
    /// # Errors
    /// When the project's text cannot be read.
    pub(super) fn context(&self, site: &Site, loaded: &[CredentialRef]) -> Result<(PathBuf, String)> {
        if let Some(agent) = self.agent {
            return Ok((agent.dir.join("ACTIONS.md"), context::of_agent(agent, loaded)));
        }
        let path = self.dir.join("AGENTS.md");
        let text = read_optional(&path)?.filter(|text| !text.trim().is_empty()).unwrap_or_else(agents_md);
        Ok((path, context::of_project(&text, &site.loaded)))
    }
}

/// What is wrong with the project's own files.
fn of_project(site: &Site) -> impl Iterator<Item = &Finding> {
    site.loaded.findings.iter().filter(|finding| finding.agent.is_none() && finding.is_error())
}

/// Makes sure that nothing is wrong with the models. Without any there is one, and `pi_auth` is wrong in containers only.
fn check_model<'f>(findings: impl Iterator<Item = &'f Finding>, models: &[ModelConfig]) -> Result<()> {
    let with_pi = models.iter().any(|model| model.auth_type.as_deref() == Some("pi_auth"));
    let is_about_models = |finding: &&Finding| {
        let key = finding.key.as_deref().unwrap_or_default();
        let table = key.split(['.', '[']).next().unwrap_or_default();
        // Those that a project names are an agent's only when it uses them.
        let concerns = table == "model" || (table == "models" && finding.agent.is_some());
        concerns && key != "model" && !(with_pi && key == "model.authType")
    };
    let wrong: Vec<&Finding> = findings.filter(is_about_models).collect();
    if wrong.is_empty() { Ok(()) } else { bail!(ConfigError(list(&wrong))) }
}

fn list(findings: &[&Finding]) -> String {
    match findings {
        [one] => one.to_string(),
        many => {
            format!("{} problems:{}", many.len(), many.iter().map(|one| format!("\n  - {one}")).collect::<String>())
        }
    }
}

fn or_default(models: &[ModelConfig]) -> Vec<ModelConfig> {
    if !models.is_empty() {
        return models.to_vec();
    }
    vec![ModelConfig {
        provider: PROVIDER.to_owned(),
        model: MODEL.to_owned(),
        thinking_level: Some(THINKING.to_owned()),
        auth_type: Some("api_key".to_owned()),
        ..ModelConfig::default()
    }]
}
