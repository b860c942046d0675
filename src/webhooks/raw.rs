//! Deliveries in files, `{"headers":{…},"body":…}`, for trying out what they do (gateway.md §27.1).

use serde_json::{Map, Value};

use super::delivery::{self, Delivery};
use super::headers::Headers;
use super::provider::Provider;
use super::providers;
use crate::base::clock::UnixMs;
use crate::model::webhook_context::Context;

/// A delivery that was written down.
pub struct RawDelivery {
    headers: Headers,
    body: String,
}

impl RawDelivery {
    /// Whether an object looks like a delivery rather than like a context.
    pub fn is_one(given: &Map<String, Value>) -> bool {
        given.contains_key("headers") && given.contains_key("body") && !given.contains_key("source")
    }

    /// Reads one. A body that is a string is what was sent, everything else the JSON that was in it.
    ///
    /// # Errors
    /// When it is not a delivery; says why.
    pub fn from_json(given: &Map<String, Value>) -> Result<Self, String> {
        let Some(Value::Object(fields)) = given.get("headers") else { return Err("`headers` is not an object".into()) };
        let mut fields = fields.clone();
        let body = match given.get("body") {
            None => return Err("`body` is missing".into()),
            Some(Value::String(body)) => body.clone(),
            Some(json) => {
                // It is decoded already, whatever form it came in.
                fields.retain(|name, _| !name.eq_ignore_ascii_case("content-type"));
                json.to_string()
            }
        };
        let headers = Headers::from_json(&fields).map_err(|name| format!("the header `{name}` is not a text"))?;
        Ok(Self { headers, body })
    }

    /// The provider that it must be from, by its header.
    ///
    /// # Errors
    /// When the header does not say.
    pub fn provider(&self) -> Result<&'static dyn Provider, String> {
        let marks = || providers::marks().collect::<Vec<_>>().join(", ");
        providers::guess(&self.headers).ok_or_else(|| {
            format!("its headers do not say which provider sent it; one of them has to be there: {}", marks())
        })
    }

    /// The request that it stands for.
    pub fn delivery(&self, now: UnixMs) -> Delivery<'_> {
        Delivery { headers: &self.headers, body: self.body.as_bytes(), now }
    }

    /// What it says, without looking at its signature.
    ///
    /// # Errors
    /// When it cannot be decoded or is not an event; says why.
    pub fn context(&self, provider: &dyn Provider, now: UnixMs) -> Result<Context, String> {
        let name = provider.name();
        match delivery::context(provider, &self.delivery(now)) {
            Ok(Some(context)) => Ok(context),
            Ok(None) => Err(format!("{name} sends such a delivery without an event that could start a run")),
            Err(refusal) => Err(format!("{refusal}, sent by {name}")),
        }
    }
}
