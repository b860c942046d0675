//! A model server that plays a script: each request gets the next answer of it, good or broken in a chosen way, and is
//! remembered. It speaks Anthropic's Messages API, or Google's ([`Reply::gemini`]) or one of OpenAI's
//! ([`Reply::responses`], [`Reply::chat`]), and listens where containers can reach it.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

mod gemini;
mod openai;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// `POST /v1/messages`.
    pub(crate) line: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Value,
    pub(crate) at: Instant,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn messages(&self) -> &[Value] {
        self.body["messages"].as_array().expect("a request has messages")
    }

    /// Texts and errors of the tool results in the last message, in their order.
    pub(crate) fn results(&self) -> Vec<(&str, bool)> {
        let blocks = self.messages().last().expect("there is one")["content"].as_array().expect("content is a list");
        let results = blocks.iter().filter(|block| block["type"] == "tool_result");
        results.map(|block| (block["content"].as_str().unwrap(), block["is_error"].as_bool().unwrap())).collect()
    }
}

/// One response of the model.
#[derive(Clone)]
pub(crate) struct Reply {
    blocks: Vec<Value>,
    stop: &'static str,
    /// Input, output, read from and written to the cache.
    usage: [u64; 4],
    /// Bytes of text, thinking or arguments in one delta.
    delta: usize,
}

/// Begins a response with a text.
pub(crate) fn text(text: &str) -> Reply {
    Reply::new().text(text)
}

/// Begins a response with a bash call; its id is `call_1`.
pub(crate) fn bash(command: &str) -> Reply {
    Reply::new().bash("call_1", command)
}

impl Reply {
    /// A response without content.
    pub(crate) fn new() -> Self {
        Self { blocks: Vec::new(), stop: "end_turn", usage: [10, 5, 0, 0], delta: 11 }
    }

    pub(crate) fn text(self, text: &str) -> Self {
        self.block(json!({"type": "text", "text": text}))
    }

    pub(crate) fn thinking(self, thinking: &str, signature: &str) -> Self {
        self.block(json!({"type": "thinking", "thinking": thinking, "signature": signature}))
    }

    pub(crate) fn redacted(self, data: &str) -> Self {
        self.block(json!({"type": "redacted_thinking", "data": data}))
    }

    pub(crate) fn call(mut self, id: &str, name: &str, input: &Value) -> Self {
        self.stop = "tool_use";
        self.block(json!({"type": "tool_use", "id": id, "name": name, "input": input}))
    }

    pub(crate) fn bash(self, id: &str, command: &str) -> Self {
        self.call(id, "bash", &json!({"command": command}))
    }

    /// A call whose arguments end in the middle: `raw` is what came of them.
    pub(crate) fn cut_call(mut self, id: &str, name: &str, raw: &str) -> Self {
        self.stop = "max_tokens";
        self.block(json!({"type": "tool_use", "id": id, "name": name, "raw": raw}))
    }

    fn block(mut self, block: Value) -> Self {
        self.blocks.push(block);
        self
    }

    pub(crate) fn stop(mut self, reason: &'static str) -> Self {
        self.stop = reason;
        self
    }

    pub(crate) fn usage(mut self, input: u64, output: u64, read: u64, written: u64) -> Self {
        self.usage = [input, output, read, written];
        self
    }

    /// Sends larger deltas.
    pub(crate) fn deltas_of(mut self, bytes: usize) -> Self {
        self.delta = bytes;
        self
    }

