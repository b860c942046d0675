//! `al run`: one agent, once, without a scheduler (scheduler.md §15.3).

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use crossbeam_channel::{Receiver, bounded};
use shims::env::Environment;
use shims::wire::exit;

use crate::base::files::{absolute_lexically, current_dir};
use crate::cli::args::Run;
use crate::config::webhook::Exposure;
use crate::config::{self, Home, Loaded, Selection};
use crate::credentials::Store as CredentialStore;
use crate::model::event::Trigger;
use crate::model::outcome::RunResult;
use crate::scheduler::core::Reruns;
use crate::scheduler::handle::{Event, Handle};
use crate::scheduler::lock::ProjectLock;
use crate::scheduler::once::{Finished, Root, run_once};
use crate::setup::doctor::{self, Options, Scope, Strictness, Verbosity};
use crate::ui::summary::Summary;
use interrupt::Interrupt;
use view::{Told, View};

mod gateway;
mod interrupt;
mod task;
mod view;
mod wiring;

/// Events that may wait for the scheduler; whoever sends more waits.
const EVENTS: usize = 1024;

/// Exit status when no container came to an end.
const FAILED: u8 = 1;

/// Runs an agent and gives its exit status.
pub(crate) fn run(args: Run) -> Result<u8> {
    let view = View::choose(&args);
    let (sender, events) = bounded(EVENTS);
    let interrupt = Interrupt::listen(sender.clone())?;
    let done = carry_out(&args, &view, &interrupt, &Handle::new(sender), &events);
    match (done, interrupt.signal()) {
        (Ok(status), _) => Ok(status),
        // What failed, failed because of the signal.
        (Err(_), Some(signal)) => {
            view.interrupted(&failure(&args.agent, format!("interrupted by signal {signal}")));
            Ok(status_of_signal(signal))
        }
        (Err(error), None) => match view.failed(&failure(&args.agent, format!("{error:#}")), &error) {
            Told::No => Err(error),
            Told::Yes => Ok(FAILED),
        },
    }
}

fn carry_out(args: &Run, view: &View, interrupt: &Interrupt, handle: &Handle, events: &Receiver<Event>) -> Result<u8> {
    let environment = Environment::of_process();
    let project = absolute_lexically(Path::new(&args.project), &current_dir()?);
    if let Some(problem) = config::agent_directory_problem(&project, &format!("al run {}", args.agent)) {
        bail!(problem);
    }
    let home = Home::of(&environment)?;
    let loaded = config::load(&project, &home, &Selection::of(args.env.as_deref(), &environment))?;
    check_known(&loaded, &args.agent)?;
    let trigger = task::trigger(args, &interrupt.token)?;
    if let Some(environment) = loaded.project.environment.as_ref().filter(|found| found.server.is_some()) {
        bail!(
            "environment \"{}\" is a server's; starting a run there is not built yet. Leave out --env to run here",
            environment.name
        );
    }
    let credentials = CredentialStore::at(home.credentials());
    let options =
        Options { scope: Scope::Run(&args.agent), strictness: Strictness::Normal, exposure: Exposure::Loopback };
    let report = doctor::check(&loaded, &credentials, &options)?;
    report.conclude(Verbosity::Silent, &mut std::io::stdout(), &mut std::io::stderr())?;

    let reruns = match trigger {
        Trigger::Manual { .. } => Reruns::UpTo(loaded.project.settings.max_reruns),
        _ => Reruns::Never,
    };
    let kind = trigger.kind().as_str();
    let lock = ProjectLock::for_one_shot(&project)?;
    let wired = wiring::wire(&loaded, &args.agent, credentials, view.observer(), handle, interrupt, lock)?;
    let root = Root { agent: args.agent.clone(), trigger, reruns };
    let finished = run_once(&wired.host, wired.agents, root, handle, events);
    wired.gateway.stop();
    let finished = finished?;
    view.finish(&summary(&args.agent, kind, &finished));
    Ok(status(&finished))
}

fn check_known(loaded: &Loaded, agent: &str) -> Result<()> {
    if loaded.discovered.iter().any(|known| known == agent) {
        return Ok(());
    }
    if loaded.discovered.is_empty() {
        bail!("Agent \"{agent}\" not found.\nNo agents found in {}.", agents_dir(loaded).display());
    }
    bail!("Agent \"{agent}\" not found.\nAvailable agents: {}", loaded.discovered.join(", "));
}

fn agents_dir(loaded: &Loaded) -> PathBuf {
    loaded.project.dir.join("agents")
}

/// The exit status of the last run as it is; a rerun that nobody carries out any more is a success.
fn status(finished: &Finished) -> u8 {
    if let Some(signal) = finished.signal {
        return status_of_signal(signal);
    }
    let Some((_, outcome)) = &finished.last else { return FAILED };
    match outcome.exit_code {
        Some(_) if outcome.result == RunResult::Rerun => 0,
        Some(code) => u8::try_from(code).unwrap_or(FAILED),
        None => FAILED,
    }
}

fn status_of_signal(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(FAILED)
}

fn summary(agent: &str, trigger: &'static str, finished: &Finished) -> Summary {
    let base = Summary {
        agent: agent.to_owned(),
        result: RunResult::Error.as_str(),
        trigger,
        duration: finished.duration,
        reruns: finished.reruns,
        usage: finished.usage,
        ..Summary::default()
    };
    let Some((run, outcome)) = &finished.last else { return base };
    Summary {
        instance: Some(run.instance.clone()),
        result: outcome.result.as_str(),
        exit_code: outcome.exit_code,
        return_value: outcome.return_value.clone(),
        error: outcome.error.clone().map(|error| explained(error, outcome.exit_code)),
        ..base
    }
}

/// The error with what to do about it, where that is known.
fn explained(error: String, exit_code: Option<i32>) -> String {
    let hint = match exit_code {
        Some(exit::AUTH) => {
            "the model's provider refused the key: check it with `al doctor`, renew it with `al creds add`"
        }
        Some(exit::TIMEOUT) => "raise `timeout` in agent-config.toml if the work needs longer",
        _ => return error,
    };
    format!("{error}\n  {hint}")
}

/// The summary when nothing was run.
fn failure(agent: &str, error: String) -> Summary {
    Summary { agent: agent.to_owned(), result: RunResult::Error.as_str(), error: Some(error), ..Summary::default() }
}
