//! `POST /webhooks/:source`: deliveries, from signature to work (gateway.md §18).

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::no_storage_error;
use crate::base::clock::UnixMs;
use crate::base::crash;
use crate::base::log::{Entry, Level};
use crate::base::text::{cut, printable};
use crate::gateway::public::Public;
use crate::gateway::routing::Asked;
use crate::http::Reply;
use crate::model::names::AgentName;
use crate::model::webhook_context::Context;
use crate::scheduler::handle::{Event, Snapshot};
use crate::store::items::{Kind, NewItem};
use crate::store::receipts::{self, Body, Delivered, NewReceipt, NoWork};
use crate::webhooks::{Bindings, Delivery, Genuine, Headers, Provider, Refusal, providers, read};

/// Name under which webhooks write lines of activity.
const ACTIVITY: &str = "webhook";
/// What is kept of the name of a source that does not exist.
const UNKNOWN_CHARS: usize = 100;

/// What a sender is told.
#[derive(Serialize)]
struct Accepted<'a> {
    ok: bool,
    matched: usize,
    skipped: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicate: Option<bool>,
    #[serde(rename = "receiptId")]
    receipt_id: &'a str,
}

impl Accepted<'_> {
    fn reply(delivered: &Delivered) -> Reply {
        let Delivered { receipt_id, matched, skipped, is_duplicate } = delivered;
        let duplicate = is_duplicate.then_some(true);
        Reply::json(200, &Accepted { ok: true, matched: *matched, skipped: *skipped, duplicate, receipt_id })
    }
}

