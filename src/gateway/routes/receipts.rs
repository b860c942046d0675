//! `/api/webhooks`, `/api/stats/webhooks`: what was delivered, delivering it again, trying a delivery out
//! (gateway.md §27.1).

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::webhooks::{accept, is_paused};
use super::whole_number;
use crate::base::clock::UnixMs;
use crate::gateway::public::Public;
use crate::gateway::routing::Asked;
use crate::http::Reply;
use crate::model::webhook_context::Context;
use crate::store::receipts::{self, Body, Detail, Filter, ItemOf, NewReceipt, Receipt, Status};
use crate::webhooks::bindings::Binding;
use crate::webhooks::raw::RawDelivery;
use crate::webhooks::{Delivery, Genuine, Headers, Provider, Unsigned, delivery, filter, providers, read};

/// Receipts in one answer.
const USUAL_RECEIPTS: usize = 50;
const MOST_RECEIPTS: usize = 100;

/// `GET /api/webhooks`
pub(in crate::gateway) fn list(public: &Public, asked: &Asked<'_>) -> Result<Reply, Reply> {
    let query = &asked.req.query;
    let status = match query.get("status").map(Status::parse) {
        Some(None) => return Err(Reply::error(400, "Invalid status")),
        status => status.flatten(),
    };
    let limit = whole_number(query.get("limit"), USUAL_RECEIPTS).min(MOST_RECEIPTS);
    let offset = whole_number(query.get("offset"), 0);
    let filter = Filter { status, provider: query.get("provider") };
    let page = public.shared.store.read(|db| {
        let page = receipts::list(db, &filter, limit as u32, offset as u64)?;
        let items = page.receipts.iter().map(|receipt| receipts::items_of(db, &receipt.id));
        let items = items.collect::<anyhow::Result<Vec<_>>>()?;
        Ok((page, items))
    });
    let (page, items) = public.shared.looked_up("list receipts", page)?;
    let listed = page.receipts.iter().zip(&items).map(|(receipt, items)| render(receipt, None, items));
    let receipts: Vec<Value> = listed.map(Value::Object).collect();
    Ok(Reply::json(200, &json!({ "receipts": receipts, "total": page.total, "limit": limit, "offset": offset })))
}

/// `GET /api/stats/webhooks/:receiptId`
pub(in crate::gateway) fn show(public: &Public, asked: &Asked<'_>) -> Result<Reply, Reply> {
    let found = find(public, asked)?.ok_or_else(|| Reply::json(404, &json!({ "receipt": null })))?;
    let receipt = render(&found.receipt, Some((&found.headers, &found.body)), &found.items);
    Ok(Reply::json(200, &json!({ "receipt": receipt })))
}

fn find(public: &Public, asked: &Asked<'_>) -> Result<Option<Detail>, Reply> {
    let found = public.shared.store.read(|db| receipts::show(db, asked.param(0)));
    public.shared.looked_up("look up receipt", found)
}

/// A receipt; `sent`: headers and body, where they are shown.
fn render(
    receipt: &Receipt,
    sent: Option<(&Option<String>, &Option<Vec<u8>>)>,
    items: &[ItemOf],
) -> Map<String, Value> {
    let item = |item: &ItemOf| {
        json!({
            "agent": item.agent,
            "state": item.state.as_str(),
            "attempts": item.attempts,
            "instanceId": item.instance_id,
        })
    };
    let mut members = vec![
        ("id", receipt.id.as_str().into()),
        ("deliveryId", receipt.delivery_id.as_deref().into()),
        ("source", receipt.provider.as_str().into()),
        ("eventSummary", receipt.summary.as_deref().into()),
        ("timestamp", receipt.received_at.0.into()),
    ];
    if let Some((headers, body)) = sent {
        members.push(("headers", headers.as_deref().into()));
        members.push(("body", body.as_ref().map(|body| String::from_utf8_lossy(body)).into()));
    }
    members.extend([
        ("matchedAgents", receipt.matched.into()),
        ("status", receipt.status.as_str().into()),
        ("deadLetterReason", receipt.reason.as_deref().into()),
        ("workItems", items.iter().map(item).collect()),
    ]);
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// `POST /api/webhooks/:receiptId/replay`
pub(in crate::gateway) fn replay(public: &Public, asked: &Asked<'_>) -> Result<Reply, Reply> {
    let now = UnixMs::now();
    let found = find(public, asked)?.ok_or_else(|| Reply::error(404, "receipt not found"))?;
    let Detail { receipt, headers, body, .. } = found;
    if receipt.status == Status::Rejected {
        return Err(Reply::error(400, "receipt was rejected"));
    }
    let no_payload = || Reply::error(400, "receipt has no stored payload");
    let (Some(fields), Some(body)) = (headers, body) else { return Err(no_payload()) };
    let fields: Map<String, Value> = serde_json::from_str(&fields).map_err(|_| no_payload())?;
    let headers = Headers::from_json(&fields).map_err(|_| no_payload())?;
    let provider = providers::find(&receipt.provider).ok_or_else(no_payload)?;
    let context = delivery::context(provider, &Delivery { headers: &headers, body: &body, now });
    let context = context.map_err(|refusal| Reply::error(400, &refusal.to_string()))?;
    let genuine = Genuine {
        matched_source: receipt.matched_source.unwrap_or_default(),
        delivery_id: receipt.delivery_id.clone(),
        context,
    };
    let replayed = NewReceipt {
        id: receipts::new_id(now),
        provider: receipt.provider,
        delivery_id: receipt.delivery_id,
        matched_source: None,
        event: None,
        action: None,
        client: Some(asked.client.to_string()),
        headers: fields,
        body: Body::of(&body),
        replay_of: Some(receipt.id),
    };
    let delivered = accept(public, &public.bindings(), provider, genuine, replayed, now)?;
    let answer = json!({
        "ok": true,
        "matched": delivered.matched,
        "skipped": delivered.skipped,
        "replayReceiptId": delivered.receipt_id,
    });
    Ok(Reply::json(200, &answer))
}

/// What a delivery would do.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Simulation {
    ok: bool,
    context: Option<Map<String, Value>>,
    parse_error: Option<String>,
    bindings: Vec<Simulated>,
}

