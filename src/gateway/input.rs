//! What requests of containers carry: an object of JSON members and a secret.

use serde_json::{Map, Value};

use crate::base::Secret;
use crate::http::{Reply, Req};

/// Members of a request body. Unknown ones are ignored.
pub(super) struct Fields {
    members: Map<String, Value>,
    bearer: Option<Secret>,
}

impl Fields {
    /// Reads a body, whatever its `Content-Type`.
    ///
    /// # Errors
    /// 400 when it is no JSON object.
    pub(super) fn parse(request: &Req) -> Result<Self, Reply> {
        match serde_json::from_slice(&request.body) {
            Ok(Value::Object(members)) => Ok(Self { members, bearer: bearer(request) }),
            _ => Err(Reply::error(400, "invalid JSON body")),
        }
    }

    /// The secret of the run that asks.
    ///
    /// # Errors
    /// 400 when there is none.
    pub(super) fn secret(&self) -> Result<Secret, Reply> {
        let member = self.text("secret").filter(|text| !text.is_empty()).map(Secret::new);
        member.or_else(|| self.bearer.clone()).ok_or_else(missing_secret)
    }

    /// A member that is a string.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.members.get(name)?.as_str()
    }

    /// A member, `null` counting as absent.
    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.members.get(name).filter(|value| !value.is_null())
    }

    /// A member that must be a string with at least one character.
    ///
    /// # Errors
    /// 400 when it is not.
    pub(super) fn required(&self, name: &str) -> Result<String, Reply> {
        let text = self.text(name).filter(|text| !text.is_empty());
        text.map(str::to_owned).ok_or_else(|| missing(name))
    }
}

/// The secret of a request without body.
///
/// # Errors
/// 400 when there is none.
pub(super) fn query_secret(request: &Req) -> Result<Secret, Reply> {
    request.query.get("secret").map(Secret::new).or_else(|| bearer(request)).ok_or_else(missing_secret)
}

/// 400 for a member that is absent or of the wrong kind.
pub(super) fn missing(name: &str) -> Reply {
    Reply::error(400, &format!("missing {name}"))
}

fn missing_secret() -> Reply {
    missing("secret")
}

fn bearer(request: &Req) -> Option<Secret> {
    let text = request.headers.get("Authorization")?.strip_prefix("Bearer ")?;
    (!text.is_empty()).then(|| Secret::new(text))
}
