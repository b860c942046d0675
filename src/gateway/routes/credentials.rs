//! `GET /credentials/:secret`: credentials for runs that are to fetch them here (gateway.md §8.1). No run is: all of
//! them have theirs mounted.

use crate::base::Secret;
use crate::gateway::routing::Asked;
use crate::gateway::shared::Shared;
use crate::http::Reply;

pub(in crate::gateway) fn show(gateway: &Shared, asked: &Asked<'_>) -> Result<Reply, Reply> {
    let refusal = match gateway.caller(&Secret::new(asked.param(0))) {
        Ok(_) => Reply::error(403, "credential fetch disabled"),
        Err(reply) => reply,
    };
    Err(refusal.with_header("Cache-Control", "no-store"))
}
