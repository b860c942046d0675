//! `al queue`: work items and dead letters (scheduler.md §15.4).

use std::collections::BTreeSet;
use std::io::Write as _;

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value, json};

use super::control::{message, path_part};
use crate::base::clock::UnixMs;
use crate::base::error::{Trouble, UsageError, render};
use crate::base::term::stdout;
use crate::base::text::{percent_encode, printable, printable_json};
use crate::cli::args::{QueueClear, QueueDrop, QueueList, QueueRetry, QueueShow};
use crate::cli::gateway_client::{GatewayClient, ask_if_running, trouble};
use crate::cli::site::Site;
use crate::ui::queue_view;
use database::OfDatabase;

mod database;

/// Exit status when something was refused.
const REFUSED: u8 = 1;
/// Most items that are asked for at once.
const PAGE: usize = 1000;

/// Where work items are. Every answer is that of the HTTP API (gateway.md §13.1).
trait WorkItems {
    /// `{"items":[…],"total":n}`, newest first.
    fn list(&self, wanted: &Wanted<'_>) -> Result<Value>;
    /// The item with its `context`.
    fn show(&self, id: u64) -> Result<Value>;
    /// Queues a failed or dead item again; an answer with a `message`, as of all the following.
    fn retry(&self, id: u64) -> Result<Value>;
    /// Moves a queued item to the dead letters.
    fn drop_item(&self, id: u64) -> Result<Value>;
    /// Moves all queued items, or those of an agent, to the dead letters.
    fn clear(&self, agent: Option<&str>) -> Result<Value>;
}

/// Which items a list has.
#[derive(Clone, Copy, Default)]
struct Wanted<'a> {
    agent: Option<&'a str>,
    /// One state, or several with commas between.
    state: Option<&'a str>,
    /// Most items; what is usual when absent.
    limit: Option<usize>,
}

/// The items of a scheduler that runs.
struct OfGateway<'c>(&'c GatewayClient);

impl WorkItems for OfGateway<'_> {
    fn list(&self, wanted: &Wanted<'_>) -> Result<Value> {
        let limit = wanted.limit.map(|limit| limit.to_string());
        let parameters = [("agent", wanted.agent), ("state", wanted.state), ("limit", limit.as_deref())];
        let parameters: Vec<String> = parameters
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name}={}", percent_encode(value?))))
            .collect();
        let query = if parameters.is_empty() { String::new() } else { format!("?{}", parameters.join("&")) };
        let answer = self.0.get(&format!("/control/queue{query}"))?;
        match answer.get("items").is_some_and(Value::is_array) {
            true => Ok(answer),
            false => Err(self.0.malformed(&answer, "has no items").into()),
        }
    }

    fn show(&self, id: u64) -> Result<Value> {
        self.0.get(&format!("/control/items/{id}"))
    }

    fn retry(&self, id: u64) -> Result<Value> {
        self.done(&format!("/control/items/{id}/retry"))
    }

    fn drop_item(&self, id: u64) -> Result<Value> {
        self.done(&format!("/control/items/{id}/drop"))
    }

    fn clear(&self, agent: Option<&str>) -> Result<Value> {
        match agent {
            Some(agent) => self.done(&format!("/control/queue/{}/clear", path_part("agent", agent)?)),
            None => self.done("/control/queue/clear"),
        }
    }
}

impl OfGateway<'_> {
    fn done(&self, path: &str) -> Result<Value> {
        let answer = self.0.post(path, None)?;
        message(self.0, &answer)?;
        Ok(answer)
    }
}

/// Does something with the project's items, wherever they are at the moment.
fn with_items<T>(site: &Site, work: impl Fn(&dyn WorkItems) -> Result<T>) -> Result<T> {
    match ask_if_running(site, |client| work(&OfGateway(client)))? {
        Some(done) => Ok(done),
        None => match OfDatabase::open(site.dir())? {
            Some(items) => work(&items),
            None => bail!("no scheduler of {} has ever run: there are no work items", site.dir().display()),
        },
    }
}

fn open(project: &str, env: Option<&str>) -> Result<Site> {
    Site::open(project, env, "al queue")
}

