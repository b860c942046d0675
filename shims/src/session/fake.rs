//! A provider for tests: an HTTP server on loopback that gives prepared answers, one per connection.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

/// Gives its answers in order and remembers what it was asked.
pub(super) struct Fake {
    pub(super) url: String,
    received: Arc<Mutex<Vec<Received>>>,
}

/// One request.
#[derive(Clone)]
pub(super) struct Received {
    /// Request line and headers, in lower case.
    pub(super) head: String,
    pub(super) body: Value,
}

impl Received {
    /// The value of a header.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// One answer.
#[derive(Clone)]
pub(super) struct Given {
    status: u16,
    headers: String,
    body: Vec<u8>,
    /// Bytes of one piece, and the pause after it.
    chunk: usize,
    pause: Duration,
    /// Where pieces end instead; in ascending order.
    cuts: Vec<usize>,
    frame: Frame,
    then: Then,
}

/// How the other side learns where the body ends.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Frame {
    Chunks,
    /// Its length is announced.
    Length,
    /// The connection ends with it.
    Connection,
    /// What is called the body is everything that is sent, the head included.
    Raw,
}

#[derive(Clone, Copy, PartialEq)]
enum Then {
    /// Not even a head comes.
    Nothing,
    /// The body is complete.
    End,
    /// The connection breaks before the body is complete.
    Cut,
    /// Silence until the other side gives up.
    Hang,
}

impl Given {
    /// A body without content type, sent in one piece.
    pub(super) fn bare(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let (chunk, pause, cuts) = (usize::MAX, Duration::ZERO, Vec::new());
        let (headers, frame) = (String::new(), Frame::Chunks);
        Self { status, headers, body: body.into(), chunk, pause, cuts, frame, then: Then::End }
    }

    /// A stream.
    pub(super) fn stream(sse: impl Into<Vec<u8>>) -> Self {
        Self::bare(200, sse).header("content-type", "text/event-stream; charset=utf-8")
    }

    /// JSON with a status.
    pub(super) fn json(status: u16, body: &str) -> Self {
        Self::bare(status, body).header("content-type", "application/json")
    }

    /// Silence from the beginning.
    pub(super) fn silence() -> Self {
        Self { then: Then::Nothing, ..Self::bare(200, "") }
    }

    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers += &format!("{name}: {value}\r\n");
        self
    }

    /// In pieces of so many bytes.
    pub(super) fn in_pieces(self, chunk: usize) -> Self {
        Self { chunk, ..self }
    }

    /// In pieces of so many bytes, with a pause after each.
    pub(super) fn slowly(self, chunk: usize, pause: Duration) -> Self {
        Self { chunk, pause, ..self }
    }

    /// In pieces that end at these places, whatever their order.
    pub(super) fn split(mut self, cuts: impl IntoIterator<Item = usize>) -> Self {
        self.cuts = cuts.into_iter().map(|cut| cut % (self.body.len() + 1)).collect();
        self.cuts.sort_unstable();
        self
    }

    /// With another way of telling where the body ends.
    pub(super) fn framed(self, frame: Frame) -> Self {
        Self { frame, ..self }
    }

    /// With the connection breaking at the end.
    pub(super) fn cut(self) -> Self {
        Self { then: Then::Cut, ..self }
    }

    /// With silence at the end.
    pub(super) fn hang(self) -> Self {
        Self { then: Then::Hang, ..self }
    }

    fn pieces(&self) -> Vec<&[u8]> {
        let mut pieces = Vec::new();
        let mut from = 0;
        for cut in self.cuts.iter().copied().chain([self.body.len()]) {
            // A piece of no bytes would be the end.
            pieces.extend(self.body[from..cut].chunks(self.chunk.min(1 << 20)));
            from = cut;
        }
        pieces
    }

    fn write(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        if self.then == Then::Nothing {
            return until_closed(stream);
        }
        let missing = usize::from(self.then != Then::End);
        let frame = match self.frame {
            Frame::Chunks => "transfer-encoding: chunked\r\n".to_owned(),
            Frame::Length => format!("content-length: {}\r\n", self.body.len() + missing),
            Frame::Connection | Frame::Raw => String::new(),
        };
        if self.frame != Frame::Raw {
            write!(stream, "HTTP/1.1 {} X\r\n{}{frame}\r\n", self.status, self.headers)?;
        }
        for piece in self.pieces() {
            let mut bytes = piece.to_vec();
            if self.frame == Frame::Chunks {
                bytes.splice(..0, format!("{:x}\r\n", piece.len()).into_bytes());
                bytes.extend_from_slice(b"\r\n");
            }
            stream.write_all(&bytes)?;
            std::thread::sleep(self.pause);
        }
        match self.then {
            Then::End if self.frame == Frame::Chunks => stream.write_all(b"0\r\n\r\n"),
            Then::End | Then::Cut => Ok(()),
            Then::Nothing | Then::Hang => until_closed(stream),
        }
    }
}

fn until_closed(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.read(&mut [0]).map(drop)
}

impl Fake {
    /// A server with these answers; further requests are refused with status 418.
    pub(super) fn start(answers: Vec<Given>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let received = Arc::new(Mutex::new(Vec::new()));
        let log = received.clone();
        std::thread::spawn(move || {
            let mut answers = answers.into_iter();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                stream.set_nodelay(true).unwrap();
                log.lock().unwrap().push(receive(&mut stream));
                let answer = answers.next().unwrap_or_else(|| Given::json(418, "no more answers"));
                // The client may have heard enough before the end.
                let _ = answer.write(&mut stream);
            }
        });
        Self { url, received }
    }

    /// All requests so far.
    pub(super) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

fn receive(stream: &mut TcpStream) -> Received {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let mut received = Received { head: String::from_utf8(head).unwrap().to_lowercase(), body: Value::Null };
    let length = received.header("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    received.body = serde_json::from_slice(&body).unwrap();
    received
}
