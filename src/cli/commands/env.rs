//! `al env`: named environments (cli-config.md §6.5).

use std::io::Write as _;
use std::path::Path;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use shims::env::Environment;

use crate::base::error::UsageError;
use crate::base::files::{absolute_lexically, current_dir};
use crate::base::term::stdout;
use crate::base::text::{printable, printable_json};
use crate::cli::args::{ConfigShow, EnvCheck, EnvInit, EnvSet, EnvShow, OnlyJson};
use crate::config::origins::{Origin, origins};
use crate::config::{Home, Selection, directory_problem};
use crate::setup::env_check;
use crate::setup::environments::{self, Existence};
use crate::setup::server::Target;

/// Writes a new environment.
pub(crate) fn init(args: EnvInit) -> Result<u8> {
    let Some(kind) = args.kind else {
        bail!(UsageError("error: required option '-t, --type <type>' not specified".to_owned()));
    };
    let path = environments::init(&home()?, &args.name, &kind)?;
    print(&format!("Created server environment \"{}\" at {}\n", args.name, path.display()))
}

/// Lists environments.
pub(crate) fn list(args: OnlyJson) -> Result<u8> {
    let found = environments::list(&home()?)?;
    if args.json {
        return print(&format!("{}\n", printable_json(&environments::listing_json(&found).to_string())));
    }
    print(&environments::listing(&found))
}

/// Prints an environment's file, or the whole configuration of a project with it.
pub(crate) fn show(args: EnvShow) -> Result<u8> {
    if args.merged {
        return merged(&args);
    }
    let Some(name) = args.name.as_deref() else {
        bail!(UsageError("error: missing required argument 'name'".to_owned()));
    };
    let (path, text) = environments::read(&home()?, name)?;
    if args.json {
        let document = json!({"environment": name, "file": path.display().to_string(), "content": text});
        return print(&format!("{}\n", printable_json(&document.to_string())));
    }
    print(&format!("Environment: {name}\nFile: {}\n\n{}", path.display(), printable(&text)))
}

fn merged(args: &EnvShow) -> Result<u8> {
    let name = args.name.as_deref().or(args.env.as_deref());
    let (name, values) = values_of(&args.project, name, "al env show --merged")?;
    if args.json {
        let document = json!({"environment": name, "values": values.iter().map(as_json).collect::<Vec<_>>()});
        return print(&format!("{}\n", printable_json(&document.to_string())));
    }
    print(&as_lines(&values))
}

/// The environment of a project and its merged configuration.
fn values_of(project: &str, env: Option<&str>, command: &str) -> Result<(Option<String>, Vec<Origin>)> {
    let environment = Environment::of_process();
    let dir = absolute_lexically(Path::new(project), &current_dir()?);
    if let Some(problem) = directory_problem(&dir, command) {
        bail!(problem);
    }
    origins(&dir, &Home::of(&environment)?, &Selection::of(env, &environment))
}

/// Values of a configuration, a line each, with the file that each comes from.
pub(super) fn as_lines(values: &[Origin]) -> String {
    let line = |Origin { key, value, file }: &Origin| format!("{key} = {value}  # {file}\n");
    printable(&values.iter().map(line).collect::<String>()).into_owned()
}

/// A value of a configuration with the file that it comes from.
pub(super) fn as_json(origin: &Origin) -> Value {
    let value = serde_json::to_value(&origin.value).unwrap_or_else(|_| Value::from(origin.value.to_string()));
    json!({"key": origin.key, "value": value, "file": origin.file})
}

/// `al config show`: the merged configuration; with `--origin` as [`show`] with `--merged`.
pub(crate) fn config(args: ConfigShow) -> Result<u8> {
    if args.origin || args.json {
        let ConfigShow { project, env, json, .. } = args;
        return merged(&EnvShow { merged: true, project, env, json, name: None });
    }
    let (_, values) = values_of(&args.project, args.env.as_deref(), "al config show")?;
    let line = |Origin { key, value, .. }: &Origin| format!("{key} = {value}\n");
    print(&printable(&values.iter().map(line).collect::<String>()))
}

/// Binds a project to an environment, or unbinds it.
pub(crate) fn set(args: EnvSet) -> Result<u8> {
    let dir = absolute_lexically(Path::new(&args.project), &current_dir()?);
    let existence = environments::bind(&dir, &home()?, args.name.as_deref())?;
    let Some(name) = args.name else {
        return print("Project is bound to no environment: commands use the local scheduler.\n");
    };
    if existence == Existence::Missing {
        let text = format!(
            "Warning: environment \"{name}\" does not exist yet; create it with `al env init {name} --type server`"
        );
        writeln!(std::io::stderr(), "{text}")?;
    }
    print(&format!("Project bound to environment \"{name}\".\n"))
}

/// Verifies the server of an environment.
pub(crate) fn check(args: EnvCheck) -> Result<u8> {
    let environment = Environment::of_process();
    let home = Home::of(&environment)?;
    let target = Target::of(&home, &args.name)?;
    if args.json {
        let checks = env_check::run(&target, &home, &environment, &mut |_| Ok(()))?;
        let document = env_check::to_json(&args.name, &checks);
        print(&format!("{}\n", printable_json(&document.to_string())))?;
        return Ok(u8::from(env_check::failures(&checks) > 0));
    }
    print(&format!("Checking environment \"{}\"...\n", args.name))?;
    let checks = env_check::run(&target, &home, &environment, &mut |check| print(&check.line()).map(drop))?;
    match env_check::failures(&checks) {
        0 => print("All checks passed.\n"),
        failures => {
            print(&format!("{failures} issue(s) found.\n  how to set a server up: al docs server\n"))?;
            Ok(1)
        }
    }
}

fn home() -> Result<Home> {
    Home::of(&Environment::of_process())
}

fn print(text: &str) -> Result<u8> {
    stdout().write_all(text.as_bytes())?;
    Ok(0)
}
