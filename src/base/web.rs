//! Outgoing HTTP of this program: one door, where every request has limits of time and size, no redirect is followed, and
//! every failure has a cause that callers can tell apart.

use std::fmt;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use shims::env::Environment;
use shims::session::{proxy, roots};
use ureq::http::{HeaderName, HeaderValue, Uri};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Timeout, http};

use super::Secret;

/// Where a server is: what stands before the path of every request. Shown without a name and password in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// `http` or `https`.
    scheme: &'static str,
    /// IPv6 addresses in brackets.
    host: String,
    port: Option<u16>,
    /// Before the path of every request, without a slash at its end.
    prefix: String,
}

impl Address {
    /// Reads an absolute `http` or `https` URL without query and fragment.
    pub fn parse(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let scheme = match uri.scheme_str()? {
            "http" => "http",
            "https" => "https",
            _ => return None,
        };
        if url.contains(['?', '#']) {
            return None;
        }
        let host = uri.host().filter(|host| !host.is_empty())?.to_ascii_lowercase();
        // What stands in the place of a port and is none: perhaps a password with a character that ended it too early.
        let port = uri.authority()?.as_str().rsplit('@').next()?.get(host.len()..)?;
        if port.len() > 1 && uri.port_u16().is_none() {
            return None;
        }
        Some(Self { scheme, host, port: uri.port_u16(), prefix: uri.path().trim_end_matches('/').to_owned() })
    }

    /// A server of this machine, asked at 127.0.0.1.
    pub fn of_this_machine(port: u16) -> Self {
        let host = Ipv4Addr::LOCALHOST.to_string();
        Self { scheme: "http", host, port: Some(port), prefix: String::new() }
    }

    /// The host; an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        self.host.trim_matches(['[', ']'])
    }

    /// Whether nobody on the way can read along.
    pub fn is_encrypted(&self) -> bool {
        self.scheme == "https"
    }

    /// Whether it is this machine.
    pub fn is_loopback(&self) -> bool {
        let is_name = self.host == "localhost" || self.host.ends_with(".localhost");
        is_name || self.ip().is_some_and(|ip| ip.is_loopback())
    }

    /// Whether it is an address of a private network or a link.
    pub fn is_private(&self) -> bool {
        match self.ip() {
            Some(IpAddr::V4(ip)) => ip.is_private() || ip.is_link_local(),
            Some(IpAddr::V6(ip)) => ip.is_unique_local() || ip.is_unicast_link_local(),
            None => false,
        }
    }

    fn ip(&self) -> Option<IpAddr> {
        let ip: IpAddr = self.host().parse().ok()?;
        Some(ip.to_canonical())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(&self.prefix)
    }
}

/// How long a request may take and how large its answer may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Until the connection is made, encryption included.
    pub connect: Duration,
    /// From the beginning to the last byte of the answer.
    pub whole: Duration,
    pub answer_bytes: u64,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Nobody listens there. Nothing was sent.
    Refused,
    /// No way leads there. Nothing was sent.
    Unreachable,
    /// The name of the host has no address.
    Dns,
    /// No encrypted connection, for example because of the certificate.
    Tls,
    Timeout,
    /// The answer is larger than the limit.
    TooLarge,
    Other,
}

/// A request without an answer.
#[derive(Debug)]
pub struct Failure {
    pub cause: Cause,
    /// What happened, in a few words without the address.
    pub reason: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Failure {}

/// What a server answered, whatever its status.
#[derive(Debug, Default)]
pub struct Answer {
    pub status: u16,
    headers: http::HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    /// An answer that nobody gave, for messages about one that did.
    pub fn of(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, body: body.into(), ..Self::default() }
    }

    /// A header field that is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// What is done with a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    #[default]
    Get,
    Post,
}

/// A request.
#[derive(Clone, Copy, Default)]
pub struct Request<'a> {
    pub method: Method,
    /// Path and query, with a slash in front.
    pub path: &'a str,
    /// Sent as `Authorization: Bearer …`.
    pub bearer: Option<&'a Secret>,
    /// Further header fields; they replace what is otherwise sent, and nobody prints them.
    pub headers: &'a [(&'static str, &'a str)],
    /// JSON text.
    pub json: Option<&'a str>,
    /// A form, encoded; instead of JSON.
    pub form: Option<&'a str>,
}

/// The way to one server.
pub struct Web {
    address: Address,
    config: ureq::config::Config,
}

