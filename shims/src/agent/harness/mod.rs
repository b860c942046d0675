//! Another agent program in place of the built-in loop (agent-session.md §22.1): it is started with the same prompt, and
//! what it prints becomes the lines that a session of our own would leave.

mod claude;
mod codex;
mod findings;
mod pi;
mod plan;
mod process;
mod text;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use self::findings::Findings;
use self::plan::{Output, Plan};
use self::process::{Exit, Happening, Process};
use super::config::Agent;
use super::ending::stand_still;
use super::model_session::{Ended, Setting, system_prompt};
use super::report::{Field, Reporter};
use super::session_log::log_failure;
use crate::session::Budget;
use crate::session::prompt::Audience;
use crate::session::providers::MOST_TOKENS;
use crate::wire::config::Harness;
use crate::wire::exit;

/// Longest line of stderr, and of output that means nothing to us, in a log line; in characters.
const LINE: usize = 2000;

/// Reads what a program prints.
trait Reading {
    /// A line of stdout with its end, which the last one may lack.
    fn line(&mut self, line: &[u8], findings: &mut Findings<'_>);

    /// There will be no further line.
    fn end(&mut self, _: &mut Findings<'_>) {}
}

/// Runs the program to its end.
///
/// # Errors
/// It cannot be started.
pub(super) fn hold(agent: &Agent, harness: &Harness, setting: Setting<'_>, report: &Reporter) -> Result<Ended> {
    let system = system_prompt(agent, setting.paths, &setting.paths.tmp, Audience::UnattendedElsewhere);
    let choice = setting.models.first();
    let plan = Plan::of(harness, choice, system, setting.prompt.join(), setting.paths, setting.environment, report)?;
    let (provider, model) = choice.map_or(("", ""), |choice| (&*choice.config.provider, &*choice.config.model));
    announce(harness, provider, model, &plan, report);
    setting.usage.start();
    let process = Process::start(&plan).with_context(|| plan::cannot_start(plan.program(), &agent.config.name))?;

    let budget = Budget::new(agent.config.limits.clone(), None);
    let mut findings = Findings::new(report, setting.usage.clone(), budget);
    let mut reading: Box<dyn Reading> = match plan.output {
        Output::Text => Box::new(text::Reading::default()),
        Output::Claude => Box::new(claude::Reading::default()),
        Output::Codex => Box::new(codex::Reading),
        Output::Pi => Box::new(pi::Reading),
    };
    let mut last_words = String::new();
    let exit = process.watch(|happening| {
        match happening {
            Happening::Printed(bytes) => reading.line(bytes, &mut findings),
            Happening::Complained(line) => {
                let line = String::from_utf8_lossy(line);
                if !line.trim().is_empty() {
                    report.warn("harness stderr", &[("text", Field::Cut(line.trim_end(), LINE))]);
                    last_words = findings.brief(&line);
                }
            }
        }
        !findings.is_hopeless() && findings.used_up().is_none()
    });
    reading.end(&mut findings);
    if setting.cancel.is_cancelled() {
        // The watchdog has ended it, and ends this process as well.
        stand_still();
    }
    let exit = exit.context("wait for the harness")?;
    Ok(conclude(&findings, exit, &plan, &last_words, (provider, model), report))
}

fn announce(harness: &Harness, provider: &str, model: &str, plan: &Plan, report: &Reporter) {
    let mut fields = Vec::new();
    if !provider.is_empty() {
        fields.extend([("model", Field::Text(model)), ("provider", provider.into())]);
    }
    fields.push(("harness", harness.kind.as_str().into()));
    report.info("creating agent session", &fields);
    let length = json!(plan.prompt_length);
    report.info("session created, sending prompt", &[("promptLength", length.into())]);
}

/// The last lines of a session, and how it ended.
fn conclude(
    findings: &Findings<'_>,
    exit: Exit,
    plan: &Plan,
    last_words: &str,
    (provider, model): (&str, &str),
    report: &Reporter,
) -> Ended {
    if let Some(error) = findings.used_up() {
        findings.log_usage();
        log_failure(error, provider, model, report);
        return Ended::With(error.kind.exit_code());
    }
    let failure = match (findings.is_hopeless(), exit) {
        (true, _) => None,
        (false, Exit::Code(0)) => findings.failure().map(|failure| (failure.to_owned(), exit::UNRECOVERABLE)),
        (false, Exit::Code(code)) => {
            let meaning = (exit::AUTH..=exit::ABORT).contains(&code);
            Some((describe(plan, &exit, findings, last_words), if meaning { code } else { exit::UNRECOVERABLE }))
        }
        (false, Exit::Signal(_)) => Some((describe(plan, &exit, findings, last_words), exit::UNRECOVERABLE)),
    };
    if failure.is_none() {
        report.info(
            "prompt returned",
            &[
                ("eventCount", findings.events().into()),
                ("resultType", "undefined".into()),
                ("resultKeys", Value::Array(Vec::new()).into()),
            ],
        );
    }
    findings.log_usage();
    match failure {
        _ if findings.is_hopeless() => Ended::With(exit::FAILED),
        None => Ended::Regularly { output_length: findings.output_length() },
        Some((error, code)) => {
            let mut fields =
                vec![("error", Field::Text(&error)), ("kind", "harness".into()), ("status", exit.status().into())];
            if !model.is_empty() {
                fields.extend([("provider", provider.into()), ("model", model.into())]);
            }
            report.error("session error", &fields);
            Ended::With(code)
        }
    }
}

fn describe(plan: &Plan, exit: &Exit, findings: &Findings<'_>, last_words: &str) -> String {
    let program = plan.program();
    let mut text = match exit {
        Exit::Code(code) => format!("{program} ended with status {code}"),
        Exit::Signal(signal) => format!("{program} was ended by signal {signal}"),
    };
    for said in [findings.failure().unwrap_or_default(), last_words] {
        if !said.is_empty() {
            text += &format!(": {said}");
            break;
        }
    }
    text
}

/// The object that a line is; `None`, after a debug line, when it is none.
fn object(line: &[u8], findings: &mut Findings<'_>) -> Option<Map<String, Value>> {
    if line.trim_ascii().is_empty() {
        return None;
    }
    match serde_json::from_slice(line) {
        Ok(object) => Some(object),
        Err(_) => {
            findings.unknown(&String::from_utf8_lossy(line));
            None
        }
    }
}

/// A member that is text.
fn text_of<'v>(object: &'v Map<String, Value>, name: &str) -> &'v str {
    object.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// A member that is a number of tokens.
fn count_of(object: Option<&Value>, name: &str) -> u64 {
    object.and_then(|object| object.get(name)).and_then(Value::as_u64).unwrap_or(0).min(MOST_TOKENS)
}

/// Text of a string, or of the text parts of a list.
fn content_text(content: Option<&Value>) -> String {
    match content {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            parts.iter().filter_map(|part| part.get("text")?.as_str()).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests;
