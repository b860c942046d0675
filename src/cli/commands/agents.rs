//! `al agent list`, `show`, `rm`: which agents there are and what counts for each (cli-config.md §14.4).

use std::fs;
use std::io::Write as _;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::env::{as_json, as_lines};
use crate::base::error::UsageError;
use crate::base::prompt::{Preset, Prompter as _};
use crate::base::term::stdout;
use crate::base::text::printable_json;
use crate::cli::args::{AgentList, AgentRemove, AgentShow};
use crate::cli::interaction::Interaction;
use crate::cli::site::Site;
use crate::config::origins::origins_of_agent;
use crate::config::{Finding, Selection};
use crate::ui::dialogs::Terminal;
use crate::ui::table::aligned;

/// What is shown where there is nothing.
const NONE: &str = "-";

/// Lists the agents of a project, also those that are broken.
pub(crate) fn list(args: AgentList) -> Result<u8> {
    let site = Site::open(&args.project, args.env.as_deref(), "al agent list")?;
    let names = &site.loaded.discovered;
    let text = if args.json {
        let agents: Vec<Value> = names.iter().map(|name| to_json(&site, name)).collect();
        format!("{}\n", printable_json(&json!({"agents": agents}).to_string()))
    } else if names.is_empty() {
        format!("No agents found in {}.\n", site.dir().join("agents").display())
    } else {
        let mut lines = vec![["AGENT", "SCHEDULE", "WEBHOOKS", "SCALE", "MODEL", "PROBLEMS"].map(str::to_owned)];
        lines.extend(names.iter().map(|name| row(&site, name)));
        aligned(&lines)
    };
    print(&text)
}

fn row(site: &Site, name: &str) -> [String; 6] {
    let problems = match errors(site, name).len() {
        0 => NONE.to_owned(),
        count => count.to_string(),
    };
    let Some(agent) = site.loaded.agent(name) else {
        return [name, NONE, NONE, NONE, NONE, &problems].map(str::to_owned);
    };
    let schedule = agent.schedule.as_ref().map_or(NONE, |schedule| schedule.text());
    let model =
        agent.models.first().map_or_else(|| NONE.to_owned(), |model| format!("{}:{}", model.provider, model.model));
    let mut sources: Vec<&str> = agent.triggers.iter().map(|trigger| trigger.source.as_str()).collect();
    sources.dedup();
    let sources = if sources.is_empty() { NONE.to_owned() } else { sources.join(", ") };
    [name.to_owned(), schedule.to_owned(), sources, agent.scale.to_string(), model, problems]
}

fn to_json(site: &Site, name: &str) -> Value {
    let problems: Vec<String> = errors(site, name).iter().map(ToString::to_string).collect();
    let Some(agent) = site.loaded.agent(name) else {
        return json!({"name": name, "enabled": false, "schedule": null, "webhooks": [], "scale": null, "timeout": null,
            "model": null, "credentials": [], "problems": problems});
    };
    let model = agent.models.first().map(|model| json!({"provider": model.provider, "model": model.model}));
    json!({
        "name": name,
        "enabled": agent.is_enabled(),
        "schedule": agent.schedule.as_ref().map(|schedule| schedule.text()),
        "webhooks": agent.triggers.iter().map(|trigger| trigger.source.as_str()).collect::<Vec<_>>(),
        "scale": agent.scale,
        "timeout": agent.timeout,
        "model": model,
        "credentials": agent.credentials.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "problems": problems,
    })
}

fn errors<'s>(site: &'s Site, name: &'s str) -> Vec<&'s Finding> {
    site.loaded.findings_of(name).filter(|finding| finding.is_error()).collect()
}

/// Shows every value that counts for an agent, with the file that it comes from.
pub(crate) fn show(args: AgentShow) -> Result<u8> {
    let site = Site::open(&args.project, args.env.as_deref(), "al agent show")?;
    site.loaded.require(&args.name)?;
    let selection = Selection::of(args.env.as_deref(), &site.environment);
    let values = origins_of_agent(site.dir(), &site.home, &selection, &args.name)?;
    if args.json {
        let document = json!({"agent": args.name, "values": values.iter().map(as_json).collect::<Vec<_>>()});
        return print(&format!("{}\n", printable_json(&document.to_string())));
    }
    print(&as_lines(&values))
}

/// Removes an agent's directory.
pub(crate) fn remove(args: AgentRemove) -> Result<u8> {
    let site = Site::without_environment(&args.project, "al agent rm")?;
    site.loaded.require(&args.name)?;
    let dir = site.dir().join("agents").join(&args.name);
    if !args.yes {
        if Interaction::of(false, &site.environment) == Interaction::Nobody {
            bail!(UsageError("error: nobody can be asked without a terminal; missing: --yes".to_owned()));
        }
        let question = format!("Remove {} with everything in it?", dir.display());
        if !Terminal::new().confirm(&question, Preset::No)? {
            return print("Aborted.\n");
        }
    }
    let removed = if dir.is_symlink() { fs::remove_file(&dir) } else { fs::remove_dir_all(&dir) };
    removed.with_context(|| format!("remove {}", dir.display()))?;
    print(&format!("Removed agent \"{}\": {}\n", args.name, dir.display()))
}

fn print(text: &str) -> Result<u8> {
    stdout().write_all(text.as_bytes())?;
    Ok(0)
}
