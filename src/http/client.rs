//! The connection to one client: reading its request within limits, refusing it so that the refusal arrives.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::time::{Duration, Instant};

use tiny_http::StatusCode;

use super::body::{Decoder, Share};
use super::front::{Face, Limits};
use super::head::{self, Framing, Head};
use super::types::Reply;

/// What is read and thrown away before a connection with unread bytes is closed: closing it at once would reset it and
/// could destroy the answer on its way.
const LINGER_BYTES: usize = 64 * 1024;
const LINGER: Duration = Duration::from_secs(1);
/// Bytes per read.
const PIECE_BYTES: usize = 16 * 1024;

/// Why there is no request.
pub(super) enum Stop {
    /// Nobody is there to be answered.
    Gone,
    Refuse(Reply),
}

impl From<Reply> for Stop {
    fn from(reply: Reply) -> Self {
        Self::Refuse(reply)
    }
}

/// A client and what was read of its bytes but not used yet.
pub(super) struct Client<'s> {
    sock: &'s TcpStream,
    unread: Vec<u8>,
    /// It asked for an answer without body.
    head_only: bool,
}

impl<'s> Client<'s> {
    pub(super) fn new(sock: &'s TcpStream) -> Self {
        Self { sock, unread: Vec::new(), head_only: false }
    }

    /// Reads the whole request.
    pub(super) fn receive(
        &mut self,
        face: &dyn Face,
        peer: IpAddr,
        limits: &Limits,
        share: &mut Share,
    ) -> Result<(Head, Vec<u8>), Stop> {
        let head = self.receive_head(Instant::now() + limits.head_time)?;
        self.head_only = head.method == "HEAD";
        let body = self.receive_admitted(&head, face, peer, limits, share);
        if let Err(Stop::Refuse(reply)) = &body {
            face.refused(&head, peer, reply);
        }
        Ok((head, body?))
    }

    fn receive_admitted(
        &mut self,
        head: &Head,
        face: &dyn Face,
        peer: IpAddr,
        limits: &Limits,
        share: &mut Share,
    ) -> Result<Vec<u8>, Stop> {
        let limit = face.admit(head, peer)?;
        self.receive_body(head, limit, Instant::now() + limits.body_time, share)
    }

    fn receive_head(&mut self, until: Instant) -> Result<Head, Stop> {
        let mut seen = 0;
        loop {
            if let Some(end) = head::find_end(&self.unread, seen)?.filter(|end| *end <= head::HEAD_BYTES) {
                let head = head::parse(&self.unread[..end])?;
                self.unread.drain(..end);
                return Ok(head);
            }
            seen = self.unread.len();
            if seen >= head::HEAD_BYTES {
                return Err(Reply::error(431, "request head too large").into());
            }
            // Most requests come whole.
            let mut piece = [0; PIECE_BYTES];
            match read_until(self.sock, &mut piece, until) {
                Ok(0) => return Err(Stop::Gone),
                Ok(count) => self.unread.extend_from_slice(&piece[..count]),
                Err(error) => return Err(stopped(&error, "request head did not come in time")),
            }
        }
    }

    fn receive_body(&mut self, head: &Head, limit: usize, until: Instant, share: &mut Share) -> Result<Vec<u8>, Stop> {
        let too_large = || Stop::Refuse(Reply::error(413, "payload too large"));
        let mut decoder = match head.framing {
            Framing::Length(length) => {
                let length = usize::try_from(length).ok().filter(|length| *length <= limit).ok_or_else(too_large)?;
                Decoder::with_length(length)
            }
            Framing::Chunked => Decoder::chunked(limit),
        };
        if head.expects_continue && self.unread.is_empty() && !decoder.is_done() {
            self.sock.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").map_err(|_| Stop::Gone)?;
        }
        // What was announced may never come.
        let mut body = Vec::with_capacity(decoder.least().min(PIECE_BYTES));
        let used = decoder.push(&self.unread, &mut body)?;
        share.grow(body.len())?;
        self.unread = self.unread.split_off(used);
        while !decoder.is_done() {
            let mut piece = [0; PIECE_BYTES];
            let count = match read_until(self.sock, &mut piece, until) {
                Ok(0) if share.is_given_up() => return Err(share.refusal().into()),
                Ok(0) => return Err(Reply::error(400, "failed to read request body").into()),
                Ok(count) => count,
                Err(error) => return Err(stopped(&error, "request body did not come in time")),
            };
            let before = body.len();
            let used = decoder.push(&piece[..count], &mut body)?;
            share.grow(body.len() - before)?;
            self.unread.extend_from_slice(&piece[used..count]);
        }
        share.finish()?;
        Ok(body)
    }

    /// Answers without the inner server and closes.
    pub(super) fn refuse(mut self, reply: &Reply) {
        if self.sock.write_all(&render(reply, self.head_only)).is_ok() {
            self.linger();
        }
    }

    /// Closes after an answer. What the client sent beyond its request must not cost it the answer.
    pub(super) fn close(mut self) {
        let mut more = [0; 1];
        let pending = !self.unread.is_empty()
            || (self.sock.set_nonblocking(true).is_ok() && matches!(self.sock.peek(&mut more), Ok(1..)));
        if pending && self.sock.set_nonblocking(false).is_ok() {
            self.linger();
        }
    }

    fn linger(&mut self) {
        let until = Instant::now() + LINGER;
        let mut piece = [0; 4096];
        let mut left = LINGER_BYTES;
        let _ = self.sock.shutdown(Shutdown::Write);
        while left > 0 {
            match read_until(self.sock, &mut piece, until) {
                Ok(count) if count > 0 => left = left.saturating_sub(count),
                _ => return,
            }
        }
    }
}

fn stopped(error: &io::Error, text: &str) -> Stop {
    match error.kind() {
        io::ErrorKind::TimedOut => Stop::Refuse(Reply::error(408, text)),
        _ => Stop::Gone,
    }
}

/// An answer as bytes.
pub(super) fn render(reply: &Reply, head_only: bool) -> Vec<u8> {
    let reason = StatusCode(reply.status).default_reason_phrase();
    let mut text = format!("HTTP/1.1 {} {reason}\r\n", reply.status);
    for (name, value) in &reply.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str(&format!("Content-Length: {}\r\nConnection: close\r\n\r\n", reply.body.len()));
    let mut bytes = text.into_bytes();
    if !head_only {
        bytes.extend_from_slice(&reply.body);
    }
    bytes
}

/// Reads what is there; `TimedOut` when nothing came until then.
pub(super) fn read_until(mut sock: &TcpStream, buffer: &mut [u8], until: Instant) -> io::Result<usize> {
    loop {
        sock.set_read_timeout(Some(time_left(until)?))?;
        match sock.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map_err(elapsed),
        }
    }
}

/// What is left of a stage, for a socket's time-out (which must not be zero).
pub(super) fn time_left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left.max(Duration::from_millis(1))) }
}

/// Linux says `WouldBlock` when a socket's time-out is over.
pub(super) fn elapsed(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { error }
}
