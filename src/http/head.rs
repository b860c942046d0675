//! Request heads: what is accepted of them, and what of them handlers see.
//!
//! Stricter than the grammar wherever two readers could understand the same bytes differently: nothing but printable
//! ASCII in lines that end with CRLF, one way to say how long the body is. Only the values of fields may hold other
//! bytes, as the grammar has it; each of them becomes a `?`, so that nobody behind us sees them.

use std::net::IpAddr;

use super::types::{Headers, Method, Query, Reply, Req};

/// Longest head, its empty line included.
pub(super) const HEAD_BYTES: usize = 16 * 1024;
/// Most header fields.
const HEADER_COUNT: usize = 100;
/// Fields that concern the connection to the client, and the length, which we say ourselves: handlers do not see them.
const DROPPED: [&str; 8] =
    ["connection", "keep-alive", "te", "trailer", "upgrade", "expect", "transfer-encoding", "content-length"];
/// The same, by the beginning of the name.
const DROPPED_PREFIXES: [&str; 2] = ["proxy-", "x-al-"];

/// A checked request head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub method: String,
    /// Begins with `/`.
    pub target: String,
    pub headers: Headers,
    /// The client waits for `100 Continue` before it sends the body.
    pub(super) expects_continue: bool,
    pub(super) framing: Framing,
}

/// How the end of the body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes; a length beyond `u64` is its greatest value (and over every limit).
    Length(u64),
    Chunked,
}

impl Head {
    /// The target without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// What handlers see of the request: fields of the connection left out, the length of the body as it was read.
    pub(super) fn into_request(self, body: Vec<u8>, peer: IpAddr) -> Req {
        let mut headers = self.headers;
        headers.0.retain(|(name, _)| is_passed_on(name));
        headers.0.push(("Content-Length".to_owned(), body.len().to_string()));
        let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        Req {
            method: Method::from_token(&self.method),
            path: path.to_owned(),
            query: Query::parse(query),
            headers,
            body,
            peer,
        }
    }
}

fn is_passed_on(name: &str) -> bool {
    let begins_with = |prefix: &&str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    !DROPPED.iter().any(|dropped| name.eq_ignore_ascii_case(dropped)) && !DROPPED_PREFIXES.iter().any(begins_with)
}

/// Looks for the end of the head among the bytes from `from` on, refusing bytes that no head may contain as soon as
/// they are there. Gives the length of the head once its end has come.
pub(super) fn find_end(bytes: &[u8], from: usize) -> Result<Option<usize>, Reply> {
    let mut in_fields = bytes[..from].contains(&b'\n');
    for index in from..bytes.len() {
        let after_cr = index > 0 && bytes[index - 1] == b'\r';
        match bytes[index] {
            b'\n' if after_cr && bytes[..index - 1].ends_with(b"\r\n") => return Ok(Some(index + 1)),
            b'\n' if after_cr => in_fields = true,
            _ if after_cr => return Err(Reply::error(400, "malformed request: CR without LF")),
            b'\r' | b' '..=b'~' => {}
            b'\n' => return Err(Reply::error(400, "malformed request: LF without CR")),
            // The parser refuses them in names.
            0x80.. if in_fields => {}
            _ => return Err(Reply::error(400, "malformed request: byte outside of printable ASCII")),
        }
    }
    Ok(None)
}

/// Reads a complete head.
pub(super) fn parse(bytes: &[u8]) -> Result<Head, Reply> {
    if bytes.starts_with(b"\r") {
        return Err(Reply::error(400, "malformed request: empty line in front")); // the parser would skip it
    }
    let mut fields = [httparse::EMPTY_HEADER; HEADER_COUNT];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(used)) if used == bytes.len() => {}
        Ok(_) => return Err(Reply::error(400, "malformed request head")),
        Err(httparse::Error::TooManyHeaders) => return Err(Reply::error(431, "too many header fields")),
        Err(httparse::Error::Version) => return Err(Reply::error(505, "HTTP version not supported")),
        Err(error) => return Err(Reply::error(400, &format!("malformed request: {error}"))),
    }
    let target = request.path.unwrap_or_default();
    if !target.starts_with('/') {
        return Err(Reply::error(400, "malformed request: target must begin with /"));
    }
    let headers = request.headers.iter().map(|field| (field.name.to_owned(), ascii(field.value))).collect();
    let mut head = Head {
        method: request.method.unwrap_or_default().to_owned(),
        target: target.to_owned(),
        headers: Headers(headers),
        expects_continue: false,
        framing: Framing::Length(0),
    };
    head.framing = framing(&head)?;
    head.expects_continue = expects_continue(&head)?;
    Ok(head)
}

