//! The check of one agent whose files have changed: what a start checks.

use crate::config::webhook::Exposure;
use crate::config::{self, Agent, Project};
use crate::credentials::Store;
use crate::setup::doctor::{self, Options, Scope, Strictness};

/// Loads and checks an agent; the text says all that is wrong.
pub(super) fn agent(project: &Project, name: &str, credentials: &Store) -> Result<Agent, String> {
    let mut loaded = config::load_agent(project, name);
    // The project's own files, and how its gateway is reached, were checked when it started.
    let options = Options { scope: Scope::Project, strictness: Strictness::Normal, exposure: Exposure::Loopback };
    let report = doctor::check(&loaded, credentials, &options).map_err(|error| format!("{error:#}"))?;
    let errors: Vec<String> = report.errors.iter().map(ToString::to_string).collect();
    if !errors.is_empty() {
        return Err(errors.join("; "));
    }
    let missing: Vec<String> = report.missing().map(|checked| checked.need.reference.to_string()).collect();
    if !missing.is_empty() {
        return Err(format!("credentials missing: {}", missing.join(", ")));
    }
    loaded.agents.pop().ok_or_else(|| format!("agents/{name}: cannot be used"))
}
