//! The providers, one file each.

mod github;
mod linear;
mod mintlify;
mod sentry;
mod test;

use super::headers::Headers;
use super::provider::Provider;

static ALL: [&dyn Provider; 5] = [&github::Github, &sentry::Sentry, &linear::Linear, &mintlify::Mintlify, &test::Test];

/// The provider with this name.
pub fn find(name: &str) -> Option<&'static dyn Provider> {
    ALL.into_iter().find(|provider| provider.name() == name)
}

/// The provider that a delivery must be from, by its header.
pub fn guess(headers: &Headers) -> Option<&'static dyn Provider> {
    ALL.into_iter().find(|provider| provider.marks().iter().any(|mark| headers.get(mark).is_some()))
}

/// Header fields that [`guess`] looks for.
pub fn marks() -> impl Iterator<Item = &'static str> {
    ALL.into_iter().flat_map(|provider| provider.marks()).copied()
}

/// Whether a header field holds a signature.
pub(super) fn is_signature(header: &str) -> bool {
    let mut signatures = ALL.into_iter().filter_map(|provider| provider.signature());
    signatures.any(|signature| signature.headers.contains(&header))
}

/// What a provider tells of a delivery, without the members that are always the same.
#[cfg(test)]
fn told(provider: &str, headers: &[(&str, &str)], body: &serde_json::Value) -> Option<serde_json::Value> {
    use super::delivery::{Delivery, context};
    use crate::base::clock::UnixMs;

    let (headers, body) = (Headers::new(headers.iter().copied()), body.to_string());
    let delivery = Delivery { headers: &headers, body: body.as_bytes(), now: UnixMs(0) };
    let mut told = context(find(provider).unwrap(), &delivery).unwrap()?.into_json("r");
    assert_eq!(told.shift_remove("receiptId"), Some("r".into()));
    for (member, usual) in [("source", provider), ("timestamp", "1970-01-01T00:00:00.000Z"), ("sender", "unknown")] {
        if told[member] == usual {
            told.shift_remove(member);
        }
    }
    Some(told.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::webhook::PROVIDERS;

    /// Named in configuration files and not built yet.
    const LATER: [&str; 3] = ["slack", "discord", "twitter"];

    #[test]
    fn configuration_and_code_know_the_same_providers() {
        for known in &PROVIDERS {
            let found = find(known.name);
            assert_eq!(found.is_none(), LATER.contains(&known.name), "{}", known.name);
            if let Some(found) = found {
                assert_eq!(found.signature().is_some(), known.secret.is_some(), "{}", known.name);
            }
        }
        assert_eq!(ALL.len() + LATER.len(), PROVIDERS.len());
    }

    #[test]
    fn a_delivery_is_recognised_by_its_header() {
        let guessed = |name: &str| guess(&Headers::new([(name, "x")])).map(Provider::name);
        for (header, provider) in [
            ("X-GitHub-Event", "github"),
            ("sentry-hook-resource", "sentry"),
            ("linear-signature", "linear"),
            ("linear-event", "linear"),
            ("x-mintlify-signature", "mintlify"),
            ("mintlify-signature", "mintlify"),
        ] {
            assert_eq!(guessed(header), Some(provider), "{header}");
        }
        assert_eq!((guessed("x-delivery-id"), guessed("content-type")), (None, None));
    }

    #[test]
    fn signature_fields_are_known() {
        for name in ["x-hub-signature-256", "sentry-hook-signature", "linear-signature", "mintlify-signature"] {
            assert!(is_signature(name), "{name}");
        }
        assert!(!is_signature("x-github-event"));
    }
}
