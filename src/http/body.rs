//! Request bodies: decoding them, and the memory that all of them share.

use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::types::Reply;

/// Longest chunk extension, longest size in hex digits, longest trailer section.
const EXTENSION_BYTES: usize = 256;
const SIZE_DIGITS: usize = 8;
const TRAILER_BYTES: usize = 4 * 1024;

/// Takes a body out of the bytes of a connection, however they are split.
pub(super) enum Decoder {
    /// So many bytes are still to come.
    Length(usize),
    Chunked(Chunked),
}

impl Decoder {
    pub(super) fn with_length(length: usize) -> Self {
        Self::Length(length)
    }

    pub(super) fn chunked(limit: usize) -> Self {
        Self::Chunked(Chunked { limit, line: Vec::new(), trailer_bytes: 0, state: State::Size })
    }

    /// So many bytes, at least, are still to come.
    pub(super) fn least(&self) -> usize {
        match self {
            Self::Length(left) => *left,
            Self::Chunked(_) => 0,
        }
    }

    /// Whether the body is complete.
    pub(super) fn is_done(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunked) => chunked.state == State::Done,
        }
    }

    /// Appends what the bytes hold of the body; gives how many of them were used, all of them until it is complete.
    pub(super) fn push(&mut self, bytes: &[u8], body: &mut Vec<u8>) -> Result<usize, Reply> {
        match self {
            Self::Length(left) => {
                let count = bytes.len().min(*left);
                body.extend_from_slice(&bytes[..count]);
                *left -= count;
                Ok(count)
            }
            Self::Chunked(chunked) => chunked.push(bytes, body),
        }
    }
}

/// Decoder of the chunked encoding.
pub(super) struct Chunked {
    limit: usize,
    /// Beginning of the current line.
    line: Vec<u8>,
    trailer_bytes: usize,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// In the line before a chunk.
    Size,
    /// So many bytes of the chunk are to come.
    Data(usize),
    /// In the empty line behind a chunk.
    DataEnd,
    Trailer,
    Done,
}

impl Chunked {
    fn push(&mut self, bytes: &[u8], body: &mut Vec<u8>) -> Result<usize, Reply> {
        let mut used = 0;
        while used < bytes.len() && self.state != State::Done {
            if let State::Data(left) = self.state {
                let count = left.min(bytes.len() - used);
                body.extend_from_slice(&bytes[used..used + count]);
                used += count;
                self.state = if left == count { State::DataEnd } else { State::Data(left - count) };
            } else {
                let complete = self.push_to_line(bytes[used])?;
                used += 1;
                if complete {
                    self.end_of_line(body.len())?;
                }
            }
        }
        Ok(used)
    }

    /// Takes one byte; true when it ended the line, which is then in `line` without its CRLF.
    fn push_to_line(&mut self, byte: u8) -> Result<bool, Reply> {
        let after_cr = self.line.last() == Some(&b'\r');
        match byte {
            b'\n' if after_cr => {
                self.line.pop();
                return Ok(true);
            }
            b'\n' => return Err(malformed("LF without CR")),
            _ if after_cr => return Err(malformed("CR without LF")),
            _ => self.line.push(byte),
        }
        // The CR may be the last byte of a line that is just short enough.
        let longest = match self.state {
            State::Size => SIZE_DIGITS + EXTENSION_BYTES,
            State::Trailer => TRAILER_BYTES,
            State::DataEnd | State::Data(_) | State::Done => 0,
        };
        if self.line.len() > longest + 1 || (self.line.len() > longest && byte != b'\r') {
            return Err(malformed("line too long"));
        }
        Ok(false)
    }

    fn end_of_line(&mut self, received: usize) -> Result<(), Reply> {
        let line = std::mem::take(&mut self.line);
        self.state = match self.state {
            State::Size => match chunk_size(&line)? {
                0 => State::Trailer,
                size if size > self.limit - received => return Err(Reply::error(413, "payload too large")),
                size => State::Data(size),
            },
            State::DataEnd => State::Size,
            State::Trailer if line.is_empty() => State::Done,
            State::Trailer => {
                self.trailer_bytes += line.len() + 2;
                if self.trailer_bytes > TRAILER_BYTES {
                    return Err(malformed("trailers too long"));
                }
                State::Trailer
            }
            State::Data(_) | State::Done => self.state,
        };
        Ok(())
    }
}

