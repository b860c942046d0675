//! `/api/logs/*`: entries of log files (gateway.md §16, §27.7).

use std::io;

use serde_json::json;

use super::whole_number;
use crate::base::clock::UnixMs;
use crate::base::log_files::{Filter, LogFiles, Mark, Page, Pattern, Position, Query, level_number};
use crate::gateway::public::Public;
use crate::gateway::routing::Asked;
use crate::http::{self, Reply};
use crate::model::names::AgentName;

/// Entries in one answer.
const USUAL_LINES: usize = 50;
const MOST_LINES: usize = 1000;

/// `GET /api/logs/scheduler`
pub(in crate::gateway) fn scheduler(public: &Public, asked: &Asked<'_>) -> Result<Reply, Reply> {
    entries(public, asked, "scheduler", None)
}

/// `GET /api/logs/agents/:name`
pub(in crate::gateway) fn agent(public: &Public, asked: &Asked<'_>) -> Result<Reply, Reply> {
    entries(public, asked, agent_name(asked)?.as_str(), None)
}

/// `GET /api/logs/agents/:name/:instanceId`
pub(in crate::gateway) fn instance(public: &Public, asked: &Asked<'_>) -> Result<Reply, Reply> {
    let agent = agent_name(asked)?;
    let given = asked.param(1);
    let own_part = given.strip_prefix(agent.as_str()).and_then(|rest| rest.strip_prefix('-')).unwrap_or(given);
    let is_id = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if own_part.is_empty() || !own_part.bytes().all(is_id) {
        return Err(Reply::error(400, "Invalid instance ID"));
    }
    entries(public, asked, agent.as_str(), Some(format!("{agent}-{own_part}")))
}

fn agent_name(asked: &Asked<'_>) -> Result<AgentName, Reply> {
    AgentName::parse(asked.param(0)).map_err(|_| Reply::error(400, "Invalid agent name"))
}

/// Parameter and member with the mark of the file that the cursor is in. Whoever gives it back loses nothing of a file that
/// was rotated. Only who gives one gets one; at first that may be anything.
const FILE: &str = "file";

/// Where an answer begins.
enum Start {
    /// The last entries.
    End,
    After(Position),
    Before(Position),
}

fn entries(public: &Public, asked: &Asked<'_>, log: &str, instance: Option<String>) -> Result<Reply, Reply> {
    let given = &asked.req.query;
    let start = start(given)?;
    let least_level = match given.get("level").map(level_number) {
        Some(None) => return Err(Reply::error(400, "Invalid level")),
        level => level.flatten(),
    };
    let pattern = given.get("grep").map(Pattern::parse).transpose();
    let filter = Filter {
        instance,
        after: instant(given, "after"),
        before: instant(given, "before"),
        least_level,
        pattern: pattern.map_err(|_| Reply::error(400, "Invalid grep pattern"))?,
    };
    let lines = given.get("lines").or_else(|| given.get("limit"));
    let query = Query { limit: whole_number(lines, USUAL_LINES).min(MOST_LINES), filter: &filter };
    let files = LogFiles::new(&public.log_dir, log);
    let file = given.get(FILE);
    let page = read(&files, &start, file.map(Mark::from_text).as_ref(), query).map_err(anyhow::Error::from);
    Ok(render(&start, file.is_some(), &public.shared.looked_up("read log", page)?))
}

fn start(given: &http::Query) -> Result<Start, Reply> {
    let position = |name: &str| match given.get(name) {
        None => Ok(None),
        Some(text) => match Position::parse(text) {
            Some(position) => Ok(Some(position)),
            None => Err(Reply::error(400, &format!("Invalid {name}"))),
        },
    };
    Ok(match (position("cursor")?, position("back_cursor")?) {
        (Some(cursor), _) => Start::After(cursor),
        (None, Some(cursor)) => Start::Before(cursor),
        (None, None) => Start::End,
    })
}

fn read(files: &LogFiles, start: &Start, mark: Option<&Mark>, query: Query<'_>) -> io::Result<Page> {
    match start {
        Start::End => files.last(query),
        Start::After(position) => files.after(position, mark, query),
        Start::Before(position) => files.before(position, query),
    }
}

/// `names_file`: the answer says in which file the cursor is.
fn render(start: &Start, names_file: bool, page: &Page) -> Reply {
    let cursor = |position: &Option<Position>| position.as_ref().map(Position::to_string);
    let mut answer = json!({ "entries": page.entries, "cursor": cursor(&page.cursor), "hasMore": page.has_more });
    let has_no_file = matches!(start, Start::End) && page.cursor.is_none();
    if !matches!(start, Start::After(_)) && !has_no_file {
        answer["backCursor"] = cursor(&page.back).into();
    }
    if names_file {
        answer[FILE] = page.mark.as_ref().map(Mark::to_string).into();
    }
    Reply::json(200, &answer)
}

/// An instant in milliseconds; 0 and what is not a number count as absent.
fn instant(given: &http::Query, name: &str) -> Option<UnixMs> {
    let number: f64 = given.get(name)?.trim().parse().ok()?;
    (number.is_finite() && number != 0.0).then_some(UnixMs(number as i64))
}
