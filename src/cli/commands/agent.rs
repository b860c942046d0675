//! `al agent`: new agents, and changes to their configuration (cli-config.md §6.4).

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Result, bail};
use shims::env::Environment;

use crate::base::error::{UnknownAgent, UsageError};
use crate::base::files::{absolute_lexically, current_dir};
use crate::base::prompt::Prompter as _;
use crate::base::term::stdout;
use crate::cli::args::{AgentConfig, AgentNew, Doctor};
use crate::cli::commands::doctor;
use crate::cli::interaction::Interaction;
use crate::config::edit::Saved;
use crate::config::{self, Home, Loaded, Selection};
use crate::credentials::Store;
use crate::setup::agents::{self, Changes};
use crate::setup::editor::Editor;
use crate::setup::templates::{CUSTOM, TEMPLATES};
use crate::ui::dialogs::Terminal;

/// Makes an agent.
pub(crate) fn new(args: AgentNew) -> Result<u8> {
    let environment = Environment::of_process();
    let project = project_dir(&args.project, "al agent new")?;
    let interaction = Interaction::of(false, &environment);
    if interaction == Interaction::Nobody {
        let flags = [("--type <t>", args.kind.is_none()), ("--name <n>", args.name.is_none())];
        let missing: Vec<&str> = flags.iter().filter(|(_, is_missing)| *is_missing).map(|(flag, _)| *flag).collect();
        if !missing.is_empty() {
            let kinds = agents::kinds().join(", ");
            bail!(UsageError(format!(
                "error: nobody can be asked without a terminal; missing: {}\n  types: {kinds}",
                missing.join(", ")
            )));
        }
    }
    let mut terminal = Terminal::new();
    let kind = match args.kind {
        Some(kind) => kind,
        None => {
            let about = TEMPLATES.iter().map(|template| format!("{} — {}", template.id, template.about));
            let lines: Vec<String> = about.chain([format!("{CUSTOM} — an empty agent")]).collect();
            agents::kinds()[terminal.select("Type of agent:", &lines, 0)?].to_owned()
        }
    };
    let name = match args.name {
        Some(name) => name,
        None => terminal
            .input("Name:", if kind == CUSTOM { "" } else { &kind }, &|name| agents::check_name(&project, name))?,
    };
    writeln!(stdout(), "{}", agents::create(&project, &name, &kind)?)?;
    if args.no_config || interaction == Interaction::Nobody {
        let loaded = load(&args.project, args.env.as_deref(), "al agent new", &environment)?;
        for source in agents::missing_sources(&loaded, &name) {
            writeln!(stdout(), "  Its triggers need a source [webhooks.{source}] in config.toml.")?;
        }
        return Ok(0);
    }
    edit(&args.project, args.env, &name, terminal, &environment)
}

/// Changes an agent's configuration.
pub(crate) fn config(args: AgentConfig) -> Result<u8> {
    let environment = Environment::of_process();
    let changes = Changes { set: args.set, unset: args.unset };
    let loaded = load(&args.project, args.env.as_deref(), "al agent config", &environment)?;
    if !loaded.discovered.contains(&args.name) {
        bail!(UnknownAgent(format!("{}\n  make it with: al agent new", loaded.unknown_agent(&args.name))));
    }
    if !changes.is_empty() {
        let path = agents::config_file(&loaded.project, &args.name);
        let line = match agents::change(&loaded.project, &args.name, &changes)? {
            Saved::Changed => format!("Saved {}", path.display()),
            Saved::Unchanged => format!("Nothing changed in {}", path.display()),
        };
        writeln!(stdout(), "{line}")?;
        return Ok(0);
    }
    match Interaction::of(false, &environment) {
        Interaction::Person => edit(&args.project, args.env, &args.name, Terminal::new(), &environment),
        Interaction::Nobody => bail!(UsageError(
            "error: nobody can be asked without a terminal; say what to change with --set <key>=<toml value> or --unset \
             <key>"
                .to_owned()
        )),
    }
}

/// The editor, then doctor.
fn edit(
    project: &str,
    env: Option<String>,
    name: &str,
    mut terminal: Terminal,
    environment: &Environment,
) -> Result<u8> {
    let loaded = load(project, env.as_deref(), "al agent config", environment)?;
    let store = Store::at(loaded.project.home.credentials());
    Editor { loaded: &loaded, store: &store, environment, prompter: &mut terminal }.run(name)?;
    doctor::run(Doctor::of_project(project, env))
}

fn load(project: &str, env: Option<&str>, command: &str, environment: &Environment) -> Result<Loaded> {
    let dir = project_dir(project, command)?;
    config::load(&dir, &Home::of(environment)?, &Selection::of(env, environment))
}

fn project_dir(project: &str, command: &str) -> Result<PathBuf> {
    let dir = absolute_lexically(project.as_ref(), &current_dir()?);
    match config::directory_problem(&dir, command) {
        Some(problem) => bail!(problem),
        None => Ok(dir),
    }
}
