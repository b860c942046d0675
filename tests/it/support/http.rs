//! A client that sends exactly the bytes it is given.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Longest wait for a server; tests fail rather than hang.
const PATIENCE: Duration = Duration::from_secs(10);

/// An answer taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Header lines, without the status line.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// Takes apart all bytes of a connection; panics when they are not exactly one answer.
    #[track_caller]
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let (line, head) = head.split_once("\r\n").unwrap_or((head, ""));
        let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.unwrap_or_else(|| panic!("bad status line: {line:?}"));
        Self { status, head: head.to_owned(), body: body.to_owned() }
    }

    /// The first value of a header field.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.body))
    }
}

/// A connection with time-outs.
pub(crate) fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let sock = TcpStream::connect_timeout(&address, PATIENCE)?;
    sock.set_read_timeout(Some(PATIENCE))?;
    sock.set_write_timeout(Some(PATIENCE))?;
    sock.set_nodelay(true)?;
    Ok(sock)
}

/// A connection from an address of our choice, with time-outs.
pub(crate) fn connect_from(from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let sock = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&sock, &SocketAddr::new(from.into(), 0))?;
    connect(&sock, &to)?;
    let sock = TcpStream::from(sock);
    sock.set_read_timeout(Some(PATIENCE))?;
    sock.set_write_timeout(Some(PATIENCE))?;
    Ok(sock)
}

/// Everything that comes until the server closes.
pub(crate) fn read_all(mut sock: &TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    sock.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Sends bytes, then nothing more; gives everything that comes back.
pub(crate) fn exchange(address: SocketAddr, bytes: &[u8]) -> io::Result<Vec<u8>> {
    exchange_on(&connect(address)?, bytes)
}

fn exchange_on(mut sock: &TcpStream, bytes: &[u8]) -> io::Result<Vec<u8>> {
    // The server may refuse and close before everything is written.
    let _ = sock.write_all(bytes);
    let _ = sock.shutdown(Shutdown::Write);
    read_all(sock)
}

/// A plain request, with a body when one is given.
#[track_caller]
pub(crate) fn request(address: SocketAddr, method: &str, target: &str, fields: &str, body: &str) -> Answer {
    let bytes = exchange(address, &request_bytes(method, target, fields, body.as_bytes()));
    Answer::parse(&bytes.unwrap_or_else(|error| panic!("{method} {target}: {error}")))
}

/// The same from an address of our choice.
#[track_caller]
pub(crate) fn request_from(
    from: Ipv4Addr,
    address: SocketAddr,
    method: &str,
    target: &str,
    fields: &str,
    body: &str,
) -> Answer {
    let sock = connect_from(from, address).unwrap();
    Answer::parse(&exchange_on(&sock, &request_bytes(method, target, fields, body.as_bytes())).unwrap())
}

/// A plain request as bytes.
pub(crate) fn request_bytes(method: &str, target: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("{method} {target} HTTP/1.1\r\nHost: test\r\n{fields}Content-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

#[track_caller]
pub(crate) fn get(address: SocketAddr, target: &str) -> Answer {
    request(address, "GET", target, "", "")
}

#[track_caller]
pub(crate) fn post(address: SocketAddr, target: &str, body: &Value) -> Answer {
    request(address, "POST", target, "", &body.to_string())
}