impl Web {
    /// The way to a server. Proxies and additional certificates come from the environment; this machine is never asked
    /// through a proxy.
    ///
    /// # Errors
    /// When a variable of the environment cannot be used; the text names it.
    pub fn to(address: &Address, environment: &Environment) -> Result<Self, String> {
        let address = &overridden(address, environment)?;
        let proxy = match address.is_loopback() {
            true => None,
            false => proxy(address.scheme, &address.host, environment)?,
        };
        let roots = if address.is_encrypted() { roots(environment)? } else { RootCerts::WebPki };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_idle_connections(0)
            .user_agent(format!("al/{}", shims::VERSION))
            .accept("application/json")
            .proxy(proxy)
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .build();
        Ok(Self { address: address.clone(), config })
    }

    /// The server.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Asks and waits for the whole answer.
    ///
    /// # Errors
    /// When there is none.
    pub fn send(&self, request: Request<'_>, limits: Limits) -> Result<Answer, Failure> {
        let agent: Agent = self.config.clone().into();
        let built = self.build(request).map_err(|reason| Failure { cause: Cause::Other, reason })?;
        let built = agent.configure_request(built);
        let built = built
            .timeout_resolve(Some(limits.connect))
            .timeout_connect(Some(limits.connect))
            .timeout_global(Some(limits.whole))
            .build();
        let failed = |error| classify(error, self.address.is_encrypted(), limits);
        let (head, body) = agent.run(built).map_err(failed)?.into_parts();
        let mut bytes = Vec::new();
        body.into_reader()
            .take(limits.answer_bytes.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|error| failed(error.into()))?;
        if bytes.len() as u64 > limits.answer_bytes {
            let reason = format!("the answer has more than {} bytes", limits.answer_bytes);
            return Err(Failure { cause: Cause::TooLarge, reason });
        }
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body: bytes })
    }

    fn build(&self, request: Request<'_>) -> Result<http::Request<Vec<u8>>, String> {
        let uri = format!("{}{}", self.address, request.path);
        let mut builder = http::Request::builder().uri(uri).method(match request.method {
            Method::Get => http::Method::GET,
            Method::Post => http::Method::POST,
        });
        if let Some(key) = request.bearer {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose()))
                .map_err(|_| "the key has characters that cannot be sent".to_owned())?;
            value.set_sensitive(true);
            builder = builder.header(http::header::AUTHORIZATION, value);
        }
        for (name, text) in request.headers {
            let mut value =
                HeaderValue::from_str(text).map_err(|_| format!("{name} has characters that cannot be sent"))?;
            value.set_sensitive(true);
            builder = builder.header(*name, value);
        }
        let kind = [(request.json, "application/json"), (request.form, "application/x-www-form-urlencoded")];
        let body = kind.into_iter().find_map(|(body, kind)| Some((body?, kind)));
        if let Some((_, kind)) = body {
            builder = builder.header(HeaderName::from_static("content-type"), kind);
        }
        builder.body(body.map_or("", |(text, _)| text).as_bytes().to_vec()).map_err(|error| error.to_string())
    }
}

/// The address that is asked in the place of another (`AL_HTTP_OVERRIDE`, cli-config.md §4.7): tests put a server of this
/// machine there. Nothing can be sent to another machine by it.
fn overridden(address: &Address, environment: &Environment) -> Result<Address, String> {
    let wrong = |pair: &str| {
        format!(
            "AL_HTTP_OVERRIDE: \"{pair}\" is not <origin>=<address of this machine>, for example \
             https://a.example=http://127.0.0.1:8080"
        )
    };
    let origin = |address: &Address| {
        let port = address.port.unwrap_or(if address.is_encrypted() { 443 } else { 80 });
        (address.scheme, address.host.clone(), port)
    };
    let mut found = None;
    for pair in environment.get_non_empty("AL_HTTP_OVERRIDE").into_iter().flat_map(|list| list.split(',')) {
        let (from, to) = pair.trim().split_once('=').ok_or_else(|| wrong(pair))?;
        let to =
            Address::parse(to).filter(|to| to.prefix.is_empty() && !to.is_encrypted()).ok_or_else(|| wrong(pair))?;
        if !["127.0.0.1", "localhost", "[::1]"].contains(&to.host.as_str()) {
            return Err(wrong(pair));
        }
        let from = Address::parse(from).ok_or_else(|| wrong(pair))?;
        if origin(&from) == origin(address) {
            found = Some(Address { prefix: address.prefix.clone(), ..to });
        }
    }
    Ok(found.unwrap_or_else(|| address.clone()))
}

