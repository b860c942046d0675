//! `/locks/*`: named exclusion between instances (gateway.md §9).
//!
//! A holder that just named its key gets it back as it wrote it. Everything that is stored, and so every other answer,
//! has the key without the secrets of the run.

use std::time::Duration;

use serde_json::{Value, json};

use super::{no_storage_reason, ok, refused};
use crate::base::Secret;
use crate::base::clock::UnixMs;
use crate::gateway::input::{Fields, query_secret};
use crate::gateway::routing::Asked;
use crate::gateway::shared::Shared;
use crate::http::Reply;
use crate::store::Tx;
use crate::store::locks::{self, Acquired, Key, Lock, Owned};

/// Longest key and longest life.
const KEY_BYTES: usize = 1024;
const LONGEST_TTL_SECONDS: f64 = 604_800.0;

/// What every change of a lock says.
struct LockRequest {
    secret: Secret,
    key: String,
    ttl: Duration,
}

impl LockRequest {
    fn parse(gateway: &Shared, asked: &Asked<'_>) -> Result<Self, Reply> {
        let fields = Fields::parse(asked.req)?;
        let secret = fields.secret()?;
        let key = fields.required("resourceKey")?;
        if key.len() > KEY_BYTES {
            return Err(Reply::error(400, "resourceKey too long"));
        }
        let ttl = ttl(fields.value("ttl"), gateway.lock_timeout).ok_or_else(|| Reply::error(400, "invalid ttl"))?;
        Ok(Self { secret, key, ttl })
    }

    /// Makes a change for the instance that asks, of the lock that it names.
    fn change<T: Send + 'static>(
        self,
        gateway: &Shared,
        change: impl FnOnce(&Tx<'_>, &Key, &str) -> anyhow::Result<T> + Send + 'static,
    ) -> Result<T, Reply> {
        let (secrets, text) = (gateway.handle.secrets().clone(), self.key);
        let changed = gateway.change(&self.secret, no_storage_reason, move |tx, caller| {
            let key = Key::new(&text, secrets.mask(&caller.instance, &text));
            change(tx, &key, &caller.instance)
        });
        changed.map(|(_, value)| value)
    }
}

/// Seconds of life; 0 or nothing: the default.
fn ttl(value: Option<&Value>, default: Duration) -> Option<Duration> {
    let Some(value) = value else { return Some(default) };
    let seconds = value.as_f64()?;
    if seconds == 0.0 {
        return Some(default);
    }
    (seconds > 0.0 && seconds <= LONGEST_TTL_SECONDS).then(|| Duration::from_secs_f64(seconds))
}

/// `POST /locks/acquire`
pub(in crate::gateway) fn acquire(gateway: &Shared, asked: &Asked<'_>) -> Result<Reply, Reply> {
    let request = LockRequest::parse(gateway, asked)?;
    let (key, ttl, now) = (request.key.clone(), request.ttl, UnixMs::now());
    let acquired = request.change(gateway, move |tx, key, caller| locks::acquire(tx, key, caller, ttl, now))?;
    match acquired {
        Acquired::Yes => Ok(Reply::json(200, &json!({ "ok": true, "resourceKey": key }))),
        Acquired::HoldsOther(other) => {
            Err(refused(409, &format!("already holding lock on {other} — release it first")))
        }
        Acquired::HeldBy { holder, held_since } => {
            Err(Reply::json(409, &json!({ "ok": false, "holder": holder, "heldSince": held_since.0 })))
        }
    }
}

/// `POST /locks/release`
pub(in crate::gateway) fn release(gateway: &Shared, asked: &Asked<'_>) -> Result<Reply, Reply> {
    let (request, now) = (LockRequest::parse(gateway, asked)?, UnixMs::now());
    let released = request.change(gateway, move |tx, key, caller| locks::release(tx, key, caller, now))?;
    owned(released, |()| ok())
}

/// `POST /locks/heartbeat`
pub(in crate::gateway) fn heartbeat(gateway: &Shared, asked: &Asked<'_>) -> Result<Reply, Reply> {
    let request = LockRequest::parse(gateway, asked)?;
    let (ttl, now) = (request.ttl, UnixMs::now());
    let extended = request.change(gateway, move |tx, key, caller| locks::heartbeat(tx, key, caller, ttl, now))?;
    owned(extended, |expires_at| Reply::json(200, &json!({ "ok": true, "expiresAt": expires_at.0 })))
}

fn owned<T>(owned: Owned<T>, reply: impl FnOnce(T) -> Reply) -> Result<Reply, Reply> {
    match owned {
        Owned::Yes(value) => Ok(reply(value)),
        Owned::NotFound => Err(refused(404, "lock not found")),
        Owned::HeldBy(holder) => Err(refused(409, &format!("held by {holder}"))),
    }
}

/// `GET /locks/list`
pub(in crate::gateway) fn list(gateway: &Shared, asked: &Asked<'_>) -> Result<Reply, Reply> {
    let caller = gateway.caller(&query_secret(asked.req)?)?;
    let held = gateway.store.read(|db| locks::list(db, &caller.instance, UnixMs::now()));
    let held = gateway.looked_up("list locks", held)?;
    Ok(Reply::json(200, &held.iter().map(lock).collect::<Value>()))
}

fn lock(lock: &Lock) -> Value {
    json!({
        "resourceKey": lock.resource_key,
        "holder": lock.holder,
        "heldSince": lock.held_since.0,
        "expiresAt": lock.expires_at.0,
    })
}
