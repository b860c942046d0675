//! `al-agent`: the entry program of a container, from start-up to exit code (containers.md §10).

mod check;
mod children;
mod config;
mod credentials;
mod ending;
mod fit;
mod gateway;
mod git;
mod hardening;
mod harness;
mod model_session;
mod preflight;
mod prompt;
mod recorder;
mod report;
mod script;
mod session_log;
mod setup;
mod signals;
mod supervisor;
mod throttle;
mod usage;
mod watchdog;

use std::ffi::OsString;
use std::io::Write as _;
use std::panic;
use std::sync::Arc;

use anyhow::{Context as _, Result};

use self::credentials::Need;
use self::ending::Ending;
use self::gateway::Gateway;
use self::model_session::{Ended, Setting};
use self::report::{Field, Reporter};
use self::setup::Paths;
use self::usage::UsageSoFar;
use self::watchdog::{Termination, Watched};
use crate::cancel::Cancel;
use crate::env::Environment;
use crate::secret::Secret;
use crate::session::ToolGroups;
use crate::wire::exit;

/// Exit code for a command line that means nothing.
const USAGE_EXIT: i32 = 9;
const USAGE: &str = "usage: al-agent [--version | check]
Without arguments: performs the run that this container was started for.
  --version  prints version and revision
  check      looks up model and key without sending a request, prints a JSON object";

/// The program. Gives its exit code.
pub fn main(arguments: impl Iterator<Item = OsString>) -> i32 {
    let arguments: Vec<OsString> = arguments.skip(1).collect();
    match arguments.iter().map(|argument| argument.to_str()).collect::<Vec<_>>()[..] {
        [] => perform_run(),
        [Some("--version")] => {
            print_line(&format!("{} ({})", crate::VERSION, crate::REVISION));
            exit::OK
        }
        [Some("check")] => {
            let (answer, ok) = check::run();
            print_line(&answer.to_string());
            if ok { exit::OK } else { exit::FAILED }
        }
        _ => {
            let _ = writeln!(std::io::stderr(), "{USAGE}");
            USAGE_EXIT
        }
    }
}

