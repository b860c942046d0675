//! Bodies of the gateway's container face (gateway.md §8–§12) as the in-container commands send them.
//!
//! The gateway reads requests leniently (any JSON object, unknown members ignored, errors per member), so it does not
//! deserialise into these types; it shares the member names through them in its tests.

use serde::{Deserialize, Serialize};

use crate::secret::Secret;

/// Paths of the container face.
pub const LOCKS_ACQUIRE: &str = "/locks/acquire";
pub const LOCKS_RELEASE: &str = "/locks/release";
pub const LOCKS_HEARTBEAT: &str = "/locks/heartbeat";
/// `POST` makes a call; `GET` with the id as a further component asks for it.
pub const CALLS: &str = "/calls";
pub const SIGNALS_STATUS: &str = "/signals/status";
pub const SIGNALS_RETURN: &str = "/signals/return";
pub const SIGNALS_RERUN: &str = "/signals/rerun";
pub const SHUTDOWN: &str = "/shutdown";
pub const HEALTH: &str = "/health";

/// Body of [`LOCKS_ACQUIRE`], [`LOCKS_RELEASE`], [`LOCKS_HEARTBEAT`].
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LockRequest<'a> {
    #[serde(with = "expose")]
    pub secret: &'a Secret,
    pub resource_key: &'a str,
}

/// Body of a `POST` to [`CALLS`].
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CallRequest<'a> {
    #[serde(with = "expose")]
    pub secret: &'a Secret,
    pub target_agent: &'a str,
    pub context: &'a str,
}

/// What a call's state tells its caller about going on waiting; the answer has more members (gateway.md §10.4).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct CallState {
    /// `pending`, `running`, `completed` or `error`.
    pub status: String,
}

/// Body of [`SIGNALS_STATUS`].
#[derive(Serialize)]
pub struct StatusRequest<'a> {
    #[serde(with = "expose")]
    pub secret: &'a Secret,
    pub text: &'a str,
}

/// Body of [`SIGNALS_RETURN`].
#[derive(Serialize)]
pub struct ReturnRequest<'a> {
    #[serde(with = "expose")]
    pub secret: &'a Secret,
    pub value: &'a str,
}

/// Body of [`SIGNALS_RERUN`].
#[derive(Serialize)]
pub struct RerunRequest<'a> {
    #[serde(with = "expose")]
    pub secret: &'a Secret,
}

/// Body of [`SHUTDOWN`].
#[derive(Serialize)]
pub struct ShutdownRequest<'a> {
    #[serde(with = "expose")]
    pub secret: &'a Secret,
    pub reason: &'a str,
}

/// The places where a secret is written on purpose: a member marked `#[serde(with = "expose")]`.
pub(super) mod expose {
    use serde::{Serialize, Serializer};

    use crate::secret::Secret;

    pub(in crate::wire) fn serialize<S: Serializer>(secret: &&Secret, serializer: S) -> Result<S::Ok, S::Error> {
        secret.expose().serialize(serializer)
    }

    /// The same for a member that may be `null`.
    pub(in crate::wire) mod option {
        use serde::{Deserialize, Deserializer, Serialize, Serializer};

        use crate::secret::Secret;

        pub(in crate::wire) fn serialize<S: Serializer>(
            secret: &Option<Secret>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            secret.as_ref().map(Secret::expose).serialize(serializer)
        }

        pub(in crate::wire) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Secret>, D::Error> {
            Ok(Option::<String>::deserialize(deserializer)?.map(Secret::new))
        }
    }
}
