//! `/control/*`: what people and scripts ask of the scheduler (gateway.md §13, §27.6). Its decisions are its own; here
//! they become answers.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::gateway::public::Public;
use crate::gateway::routing::Asked;
use crate::http::Reply;
use crate::model::status::{AgentStatus, InstanceStatus};
use crate::scheduler::handle::{Control, Done, Refusal, Snapshot, StopWish};

/// Longest task of a run by hand.
const PROMPT_BYTES: usize = 64 * 1024;

/// `GET /control/instances`
pub(in crate::gateway) fn instances(public: &Public, _: &Asked<'_>) -> Result<Reply, Reply> {
    let snapshot = snapshot(public)?;
    Ok(Reply::json(200, &json!({ "instances": running(&snapshot) })))
}

/// `GET /control/status`
pub(in crate::gateway) fn status(public: &Public, _: &Asked<'_>) -> Result<Reply, Reply> {
    let snapshot = snapshot(public)?;
    let queued = public.shared.store.queued_counts();
    let agents = snapshot.agents.values().map(|agent| {
        let queued_webhooks = queued.get(&agent.name).copied().unwrap_or(0);
        AgentStatus { queued_webhooks, ..AgentStatus::clone(agent) }
    });
    let status = json!({
        "scheduler": snapshot.scheduler.as_deref(),
        "instances": running(&snapshot),
        "agents": agents.collect::<Vec<_>>(),
        "running": snapshot.instances.len(),
        "queueSizes": queued,
    });
    Ok(Reply::json(200, &status))
}

fn running(snapshot: &Snapshot) -> Vec<&InstanceStatus> {
    snapshot.instances.iter().map(Arc::as_ref).collect()
}

fn snapshot(public: &Public) -> Result<Arc<Snapshot>, Reply> {
    let snapshot = public.shared.handle.snapshot();
    if snapshot.scheduler.is_none() {
        return Err(Reply::error(503, "Status tracker not available"));
    }
    Ok(snapshot)
}

/// `POST /control/pause`
pub(in crate::gateway) fn pause(public: &Public, _: &Asked<'_>) -> Result<Reply, Reply> {
    let failed = |refusal| failed("pause scheduler", &refusal);
    control(public, Control::Pause).map(|_| success("Scheduler paused".into())).map_err(failed)
}

/// `POST /control/resume`
pub(in crate::gateway) fn resume(public: &Public, _: &Asked<'_>) -> Result<Reply, Reply> {
    let failed = |refusal| failed("resume scheduler", &refusal);
    control(public, Control::Resume).map(|_| success("Scheduler resumed".into())).map_err(failed)
}

/// `POST /control/stop`
pub(in crate::gateway) fn stop(public: &Public, asked: &Asked<'_>) -> Result<Reply, Reply> {
    let body = optional_body(asked);
    let is_set = |name| body.get(name) == Some(&Value::Bool(true));
    let wish = Control::Stop(StopWish { clear_queue: is_set("clearQueue"), kill: is_set("kill") });
    match control(public, wish) {
        Ok(_) => Ok(success("Scheduler stopping".into())),
        Err(_) => Err(Reply::error(503, "Stop not available")),
    }
}

/// `POST /control/kill/:instanceId`
pub(in crate::gateway) fn kill_instance(public: &Public, asked: &Asked<'_>) -> Result<Reply, Reply> {
    let instance = asked.param(0).to_owned();
    match control(public, Control::KillInstance { instance: instance.clone() }) {
        Ok(_) => Ok(success(format!("Instance {instance} killed"))),
        Err(Refusal::UnknownInstance) => Err(Reply::error(404, &format!("Instance {instance} not found"))),
        Err(refusal) => Err(failed("kill instance", &refusal)),
    }
}

/// `POST /control/trigger/:name`
pub(in crate::gateway) fn trigger(public: &Public, asked: &Asked<'_>) -> Result<Reply, Reply> {
    let agent = asked.param(0);
    let body = optional_body(asked);
    let prompt = match body.get("prompt") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        Some(_) => return Err(Reply::error(400, "invalid prompt")),
    };
    if prompt.as_ref().is_some_and(|prompt| prompt.len() > PROMPT_BYTES) {
        return Err(Reply::error(413, "payload too large"));
    }
    let queue = body.get("queue") == Some(&Value::Bool(true));
    let done = control(public, Control::Trigger { agent: agent.to_owned(), prompt, queue });
    match done.map_err(|refusal| not_triggered(agent, &refusal))? {
        Done::Queued => {
            let message = format!("Agent {agent} queued");
            Ok(Reply::json(202, &json!({ "success": true, "message": message, "queued": true })))
        }
        Done::Started { instance } => {
            let message = format!("Agent {agent} triggered");
            Ok(Reply::json(200, &json!({ "success": true, "message": message, "instanceId": instance })))
        }
        Done::Yes | Done::Killed(_) => Ok(success(format!("Agent {agent} triggered"))),
    }
}

