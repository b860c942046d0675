//! `al stats`: what ended runs came to, from the project's own database (cli-config.md §14.2). Whether a scheduler runs
//! makes no difference.

use std::io::Write as _;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::base::clock::UnixMs;
use crate::base::error::UsageError;
use crate::base::term::stdout;
use crate::base::text::printable_json;
use crate::cli::args::Stats;
use crate::cli::option;
use crate::cli::site::Site;
use crate::gateway::{run_json, sums_json};
use crate::model::names::AgentName;
use crate::store::history::{self, Sums};
use crate::store::reader::Reader;
use crate::ui::stats_view;

/// How far back is looked when nobody says.
const USUAL_SPAN: &str = "7d";
/// Runs of an agent that are listed when nobody says how many.
const USUAL_RUNS: usize = 20;
const SINCE: &str = "-s, --since <span>";

/// Shows what runs came to.
pub(crate) fn run(args: Stats) -> Result<u8> {
    let span = args.since.as_deref().unwrap_or(USUAL_SPAN);
    let since = option::ago(span, UnixMs::now()).ok_or_else(|| {
        option::invalid(SINCE, span, "It must be a number with m, h or d behind it, for example 24h, 7d or 30d.")
    })?;
    let lines = args.lines.as_deref().map(|lines| option::number("-n, --lines <N>", lines, 1..=100_000));
    let lines = lines.transpose()?.unwrap_or(USUAL_RUNS);
    if args.agent.is_some() && args.calls {
        bail!(UsageError("error: option '--calls' cannot be used with argument 'agent'".to_owned()));
    }
    let site = Site::without_environment(&args.project, "al stats")?;
    let database = Reader::open(&site.dir().join(".al"))?;
    if let Some(name) = &args.agent
        && !(AgentName::parse(name).is_ok() && (site.has_agent(name) || has_run(database.as_ref(), name)?))
    {
        site.loaded.require(name)?;
    }
    let answer = match (&database, &args.agent) {
        (None, _) => Answer::empty(&args, since),
        (Some(database), Some(agent)) => {
            // Its last ones, however long ago, unless somebody asks for a time.
            let since = args.since.as_ref().map_or(UnixMs(0), |_| since);
            of_agent(database, agent, since, lines)?
        }
        (Some(database), None) if args.calls => calls(database, since)?,
        (Some(database), None) => agents(database, since)?,
    };
    let text = match (args.json, answer.is_empty) {
        (true, _) => format!("{}\n", printable_json(&answer.document.to_string())),
        (false, true) => "No runs recorded.\n".to_owned(),
        (false, false) => answer.text,
    };
    stdout().write_all(text.as_bytes())?;
    Ok(0)
}

/// An answer in both forms.
struct Answer {
    text: String,
    document: Value,
    is_empty: bool,
}

impl Answer {
    /// What is said of a project that has no database.
    fn empty(args: &Stats, since: UnixMs) -> Self {
        let document = match &args.agent {
            Some(agent) => json!({"agent": agent, "runs": [], "total": 0}),
            None if args.calls => json!({"since": since.to_iso(), "calls": []}),
            None => json!({"since": since.to_iso(), "agents": [], "total": sums_json(&Sums::default())}),
        };
        Self { text: String::new(), document, is_empty: true }
    }
}

fn has_run(database: Option<&Reader>, agent: &str) -> Result<bool> {
    let Some(database) = database else { return Ok(false) };
    Ok(database.read(|db| history::runs_of(db, agent, UnixMs(0), 0, 0))?.total > 0)
}

fn of_agent(database: &Reader, agent: &str, since: UnixMs, limit: usize) -> Result<Answer> {
    let limit = u32::try_from(limit).unwrap_or(u32::MAX);
    let page = database.read(|db| history::runs_of(db, agent, since, limit, 0))?;
    let document =
        json!({"agent": agent, "runs": page.runs.iter().map(run_json).collect::<Vec<_>>(), "total": page.total});
    Ok(Answer { text: stats_view::runs(&page.runs), document, is_empty: page.runs.is_empty() })
}

fn calls(database: &Reader, since: UnixMs) -> Result<Answer> {
    let edges = database.read(|db| history::edges(db, since))?;
    let calls = edges.iter().map(|edge| {
        json!({"callerAgent": edge.caller, "targetAgent": edge.target, "count": edge.runs,
            "avgDepth": edge.average_depth(), "avgDurationMs": edge.average_ms()})
    });
    let document = json!({"since": since.to_iso(), "calls": calls.collect::<Vec<_>>()});
    Ok(Answer { text: stats_view::calls(&edges), document, is_empty: edges.is_empty() })
}

fn agents(database: &Reader, since: UnixMs) -> Result<Answer> {
    let sums = database.read(|db| history::summary(db, since))?;
    let agents: Vec<Value> = sums
        .iter()
        .map(|(agent, sums)| {
            let mut members = serde_json::Map::from_iter([("agentName".to_owned(), Value::from(agent.as_str()))]);
            members.extend(sums_json(sums));
            Value::Object(members)
        })
        .collect();
    let total = sums.iter().fold(Sums::default(), |total, (_, sums)| total.and(sums));
    let document = json!({"since": since.to_iso(), "agents": agents, "total": sums_json(&total)});
    Ok(Answer { text: stats_view::agents(&sums), document, is_empty: sums.is_empty() })
}
