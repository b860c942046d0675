//! What a provider is: the code that understands one sender of webhooks.

use super::decode;
use super::delivery::{Delivery, Refusal};
use super::headers::Headers;
use super::lenient::Object;
use super::signature;
use crate::base::Secret;
use crate::base::clock::UnixMs;
use crate::model::webhook_context::Context;

/// Where a sender puts the HMAC of the body.
#[derive(Clone, Copy, Debug)]
pub struct Signature {
    /// Header fields; the first one that is there counts.
    pub headers: &'static [&'static str],
    /// What stands before the hex digits.
    pub prefix: &'static str,
}

/// One sender of webhooks.
pub trait Provider: Sync {
    /// Its name, as in `type = "…"` and in [`crate::config::webhook::PROVIDERS`].
    fn name(&self) -> &'static str;

    /// How it signs; `None` when it does not.
    fn signature(&self) -> Option<Signature>;

    /// Header fields that show that a delivery is from this provider.
    fn marks(&self) -> &'static [&'static str];

    /// The provider's id of a delivery, the same when it sends it again.
    fn delivery_id(&self, payload: &Payload<'_>) -> Option<String>;

    /// What a delivery says; `None` when it is not an event.
    ///
    /// # Errors
    /// When the payload is not JSON.
    fn context(&self, payload: &Payload<'_>) -> Result<Option<Context>, Refusal>;

    /// Whether a delivery was signed with a secret.
    fn is_signed_with(&self, secret: &Secret, delivery: &Delivery<'_>) -> bool {
        let Some(Signature { headers, prefix }) = self.signature() else { return false };
        let given = headers.iter().find_map(|name| delivery.headers.get(name));
        let hex = given.and_then(|value| value.strip_prefix(prefix));
        hex.is_some_and(|hex| signature::is_hmac(hex, secret, delivery.body))
    }
}

/// The decoded form of a delivery.
pub struct Payload<'a> {
    pub headers: &'a Headers,
    /// Meant to be JSON; whether it is shows when it is read.
    pub(super) json: &'a str,
    /// When it was received.
    pub now: UnixMs,
}

impl Payload<'_> {
    /// The value of a header field.
    pub(super) fn header(&self, name: &str) -> Option<String> {
        self.headers.get(name).map(str::to_owned)
    }

    /// The members that a structure asks for; `None` when the payload is not an object.
    ///
    /// # Errors
    /// When it is not JSON.
    pub(super) fn read<T: Object>(&self) -> Result<Option<T>, Refusal> {
        decode::payload(self.json)
    }
}
