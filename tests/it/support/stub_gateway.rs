//! A gateway that answers as it is told and remembers what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// An address of its own on the loopback device: connections that tests make come from 127.0.0.1, so none of them can
/// take a port on which a stub is to listen again.
const ADDRESS: &str = "127.77.0.1:0";

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query, undecoded.
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) at: Instant,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body, which must be JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    /// The value of a query parameter, undecoded.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }
}

/// What happens to a request.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Json(u16, String),
    /// These bytes, then the connection is closed.
    Raw(Vec<u8>),
    /// Nothing, and the connection stays open as long as the stub lives.
    Silence,
    /// The connection is closed without a byte.
    Close,
    /// The answer comes later.
    After(Duration, Box<Answer>),
}

impl Answer {
    pub(crate) fn json(status: u16, body: &str) -> Self {
        Self::Json(status, body.to_owned())
    }
}

type Script = dyn Fn(&Request) -> Answer + Send + Sync;

struct Shared {
    script: Box<Script>,
    requests: Mutex<Vec<Request>>,
    /// Connections that are to be cut when the stub ends.
    open: Mutex<Vec<TcpStream>>,
}

/// The stub. It listens as long as it lives; then its connections are cut.
pub(crate) struct StubGateway {
    address: SocketAddr,
    listener: TcpListener,
    shared: Arc<Shared>,
    accepting: Option<thread::JoinHandle<()>>,
}

impl StubGateway {
    /// Listens on a free port.
    pub(crate) fn start(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        Self::listen(ADDRESS.parse().unwrap(), script)
    }

    /// Gives the same answer to everything.
    pub(crate) fn answering(status: u16, body: &str) -> Self {
        let answer = Answer::json(status, body);
        Self::start(move |_| answer.clone())
    }

    /// Ends this stub and gives its address, on which nobody listens now.
    pub(crate) fn stop(self) -> SocketAddr {
        self.address
    }

    /// Listens on a port that another stub has left.
    pub(crate) fn listen(address: SocketAddr, script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).unwrap_or_else(|error| panic!("listen on {address}: {error}"));
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Box::new(script),
            requests: Mutex::new(Vec::new()),
            open: Mutex::new(Vec::new()),
        });
        let accepting = {
            let (listener, shared) = (listener.try_clone().unwrap(), Arc::clone(&shared));
            thread::spawn(move || accept(&listener, &shared))
        };
        Self { address, listener, shared, accepting: Some(accepting) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The port it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// All requests so far, in the order of their arrival.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// The only request.
    #[track_caller]
    pub(crate) fn request(&self) -> Request {
        let mut requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests.remove(0)
    }
}

impl Drop for StubGateway {
    fn drop(&mut self) {
        // Ends the blocked `accept`.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        for stream in self.shared.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept() {
        shared.open.lock().unwrap().push(stream.try_clone().unwrap());
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            // A client that went away is not the stub's affair.
            let _ = serve(stream, &shared);
        });
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let request = read_request(&stream)?;
    let mut answer = (shared.script)(&request);
    shared.requests.lock().unwrap().push(request);
    while let Answer::After(pause, next) = answer {
        thread::sleep(pause);
        answer = *next;
    }
    match answer {
        Answer::Json(status, body) => {
            let length = body.len();
            stream.write_all(
                format!(
                    "HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
                )
                .as_bytes(),
            )?;
            // Deliberately left open: a client that waits for more than the announced length is found out.
            Ok(())
        }
        Answer::Raw(bytes) => {
            stream.write_all(&bytes)?;
            stream.shutdown(Shutdown::Both)
        }
        Answer::Close => stream.shutdown(Shutdown::Both),
        Answer::Silence | Answer::After(..) => Ok(()),
    }
}

fn read_request(stream: &TcpStream) -> std::io::Result<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_ascii_whitespace().map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
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
    Ok(Request { method, target, headers, body, at: Instant::now() })
}
