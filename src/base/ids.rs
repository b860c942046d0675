//! Random identifiers.

use super::clock::UnixMs;

/// Eight lower-case hex digits: the random part of an instance id.
pub fn hex8() -> String {
    hex(&random::<4>())
}

/// Thirty-two lower-case hex digits that nobody can guess.
pub fn hex32() -> String {
    hex(&random::<16>())
}

/// Sixty-four lower-case hex digits: 32 random bytes.
pub fn hex64() -> String {
    hex(&random::<32>())
}

/// A version 4 UUID in text form.
pub fn uuid_v4() -> String {
    uuid(random::<16>(), 4)
}

/// A version 7 UUID in text form: later ones are greater, except within a millisecond.
pub fn uuid_v7(now: UnixMs) -> String {
    let mut bytes = random::<16>();
    bytes[..6].copy_from_slice(&now.0.to_be_bytes()[2..]);
    uuid(bytes, 7)
}

fn uuid(mut bytes: [u8; 16], version: u8) -> String {
    bytes[6] = bytes[6] & 0x0f | version << 4;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let text = hex(&bytes);
    format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
}

/// Lower-case hex of any bytes.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.extend([digit(byte >> 4), digit(byte & 0x0f)]);
    }
    text
}

/// SHA-256 in lower-case hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&sha256(bytes))
}

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Bytes that nobody can guess.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("Linux always has a random source");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_have_version_and_variant() {
        let id = uuid_v4();
        assert_eq!(id.len(), 36);
        assert_eq!(&id[14..15], "4");
        assert!("89ab".contains(&id[19..20]));
        assert_ne!(id, uuid_v4());
    }

    #[test]
    fn uuids_of_version_7_are_in_the_order_of_time() {
        let id = uuid_v7(UnixMs(0x0190_1234_5678));
        assert!(id.starts_with("01901234-5678-7"), "{id}");
        assert!("89ab".contains(&id[19..20]));
        assert!(id < uuid_v7(UnixMs(0x0190_1234_5679)));
        assert_ne!(id, uuid_v7(UnixMs(0x0190_1234_5678)));
    }
}
