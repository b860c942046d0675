//! `/calls`: one agent asks another, and fetches the result later (gateway.md §10).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{no_storage_reason, refused};
use crate::base::Secret;
use crate::base::clock::UnixMs;
use crate::base::crash;
use crate::base::ids::uuid_v4;
use crate::base::log::{Entry, Level};
use crate::gateway::input::{Fields, missing, query_secret};
use crate::gateway::routing::Asked;
use crate::gateway::shared::Shared;
use crate::http::Reply;
use crate::scheduler::handle::Snapshot;
use crate::store::calls::{self, CallState, NewCall};
use crate::store::containers::Registration;

/// Long polls that may wait at once.
const MOST_POLLS: usize = 64;
/// Longest wait of a long poll.
const LONGEST_WAIT_SECONDS: u64 = 60;

/// `POST /calls`
pub(in crate::gateway) fn create(gateway: &Shared, asked: &Asked<'_>) -> Result<Reply, Reply> {
    let fields = Fields::parse(asked.req)?;
    let secret = fields.secret()?;
    let target = fields.required("targetAgent")?;
    let context = fields.text("context").ok_or_else(|| missing("context"))?.to_owned();
    let call_id = uuid_v4();
    dispatch(gateway, &secret, NewCall { target, context, call_id: Some(call_id.clone()) })?;
    Ok(Reply::json(200, &json!({ "ok": true, "callId": call_id })))
}

/// Checks a call or a trigger signal, commits it and tells the scheduler.
///
/// The called agent gets the context without the secrets of the calling run, and nothing else is stored: a run holds
/// only the credentials that it needs, and a secret does not travel to another agent this way. No agent's name is a
/// secret, and refusals and log lines name the target.
pub(super) fn dispatch(gateway: &Shared, secret: &Secret, call: NewCall) -> Result<(), Reply> {
    let caller = gateway.caller(secret)?;
    let masked = |text: &str| gateway.handle.secrets().mask(&caller.instance, text);
    let call = NewCall { target: masked(&call.target), context: masked(&call.context), ..call };
    accept(gateway, secret, &caller, call.clone()).inspect_err(|reply| {
        if reply.status == 409 {
            let reason: serde_json::Value = serde_json::from_slice(&reply.body).unwrap_or_default();
            gateway
                .request_log
                .write(|| line(Level::Warn, "call rejected", &caller, &call).field("reason", reason["reason"].clone()));
        }
    })?;
    gateway.request_log.write(|| line(Level::Info, "call accepted", &caller, &call).field("depth", caller.depth));
    gateway.handle.queue_changed();
    Ok(())
}

fn line(level: Level, msg: &str, caller: &Registration, call: &NewCall) -> Entry {
    Entry::new(level, msg)
        .of_instance(&caller.instance)
        .field("caller", caller.agent.as_str())
        .field("target", call.target.as_str())
}

fn accept(gateway: &Shared, secret: &Secret, caller: &Registration, call: NewCall) -> Result<(), Reply> {
    check(&gateway.handle.snapshot(), caller, &call.target)?;
    let bytes = call.context.len();
    if !gateway.call_budget.take(&caller.instance, bytes) {
        return Err(refused(409, "call limit of this run reached"));
    }
    let now = UnixMs::now();
    crash::point("call-accept");
    let stored = gateway.change(secret, no_storage_reason, move |tx, caller| calls::accept(tx, caller, &call, now));
    crash::point("call-accepted");
    stored.map(drop).inspect_err(|_| gateway.call_budget.give_back(&caller.instance, bytes))
}

/// Whether this run may call that agent now.
fn check(snapshot: &Snapshot, caller: &Registration, target: &str) -> Result<(), Reply> {
    if snapshot.agents.is_empty() {
        return Err(refused(503, "call dispatcher not ready"));
    }
    let refuse = |reason: String| Err(refused(409, &reason));
    if target == caller.agent {
        return refuse("agent cannot call itself".into());
    }
    if caller.depth >= snapshot.max_call_depth {
        return refuse("trigger depth limit reached".into());
    }
    match snapshot.agents.get(target) {
        None => return refuse(format!("target agent \"{target}\" not found")),
        Some(agent) if agent.wanted_scale == 0 => return refuse(format!("target agent \"{target}\" is disabled")),
        Some(agent) if agent.paused => return refuse(format!("target agent \"{target}\" is paused")),
        Some(_) => {}
    }
    if let Some(at) = caller.chain.iter().position(|agent| agent == target) {
        return refuse(format!("call cycle: {} → {target}", caller.chain[at..].join(" → ")));
    }
    Ok(())
}

/// `GET /calls/:callId`
pub(in crate::gateway) fn show(gateway: &Shared, asked: &Asked<'_>) -> Result<Reply, Reply> {
    let caller = gateway.caller(&query_secret(asked.req)?)?;
    let wait = asked.req.query.get("wait").and_then(|text| text.parse().ok());
    let wait = wait.filter(|seconds| *seconds <= LONGEST_WAIT_SECONDS).unwrap_or(0);
    // Too many long polls: this one gets the state as it is.
    let poll = if wait > 0 { Poll::begin(&gateway.polls) } else { None };
    let until = Instant::now() + poll.as_ref().map_or(Duration::ZERO, |_| Duration::from_secs(wait));
    loop {
        let seen = gateway.store.call_version();
        let state = gateway.store.read(|db| calls::get(db, asked.param(0), &caller.instance));
        let state = gateway.looked_up("look up call", state)?.ok_or_else(|| Reply::error(404, "call not found"))?;
        if !state.is_open() || Instant::now() >= until || asked.is_stopping() {
            return Ok(render(&state));
        }
        gateway.store.wait_for_call_change(seen, until);
    }
}

fn render(state: &CallState) -> Reply {
    Reply::json(
        200,
        &match state {
            CallState::Pending => json!({ "status": "pending" }),
            CallState::Running => json!({ "status": "running" }),
            CallState::Completed { return_value: None } => json!({ "status": "completed" }),
            CallState::Completed { return_value } => json!({ "status": "completed", "returnValue": return_value }),
            CallState::Error { message } => json!({ "status": "error", "errorMessage": message }),
        },
    )
}

/// One of the long polls that may wait.
struct Poll<'g>(&'g AtomicUsize);

impl<'g> Poll<'g> {
    fn begin(count: &'g AtomicUsize) -> Option<Self> {
        let more = |count| (count < MOST_POLLS).then_some(count + 1);
        count.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok().map(|_| Self(count))
    }
}

impl Drop for Poll<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
