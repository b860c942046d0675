//! Stored credentials that nothing in a project names (cli-config.md §14.5). Other projects may need them.

use anyhow::Result;

use super::creds::{entries, label};
use crate::config::{Finding, Loaded, Severity};
use crate::credentials::Store;

/// What commands themselves use, in any project.
const OF_COMMANDS: [&str; 6] = [
    "gateway_api_key",
    "vps_ssh",
    "vultr_api_key",
    "hetzner_api_key",
    "cloudflare_api_token",
    "cloudflare_origin_cert",
];

/// A note for each.
///
/// # Errors
/// When the store cannot be read.
pub fn check(loaded: &Loaded, store: &Store) -> Result<Vec<Finding>> {
    let needs = loaded.needs();
    let of_agents = needs.required.iter().chain(&needs.fallback).chain(&needs.skipped);
    let of_sources = loaded.project.settings.webhooks.values().filter_map(|source| source.secret());
    let named: Vec<String> =
        of_agents.map(|need| need.reference.to_string()).chain(of_sources.map(|secret| secret.to_string())).collect();
    let is_unused =
        |kind: &str, reference: &str| !OF_COMMANDS.contains(&kind) && !named.iter().any(|named| named == reference);
    let unused = entries(store)?.into_iter().filter(|entry| is_unused(&entry.kind, &entry.reference()));
    let note = |text: String| Finding::whole(Severity::Note, "", text);
    Ok(unused
        .map(|entry| {
            note(format!("{} ({}) is stored, and nothing here names it", label(&entry.kind), entry.reference()))
        })
        .collect())
}
