//! Private keys for SSH as text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What the binary form of OpenSSH's keys begins with; the name of the cipher follows.
const OPENSSH_MAGIC: &[u8] = b"openssh-key-v1\0";

/// Whether a line ends a private key.
pub fn is_last_line(line: &str) -> bool {
    let line = line.trim();
    line.starts_with("-----END ") && line.ends_with("PRIVATE KEY-----")
}

/// Checks that a text is a private key that can be used without a passphrase.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn check(text: &str) -> Result<(), String> {
    let mut lines = text.trim().lines();
    let first = lines.next().unwrap_or_default();
    if !first.contains("PRIVATE KEY") || !lines.any(is_last_line) {
        return Err(
            "This is no private key: it has to begin with a line -----BEGIN … PRIVATE KEY----- and to end with its \
                    -----END … PRIVATE KEY-----."
                .to_owned(),
        );
    }
    if is_locked(text) {
        return Err("This key is protected by a passphrase, which agents cannot type; make one without: \
                    ssh-keygen -t ed25519 -N '' -f <file>"
            .to_owned());
    }
    Ok(())
}

fn is_locked(text: &str) -> bool {
    if text.contains("ENCRYPTED") {
        return true;
    }
    let body: String = text.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
    let Ok(bytes) = STANDARD.decode(body) else { return false };
    let Some(rest) = bytes.strip_prefix(OPENSSH_MAGIC) else { return false };
    let cipher = rest.split_at_checked(4).and_then(|(length, rest)| {
        let length = u32::from_be_bytes(length.try_into().ok()?) as usize;
        rest.get(..length)
    });
    cipher.is_some_and(|cipher| cipher != b"none")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of a key of OpenSSH whose cipher has this name.
    fn openssh(cipher: &str) -> String {
        let length = u32::try_from(cipher.len()).unwrap().to_be_bytes();
        let bytes = [OPENSSH_MAGIC, &length, cipher.as_bytes(), b"rest"].concat();
        let begin = concat!("-----BEGIN OPENSSH ", "PRIVATE KEY-----");
        format!("{begin}\n{}\n-----END OPENSSH PRIVATE KEY-----\n", STANDARD.encode(bytes))
    }

    #[test]
    fn keys_that_nobody_can_type_a_passphrase_for_are_refused() {
        assert_eq!(check(&openssh("none")), Ok(()));
        assert!(check(&openssh("aes256-ctr")).unwrap_err().contains("passphrase"));
        assert!(check("ssh-ed25519 AAAA").unwrap_err().contains("no private key"));
        let cut = openssh("none").replace("-----END", "-----");
        assert!(check(&cut).unwrap_err().contains("no private key"));
    }
}
