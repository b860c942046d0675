//! Who sent a delivery (gateway.md §17 "Signature rule", §18.2).

use ring::hmac;

use super::delivery::Delivery;
use super::provider::Provider;
use super::secrets::Stored;
use crate::base::Secret;

/// Matched source of a delivery that nobody signed. No instance has such a name.
const UNSIGNED: &str = "_unsigned";

/// What becomes of deliveries without signature while no secret of the provider is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsigned {
    Accepted,
    Refused,
}

/// The matched source of a delivery: the instance whose secret signed it, `_unsigned`, or the name of a provider that
/// never signs; `None` when it is refused.
pub(super) fn matched_source(
    provider: &dyn Provider,
    delivery: &Delivery<'_>,
    stored: &[Stored],
    unsigned: Unsigned,
) -> Option<String> {
    let without = |source: &str| (unsigned == Unsigned::Accepted).then(|| source.to_owned());
    if provider.signature().is_none() {
        return without(provider.name());
    }
    if stored.is_empty() {
        return without(UNSIGNED);
    }
    let is_signer =
        |stored: &&Stored| stored.secret.as_ref().is_some_and(|secret| provider.is_signed_with(secret, delivery));
    stored.iter().find(is_signer).map(|stored| stored.instance.clone())
}

/// Whether lower-case hex digits are the HMAC-SHA256 of a body. Takes the same time wherever they differ.
pub(super) fn is_hmac(hex: &str, secret: &Secret, body: &[u8]) -> bool {
    let Some(tag) = bytes(hex.as_bytes()) else { return false };
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
    hmac::verify(&key, body, &tag).is_ok()
}

fn bytes(hex: &[u8]) -> Option<[u8; 32]> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; 32];
    if hex.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::bindings::Bindings;
    use super::super::headers::Headers;
    use super::super::providers;
    use super::*;
    use crate::base::clock::UnixMs;
    use crate::config::webhook::{self, Source};

    const BODY: &[u8] = b"{}";

    fn signed(secret: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        hmac::sign(&key, BODY).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn stored(instance: &str, secret: Option<&str>) -> Stored {
        Stored { instance: instance.to_owned(), secret: secret.map(Secret::new) }
    }

    /// A source as `credential / allowUnsigned`.
    fn source(provider: &str, name: &str, credential: Option<&str>, allow_unsigned: Option<bool>) -> Source {
        let provider = webhook::Provider::find(provider).unwrap();
        Source { name: name.to_owned(), provider, credential: credential.map(str::to_owned), allow_unsigned }
    }

    #[track_caller]
    fn verdict(provider: &str, sources: &[Source], stored: &[Stored], signer: Option<&str>, expected: Option<&str>) {
        let signature = signer.map(|secret| format!("sha256={}", signed(secret)));
        let headers = Headers::new(signature.iter().map(|value| ("X-Hub-Signature-256", value.as_str())));
        let delivery = Delivery { headers: &headers, body: BODY, now: UnixMs(0) };
        let unsigned = Bindings::new(sources, []).unsigned(provider);
        let found = matched_source(providers::find(provider).unwrap(), &delivery, stored, unsigned);
        assert_eq!(found.as_deref(), expected);
    }

    #[test]
    fn stored_secrets_demand_a_signature() {
        let any = [source("github", "s", None, Some(true))];
        let two = [stored("A", Some("s1")), stored("B", Some("s2"))];
        verdict("github", &any, &two, Some("s2"), Some("B"));
        verdict("github", &any, &two, Some("s3"), None);
        verdict("github", &any, &two, None, None);
        verdict("github", &any, &[stored("A", None)], None, None);
        verdict("github", &any, &[stored("A", None), stored("B", Some("s2"))], Some("s2"), Some("B"));
        // Also of an instance that no source names: its bindings are those without a credential.
        verdict("github", &[source("github", "s", Some("A"), None)], &two, Some("s2"), Some("B"));
    }

    #[test]
    fn without_stored_secrets_the_sources_decide() {
        let named = |allow| source("github", "named", Some("A"), allow);
        let open = |allow| source("github", "open", None, allow);
        for (sources, expected) in [
            (vec![named(None)], None),
            (vec![named(Some(true))], None),
            (vec![open(None)], Some("_unsigned")),
            (vec![open(Some(true))], Some("_unsigned")),
            (vec![open(Some(false))], None),
            (vec![named(None), open(None)], Some("_unsigned")),
            (vec![named(Some(true)), open(Some(false))], None),
            (vec![source("sentry", "other", None, None)], None),
            (vec![], None),
        ] {
            verdict("github", &sources, &[], None, expected);
            // A stray signature changes nothing.
            verdict("github", &sources, &[], Some("s1"), expected);
        }
    }

    #[test]
    fn the_test_provider_is_never_signed() {
        for (credential, allow, expected) in [
            (None, None, Some("test")),
            (None, Some(true), Some("test")),
            (None, Some(false), None),
            (Some("A"), None, Some("test")),
            (Some("A"), Some(false), None),
        ] {
            verdict("test", &[source("test", "s", credential, allow)], &[], None, expected);
        }
        verdict("test", &[], &[], None, None);
    }

    #[test]
    fn only_the_exact_digits_are_a_signature() {
        let good = signed("s1");
        let secret = Secret::new("s1");
        assert!(is_hmac(&good, &secret, BODY));
        assert!(!is_hmac(&good, &secret, b"{} "));
        for wrong in [good.to_uppercase(), good[1..].to_owned(), format!("{good}0"), format!(" {good}"), "é".repeat(32)]
        {
            assert!(!is_hmac(&wrong, &secret, BODY), "{wrong}");
        }
        assert!(!is_hmac("", &secret, BODY));
    }
}
