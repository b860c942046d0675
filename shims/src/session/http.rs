//! Requests to providers (agent-session.md §8): one connection per request, answers read by a helper thread.
//!
//! The thread hands the answer over in pieces. The session waits for the next piece, its cancel token, the run's
//! deadline and the idle limit at once, so a silent server holds up nothing. Dropping an [`Answer`] closes its
//! connection, whatever the thread was doing.

use std::fs;
use std::io::Read;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, never, select};
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Proxy};

use super::classify::Hints;
use super::error::{Kind, ModelError};
use crate::cancel::Cancel;
use crate::env::Environment;
use crate::secret::{Masker, Secret};
use crate::user_info::hide_user_info;

/// Limit for finding the host, and again for connecting.
const CONNECT: Duration = Duration::from_secs(30);
/// Where images keep their certificates.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Size of a piece, and how many may wait.
const PIECE: usize = 16 << 10;
const PIECES: usize = 16;
/// Most of the body of an error.
const ERROR_BODY: usize = 64 << 10;
/// Most of an answer that is not a stream.
const WHOLE_BODY: usize = 32 << 20;
/// Longest wait for the body of an error; the status says enough.
const ERROR_PATIENCE: Duration = Duration::from_secs(10);

/// Sends requests to one server.
pub(super) struct Client {
    base: String,
    host: String,
    config: ureq::config::Config,
    headers: HeaderMap,
    idle: Duration,
    masker: Masker,
}

/// When to stop waiting.
#[derive(Clone, Copy)]
pub(super) struct Patience<'a> {
    pub(super) cancel: &'a Cancel,
    pub(super) deadline: Option<Instant>,
}

impl Patience<'_> {
    /// The same, until then at most.
    pub(super) fn until(self, then: Option<Instant>) -> Self {
        let deadline = [self.deadline, then].into_iter().flatten().min();
        Self { deadline, ..self }
    }
}

/// An answer whose head has arrived.
pub(super) struct Answer {
    pub(super) status: u16,
    headers: HeaderMap,
    pieces: Pieces,
    masker: Masker,
}

/// Bytes of an answer as they come.
struct Pieces {
    events: Receiver<Result<Part, String>>,
    idle: Duration,
    host: String,
    /// Closes the connection when it goes away.
    _close: Close,
}

enum Part {
    Head(u16, HeaderMap),
    Piece(Vec<u8>),
    End,
}

struct Close(Option<Agent>);

impl Drop for Close {
    fn drop(&mut self) {
        if let Some(agent) = self.0.take() {
            agent.shutdown();
        }
    }
}

impl Client {
    /// A client for the server at `base` (no trailing slash needed). `headers` go with every request, in this order;
    /// a later one replaces an earlier one of the same name. `key` is taken out of what is shown of answers.
    ///
    /// # Errors
    /// What is wrong with the URL, a header, the proxy or the file of certificates; values of headers are not shown.
    pub(super) fn new(
        base: &str,
        headers: &[(&str, &str)],
        key: Option<&str>,
        idle: Duration,
        environment: &Environment,
    ) -> Result<Self, String> {
        let base = base.trim_end_matches('/');
        let uri: Uri = base.parse().map_err(|_| "model.baseUrl is not a URL".to_owned())?;
        let (Some(scheme @ ("http" | "https")), Some(host)) = (uri.scheme_str(), uri.host()) else {
            return Err("model.baseUrl must start with http:// or https:// and name a host".into());
        };
        let roots = if scheme == "https" { roots(environment)? } else { RootCerts::WebPki };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_idle_connections(0)
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .proxy(proxy(scheme, host, environment)?)
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .build();
        let masker = Masker::new(&key.map(Secret::new));
        Ok(Self { base: base.into(), host: host.into(), config, headers: header_map(headers)?, idle, masker })
    }

    /// What takes the key out of what is shown of answers. To be used before it is cut.
    pub(super) fn masker(&self) -> &Masker {
        &self.masker
    }

