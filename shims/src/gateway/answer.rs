//! Reading one HTTP/1.x answer: status and body, everything bounded.

use std::io::{self, BufRead, BufReader, ErrorKind, Read};

/// Longest body of an answer in bytes.
pub const BODY_LIMIT: usize = 16 << 20;
/// Longest head, interim answers and trailers included.
const HEAD_LIMIT: usize = 64 << 10;
/// Longest line that announces a chunk.
const CHUNK_LINE_LIMIT: usize = 256;
/// Most hexadecimal digits in the size of a chunk.
const CHUNK_DIGITS: usize = 8;

/// What the gateway answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

/// Why there is no whole answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// Not a single byte, or not all of them in time.
    Nothing(String),
    /// Not HTTP, cut short, or too large.
    Unreadable(String),
}

/// Reads an answer up to its end and not a byte further than its length says.
pub(super) fn read(source: &mut dyn Read) -> Result<Answer, Broken> {
    let mut source = BufReader::with_capacity(16 << 10, source);
    match first_bytes(&mut source) {
        Ok(0) => return Err(Broken::Nothing("the connection was closed without an answer".into())),
        Ok(_) => {}
        Err(error) => return Err(Broken::Nothing(no_answer(&error))),
    }
    read_started(&mut source).map_err(|error| match error.kind() {
        ErrorKind::TimedOut => Broken::Nothing(no_answer(&error)),
        _ => Broken::Unreadable(format!("unreadable answer: {error}")),
    })
}

fn no_answer(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::TimedOut => "no answer in time".into(),
        _ => format!("no answer: {error}"),
    }
}

fn first_bytes(source: &mut impl BufRead) -> io::Result<usize> {
    loop {
        match source.fill_buf() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other.map(<[u8]>::len),
        }
    }
}

fn read_started(source: &mut impl BufRead) -> io::Result<Answer> {
    let mut budget = HEAD_LIMIT;
    loop {
        let head = read_head(source, &mut budget)?;
        // Interim answers: the real one follows.
        if (100..200).contains(&head.status) {
            continue;
        }
        let body = match head.framing {
            _ if head.status == 204 || head.status == 304 => Vec::new(),
            Framing::Length(length) => read_exactly(source, length)?,
            Framing::Chunked => read_chunks(source, &mut budget)?,
            Framing::Close => read_to_close(source)?,
        };
        return Ok(Answer { status: head.status, body });
    }
}

struct Head {
    status: u16,
    framing: Framing,
}

/// How the end of a body is recognised.
#[derive(Debug, PartialEq)]
enum Framing {
    Length(u64),
    Chunked,
    Close,
}

fn read_head(source: &mut impl BufRead, budget: &mut usize) -> io::Result<Head> {
    let status = parse_status(&read_line(source, budget)?).ok_or_else(|| invalid("not an HTTP answer"))?;
    let mut framing = Framing::Close;
    loop {
        let line = read_line(source, budget)?;
        if line.is_empty() {
            return Ok(Head { status, framing });
        }
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(invalid("unknown transfer encoding"));
            }
            framing = Framing::Chunked;
        } else if name.eq_ignore_ascii_case(b"content-length") && framing != Framing::Chunked {
            let length = parse_length(value).ok_or_else(|| invalid("invalid content length"))?;
            if framing != Framing::Close && framing != Framing::Length(length) {
                return Err(invalid("two content lengths"));
            }
            framing = Framing::Length(length);
        }
    }
}

/// `HTTP/1.<digit> <three digits>`, then anything.
fn parse_status(line: &[u8]) -> Option<u16> {
    let [minor, b' ', status @ ..] = line.strip_prefix(b"HTTP/1.")? else { return None };
    let (digits, rest) = status.split_at_checked(3)?;
    if !minor.is_ascii_digit() || !digits.iter().all(u8::is_ascii_digit) || !matches!(rest, [] | [b' ', ..]) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok().filter(|status| *status >= 100)
}

