//! `/control/queue`, `/control/items`: accepted work and what becomes of it (gateway.md §13.1, §27.6).

use serde_json::{Map, Value, json};

use super::control::success;
use super::{no_storage_error, whole_number};
use crate::base::clock::UnixMs;
use crate::base::log::{Entry, Level};
use crate::gateway::public::Public;
use crate::gateway::routing::Asked;
use crate::http::Reply;
use crate::store::items::{self, Buried, Cleared, Filter, Listed, Refusal, State};

/// Items in one answer.
const USUAL_ITEMS: usize = 50;
const MOST_ITEMS: usize = 1000;
/// States that are shown when none is asked for.
const USUAL_STATES: [State; 4] = [State::Queued, State::Running, State::Failed, State::Dead];

/// `GET /control/queue`
pub(in crate::gateway) fn list(public: &Public, asked: &Asked<'_>) -> Result<Reply, Reply> {
    let query = &asked.req.query;
    let states = match query.get("state") {
        None => USUAL_STATES.to_vec(),
        Some(words) => {
            words.split(',').map(|word| State::parse(word.trim()).ok_or_else(bad_state)).collect::<Result<_, _>>()?
        }
    };
    let limit = whole_number(query.get("limit"), USUAL_ITEMS).min(MOST_ITEMS);
    let agent = query.get("agent").map(str::to_owned);
    let page = public
        .shared
        .store
        .read(|db| items::list(db, &Filter { agent: agent.as_deref(), states: &states, limit: limit as u32 }));
    let page = public.shared.looked_up("list items", page)?;
    let items: Vec<Value> = page.items.iter().map(|item| Value::Object(render(item))).collect();
    Ok(Reply::json(200, &json!({ "items": items, "total": page.total })))
}

fn bad_state() -> Reply {
    Reply::error(400, "Invalid state")
}

/// `GET /control/queue/:name`: what waits for an agent, oldest first.
pub(in crate::gateway) fn list_of_agent(public: &Public, asked: &Asked<'_>) -> Result<Reply, Reply> {
    let filter = Filter { agent: Some(asked.param(0)), states: &[State::Queued], limit: MOST_ITEMS as u32 };
    let page = public.shared.looked_up("list items", public.shared.store.read(|db| items::list(db, &filter)))?;
    let items = page.items.iter().rev().map(|item| {
        let summary = match &item.action {
            Some(action) => format!("{} {action}", item.source),
            None => item.source.clone(),
        };
        json!({
            "id": item.id,
            "kind": item.kind.as_str(),
            "summary": summary,
            "enqueuedAt": item.enqueued_at.to_iso(),
            "attempts": item.attempts,
        })
    });
    Ok(Reply::json(200, &json!({ "items": items.collect::<Value>() })))
}

/// `GET /control/items/:id`
pub(in crate::gateway) fn show(public: &Public, asked: &Asked<'_>) -> Result<Reply, Reply> {
    let id = id(asked)?;
    let found = public.shared.looked_up("look up item", public.shared.store.read(|db| items::show(db, id)))?;
    let (item, context) = found.ok_or_else(|| not_found(asked))?;
    let mut item = render(&item);
    item.insert("context".into(), context);
    Ok(Reply::json(200, &item))
}

/// An item as the API shows it, without its context.
pub fn render(item: &Listed) -> Map<String, Value> {
    let iso = |time: Option<UnixMs>| Value::from(time.map(UnixMs::to_iso));
    let members = [
        ("id", item.id.into()),
        ("agent", item.agent.as_str().into()),
        ("kind", item.kind.as_str().into()),
        ("source", item.source.as_str().into()),
        ("state", item.state.as_str().into()),
        ("attempts", item.attempts.into()),
        ("enqueuedAt", item.enqueued_at.to_iso().into()),
        ("notBefore", iso(item.not_before)),
        ("startedAt", iso(item.started_at)),
        ("finishedAt", iso(item.finished_at)),
        ("instanceId", item.instance_id.as_deref().into()),
        ("callId", item.call_id.as_deref().into()),
        ("reason", item.reason.as_deref().into()),
        ("lastError", item.last_error.as_deref().into()),
    ];
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// `POST /control/items/:id/retry`
pub(in crate::gateway) fn retry(public: &Public, asked: &Asked<'_>) -> Result<Reply, Reply> {
    let id = id(asked)?;
    let retried = public.shared.store.write(move |tx| items::retry(tx, id, UnixMs::now()));
    let retried = public.shared.committed(retried, no_storage_error)?;
    retried.map_err(|refusal| refused(asked, refusal))?;
    public.shared.handle.queue_changed();
    Ok(success(format!("Item {id} queued")))
}

/// `POST /control/items/:id/drop`
pub(in crate::gateway) fn drop(public: &Public, asked: &Asked<'_>) -> Result<Reply, Reply> {
    let id = id(asked)?;
    let dropped = public.shared.store.write(move |tx| items::drop(tx, id, UnixMs::now()));
    let dropped = public.shared.committed(dropped, no_storage_error)?;
    let item = dropped.map_err(|refusal| refused(asked, refusal))?;
    tell_cleared(public, &[item]);
    Ok(success(format!("Item {id} dropped")))
}

/// `POST /control/queue/clear`
pub(in crate::gateway) fn clear(public: &Public, _: &Asked<'_>) -> Result<Reply, Reply> {
    clear_queue(public, None)
}

/// `POST /control/queue/:name/clear`
pub(in crate::gateway) fn clear_of_agent(public: &Public, asked: &Asked<'_>) -> Result<Reply, Reply> {
    clear_queue(public, Some(asked.param(0).to_owned()))
}

fn clear_queue(public: &Public, agent: Option<String>) -> Result<Reply, Reply> {
    let cleared =
        public.shared.store.write(move |tx| items::clear(tx, agent.as_deref(), Cleared::ByOperator, UnixMs::now()));
    let cleared = public.shared.committed(cleared, no_storage_error)?;
    tell_cleared(public, &cleared);
    let count = cleared.len();
    let message = format!("Cleared {count} item(s)");
    Ok(Reply::json(200, &json!({ "success": true, "message": message, "cleared": count })))
}

/// Says that items are dead, as the scheduler does of those that die by its hand.
fn tell_cleared(public: &Public, items: &[Buried]) {
    for item in items {
        let entry = Entry::new(Level::Error, "work item dead")
            .field("agent", item.agent.as_str())
            .field("kind", item.kind.as_str())
            .field("source", item.source.as_str())
            .field("id", item.id)
            .field("attempts", item.attempts)
            .field("reason", "cleared")
            .field("error", item.last_error.as_deref());
        public.scheduler_log.write(&entry);
        public.shared.handle.note(&item.agent, format!("item {} dead (cleared)", item.id));
    }
    if !items.is_empty() {
        public.shared.handle.queue_changed();
    }
}

fn id(asked: &Asked<'_>) -> Result<i64, Reply> {
    asked.param(0).parse().map_err(|_| not_found(asked))
}

fn not_found(asked: &Asked<'_>) -> Reply {
    Reply::error(404, &format!("Item {} not found", asked.param(0)))
}

fn refused(asked: &Asked<'_>, refusal: Refusal) -> Reply {
    match refusal {
        Refusal::NotFound => not_found(asked),
        Refusal::State(state) => Reply::error(409, &format!("Item {} is {}", asked.param(0), state.as_str())),
    }
}
