//! The routes, one file per group.

use serde_json::json;

use crate::http::Reply;

pub(super) mod calls;
pub(super) mod credentials;
pub(super) mod health;
pub(super) mod locks;
pub(super) mod shutdown;
pub(super) mod signals;

/// 200 `{"ok":true}`.
fn ok() -> Reply {
    Reply::json(200, &json!({ "ok": true }))
}

/// `{"ok":false,"reason":"…"}`.
fn refused(status: u16, reason: &str) -> Reply {
    Reply::json(status, &json!({ "ok": false, "reason": reason }))
}

/// 503 where refusals have a `reason`.
fn no_storage_reason() -> Reply {
    refused(503, "storage unavailable")
}

/// 503 everywhere else.
fn no_storage_error() -> Reply {
    Reply::error(503, "storage unavailable")
}