/// Digits only, unlike `parse`, which takes a sign.
fn parse_length(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// One line without its end; its bytes are taken from the budget.
fn read_line(source: &mut impl BufRead, budget: &mut usize) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    source.by_ref().take(*budget as u64).read_until(b'\n', &mut line)?;
    *budget -= line.len();
    if line.pop_if(|last| *last == b'\n').is_none() {
        return Err(if *budget == 0 { invalid("too long a head") } else { cut_short() });
    }
    line.pop_if(|last| *last == b'\r');
    Ok(line)
}

fn read_exactly(source: &mut impl BufRead, length: u64) -> io::Result<Vec<u8>> {
    if length > BODY_LIMIT as u64 {
        return Err(too_large());
    }
    // Grows with what arrives: an announced length is not yet memory.
    let mut body = Vec::new();
    source.take(length).read_to_end(&mut body)?;
    if (body.len() as u64) < length { Err(cut_short()) } else { Ok(body) }
}

fn read_to_close(source: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    source.take(BODY_LIMIT as u64 + 1).read_to_end(&mut body)?;
    if body.len() > BODY_LIMIT { Err(too_large()) } else { Ok(body) }
}

fn read_chunks(source: &mut impl BufRead, trailer_budget: &mut usize) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = parse_chunk_size(&read_line(source, &mut { CHUNK_LINE_LIMIT })?)
            .ok_or_else(|| invalid("invalid chunk size"))?;
        if size == 0 {
            while !read_line(source, trailer_budget)?.is_empty() {}
            return Ok(body);
        }
        if size > BODY_LIMIT - body.len() {
            return Err(too_large());
        }
        let end = body.len() + size;
        source.by_ref().take(size as u64).read_to_end(&mut body)?;
        if body.len() < end {
            return Err(cut_short());
        }
        if !read_line(source, &mut { CHUNK_LINE_LIMIT })?.is_empty() {
            return Err(invalid("a chunk is longer than announced"));
        }
    }
}