/// What it would do at one binding.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Simulated {
    agent_name: String,
    matched: bool,
    /// Why, or why not.
    reasons: Vec<&'static str>,
    /// Whether each given field of the filter matches.
    filter_details: BTreeMap<&'static str, bool>,
}

/// `POST /api/webhooks/simulate`
pub(in crate::gateway) fn simulate(public: &Public, asked: &Asked<'_>) -> Result<Reply, Reply> {
    let Ok(Value::Object(given)) = serde_json::from_slice(&asked.req.body) else {
        return Err(Reply::error(400, "invalid JSON body"));
    };
    let bad = |text: String| Reply::error(400, &text);
    let raw = RawDelivery::from_json(&given).map_err(bad)?;
    let provider = match given.get("source") {
        None | Some(Value::Null) => raw.provider().map_err(bad)?,
        Some(source) => {
            let found = source.as_str().and_then(providers::find);
            let shown = source.as_str().map_or_else(|| source.to_string(), str::to_owned);
            found.ok_or_else(|| Reply::error(400, &format!("unknown webhook source: {shown}")))?
        }
    };
    let delivery = raw.delivery(UnixMs::now());
    let (context, parse_error) = match delivery::context(provider, &delivery) {
        Ok(context) => (context, None),
        Err(refusal) => (None, Some(refusal.to_string())),
    };
    let bindings = context.as_ref().map(|context| simulate_bindings(public, provider, &delivery, context));
    let simulation = Simulation {
        ok: true,
        context: context.map(|context| context.into_json("simulated")),
        parse_error,
        bindings: bindings.unwrap_or_default(),
    };
    Ok(Reply::json(200, &simulation))
}

fn simulate_bindings(
    public: &Public,
    provider: &dyn Provider,
    delivery: &Delivery<'_>,
    context: &Context,
) -> Vec<Simulated> {
    let (bindings, snapshot) = (public.bindings(), public.shared.handle.snapshot());
    let signer = signer(public, provider, delivery);
    let all = bindings.all().map(|(of, agent, binding)| {
        let is_type = of == provider.name();
        let is_paused = is_paused(&snapshot, agent);
        explain(agent.as_str(), binding, is_type, is_paused, signer.as_deref(), context)
    });
    all.collect()
}

/// The instance whose secret signed it. `None`, when it is not signed: then it may be from any source.
fn signer(public: &Public, provider: &dyn Provider, delivery: &Delivery<'_>) -> Option<String> {
    let secrets = public.secrets.current();
    let genuine = read(provider, delivery, secrets.of(provider.name()), Unsigned::Refused).ok()?;
    Some(genuine.matched_source)
}

fn explain(
    agent: &str,
    binding: &Binding,
    is_type: bool,
    is_paused: bool,
    signer: Option<&str>,
    context: &Context,
) -> Simulated {
    let filter_details: BTreeMap<_, _> =
        if is_type { filter::details(&binding.filter, context).collect() } else { BTreeMap::new() };
    let against = [
        ("type", !is_type),
        ("source", is_type && signer.is_some_and(|signer| !binding.is_of(signer))),
        ("filter", filter_details.values().any(|is_match| !is_match)),
    ];
    let mut reasons: Vec<&str> = against.into_iter().filter(|(_, holds)| *holds).map(|(reason, _)| reason).collect();
    if reasons.is_empty() {
        reasons.push(if is_paused { "paused" } else { "matched" });
    }
    Simulated { agent_name: agent.to_owned(), matched: reasons == ["matched"], reasons, filter_details }
}
