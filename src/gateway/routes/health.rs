//! `GET /health`: containers ask before they start.

use serde_json::json;

use crate::gateway::Gateway;
use crate::gateway::routing::Asked;
use crate::http::Reply;

pub(in crate::gateway) fn check(_: &Gateway, _: &Asked<'_>) -> Result<Reply, Reply> {
    Ok(Reply::json(200, &json!({ "status": "ok" })))
}
