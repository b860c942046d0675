//! `al stat` and `al status`: what the scheduler says, laid over what the configuration says (cli-config.md §6.8).

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::Duration;

use anyhow::{Result, bail};
use serde::Deserialize as _;
use serde_json::{Value, json};
use shims::wire::usage::Usage;

use crate::base::clock::UnixMs;
use crate::base::term::stdout;
use crate::base::text::printable_json;
use crate::cli::args::Stat;
use crate::cli::gateway_client::{GatewayClient, Reach, reach, silent};
use crate::cli::site::Site;
use crate::config::{Agent, Finding, Rule};
use crate::model::status::{AgentState, AgentStatus};
use crate::ui::stat_view::{self, AgentRow, AgentView, Columns, InstanceRow, LockRow, Overview, SchedulerPart};

/// What is shown where nobody knows.
const UNKNOWN: &str = "-";

/// What a gateway said.
struct Live {
    url: String,
    /// Answer of `/control/status`.
    status: Value,
    locks: Vec<Value>,
}

/// `al stat` and, with another column, `al status`.
pub(crate) fn run(args: Stat, columns: Columns) -> Result<u8> {
    let site = Site::open(&args.project, args.env.as_deref(), "al stat")?;
    let live = look(&site)?;
    if let Some(name) = &args.agent
        && !site.has_agent(name)
        && live.as_ref().is_none_or(|live| live.agent(name).is_none())
    {
        bail!(site.unknown_agent(name));
    }
    let text = match (&args.agent, args.json) {
        (only, true) => {
            printable_json(&document(&site, live.as_ref(), only.as_deref()).to_string()).into_owned() + "\n"
        }
        (Some(name), false) => stat_view::agent(&agent_view(&site, live.as_ref(), name)),
        (None, false) => stat_view::overview(&overview(&site, live.as_ref()), columns),
    };
    stdout().write_all(text.as_bytes())?;
    Ok(0)
}

/// Asks the gateway, if there is one. On this machine, without an environment, one that does not answer is a warning:
/// the configuration can still be shown.
fn look(site: &Site) -> Result<Option<Live>> {
    let client = match reach(site)? {
        Reach::NotRunning => return Ok(None),
        Reach::Silent(holder) => {
            warn(&silent(site, &holder, None).text)?;
            return Ok(None);
        }
        Reach::At(client) => client,
    };
    match ask(&client) {
        Err(error) if client.is_local() && !site.has_environment() => {
            warn(&format!("{error:#}"))?;
            Ok(None)
        }
        answer => answer.map(Some),
    }
}

fn ask(client: &GatewayClient) -> Result<Live> {
    let status = client.get("/control/status")?;
    if !status.get("agents").is_some_and(Value::is_array) {
        return Err(client.malformed(&status, "has no agents").into());
    }
    let locks = client.get("/locks/status")?;
    let locks = locks.get("locks").and_then(Value::as_array).cloned().unwrap_or_default();
    Ok(Live { url: client.url().to_owned(), status, locks })
}

fn warn(text: &str) -> Result<()> {
    writeln!(std::io::stderr(), "Warning: {text}")?;
    Ok(())
}

impl Live {
    fn list(&self, name: &str) -> impl Iterator<Item = &Value> {
        self.status.get(name).and_then(Value::as_array).into_iter().flatten()
    }

    fn agent(&self, name: &str) -> Option<&Value> {
        self.list("agents").find(|agent| agent["name"] == name)
    }

    fn instances(&self, only: Option<&str>) -> Vec<InstanceRow> {
        let wanted = self.list("instances").filter(|instance| only.is_none_or(|only| instance["agentName"] == only));
        wanted
            .map(|instance| InstanceRow {
                agent: text(instance, "agentName"),
                id: text(instance, "id"),
                status: text(instance, "status"),
                trigger: text(instance, "trigger"),
                started: text(instance, "startedAt"),
            })
            .collect()
    }
}

/// A member as text; empty when it is none.
fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn overview(site: &Site, live: Option<&Live>) -> Overview {
    let reported = live.into_iter().flat_map(|live| live.list("agents")).map(|agent| text(agent, "name"));
    let names: BTreeSet<String> = site.loaded.discovered.iter().cloned().chain(reported).collect();
    let locks = live.map(|live| live.locks.iter().map(lock_row).collect()).unwrap_or_default();
    Overview {
        project: site.dir().display().to_string(),
        scheduler: live.map(scheduler_part),
        agents: names.iter().map(|name| agent_row(site, live, name)).collect(),
        instances: live.map(|live| live.instances(None)).unwrap_or_default(),
        locks,
    }
}

fn scheduler_part(live: &Live) -> SchedulerPart {
    let info = &live.status["scheduler"];
    let or = |name: &str, other: &str| info.get(name).and_then(Value::as_str).unwrap_or(other).to_owned();
    let status = match (info.is_object(), info["paused"] == true) {
        (false, _) => "Starting",
        (true, true) => "PAUSED",
        (true, false) => "Running",
    };
    SchedulerPart {
        status: status.to_owned(),
        mode: or("mode", "docker"),
        runtime: or("runtime", "local"),
        gateway: live.url.clone(),
        docker_error: info.get("dockerError").and_then(Value::as_str).map(|error| format!("not answering: {error}")),
    }
}

fn lock_row(lock: &Value) -> LockRow {
    let since = lock.get("heldSince").and_then(Value::as_i64).map(UnixMs);
    LockRow {
        agent: text(lock, "agentName"),
        key: text(lock, "resourceKey"),
        held_for: since.map_or(Duration::ZERO, |since| UnixMs::now().since(since)),
    }
}

