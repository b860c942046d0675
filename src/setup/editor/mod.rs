//! Edits an agent's configuration with a person (cli-config.md §6.4). Only what the person changed is written.

use anyhow::Result;
use shims::env::Environment;
use toml::Value;

use super::agents::{open, value};
use super::models::{self, Model};
use crate::base::prompt::{Preset, Prompter, anything, something};
use crate::config::edit::{Edited, Saved};
use crate::config::schedule::Schedule;
use crate::config::{Loaded, Project};
use crate::credentials::Store;

mod credentials;
mod webhooks;

/// Somebody who edits, and what there is to know.
pub struct Editor<'a> {
    pub loaded: &'a Loaded,
    pub store: &'a Store,
    pub environment: &'a Environment,
    pub prompter: &'a mut dyn Prompter,
}

impl Editor<'_> {
    /// Lets the person change an agent until it is done, then writes its file.
    ///
    /// # Errors
    /// When nobody answers, or something cannot be read or written. The agent's file is then as it was.
    pub fn run(mut self, agent: &str) -> Result<()> {
        let mut file = open(self.project(), agent)?;
        let mut config = Edited::open(&self.project().dir.join("config.toml"), "config.toml")?;
        let mut at = 0;
        loop {
            let entries = menu(&file);
            at = self.prompter.select(&format!("Agent {agent}:"), &entries, at)?;
            match at {
                0 => self.credentials(&mut file)?,
                1 => self.model(&mut file)?,
                2 => self.schedule(&mut file)?,
                3 => self.webhooks(&mut file, &mut config)?,
                4 => self.params(&mut file)?,
                _ => break,
            }
        }
        let path = file.path().display().to_string();
        match file.save(0o644)? {
            Saved::Changed => self.prompter.say(&format!("Saved {path}")),
            Saved::Unchanged => self.prompter.say(&format!("Nothing changed in {path}")),
        }
    }

    fn project(&self) -> &Project {
        &self.loaded.project
    }

    fn model(&mut self, file: &mut Edited) -> Result<()> {
        let table = file.table();
        let own = table.get("model").and_then(Value::as_table);
        let ways = ["inherit from project".to_owned(), "a model of its own".to_owned()];
        if self.prompter.select("Model:", &ways, usize::from(own.is_some()))? == 0 {
            file.unset(&["model"]);
            return Ok(());
        }
        let text = |key: &str| own.and_then(|own| own.get(key)?.as_str()).map(str::to_owned);
        let current = text("provider").map(|provider| Model {
            provider,
            model: text("model").unwrap_or_default(),
            thinking: text("thinkingLevel"),
            base_url: text("baseUrl"),
        });
        let chosen = models::ask(self.prompter, current.as_ref())?;
        let level = models::ask_thinking(self.prompter, text("thinkingLevel").as_deref())?;
        for (key, value) in [("provider", &chosen.provider), ("model", &chosen.model), ("thinkingLevel", &level)] {
            if text(key).as_ref() != Some(value) {
                file.set(&["model", key], &Value::from(value.as_str()))?;
            }
        }
        match (&chosen.base_url, text("baseUrl")) {
            (Some(url), before) if before.as_ref() != Some(url) => {
                file.set(&["model", "baseUrl"], &Value::from(url.as_str()))?;
            }
            (None, Some(_)) if current.is_some_and(|current| current.provider != chosen.provider) => {
                file.unset(&["model", "baseUrl"]);
            }
            _ => {}
        }
        Ok(())
    }

    fn schedule(&mut self, file: &mut Edited) -> Result<()> {
        let table = file.table();
        let before = table.get("schedule").and_then(Value::as_str).unwrap_or_default().to_owned();
        let check = |text: &str| match text.trim() {
            "" | "none" => Ok(()),
            text => Schedule::parse(text).map(drop).map_err(|rejection| rejection.to_string()),
        };
        let hint = if before.is_empty() { "" } else { " — \"none\" removes it" };
        let text = self.prompter.input(&format!("Schedule, for example 0 9 * * 1-5{hint}:"), &before, &check)?;
        match text.as_str() {
            "" | "none" => file.unset(&["schedule"]),
            text if text == before => {}
            text => file.set(&["schedule"], &Value::from(text))?,
        }
        Ok(())
    }

    fn params(&mut self, file: &mut Edited) -> Result<()> {
        loop {
            let table = file.table();
            let params = table.get("params").and_then(Value::as_table).cloned().unwrap_or_default();
            let mut entries: Vec<String> = params.iter().map(|(key, value)| format!("{key} = {value}")).collect();
            entries.extend(["Add a param", "Back"].map(str::to_owned));
            let chosen = self.prompter.select("Params:", &entries, entries.len() - 1)?;
            if chosen + 1 == entries.len() {
                return Ok(());
            }
            let Some((key, before)) = params.iter().nth(chosen) else {
                let key = self.prompter.input("Name:", "", &something)?;
                let text = self.prompter.input("Value:", "", &anything)?;
                file.set(&["params", &key], &typed(&text))?;
                continue;
            };
            if !self.prompter.confirm(&format!("Remove {key}?"), Preset::No)? {
                let shown = before.to_string();
                let text = self.prompter.input(&format!("{key}:"), &shown, &anything)?;
                if text != shown {
                    file.set(&["params", key], &typed(&text))?;
                }
            } else {
                file.unset(&["params", key]);
            }
        }
    }
}

/// What was typed as a TOML value, or as a text when it is none.
fn typed(text: &str) -> Value {
    value(text).unwrap_or_else(|| Value::from(text))
}

/// The sections with what is in them.
fn menu(file: &Edited) -> Vec<String> {
    let table = file.table();
    let count = |key: &str| {
        table.get(key).map_or(0, |value| match value {
            Value::Array(items) => items.len(),
            Value::Table(table) => table.len(),
            _ => 0,
        })
    };
    let provider = table.get("model").and_then(|model| model.get("provider")?.as_str()).unwrap_or("inherited");
    let schedule = table.get("schedule").and_then(Value::as_str).unwrap_or("none");
    vec![
        format!("Credentials [{} configured]", count("credentials")),
        format!("Model [{provider}]"),
        format!("Schedule [{schedule}]"),
        format!("Webhooks [{} trigger(s)]", count("webhooks")),
        format!("Params [{} key(s)]", count("params")),
        "Done — save and run doctor".to_owned(),
    ]
}
