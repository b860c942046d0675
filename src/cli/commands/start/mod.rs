//! `al start`: scheduler and gateway, until somebody stops them (scheduler.md §2).

use std::convert::Infallible;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use crossbeam_channel::{Receiver, bounded, select};
use shims::env::Environment;

use crate::base::crash;
use crate::base::error::ConfigError;
use crate::base::files::{absolute_lexically, current_dir};
use crate::base::log::Log;
use crate::base::term::stdout;
use crate::base::worker;
use crate::cli::args::Start;
use crate::cli::interaction::Interaction;
use crate::cli::option;
use crate::config::webhook::Exposure;
use crate::config::{self, Home, Loaded, Selection};
use crate::credentials::Store as CredentialStore;
use crate::run::life::log_dir;
use crate::scheduler::handle::{Event, Handle};
use crate::scheduler::lock::ProjectLock;
use crate::scheduler::outlet::{Outlet, outlet};
use crate::scheduler::shell::{Phase, Stopped};
use crate::setup::doctor::{self, Options, Scope, Strictness, Verbosity};
use crate::setup::remote_start::{self, Teller};
use crate::setup::repair::{self, Repair};
use crate::ui::dialogs::Terminal;
use signals::Signals;
use view::{Form, View};

mod check;
mod database;
mod listeners;
mod signals;
mod view;
mod wiring;

/// What a start elsewhere says.
struct ToStreams;

impl Teller for ToStreams {
    fn say(&mut self, text: &str) -> Result<()> {
        Ok(writeln!(stdout(), "{text}")?)
    }

    fn warn(&mut self, text: &str) -> Result<()> {
        Ok(writeln!(std::io::stderr(), "Warning: {text}")?)
    }
}

/// Events that may wait for the scheduler; whoever sends more waits.
const EVENTS: usize = 1024;

/// What a start goes by.
struct Plan {
    loaded: Loaded,
    credentials: CredentialStore,
    environment: Environment,
    exposure: Exposure,
    dashboard: bool,
    log: Arc<Log>,
}

/// Runs the scheduler and gives the exit status.
pub(crate) fn run(args: Start) -> Result<u8> {
    super::heap::limit();
    let port = args.port.as_deref().map(|port| option::number("--port <number>", port, 1..=65535)).transpose()?;
    let port = port.and_then(|port| u16::try_from(port).ok());
    let environment = Environment::of_process();
    let project = absolute_lexically(Path::new(&args.project), &current_dir()?);
    if let Some(problem) = config::directory_problem(&project, "al start") {
        bail!(problem);
    }
    let home = Home::of(&environment)?;
    let mut loaded = config::load(&project, &home, &Selection::of(args.env.as_deref(), &environment))?;
    if let Some(remote) = loaded.project.environment.as_ref().filter(|found| found.server.is_some()) {
        return remote_start::run(&remote.name, &home, &environment, &mut ToStreams).map(|()| 0);
    }
    let credentials = CredentialStore::at(home.credentials());
    let exposure = if args.expose { Exposure::Exposed } else { Exposure::Loopback };
    check(&loaded, &credentials, exposure, args.headless, &environment)?;
    if let Some(port) = port {
        loaded.project.settings.gateway.port = port;
    }

    let (sender, events) = bounded(EVENTS);
    let handle = Handle::new(sender);
    let signals = Signals::listen(handle.clone())?;
    let lock = ProjectLock::for_scheduler(&project)?;
    let log = Arc::new(Log::new(&log_dir(&project), "scheduler"));
    let form = if args.headless { Form::Lines } else { Form::Terminal };
    let project_name = loaded.project.settings.project_name.clone();
    let view = View::start(form, handle.clone(), project_name, &log_dir(&project))?;
    let plan = Plan { loaded, credentials, environment, exposure, dashboard: args.web_ui, log };
    let ended = carry_out(plan, &handle, events, &signals, &lock);
    view.stop();
    match (ended, signals.first()) {
        (Ok(Stopped::Cleanly), _) => Ok(0),
        (Ok(Stopped::ByForce { signal }), _) => Ok(u8::try_from(128 + signal).unwrap_or(1)),
        // What failed before everything ran, failed because of the signal.
        (Err(_), Some(_)) => Ok(0),
        (Err(error), None) => Err(error),
    }
}

/// The check of everything that a start needs; silent when all is well. A person is asked for missing credentials.
fn check(
    loaded: &Loaded,
    credentials: &CredentialStore,
    exposure: Exposure,
    headless: bool,
    environment: &Environment,
) -> Result<()> {
    let options = Options { scope: Scope::Project, strictness: Strictness::Normal, exposure };
    let report = doctor::check(loaded, credentials, &options)?;
    let (mut out, mut err) = (stdout(), std::io::stderr());
    match Interaction::of(headless, environment) {
        Interaction::Nobody => report.conclude(Verbosity::Silent, &mut out, &mut err)?,
        Interaction::Person => {
            report.print_findings(Verbosity::Silent, &mut out, &mut err)?;
            let mut terminal = Terminal::new();
            let missing = Repair { store: credentials, environment, prompter: &mut terminal }.missing(&report)?;
            repair::conclude(&missing)?;
        }
    }
    if loaded.discovered.is_empty() {
        let agents = loaded.project.dir.join("agents");
        let text = format!("no agents found in {}\n  create a project with `al new`", agents.display());
        return Err(ConfigError(text).into());
    }
    Ok(())
}

fn carry_out(
    plan: Plan,
    handle: &Handle,
    events: Receiver<Event>,
    signals: &Signals,
    lock: &ProjectLock,
) -> Result<Stopped> {
    let (outlet, inlet) = outlet();
    let database = database::open(&plan, &outlet)?;
    let store = Arc::clone(&database.store);
    let wired = wiring::wire(&plan, database, handle, events, outlet.clone(), inlet, signals.token())?;
    let wiring::Wired { scheduler, mut listeners, phases } = wired;
    lock.set_port(listeners.port())?;
    let (alive, ended) = bounded::<Infallible>(0);
    let thread = worker::spawn("scheduler", move || {
        let _told_when_dropped = alive;
        scheduler.run()
    })?;
    loop {
        let phase = select! {
            recv(phases) -> phase => phase,
            // Whatever has ended it.
            recv(ended) -> _ => break,
        };
        let Ok(phase) = phase else { break };
        match phase {
            Phase::Ready => crash::point("ready"),
            Phase::NetworkChanged(_told_when_dropped) => listeners.follow_network(),
            Phase::Closing { left } => {
                let _ = lock.clear_port();
                listeners.close();
                say_what_is_left(left);
                outlet.gateway_closed();
            }
        }
    }
    listeners.close();
    let stopped = worker::join(thread)?;
    store.close().context("close the database")?;
    stopped
}

fn say_what_is_left(left: usize) {
    if left > 0 {
        let runs = if left == 1 { "1 run goes on".to_owned() } else { format!("{left} runs go on") };
        let _ = writeln!(std::io::stderr(), "{runs}; the next `al start` takes over. Interrupt again to kill.");
    }
}

/// The agents of a project whose files have changed, checked as at a start.
fn checker(credentials: CredentialStore) -> crate::scheduler::shell::Check {
    Box::new(move |project, name| check::agent(project, name, &credentials))
}

/// Tells the scheduler's outlet of the store's health.
fn report_health(outlet: &Outlet) -> impl Fn(crate::store::Health) + Send + Sync + 'static {
    let outlet = outlet.clone();
    move |health| outlet.storage(health)
}
