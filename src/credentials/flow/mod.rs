//! Asks a person for a credential (cli-config.md §4.6). Nothing is stored here.

use anyhow::Result;
use shims::credential_types::{CredentialType, Field, Group, Kind};
use shims::env::Environment;

use super::format::{self, AnthropicKey};
use super::store::{Fields, Store};
use super::verify::{Verdict, is_asked, verify};
use super::{Status, api_key};
use crate::base::Secret;
use crate::base::error::CredentialError;
use crate::base::prompt::{Preset, Prompter, something};
use crate::model::names::CredentialRef;

mod git_ssh;
mod vps_ssh;

/// What came of asking.
pub enum Answer {
    /// What is stored stays as it is.
    Kept,
    /// New values, checked.
    Given(Fields),
    /// Nothing was given.
    Declined,
}

/// Somebody to ask, and where credentials are.
pub struct Flow<'a> {
    pub store: &'a Store,
    pub prompter: &'a mut dyn Prompter,
    pub environment: &'a Environment,
}

impl Flow<'_> {
    /// Asks for the credential of this type that the reference names.
    ///
    /// # Errors
    /// When the provider refuses it, or nobody answers.
    pub fn ask(&mut self, known: &'static CredentialType, reference: &CredentialRef) -> Result<Answer> {
        match known.id {
            "cloudflare_origin_cert" => {
                let text = format!("\"{reference}\" cannot be added: nothing uses such certificates yet");
                Err(CredentialError(text).into())
            }
            "gateway_api_key" => self.gateway_key(reference),
            "git_ssh" => self.git_ssh(known, reference),
            "vps_ssh" => self.vps_ssh(known, reference),
            _ => self.generic(known, reference),
        }
    }

    fn generic(&mut self, known: &'static CredentialType, reference: &CredentialRef) -> Result<Answer> {
        let existing = self.existing(reference)?;
        if let Some(fields) = &existing {
            let kept = self.prompter.confirm(&format!("Found existing {}. Use it?", known.label), Preset::Yes)?;
            if kept {
                if known.id == "anthropic_key" {
                    let token = fields.get("token").map(Secret::expose).unwrap_or_default();
                    self.prompter.say(&format!("  authType: {}", AnthropicKey::of(token).auth_type()))?;
                }
                return Ok(Answer::Kept);
            }
        }
        self.introduce(known)?;
        let fields = match known.id {
            "anthropic_key" => self.anthropic(known)?,
            _ => self.fields(known)?,
        };
        self.checked(known, fields)
    }

    /// The stored values, when they are complete.
    fn existing(&self, reference: &CredentialRef) -> Result<Option<Fields>> {
        match self.store.status(reference)? {
            Status::Complete => self.store.read_all(reference),
            Status::Incomplete(_) | Status::Missing => Ok(None),
        }
    }

    fn introduce(&mut self, known: &CredentialType) -> Result<()> {
        self.prompter.say(&format!("\n{}\n  {}", known.label, known.about))?;
        known.help_url.map_or(Ok(()), |url| self.prompter.say(&format!("  {url}")))
    }

    fn fields(&mut self, known: &'static CredentialType) -> Result<Fields> {
        let mut fields = Fields::new();
        for field in known.fields {
            let value = self.field(known, field, "")?;
            if !value.is_empty() {
                fields.insert(field.name.to_owned(), value);
            }
        }
        Ok(fields)
    }

    /// Asks for one field.
    fn field(&mut self, known: &'static CredentialType, field: &Field, default: &str) -> Result<Secret> {
        let optional = if field.is_mandatory() { "" } else { " (optional)" };
        let message = format!("{} — {}{optional}:", known.label, field.label);
        let check = |text: &str| match text.trim() {
            "" if field.is_mandatory() => something(text),
            "" => Ok(()),
            text => format::check(known.id, field.name, text),
        };
        match field.kind {
            Kind::Secret | Kind::OptionalSecret => self.prompter.password(&message, &check),
            Kind::Plain | Kind::OptionalPlain => self.prompter.input(&message, default, &check).map(Secret::new),
        }
    }

    fn anthropic(&mut self, known: &'static CredentialType) -> Result<Fields> {
        let kinds = ["API key".to_owned(), "OAuth token".to_owned()];
        let is_oauth = self.prompter.select("Which kind of credential?", &kinds, 0)? == 1;
        let check = |text: &str| match text.trim() {
            "" => something(text),
            text if is_oauth => format::check_oauth(text),
            text => format::check(known.id, "token", text),
        };
        let message = format!("{} — {}:", known.label, kinds[usize::from(is_oauth)]);
        let token = self.prompter.password(&message, &check)?;
        Ok(Fields::from([("token".to_owned(), token)]))
    }

    /// Asks the provider, and the person when the provider says nothing.
    fn checked(&mut self, known: &CredentialType, fields: Fields) -> Result<Answer> {
        if !is_asked(known.id) {
            if known.group == Group::ModelKey {
                self.prompter.say("  Whether the key works is seen by the first run.")?;
            }
            return Ok(Answer::Given(fields));
        }
        self.prompter.say(&format!("Validating {}...", known.label))?;
        match verify(known.id, &fields, self.environment) {
            Verdict::Valid(lines) => {
                lines.iter().try_for_each(|line| self.prompter.say(&format!("  {line}")))?;
                Ok(Answer::Given(fields))
            }
            Verdict::Invalid(why) => Err(CredentialError(why).into()),
            Verdict::Unknown(why) => {
                self.prompter.say(&format!("  Warning: {why}"))?;
                let saved = self.prompter.confirm("Save anyway?", Preset::Yes)?;
                Ok(if saved { Answer::Given(fields) } else { Answer::Declined })
            }
        }
    }

    fn gateway_key(&mut self, reference: &CredentialRef) -> Result<Answer> {
        let replaced = self.store.status(reference)? == Status::Missing
            || self.prompter.confirm(
                "Replace the gateway API key? The dashboard and every command that has the old one are locked out.",
                Preset::No,
            )?;
        Ok(if replaced { Answer::Given(api_key::fresh()) } else { Answer::Declined })
    }
}