pub(in crate::gateway) fn receive(public: &Public, asked: &Asked<'_>) -> Result<Reply, Reply> {
    // Asked by every request, whatever becomes of it: refusals are recorded as well.
    if public.shared.store.take_receipts_due() {
        public.shared.handle.send(Event::ReceiptsDue);
    }
    let now = UnixMs::now();
    let bindings = public.bindings();
    let headers = Headers::new(asked.req.headers.0.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let name = asked.param(0);
    let Some(provider) = providers::find(name).filter(|provider| bindings.has_source(provider.name())) else {
        return Err(unknown_source(public, asked, &headers, now));
    };
    let name = provider.name();
    let delivery = Delivery { headers: &headers, body: &asked.req.body, now };
    let secrets = public.secrets.current();
    let genuine = match read(provider, &delivery, secrets.of(name), bindings.unsigned(name)) {
        Ok(genuine) => genuine,
        Err(refusal) => {
            if refusal == Refusal::Signature {
                let count = secrets.of(name).len();
                let line = || Entry::new(Level::Warn, "webhook signature invalid").field("source", name);
                public.shared.request_log.write(|| line().field("secrets", count));
            }
            return Err(refused(public, new_receipt(asked, name, &headers, now), refusal));
        }
    };
    let receipt = new_receipt(asked, name, &headers, now);
    let receipt = NewReceipt { delivery_id: genuine.delivery_id.clone(), body: Body::of(&asked.req.body), ..receipt };
    let delivered = accept(public, &bindings, provider, genuine, receipt, now)?;
    Ok(Accepted::reply(&delivered))
}

fn new_receipt(asked: &Asked<'_>, provider: &str, headers: &Headers, now: UnixMs) -> NewReceipt {
    NewReceipt {
        id: receipts::new_id(now),
        provider: provider.to_owned(),
        delivery_id: None,
        matched_source: None,
        event: None,
        action: None,
        client: Some(asked.client.to_string()),
        headers: headers.to_stored_json(),
        body: Body::without_content(&asked.req.body),
        replay_of: None,
    }
}

fn unknown_source(public: &Public, asked: &Asked<'_>, headers: &Headers, now: UnixMs) -> Reply {
    let source = printable(cut(asked.param(0), UNKNOWN_CHARS)).into_owned();
    public.note(ACTIVITY, format_args!("Rejected: unknown source \"{source}\""));
    let receipt = new_receipt(asked, &source, headers, now);
    record_refusal(public, receipt, Refusal::Signature);
    Reply::error(404, &format!("unknown webhook source: {}", asked.param(0)))
}

fn refused(public: &Public, receipt: NewReceipt, refusal: Refusal) -> Reply {
    public.note(ACTIVITY, format_args!("{}: {refusal}", receipt.provider));
    record_refusal(public, receipt, refusal);
    Reply::error(if refusal == Refusal::Signature { 401 } else { 400 }, &refusal.to_string())
}

/// Notes a request that was refused before it came here: too many of them, or too large.
pub(in crate::gateway) fn note_refusal(public: &Public, source: &str, reply: &Reply) {
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    if let Some(error) = body["error"].as_str().filter(|_| providers::find(source).is_some()) {
        public.note(ACTIVITY, format_args!("{source}: {error}"));
    }
}

/// The sender is refused whether it can be recorded or not.
fn record_refusal(public: &Public, receipt: NewReceipt, refusal: Refusal) {
    let now = UnixMs::now();
    if let Err(error) = receipts::note(&public.shared.store, receipt, NoWork::Rejected(refusal.reason()), now) {
        public.shared.log_error_of_request("receipt not stored", &error);
    }
}

/// Gives an event to the agents that wait for it: receipt and items are committed when this returns. `receipt` lacks what
/// the event says.
///
/// # Errors
/// The answer to give when it cannot be committed.
pub(super) fn accept(
    public: &Public,
    bindings: &Bindings,
    provider: &dyn Provider,
    genuine: Genuine,
    receipt: NewReceipt,
    now: UnixMs,
) -> Result<Delivered, Reply> {
    let Genuine { matched_source, context, .. } = genuine;
    let Some(context) = context else {
        let receipt = NewReceipt { matched_source: Some(matched_source), ..receipt };
        return record(public, receipt, NoWork::Ignored, now);
    };
    let snapshot = public.shared.handle.snapshot();
    let matching = bindings.matching(provider.name(), &matched_source, &context);
    let (paused, wanting): (Vec<&AgentName>, Vec<&AgentName>) = matching.partition(|agent| is_paused(&snapshot, agent));
    let receipt = NewReceipt {
        event: Some(context.event.clone()),
        action: context.action.clone(),
        matched_source: Some(matched_source.clone()),
        ..receipt
    };
    let skipped = paused.len();
    if wanting.is_empty() && skipped == 0 {
        return record(public, receipt, NoWork::NoMatch, now);
    }
    let items = items(&wanting, &context, &receipt.id);
    crash::point("accept");
    let stored = public.shared.store.write(move |tx| receipts::accept_delivery(tx, receipt, items, skipped, now));
    crash::point("accepted");
    let delivered = public.shared.committed(stored, no_storage_error)?;
    tell(public, provider.name(), &delivered);
    Ok(delivered)
}

pub(super) fn is_paused(snapshot: &Arc<Snapshot>, agent: &AgentName) -> bool {
    snapshot.agents.get(agent.as_str()).is_some_and(|agent| agent.paused)
}

fn items(agents: &[&AgentName], context: &Context, receipt_id: &str) -> Vec<NewItem> {
    if agents.is_empty() {
        return Vec::new();
    }
    let json = Value::Object(context.clone().into_json(receipt_id));
    let item = |agent: &&AgentName| NewItem {
        agent: agent.to_string(),
        kind: Kind::Webhook,
        source: context.event.clone(),
        context: json.clone(),
        receipt_id: Some(receipt_id.to_owned()),
        call_id: None,
        depth: 0,
        chain: Vec::new(),
    };
    agents.iter().map(item).collect()
}

/// Records a delivery without work. It is not waited for: nobody relies on it.
fn record(public: &Public, receipt: NewReceipt, why: NoWork, now: UnixMs) -> Result<Delivered, Reply> {
    let receipt_id = receipt.id.clone();
    let noted = receipts::note(&public.shared.store, receipt, why, now);
    public.shared.committed(noted, no_storage_error)?;
    Ok(Delivered { receipt_id, matched: 0, skipped: 0, is_duplicate: false })
}

/// Tells the scheduler, and whoever looks on, that there is work.
fn tell(public: &Public, provider: &str, delivered: &Delivered) {
    let Delivered { matched, skipped, .. } = *delivered;
    public.shared.request_log.write(|| {
        let entry = Entry::new(Level::Info, "webhook dispatched").field("source", provider);
        entry.field("matched", matched).field("skipped", skipped)
    });
    if matched > 0 {
        public.shared.handle.queue_changed();
        public.note(ACTIVITY, format_args!("{provider}: dispatched to {}", Agents(matched)));
    }
}

/// `1 agent`, `2 agents`.
struct Agents(usize);

impl fmt::Display for Agents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} agent{}", self.0, if self.0 == 1 { "" } else { "s" })
    }
}
