//! Named environments: their files, and the one that a project is bound to (cli-config.md §6.5).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value as Json, json};
use toml::{Table, Value};

use crate::base::error::ConfigError;
use crate::base::files::{create_new, ensure_private_dir, read_optional};
use crate::config::Home;
use crate::config::edit::Edited;
use crate::config::home::check_environment_name;

/// What `al env init` writes.
const SKELETON: &str =
    "[server]\nhost = \"REPLACE_ME\"\nuser = \"root\"\nport = 22\nbasePath = \"/opt/action-llama\"\n";
/// The only type of environment.
const SERVER: &str = "server";

/// A file of an environment.
#[derive(Clone, Debug)]
pub struct Found {
    pub name: String,
    pub path: PathBuf,
    /// `None` when it cannot be read or is not TOML.
    pub table: Option<Table>,
}

impl Found {
    /// `[server]`, when there is one.
    pub fn server(&self) -> Option<&Table> {
        self.table.as_ref()?.get(SERVER)?.as_table()
    }
}

/// Writes a new environment; gives its file.
///
/// # Errors
/// A type or name that cannot be, a name that is taken, a system that refuses.
pub fn init(home: &Home, name: &str, kind: &str) -> Result<PathBuf> {
    check_environment_name(name).map_err(ConfigError)?;
    if kind != SERVER {
        bail!(ConfigError(format!("\"{kind}\" is not a type of environment; write --type {SERVER}")));
    }
    let path = home.environment_file(name);
    if path.symlink_metadata().is_ok() {
        bail!(ConfigError(format!("environment \"{name}\" is already there: {}", path.display())));
    }
    let outer = home.path();
    if !outer.exists() {
        fs::create_dir_all(outer).with_context(|| format!("create {}", outer.display()))?;
        ensure_private_dir(outer)?;
    }
    ensure_private_dir(&home.environments())?;
    create_new(&path, SKELETON.as_bytes(), 0o600)?;
    Ok(path)
}

/// All environments by name.
///
/// # Errors
/// A directory that cannot be read.
pub fn list(home: &Home) -> Result<Vec<Found>> {
    let dir = home.environments();
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("read {}", dir.display())),
    };
    let mut found: Vec<Found> = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".toml")).map(str::to_owned);
        if let Some(name) = name.filter(|name| check_environment_name(name).is_ok()) {
            let table = fs::read_to_string(&path).ok().and_then(|text| text.parse().ok());
            found.push(Found { name, path, table });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// The listing for people.
pub fn listing(found: &[Found]) -> String {
    if found.is_empty() {
        return "No environments configured.\nCreate one with: al env init <name> --type server\n".to_owned();
    }
    let line = |one: &Found| {
        let kind = match (&one.table, one.server()) {
            (None, _) => "invalid config",
            (Some(_), None) => "unknown",
            (Some(_), Some(_)) => SERVER,
        };
        format!("  {} ({kind})\n", one.name)
    };
    format!("Environments:\n{}", found.iter().map(line).collect::<String>())
}

/// The listing as JSON.
pub fn listing_json(found: &[Found]) -> Json {
    let environment = |one: &Found| {
        let kind = match (&one.table, one.server()) {
            (None, _) => "invalid",
            (Some(_), None) => "unknown",
            (Some(_), Some(_)) => SERVER,
        };
        let text = |key: &str| one.server().and_then(|server| server.get(key)?.as_str());
        json!({"name": one.name, "type": kind, "host": text("host"), "user": text("user"),
               "hostname": text("cloudflareHostname"), "path": one.path.display().to_string()})
    };
    json!({"environments": found.iter().map(environment).collect::<Vec<_>>()})
}

/// Path and text of an environment.
///
/// # Errors
/// When there is none of this name, or it cannot be read.
pub fn read(home: &Home, name: &str) -> Result<(PathBuf, String)> {
    check_environment_name(name).map_err(ConfigError)?;
    let path = home.environment_file(name);
    match read_optional(&path)? {
        Some(text) => Ok((path, text)),
        None => bail!(ConfigError(format!(
            "environment \"{name}\" does not exist: there is no {}; see which there are with `al env list`",
            path.display()
        ))),
    }
}

/// Binds a project to an environment, or unbinds it. Whether the environment exists.
///
/// # Errors
/// A name that cannot be, a file that is not TOML or cannot be written.
pub fn bind(project: &Path, home: &Home, name: Option<&str>) -> Result<Existence> {
    name.map_or(Ok(()), check_environment_name).map_err(ConfigError)?;
    if !project.is_dir() {
        bail!(ConfigError(format!("{} is not a directory", project.display())));
    }
    let mut file = Edited::open(&project.join(".env.toml"), ".env.toml")?;
    match name {
        Some(name) => file.set(&["environment"], &Value::from(name))?,
        None => file.unset(&["environment"]),
    }
    file.save(0o600)?;
    let exists = name.is_none_or(|name| home.environment_file(name).exists());
    Ok(if exists { Existence::There } else { Existence::Missing })
}

/// Whether something is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existence {
    There,
    Missing,
}
