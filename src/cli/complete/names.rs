//! Names that can be typed at a place: of agents, environments, credentials, instances, templates. Whatever cannot be found
//! out quickly is left out; nothing is ever said about why.

use std::path::PathBuf;

use shims::credential_types::TYPES;
use shims::env::Environment;
use shims::session::registry::Thinking;

use super::Candidate;
use super::scripts::SHELLS;
use crate::base::files::{absolute_lexically, current_dir};
use crate::cli::commands::docs::topics;
use crate::cli::commands::logs::OWN_LOGS;
use crate::cli::gateway_client::{Reach, reach};
use crate::cli::site::Site;
use crate::cli::spec::{COMMANDS, Command, STATES};
use crate::config::keys::MODEL_PROVIDERS;
use crate::config::{self, Home, Loaded, Selection};
use crate::credentials::Store;
use crate::setup::{agents, creds, environments};

/// Names for the argument or option called `name` of a command.
pub(super) fn of(command: &Command, name: &str, words: &[String]) -> Vec<Candidate> {
    let found: Vec<String> = match (command.path, name) {
        (["logs"], "agent") => {
            let own = OWN_LOGS.map(str::to_owned);
            let named = agent_names(words).into_iter().flatten().chain(instances(words).unwrap_or_default());
            named.chain(own).collect()
        }
        (_, "env") | (["env", ..], "name") => environment_names(),
        (_, "agent" | "expression|agent") | (["pause" | "resume"] | ["agent", "config" | "show" | "rm"], "name") => {
            agent_names(words).unwrap_or_default()
        }
        (["kill"], "target") => {
            agent_names(words).into_iter().flatten().chain(instances(words).unwrap_or_default()).collect()
        }
        (["logs"], "instance") => instances(words).unwrap_or_default(),
        (["creds", "add"], "ref") => TYPES.iter().map(|known| known.id.to_owned()).collect(),
        (["creds", "rm" | "check"], "ref") => references().unwrap_or_default(),
        (["agent", "new"], "type") => agents::kinds().into_iter().map(str::to_owned).collect(),
        (["env", "init"], "type") => vec!["server".to_owned()],
        (["queue", "ls"], "state") => STATES.map(str::to_owned).to_vec(),
        (["new"], "provider") => MODEL_PROVIDERS.map(str::to_owned).to_vec(),
        (["new"], "thinking") => Thinking::ALL.map(|level| level.as_str().to_owned()).to_vec(),
        (["completions"], "shell") => SHELLS.map(str::to_owned).to_vec(),
        (["docs"], "topic") => topics(),
        (["man"], "command") => COMMANDS.iter().map(|command| command.path.join(" ")).collect(),
        _ => Vec::new(),
    };
    let about = |word: &str| TYPES.iter().find(|known| known.id == word).map_or("", |known| known.label);
    found.into_iter().map(|word| Candidate { about: about(&word).to_owned(), word }).collect()
}

/// The value of an option as it was typed before.
fn typed<'a>(words: &'a [String], long: &str, short: &str) -> Option<&'a str> {
    let at = words.iter().rposition(|word| word == long || word == short)?;
    words.get(at + 1).map(String::as_str)
}

fn home() -> Option<Home> {
    Home::of(&Environment::of_process()).ok()
}

fn environment_names() -> Vec<String> {
    let found = home().and_then(|home| environments::list(&home).ok()).unwrap_or_default();
    found.into_iter().map(|environment| environment.name).collect()
}

fn loaded(words: &[String]) -> Option<Loaded> {
    let project = typed(words, "--project", "-p").unwrap_or(".");
    let dir = absolute_lexically(&PathBuf::from(project), &current_dir().ok()?);
    let selection = Selection::of(typed(words, "--env", "-E"), &Environment::of_process());
    config::load(&dir, &home()?, &selection).ok()
}

fn agent_names(words: &[String]) -> Option<Vec<String>> {
    Some(loaded(words)?.discovered)
}

/// Ids of the instances that run, when a scheduler of this machine can be asked.
fn instances(words: &[String]) -> Option<Vec<String>> {
    let project = typed(words, "--project", "-p").unwrap_or(".");
    let site = Site::open(project, typed(words, "--env", "-E"), "al").ok()?;
    let Ok(Reach::At(client)) = reach(&site) else { return None };
    if !client.is_local() {
        return None;
    }
    let status = client.poll("/control/status").ok()?;
    let ids = status["instances"].as_array()?.iter().filter_map(|instance| instance["id"].as_str().map(str::to_owned));
    Some(ids.collect())
}

fn references() -> Option<Vec<String>> {
    let entries = creds::entries(&Store::at(home()?.credentials())).ok()?;
    Some(entries.iter().map(creds::Entry::reference).collect())
}
