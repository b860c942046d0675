//! Route tables.

use crate::http::{Method, Reply, Req};

use super::Gateway;

/// Body limits.
pub(super) const SMALL_BODY: usize = 128 * 1024;
pub(super) const LARGE_BODY: usize = 10 * 1024 * 1024;

/// Answers a request. `Err` is an answer too: the one that a failed check gives.
pub(super) type Handler = fn(&Gateway, &Asked<'_>) -> Result<Reply, Reply>;

/// A request that has found its route.
pub(super) struct Asked<'r> {
    pub(super) req: &'r Req,
    /// Value of the route's parameter, decoded; empty when it has none.
    pub(super) param: String,
}

/// One row of a table.
pub(super) struct Route {
    pub(super) method: Method,
    /// Path; a last segment that begins with `:` stands for any one that is not empty. Also the name in log lines.
    pub(super) pattern: &'static str,
    pub(super) body_limit: usize,
    pub(super) handler: Handler,
}

/// The row for a request, and its parameter.
pub(super) fn find<'t>(table: &'t [Route], method: Method, path: &str) -> Option<(&'t Route, String)> {
    // HEAD is answered like GET; its body is left out on the way.
    let method = if method == Method::Head { Method::Get } else { method };
    let matching = |route: &'t Route| Some((route, match_path(route.pattern, path)?));
    table.iter().filter(|route| route.method == method).find_map(matching)
}

/// The parameter when the path is one of the pattern's.
pub(super) fn match_path(pattern: &str, path: &str) -> Option<String> {
    let Some((prefix, _)) = pattern.split_once(':') else { return (pattern == path).then(String::new) };
    let param = path.strip_prefix(prefix).filter(|param| !param.is_empty() && !param.contains('/'))?;
    Some(percent_decode(param))
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

    #[test]
    fn paths_match_exactly() {
        assert_eq!(match_path("/calls", "/calls"), Some(String::new()));
        assert_eq!(match_path("/calls", "/calls/"), None);
        assert_eq!(match_path("/calls/:id", "/calls/a%20b%zz+c"), Some("a b%zz+c".into()));
        assert_eq!(match_path("/calls/:id", "/calls/"), None);
        assert_eq!(match_path("/calls/:id", "/calls/a/b"), None);
        assert_eq!(match_path("/calls/:id", "/Calls/a"), None);
        assert_eq!(percent_decode("%252F%"), "%2F%");
    }
}