    /// The response as a stream of events.
    pub(crate) fn stream(&self) -> Answer {
        let [input, output, read, written] = self.usage;
        let usage = json!({"input_tokens": input, "output_tokens": 1, "cache_read_input_tokens": read,
            "cache_creation_input_tokens": written});
        let mut events = vec![
            json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant",
                "content": [], "stop_reason": null, "usage": usage}}),
            json!({"type": "ping"}),
        ];
        for (index, block) in self.blocks.iter().enumerate() {
            let (start, deltas) = self.streamed(block);
            events.push(json!({"type": "content_block_start", "index": index, "content_block": start}));
            events.extend(
                deltas.into_iter().map(|delta| json!({"type": "content_block_delta", "index": index, "delta": delta})),
            );
            events.push(json!({"type": "content_block_stop", "index": index}));
        }
        let stopped = json!({"stop_reason": self.stop, "stop_sequence": null});
        events.push(json!({"type": "message_delta", "delta": stopped, "usage": {"output_tokens": output}}));
        events.push(json!({"type": "message_stop"}));
        Answer::events(&events)
    }

    /// The response in one piece, as servers answer that do not know `stream`.
    pub(crate) fn whole(&self) -> Answer {
        let [input, output, read, written] = self.usage;
        let usage = json!({"input_tokens": input, "output_tokens": output, "cache_read_input_tokens": read,
            "cache_creation_input_tokens": written});
        let message = json!({"id": "msg_1", "type": "message", "role": "assistant", "content": self.blocks,
            "stop_reason": self.stop, "usage": usage});
        Answer::json(200, &message)
    }

    /// The start of a block and what is added to it.
    fn streamed(&self, block: &Value) -> (Value, Vec<Value>) {
        let text_of = |name: &str| block[name].as_str().unwrap_or_default();
        let pieces = |text: &str, kind: &str, name: &str| -> Vec<Value> {
            self.pieces(text).map(|piece| json!({"type": kind, name: piece})).collect()
        };
        match block["type"].as_str().unwrap() {
            "text" => (json!({"type": "text", "text": ""}), pieces(text_of("text"), "text_delta", "text")),
            "thinking" => {
                let mut deltas = pieces(text_of("thinking"), "thinking_delta", "thinking");
                deltas.extend(pieces(text_of("signature"), "signature_delta", "signature"));
                (json!({"type": "thinking", "thinking": "", "signature": ""}), deltas)
            }
            "tool_use" => {
                let raw = block["raw"].as_str().map_or_else(|| block["input"].to_string(), str::to_owned);
                let start = json!({"type": "tool_use", "id": block["id"], "name": block["name"], "input": {}});
                (start, pieces(&raw, "input_json_delta", "partial_json"))
            }
            _ => (block.clone(), Vec::new()),
        }
    }

    fn pieces<'t>(&self, mut text: &'t str) -> impl Iterator<Item = &'t str> {
        let size = self.delta;
        std::iter::from_fn(move || {
            let mut end = size.min(text.len());
            while !text.is_char_boundary(end) {
                end += 1;
            }
            let (piece, rest) = text.split_at(end);
            text = rest;
            (!piece.is_empty()).then_some(piece)
        })
    }
}

/// What is sent back, and how.
#[derive(Clone)]
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Bytes sent at a time, and the pause after them.
    pace: (usize, Duration),
    end: End,
    /// Even the head is kept back.
    silent: bool,
    /// It stays in the script.
    forever: bool,
    check: Option<Check>,
}

type Check = (&'static str, Arc<dyn Fn(&Request) -> bool + Send + Sync>);

/// How the body ends.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Properly,
    /// The connection is closed after so many bytes, in the middle of the body.
    CutAfter(usize),
    /// Nothing comes after so many bytes; the connection stays open.
    SilentAfter(usize),
}