    /// Sends a body and waits for the head of the answer, whatever its status.
    ///
    /// # Errors
    /// `network`, also for cancellation and the deadline.
    pub(super) fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
        patience: Patience<'_>,
    ) -> Result<Answer, ModelError> {
        let mut request = Request::post(format!("{}{path}", self.base)).body(body);
        if let Ok(request) = &mut request {
            // What the configuration says comes last and wins over the headers of one request.
            let mut all = header_map(headers).map_err(|error| ModelError::new(Kind::InvalidRequest, error))?;
            for (name, value) in &self.headers {
                all.insert(name, value.clone());
            }
            *request.headers_mut() = all;
        }
        let request = request.map_err(|error| ModelError::new(Kind::InvalidRequest, error.to_string()))?;
        let agent: Agent = self.config.clone().into();
        let (sender, events) = bounded(PIECES);
        let mut pieces =
            Pieces { events, idle: self.idle, host: self.host.clone(), _close: Close(Some(agent.clone())) };
        std::thread::Builder::new()
            .name("model-request".into())
            .spawn(move || fetch(agent, request, &sender))
            .map_err(|error| ModelError::new(Kind::Network, format!("start a thread for the request: {error}")))?;
        match pieces.next(patience)? {
            Part::Head(status, headers) => Ok(Answer { status, headers, pieces, masker: self.masker.clone() }),
            _ => Err(pieces.failure("the answer has no head")),
        }
    }
}

impl Answer {
    /// The value of a header, by its name in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// What the head says that matters for errors.
    pub(super) fn hints(&self) -> Hints {
        Hints::read(|name| self.header(name))
    }

    /// Whether the answer is a stream of events.
    pub(super) fn is_stream(&self) -> bool {
        let kind = self.header("content-type").unwrap_or_default();
        kind.trim_start().get(..17).is_some_and(|kind| kind.eq_ignore_ascii_case("text/event-stream"))
    }

    /// The next bytes, or `None` at the end.
    ///
    /// # Errors
    /// `network`.
    pub(super) fn next(&mut self, patience: Patience<'_>) -> Result<Option<Vec<u8>>, ModelError> {
        match self.pieces.next(patience)? {
            Part::Piece(bytes) => Ok(Some(bytes)),
            Part::Head(..) | Part::End => Ok(None),
        }
    }

    /// The whole body.
    ///
    /// # Errors
    /// `network`; `malformed` when it is longer than any answer is.
    pub(super) fn whole(mut self, patience: Patience<'_>) -> Result<String, ModelError> {
        let mut body = Vec::new();
        while let Some(bytes) = self.next(patience)? {
            body.extend(bytes);
            if body.len() > WHOLE_BODY {
                return Err(ModelError::new(Kind::Malformed, "the answer is longer than 32 MiB"));
            }
        }
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// What takes the key out of what is shown of this answer. To be used before it is cut.
    pub(super) fn masker(&self) -> &Masker {
        &self.masker
    }

    /// As much of the body of an error as arrives soon, without the key.
    pub(super) fn error_body(mut self, patience: Patience<'_>) -> String {
        let soon = Instant::now() + ERROR_PATIENCE;
        let patience = patience.until(Some(soon));
        let mut body = Vec::new();
        while body.len() < ERROR_BODY {
            let Ok(Some(bytes)) = self.next(patience) else { break };
            body.extend(bytes);
        }
        body.truncate(ERROR_BODY);
        self.masker.mask(&String::from_utf8_lossy(&body)).into_owned()
    }
}

impl Pieces {
    fn next(&mut self, patience: Patience<'_>) -> Result<Part, ModelError> {
        let idle_until = Instant::now() + self.idle;
        let until = patience.deadline.map_or(idle_until, |deadline| deadline.min(idle_until));
        match receive(&self.events, patience.cancel, until) {
            Ok(Ok(part)) => Ok(part),
            Ok(Err(what)) => Err(self.failure(&what)),
            Err(RecvTimeoutError::Disconnected) if patience.cancel.is_cancelled() => Err(self.failure("cancelled")),
            Err(RecvTimeoutError::Disconnected) => Err(self.failure("the request ended unexpectedly")),
            Err(RecvTimeoutError::Timeout) if until < idle_until => Err(self.failure("the run's time is over")),
            Err(RecvTimeoutError::Timeout) => {
                let what = format!("nothing received for {} s", self.idle.as_secs_f64());
                Err(self.failure(&what))
            }
        }
    }

