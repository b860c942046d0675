//! Bodies of the gateway's container face (gateway.md §8–§12) as the in-container commands send them.
//!
//! The gateway reads requests leniently (any JSON object, unknown members ignored, errors per member), so it does not
//! deserialise into these types; it shares the member names through them in its tests.

use serde::Serialize;

use crate::secret::Secret;

/// `POST /locks/acquire`, `/locks/release`, `/locks/heartbeat`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LockRequest<'a> {
    #[serde(with = "expose")]
    pub secret: &'a Secret,
    pub resource_key: &'a str,
}

/// `POST /calls`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CallRequest<'a> {
    #[serde(with = "expose")]
    pub secret: &'a Secret,
    pub target_agent: &'a str,
    pub context: &'a str,
}

/// `POST /signals/status`.
#[derive(Serialize)]
pub struct StatusRequest<'a> {
    #[serde(with = "expose")]
    pub secret: &'a Secret,
    pub text: &'a str,
}

/// `POST /signals/return`.
#[derive(Serialize)]
pub struct ReturnRequest<'a> {
    #[serde(with = "expose")]
    pub secret: &'a Secret,
    pub value: &'a str,
}

/// `POST /signals/rerun`.
#[derive(Serialize)]
pub struct RerunRequest<'a> {
    #[serde(with = "expose")]
    pub secret: &'a Secret,
}

/// `POST /shutdown`.
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
