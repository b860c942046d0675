//! From a request to a context: signature, decoding, context (steps 5–7 of gateway.md §18.1).

use std::fmt;

use super::decode;
use super::headers::Headers;
use super::provider::{Payload, Provider};
use super::secrets::Stored;
use super::signature::{self, Unsigned};
use crate::base::clock::UnixMs;
use crate::model::webhook_context::Context;

/// A request as it was sent.
#[derive(Clone, Copy)]
pub struct Delivery<'a> {
    pub headers: &'a Headers,
    pub body: &'a [u8],
    /// When it was received.
    pub now: UnixMs,
}

/// A delivery from somebody who may send one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genuine {
    /// Credential instance whose secret signed it, `_unsigned`, or `test`.
    pub matched_source: String,
    /// The provider's id of the delivery; the same when it sends it again.
    pub delivery_id: Option<String>,
    /// What it says; `None` when it is nothing that could start a run, such as a ping.
    pub context: Option<Context>,
}

/// Why a delivery is not even looked at. Shown as the text of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Signature,
    InvalidJson,
    MissingPayload,
}

impl Refusal {
    /// The reason in receipts.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Signature => "validation_failed",
            Self::InvalidJson | Self::MissingPayload => "parse_error",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signature => "signature validation failed",
            Self::InvalidJson => "invalid JSON body",
            Self::MissingPayload => "missing payload in form body",
        })
    }
}

/// Checks and reads a delivery. `stored`: the secrets of the provider; `unsigned`: what its sources say.
///
/// # Errors
/// A delivery that is not signed as it has to be, or that cannot be decoded.
pub fn read(
    provider: &dyn Provider,
    delivery: &Delivery<'_>,
    stored: &[Stored],
    unsigned: Unsigned,
) -> Result<Genuine, Refusal> {
    let matched_source = signature::matched_source(provider, delivery, stored, unsigned).ok_or(Refusal::Signature)?;
    let json = decode::json_text(delivery.headers, delivery.body)?;
    let payload = Payload { headers: delivery.headers, json: &json, now: delivery.now };
    let context = provider.context(&payload)?;
    Ok(Genuine { matched_source, delivery_id: provider.delivery_id(&payload), context })
}

/// What a delivery says, whoever sent it; `None` when it is not an event.
///
/// # Errors
/// A body that cannot be decoded.
pub fn context(provider: &dyn Provider, delivery: &Delivery<'_>) -> Result<Option<Context>, Refusal> {
    let json = decode::json_text(delivery.headers, delivery.body)?;
    provider.context(&Payload { headers: delivery.headers, json: &json, now: delivery.now })
}
