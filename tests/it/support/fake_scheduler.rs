//! A scheduler as far as commands see one: it holds the project's lock and answers over HTTP as it is told.

use std::path::Path;

use action_llama::base::clock::UnixMs;
use action_llama::base::log_files::{Filter, LogFiles, Mark, Pattern, Position, Query};
use action_llama::scheduler::lock::ProjectLock;
use serde_json::{Value, json};

use super::project::Project;
use super::stub_gateway::{Answer, Request, StubGateway};

/// The key that the gateway wants to see.
pub(crate) const KEY: &str = "key-0123456789abcdef";

/// The fake. It holds the lock as long as it lives.
pub(crate) struct FakeScheduler {
    stub: StubGateway,
    lock: ProjectLock,
}

impl FakeScheduler {
    /// One whose gateway answers so, to whoever has the key; the project gets it.
    pub(crate) fn start(project: &Project, script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let fake = Self::starting(project, script);
        fake.lock.set_port(fake.port()).unwrap();
        fake
    }

    /// One that does not say yet where its gateway listens.
    pub(crate) fn starting(project: &Project, script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        project.credential("gateway_api_key", "key", KEY);
        let lock = ProjectLock::for_scheduler(&project.root()).unwrap();
        Self { stub: listen(script), lock }
    }

    /// Has it say where its gateway listens.
    pub(crate) fn set_port(&self) {
        self.lock.set_port(self.port()).unwrap();
    }

    /// Ends the scheduler; its gateway goes on listening, as a stranger's would.
    pub(crate) fn leave_port(self) -> StubGateway {
        self.stub
    }

    pub(crate) fn port(&self) -> u16 {
        self.stub.port()
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.stub.requests()
    }

    /// Method and target of all requests so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.requests().iter().map(|request| format!("{} {}", request.method, request.target)).collect()
    }
}

/// A gateway on this machine that wants to see the key.
pub(crate) fn listen(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> StubGateway {
    StubGateway::listen("127.0.0.1:0".parse().unwrap(), move |request| {
        if request.header("authorization") == Some(&format!("Bearer {KEY}")) {
            script(request)
        } else {
            Answer::json(401, r#"{"error":"Unauthorized"}"#)
        }
    })
}

/// What the HTTP server answers to unknown paths.
pub(crate) fn not_found() -> Answer {
    let body = "404 Not Found";
    Answer::Raw(
        format!(
            "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain; charset=UTF-8\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes(),
    )
}

/// A success with this text for people.
pub(crate) fn success(message: &str) -> Answer {
    Answer::Json(200, json!({"success": true, "message": message}).to_string())
}

/// A refusal.
pub(crate) fn refusal(status: u16, error: &str) -> Answer {
    Answer::Json(status, json!({"error": error}).to_string())
}

/// JSON with status 200.
pub(crate) fn json(value: &Value) -> Answer {
    Answer::Json(200, value.to_string())
}

/// A pattern as it stands in a query.
fn pattern(encoded: &str) -> Pattern {
    let (text, _) = form_urlencoded::parse(encoded.as_bytes()).next().expect("it is not empty");
    Pattern::parse(&text).expect("it was checked")
}

/// The log API (gateway.md §16) over the log files of a project; `None` for other requests.
pub(crate) fn log_api(project: &Path, request: &Request) -> Option<Answer> {
    let path = request.target.split('?').next().unwrap_or_default().strip_prefix("/api/logs/")?;
    let (name, instance) = match path.split('/').collect::<Vec<_>>()[..] {
        ["scheduler"] => ("scheduler", None),
        ["agents", name] => (name, None),
        ["agents", name, instance] => (name, Some(instance.to_owned())),
        _ => return None,
    };
    let number = |parameter: &str| request.query(parameter)?.parse::<i64>().ok();
    let filter = Filter {
        instance,
        after: number("after").map(UnixMs),
        before: number("before").map(UnixMs),
        least_level: None,
        pattern: request.query("grep").map(pattern),
    };
    let limit = number("lines").map_or(50, |lines| lines.clamp(1, 1000) as usize);
    let (files, query) = (LogFiles::new(&project.join(".al/logs"), name), Query { limit, filter: &filter });
    let position = |parameter: &str| request.query(parameter).map(|cursor| Position::parse(cursor).unwrap());
    let page = match (position("cursor"), position("back_cursor")) {
        (Some(cursor), _) => files.after(&cursor, request.query("file").map(Mark::from_text).as_ref(), query),
        (None, Some(back)) => files.before(&back, query),
        (None, None) => files.last(query),
    };
    let page = page.unwrap();
    let text = |position: Option<Position>| position.map(|position| position.to_string());
    let mut answer = json!({"entries": page.entries, "cursor": text(page.cursor), "hasMore": page.has_more});
    if request.query("file").is_some() {
        answer["file"] = json!(page.mark.map(|mark| mark.to_string()));
    }
    if request.query("cursor").is_none() {
        answer["backCursor"] = json!(text(page.back));
    }
    Some(json(&answer))
}
