//! What triggers an agent from outside, and the sources that triggers name.

use anyhow::Result;
use toml::{Table, Value};

use super::Editor;
use crate::base::prompt::{Preset, anything};
use crate::config::edit::Edited;
use crate::config::webhook::{PROVIDERS, Provider};
use crate::credentials::flow::{Answer, Flow};
use crate::model::names::CredentialRef;

/// Filters that are one text; all others are lists.
const SINGLE: [&str; 3] = ["org", "assignee", "author"];

impl Editor<'_> {
    pub(super) fn webhooks(&mut self, file: &mut Edited, config: &mut Edited) -> Result<()> {
        let entries = ["Add a trigger", "Edit a trigger", "Remove triggers", "Add a source", "Back"].map(str::to_owned);
        loop {
            let triggers = triggers(file);
            match self.prompter.select("Webhooks:", &entries, entries.len() - 1)? {
                0 => self.add_trigger(file, config)?,
                1 if !triggers.is_empty() => {
                    let lines: Vec<String> = triggers.iter().map(line).collect();
                    let at = self.prompter.select("Which one?", &lines, 0)?;
                    self.edit_trigger(file, config, at, &triggers[at])?;
                }
                2 if !triggers.is_empty() => {
                    let lines: Vec<(String, bool)> = triggers.iter().map(|trigger| (line(trigger), false)).collect();
                    let ticks = self.prompter.checkbox("Remove:", &lines)?;
                    for (at, _) in ticks.iter().enumerate().rev().filter(|(_, tick)| **tick) {
                        file.remove_from("webhooks", at);
                    }
                }
                1 | 2 => self.prompter.say("There are no triggers.")?,
                3 => drop(self.add_source(config)?),
                _ => return Ok(()),
            }
        }
    }

    fn add_trigger(&mut self, file: &mut Edited, config: &mut Edited) -> Result<()> {
        if self.sources(config).is_empty() {
            if !self.prompter.confirm("No webhook source is defined. Add one?", Preset::Yes)? {
                return Ok(());
            }
            self.add_source(config)?;
        }
        let sources = self.sources(config);
        let lines: Vec<String> = sources.iter().map(|(name, provider)| format!("{name} ({})", provider.name)).collect();
        if lines.is_empty() {
            return Ok(());
        }
        let (name, provider) = &sources[self.prompter.select("Source:", &lines, 0)?];
        let mut entries = vec![("source".to_owned(), Value::from(name.as_str()))];
        for filter in provider.filters {
            entries.extend(self.filter(filter, None)?.map(|value| ((*filter).to_owned(), value)));
        }
        file.push("webhooks", &entries)
    }

    fn edit_trigger(&mut self, file: &mut Edited, config: &Edited, at: usize, trigger: &Table) -> Result<()> {
        let source = trigger.get("source").and_then(Value::as_str).unwrap_or_default();
        let Some((_, provider)) = self.sources(config).into_iter().find(|(name, _)| name == source) else {
            return self.prompter.say(&format!("The source \"{source}\" is not defined."));
        };
        for filter in provider.filters {
            let before = trigger.get(*filter);
            let after = self.filter(filter, before)?;
            if after.as_ref() != before {
                file.set_in("webhooks", at, filter, after.as_ref());
            }
        }
        Ok(())
    }

    /// Asks for a filter; `None` is no filter.
    fn filter(&mut self, name: &str, before: Option<&Value>) -> Result<Option<Value>> {
        let is_single = SINGLE.contains(&name);
        let shown = match before {
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
            Some(other) => other.as_str().unwrap_or_default().to_owned(),
            None => String::new(),
        };
        let how = if is_single { "empty: any" } else { "with commas between, empty: any" };
        let how = if shown.is_empty() { how } else { "\"any\" removes it" };
        let text = self.prompter.input(&format!("{name} ({how}):"), &shown, &anything)?;
        if text == shown && before.is_some() {
            return Ok(before.cloned());
        }
        Ok(match text.as_str() {
            "" | "any" => None,
            text if is_single => Some(Value::from(text)),
            text => Some(text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().into()),
        })
    }

    /// Asks for a source and writes it into the project's configuration.
    fn add_source(&mut self, config: &mut Edited) -> Result<()> {
        let known = self.sources(config);
        let check = |text: &str| match text.trim() {
            "" => Err("Please enter a name.".to_owned()),
            text if text.chars().count() > 128 => Err("At most 128 characters.".to_owned()),
            text if known.iter().any(|(name, _)| name == text) => Err(format!("\"{text}\" is already there.")),
            _ => Ok(()),
        };
        let name = self.prompter.input("Name of the source:", "", &check)?;
        let providers: Vec<&'static Provider> = PROVIDERS.iter().filter(|provider| provider.is_built()).collect();
        let lines: Vec<String> = providers.iter().map(|provider| provider.name.to_owned()).collect();
        let provider = providers[self.prompter.select("Provider:", &lines, 0)?];
        let instance = match provider.secret {
            Some(kind) => self.secret(kind)?,
            None => None,
        };
        let mut entries = vec![("type", Value::from(provider.name))];
        match instance {
            Some(instance) => entries.push(("credential", Value::from(instance))),
            None => {
                let question =
                    "Accept requests without a signature? Anybody who can reach the gateway can then trigger it.";
                if self.prompter.confirm(question, Preset::No)? {
                    entries.push(("allowUnsigned", Value::from(true)));
                }
            }
        }
        for (key, value) in entries {
            config.set(&["webhooks", &name, key], &value)?;
        }
        config.save(0o644)?;
        self.prompter.say(&format!("Added source \"{name}\" ({}) to config.toml", provider.name))
    }

    /// Asks for the secret of a source; gives its instance, `None` for none.
    fn secret(&mut self, kind: &'static str) -> Result<Option<String>> {
        let stored = self.store.instances(kind)?;
        let mut ways: Vec<String> = stored.iter().map(|instance| format!("{instance} (stored)")).collect();
        ways.extend(["Add a new secret", "Skip: requests are not signed"].map(str::to_owned));
        let chosen = self.prompter.select("Secret of the signatures:", &ways, 0)?;
        if let Some(instance) = stored.get(chosen) {
            return Ok(Some(instance.clone()));
        }
        if chosen + 1 == ways.len() {
            return Ok(None);
        }
        let has_default = stored.iter().any(|instance| instance == CredentialRef::DEFAULT_INSTANCE);
        let default = if has_default { "" } else { CredentialRef::DEFAULT_INSTANCE };
        let check = |text: &str| match CredentialRef::parse(&format!("{kind}:{text}")) {
            Ok(reference) if stored.iter().any(|known| known == reference.instance()) => {
                Err(format!("\"{text}\" is already there."))
            }
            Ok(_) => Ok(()),
            Err(_) => Err("Write letters, digits, \".\", \"_\" or \"-\", beginning with a letter or digit.".to_owned()),
        };
        let instance = self.prompter.input("Name of the instance:", default, &check)?;
        let reference = CredentialRef::parse(&format!("{kind}:{instance}")).expect("it was checked");
        let known = shims::credential_types::find(kind).expect("providers that are built have a known type");
        let flow = Flow { store: self.store, prompter: &mut *self.prompter, environment: self.environment };
        let answer = { flow }.ask(known, &reference)?;
        if let Answer::Given(fields) = answer {
            self.store.write(&reference, &fields)?;
            self.prompter.say(&format!("Credential \"{kind}:{instance}\" saved."))?;
        }
        Ok(Some(instance))
    }

    /// Sources that triggers can name: those of all layers, and those added just now.
    fn sources(&self, config: &Edited) -> Vec<(String, &'static Provider)> {
        let settings = &self.loaded.project.settings.webhooks;
        let mut sources: Vec<_> = settings.iter().map(|(name, source)| (name.clone(), source.provider)).collect();
        let table = config.table();
        for (name, source) in table.get("webhooks").and_then(Value::as_table).into_iter().flatten() {
            let provider = source.get("type").and_then(Value::as_str).and_then(Provider::find);
            if !sources.iter().any(|(known, _)| known == name) {
                sources.extend(provider.map(|provider| (name.clone(), provider)));
            }
        }
        sources
    }
}

fn triggers(file: &Edited) -> Vec<Table> {
    let table = file.table();
    let items = table.get("webhooks").and_then(Value::as_array).cloned().unwrap_or_default();
    items.into_iter().filter_map(|item| item.as_table().cloned()).collect()
}

/// A trigger in one line.
fn line(trigger: &Table) -> String {
    let source = trigger.get("source").and_then(Value::as_str).unwrap_or("?");
    let filters = trigger.iter().filter(|(key, _)| *key != "source").map(|(key, value)| format!("{key} = {value}"));
    let filters: Vec<String> = filters.collect();
    if filters.is_empty() { source.to_owned() } else { format!("{source}: {}", filters.join(", ")) }
}