fn not_triggered(agent: &str, refusal: &Refusal) -> Reply {
    match refusal {
        Refusal::UnknownAgent => unknown_agent(agent),
        Refusal::NoFreeRunner => Reply::error(409, &format!("Agent {agent} has no free runner")),
        Refusal::ProjectLimit(limit) => Reply::error(409, &format!("Project limit of {limit} runs reached")),
        Refusal::Disabled => Reply::error(409, &format!("Agent {agent} is disabled (scale 0)")),
        Refusal::NoImage => Reply::error(409, &format!("Agent {agent} has no image")),
        Refusal::NotAvailable => Reply::error(503, "Trigger not available"),
        other => failed("trigger agent", other),
    }
}

/// `POST /control/agents/:name/enable`
pub(in crate::gateway) fn enable(public: &Public, asked: &Asked<'_>) -> Result<Reply, Reply> {
    of_agent(public, asked, |agent| Control::Enable { agent }, "enable", "enabled")
}

/// `POST /control/agents/:name/resume`
pub(in crate::gateway) fn resume_agent(public: &Public, asked: &Asked<'_>) -> Result<Reply, Reply> {
    of_agent(public, asked, |agent| Control::Enable { agent }, "resume", "resumed")
}

/// `POST /control/agents/:name/disable`
pub(in crate::gateway) fn disable(public: &Public, asked: &Asked<'_>) -> Result<Reply, Reply> {
    of_agent(public, asked, |agent| Control::Disable { agent }, "disable", "disabled")
}

/// `POST /control/agents/:name/pause`
pub(in crate::gateway) fn pause_agent(public: &Public, asked: &Asked<'_>) -> Result<Reply, Reply> {
    of_agent(public, asked, |agent| Control::Disable { agent }, "pause", "paused")
}

/// A wish about an agent; `verb` and `done` are the words for it in answers.
fn of_agent(
    public: &Public,
    asked: &Asked<'_>,
    wish: fn(String) -> Control,
    verb: &str,
    done: &str,
) -> Result<Reply, Reply> {
    let agent = asked.param(0);
    match control(public, wish(agent.to_owned())) {
        Ok(_) => Ok(success(format!("Agent {agent} {done}"))),
        Err(Refusal::UnknownAgent) => Err(unknown_agent(agent)),
        Err(Refusal::NotAvailable) => Err(Reply::error(503, &format!("{} not available", capitalised(verb)))),
        Err(refusal) => Err(failed(&format!("{verb} agent"), &refusal)),
    }
}

/// `POST /control/agents/:name/kill`
pub(in crate::gateway) fn kill_agent(public: &Public, asked: &Asked<'_>) -> Result<Reply, Reply> {
    let agent = asked.param(0);
    match control(public, Control::KillAgent { agent: agent.to_owned() }) {
        Ok(done) => {
            let killed = if let Done::Killed(count) = done { count } else { 0 };
            let message = format!("Killed {killed} instance(s) of {agent}");
            Ok(Reply::json(200, &json!({ "success": true, "message": message, "killed": killed })))
        }
        Err(Refusal::UnknownAgent) => Err(unknown_agent(agent)),
        Err(refusal) => Err(failed("kill agent", &refusal)),
    }
}

fn control(public: &Public, wish: Control) -> Result<Done, Refusal> {
    public.shared.handle.control(wish)
}

/// Members of a body that may be missing; what is no JSON object counts as missing.
fn optional_body(asked: &Asked<'_>) -> Map<String, Value> {
    serde_json::from_slice(&asked.req.body).unwrap_or_default()
}

pub(super) fn success(message: String) -> Reply {
    Reply::json(200, &json!({ "success": true, "message": message }))
}

pub(super) fn unknown_agent(agent: &str) -> Reply {
    Reply::error(404, &format!("Agent {agent} not found"))
}

/// The 500 of a wish; `what` is a verb and its object.
fn failed(what: &str, refusal: &Refusal) -> Reply {
    Reply::error(500, &format!("Failed to {what}: {refusal}"))
}

fn capitalised(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
