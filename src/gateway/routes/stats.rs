//! `/api/stats/*`: what ran, what it cost, where it came from (gateway.md §27.3).

use serde_json::{Map, Value, json};

use super::whole_number;
use crate::base::clock::UnixMs;
use crate::gateway::public::Public;
use crate::gateway::routing::Asked;
use crate::http::Reply;
use crate::model::wire::run_file::TriggerKind;
use crate::store::activity::{self, Stage};
use crate::store::history::{self, Edge, Run, Sums, TriggerOf};

/// Lines of activity in one answer.
const USUAL_ROWS: usize = 50;
const MOST_ROWS: usize = 100;
/// Runs in one answer.
const USUAL_RUNS: usize = 10;
const MOST_RUNS: usize = 100;
const TRIGGERS: [TriggerKind; 4] =
    [TriggerKind::Schedule, TriggerKind::Manual, TriggerKind::Webhook, TriggerKind::Agent];

/// `GET /api/stats/activity`
pub(in crate::gateway) fn activity(public: &Public, asked: &Asked<'_>) -> Result<Reply, Reply> {
    let query = &asked.req.query;
    let stages = match query.get("status") {
        None | Some("all") => Stage::ALL.to_vec(),
        Some(words) => {
            let stages = words.split(',').map(|word| Stage::parse(word.trim()).ok_or_else(|| invalid("status")));
            stages.collect::<Result<_, _>>()?
        }
    };
    let trigger = match query.get("triggerType") {
        None | Some("all") => None,
        Some(word) => {
            let found = TRIGGERS.into_iter().find(|trigger| trigger.as_str() == word);
            Some(found.ok_or_else(|| invalid("triggerType"))?)
        }
    };
    let limit = whole_number(query.get("limit"), USUAL_ROWS).min(MOST_ROWS);
    let offset = whole_number(query.get("offset"), 0);
    let filter = activity::Filter { agent: query.get("agent"), trigger, stages: &stages };
    let page = public.shared.store.read(|db| activity::list(db, &filter, limit as u32, offset as u64));
    let page = public.shared.looked_up("list activity", page)?;
    let rows: Vec<Value> = page.entries.iter().map(render_entry).collect();
    let answer = json!({
        "rows": rows,
        "total": page.total,
        "pendingCount": page.pending,
        "limit": limit,
        "offset": offset,
    });
    Ok(Reply::json(200, &answer))
}

fn invalid(name: &str) -> Reply {
    Reply::error(400, &format!("Invalid {name}"))
}

fn render_entry(entry: &activity::Entry) -> Value {
    json!({
        "ts": entry.at.0,
        "triggerType": entry.trigger.as_str(),
        "triggerSource": entry.source,
        "eventSummary": entry.summary,
        "agentName": entry.agent,
        "instanceId": entry.instance,
        "result": entry.stage.as_str(),
        "webhookReceiptId": entry.receipt_id,
        "deadLetterReason": entry.dead_reason,
    })
}

/// `GET /api/stats/summary`
pub(in crate::gateway) fn summary(public: &Public, asked: &Asked<'_>) -> Result<Reply, Reply> {
    let since = since(asked);
    let sums = public.shared.store.read(|db| history::summary(db, since));
    let sums = public.shared.looked_up("sum up runs", sums)?;
    let agents = sums.iter().map(|(agent, sums)| {
        let name = ("agentName".to_owned(), Value::from(agent.as_str()));
        Value::Object([name].into_iter().chain(sums_json(sums)).collect())
    });
    let agents: Vec<Value> = agents.collect();
    let total = sums.iter().fold(Sums::default(), |total, (_, sums)| total.and(sums));
    Ok(Reply::json(200, &json!({ "agents": agents, "total": Value::Object(sums_json(&total)) })))
}

/// The instant that is asked about; the beginning of all time when none is given.
fn since(asked: &Asked<'_>) -> UnixMs {
    UnixMs(asked.req.query.get("since").and_then(|text| text.trim().parse().ok()).unwrap_or(0))
}

