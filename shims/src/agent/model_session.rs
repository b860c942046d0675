//! Holds the model session of a run and turns its outcome into log lines and an exit code (containers.md §10.8,
//! agent-session.md §6.4).

use std::path::Path;
use std::time::{Instant, SystemTime};

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::Value;

use super::config::Agent;
use super::ending::stand_still;
use super::fit::{self, Around};
use super::prompt::{self, Prompt};
use super::recorder::Recorder;
use super::report::Reporter;
use super::session_log::{SessionLog, log_failure};
use super::setup::Paths;
use super::usage::UsageSoFar;
use crate::cancel::Cancel;
use crate::env::Environment;
use crate::session::event::Event;
use crate::session::prompt::{Audience, SystemPrompt};
use crate::session::provider::Model;
use crate::session::{self, End, Input, ModelChoice, Outcome, Surroundings, ToolGroups, providers};
use crate::wire::{exit, paths};

/// What a session needs besides the agent.
pub(super) struct Setting<'a> {
    pub paths: &'a Paths,
    pub environment: Environment,
    /// Empty only when another program holds the session.
    pub models: Vec<ModelChoice>,
    pub prompt: Prompt,
    pub deadline: Instant,
    pub usage: UsageSoFar,
    /// Both are also the watchdog's.
    pub cancel: Cancel,
    pub tool_groups: ToolGroups,
}

/// How a session ended.
pub(super) enum Ended {
    /// In its own way; the signal files decide. Characters that the model wrote.
    Regularly { output_length: usize },
    /// With this exit code.
    With(i32),
}

/// Holds the session.
///
/// # Errors
/// It cannot begin.
pub(super) fn hold(agent: &Agent, setting: Setting<'_>, report: &Reporter) -> Result<Ended> {
    let Setting { paths, mut environment, models, prompt, deadline, usage, cancel, tool_groups } = setting;
    let system = system_prompt(agent, paths, &paths.tools, Audience::Unattended);
    let first = models.first().context("no model is left")?;
    let model = look_up(first, &environment)?;
    let around = Around { system: &system, instructions: &agent.instructions };
    let whole_trigger = |trigger: &str| prompt::ensure_file(trigger, &paths.tmp, &mut environment);
    let prompt = fit::fit(prompt, &around, &model, whole_trigger, report)?.join();
    let mut recorder = Recorder::of(&environment, &model, report)?;
    let mut log = SessionLog::new(report, usage.clone(), prompt.chars().count());
    if agent.config.limits.threads() > 1 {
        log = log.with_call_ids();
    }
    let input = Input {
        system,
        models,
        tool_dir: paths.tools.clone(),
        tmp_dir: paths.tmp.clone(),
        environment,
        exit_file: Some(paths.signals().join("exit")),
        deadline: Some(deadline),
        time_limit: Some(agent.timeout),
        limits: agent.config.limits.clone(),
        secrets: report.masker(),
        tool_groups: tool_groups.clone(),
        surroundings: Surroundings::Container,
    };
    let outcome = session::run(input, prompt, cancel, &mut |event: Event<'_>| {
        log.handle(&event);
        recorder.iter_mut().for_each(|recorder| recorder.handle(&event));
    });
    tool_groups.close();
    conclude(outcome, log.event_count(), &usage, report)
}

/// The last lines of a session, and how it ended.
///
/// # Errors
/// It could not begin.
fn conclude(outcome: Outcome, events: u64, usage: &UsageSoFar, report: &Reporter) -> Result<Ended> {
    match &outcome.end {
        // Only the watchdog ends a session from outside, and it ends the process as well.
        End::Cancelled | End::OutOfTime => stand_still(),
        End::NotStarted { reason } => bail!("{reason}"),
        End::Failed { .. } => {}
        End::Completed | End::Aborted => report.info(
            "prompt returned",
            &[
                ("eventCount", events.into()),
                ("resultType", "undefined".into()),
                ("resultKeys", Value::Array(Vec::new()).into()),
            ],
        ),
    }
    // The first one has a line of its own.
    if outcome.secrets_found > 1 {
        report.info("secrets in tool output", &[("count", outcome.secrets_found.into())]);
    }
    usage.set(outcome.usage);
    usage.log(report);
    Ok(match outcome.end {
        End::Failed { error, provider, model } => {
            log_failure(&error, &provider, &model, report);
            Ended::With(error.kind.exit_code())
        }
        End::Aborted => Ended::With(exit::FAILED),
        _ => Ended::Regularly { output_length: outcome.text.chars().count() },
    })
}

/// Looks up a model; nothing is sent.
///
/// # Errors
/// Its configuration cannot be used.
pub(super) fn look_up(choice: &ModelChoice, environment: &Environment) -> Result<Model> {
    let provider = providers::connect(choice, environment, &mut |_| {}).map_err(|problem| anyhow!(problem))?;
    Ok(provider.model().clone())
}

/// The system prompt for a session whose tools work in `tool_dir`.
pub(super) fn system_prompt(agent: &Agent, paths: &Paths, tool_dir: &Path, audience: Audience) -> String {
    SystemPrompt {
        agent: &agent.config.name,
        instructions_path: &paths.statics.join(paths::INSTRUCTIONS_NAME).to_string_lossy(),
        instructions: &agent.instructions,
        tool_dir: &tool_dir.to_string_lossy(),
        now: SystemTime::now(),
        audience,
    }
    .render()
}
