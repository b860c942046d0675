//! `al run`: one agent, once; by the project's scheduler when one runs (scheduler.md §15.2), else in this process (§15.3).

use std::sync::Arc;

use anyhow::{Result, bail};
use crossbeam_channel::{Receiver, bounded};
use shims::session::error::Kind;
use shims::wire::exit;
use shims::wire::run_file::TriggerKind;

use crate::base::term::stdout;
use crate::base::text::printable;
use crate::cli::args::Run;
use crate::cli::site::Site;
use crate::config::webhook::Exposure;
use crate::credentials::Store as CredentialStore;
use crate::model::event::Trigger;
use crate::model::outcome::{Outcome, RunResult};
use crate::scheduler::core::Reruns;
use crate::scheduler::handle::{Event, Handle};
use crate::scheduler::lock::ProjectLock;
use crate::scheduler::once::{Finished, Root, run_once};
use crate::setup::doctor::{self, Options, Scope, Strictness, Verbosity};
use crate::ui;
use crate::ui::json_events::JsonEvents;
use crate::ui::summary::Summary;
use interrupt::Interrupt;
use scheduled::{Scheduled, Wish};
use view::{Told, View};

mod chain;
mod gateway;
mod interrupt;
mod scheduled;
mod task;
mod view;
mod wiring;

/// Events that may wait for the scheduler; whoever sends more waits.
const EVENTS: usize = 1024;

/// Exit status when no container came to an end.
const FAILED: u8 = 1;

/// Runs an agent and gives its exit status.
pub(crate) fn run(args: Run) -> Result<u8> {
    super::heap::limit();
    let view = View::choose(&args)?;
    let (sender, events) = bounded(EVENTS);
    let interrupt = Interrupt::listen(sender.clone())?;
    let done = carry_out(&args, &view, &interrupt, &Handle::new(sender), &events);
    match (done, interrupt.signal()) {
        // Whoever was to read the result did not get it.
        (Ok(0), _) if ui::output_is_lost() => Ok(FAILED),
        (Ok(status), _) => Ok(status),
        // What failed, failed because of the signal.
        (Err(_), Some(signal)) => {
            view.interrupted(&failure(&args.agent, wished(&args), format!("interrupted by signal {signal}")));
            Ok(status_of_signal(signal))
        }
        (Err(error), None) => match view.failed(&failure(&args.agent, wished(&args), format!("{error:#}")), &error) {
            Told::No => Err(error),
            Told::Yes => Ok(FAILED),
        },
    }
}

/// Prints the result line that `al run --json` ends with in every case, also when its arguments cannot be read.
pub(crate) fn usage_error(words: &[String], error: &str) {
    let is_run = words.first().is_some_and(|word| word == "run");
    if is_run && words.iter().any(|word| word == "--json") {
        let agent = words.iter().skip(1).find(|word| !word.starts_with('-')).cloned().unwrap_or_default();
        let error = error.strip_prefix("error: ").unwrap_or(error);
        JsonEvents::default().finish(&failure(&agent, TriggerKind::Manual, error.to_owned()));
    }
}