/// The hexadecimal size before an optional extension.
fn parse_chunk_size(line: &[u8]) -> Option<usize> {
    let digits = line.split(|&byte| byte == b';').next()?.trim_ascii();
    let plausible = digits.len() <= CHUNK_DIGITS && digits.iter().all(u8::is_ascii_hexdigit);
    plausible.then(|| usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()).flatten()
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

fn too_large() -> io::Error {
    invalid("larger than 16 MiB")
}

fn cut_short() -> io::Error {
    io::Error::new(ErrorKind::UnexpectedEof, "cut short")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives the bytes in pieces of one length, then fails with `end`, if any.
    struct Pieces<'a> {
        bytes: &'a [u8],
        piece: usize,
        end: Option<ErrorKind>,
    }

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.piece.min(buffer.len()).min(self.bytes.len());
            if let (0, Some(kind)) = (length, self.end) {
                return Err(kind.into());
            }
            let (piece, rest) = self.bytes.split_at(length);
            buffer[..length].copy_from_slice(piece);
            self.bytes = rest;
            Ok(length)
        }
    }

    fn answer(bytes: &[u8]) -> Result<Answer, Broken> {
        let whole = read(&mut &bytes[..]);
        if bytes.len() < 1000 {
            let bytewise = read(&mut Pieces { bytes, piece: 1, end: None });
            assert_eq!(bytewise, whole, "the split of the bytes must not matter");
        }
        whole
    }

    #[test]
    fn reads_every_kind_of_framing() {
        #[track_caller]
        fn case(bytes: &[u8], status: u16, body: &str) {
            assert_eq!(answer(bytes), Ok(Answer { status, body: body.into() }));
        }
        case(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", 200, "{}");
        case(b"HTTP/1.1 200 OK\r\ncontent-length:2\r\nContent-Length: 2\r\n\r\n{}{}", 200, "{}");
        case(b"HTTP/1.0 409\r\n\r\n{\"ok\":false}", 409, "{\"ok\":false}");
        case(b"HTTP/1.1 503 Service Unavailable\nContent-Length: 0\n\n", 503, "");
        case(b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", 204, "");
        case(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\nx",
            404,
            "x",
        );
        case(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nContent-Length: 1\r\n\r\n4;a=b\r\n{\"a\"\r\n3\r\n:1}\r\n00\r\nX: y\r\n\r\n",
            200,
            "{\"a\":1}",
        );
        case(b"HTTP/1.1 200 OK\r\nX-Odd \xff\r\nContent-Length: 1\r\n\r\nx", 200, "x");
    }

    #[test]
    fn refuses_what_is_not_a_whole_answer() {
        #[track_caller]
        fn case(bytes: &[u8], expected: &str) {
            match answer(bytes) {
                Err(Broken::Unreadable(text)) => assert!(text.contains(expected), "{text}"),
                other => panic!("{other:?}"),
            }
        }
        case(b"SSH-2.0-OpenSSH_9.2\r\n", "not an HTTP answer");
        case(b"HTTP/2 200 OK\r\n\r\n", "not an HTTP answer");
        case(b"HTTP/1.1 20 OK\r\n\r\n", "not an HTTP answer");
        case(b"HTTP/1.1 2000\r\n\r\n", "not an HTTP answer");
        case(b"HTTP/1.1 +20 OK\r\n\r\n", "not an HTTP answer");
        case(b"HTTP/1.1 200 OK\r\nContent-Le", "cut short");
        case(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}", "cut short");
        case(b"HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc", "invalid content length");
        case(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nabc", "invalid content length");
        case(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\nabc", "larger than 16 MiB");
        case(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 2\r\n\r\nabc", "two content lengths");
        case(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "transfer encoding");
        let chunked = |chunks: &[u8]| [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunks].concat();
        case(&chunked(b"5\r\nab"), "cut short");
        case(&chunked(b"2\r\nab\r\n"), "cut short");
        case(&chunked(b"2\r\nabc\r\n0\r\n\r\n"), "longer than announced");
        case(&chunked(b"-2\r\nab\r\n"), "invalid chunk size");
        case(&chunked(b"\r\nab\r\n"), "invalid chunk size");
        case(&chunked(b"ffffffffff\r\nab"), "invalid chunk size");
        case(&chunked(b"ffffffff\r\nab"), "larger than 16 MiB");
        case(&chunked(&[b'1'; 1000]), "too long a head");
    }

    #[test]
    fn bounds_what_never_ends() {
        let endless = |head: &'static [u8], byte| head.chain(io::repeat(byte));
        let unreadable = |mut source: io::Chain<&[u8], io::Repeat>| match read(&mut source) {
            Err(Broken::Unreadable(text)) => text,
            other => panic!("{other:?}"),
        };
        assert!(unreadable(endless(b"", b'H')).contains("too long a head"));
        assert!(unreadable(endless(b"HTTP/1.1 200 OK\r\nX: ", b'y')).contains("too long a head"));
        assert!(unreadable(endless(b"HTTP/1.1 200 OK\r\n\r\n", b'z')).contains("larger than 16 MiB"));
        let trailers = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
        assert!(unreadable(endless(trailers, b'z')).contains("too long a head"));
        let interim = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(10_000);
        assert!(matches!(read(&mut interim.as_slice()), Err(Broken::Unreadable(_))));
    }

    #[test]
    fn a_body_of_the_largest_size_is_read() {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY_LIMIT}\r\n\r\n");
        let mut source = head.as_bytes().chain(io::repeat(b'x'));
        assert_eq!(read(&mut source).unwrap().body.len(), BODY_LIMIT);
    }

    #[test]
    fn no_answer_is_told_apart_from_half_an_answer() {
        let of = |bytes: &[u8], end| read(&mut Pieces { bytes, piece: 9, end });
        assert!(matches!(of(b"", None), Err(Broken::Nothing(_))));
        assert!(matches!(of(b"", Some(ErrorKind::TimedOut)), Err(Broken::Nothing(_))));
        assert!(matches!(of(b"", Some(ErrorKind::ConnectionReset)), Err(Broken::Nothing(_))));
        assert!(matches!(of(b"HTTP/1.1 200", Some(ErrorKind::TimedOut)), Err(Broken::Nothing(_))));
        assert!(matches!(of(b"HTTP/1.1 200", Some(ErrorKind::ConnectionReset)), Err(Broken::Unreadable(_))));
    }
}
