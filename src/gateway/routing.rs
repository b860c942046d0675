//! Route tables.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::http::{Method, Reply, Req};

/// Body limits.
pub(super) const SMALL_BODY: usize = 128 * 1024;
pub(super) const LARGE_BODY: usize = 10 * 1024 * 1024;

/// Answers a request; `S` is the state of its face. `Err` is an answer too: the one that a failed check gives.
pub(super) type Handler<S> = fn(&S, &Asked<'_>) -> Result<Reply, Reply>;

/// A request that has found its route.
pub(super) struct Asked<'r> {
    pub(super) req: &'r Req,
    /// Who asks: the peer, or whom a proxy that we trust speaks for.
    pub(super) client: IpAddr,
    /// Values of the route's parameters, decoded.
    pub(super) params: Vec<String>,
    /// Set when the face ends.
    pub(super) stopping: &'r AtomicBool,
}

impl Asked<'_> {
    /// A parameter of the route.
    pub(super) fn param(&self, index: usize) -> &str {
        self.params.get(index).map_or("", String::as_str)
    }

    /// Whether the face ends, so that nobody should be kept waiting.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}

/// What a request must show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Auth {
    /// Nothing, or what the handler itself looks at (signatures).
    Open,
    /// The secret of a run; the handler looks at it.
    Secret,
    /// The API key or a session. Looked at before the route is looked up.
    Key,
}

/// One row of a table.
pub(super) struct Route<S> {
    pub(super) method: Method,
    /// Path; a segment that begins with `:` stands for any one that is not empty.
    pub(super) pattern: &'static str,
    pub(super) auth: Auth,
    pub(super) body_limit: usize,
    pub(super) handler: Handler<S>,
}

pub(super) const fn get<S>(pattern: &'static str, auth: Auth, handler: Handler<S>) -> Route<S> {
    Route { method: Method::Get, pattern, auth, body_limit: SMALL_BODY, handler }
}

pub(super) const fn post<S>(pattern: &'static str, auth: Auth, handler: Handler<S>) -> Route<S> {
    Route { method: Method::Post, pattern, auth, body_limit: SMALL_BODY, handler }
}

/// A route for large bodies.
pub(super) const fn post_large<S>(pattern: &'static str, auth: Auth, handler: Handler<S>) -> Route<S> {
    Route { method: Method::Post, pattern, auth, body_limit: LARGE_BODY, handler }
}

/// The row for a request, and its parameters.
pub(super) fn find<'t, S>(table: &'t [Route<S>], method: Method, path: &str) -> Option<(&'t Route<S>, Vec<String>)> {
    // HEAD is answered like GET; its body is left out on the way.
    let method = if method == Method::Head { Method::Get } else { method };
    let matching = |route: &'t Route<S>| Some((route, match_path(route.pattern, path)?));
    table.iter().filter(|route| route.method == method).find_map(matching)
}

/// The pattern of a path, whatever the method.
pub(super) fn pattern_of<S>(table: &[Route<S>], path: &str) -> Option<&'static str> {
    table.iter().map(|route| route.pattern).find(|pattern| match_path(pattern, path).is_some())
}

/// Most bytes that a request for a path may carry.
pub(super) fn body_limit<S>(table: &[Route<S>], path: &str) -> usize {
    let limits = table.iter().filter(|route| match_path(route.pattern, path).is_some()).map(|route| route.body_limit);
    limits.max().unwrap_or(SMALL_BODY)
}

/// The answer to a request without route.
pub(super) fn not_found() -> Reply {
    Reply::text(404, "404 Not Found")
}

/// The parameters when the path is one of the pattern's.
fn match_path(pattern: &str, path: &str) -> Option<Vec<String>> {
    let mut params = Vec::new();
    let (mut pattern, mut path) = (pattern.split('/'), path.split('/'));
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return Some(params),
            (Some(name), Some(value)) if name.starts_with(':') && !value.is_empty() => {
                params.push(percent_decode(value));
            }
            (Some(name), Some(value)) if name == value => {}
            _ => return None,
        }
    }
}

/// Decodes `%2F` and the like once; what is not of that form stays as it is.
fn percent_decode(text: &str) -> String {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let bytes = text.as_bytes();
    let (mut decoded, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        match (byte, digit(bytes.get(at + 1)), digit(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                decoded.extend(u8::try_from(high * 16 + low));
                at += 3;
            }
            _ => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn case(pattern: &str, path: &str, params: Option<&[&str]>) {
        let expected = params.map(|params| params.iter().map(|param| (*param).to_owned()).collect::<Vec<_>>());
        assert_eq!(match_path(pattern, path), expected, "{pattern} {path}");
    }

    #[test]
    fn paths_match_exactly() {
        case("/calls", "/calls", Some(&[]));
        case("/calls", "/calls/", None);
        case("/calls/:id", "/calls/a%20b%zz+c", Some(&["a b%zz+c"]));
        case("/calls/:id", "/calls/", None);
        case("/calls/:id", "/calls/a/b", None);
        case("/calls/:id", "/Calls/a", None);
        case("/items/:id/retry", "/items/7/retry", Some(&["7"]));
        case("/items/:id/retry", "/items/7/drop", None);
        case("/logs/:name/:instance", "/logs/a%2Fb/c", Some(&["a/b", "c"]));
        case("/logs/:name/:instance", "/logs//c", None);
        case("/a/:", "/a/:", Some(&[":"]));
        assert_eq!(percent_decode("%252F%"), "%2F%");
    }
}