impl Answer {
    fn new(status: u16, kind: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: vec![("content-type".into(), kind.into())],
            body: body.into(),
            pace: (usize::MAX, Duration::ZERO),
            end: End::Properly,
            silent: false,
            forever: false,
            check: None,
        }
    }

    /// Any text in a chosen content type.
    pub(crate) fn raw(status: u16, kind: &str, body: &str) -> Self {
        Self::new(status, kind, body)
    }

    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::new(status, "application/json", body.to_string())
    }

    /// A stream of these events.
    pub(crate) fn events(events: &[Value]) -> Self {
        let event = |data: &Value| format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap());
        Self::new(200, "text/event-stream; charset=utf-8", events.iter().map(event).collect::<String>())
    }

    /// An error as the API reports it.
    pub(crate) fn error(status: u16, kind: &str, message: &str) -> Self {
        Self::json(status, &error(kind, message)).header("request-id", "req_test")
    }

    /// A stream that begins like `reply` and goes on with an error event.
    pub(crate) fn error_within(reply: &Reply, kind: &str, message: &str) -> Self {
        let mut answer = reply.stream();
        let end = answer.find("event: message_delta");
        answer.body.truncate(end);
        answer.body.extend(format!("event: error\ndata: {}\n\n", error(kind, message)).into_bytes());
        answer
    }

    /// No answer, but an open connection.
    pub(crate) fn silence() -> Self {
        Self { silent: true, ..Self::new(200, "text/event-stream", "") }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Answers every further request in this way.
    pub(crate) fn forever(mut self) -> Self {
        self.forever = true;
        self
    }

    /// Sends so many bytes at a time.
    pub(crate) fn in_pieces(self, bytes: usize) -> Self {
        self.slowly(bytes, Duration::ZERO)
    }

    /// Sends so many bytes at a time, with a pause after each piece.
    pub(crate) fn slowly(mut self, bytes: usize, pause: Duration) -> Self {
        self.pace = (bytes, pause);
        self
    }

    /// Closes the connection just behind the first occurrence of this text.
    pub(crate) fn cut_behind(mut self, text: &str) -> Self {
        self.end = End::CutAfter(self.find(text) + text.len());
        self
    }

    /// Ends with something that is no event behind the first occurrence of this text.
    pub(crate) fn garbled_behind(mut self, text: &str) -> Self {
        self.body.truncate(self.find(text) + text.len());
        self.body.extend(b" \n\ndata: <html>\n\n");
        self
    }

    /// Sends nothing more behind the first occurrence of this text.
    pub(crate) fn silent_behind(mut self, text: &str) -> Self {
        self.end = End::SilentAfter(self.find(text) + text.len());
        self
    }

    /// Sends the head and nothing else.
    pub(crate) fn silent_after_head(mut self) -> Self {
        self.end = End::SilentAfter(0);
        self
    }

    /// Demands something of the request that this answers.
    pub(crate) fn when(mut self, what: &'static str, check: impl Fn(&Request) -> bool + Send + Sync + 'static) -> Self {
        self.check = Some((what, Arc::new(check)));
        self
    }

    fn find(&self, text: &str) -> usize {
        let at = self.body.windows(text.len()).position(|window| window == text.as_bytes());
        at.unwrap_or_else(|| panic!("the answer does not contain {text:?}"))
    }

    fn send(&self, stream: &mut TcpStream) -> io::Result<()> {
        let mut head = format!("HTTP/1.1 {} Status\r\ntransfer-encoding: chunked\r\n", self.status);
        self.headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        stream.write_all((head + "\r\n").as_bytes())?;
        let wanted = match self.end {
            End::Properly => self.body.len(),
            End::CutAfter(bytes) | End::SilentAfter(bytes) => bytes,
        };
        let (size, pause) = self.pace;
        for piece in self.body[..wanted].chunks(size) {
            let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
            chunk.extend(piece);
            chunk.extend(b"\r\n");
            stream.write_all(&chunk)?;
            thread::sleep(pause);
        }
        match self.end {
            End::Properly => stream.write_all(b"0\r\n\r\n"),
            End::CutAfter(_) => stream.shutdown(Shutdown::Both),
            End::SilentAfter(_) => Ok(()),
        }
    }
}

fn error(kind: &str, message: &str) -> Value {
    json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_test"})
}

#[derive(Default)]
struct State {
    script: VecDeque<Answer>,
    /// An answer that stays in the script has been given.
    was_played: bool,
    requests: Vec<Request>,
    /// What was not as the script demands.
    complaints: Vec<String>,
    /// Connections that the other side has closed.
    closed: usize,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Connections that are to be cut when the server ends.
    open: Mutex<Vec<TcpStream>>,
    changed: Condvar,
}

impl State {
    /// The next answer of the script; `None` when it is over.
    fn next(&mut self) -> Option<Answer> {
        if self.script.front().is_some_and(|answer| answer.forever) {
            self.was_played = true;
            return self.script.front().cloned();
        }
        let answer = self.script.pop_front();
        if answer.is_none() {
            self.complaints.push(format!("request {} is one too many", self.requests.len() + 1));
        }
        answer
    }