fn chunk_size(line: &[u8]) -> Result<usize, Reply> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (size, extension) = line.split_at(digits);
    if digits == 0 || digits > SIZE_DIGITS || !matches!(extension.first(), None | Some(b';')) {
        return Err(malformed("bad chunk size"));
    }
    if extension.len() > EXTENSION_BYTES {
        return Err(malformed("chunk extension too long"));
    }
    let size = std::str::from_utf8(size).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
    size.ok_or_else(|| malformed("bad chunk size"))
}

fn malformed(what: &str) -> Reply {
    Reply::error(400, &format!("malformed chunked body: {what}"))
}

/// Memory that the bodies of all connections share. It is counted as bytes arrive, never by announced lengths: clients
/// that announce much and send nothing take nothing.
pub(super) struct Budget {
    limit: usize,
    bodies: Mutex<Bodies>,
}

#[derive(Default)]
struct Bodies {
    next: u64,
    used: usize,
    list: Vec<Body>,
}

struct Body {
    id: u64,
    bytes: usize,
    state: BodyState,
    sock: Arc<TcpStream>,
}

#[derive(PartialEq, Eq)]
enum BodyState {
    Arriving,
    /// Complete; its request is being answered.
    Complete,
    GivenUp,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, bodies: Mutex::default() })
    }

    /// A share for the body of a connection; it goes back when it is dropped.
    pub(super) fn share(self: &Arc<Self>, sock: &Arc<TcpStream>) -> Share {
        let mut bodies = self.lock();
        let id = bodies.next;
        bodies.next += 1;
        bodies.list.push(Body { id, bytes: 0, state: BodyState::Arriving, sock: sock.clone() });
        Share { budget: self.clone(), id }
    }

    fn lock(&self) -> MutexGuard<'_, Bodies> {
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bodies {
    fn get(&mut self, id: u64) -> Option<&mut Body> {
        self.list.iter_mut().find(|body| body.id == id)
    }

    /// Gives up the largest unfinished body, of equals the oldest. Its connection wakes and refuses its request.
    fn give_up_largest(&mut self) {
        let arriving = self.list.iter_mut().filter(|body| body.state == BodyState::Arriving);
        if let Some(victim) = arriving.max_by_key(|body| (body.bytes, std::cmp::Reverse(body.id))) {
            victim.state = BodyState::GivenUp;
            self.used -= std::mem::take(&mut victim.bytes);
            let _ = victim.sock.shutdown(Shutdown::Read);
        }
    }
}

/// The part of the budget that one body takes.
pub(super) struct Share {
    budget: Arc<Budget>,
    id: u64,
}

