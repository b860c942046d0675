//! `al cron`: a schedule in words, and its next firings (scheduler.md §15.5).

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Result, anyhow, bail};
use serde_json::json;
use shims::env::Environment;

use crate::base::clock::UnixMs;
use crate::base::error::ConfigError;
use crate::base::files::{absolute_lexically, current_dir};
use crate::base::term::stdout;
use crate::base::text::printable;
use crate::cli::args::Cron;
use crate::cli::option;
use crate::config::schedule::{Schedule, Timestamp, Zone};
use crate::config::{self, Home, Loaded, Selection};
use crate::model::names::AgentName;

/// Firings that are listed when nobody says how many.
const DEFAULT_COUNT: usize = 5;

/// What is to be shown.
struct Question {
    schedule: Schedule,
    /// Whose it is.
    agent: Option<String>,
    zone: Zone,
    from: UnixMs,
    count: usize,
}

/// Explains a schedule.
pub(crate) fn run(args: Cron) -> Result<u8> {
    let show = if args.json { as_json } else { as_text };
    let text = show(&question(&args)?);
    stdout().write_all(text.as_bytes())?;
    Ok(0)
}

fn question(args: &Cron) -> Result<Question> {
    let environment = Environment::of_process();
    let zone = zone(args.tz.as_deref(), &environment)?;
    let from = match &args.from {
        Some(text) => from(text, &zone)?,
        None => UnixMs::now(),
    };
    let count = args.count.as_deref().map(|count| option::number("-n, --count <N>", count, 1..=1000));
    let count = count.transpose()?.unwrap_or(DEFAULT_COUNT);
    let is_agent = AgentName::parse(&args.schedule).is_ok();
    let schedule = if is_agent { of_agent(args, &environment)? } else { parse(&args.schedule)? };
    Ok(Question { schedule, agent: is_agent.then(|| args.schedule.clone()), zone, from, count })
}

fn zone(name: Option<&str>, environment: &Environment) -> Result<Zone> {
    if let Some(name) = name {
        let reason = "It is not an IANA time zone such as Europe/Berlin.";
        return Zone::parse(name).ok_or_else(|| anyhow!(option::invalid("--tz <zone>", name, reason)));
    }
    let system = Zone::system(environment);
    if let Some(warning) = system.warning {
        writeln!(std::io::stderr(), "Warning: {}", printable(&warning))?;
    }
    Ok(system.zone)
}

fn from(text: &str, zone: &Zone) -> Result<UnixMs> {
    let reason = "It is not an instant in the form of ISO 8601, for example 2031-05-01T09:00:00Z.";
    let timestamp = Timestamp::parse(text).ok_or_else(|| option::invalid("--from <instant>", text, reason))?;
    Ok(timestamp.instant(zone))
}

fn parse(text: &str) -> Result<Schedule> {
    Schedule::parse(text).map_err(|rejection| ConfigError(rejection.to_string()).into())
}

fn of_agent(args: &Cron, environment: &Environment) -> Result<Schedule> {
    let name = &args.schedule;
    let project = absolute_lexically(Path::new(&args.project), &current_dir()?);
    if let Some(problem) = config::directory_problem(&project, &format!("al cron {name}")) {
        bail!(ConfigError(problem));
    }
    let selection = Selection::of(args.env.as_deref(), environment);
    let loaded = config::load(&project, &Home::of(environment)?, &selection)?;
    loaded.require(name)?;
    match loaded.agent(name).and_then(|agent| agent.schedule.clone()) {
        Some(schedule) => Ok(schedule),
        None => bail!(ConfigError(why_there_is_none(&loaded, name))),
    }
}

/// The problems with an agent's `schedule`, or with its file when that cannot be read.
fn why_there_is_none(loaded: &Loaded, agent: &str) -> String {
    let is_readable = loaded.agent(agent).is_some();
    let problems = loaded.findings_of(agent).filter(|finding| finding.is_error() || finding.demoted);
    let of_schedule = problems.filter(|finding| !is_readable || finding.key.as_deref() == Some("schedule"));
    let texts: Vec<String> = of_schedule.map(ToString::to_string).collect();
    if texts.is_empty() {
        format!("agents/{agent}/agent-config.toml: schedule: agent \"{agent}\" has none")
    } else {
        texts.join("\n")
    }
}

fn as_text(question: &Question) -> String {
    let Question { schedule, zone, .. } = question;
    let mut text = format!("\"{}\" ({})\n{}\n", printable(schedule.text()), zone.name(), schedule.in_words());
    let before = text.len();
    for at in firings(question) {
        let _ = writeln!(text, "{at}  {}", zone.show(at));
    }
    if text.len() == before {
        text.push_str("never fires\n");
    }
    text
}

fn as_json(question: &Question) -> String {
    let next: Vec<String> = firings(question).map(UnixMs::to_iso).collect();
    let Question { schedule, agent, zone, from, .. } = question;
    let mut document = json!({"expr": schedule.text(), "tz": zone.name(), "from": from.to_iso(), "next": next});
    if let Some(agent) = agent {
        document["agent"] = json!(agent);
    }
    format!("{document}\n")
}

fn firings(question: &Question) -> impl Iterator<Item = UnixMs> {
    question.schedule.upcoming(&question.zone, question.from).take(question.count)
}