/// The one place that knows what the errors of the HTTP library and the system mean.
fn classify(error: ureq::Error, is_encrypted: bool, limits: Limits) -> Failure {
    let (cause, reason) = match error {
        ureq::Error::HostNotFound => (Cause::Dns, "the host name has no address".to_owned()),
        ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => {
            (Cause::Timeout, format!("no connection within {} s", limits.connect.as_secs_f64()))
        }
        ureq::Error::Timeout(_) => (Cause::Timeout, format!("no answer within {} s", limits.whole.as_secs_f64())),
        ureq::Error::Tls(what) => (Cause::Tls, format!("TLS: {what}")),
        ureq::Error::Rustls(error) => (Cause::Tls, format!("TLS: {error}")),
        ureq::Error::Pem(error) => (Cause::Tls, format!("TLS: {error:?}")),
        ureq::Error::Io(error) => of_system(&error, is_encrypted),
        other => (Cause::Other, other.to_string()),
    };
    Failure { cause, reason }
}

fn of_system(error: &io::Error, is_encrypted: bool) -> (Cause, String) {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => (Cause::Refused, "connection refused".to_owned()),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown => {
            (Cause::Unreachable, error.kind().to_string())
        }
        // What went wrong in an encrypted stream comes as data that cannot be right.
        io::ErrorKind::InvalidData if is_encrypted => (Cause::Tls, format!("TLS: {error}")),
        _ if error.to_string().starts_with("failed to lookup address") => {
            (Cause::Dns, "the host name cannot be resolved".to_owned())
        }
        _ => (Cause::Other, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    use super::*;

    const LIMITS: Limits =
        Limits { connect: Duration::from_secs(20), whole: Duration::from_secs(20), answer_bytes: 1000 };

    /// A server that gives its one connection to `serve`, and its address.
    fn server<T: Send + 'static>(
        serve: impl FnOnce(TcpStream) -> T + Send + 'static,
    ) -> (Address, thread::JoinHandle<T>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::of_this_machine(listener.local_addr().unwrap().port());
        (address, thread::spawn(move || serve(listener.accept().unwrap().0)))
    }

    fn read_head(stream: &mut TcpStream) -> String {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() > 0 {
            head.push(byte[0]);
        }
        String::from_utf8(head).unwrap()
    }

    fn answering(answer: &str) -> (Address, thread::JoinHandle<String>) {
        let answer = answer.to_owned();
        server(move |mut stream| {
            let head = read_head(&mut stream);
            // A client may have seen enough.
            let _ = stream.write_all(answer.as_bytes());
            head
        })
    }

    fn get(address: &Address, limits: Limits) -> Result<Answer, Failure> {
        let request = Request { path: "/x?y=1", ..Request::default() };
        Web::to(address, &Environment::default()).unwrap().send(request, limits)
    }

    #[track_caller]
    fn fails(address: &Address, limits: Limits, cause: Cause, part: &str) {
        let failure = get(address, limits).unwrap_err();
        assert_eq!(failure.cause, cause, "{failure}");
        assert!(failure.reason.contains(part), "{failure}");
    }

    #[test]
    fn addresses_are_read_and_classified() {
        #[track_caller]
        fn case(url: &str, shown: &str, is_loopback: bool, is_private: bool) {
            let address = Address::parse(url).unwrap();
            assert_eq!((address.to_string().as_str(), address.is_loopback(), address.is_private()), {
                (shown, is_loopback, is_private)
            });
        }
        case("http://localhost:8080/", "http://localhost:8080", true, false);
        case("http://LOCALHOST", "http://localhost", true, false);
        case("https://a.example/al/", "https://a.example/al", false, false);
        case("http://[::1]:80", "http://[::1]:80", true, false);
        case("http://[::ffff:127.0.0.1]", "http://[::ffff:127.0.0.1]", true, false);
        case("http://127.9.9.9", "http://127.9.9.9", true, false);
        case("http://192.168.1.2", "http://192.168.1.2", false, true);
        case("http://169.254.1.2", "http://169.254.1.2", false, true);
        case("http://[fd00::1]", "http://[fd00::1]", false, true);
        case("http://[fe80::1]", "http://[fe80::1]", false, true);
        case("http://172.32.0.1", "http://172.32.0.1", false, false);
        case("http://localhost.example", "http://localhost.example", false, false);
        case("http://ann:secret@a.example", "http://a.example", false, false);
        for wrong in [
            "ftp://a",
            "a.example",
            "http://",
            "http://a?b",
            "http://a#b",
            "http://a b",
            "/x",
            "http://ann:p/@a",
            "http://a:99999",
        ] {
            assert_eq!(Address::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_request_has_what_it_needs_and_an_answer_comes_whatever_its_status() {
        let (address, server) = answering("HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\n{}");
        let address = Address { prefix: "/al".into(), ..address };
        let web = Web::to(&address, &[("HTTP_PROXY", "http://127.0.0.1:1")].into_iter().collect()).unwrap();
        let key = Secret::new("k-1");
        let request = Request {
            method: Method::Post,
            path: "/control/stop",
            bearer: Some(&key),
            json: Some("{\"a\":1}"),
            ..Request::default()
        };
        let answer = web.send(request, LIMITS).unwrap();
        assert_eq!((answer.status, answer.body.as_slice(), answer.header("location")), (409, &b"{}"[..], None));
        let head = server.join().unwrap().to_ascii_lowercase();
        assert!(head.starts_with("post /al/control/stop http/1.1\r\n"), "{head}");
        for field in ["authorization: bearer k-1", "content-type: application/json", "accept: application/json"] {
            assert!(head.contains(field), "{head}");
        }
    }

    #[test]
    fn without_a_body_there_is_no_type_and_without_a_key_no_authorization() {
        let (address, server) = answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        get(&address, LIMITS).unwrap();
        let head = server.join().unwrap().to_ascii_lowercase();
        assert!(head.starts_with("get /x?y=1 ") && !head.contains("content-type"), "{head}");
        assert!(!head.contains("authorization"), "{head}");
    }

    #[test]
    fn redirects_are_answers() {
        let (address, _server) =
            answering("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/login\r\nContent-Length: 0\r\n\r\n");
        let answer = get(&address, LIMITS).unwrap();
        assert_eq!((answer.status, answer.header("location")), (302, Some("http://127.0.0.1:1/login")));
    }

    #[test]
    fn a_port_nobody_listens_on_refuses() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::of_this_machine(listener.local_addr().unwrap().port());
        drop(listener);
        fails(&address, LIMITS, Cause::Refused, "connection refused");
        // As a name it has two addresses.
        let named = Address { host: "localhost".into(), ..address };
        fails(&named, LIMITS, Cause::Refused, "connection refused");
    }

    #[test]
    fn an_unknown_host_is_told_apart() {
        let address = Address::parse("http://nowhere.invalid").unwrap();
        fails(&address, LIMITS, Cause::Dns, "resolved");
    }

    #[test]
    fn what_never_comes_is_not_waited_for() {
        let (address, server) = server(|mut stream| {
            read_head(&mut stream);
            // Until the client gives up.
            let _ = stream.read(&mut [0]);
        });
        let limits = Limits { whole: Duration::from_millis(150), ..LIMITS };
        fails(&address, limits, Cause::Timeout, "no answer within 0.15 s");
        server.join().unwrap();
    }

    #[test]
    fn an_answer_that_comes_byte_by_byte_has_no_more_time() {
        let (address, server) = server(|mut stream| {
            read_head(&mut stream);
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            while stream.write_all(b"x").is_ok() {
                thread::sleep(Duration::from_millis(20));
            }
        });
        let limits = Limits { whole: Duration::from_millis(300), ..LIMITS };
        fails(&address, limits, Cause::Timeout, "no answer within");
        server.join().unwrap();
    }

    #[test]
    fn an_answer_has_a_largest_size() {
        let (address, _server) = answering(&format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(1001)));
        fails(&address, LIMITS, Cause::TooLarge, "more than 1000 bytes");
        let (address, _server) = answering(&format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(1000)));
        assert_eq!(get(&address, LIMITS).unwrap().body.len(), 1000);
    }

    #[test]
    fn what_speaks_no_tls_or_no_http_is_told_apart() {
        let (plain, _plain) = server(|mut stream| {
            let _ = stream.read(&mut [0; 9]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        });
        fails(&Address { scheme: "https", ..plain }, LIMITS, Cause::Tls, "TLS");
        let (address, _server) = answering("SSH-2.0-OpenSSH_9.2\r\n");
        assert_eq!(get(&address, LIMITS).unwrap_err().cause, Cause::Other);
        let (address, server) = server(|mut stream| drop(read_head(&mut stream)));
        assert_eq!(get(&address, LIMITS).unwrap_err().cause, Cause::Other);
        server.join().unwrap();
    }
}
