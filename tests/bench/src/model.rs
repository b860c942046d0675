//! A server that plays the model: Anthropic's Messages API, with a note of when everything happened.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// Longest wait for a request.
const PATIENCE: Duration = Duration::from_secs(300);

/// One request and when it came and was answered.
pub(crate) struct Asked {
    pub(crate) first_byte: Instant,
    pub(crate) complete: Instant,
    pub(crate) answered: Instant,
    pub(crate) body: Value,
}

/// The server.
pub(crate) struct Model {
    pub(crate) port: u16,
    asked: Receiver<Asked>,
}

impl Model {
    /// Listens at an address. `answer` gives the stream for a request by its number, from 0; the server ends when it
    /// gives nothing.
    pub(crate) fn start(
        address: IpAddr,
        mut answer: impl FnMut(usize, &Value) -> Option<Vec<u8>> + Send + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind((address, 0)).with_context(|| format!("listen at {address}"))?;
        let port = listener.local_addr()?.port();
        let (sender, asked) = channel();
        thread::spawn(move || {
            for (number, sock) in listener.incoming().enumerate() {
                let Ok(mut sock) = sock else { break };
                let _ = sock.set_nodelay(true);
                // Who asks may go away.
                let Some((first_byte, complete, body)) = read(&mut sock) else { continue };
                let Some(stream) = answer(number, &body) else { break };
                let _ = sock.write_all(&stream);
                drop(sock);
                let _ = sender.send(Asked { first_byte, complete, answered: Instant::now(), body });
            }
        });
        Ok(Self { port, asked })
    }

    /// The next request once it is answered.
    pub(crate) fn next(&self) -> Result<Asked> {
        self.asked.recv_timeout(PATIENCE).context("no request came")
    }

    /// The next one that has been answered already.
    pub(crate) fn next_now(&self) -> Option<Asked> {
        self.asked.try_recv().ok()
    }
}

/// When a request began and ended, and its body: null when it is not HTTP, as the beginning of TLS is not.
fn read(sock: &mut TcpStream) -> Option<(Instant, Instant, Value)> {
    let mut first = [0];
    sock.read_exact(&mut first).ok()?;
    let first_byte = Instant::now();
    if first != *b"P" {
        return Some((first_byte, first_byte, Value::Null));
    }
    let mut reader = BufReader::new(sock);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? <= 2 {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let complete = Instant::now();
    Some((first_byte, complete, serde_json::from_slice(&body).ok()?))
}

/// A response that calls bash.
pub(crate) fn bash(number: usize, command: &str) -> Vec<u8> {
    let call =
        json!({"type": "tool_use", "id": format!("toolu_{number}"), "name": "bash", "input": {"command": command}});
    whole(&call, "tool_use")
}

/// A response that says something.
pub(crate) fn says(text: &str) -> Vec<u8> {
    whole(&json!({"type": "text", "text": text}), "end_turn")
}

fn whole(block: &Value, stop: &str) -> Vec<u8> {
    let body = [
        json!({"type": "message_start", "message": {"usage": {"input_tokens": 0, "output_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": block}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": 0}}),
        json!({"type": "message_stop"}),
    ];
    [HEAD.as_bytes(), body.iter().map(event).collect::<String>().as_bytes()].concat()
}

/// The beginning of a stream whose end is the end of the connection.
pub(crate) const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";

/// An event of a stream.
pub(crate) fn event(data: &Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or_default())
}

/// Text of the newest tool result in a request.
pub(crate) fn last_result(body: &Value) -> Option<&str> {
    body["messages"].as_array()?.last()?["content"].as_array()?.last()?["content"].as_str()
}

/// Whether a request is for a summary.
pub(crate) fn is_summary(body: &Value) -> bool {
    body.get("tools").is_none()
}