/// The value of a field; what is not ASCII in it is no longer told apart.
fn ascii(value: &[u8]) -> String {
    match std::str::from_utf8(value) {
        Ok(text) if text.is_ascii() => text.to_owned(),
        _ => value.iter().map(|byte| if byte.is_ascii() { char::from(*byte) } else { '?' }).collect(),
    }
}

fn framing(head: &Head) -> Result<Framing, Reply> {
    let lengths: Vec<&str> = head.headers.all("content-length").collect();
    let encodings: Vec<&str> = head.headers.all("transfer-encoding").collect();
    match (&lengths[..], &encodings[..]) {
        ([], []) => Ok(Framing::Length(0)),
        ([length], []) if !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok(Framing::Length(length.parse().unwrap_or(u64::MAX)))
        }
        ([_, ..], _) => Err(Reply::error(400, "malformed request: length of the body is not clear")),
        ([], [encoding]) if encoding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
        ([], _) => Err(Reply::error(501, "transfer encoding not supported")),
    }
}

fn expects_continue(head: &Head) -> Result<bool, Reply> {
    let mut expected = false;
    for value in head.headers.all("expect") {
        if !value.eq_ignore_ascii_case("100-continue") {
            return Err(Reply::error(417, "expectation not supported"));
        }
        expected = true;
    }
    Ok(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(bytes: &[u8], status: u16) {
        let result = match find_end(bytes, 0) {
            Ok(Some(end)) => parse(&bytes[..end]),
            Ok(None) => panic!("no end in {:?}", String::from_utf8_lossy(bytes)),
            Err(reply) => Err(reply),
        };
        let got = result.map_err(|reply| reply.status);
        assert_eq!(got, Err(status), "{:?}", String::from_utf8_lossy(bytes));
    }

    fn accepted(text: &str) -> Head {
        let end = find_end(text.as_bytes(), 0).unwrap().unwrap();
        parse(&text.as_bytes()[..end]).unwrap()
    }

    #[test]
    fn refuses_what_could_be_understood_in_two_ways() {
        let with = |line: &str| format!("POST / HTTP/1.1\r\n{line}\r\n\r\n").into_bytes();
        refused(b"GET / HTTP/2.0\r\n\r\n", 505);
        refused(b"PRI * HTTP/2.0\r\n\r\n", 505);
        refused(b"GET / HTTP/1.1\nHost: x\n\n", 400);
        refused(b"GET / HTTP/1.1\rHost: x\r\n\r\n", 400);
        refused(b"GET / HTTP/1.1\r\nA: b\0c\r\n\r\n", 400);
        refused(b"\x16\x03\x01\x02\x00\x01\x00", 400);
        refused("GET /ü HTTP/1.1\r\n\r\n".as_bytes(), 400);
        refused("GET / HTTP/1.1\r\nÜ: a\r\n\r\n".as_bytes(), 400);
        refused(b"GET http://x/ HTTP/1.1\r\n\r\n", 400);
        refused(b"OPTIONS * HTTP/1.1\r\n\r\n", 400);
        refused(b"GET  / HTTP/1.1\r\n\r\n", 400);
        refused(b"GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", 400);
        refused(b"\r\nGET / HTTP/1.1\r\n\r\n", 400);
        refused(&with("A : b"), 400);
        refused(&with("no colon"), 400);
        refused(&with("Content-Length: +5"), 400);
        refused(&with("Content-Length: -1"), 400);
        refused(&with("Content-Length:"), 400);
        refused(&with("Content-Length: 5, 5"), 400);
        refused(&with("Content-Length: 5\r\nContent-Length: 5"), 400);
        refused(&with("Content-Length: 5\r\nTransfer-Encoding: chunked"), 400);
        refused(&with("Transfer-Encoding: gzip, chunked"), 501);
        refused(&with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), 501);
        refused(&with("Expect: 200-ok"), 417);
        refused(&with(&"A: b\r\n".repeat(101)), 431);
    }

    #[test]
    fn accepts_plain_requests() {
        let head = accepted("POST /calls?a=/b HTTP/1.0\r\nHost: gateway\r\ncontent-length: 007\r\n\r\n");
        assert_eq!((head.method.as_str(), head.path()), ("POST", "/calls"));
        assert_eq!(head.framing, Framing::Length(7));
        assert_eq!(accepted("GET / HTTP/1.1\r\n\r\n").framing, Framing::Length(0));
        assert_eq!(accepted("GET / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n").framing, Framing::Chunked);
        assert!(accepted("GET / HTTP/1.1\r\nExpect: 100-Continue\r\n\r\n").expects_continue);
        let foreign = accepted("GET / HTTP/1.1\r\nX-Hub-Signature-256: sha256=\u{fc}\u{20ac}1\r\n\r\n");
        assert_eq!(foreign.headers.get("x-hub-signature-256"), Some("sha256=?????1"));
        let huge = accepted("GET / HTTP/1.1\r\nContent-Length: 18446744073709551616\r\n\r\n");
        assert_eq!(huge.framing, Framing::Length(u64::MAX));
    }

    #[test]
    fn only_fields_of_the_request_are_passed_on() {
        let head = accepted(
            "PUT /x HTTP/1.0\r\nAccept: a  b\r\nConnection: keep-alive\r\nKeep-Alive: 5\r\nTE: gzip\r\nTrailer: X\r\n\
             Upgrade: h2c\r\nProxy-Authorization: x\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\
             X-AL-Peer: 1.2.3.4\r\nAccept: c\r\n\r\n",
        );
        let request = head.into_request(vec![0; 12], [10, 0, 0, 1].into());
        let fields = [("Accept", "a  b"), ("Accept", "c"), ("Content-Length", "12")];
        assert_eq!(request.headers.0, fields.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!((request.method, request.path.as_str(), request.peer), (Method::Other, "/x", [10, 0, 0, 1].into()));
    }
}

#[cfg(test)]
mod props {
    use super::*;
    use proptest::prelude::*;

    /// Bytes that are nearly a request: pieces of requests in any order, some of them damaged.
    fn nearly() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just("GET / HTTP/1.1\r\n".to_owned()),
            Just("POST /a?b HTTP/1.0\r\n".to_owned()),
            Just("Content-Length: 5\r\n".to_owned()),
            Just("Transfer-Encoding: chunked\r\n".to_owned()),
            Just("\r\n".to_owned()),
            "[A-Za-z-]{1,9}:[ \t]{0,3}[ -~]{0,12}[ \t]{0,2}\r\n",
            "[A-Z]{1,8} /[!-~]{0,9} HTTP/1\\.[01]\r\n",
            "\\PC{0,6}",
        ];
        let damage = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
        (proptest::collection::vec(piece, 1..8), damage).prop_map(|(pieces, damage)| {
            let mut bytes = pieces.concat().into_bytes();
            for (index, byte) in damage {
                if !bytes.is_empty() {
                    let at = index.index(bytes.len());
                    bytes[at] = byte;
                }
            }
            bytes
        })
    }

    fn render(head: &Head) -> String {
        let fields: String = head.headers.0.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!("{} {} HTTP/1.x\r\n{fields}\r\n", head.method, head.target)
    }

    /// The same bytes with blanks around field values, the minor version and what is not ASCII made uniform.
    fn normalise(bytes: &[u8]) -> String {
        let text = ascii(bytes);
        let mut lines = text.strip_suffix("\r\n\r\n").unwrap().split("\r\n");
        let first = lines.next().unwrap();
        let mut normal = first[..first.len() - 1].to_owned() + "x\r\n";
        for line in lines {
            let (name, value) = line.split_once(':').unwrap();
            normal += &format!("{name}: {}\r\n", value.trim_matches(' '));
        }
        normal + "\r\n"
    }

    proptest! {
        #[test]
        fn accepts_only_what_re_serialises_to_the_same_request(bytes in nearly()) {
            if let Ok(Some(end)) = find_end(&bytes, 0) && let Ok(head) = parse(&bytes[..end]) {
                prop_assert_eq!(render(&head), normalise(&bytes[..end]));
            }
        }

        #[test]
        fn the_end_is_found_however_the_bytes_arrive(bytes in nearly(), cut in any::<prop::sample::Index>()) {
            let cut = cut.index(bytes.len() + 1);
            let pieces = match find_end(&bytes[..cut], 0) {
                Ok(None) => find_end(&bytes, cut),
                found => found,
            };
            let whole = find_end(&bytes, 0);
            prop_assert_eq!(pieces.map_err(|reply| reply.status), whole.map_err(|reply| reply.status));
        }
    }
}
