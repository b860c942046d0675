//! The face that containers see: its routes, its limits, its log lines.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

use crate::base::log::{Entry, Level};
use crate::base::text::{cut, printable};
use crate::http::{Face, Head, Method, Reply, Req};

use super::Gateway;
use super::routes::{calls, credentials, health, locks, shutdown, signals};
use super::routing::{Asked, Handler, LARGE_BODY, Route, SMALL_BODY, find, match_path};
use crate::base::subnet::Subnet;

const ROUTES: &[Route] = &[
    get("/health", health::check),
    post("/locks/acquire", locks::acquire),
    post("/locks/release", locks::release),
    post("/locks/heartbeat", locks::heartbeat),
    get("/locks/list", locks::list),
    Route { body_limit: LARGE_BODY, ..post("/calls", calls::create) },
    get("/calls/:callId", calls::show),
    post("/signals/rerun", signals::rerun),
    post("/signals/status", signals::status),
    Route { body_limit: LARGE_BODY, ..post("/signals/trigger", signals::trigger) },
    Route { body_limit: LARGE_BODY, ..post("/signals/return", signals::return_value) },
    post("/shutdown", shutdown::shutdown),
    get("/credentials/:secret", credentials::show),
];

/// Route whose requests are not logged.
const UNLOGGED: &str = "/health";
/// What is logged of a path that is no route.
const FOREIGN_PATH_CHARS: usize = 200;

const fn get(pattern: &'static str, handler: Handler) -> Route {
    Route { method: Method::Get, pattern, body_limit: SMALL_BODY, handler }
}

const fn post(pattern: &'static str, handler: Handler) -> Route {
    Route { method: Method::Post, pattern, body_limit: SMALL_BODY, handler }
}

/// What the front serves.
pub(super) struct ContainerRoutes {
    pub(super) gateway: Arc<Gateway>,
    pub(super) peers: Subnet,
}

impl Face for ContainerRoutes {
    fn accepts(&self, peer: IpAddr) -> bool {
        self.peers.contains(peer)
    }

    fn admit(&self, head: &Head, _: IpAddr) -> Result<usize, Reply> {
        let route = ROUTES.iter().find(|route| match_path(route.pattern, head.path()).is_some());
        Ok(route.map_or(SMALL_BODY, |route| route.body_limit))
    }

    fn handle(&self, request: &Req) -> anyhow::Result<Reply> {
        let Some((route, param)) = find(ROUTES, request.method, &request.path) else {
            let path = foreign_path(&self.gateway.handle.secrets().mask_all(&request.path));
            return Ok(self.logged(request.method, &path, || Reply::text(404, "404 Not Found")));
        };
        let answer = || (route.handler)(&self.gateway, &Asked { req: request, param }).unwrap_or_else(|reply| reply);
        Ok(if route.pattern == UNLOGGED { answer() } else { self.logged(request.method, route.pattern, answer) })
    }
}

impl ContainerRoutes {
    /// Answers between two log lines. Routes are named by their pattern: the path itself may hold a secret.
    fn logged(&self, method: Method, path: &str, answer: impl FnOnce() -> Reply) -> Reply {
        let entry = |level, msg| Entry::new(level, msg).field("method", word(method)).field("path", path);
        let log = &self.gateway.request_log;
        log.write(&entry(Level::Debug, "request received"));
        let started = Instant::now();
        let reply = answer();
        let (level, msg) = match reply.status {
            400.. => (Level::Warn, "request completed with error"),
            _ => (Level::Debug, "request completed"),
        };
        let duration = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut completed = entry(level, msg).field("status", reply.status).field("duration", duration);
        if let Some(reason) = reason(&reply) {
            completed = completed.field("reason", reason);
        }
        log.write(&completed);
        reply
    }
}

fn word(method: Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Other => "other",
    }
}

/// A path that is no route, as it may be logged. What looks like a failed try for credentials may hold the secret.
fn foreign_path(path: &str) -> String {
    if path.starts_with("/credentials/") {
        return "/credentials/…".into();
    }
    printable(cut(path, FOREIGN_PATH_CHARS)).into_owned()
}

/// What a refusal says.
fn reason(reply: &Reply) -> Option<String> {
    if reply.status < 400 {
        return None;
    }
    let body: Value = serde_json::from_slice(&reply.body).ok()?;
    let text = body.get("error").or_else(|| body.get("reason")).and_then(Value::as_str)?;
    Some(text.to_owned())
}