/// What runs came to, as the API has it.
pub fn sums_json(sums: &Sums) -> Map<String, Value> {
    let members = [
        ("totalRuns", Value::from(sums.runs)),
        ("okRuns", sums.ok.into()),
        ("errorRuns", sums.errors.into()),
        ("avgDurationMs", sums.average_ms().into()),
        ("totalTokens", sums.tokens.into()),
        ("totalCost", sums.cost.into()),
    ];
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// `GET /api/stats/calls`
pub(in crate::gateway) fn calls(public: &Public, asked: &Asked<'_>) -> Result<Reply, Reply> {
    let since = since(asked);
    let edges = public.shared.store.read(|db| history::edges(db, since));
    let edges = public.shared.looked_up("count calls", edges)?;
    let render = |edge: &Edge| {
        json!({
            "callerAgent": edge.caller,
            "targetAgent": edge.target,
            "count": edge.runs,
            "avgDurationMs": edge.average_ms(),
        })
    };
    Ok(Reply::json(200, &json!({ "calls": edges.iter().map(render).collect::<Value>() })))
}

/// `GET /api/stats/agents/:name/runs`
pub(in crate::gateway) fn runs(public: &Public, asked: &Asked<'_>) -> Result<Reply, Reply> {
    let query = &asked.req.query;
    let page = whole_number(query.get("page"), 1);
    let limit = whole_number(query.get("limit"), USUAL_RUNS).min(MOST_RUNS);
    let offset = (page - 1).saturating_mul(limit) as u64;
    let found = public.shared.store.read(|db| history::runs_of(db, asked.param(0), UnixMs(0), limit as u32, offset));
    let found = public.shared.looked_up("list runs", found)?;
    let runs: Vec<Value> = found.runs.iter().map(run_json).collect();
    Ok(Reply::json(200, &json!({ "runs": runs, "total": found.total, "page": page, "limit": limit })))
}

/// `GET /api/stats/agents/:name/runs/:instanceId`
pub(in crate::gateway) fn run(public: &Public, asked: &Asked<'_>) -> Result<Reply, Reply> {
    let found = public.shared.store.read(|db| history::get(db, asked.param(1)));
    let found = public.shared.looked_up("look up run", found)?;
    let run = found.filter(|run| run.agent == asked.param(0));
    Ok(Reply::json(200, &json!({ "run": run.as_ref().map(run_json) })))
}

/// An ended run as the API has it.
pub fn run_json(run: &Run) -> Value {
    json!({
        "instanceId": run.instance_id,
        "agentName": run.agent,
        "triggerType": run.trigger.as_str(),
        "triggerSource": run.source,
        "result": run.result,
        "class": run.class,
        "exitCode": run.exit_code,
        "exitReason": run.exit_reason,
        "error": run.error,
        "startedAt": run.started_at.0,
        "finishedAt": run.finished_at.0,
        "durationMs": run.duration_ms,
        "usage": run.usage,
        "returnValue": run.return_value,
        "rerun": run.rerun,
        "attempt": run.attempt,
        "itemId": run.work_id,
        "webhookReceiptId": run.receipt_id,
        "callId": run.call_id,
        "callDepth": run.depth,
        "callerInstance": run.caller_instance,
    })
}

/// `GET /api/stats/triggers/:instanceId`
pub(in crate::gateway) fn trigger(public: &Public, asked: &Asked<'_>) -> Result<Reply, Reply> {
    let found = public.shared.store.read(|db| history::trigger_of(db, asked.param(0)));
    match public.shared.looked_up("look up trigger", found)? {
        Some(trigger) => Ok(Reply::json(200, &json!({ "trigger": render_trigger(&trigger) }))),
        None => Err(Reply::json(404, &json!({ "trigger": null }))),
    }
}

fn render_trigger(of: &TriggerOf) -> Value {
    let mut trigger = json!({
        "instanceId": of.instance_id,
        "agentName": of.agent,
        "triggerType": of.trigger.as_str(),
        "triggerSource": of.source,
        "startedAt": of.started_at.0,
    });
    if let Some(webhook) = &of.webhook {
        trigger["webhook"] = json!({
            "receiptId": webhook.receipt_id,
            "source": webhook.provider,
            "eventSummary": webhook.summary,
            "deliveryId": webhook.delivery_id,
        });
    }
    if let Some((agent, instance)) = &of.caller {
        trigger["callerAgent"] = agent.as_str().into();
        if let Some(instance) = instance {
            trigger["callerInstance"] = instance.as_str().into();
        }
        trigger["callDepth"] = of.depth.into();
    }
    trigger
}
