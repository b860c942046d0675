//! Small functions on text that several programs need.

use std::borrow::Cow;

/// The first `limit` characters of a text, cut on a character boundary.
pub fn cut(text: &str, limit: usize) -> &str {
    match text.char_indices().nth(limit) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

/// Percent-encodes everything but the unreserved characters of RFC 3986.
pub fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// A text as one word of a POSIX shell command; left as it is when it needs no quotes.
pub fn shell_quote(text: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:=@%+,".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(format!("'{}'", text.replace('\'', r"'\''")))
    }
}

/// A path as the value of an option of `ssh -o`, which takes values apart at blanks and replaces what follows a `%`.
pub fn ssh_path(path: &str) -> String {
    format!("\"{}\"", path.replace('%', "%%").replace('\\', r"\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_counts_characters() {
        assert_eq!(cut("grüße", 3), "grü");
        assert_eq!(cut("ab", 3), "ab");
    }

    #[test]
    fn ssh_takes_a_path_as_it_is() {
        assert_eq!(ssh_path("/a b/%h"), "\"/a b/%%h\"");
        assert_eq!(ssh_path(r#"a\"b"#), r#""a\\\"b""#);
    }

    #[test]
    fn quotes_only_what_needs_it() {
        assert_eq!(shell_quote("a/b-c"), "a/b-c");
        assert_eq!(shell_quote("it's"), r"'it'\''s'");
        assert_eq!(shell_quote(""), "''");
    }
}
