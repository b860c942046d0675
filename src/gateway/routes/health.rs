//! `GET /health`: containers ask before they start.

use serde_json::json;

use crate::gateway::routing::Asked;
use crate::http::Reply;

/// Route whose requests are not logged.
pub(in crate::gateway) const PATH: &str = "/health";

pub(in crate::gateway) fn check<S>(_: &S, _: &Asked<'_>) -> Result<Reply, Reply> {
    Ok(Reply::json(200, &json!({ "status": "ok" })))
}
