//! What handlers see and give back. Nothing of the server behind it shows here.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::Serialize;

/// Method of a request, as far as routes tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    /// Answered like `GET`; the body is left out on the way.
    Head,
    Post,
    Other,
}

impl Method {
    /// The method of a token.
    pub fn from_token(token: &str) -> Self {
        match token {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            _ => Self::Other,
        }
    }
}

/// A complete request.
#[derive(Clone, Debug)]
pub struct Req {
    pub method: Method,
    /// As sent, still percent-encoded, without the query.
    pub path: String,
    pub query: Query,
    pub headers: Headers,
    pub body: Vec<u8>,
    pub peer: IpAddr,
}

/// Parameters behind the `?`, decoded.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes `a=1&b=2`.
    pub fn parse(text: &str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// The first value of a name; an empty one counts as absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        let first = self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        first.filter(|value| !value.is_empty())
    }
}

/// Header fields in the order they came. Values are ASCII: the front puts `?` in the place of every other byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, String)>);

impl Headers {
    /// The first value of a field; case of the name does not matter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// Every value of a field, in the order they came.
    pub fn all(&self, name: &str) -> impl DoubleEndedIterator<Item = &str> {
        self.0.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The values of a field, joined with `, ` when there are several.
    pub fn joined(&self, name: &str) -> Option<Cow<'_, str>> {
        let mut values = self.all(name);
        let first = values.next()?;
        Some(values.fold(Cow::Borrowed(first), |joined, value| Cow::Owned(format!("{joined}, {value}"))))
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    /// A JSON answer.
    pub fn json(status: u16, body: &impl Serialize) -> Self {
        let body = serde_json::to_vec(body).expect("bodies are plain data with string keys");
        Self { status, headers: vec![("Content-Type", "application/json".into())], body }
    }

    /// `{"error":"…"}`.
    pub fn error(status: u16, text: &str) -> Self {
        Self::json(status, &serde_json::json!({ "error": text }))
    }

    /// A plain text answer.
    pub fn text(status: u16, body: &str) -> Self {
        Self { status, headers: vec![("Content-Type", "text/plain; charset=UTF-8".into())], body: body.into() }
    }

    /// The answer to an unexpected failure; what failed is only in the log.
    pub fn internal_error() -> Self {
        Self::text(500, "Internal Server Error")
    }

    /// 302 to another page of ours.
    pub fn redirect(location: &str) -> Self {
        Self { status: 302, headers: vec![("Location", location.into())], body: Vec::new() }
    }

    /// Adds a header field.
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_wins_and_empty_counts_as_absent() {
        let query = Query::parse("secret=a%20b&secret=c&wait=&x");
        assert_eq!(query.get("secret"), Some("a b"));
        assert_eq!((query.get("wait"), query.get("x"), query.get("y")), (None, None, None));
    }

    #[test]
    fn header_names_ignore_case() {
        let headers = Headers(vec![("AUTHORIZATION".into(), "Bearer x".into())]);
        assert_eq!(headers.get("Authorization"), Some("Bearer x"));
    }

    #[test]
    fn repeated_fields_are_joined() {
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let headers = Headers(vec![field("A", "1"), field("b", "x"), field("a", "2")]);
        assert_eq!(headers.joined("a").as_deref(), Some("1, 2"));
        assert_eq!(headers.joined("B").as_deref(), Some("x"));
        assert_eq!(headers.joined("c"), None);
        assert_eq!(headers.get("a"), Some("1"));
    }
}