    fn failure(&self, what: &str) -> ModelError {
        ModelError::new(Kind::Network, format!("request to {}: {what}", self.host))
    }
}

/// Waits for the next part; `Disconnected` also when cancelled.
fn receive(
    events: &Receiver<Result<Part, String>>,
    cancel: &Cancel,
    until: Instant,
) -> Result<Result<Part, String>, RecvTimeoutError> {
    // Without this an answer that never pauses could outrun the cancel token.
    if cancel.is_cancelled() {
        return Err(RecvTimeoutError::Disconnected);
    }
    let timer = crossbeam_channel::at(until);
    select! {
        recv(events) -> part => part.map_err(|_| RecvTimeoutError::Disconnected),
        recv(cancel.done()) -> _ => Err(RecvTimeoutError::Disconnected),
        recv(timer) -> _ => Err(RecvTimeoutError::Timeout),
    }
}

/// Runs on the helper thread until the answer has ended or nobody wants it any more.
fn fetch(agent: Agent, request: Request<Vec<u8>>, sender: &Sender<Result<Part, String>>) {
    let (head, body) = match agent.run(request) {
        Ok(response) => response.into_parts(),
        Err(error) => {
            let _ = sender.send(Err(describe(&error)));
            return;
        }
    };
    let mut wanted = sender.send(Ok(Part::Head(head.status.as_u16(), head.headers))).is_ok();
    let mut reader = body.into_reader();
    let mut buffer = vec![0; PIECE];
    while wanted {
        let part = match reader.read(&mut buffer) {
            Ok(0) => Ok(Part::End),
            Ok(count) => Ok(Part::Piece(buffer[..count].to_vec())),
            Err(error) => Err(format!("the answer broke off: {error}")),
        };
        let last = !matches!(part, Ok(Part::Piece(_)));
        wanted = sender.send(part).is_ok() && !last;
    }
}

fn describe(error: &ureq::Error) -> String {
    match error {
        ureq::Error::HostNotFound => "the host name cannot be resolved".into(),
        ureq::Error::Timeout(_) => format!("no connection within {} s", CONNECT.as_secs()),
        ureq::Error::Io(error) => error.to_string(),
        other => hide_user_info(&other.to_string()).into_owned(),
    }
}

fn header_map(headers: &[(&str, &str)]) -> Result<HeaderMap, String> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let wrong =
            |what: &str| format!("the {what} of the request header `{name}` has characters that are not allowed");
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong("name"))?;
        let mut value = HeaderValue::from_str(value).map_err(|_| wrong("value"))?;
        value.set_sensitive(true);
        map.insert(name, value);
    }
    Ok(map)
}

/// Certificates to trust: the file that `SSL_CERT_FILE` names, else the system's, else the built-in set.
///
/// # Errors
/// When the named file cannot be read or has no certificates.
pub fn roots(environment: &Environment) -> Result<RootCerts, String> {
    let named = environment.get_non_empty("SSL_CERT_FILE");
    let path = named.unwrap_or(SYSTEM_ROOTS);
    let pem = match fs::read(path) {
        Ok(pem) => pem,
        Err(error) if named.is_some() => return Err(format!("read {path} (from SSL_CERT_FILE): {error}")),
        Err(_) => return Ok(RootCerts::WebPki),
    };
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    match (certificates.is_empty(), named) {
        (false, _) => Ok(certificates.into_iter().into()),
        (true, Some(path)) => Err(format!("{path} (from SSL_CERT_FILE) has no certificates")),
        (true, None) => Ok(RootCerts::WebPki),
    }
}

/// The proxy for a server, when there is one; every request goes through it by `CONNECT`.
///
/// # Errors
/// When the variable has no URL of an HTTP proxy; its value is not shown.
pub fn proxy(scheme: &str, host: &str, environment: &Environment) -> Result<Option<Proxy>, String> {
    let either = |upper: &str, lower: &str| {
        environment.get_non_empty(upper).or_else(|| environment.get_non_empty(lower)).map(str::to_owned)
    };
    let (name, url) = match scheme {
        "https" => ("HTTPS_PROXY", either("HTTPS_PROXY", "https_proxy")),
        _ => ("HTTP_PROXY", either("HTTP_PROXY", "http_proxy")),
    };
    let Some(url) = url else { return Ok(None) };
    if without_proxy(host, &either("NO_PROXY", "no_proxy").unwrap_or_default()) {
        return Ok(None);
    }
    // The value is not shown: it may contain a password.
    let supported = |url: &str| !url.contains("://") || url.starts_with("http://") || url.starts_with("https://");
    match Proxy::new(&url) {
        Ok(proxy) if supported(&url) => Ok(Some(proxy)),
        _ => Err(format!("{name} is not the URL of an HTTP proxy")),
    }
}