    /// What of the script has not been played.
    fn rest(&self) -> usize {
        self.script.len() - usize::from(self.was_played)
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `done` finds something in the state.
    #[track_caller]
    fn wait<T>(&self, what: &str, limit: Duration, done: impl Fn(&State) -> Option<T>) -> T {
        let deadline = Instant::now() + limit;
        let mut state = self.lock();
        loop {
            if let Some(found) = done(&state) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what}: not within {limit:?}; requests: {:#?}", state.requests);
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// The server. It listens as long as it lives; then its connections are cut.
pub(crate) struct Llm {
    address: SocketAddr,
    listener: TcpListener,
    shared: Arc<Shared>,
    accepting: Option<thread::JoinHandle<()>>,
}

impl Llm {
    /// Listens on a free port of an address of this host.
    pub(crate) fn start(address: IpAddr) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap_or_else(|error| panic!("listen on {address}: {error}"));
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let accepting = {
            let (listener, shared) = (listener.try_clone().unwrap(), Arc::clone(&shared));
            thread::spawn(move || accept(&listener, &shared))
        };
        Self { address, listener, shared, accepting: Some(accepting) }
    }

    /// Begins a script.
    pub(crate) fn play(&self, script: impl IntoIterator<Item = Answer>) {
        *self.shared.lock() = State { script: script.into_iter().collect(), ..State::default() };
    }

    /// For `baseUrl`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops listening: whoever connects from now on is refused.
    pub(crate) fn close(&self) {
        // Ends the blocked `accept`.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
    }

    /// Waits for the so-manieth request.
    #[track_caller]
    pub(crate) fn wait_for_request(&self, number: usize, limit: Duration) -> Request {
        let what = format!("request {number}");
        self.shared.wait(&what, limit, |state| state.requests.get(number - 1).cloned())
    }

    /// Waits until the other side has closed so many connections.
    #[track_caller]
    pub(crate) fn wait_for_closed(&self, number: usize, limit: Duration) {
        self.shared.wait("closed connection", limit, |state| (state.closed >= number).then_some(()));
    }

    /// All requests, in the order of their arrival. Fails unless the script was played from its beginning to its end
    /// and no request came after that.
    #[track_caller]
    pub(crate) fn finish(&self) -> Vec<Request> {
        let state = self.shared.lock();
        assert!(state.complaints.is_empty(), "{:#?}\nrequests: {:#?}", state.complaints, state.requests);
        assert_eq!(state.rest(), 0, "answers that nobody asked for; requests: {:#?}", state.requests);
        state.requests.clone()
    }
}

impl Drop for Llm {
    fn drop(&mut self) {
        self.close();
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        for stream in self.shared.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept() {
        let _ = stream.set_nodelay(true);
        shared.open.lock().unwrap_or_else(PoisonError::into_inner).push(stream.try_clone().unwrap());
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            // A client that went away is not the server's affair.
            let _ = serve(stream, &shared);
        });
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let request = read_request(&stream)?;
    let answer = {
        let mut state = shared.lock();
        let number = state.requests.len() + 1;
        let answer = state.next();
        let answer = answer.unwrap_or_else(|| Answer::error(418, "invalid_request_error", "the script is over"));
        if let Some((what, check)) = &answer.check
            && !check(&request)
        {
            state.complaints.push(format!("request {number}: {what}"));
        }
        state.requests.push(request);
        answer
    };
    shared.changed.notify_all();
    if !answer.silent {
        answer.send(&mut stream)?;
    }
    // Nothing more is expected of the other side but that it closes the connection.
    let ended = loop {
        match stream.read(&mut [0; 64]) {
            Ok(0) => break true,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break true,
            Ok(_) => {}
            Err(_) => break false,
        }
    };
    shared.lock().closed += usize::from(ended);
    shared.changed.notify_all();
    Ok(())
}

fn read_request(stream: &TcpStream) -> io::Result<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let line = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        let (name, value) = line.split_once(':').expect("a header has a colon");
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.map_or(0, |(_, length)| length.parse().expect("a length is a number"))];
    reader.read_exact(&mut body)?;
    let body = serde_json::from_slice(&body).unwrap_or_else(|error| Value::String(format!("not JSON: {error}")));
    Ok(Request { line, headers, body, at: Instant::now() })
}
