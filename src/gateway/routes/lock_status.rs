//! `GET /locks/status`: all locks at a glance (gateway.md §9.1).

use serde_json::{Value, json};

use crate::base::clock::UnixMs;
use crate::gateway::public::Public;
use crate::gateway::routing::Asked;
use crate::http::Reply;
use crate::store::locks::{self, Lock};

pub(in crate::gateway) fn overview(public: &Public, _: &Asked<'_>) -> Result<Reply, Reply> {
    let held = public.shared.store.read(|db| locks::all(db, UnixMs::now()));
    let held = public.shared.looked_up("list locks", held)?;
    let render = |(lock, agent): &(Lock, String)| {
        json!({
            "resourceKey": lock.resource_key,
            "agentName": agent,
            "holder": lock.holder,
            "heldSince": lock.held_since.0,
            "expiresAt": lock.expires_at.0,
        })
    };
    Ok(Reply::json(200, &json!({ "locks": held.iter().map(render).collect::<Value>() })))
}