fn carry_out(args: &Run, view: &View, interrupt: &Interrupt, handle: &Handle, events: &Receiver<Event>) -> Result<u8> {
    let site = Arc::new(Site::open(&args.project, args.env.as_deref(), &format!("al run {}", args.agent))?);
    if !site.has_agent(&args.agent) {
        bail!(site.unknown_agent(&args.agent));
    }
    let trigger = task::trigger(args, &interrupt.token)?;
    let wish = Wish::of(&args.agent, &trigger, args.wait);
    let shows_events = args.json;
    let told = move |message: &str| {
        if !shows_events {
            ui::show(&format!("{}\n", printable(message)));
        }
    };
    match scheduled::run(&site, wish, &trigger, view.observer(), told, &interrupt.token)? {
        None => {}
        Some(Scheduled::Ended(finished)) => {
            view.finish(&summary(&args.agent, trigger.kind().as_str(), &finished));
            return Ok(status(&finished));
        }
        Some(Scheduled::Triggered { message, instance }) => {
            told(&message);
            view.triggered(&Summary { instance, result: "triggered", ..Summary::default() });
            return Ok(0);
        }
    }
    let loaded = &site.loaded;
    let project = site.dir();
    let credentials = CredentialStore::at(site.home.credentials());
    let options =
        Options { scope: Scope::Run(&args.agent), strictness: Strictness::Normal, exposure: Exposure::Loopback };
    let report = doctor::check(loaded, &credentials, &options)?;
    report.conclude(Verbosity::Silent, &mut stdout(), &mut std::io::stderr())?;

    let reruns = match trigger {
        Trigger::Manual { .. } => Reruns::UpTo(loaded.project.settings.max_reruns),
        _ => Reruns::Never,
    };
    let kind = trigger.kind().as_str();
    let lock = ProjectLock::for_one_shot(project)?;
    let wired = wiring::wire(loaded, &args.agent, credentials, view.observer(), handle, interrupt, lock)?;
    let root = Root { agent: args.agent.clone(), trigger, reruns };
    let finished = run_once(&wired.host, wired.agents, root, handle, events);
    wired.gateway.stop();
    let finished = finished?;
    view.finish(&summary(&args.agent, kind, &finished));
    Ok(status(&finished))
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
    let Some((run, outcome)) = &finished.last else {
        let error = "ended before its container was gone; the next `al run` of this project removes what is left";
        return Summary { error: Some(error.to_owned()), ..base };
    };
    Summary {
        instance: Some(run.instance.clone()),
        result: outcome.result.as_str(),
        exit_code: outcome.exit_code,
        return_value: outcome.return_value.clone(),
        error: outcome.error.clone().map(|error| explained(error, outcome)),
        ..base
    }
}

/// Kind of a failure that another program reports which held the session.
const HARNESS: &str = "harness";

/// The error with what was behind it and what to do about it, where that is known.
fn explained(error: String, outcome: &Outcome) -> String {
    if outcome.exit_code == Some(exit::TIMEOUT) {
        return format!("{error}\n  raise `timeout` in agent-config.toml if the work needs longer");
    }
    if let Some(failure) = outcome.model_failure.as_ref().filter(|failure| failure.kind == HARNESS) {
        return match outcome.exit_reason {
            None => format!("{error}\n  {}", failure.text),
            Some(_) => error,
        };
    }
    let failure = outcome.model_failure.as_ref().and_then(|failure| Some((failure, Kind::from_word(&failure.kind)?)));
    match failure {
        // An agent may also have chosen this exit code, for reasons of its own.
        Some((failure, kind)) if outcome.exit_reason.is_none() && outcome.exit_code == Some(kind.exit_code()) => {
            format!("{error}\n  {}\n  {}", failure.text, remedy(kind))
        }
        _ => error,
    }
}

fn remedy(kind: Kind) -> &'static str {
    match kind {
        Kind::Auth => "the provider refused the key: check it with `al doctor`, renew it with `al creds add`",
        Kind::Permission => {
            "the provider does not let this key use the model: see what the key may do, or choose another model"
        }
        Kind::Quota => "nothing is left to pay with: see billing in the provider's console, or use another key",
        Kind::RateLimit | Kind::Overloaded => "the provider takes no more requests now: run the agent again later",
        Kind::Server | Kind::Network | Kind::Malformed => {
            "the provider gave no usable answer: run the agent again later; if you set `baseUrl` in [model], check it"
        }
        Kind::InvalidRequest => {
            "the provider does not accept the request: check [model], `baseUrl` included if you set it"
        }
        Kind::ContextOverflow => "the work did not fit into the model's context window: give the agent less at a time",
        Kind::Refusal => "the model will not do this: see the log for what it was asked",
        Kind::Limit => "raise the limit in [limits] if the work needs more",
    }
}

/// What the run was to be triggered by, before that is read.
fn wished(args: &Run) -> TriggerKind {
    if args.webhook.is_some() { TriggerKind::Webhook } else { TriggerKind::Manual }
}

/// The summary when nothing was run.
fn failure(agent: &str, trigger: TriggerKind, error: String) -> Summary {
    Summary {
        agent: agent.to_owned(),
        result: RunResult::Error.as_str(),
        trigger: trigger.as_str(),
        error: Some(error),
        ..Summary::default()
    }
}
