//! `/signals/*`: what a run says about itself (gateway.md §11).

use serde_json::Value;

use super::{calls, no_storage_error, ok};
use crate::base::text::cut;
use crate::gateway::input::{Fields, missing};
use crate::gateway::routing::Asked;
use crate::gateway::shared::Shared;
use crate::http::Reply;
use crate::scheduler::handle::Event;
use crate::store::calls::NewCall;
use crate::store::containers;

/// What is kept of a status text.
const STATUS_CHARS: usize = 1000;
/// Longest return value.
const RETURN_BYTES: usize = 1024 * 1024;

/// `POST /signals/rerun`
pub(in crate::gateway) fn rerun(gateway: &Shared, asked: &Asked<'_>) -> Result<Reply, Reply> {
    let caller = gateway.caller(&Fields::parse(asked.req)?.secret()?)?;
    gateway.handle.send(Event::RerunRequested { instance: caller.instance });
    Ok(ok())
}

/// `POST /signals/status`
pub(in crate::gateway) fn status(gateway: &Shared, asked: &Asked<'_>) -> Result<Reply, Reply> {
    let fields = Fields::parse(asked.req)?;
    let secret = fields.secret()?;
    let text = fields.required("text")?;
    let caller = gateway.caller(&secret)?;
    let masked = gateway.handle.secrets().mask(&caller.instance, &text);
    let text = cut(&masked, STATUS_CHARS).to_owned();
    gateway.handle.send(Event::StatusText { instance: caller.instance, text });
    Ok(ok())
}

/// `POST /signals/return`
pub(in crate::gateway) fn return_value(gateway: &Shared, asked: &Asked<'_>) -> Result<Reply, Reply> {
    let fields = Fields::parse(asked.req)?;
    let secret = fields.secret()?;
    let value = match fields.value("value").ok_or_else(|| missing("value"))? {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if value.len() > RETURN_BYTES {
        return Err(Reply::error(413, "payload too large"));
    }
    let secrets = gateway.handle.secrets().clone();
    gateway.change(&secret, no_storage_error, move |tx, caller| {
        containers::set_return_value(tx, &caller.instance, &secrets.mask(&caller.instance, &value))
    })?;
    Ok(ok())
}

/// `POST /signals/trigger`
pub(in crate::gateway) fn trigger(gateway: &Shared, asked: &Asked<'_>) -> Result<Reply, Reply> {
    let fields = Fields::parse(asked.req)?;
    let secret = fields.secret()?;
    let target = fields.required("targetAgent")?;
    let context = fields.required("context")?;
    calls::dispatch(gateway, &secret, NewCall { target, context, call_id: None })?;
    Ok(ok())
}
