//! Asks for the pair of keys with which `al` logs in on servers, or makes one.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use shims::credential_types::CredentialType;

use super::git_ssh::Skipping;
use super::{Answer, Flow};
use crate::base::Secret;
use crate::base::error::CredentialError;
use crate::base::files::{create_new, ensure_private_dir, read_optional};
use crate::base::ids::hex32;
use crate::base::process::{Cmd, Limit};
use crate::base::prompt::{Preset, something};
use crate::credentials::private_key;
use crate::credentials::store::Fields;
use crate::model::names::CredentialRef;

/// How long `ssh-keygen` may take.
const LIMIT: Limit = Limit::Within(Duration::from_secs(30));

impl Flow<'_> {
    pub(super) fn vps_ssh(&mut self, known: &'static CredentialType, reference: &CredentialRef) -> Result<Answer> {
        if let Some(fields) = self.existing(reference)? {
            let public = fields.get("public_key").map(Secret::expose).unwrap_or_default();
            let start: String = public.chars().take(40).collect();
            if self.prompter.confirm(&format!("Found existing VPS SSH key {start}... Use it?"), Preset::Yes)? {
                return Ok(Answer::Kept);
            }
        }
        self.introduce(known)?;
        let ways = ["Generate an ed25519 key", "Import it from a file", "Paste it"].map(str::to_owned);
        let (private, public) = match self.prompter.select("VPS SSH key:", &ways, 0)? {
            0 => generate()?,
            1 => {
                let (path, key) = self.key_file()?;
                private_key::check(key.expose()).map_err(CredentialError)?;
                let beside = read_optional(&PathBuf::from(format!("{}.pub", path.display())))?;
                self.with_public(key, beside)?
            }
            _ => {
                let key = self.private_key("Private key:", Skipping::Refused)?.expect("it cannot be skipped");
                self.with_public(key, None)?
            }
        };
        let public = ("public_key".to_owned(), Secret::new(public.trim()));
        Ok(Answer::Given(Fields::from([("private_key".to_owned(), private), public])))
    }

    /// A private key with its public one: what is known of it, else what `ssh-keygen` derives, else what the person says.
    fn with_public(&mut self, private: Secret, known: Option<String>) -> Result<(Secret, String)> {
        let public = known.filter(|text| !text.trim().is_empty()).map_or_else(|| derive(&private), Ok);
        let public = match public {
            Ok(public) => public,
            Err(error) => {
                self.prompter.say(&format!("  The public key cannot be derived: {error:#}"))?;
                self.prompter.input("Public key:", "", &something)?
            }
        };
        Ok((private, public))
    }
}

/// A private directory that is gone in the end.
struct Workshop(PathBuf);

impl Workshop {
    fn open() -> Result<Self> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_dir());
        let dir = runtime.unwrap_or_else(std::env::temp_dir).join(format!("al-key-{}", hex32()));
        ensure_private_dir(&dir)?;
        Ok(Self(dir))
    }

    fn file(&self) -> &Path {
        &self.0
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn generate() -> Result<(Secret, String)> {
    let workshop = Workshop::open()?;
    let file = workshop.file().join("key");
    let keygen = Cmd::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "action-llama", "-f"]).arg(&file);
    keygen.run(LIMIT).context("make a key")?;
    let read = |path: &Path| fs::read_to_string(path).with_context(|| format!("read {}", path.display()));
    Ok((Secret::new(read(&file)?), read(&file.with_extension("pub"))?))
}

fn derive(private: &Secret) -> Result<String> {
    let workshop = Workshop::open()?;
    let file = workshop.file().join("key");
    create_new(&file, format!("{}\n", private.expose().trim()).as_bytes(), 0o600)?;
    Ok(Cmd::new("ssh-keygen").args(["-y", "-P", "", "-f"]).arg(&file).run(LIMIT)?.text())
}