fn agent_row(site: &Site, live: Option<&Live>, name: &str) -> AgentRow {
    let configured = site.loaded.agent(name);
    let broken = problem(site, name);
    let reported = live.and_then(|live| live.agent(name));
    let number = |member: &str| reported.and_then(|agent| agent.get(member)?.as_u64());
    let trigger = match (configured, &broken) {
        (_, Some(_)) => "(invalid config)",
        (Some(agent), None) => trigger(agent),
        (None, None) => UNKNOWN,
    };
    let status = match (reported, live) {
        (Some(agent), _) => reported_status(agent),
        (None, _) if configured.is_some_and(|agent| !agent.is_enabled()) => "Disabled",
        (None, None) if broken.is_none() => "Idle",
        (None, _) => UNKNOWN,
    };
    let waiting = live.and_then(|live| live.status["queueSizes"].get(name)?.as_u64());
    let or_unknown =
        |number: Option<u64>, unit: &str| number.map_or_else(|| UNKNOWN.to_owned(), |number| format!("{number}{unit}"));
    AgentRow {
        name: name.to_owned(),
        trigger: trigger.to_owned(),
        status: status.to_owned(),
        instances: or_unknown(number("runningCount"), " running"),
        usage: reported.and_then(|agent| usage(agent, "cumulativeUsage")),
        queue: or_unknown(waiting.or(number("queuedWebhooks")), ""),
    }
}

/// A member as usage; `None` when it is none.
fn usage(agent: &Value, member: &str) -> Option<Usage> {
    agent.get(member).filter(|usage| usage.is_object()).and_then(|usage| Usage::deserialize(usage).ok())
}

fn reported_status(agent: &Value) -> &'static str {
    if agent["scale"] == 0 {
        "Disabled"
    } else if agent["enabled"] == false {
        "PAUSED"
    } else if agent.get("runningCount").and_then(Value::as_u64).unwrap_or(0) > 0 {
        "Running"
    } else {
        "Idle"
    }
}

fn trigger(agent: &Agent) -> &'static str {
    match (agent.schedule.is_some(), agent.triggers.is_empty()) {
        (true, true) => "cron",
        (true, false) => "cron + webhook",
        (false, false) => "webhook",
        (false, true) => "(manual)",
    }
}

/// What is wrong with an agent's own files, when they cannot be used. Without a trigger it can still be run by hand.
fn problem<'s>(site: &'s Site, name: &'s str) -> Option<&'s Finding> {
    let of_files = |finding: &&Finding| finding.is_error() && !matches!(finding.rule, Rule::NoTrigger | Rule::Scale);
    site.loaded.findings_of(name).find(of_files)
}

fn agent_view(site: &Site, live: Option<&Live>, name: &str) -> AgentView {
    let reported = live.and_then(|live| live.agent(name));
    AgentView {
        name: name.to_owned(),
        paused: reported.is_some_and(|agent| reported_status(agent) == "PAUSED"),
        config: config_lines(site, name),
        usage: ["lastRunUsage", "cumulativeUsage"].map(|member| reported.and_then(|agent| usage(agent, member))),
        instances: live.map(|live| live.instances(Some(name))),
    }
}

fn config_lines(site: &Site, name: &str) -> Vec<String> {
    if let Some(problem) = problem(site, name) {
        return vec!["(invalid config)".to_owned(), problem.to_string()];
    }
    let Some(agent) = site.loaded.agent(name) else { return vec!["(not in this project)".to_owned()] };
    let mut lines = vec![format!("Schedule: {}", agent.schedule.as_ref().map_or("(none)", |schedule| schedule.text()))];
    if !agent.triggers.is_empty() {
        lines.push("Webhooks:".to_owned());
    }
    for trigger in &agent.triggers {
        let events = match trigger.filter.events.as_slice() {
            [] => "all events".to_owned(),
            events => events.join(", "),
        };
        let repos = match trigger.filter.repos.as_slice() {
            [] => String::new(),
            repos => format!("; repos: {}", repos.join(", ")),
        };
        lines.push(format!("  {}: {events}{repos}", trigger.source));
    }
    if agent.scale > 1 {
        lines.push(format!("Scale: {}", agent.scale));
    }
    if agent.baked().other.contains_key("timeout") {
        lines.push(format!("Timeout: {}s", agent.timeout));
    }
    lines
}

/// The JSON form: the gateway's own words, or what the configuration says.
fn document(site: &Site, live: Option<&Live>, only: Option<&str>) -> Value {
    let of = |value: &&Value, member: &str| only.is_none_or(|only| value[member] == only);
    match live {
        Some(live) => json!({
            "scheduler": live.status["scheduler"],
            "agents": live.list("agents").filter(|agent| of(agent, "name")).collect::<Vec<_>>(),
            "instances": live.list("instances").filter(|instance| of(instance, "agentName")).collect::<Vec<_>>(),
            "locks": live.locks.iter().filter(|lock| of(lock, "agentName")).collect::<Vec<_>>(),
        }),
        None => {
            let names = site.loaded.discovered.iter().filter(|name| only.is_none_or(|only| *name == only));
            let agents: Vec<AgentStatus> = names.map(|name| from_configuration(site, name)).collect();
            json!({"scheduler": null, "agents": agents, "instances": [], "locks": []})
        }
    }
}

fn from_configuration(site: &Site, name: &str) -> AgentStatus {
    let scale = site.loaded.agent(name).map_or(0, |agent| u32::try_from(agent.scale).unwrap_or(u32::MAX));
    let idle = AgentStatus::idle(name, scale, 0);
    match problem(site, name) {
        Some(problem) => AgentStatus {
            state: AgentState::Error,
            enabled: false,
            last_error: Some(crate::base::text::cut(&problem.to_string(), 300).to_owned()),
            ..idle
        },
        None => idle,
    }
}