/// `al queue ls`.
pub(crate) fn list(args: QueueList) -> Result<u8> {
    let site = open(&args.project, args.env.as_deref())?;
    let wanted = Wanted { agent: args.agent.as_deref(), state: args.state.as_deref(), limit: None };
    let answer = with_items(&site, |items| items.list(&wanted))?;
    let items = answer["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut out = stdout();
    match (args.json, items) {
        (true, _) => print_json(&answer)?,
        (false, []) => writeln!(out, "No work items.")?,
        (false, items) => out.write_all(queue_view::items(items, UnixMs::now()).as_bytes())?,
    }
    let (shown, total) = (items.len() as u64, answer["total"].as_u64().unwrap_or(0));
    if total > shown && !args.json {
        writeln!(std::io::stderr(), "The newest {shown} of {total} items; name an agent or a --state for others.")?;
    }
    Ok(0)
}

/// `al queue show`.
pub(crate) fn show(args: QueueShow) -> Result<u8> {
    let id = parse_id(&args.id)?;
    let site = open(&args.project, args.env.as_deref())?;
    let item = with_items(&site, |items| items.show(id))?;
    writeln!(stdout(), "{}", printable_json(&serde_json::to_string_pretty(&item)?))?;
    Ok(0)
}

/// `al queue retry`.
pub(crate) fn retry(args: QueueRetry) -> Result<u8> {
    let ids = parse_ids(&args.ids)?;
    match (ids.is_empty(), args.all_dead) {
        (true, false) => return usage("error: missing required argument 'id'"),
        (false, true) => return usage("error: option '--all-dead' cannot be used with an id"),
        _ => {}
    }
    let site = open(&args.project, args.env.as_deref())?;
    let retry = |items: &dyn WorkItems, id| items.retry(id);
    if !args.all_dead {
        return with_each(&site, &ids, args.json, &retry);
    }
    let mut tried = Tried::default();
    loop {
        // Those that were retried are no dead letters any more, those that were refused still are.
        let mut ids = dead_letters(&site)?;
        ids.retain(|id| !tried.ids.contains(id));
        if ids.is_empty() {
            break;
        }
        ids.iter().try_for_each(|id| tried.one(&site, *id, args.json, &retry))?;
    }
    if tried.ids.is_empty() && !args.json {
        writeln!(stdout(), "No dead letters.")?;
    }
    tried.finish(args.json)
}

/// `al queue drop`.
pub(crate) fn drop(args: QueueDrop) -> Result<u8> {
    let ids = parse_ids(&args.ids)?;
    let site = open(&args.project, args.env.as_deref())?;
    with_each(&site, &ids, args.json, &|items, id| items.drop_item(id))
}

/// `al queue clear`.
pub(crate) fn clear(args: QueueClear) -> Result<u8> {
    let site = open(&args.project, args.env.as_deref())?;
    let answer = with_items(&site, |items| items.clear(args.agent.as_deref()))?;
    tell(&answer, args.json)?;
    Ok(0)
}

/// Numbers of dead letters, the newest first.
fn dead_letters(site: &Site) -> Result<Vec<u64>> {
    let wanted = Wanted { state: Some("dead"), limit: Some(PAGE), ..Wanted::default() };
    let answer = with_items(site, |items| items.list(&wanted))?;
    let items = answer["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().map(|item| item["id"].as_u64().context("an item has no number")).collect()
}

type Work<'a> = &'a dyn Fn(&dyn WorkItems, u64) -> Result<Value>;

/// Does something with every item. The failure of the only one is that of the command.
fn with_each(site: &Site, ids: &[u64], json: bool, work: Work<'_>) -> Result<u8> {
    if let [id] = ids {
        tell(&with_items(site, |items| work(items, *id))?, json)?;
        return Ok(0);
    }
    let mut tried = Tried::default();
    ids.iter().try_for_each(|id| tried.one(site, *id, json, work))?;
    tried.finish(json)
}

/// What came of doing something with several items. A refusal does not keep the others from being tried.
#[derive(Default)]
struct Tried {
    ids: BTreeSet<u64>,
    /// One answer per item, with its `id`.
    results: Vec<Value>,
    any_refused: bool,
}

impl Tried {
    fn one(&mut self, site: &Site, id: u64, json: bool, work: Work<'_>) -> Result<()> {
        self.ids.insert(id);
        let result = match with_items(site, |items| work(items, id)) {
            Ok(answer) => {
                if !json {
                    tell(&answer, false)?;
                }
                answer
            }
            // What is wrong with more than this item ends the command.
            Err(error) if !matches!(trouble(&error), Some(Trouble::Status(_))) => return Err(error),
            Err(error) => {
                self.any_refused = true;
                writeln!(std::io::stderr(), "{}", render(&error))?;
                json!({"error": format!("{error:#}")})
            }
        };
        let mut object = Map::from_iter([("id".to_owned(), id.into())]);
        object.extend(result.as_object().cloned().unwrap_or_default());
        self.results.push(Value::Object(object));
        Ok(())
    }

    fn finish(self, json: bool) -> Result<u8> {
        if json {
            print_json(&json!({"results": self.results}))?;
        }
        Ok(if self.any_refused { REFUSED } else { 0 })
    }
}

/// Prints an answer, or the text for people in it.
fn tell(answer: &Value, json: bool) -> Result<()> {
    if json {
        return print_json(answer);
    }
    writeln!(stdout(), "{}", printable(answer["message"].as_str().unwrap_or_default()))?;
    Ok(())
}

fn print_json(value: &Value) -> Result<()> {
    writeln!(stdout(), "{}", printable_json(&value.to_string()))?;
    Ok(())
}

fn parse_ids(texts: &[String]) -> Result<Vec<u64>> {
    texts.iter().map(|text| parse_id(text)).collect()
}

fn parse_id(text: &str) -> Result<u64> {
    let id = text.parse().ok().filter(|id| *id > 0 && text.bytes().all(|byte| byte.is_ascii_digit()));
    id.map_or_else(
        || Err(UsageError(format!("error: argument 'id' \"{text}\" is invalid. It must be a positive integer.")).into()),
        Ok,
    )
}

fn usage(text: &str) -> Result<u8> {
    Err(UsageError(text.to_owned()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_positive_integers_are_items() {
        assert_eq!(parse_id("7").unwrap(), 7);
        for text in ["0", "-1", "+1", "x", "", "1.5", "99999999999999999999999"] {
            assert!(parse_id(text).unwrap_err().is::<UsageError>(), "{text}");
        }
    }
}
