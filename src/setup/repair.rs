//! What `al doctor` does with a person at hand: asks for missing credentials, makes the gateway's key, closes loose modes
//! (cli-config.md §6.2, steps 7–9).

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use shims::credential_types;
use shims::env::Environment;

use super::creds::label;
use super::doctor::{Checked, Report, missing_error};
use super::project_docs;
use crate::base::error::CredentialError;
use crate::base::prompt::{Preset, Prompter};
use crate::credentials::api_key::{Generated, ensure_key};
use crate::credentials::flow::{Answer, Flow};
use crate::credentials::{Status, Store};

/// Who is asked, and where credentials are.
pub struct Repair<'a> {
    pub store: &'a Store,
    pub environment: &'a Environment,
    pub prompter: &'a mut dyn Prompter,
}

impl Repair<'_> {
    /// Asks for every credential that is missing or incomplete; gives those that still are.
    ///
    /// # Errors
    /// When nobody answers, or something cannot be stored.
    pub fn credentials(&mut self, report: &Report) -> Result<Vec<String>> {
        if report.credentials.is_empty() {
            self.prompter.say("No credentials required by any agent.")?;
            return Ok(Vec::new());
        }
        self.prompter.say(&format!("\nChecking {} credential(s)...\n", report.credentials.len()))?;
        let (mut present, mut configured, mut missing) = (0, 0, Vec::new());
        for checked in &report.credentials {
            let reference = &checked.need.reference;
            if checked.status == Status::Complete {
                self.prompter.say(&format!("  [ok] {} ({reference})", label(reference.kind())))?;
                present += 1;
            } else if self.ask(checked)? {
                configured += 1;
            } else {
                missing.push(reference.to_string());
            }
        }
        for skipped in &report.skipped {
            for agent in &skipped.agents {
                self.prompter.say(&format!("  [skip] {} (agent \"{agent}\" is disabled)", skipped.reference))?;
            }
        }
        self.prompter.say(&format!("\nDone. {present} already present, {configured} configured."))?;
        Ok(missing)
    }

    /// Asks only for what is missing, for a command that goes on to something else; gives what still is.
    ///
    /// # Errors
    /// As [`Repair::credentials`].
    pub fn missing(&mut self, report: &Report) -> Result<Vec<String>> {
        let wanted: Vec<&Checked> = report.missing().collect();
        if !wanted.is_empty() {
            self.prompter.say(&format!("{} credential(s) need to be configured:", wanted.len()))?;
        }
        let mut missing = Vec::new();
        for checked in wanted {
            if !self.ask(checked)? {
                missing.push(checked.need.reference.to_string());
            }
        }
        Ok(missing)
    }

    /// Asks for one; whether it is there afterwards. What a provider refuses is said, and the next one is asked for.
    fn ask(&mut self, checked: &Checked) -> Result<bool> {
        let reference = &checked.need.reference;
        if let Status::Incomplete(fields) = &checked.status {
            let line = format!("  [INCOMPLETE] {} ({reference}): {}", label(reference.kind()), fields.join(", "));
            self.prompter.say(&line)?;
        }
        let Some(known) = credential_types::find(reference.kind()) else { return Ok(false) };
        let flow = Flow { store: self.store, prompter: &mut *self.prompter, environment: self.environment };
        match { flow }.ask(known, reference) {
            Ok(Answer::Given(fields)) => self.store.write(reference, &fields)?,
            Ok(Answer::Kept | Answer::Declined) => {}
            Err(error) if error.is::<CredentialError>() => self.prompter.say(&format!("  {error}"))?,
            Err(error) => return Err(error),
        }
        Ok(self.store.status(reference)? == Status::Complete)
    }

    /// Makes the gateway's key when there is none, and shows it once.
    ///
    /// # Errors
    /// When it cannot be read or stored.
    pub fn gateway_key(&mut self) -> Result<()> {
        match ensure_key(self.store)? {
            (key, Generated::Yes) => {
                let text = "Keep it: it opens the dashboard, and every command that talks to the gateway sends it.";
                self.prompter.say(&format!("\nGateway API key: {}\n  {text}", key.expose()))
            }
            (_, Generated::No) => self.prompter.say("\nGateway API key:\n  [ok] Gateway API key already configured."),
        }
    }

    /// Offers to replace the texts for assistants that an older release wrote.
    ///
    /// # Errors
    /// When nobody answers, or a file cannot be read or written.
    pub fn project_docs(&mut self, project: &Path) -> Result<()> {
        for stale in project_docs::stale(project)? {
            let preset = if stale.is_harmless() { Preset::Yes } else { Preset::No };
            if self.prompter.confirm(&stale.question(), preset)? {
                stale.refresh()?;
                self.prompter.say(&format!("  [fixed] {} is that of this release", stale.path.display()))?;
            }
        }
        Ok(())
    }

    /// Closes what others could look into.
    ///
    /// # Errors
    /// When a mode cannot be changed.
    pub fn modes(&mut self) -> Result<()> {
        let loose = self.store.loose();
        for path in &loose {
            let mode = if path.is_dir() { 0o700 } else { 0o600 };
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
                .with_context(|| format!("set the mode of {}", path.display()))?;
        }
        if loose.is_empty() {
            return Ok(());
        }
        self.prompter.say(&format!("  [fixed] others could look into {} file(s) and directories", loose.len()))
    }
}

/// The error for credentials that nobody gave, if there are any.
///
/// # Errors
/// With their number and all their names.
pub fn conclude(missing: &[String]) -> Result<()> {
    if missing.is_empty() { Ok(()) } else { Err(missing_error(missing).into()) }
}
