//! `POST /shutdown`: emergency stop of the calling container (gateway.md §12).

use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};
use serde_json::json;

use super::no_storage_error;
use crate::base::log::{Entry, Level};
use crate::base::text::{cut, printable};
use crate::gateway::input::Fields;
use crate::gateway::routing::Asked;
use crate::gateway::shared::Shared;
use crate::http::Reply;
use crate::scheduler::handle::Event;
use crate::store::containers;

/// How long the scheduler gets to kill a container; less than an answer may take.
const KILL_TIME: Duration = Duration::from_secs(60);
/// What is kept of the texts that a container gives.
const REASON_CHARS: usize = 1000;
const DETAILS_CHARS: usize = 4000;

pub(in crate::gateway) fn shutdown(gateway: &Shared, asked: &Asked<'_>) -> Result<Reply, Reply> {
    let fields = Fields::parse(asked.req)?;
    let secret = fields.secret()?;
    // Looked up before anything is said: a run that warns of a secret may name it.
    let caller = gateway.caller(&secret)?;
    let masked = |text| gateway.handle.secrets().mask(&caller.instance, text);
    let foreign = |name, limit| fields.text(name).map(|text| printable(cut(&masked(text), limit)).into_owned());
    let given = foreign("reason", REASON_CHARS).filter(|reason| !reason.is_empty());
    let given = given.unwrap_or_else(|| "no reason given".into());
    let reason = format!("shutdown requested: {given}");
    // Logged before anything is done: it may be the last that is heard of this run.
    let mut entry = Entry::new(Level::Error, "shutdown requested by container")
        .of_instance(&caller.instance)
        .field("container", caller.container_name.as_str())
        .field("reason", given);
    if let Some(details) = foreign("details", DETAILS_CHARS) {
        entry = entry.field("details", details);
    }
    gateway.log.write(&entry);
    let committed = reason.clone();
    let (caller, ()) = gateway
        .change(&secret, no_storage_error, move |tx, caller| containers::revoke(tx, &caller.instance, &committed))?;
    let (reply, killed) = bounded(1);
    gateway.handle.send(Event::Kill { instance: caller.instance, reason, reply });
    let killed = killed.recv_timeout(KILL_TIME).unwrap_or_else(|error| {
        Err(match error {
            RecvTimeoutError::Timeout => format!("no answer within {} s", KILL_TIME.as_secs()),
            RecvTimeoutError::Disconnected => "the scheduler has ended".into(),
        })
    });
    match killed {
        Ok(()) => Ok(Reply::json(200, &json!({ "killed": true, "container": caller.container_name }))),
        Err(cause) => Err(Reply::error(500, &format!("failed to kill container: {cause}"))),
    }
}
