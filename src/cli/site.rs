//! Where a command works: the project with its configuration, the user's home, the environment.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use shims::env::Environment;

use crate::base::files::{absolute_lexically, current_dir};
use crate::config::{self, Home, Loaded, Selection};

/// Everything a command that works on a project begins with.
pub(crate) struct Site {
    pub(crate) environment: Environment,
    pub(crate) home: Home,
    pub(crate) loaded: Loaded,
}

impl Site {
    /// Reads the project. `project` and `env` are `-p` and `-E` as typed; `command` is what to run elsewhere when this is
    /// an agent's directory.
    ///
    /// # Errors
    /// When it is no project, or its own files cannot be read.
    pub(crate) fn open(project: &str, env: Option<&str>, command: &str) -> Result<Self> {
        let environment = Environment::of_process();
        let selection = Selection::of(env, &environment);
        Self::read(project, &selection, environment, command)
    }

    /// As [`Site::open`], for commands that no environment means anything to: one that is missing does not matter.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn without_environment(project: &str, command: &str) -> Result<Self> {
        Self::read(project, &Selection::none(), Environment::of_process(), command)
    }

    fn read(project: &str, selection: &Selection, environment: Environment, command: &str) -> Result<Self> {
        let dir = absolute_lexically(Path::new(project), &current_dir()?);
        if let Some(problem) = config::directory_problem(&dir, command) {
            bail!(problem);
        }
        let home = Home::of(&environment)?;
        let loaded = config::load(&dir, &home, selection)?;
        Ok(Self { environment, home, loaded })
    }

    /// The project's directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.loaded.project.dir
    }

    /// Where the project's logs are.
    pub(crate) fn log_dir(&self) -> PathBuf {
        crate::run::life::log_dir(self.dir())
    }

    /// Whether there is an agent of this name, also a broken one.
    pub(crate) fn has_agent(&self, name: &str) -> bool {
        self.loaded.discovered.iter().any(|known| known == name)
    }

    /// Whether a named environment is selected.
    pub(crate) fn has_environment(&self) -> bool {
        self.loaded.project.environment.is_some()
    }

    /// What is said of an agent that the project does not have.
    pub(crate) fn unknown_agent(&self, name: &str) -> String {
        self.loaded.unknown_agent(name)
    }
}
