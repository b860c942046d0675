//! `al doctor`.

use std::path::Path;

use anyhow::{Result, bail};
use shims::env::Environment;

use crate::base::error::ConfigError;
use crate::base::files::{absolute_lexically, current_dir};
use crate::cli::args::Doctor;
use crate::config::webhook::Exposure;
use crate::config::{self, Home, Selection};
use crate::credentials::Store;
use crate::setup::doctor::{Options, Scope, Strictness, Verbosity, check};

/// Checks a project.
pub(crate) fn run(args: Doctor) -> Result<u8> {
    let Doctor { project, env, expose, strict, .. } = args;
    let environment = Environment::of_process();
    let project = absolute_lexically(Path::new(&project), &current_dir()?);
    if let Some(problem) = config::agent_directory_problem(&project, "al doctor") {
        bail!(ConfigError(problem));
    }
    let home = Home::of(&environment)?;
    let loaded = config::load(&project, &home, &Selection::of(env.as_deref(), &environment))?;
    let options = Options {
        scope: Scope::Project,
        strictness: if strict { Strictness::Strict } else { Strictness::Normal },
        exposure: if expose { Exposure::Exposed } else { Exposure::Loopback },
    };
    let report = check(&loaded, &Store::at(home.credentials()), &options)?;
    report.conclude(Verbosity::Full, &mut std::io::stdout().lock(), &mut std::io::stderr().lock())?;
    Ok(0)
}