/// Whether `NO_PROXY` names a host: `*`, the name itself, or a domain that it is part of (`example.com`,
/// `.example.com`, `*.example.com`).
fn without_proxy(host: &str, list: &str) -> bool {
    let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
    list.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        let domain = entry.trim_start_matches("*.").trim_start_matches('.').to_ascii_lowercase();
        let inside = host.strip_suffix(&domain).is_some_and(|rest| rest.ends_with('.'));
        entry == "*" || host == domain || inside
    })
}

/// Waits, unless the token is used first. Returns whether the whole time went by.
pub(super) fn wait(delay: Duration, cancel: &Cancel) -> bool {
    let timer = Instant::now().checked_add(delay).map_or_else(never, crossbeam_channel::at);
    select! {
        recv(cancel.done()) -> _ => false,
        recv(timer) -> _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    /// A server that gives its one connection to `serve`.
    fn server<T: Send + 'static>(
        serve: impl FnOnce(TcpStream) -> T + Send + 'static,
    ) -> (String, thread::JoinHandle<T>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        (url, thread::spawn(move || serve(listener.accept().unwrap().0)))
    }

    fn client(url: &str, idle: Duration) -> Client {
        Client::new(url, &[], None, idle, &Environment::default()).unwrap()
    }

    fn read_head(stream: &mut TcpStream) -> String {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        String::from_utf8(head).unwrap()
    }

    /// Blocks until the other side has closed the connection.
    fn until_closed(mut stream: TcpStream) {
        stream.set_read_timeout(Some(LONG)).unwrap();
        let mut rest = [0; 4096];
        while matches!(stream.read(&mut rest), Ok(count) if count > 0) {}
    }

    #[test]
    fn sends_the_headers_and_reads_status_and_body() {
        let (url, server) = server(|mut stream| {
            let head = read_head(&mut stream);
            write!(stream, "HTTP/1.1 418 Teapot\r\nRetry-After: 3\r\ncontent-length: 2\r\n\r\nhi").unwrap();
            head
        });
        let headers = [("x-one", "1"), ("x-two", "configured")];
        let client = Client::new(&format!("{url}/base/"), &headers, None, LONG, &Environment::default()).unwrap();
        let cancel = Cancel::new();
        let patience = Patience { cancel: &cancel, deadline: None };
        let headers = [("user-agent", "me/1"), ("x-two", "request")];
        let answer = client.post("/path", &headers, b"body".to_vec(), patience).unwrap();
        assert_eq!((answer.status, answer.hints().wait), (418, Some(Duration::from_secs(3))));
        assert_eq!(answer.error_body(patience), "hi");
        let head = server.join().unwrap().to_lowercase();
        assert!(head.starts_with("post /base/path http/1.1\r\n"), "{head}");
        for line in ["user-agent: me/1", "x-one: 1", "x-two: configured", "content-length: 4"] {
            assert!(head.contains(&format!("\r\n{line}\r\n")), "{line} in {head}");
        }
    }

    #[test]
    fn redirects_are_not_followed() {
        let (url, _server) = server(|mut stream| {
            read_head(&mut stream);
            write!(stream, "HTTP/1.1 302 Found\r\nlocation: /other\r\ncontent-length: 0\r\n\r\n").unwrap();
        });
        let cancel = Cancel::new();
        let patience = Patience { cancel: &cancel, deadline: None };
        assert_eq!(client(&url, LONG).post("/", &[], Vec::new(), patience).map(|answer| answer.status), Ok(302));
    }

    #[test]
    fn a_silent_server_is_given_up_before_and_after_the_head() {
        for head in ["", "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"] {
            let (url, server) = server(move |mut stream| {
                read_head(&mut stream);
                stream.write_all(head.as_bytes()).unwrap();
                until_closed(stream);
            });
            let cancel = Cancel::new();
            let patience = Patience { cancel: &cancel, deadline: None };
            let error = match client(&url, Duration::from_millis(50)).post("/", &[], Vec::new(), patience) {
                Ok(mut answer) => {
                    assert!(answer.is_stream());
                    answer.next(patience).unwrap_err()
                }
                Err(error) => error,
            };
            assert_eq!(error.kind, Kind::Network);
            assert!(error.message.contains("nothing received for 0.05 s"), "{error}");
            server.join().unwrap();
        }
    }

    #[test]
    fn cancelling_closes_the_connection() {
        let cancel = Cancel::new();
        let token = cancel.clone();
        let (url, server) = server(move |mut stream| {
            read_head(&mut stream);
            write!(stream, "HTTP/1.1 200 OK\r\n\r\nx").unwrap();
            token.cancel();
            until_closed(stream);
        });
        let patience = Patience { cancel: &cancel, deadline: None };
        let error = match client(&url, LONG).post("/", &[], Vec::new(), patience) {
            Ok(mut answer) => loop {
                if let Err(error) = answer.next(patience) {
                    break error;
                }
            },
            Err(error) => error,
        };
        assert!(error.message.contains("cancelled"), "{error}");
        server.join().unwrap();
    }

    #[test]
    fn the_deadline_ends_a_request() {
        let (url, server) = server(|mut stream| {
            read_head(&mut stream);
            until_closed(stream);
        });
        let cancel = Cancel::new();
        let deadline = Some(Instant::now() + Duration::from_millis(50));
        let error = client(&url, LONG).post("/", &[], Vec::new(), Patience { cancel: &cancel, deadline });
        assert!(error.is_err_and(|error| error.message.contains("time is over")));
        server.join().unwrap();
    }

    #[test]
    fn a_refused_connection_is_a_network_error() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let cancel = Cancel::new();
        let patience = Patience { cancel: &cancel, deadline: None };
        let error = client(&format!("http://127.0.0.1:{port}"), LONG).post("/", &[], Vec::new(), patience);
        let error = error.err().unwrap();
        assert_eq!(error.kind, Kind::Network);
        assert!(error.message.contains("127.0.0.1"), "{error}");
    }

    #[test]
    fn a_proxy_gets_a_connect_unless_the_host_is_exempt() {
        let (url, server) = server(|mut stream| {
            let head = read_head(&mut stream);
            write!(stream, "HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n").unwrap();
            head
        });
        let environment = Environment::from_iter([("HTTPS_PROXY", url.as_str()), ("NO_PROXY", "other.test")]);
        let client = Client::new("https://model.test", &[], None, LONG, &environment).unwrap();
        let cancel = Cancel::new();
        let error = client.post("/", &[], Vec::new(), Patience { cancel: &cancel, deadline: None });
        assert!(error.is_err_and(|error| error.message.contains("403")));
        assert!(server.join().unwrap().starts_with("CONNECT model.test:443 "));
    }

    #[test]
    fn exempt_hosts() {
        #[track_caller]
        fn case(host: &str, list: &str, expected: bool) {
            assert_eq!(without_proxy(host, list), expected, "{host} {list}");
        }
        case("api.test", "", false);
        case("api.test", "*", true);
        case("api.test", "localhost, API.test", true);
        case("api.test", "test", true);
        case("api.test", ".test", true);
        case("api.test", "*.test", true);
        case("api.test", "pi.test", false);
        case("[::1]", "::1", true);
    }

    #[test]
    fn what_cannot_work_is_said_without_values() {
        #[track_caller]
        fn case(base: &str, headers: &[(&str, &str)], environment: &[(&str, &str)], expected: &str) {
            let environment = environment.iter().copied().collect();
            let error = Client::new(base, headers, None, LONG, &environment).err().expect("this cannot work");
            assert!(error.contains(expected) && !error.contains("hunter2"), "{error}");
        }
        case("ftp://x", &[], &[], "baseUrl");
        case("not a url", &[], &[], "baseUrl");
        case("https://x", &[("a", "hunter2\n")], &[], "header `a`");
        case("https://x", &[("a b", "1")], &[], "header `a b`");
        case("https://x", &[], &[("SSL_CERT_FILE", "/does/not/exist")], "/does/not/exist");
        case("https://x", &[], &[("SSL_CERT_FILE", "/dev/null")], "no certificates");
        case("https://x", &[], &[("HTTPS_PROXY", "socks5://a:hunter2@b")], "HTTPS_PROXY");
    }
}
