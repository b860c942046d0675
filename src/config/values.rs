//! Forms of text values: addresses, sizes, names (the column "Valid" of cli-config.md §3.3).

use std::net::IpAddr;

use crate::model::names::CredentialRef;

/// Smallest memory limit that the container runtime accepts.
const SMALLEST_MEMORY: u64 = 6 << 20;

pub(super) fn non_empty(text: &str) -> bool {
    !text.trim().is_empty()
}

/// An absolute `http` or `https` address.
pub(super) fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let clean = !text.contains(|c: char| c.is_whitespace() || c.is_control());
    clean && rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', ':', '?', '#']))
}

pub(super) fn is_base_url(text: &str) -> bool {
    is_url(text) && !text.ends_with('/')
}

pub(super) fn is_gateway_url(text: &str) -> bool {
    is_url(text) && !text.contains(['?', '#'])
}

pub(super) fn is_ip(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

pub(super) fn is_container_host(text: &str) -> bool {
    text == "host-gateway" || is_ip(text)
}

pub(super) fn is_cidr(text: &str) -> bool {
    let Some((address, prefix)) = text.split_once('/') else { return false };
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let most = if address.is_ipv4() { 32 } else { 128 };
    is_digits(prefix) && prefix.parse::<u8>().is_ok_and(|prefix| prefix <= most)
}

pub(super) fn is_ip_or_cidr(text: &str) -> bool {
    is_ip(text) || is_cidr(text)
}

pub(super) fn is_image(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._/:@-".contains(&byte);
    text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric()) && text.bytes().all(fits)
}

pub(super) fn is_header_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

pub(super) fn is_reference(text: &str) -> bool {
    CredentialRef::parse(text).is_ok()
}

/// The name of a credential instance by itself.
pub(super) fn is_instance(text: &str) -> bool {
    CredentialRef::parse(&format!("x:{text}")).is_ok()
}

pub(super) fn is_memory(text: &str) -> bool {
    memory_bytes(text).is_some_and(|bytes| bytes >= SMALLEST_MEMORY)
}

pub(super) fn is_size(text: &str) -> bool {
    memory_bytes(text).is_some()
}

/// Bytes of a size such as `512m`, `1.5g` or `1073741824`.
pub(super) fn memory_bytes(text: &str) -> Option<u64> {
    let (digits, factor) = match text.as_bytes().last()?.to_ascii_lowercase() {
        b'b' => (&text[..text.len() - 1], 1u64),
        b'k' => (&text[..text.len() - 1], 1 << 10),
        b'm' => (&text[..text.len() - 1], 1 << 20),
        b'g' => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    let (whole, fraction) = digits.split_once('.').map_or((digits, None), |(whole, rest)| (whole, Some(rest)));
    if !is_digits(whole) || fraction.is_some_and(|fraction| !is_digits(fraction)) {
        return None;
    }
    let whole: u64 = whole.parse::<u64>().ok()?.checked_mul(factor)?;
    let part = fraction.map_or(Ok(0.0), |fraction| format!("0.{fraction}").parse::<f64>()).ok()? * factor as f64;
    whole.checked_add(part as u64)
}

pub(super) fn is_tmp_size(text: &str) -> bool {
    is_digits(text.strip_suffix(['k', 'm', 'g']).unwrap_or(text))
}

pub(super) fn is_server_host(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b":._-".contains(&byte);
    (1..=253).contains(&text.len()) && !text.starts_with('-') && text.bytes().all(fits)
}

pub(super) fn is_dns_name(text: &str) -> bool {
    is_server_host(text) && !text.contains([':', '_'])
}

pub(super) fn is_user(text: &str) -> bool {
    let first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    text.len() <= 32 && text.bytes().next().is_some_and(first) && text.bytes().all(fits)
}

/// An absolute path of at least two components that is safe in a remote command; one trailing slash is ignored.
pub(super) fn is_base_path(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._/-".contains(&byte);
    let Some(rest) = text.strip_prefix('/') else { return false };
    let parts: Vec<&str> = rest.strip_suffix('/').unwrap_or(rest).split('/').collect();
    parts.len() >= 2 && parts.iter().all(|part| !["", ".", ".."].contains(part)) && text.bytes().all(fits)
}

pub(super) fn is_unit(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    text.len() <= 41 && text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase()) && text.bytes().all(fits)
}

pub(super) fn is_host_key(text: &str) -> bool {
    let parts: Vec<&str> = text.split(' ').collect();
    let base64 = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
    matches!(parts[..], [kind, key] if !kind.is_empty() && !key.is_empty() && base64(key))
}

pub(super) fn is_network(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric()) && text.bytes().all(fits)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn accepts(rule: fn(&str) -> bool, good: &[&str], bad: &[&str]) {
        for text in good {
            assert!(rule(text), "{text:?} is refused");
        }
        for text in bad {
            assert!(!rule(text), "{text:?} is accepted");
        }
    }

    #[test]
    fn forms() {
        accepts(is_gateway_url, &["https://a.example", "http://[::1]:8080/x"], &["a.example", "http://", "http://a?b"]);
        accepts(is_base_url, &["http://10.0.0.5:4000/v1"], &["http://10.0.0.5:4000/", "ftp://x", "http://a b"]);
        accepts(is_cidr, &["10.0.0.0/8", "::1/128"], &["10.0.0.0", "10.0.0.0/33", "10.0.0.0/+8", "x/8"]);
        accepts(is_memory, &["6m", "1.5g", "4G", "8388608", "8388608b"], &["5m", "lots", "", "g", "1.g", "-1g", "4gb"]);
        accepts(is_size, &["0", "1g", "1.5M", "1"], &["", "-1", "1gb", "lots"]);
        accepts(is_base_path, &["/opt/al", "/srv/a/b/"], &["/opt", "opt/al", "/opt//al", "/opt/../x", "/opt/a b", "/"]);
        accepts(is_server_host, &["a.example", "192.0.2.1", "2001:db8::1", "REPLACE_ME"], &["", "-a", "[::1]", "a b"]);
        accepts(is_instance, &["default", "My.Org-1"], &["", "../../etc", "a:b", "a/b"]);
        accepts(is_image, &["debian:bookworm-slim", "reg.example:5000/a/b@sha256:00"], &["", "-x", "a b"]);
        accepts(is_unit, &["action-llama"], &["", "Al", "1a", "a.service"]);
        accepts(is_host_key, &["ssh-ed25519 AAAA"], &["ssh-ed25519", "ssh-ed25519 AAAA me@host"]);
        accepts(is_tmp_size, &["2g", "100"], &["g", "2gb", "2.5g"]);
    }

    #[test]
    fn memory_in_bytes() {
        assert_eq!(memory_bytes("1.5g"), Some(3 << 29));
        assert_eq!(memory_bytes("4G"), Some(4 << 30));
        assert_eq!(memory_bytes("99999999999g"), None);
    }
}