/// Writes a line of output; a reader that has gone away is not an error.
fn print_line(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// One run, as supervisor or as the worker below it.
fn perform_run() -> i32 {
    let hardened = hardening::harden();
    if hardened.is_ok() && std::process::id() == 1 {
        match supervisor::supervise() {
            Ok(code) => return code,
            Err(error) => return fail_without_run(&error),
        }
    }
    match hardened.and_then(|()| Worker::new()) {
        Ok(worker) => worker.work(),
        Err(error) => fail_without_run(&error),
    }
}

/// Reports an error of a process that has not got as far as having a reporter.
fn fail_without_run(error: &anyhow::Error) -> i32 {
    match Reporter::to_stdout() {
        Ok(report) => report_fatal(error, &report),
        Err(_) => drop(writeln!(std::io::stderr(), "al-agent: {error:#}")),
    }
    exit::FAILED
}

fn report_fatal(error: &anyhow::Error, report: &Reporter) {
    let text = format!("{error:#}");
    report.error("container entry error", &[("error", Field::Text(&text)), ("stack", "".into())]);
}

/// The process that performs the run.
struct Worker {
    report: Arc<Reporter>,
    ending: Ending,
    usage: UsageSoFar,
    termination: Termination,
}

impl Worker {
    fn new() -> Result<Self> {
        // First of all: a SIGTERM from here on is acted on as soon as the watchdog runs.
        let termination = Termination::catch()?;
        let report = Arc::new(Reporter::to_stdout().context("open stdout")?);
        let (ending, usage) = (Ending::default(), UsageSoFar::default());
        report_panics(Arc::clone(&report));
        Ok(Self { report, ending, usage, termination })
    }

    /// Performs the run and gives its exit code, unless the watchdog ends the process before.
    fn work(self) -> i32 {
        let (report, ending) = (Arc::clone(&self.report), self.ending.clone());
        let result = self.perform();
        ending.claim_or_stand_still();
        match result {
            Ok(Finish::Evaluate { signals, output_length }) => signals::evaluate(&signals, output_length, &report),
            Ok(Finish::With(code)) => code,
            Err(error) => {
                report_fatal(&error, &report);
                exit::FAILED
            }
        }
    }

    /// The steps of containers.md §10.2.
    fn perform(self) -> Result<Finish> {
        let Self { report: shared_report, ending, usage, termination } = self;
        let report = &*shared_report;
        // 1–3: the place to work in, and what the host says about this run.
        let mut environment = Environment::of_process();
        let secret_variables = setup::take_private_variables(&mut environment);
        let paths = Paths::of(&environment);
        setup::prepare_directories(&paths, &mut environment)?;
        let run_file = setup::load_run_file(&environment)?;
        if let Some(run_file) = &run_file {
            setup::apply_run_file(run_file, &mut environment);
        }
        let run_secret = environment.get_non_empty("SHUTDOWN_SECRET").map(Secret::new);
        let run_secret = run_secret.as_ref().map(|secret| ("SHUTDOWN_SECRET", secret));
        report.mask_secrets(run_secret);
        setup::check_telemetry(&environment, report);

        // 4–6: what the agent is, how long it may take, and whether the gateway is there.
        let agent = config::load_agent(&paths, &mut environment, run_file.as_ref(), report)?;
        let prompt = prompt::load_dynamic_part(&paths, &mut environment)?;
        let gateway = Gateway::of(&environment);
        report_start(&agent, gateway.as_ref(), report);
        let (cancel, tool_groups) = (Cancel::new(), ToolGroups::default());
        let watched = Watched {
            report: Arc::clone(&shared_report),
            ending,
            usage: usage.clone(),
            cancel: cancel.clone(),
            tool_groups: tool_groups.clone(),
        };
        let deadline = watchdog::start(termination, agent.timeout, watched)?;
        if let Some(gateway) = &gateway {
            gateway.wait_until_reachable(report);
        }

        // 7–8: credentials, and what programs are told about them.
        let script = script::find(&paths.statics);
        let need = Need::of(&agent.config, script.is_some() || !agent.config.needs_model());
        let credentials = credentials::load(&paths, &secret_variables, gateway.as_ref(), need, report)?;
        report.mask_secrets(credentials.values().chain(run_secret));
        let models = match script {
            Some(_) => Vec::new(),
            None if !agent.config.needs_model() => credentials::models_at_hand(&agent.config, &credentials),
            None => credentials::choose_models(&agent.config, &credentials, report)?,
        };
        let refs = &agent.config.credentials;
        git::set_up(refs, &credentials, &paths.tmp, &mut environment, report)?;

        // 9–10: preparation, then the work itself.
        preflight::run(&agent.config.preflight, &paths.tmp, &environment, report)?;
        let signals = paths.signals();
        if let Some(script) = script {
            return Ok(match script::run(&script, &paths, &environment, report)? {
                exit::OK => Finish::Evaluate { signals, output_length: 0 },
                code => Finish::With(code),
            });
        }
        let prompt = prompt::assemble(&paths.statics, prompt)?;
        let setting = Setting { paths: &paths, environment, models, prompt, deadline, usage, cancel, tool_groups };
        let ended = match agent.config.external_harness() {
            Some(harness) => harness::hold(&agent, harness, setting, report)?,
            None => model_session::hold(&agent, setting, report)?,
        };
        Ok(match ended {
            Ended::Regularly { output_length } => Finish::Evaluate { signals, output_length },
            Ended::With(code) => Finish::With(code),
        })
    }
}

/// What is left to do when a run's work is over.
enum Finish {
    /// The signal files decide about the exit code.
    Evaluate {
        signals: std::path::PathBuf,
        output_length: usize,
    },
    With(i32),
}

fn report_start(agent: &config::Agent, gateway: Option<&Gateway>, report: &Reporter) {
    let model = agent.config.model_list().first().map(|model| model.model.as_str());
    let mut fields =
        vec![("agentName", Field::Text(&agent.config.name)), ("modelId", serde_json::Value::from(model).into())];
    if let Some(gateway) = gateway {
        fields.push(("gatewayUrl", gateway.url().into()));
    }
    report.info("container starting", &fields);
}

/// A panic anywhere is the end of the run: whatever state is left, nobody can vouch for it.
fn report_panics(report: Arc<Reporter>) {
    panic::set_hook(Box::new(move |info| {
        let payload = info.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("unknown");
        let error = format!("panic: {text}");
        let stack = info.location().map(ToString::to_string).unwrap_or_default();
        report.error("container entry error", &[("error", Field::Text(&error)), ("stack", Field::Text(&stack))]);
        std::process::exit(exit::FAILED);
    }));
}
