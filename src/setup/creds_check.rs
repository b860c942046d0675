//! Whether stored credentials are still accepted (cli-config.md §14.4). Nothing is stored.

use anyhow::{Result, bail};
use serde_json::{Value, json};
use shims::credential_types;
use shims::env::Environment;

use super::creds::{entries, label};
use crate::base::error::CredentialError;
use crate::base::text::single_line;
use crate::credentials::verify::{Verdict, is_asked, verify};
use crate::credentials::{Status, Store, format};
use crate::model::names::CredentialRef;

/// What came of one credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    pub reference: String,
    pub kind: String,
    pub state: State,
    /// What the provider said, or why it is wrong.
    pub lines: Vec<String>,
}

/// How good a credential is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Valid,
    Invalid,
    /// Nobody could say.
    Unknown,
    /// Complete and well-formed; there is nobody to ask.
    Unasked,
}

impl Checked {
    /// The line for people, with more below it when there is more to say.
    pub fn line(&self) -> String {
        let mark = match self.state {
            State::Valid => "ok",
            State::Invalid => "INVALID",
            State::Unknown => "unknown",
            State::Unasked => "not asked",
        };
        let more: String = self.lines.iter().map(|line| format!("    {}\n", single_line(line))).collect();
        format!("  [{mark}] {} ({})\n{more}", single_line(label(&self.kind)), single_line(&self.reference))
    }

    fn to_json(&self) -> Value {
        let status = match self.state {
            State::Valid => "valid",
            State::Invalid => "invalid",
            State::Unknown => "unknown",
            State::Unasked => "unasked",
        };
        json!({"ref": self.reference, "label": label(&self.kind), "status": status, "detail": self.lines})
    }
}

/// Whether nothing is wrong and everybody could be asked: as when one is stored without a person to decide, no answer is
/// a failure (cli-config.md §4.7).
pub fn is_ok(checked: &[Checked]) -> bool {
    checked.iter().all(|checked| matches!(checked.state, State::Valid | State::Unasked))
}

/// All that was found, as JSON.
pub fn to_json(checked: &[Checked]) -> Value {
    json!({"ok": is_ok(checked), "credentials": checked.iter().map(Checked::to_json).collect::<Vec<_>>()})
}

/// The stored credentials that are meant: these, or all.
///
/// # Errors
/// What is no reference or not stored, all of it in one error.
pub fn wanted(store: &Store, names: &[String]) -> Result<Vec<CredentialRef>> {
    if names.is_empty() {
        let all = entries(store)?.into_iter().map(|entry| CredentialRef::parse(&entry.reference()));
        // Directories that were not made by us may have any name.
        return Ok(all.filter_map(Result::ok).collect());
    }
    let mut problems = Vec::new();
    let mut found = Vec::new();
    for name in names {
        match CredentialRef::parse(name) {
            Err(problem) => problems.push(problem),
            Ok(reference) if store.status(&reference)? == Status::Missing => {
                problems.push(format!("Credential \"{reference}\" not found."));
            }
            Ok(reference) => found.push(reference),
        }
    }
    if problems.is_empty() { Ok(found) } else { bail!(CredentialError(problems.join("\n"))) }
}

/// Checks one.
///
/// # Errors
/// When it cannot be read.
pub fn check(store: &Store, reference: &CredentialRef, environment: &Environment) -> Result<Checked> {
    let kind = reference.kind();
    let done = |state, lines| Checked { reference: reference.to_string(), kind: kind.to_owned(), state, lines };
    if let Status::Incomplete(lacking) = store.status(reference)? {
        return Ok(done(State::Invalid, vec![format!("incomplete: {}", lacking.join(", "))]));
    }
    let (Some(known), Some(fields)) = (credential_types::find(kind), store.read_all(reference)?) else {
        return Ok(done(State::Unasked, vec!["nobody knows this type".to_owned()]));
    };
    let is_wrong = |name: &str| {
        let value = fields.get(name).map(|value| value.expose().trim()).filter(|value| !value.is_empty());
        value.and_then(|value| format::check(kind, name, value).err()).map(|why| format!("{name}: {why}"))
    };
    let problems: Vec<String> = known.fields.iter().filter_map(|field| is_wrong(field.name)).collect();
    if !problems.is_empty() {
        return Ok(done(State::Invalid, problems));
    }
    Ok(match verify(kind, &fields, environment) {
        Verdict::Valid(lines) if is_asked(kind) => done(State::Valid, lines),
        Verdict::Valid(_) => done(State::Unasked, Vec::new()),
        Verdict::Invalid(why) => done(State::Invalid, vec![why]),
        Verdict::Unknown(why) => done(State::Unknown, vec![why]),
    })
}
