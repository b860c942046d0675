//! Credentials as environment variables, for containers without a credentials mount (cli-config.md §4.3):
//! `AL_SECRET_<type>__<instance>__<field>`, each part encoded so that the separator cannot occur in it.

/// Start of the names of these variables.
pub const PREFIX: &str = "AL_SECRET_";
const SEPARATOR: &str = "__";

/// Which value a variable holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretName {
    pub kind: String,
    pub instance: String,
    pub field: String,
}

/// What the name of a variable means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// Not one of these variables, or one with another number of parts.
    Other,
    /// Three parts, but one of them is empty or does not decode to UTF-8.
    Undecodable,
    Name(SecretName),
}

impl SecretName {
    /// Name of the variable.
    pub fn encode(&self) -> String {
        let parts = [&self.kind, &self.instance, &self.field].map(|part| encode_part(part));
        format!("{PREFIX}{}", parts.join(SEPARATOR))
    }

    /// Reads the name of a variable.
    pub fn decode(variable: &str) -> Decoded {
        let Some(encoded) = variable.strip_prefix(PREFIX) else { return Decoded::Other };
        let parts: Vec<&str> = encoded.split(SEPARATOR).collect();
        let [kind, instance, field] = parts[..] else { return Decoded::Other };
        match (decode_part(kind), decode_part(instance), decode_part(field)) {
            (Some(kind), Some(instance), Some(field)) => Decoded::Name(Self { kind, instance, field }),
            _ => Decoded::Undecodable,
        }
    }
}

fn encode_part(part: &str) -> String {
    let bytes = part.as_bytes();
    let mut encoded = String::with_capacity(part.len());
    for (index, &byte) in bytes.iter().enumerate() {
        if byte.is_ascii_alphanumeric() || (byte == b'_' && underscore_is_plain(bytes, index)) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("_x{byte:02x}"));
        }
    }
    encoded
}

/// Whether the underscore at `index` can be told from a separator and from the start of an encoded byte.
fn underscore_is_plain(bytes: &[u8], index: usize) -> bool {
    let at_an_end = index == 0 || index + 1 == bytes.len();
    // What follows must not begin with an underscore, neither as it is nor because it gets encoded.
    let beside_another = || bytes[index - 1] == b'_' || !bytes[index + 1].is_ascii_alphanumeric();
    let looks_encoded = || {
        matches!(bytes.get(index + 1..index + 4), Some([b'x', high, low])
            if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
    };
    !at_an_end && !beside_another() && !looks_encoded()
}

fn decode_part(encoded: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        match rest {
            [b'_', b'x', high, low, after @ ..] if is_lower_hex(*high) && is_lower_hex(*low) => {
                bytes.push(hex_value(*high) << 4 | hex_value(*low));
                rest = after;
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).ok().filter(|part| !part.is_empty())
}

fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => digit - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(kind: &str, instance: &str, field: &str) -> SecretName {
        SecretName { kind: kind.into(), instance: instance.into(), field: field.into() }
    }

    #[test]
    fn encodes_and_decodes() {
        #[track_caller]
        fn case(kind: &str, instance: &str, field: &str, variable: &str) {
            let name = name(kind, instance, field);
            assert_eq!(name.encode(), variable);
            assert_eq!(SecretName::decode(variable), Decoded::Name(name));
        }
        case("git_ssh", "my-bot.1", "id_rsa", "AL_SECRET_git_ssh__my_x2dbot_x2e1__id_rsa");
        case("aws", "a__b", "key", "AL_SECRET_aws__a_x5f_x5fb__key");
        case("t", "_a_", "f", "AL_SECRET_t___x5fa_x5f__f");
        case("t", "a_x2d", "f", "AL_SECRET_t__a_x5fx2d__f");
        case("t", "a_xyz", "f", "AL_SECRET_t__a_xyz__f");
        case("t", "a_-b", "f", "AL_SECRET_t__a_x5f_x2db__f");
        case("t", "ü", "f", "AL_SECRET_t___xc3_xbc__f");
    }

    #[test]
    fn other_variables_are_told_apart() {
        #[track_caller]
        fn case(variable: &str, expected: Decoded) {
            assert_eq!(SecretName::decode(variable), expected, "{variable}");
        }
        case("PATH", Decoded::Other);
        case("AL_SECRET_a__b", Decoded::Other);
        case("AL_SECRET_a__b__c__d", Decoded::Other);
        case("AL_SECRET_a____c", Decoded::Undecodable);
        case("AL_SECRET_a__b_xff__c", Decoded::Undecodable);
    }

    proptest! {
        #[test]
        fn decoding_reverses_encoding(kind in "[_xa-f0-9Zé.-]{1,8}", instance in "\\PC{1,12}", field in "_{0,3}x?[0-9a-f_]{1,6}") {
            let name = name(&kind, &instance, &field);
            prop_assert_eq!(SecretName::decode(&name.encode()), Decoded::Name(name));
        }
    }
}
