//! Name and password in URLs (`https://ann:secret@a.example`), and taking them out of text.

use std::borrow::Cow;

use crate::secret::MASK;

/// A text in which [`MASK`] stands in the place of the name and the password of every URL. To be used before the text is
/// cut.
pub fn hide_user_info(text: &str) -> Cow<'_, str> {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, url) = rest.split_at(at + "://".len());
        shown.push_str(before);
        let hidden = user_info(url);
        if hidden > 0 {
            shown.push_str(MASK);
        }
        rest = &url[hidden..];
    }
    if shown.is_empty() {
        return text.into();
    }
    shown.push_str(rest);
    shown.into()
}

/// How many bytes of what follows the scheme of a URL are name and password.
fn user_info(url: &str) -> usize {
    let is_end = |c: char| c.is_whitespace() || c.is_control() || "\"<>".contains(c);
    let authority = url.split(|c| is_end(c) || "/?#".contains(c)).next().unwrap_or_default();
    if let Some(at) = authority.rfind('@') {
        return at;
    }
    // A password with one of the characters that end an authority: what stands where a port would be is none.
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let is_cut = !authority.starts_with('[') && authority.split_once(':').is_some_and(|(_, port)| !is_port(port));
    let line = url.split('\n').next().filter(|_| is_cut);
    line.and_then(|line| line.rfind('@')).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_and_password_are_hidden_and_nothing_else() {
        #[track_caller]
        fn case(text: &str, shown: &str) {
            assert_eq!(hide_user_info(text), shown);
        }
        case("https://ann:secret@a.example/v1", "https://***@a.example/v1");
        case("https://token@a.example", "https://***@a.example");
        case("http://ann:p@ss@a.example:80/x@y", "http://***@a.example:80/x@y");
        case("http://ann:p/s#s@a.example", "http://***@a.example");
        case("http://ann:my secret@a.example", "http://***@a.example");
        case("request http://a:b@c: 1, git+ssh://d@e: 2", "request http://***@c: 1, git+ssh://***@e: 2");
        case("url = \"http://a:b@c\" # me@d", "url = \"http://***@c\" # me@d");
        for plain in [
            "no URL: me@a.example",
            "git@github.com:acme/app.git",
            "https://a.example:8080/@scope/x?to=me@b",
            "http://[::1]:80/a@b",
            "cannot ask https://a.example: me@b",
            "://",
        ] {
            case(plain, plain);
        }
    }
}
