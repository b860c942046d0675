//! Which credentials an agent gets.

use anyhow::Result;
use shims::credential_types::{self, Group, TYPES};
use toml::Value;

use super::Editor;
use crate::config::edit::Edited;
use crate::model::names::CredentialRef;
use crate::setup::creds::{entries, label};

impl Editor<'_> {
    pub(super) fn credentials(&mut self, file: &mut Edited) -> Result<()> {
        let table = file.table();
        let items = table.get("credentials").and_then(Value::as_array).cloned().unwrap_or_default();
        let listed: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
        let offered = self.offered(&listed)?;
        let lines: Vec<(String, bool)> = offered
            .iter()
            .map(|reference| {
                let kind = reference.split(':').next().unwrap_or_default();
                (format!("{reference} — {}", label(kind)), listed.iter().any(|text| is_same(text, reference)))
            })
            .collect();
        let ticks = self.prompter.checkbox("Credentials:", &lines)?;
        // What is listed keeps its place and its spelling.
        let is_off = |text: &str| offered.iter().zip(&ticks).any(|(reference, tick)| !tick && is_same(text, reference));
        let mut after: Vec<Value> = items.iter().filter(|item| !item.as_str().is_some_and(is_off)).cloned().collect();
        for ((reference, (_, before)), tick) in offered.iter().zip(&lines).zip(&ticks) {
            if *tick && !before {
                after.push(Value::from(reference.as_str()));
            }
        }
        if after != items {
            file.set(&["credentials"], &Value::Array(after))?;
        }
        Ok(())
    }

    /// All types for agents, stored instances with a name of their own, and what the file has.
    fn offered(&self, listed: &[&str]) -> Result<Vec<String>> {
        let types = TYPES.iter().filter(|known| known.group == Group::Agent);
        let mut offered: Vec<String> = types.map(|known| known.id.to_owned()).collect();
        let is_for_agents =
            |kind: &str| credential_types::find(kind).is_some_and(|known| known.group != Group::Gateway);
        let is_named = |instance: &str| instance != CredentialRef::DEFAULT_INSTANCE;
        for entry in entries(self.store)? {
            if is_named(&entry.instance) && is_for_agents(&entry.kind) {
                offered.push(entry.reference());
            }
        }
        for text in listed {
            if !offered.iter().any(|reference| is_same(text, reference)) {
                offered.push((*text).to_owned());
            }
        }
        Ok(offered)
    }
}

/// Whether two texts name the same credential.
fn is_same(a: &str, b: &str) -> bool {
    match (CredentialRef::parse(a), CredentialRef::parse(b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}
