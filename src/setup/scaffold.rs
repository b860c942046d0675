//! Writes a new project (cli-config.md §7).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use toml::Value;

use super::models::Model;
use crate::base::files::{absolute_lexically, create_new, read_optional, write_atomic};
use crate::docker::context::agent_doc;

/// What git is not to keep.
const IGNORED: [&str; 6] = ["node_modules/", ".workspace/", ".al/", ".env.toml", "*.log", ".DS_Store"];

const DOCKERFILE: &str = "\
# The base image of all agents of this project. The FROM line is replaced when images are built, so keep it as it is.
# What may be changed: packages, environment variables (ENV), further tools. For example:
#
#   USER root
#   RUN apk add --no-cache python3
#   USER node
#
# An agent can have a Dockerfile of its own, which then begins with this image: agents/<name>/Dockerfile.
FROM al-agent:latest
";

/// Where a project is going to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Absolute.
    pub dir: PathBuf,
    pub name: String,
}

impl Target {
    /// Reads what was typed.
    ///
    /// # Errors
    /// A name that cannot be, and a directory that has a project already.
    pub fn parse(typed: &str, current: &Path) -> Result<Self> {
        let dir = absolute_lexically(Path::new(typed), current);
        let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let is_name = name.len() <= 128 && name.bytes().all(fits);
        if typed.trim().is_empty() || !is_name || !name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        {
            bail!(
                "\"{typed}\" is not a name for a project; write 1-128 letters, digits, \".\", \"_\" or \"-\", beginning \
                 with a letter or digit"
            );
        }
        if dir.exists() && !dir.is_dir() {
            bail!("{} is not a directory", dir.display());
        }
        if let Some(found) = ["config.toml", "agents"].iter().find(|name| dir.join(name).symlink_metadata().is_ok()) {
            bail!("{} has a project already: there is {found}", dir.display());
        }
        Ok(Self { dir, name })
    }
}

/// The text that assistants read in a project.
pub fn agents_md() -> String {
    let text = agent_doc("AGENTS.md").expect("it is embedded");
    format!("{}\n\n<!-- action-llama {} -->\n", text.trim_end(), shims::VERSION)
}

/// Writes a project; what is there already is kept. `wrote` hears of every file.
///
/// # Errors
/// When something cannot be written.
pub fn write(
    target: &Target,
    model: &Model,
    auth_type: &str,
    wrote: &mut dyn FnMut(&Path) -> Result<()>,
) -> Result<()> {
    let dir = &target.dir;
    for dir in [dir.clone(), dir.join("agents"), dir.join(".workspace")] {
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    }
    let entries = model.entries(auth_type).into_iter().map(|(key, value)| format!("{key} = {value}\n"));
    let config = format!("[model]\n{}", entries.collect::<String>());
    let local = format!("projectName = {}\n", Value::from(&*target.name));
    let docs = agents_md();
    for (name, content, mode) in [
        ("config.toml", config.as_str(), 0o644),
        ("Dockerfile", DOCKERFILE, 0o644),
        ("AGENTS.md", &docs, 0o644),
        ("CLAUDE.md", &docs, 0o644),
        (".env.toml", &local, 0o600),
    ] {
        let path = dir.join(name);
        if path.symlink_metadata().is_err() {
            create_new(&path, content.as_bytes(), mode)?;
            wrote(&path)?;
        }
    }
    ignore(&dir.join(".gitignore"), wrote)
}

/// Adds the lines that are missing.
fn ignore(path: &Path, wrote: &mut dyn FnMut(&Path) -> Result<()>) -> Result<()> {
    let before = read_optional(path)?.unwrap_or_default();
    let is_there = |line: &&str| before.lines().any(|known| known.trim() == *line);
    let missing: Vec<&str> = IGNORED.into_iter().filter(|line| !is_there(line)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let newline = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
    write_atomic(path, format!("{before}{newline}{}\n", missing.join("\n")).as_bytes(), 0o644)?;
    wrote(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_part_of_a_path_is_the_name() {
        let dir = tempfile::tempdir().unwrap();
        let parse =
            |typed: &str| Target::parse(typed, dir.path()).map(|target| target.name).map_err(|error| error.to_string());
        assert_eq!(parse("demo/"), Ok("demo".to_owned()));
        assert_eq!(parse("a/../b-1.x"), Ok("b-1.x".to_owned()));
        for bad in ["", " ", ".x", "a b", "über", "/", "a\"b"] {
            assert!(parse(bad).unwrap_err().contains(&format!("\"{bad}\"")), "{bad}");
        }
        fs::create_dir(dir.path().join("agents")).unwrap();
        assert!(parse(".").unwrap_err().contains("has a project already") || parse(".").is_err());
    }
}