impl Share {
    /// Counts bytes that have come.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), Reply> {
        let mut bodies = self.budget.lock();
        let Some(body) = bodies.get(self.id) else { return Ok(()) };
        if body.state == BodyState::Arriving {
            body.bytes += bytes;
            bodies.used += bytes;
        }
        // Ends: each turn gives one body up, this one at the latest.
        while bodies.used > self.budget.limit
            && bodies.get(self.id).is_some_and(|body| body.state == BodyState::Arriving)
        {
            bodies.give_up_largest();
        }
        self.checked(&mut bodies)
    }

    /// The body is complete and can no longer be given up.
    pub(super) fn finish(&mut self) -> Result<(), Reply> {
        let mut bodies = self.budget.lock();
        self.checked(&mut bodies)?;
        if let Some(body) = bodies.get(self.id) {
            body.state = BodyState::Complete;
        }
        Ok(())
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.checked(&mut self.budget.lock()).is_err()
    }

    /// The answer to a request whose body was given up.
    pub(super) fn refusal(&self) -> Reply {
        Reply::error(503, "too many large requests").with_header("Retry-After", "1")
    }

    fn checked(&self, bodies: &mut Bodies) -> Result<(), Reply> {
        let given_up = bodies.get(self.id).is_some_and(|body| body.state == BodyState::GivenUp);
        if given_up { Err(self.refusal()) } else { Ok(()) }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut bodies = self.budget.lock();
        if let Some(index) = bodies.list.iter().position(|body| body.id == self.id) {
            let body = bodies.list.swap_remove(index);
            bodies.used -= body.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(text: &[u8], limit: usize) -> Result<(Vec<u8>, usize), u16> {
        let (mut decoder, mut body) = (Decoder::chunked(limit), Vec::new());
        let used = decoder.push(text, &mut body).map_err(|reply| reply.status)?;
        assert!(decoder.is_done(), "no end in {:?}", String::from_utf8_lossy(text));
        Ok((body, used))
    }

    #[test]
    fn chunks() {
        let body = |text: &[u8]| decode(text, 100).map(|(body, _)| String::from_utf8(body).unwrap());
        assert_eq!(body(b"5\r\nhello\r\n6; a=\"b\"\r\n world\r\n0\r\nX: y\r\n\r\n"), Ok("hello world".into()));
        assert_eq!(body(b"0\r\n\r\n"), Ok(String::new()));
        assert_eq!(body(b"00000005\r\nhello\r\n0\r\n\r\n"), Ok("hello".into()));
        assert_eq!(decode(b"1\r\na\r\n0\r\n\r\nGET", 100), Ok((b"a".to_vec(), 11)));
        assert_eq!(decode(b"5\r\nhello\r\n0\r\n\r\n", 5), Ok((b"hello".to_vec(), 15)));
    }

    #[test]
    fn bad_chunks() {
        let status = |text: &[u8], limit| decode(text, limit).unwrap_err();
        assert_eq!(status(b"5\nhello\r\n0\r\n\r\n", 100), 400);
        assert_eq!(status(b"5\r\nhello0\r\n\r\n", 100), 400);
        assert_eq!(status(b"x\r\n", 100), 400);
        assert_eq!(status(b"\r\n", 100), 400);
        assert_eq!(status(b"-1\r\n", 100), 400);
        assert_eq!(status(b"5 \r\n", 100), 400);
        assert_eq!(status(b"000000005\r\nhello\r\n", 100), 400);
        assert_eq!(status(b"6\r\nhello!\r\n0\r\n\r\n", 5), 413);
        assert_eq!(status(b"3\r\nhel\r\n3\r\nlo!\r\n0\r\n\r\n", 5), 413);
    }

    #[test]
    fn lines_have_limits() {
        let extended = |count: usize| [b"1;", "e".repeat(count - 1).as_bytes(), b"\r\na\r\n0\r\n\r\n"].concat();
        assert!(decode(&extended(256), 9).is_ok());
        assert_eq!(decode(&extended(257), 9), Err(400));
        let trailers = |count: usize| [b"0\r\n".as_slice(), "A: b\r\n".repeat(count).as_bytes(), b"\r\n"].concat();
        assert!(decode(&trailers(682), 9).is_ok());
        assert_eq!(decode(&trailers(683), 9), Err(400));
        assert_eq!(decode(&[b"0\r\n".as_slice(), &[b'x'; 5000]].concat(), 9), Err(400));
    }

    /// A connected socket, kept open by the pair.
    fn sock() -> (Arc<TcpStream>, TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Arc::new(listener.accept().unwrap().0), client)
    }

    #[test]
    fn the_largest_unfinished_body_gives_way() {
        let (sock, _client) = sock();
        let budget = Budget::new(100);
        let (mut finished, mut old, mut young) = (budget.share(&sock), budget.share(&sock), budget.share(&sock));
        finished.grow(50).unwrap();
        finished.finish().unwrap();
        old.grow(25).unwrap();
        young.grow(25).unwrap();
        let mut small = budget.share(&sock);
        small.grow(1).unwrap();
        assert!(old.is_given_up() && !young.is_given_up() && !finished.is_given_up());
        assert_eq!(young.grow(30).unwrap_err().status, 503);
        drop(finished);
        small.grow(99).unwrap();
        assert!(small.finish().is_ok());
    }
}

#[cfg(test)]
mod props {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_same_however_the_bytes_are_split(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..5),
            cuts in proptest::collection::vec(1usize..9, 0..200),
            damage in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
        ) {
            let mut bytes = Vec::new();
            for chunk in &chunks {
                bytes.extend(format!("{:x};e\r\n", chunk.len()).bytes().chain(chunk.iter().copied()).chain(*b"\r\n"));
            }
            bytes.extend(b"0\r\nA: b\r\n\r\n");
            if let Some((index, byte)) = damage {
                let index = index.index(bytes.len());
                bytes[index] = byte;
            }
            let whole = run(&bytes, std::iter::once(bytes.len()));
            let pieces = run(&bytes, cuts.into_iter().chain(std::iter::repeat(7)));
            prop_assert_eq!(&whole, &pieces);
            if damage.is_none() {
                prop_assert_eq!(whole, Ok((chunks.concat(), true)));
            }
        }
    }

    fn run(bytes: &[u8], cuts: impl Iterator<Item = usize>) -> Result<(Vec<u8>, bool), u16> {
        let (mut decoder, mut body, mut rest) = (Decoder::chunked(1000), Vec::new(), bytes);
        for cut in cuts {
            let (piece, left) = rest.split_at(cut.min(rest.len()));
            let used = decoder.push(piece, &mut body).map_err(|reply| reply.status)?;
            rest = left;
            if rest.is_empty() || used < piece.len() {
                break;
            }
        }
        Ok((body, decoder.is_done()))
    }
}
