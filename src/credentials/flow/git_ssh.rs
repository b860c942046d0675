//! Asks for an SSH key and the author of commits.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use shims::credential_types::CredentialType;

use super::{Answer, Flow};
use crate::base::Secret;
use crate::base::error::CredentialError;
use crate::base::prompt::{Preset, something};
use crate::credentials::private_key;
use crate::credentials::store::Fields;
use crate::model::names::CredentialRef;

/// Keys that people have, the better one first.
const USUAL: [&str; 2] = [".ssh/id_ed25519", ".ssh/id_rsa"];

impl Flow<'_> {
    pub(super) fn git_ssh(&mut self, known: &'static CredentialType, reference: &CredentialRef) -> Result<Answer> {
        let before = self.store.read_all(reference)?.unwrap_or_default();
        let value = |name: &str| before.get(name).map(|value| value.expose().to_owned()).unwrap_or_default();
        let (name, email, has_key) = (value("username"), value("email"), !value("id_rsa").is_empty());
        if !name.is_empty() && !email.is_empty() {
            let key = if has_key { "with SSH key" } else { "without SSH key" };
            if self.prompter.confirm(&format!("Found existing: {name} <{email}> {key}. Keep it?"), Preset::Yes)? {
                return Ok(Answer::Kept);
            }
        }
        self.introduce(known)?;
        let mut fields = Fields::new();
        for (field, default) in [(&known.fields[1], name), (&known.fields[2], email)] {
            fields.insert(field.name.to_owned(), self.field(known, field, &default)?);
        }
        let kept = has_key && self.prompter.confirm("Keep the existing SSH key?", Preset::Yes)?;
        let key = if kept { before.get("id_rsa").cloned() } else { self.private_key("SSH key:", Skipping::Allowed)? };
        fields.extend(key.map(|key| ("id_rsa".to_owned(), key)));
        Ok(Answer::Given(fields))
    }

    /// Has a private key named or pasted; `None` when it is skipped.
    pub(super) fn private_key(&mut self, message: &str, skipping: Skipping) -> Result<Option<Secret>> {
        let mut ways = vec!["Read it from a file".to_owned(), "Paste it".to_owned()];
        if skipping == Skipping::Allowed {
            ways.push("Skip: only author name and e-mail".to_owned());
        }
        let key = match self.prompter.select(message, &ways, 0)? {
            0 => self.key_file()?.1,
            1 => self.prompter.paste("Paste the private key, up to its END line:", private_key::is_last_line)?,
            _ => return Ok(None),
        };
        private_key::check(key.expose()).map_err(CredentialError)?;
        Ok(Some(key))
    }

    /// Has the file of a key named; its path and content.
    pub(super) fn key_file(&mut self) -> Result<(PathBuf, Secret)> {
        let home = self.environment.get_non_empty("HOME").map(PathBuf::from).unwrap_or_default();
        let usual = USUAL.iter().find(|file| home.join(file).is_file()).map(|file| format!("~/{file}"));
        let path = self.prompter.input("File of the private key:", &usual.unwrap_or_default(), &something)?;
        let path = match path.strip_prefix("~/") {
            Some(rest) => home.join(rest),
            None => PathBuf::from(path),
        };
        Ok((path.clone(), read(&path)?))
    }
}

/// Whether a key may be left out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Skipping {
    Allowed,
    Refused,
}

fn read(path: &Path) -> Result<Secret> {
    if !path.is_file() {
        bail!(CredentialError(format!("{} is not a file", path.display())));
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    Ok(Secret::new(text))
}
