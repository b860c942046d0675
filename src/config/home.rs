//! The directory of everything that belongs to the user rather than to a project, and the choice of an environment
//! (cli-config.md §1.1, §3.2).

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use shims::env::Environment;

use crate::base::error::ConfigError;

/// `~/.action-llama`, or what `ACTION_LLAMA_HOME` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home(PathBuf);

impl Home {
    /// The directory for this environment.
    ///
    /// # Errors
    /// When `ACTION_LLAMA_HOME` is not absolute, or there is no home directory.
    pub fn of(environment: &Environment) -> Result<Self> {
        if let Some(path) = environment.get_non_empty("ACTION_LLAMA_HOME") {
            if !path.starts_with('/') {
                bail!(ConfigError(format!("ACTION_LLAMA_HOME: \"{path}\" is not an absolute path")));
            }
            return Ok(Self(PathBuf::from(path)));
        }
        let home = match environment.get_non_empty("HOME") {
            Some(home) => PathBuf::from(home),
            None => home_from_passwd().context("find the home directory: HOME is not set")?,
        };
        Ok(Self(home.join(".action-llama")))
    }

    /// This directory.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Stored credentials.
    pub fn credentials(&self) -> PathBuf {
        self.0.join("credentials")
    }

    /// Environment files.
    pub fn environments(&self) -> PathBuf {
        self.0.join("environments")
    }

    /// The file of an environment; the name has passed [`check_environment_name`].
    pub fn environment_file(&self, name: &str) -> PathBuf {
        self.environments().join(format!("{name}.toml"))
    }
}

fn home_from_passwd() -> Result<PathBuf> {
    let uid = rustix::process::geteuid().as_raw().to_string();
    let passwd = std::fs::read_to_string("/etc/passwd").context("read /etc/passwd")?;
    let entry = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let home = entry.filter(|fields| fields.get(2) == Some(&uid.as_str())).find_map(|fields| fields.get(5).copied());
    home.filter(|home| home.starts_with('/'))
        .map(PathBuf::from)
        .with_context(|| format!("user {uid} has no entry in /etc/passwd"))
}

/// What may select an environment besides `.env.toml`, strongest first.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// `-E/--env`.
    pub flag: Option<String>,
    /// `AL_ENV`.
    pub variable: Option<String>,
    /// Nothing selects one, not even `.env.toml`.
    is_none: bool,
}

impl Selection {
    /// The flag as typed, and the variable of this environment.
    pub fn of(flag: Option<&str>, environment: &Environment) -> Self {
        Self { flag: flag.map(str::to_owned), variable: environment.get("AL_ENV").map(str::to_owned), is_none: false }
    }

    /// No environment, whatever the project says: for what does not depend on it.
    pub fn none() -> Self {
        Self { is_none: true, ..Self::default() }
    }

    pub(super) fn is_none(&self) -> bool {
        self.is_none
    }

    /// The name that was selected, and where, for messages; empty names select nothing.
    pub(super) fn explicit(&self) -> Option<(&str, &'static str)> {
        let flag = self.flag.as_deref().map(|name| (name, "--env"));
        let variable = self.variable.as_deref().map(|name| (name, "AL_ENV"));
        [flag, variable].into_iter().flatten().find(|(name, _)| !name.is_empty())
    }
}

/// Checks the name of an environment, before any path is made of it.
///
/// # Errors
/// A sentence with the name in quotes.
pub fn check_environment_name(name: &str) -> Result<(), String> {
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    let bytes = name.as_bytes();
    if (1..=64).contains(&bytes.len()) && bytes[0].is_ascii_alphanumeric() && bytes.iter().all(inner) {
        Ok(())
    } else {
        Err(format!(
            "\"{name}\" is not an environment name; write 1-64 letters, digits, \".\", \"_\" or \"-\", beginning with \
             a letter or digit"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn home(variables: &[(&str, &str)], expected: &str) {
        assert_eq!(Home::of(&variables.iter().copied().collect()).unwrap().path(), Path::new(expected));
    }

    #[test]
    fn one_variable_moves_everything() {
        home(&[("HOME", "/home/ann")], "/home/ann/.action-llama");
        home(&[("HOME", "/home/ann"), ("ACTION_LLAMA_HOME", "/srv/al")], "/srv/al");
        home(&[("HOME", "/home/ann"), ("ACTION_LLAMA_HOME", "")], "/home/ann/.action-llama");
        let relative = [("ACTION_LLAMA_HOME", "al")].into_iter().collect();
        assert!(Home::of(&relative).unwrap_err().to_string().contains("\"al\""));
    }

    #[test]
    fn environment_names_cannot_leave_their_directory() {
        for good in ["prod", "a", "eu-1.prod_2"] {
            assert!(check_environment_name(good).is_ok(), "{good}");
        }
        for bad in ["", "../x", ".x", "a/b", "-a", "a b", &"a".repeat(65)] {
            assert!(check_environment_name(bad).unwrap_err().contains(&format!("\"{bad}\"")), "{bad}");
        }
    }

    #[test]
    fn the_flag_is_stronger_and_empty_selects_nothing() {
        let variables = [("AL_ENV", "big")].into_iter().collect();
        assert_eq!(Selection::of(Some("small"), &variables).explicit(), Some(("small", "--env")));
        assert_eq!(Selection::of(Some(""), &variables).explicit(), Some(("big", "AL_ENV")));
        assert_eq!(Selection::of(None, &Environment::default()).explicit(), None);
    }
}
