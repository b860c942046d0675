//! What the tools of a chat work with: an environment with the agent's credentials, and private directories.

use std::path::Path;

use anyhow::{Context as _, Result};
use shims::env::Environment;
use shims::session::ToolGroups;
use shims::tool_environment::{set_credential_variables, set_up_https, set_up_ssh};
use shims::wire::secret_variable;

use super::descendants;
use super::subject::Subject;
use crate::base::Secret;
use crate::base::error::CredentialError;
use crate::base::files::in_temporary_dir;
use crate::cli::site::Site;
use crate::credentials::Store;
use crate::credentials::store::Fields;
use crate::model::names::CredentialRef;
use crate::run::private_dir::PrivateDir;
use crate::run::staging::Roots;

/// What private directories of chats are called.
const KIND: &str = "al-chat";

/// Everything the tools are given. Dropping it ends what they have left running, and removes what of it is on disk.
pub(super) struct Tools {
    /// The processes that they start.
    pub(super) groups: ToolGroups,
    pub(super) environment: Environment,
    /// Credentials that are in the environment.
    pub(super) loaded: Vec<CredentialRef>,
    /// Their values, each with the type of its credential.
    pub(super) secrets: Vec<(String, Secret)>,
    /// For the full text of long output, and variables that outlive a call.
    pub(super) scratch: PrivateDir,
    /// With the key for `ssh`, when there is one.
    keys: Option<PrivateDir>,
}

impl Tools {
    /// Prepares it. `warn` is told of listed credentials that are not stored.
    ///
    /// # Errors
    /// A credential that cannot be read or used, a directory that cannot be made, or a system that refuses.
    pub(super) fn prepare(
        subject: &Subject<'_>,
        site: &Site,
        groups: ToolGroups,
        warn: &mut dyn FnMut(&str),
    ) -> Result<Self> {
        descendants::adopt()?;
        let scratch = in_temporary_dir(|temp| {
            PrivateDir::remove_dead(temp, KIND);
            PrivateDir::create(temp, KIND)
        })?;
        let mut tools = Self {
            groups,
            environment: without_secret_variables(&site.environment),
            loaded: Vec::new(),
            secrets: Vec::new(),
            scratch,
            keys: None,
        };
        let mut stored: Vec<(CredentialRef, Fields)> = Vec::new();
        let store = Store::at(site.home.credentials());
        for reference in subject.listed() {
            match store.read_all(reference)? {
                Some(fields) => stored.push((reference.clone(), fields)),
                None => warn(&format!(
                    "{reference} is not stored, so commands do not have it\n  add it: al creds add {reference}"
                )),
            }
        }
        tools.load(&stored, &site.loaded.project.dir)?;
        Ok(tools)
    }

    fn load(&mut self, stored: &[(CredentialRef, Fields)], project: &Path) -> Result<()> {
        let values = |(reference, fields): &(CredentialRef, Fields)| {
            let kind = reference.kind().to_owned();
            fields.values().map(|value| (kind.clone(), value.clone())).collect::<Vec<_>>()
        };
        self.secrets = stored.iter().flat_map(values).collect();
        self.loaded = stored.iter().map(|(reference, _)| reference.clone()).collect();
        let refs: Vec<String> = self.loaded.iter().map(CredentialRef::to_string).collect();
        let lookup = |reference: &str, field: &str| {
            let (_, fields) = stored.iter().find(|(known, _)| known.to_string() == reference)?;
            fields.get(field).filter(|value| !value.is_empty())
        };
        let wrong = |error: anyhow::Error| CredentialError(format!("{error:#}"));
        set_credential_variables(&refs, &lookup, &mut self.environment).map_err(wrong)?;
        set_up_https(&mut self.environment);
        if self.loaded.iter().any(|reference| reference.kind() == "git_ssh") {
            let roots = Roots::for_project(project);
            roots.existing().for_each(|root| PrivateDir::remove_dead(root, KIND));
            let keys = PrivateDir::create(&roots.usable()?, KIND)?;
            set_up_ssh(&refs, &lookup, keys.path(), &mut self.environment).context("set up ssh")?;
            self.keys = Some(keys);
        }
        Ok(())
    }

    /// The directories that have to go with this.
    pub(super) fn directories(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(&self.scratch).chain(&self.keys).map(PrivateDir::path)
    }
}

impl Drop for Tools {
    fn drop(&mut self) {
        self.groups.close();
        descendants::kill();
    }
}

/// Without the variables in which a container may be given credentials: tools never see them.
fn without_secret_variables(environment: &Environment) -> Environment {
    let is_secret =
        |name: &std::ffi::OsStr| name.to_str().is_some_and(|name| name.starts_with(secret_variable::PREFIX));
    environment.iter().filter(|(name, _)| !is_secret(name)).collect()
}
