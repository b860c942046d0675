//! The face that containers see: its routes, its limits, its log lines.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::Shared;
use super::routes::{calls, credentials, health, locks, shutdown, signals};
use super::routing::{Asked, Auth, Route, body_limit, find, get, not_found, pattern_of, post, post_large};
use crate::base::subnet::Subnet;
use crate::http::{Face, Head, Method, Reply, Req};

const ROUTES: &[Route<Shared>] = &[
    get("/health", Auth::Open, health::check),
    post("/locks/acquire", Auth::Secret, locks::acquire),
    post("/locks/release", Auth::Secret, locks::release),
    post("/locks/heartbeat", Auth::Secret, locks::heartbeat),
    get("/locks/list", Auth::Secret, locks::list),
    post_large("/calls", Auth::Secret, calls::create),
    get("/calls/:callId", Auth::Secret, calls::show),
    post("/signals/rerun", Auth::Secret, signals::rerun),
    post("/signals/status", Auth::Secret, signals::status),
    post_large("/signals/trigger", Auth::Secret, signals::trigger),
    post_large("/signals/return", Auth::Secret, signals::return_value),
    post("/shutdown", Auth::Secret, shutdown::shutdown),
    get("/credentials/:secret", Auth::Secret, credentials::show),
];

/// What the front of this face serves.
pub(super) struct ContainerRoutes {
    pub(super) shared: Arc<Shared>,
    pub(super) peers: Subnet,
    pub(super) stopping: Arc<AtomicBool>,
}

impl ContainerRoutes {
    /// Whether a request asks for one of these routes.
    pub(super) fn has(&self, request: &Req) -> bool {
        find(ROUTES, request.method, &request.path).is_some()
    }

    /// Whether a path is one of these, whatever the method.
    pub(super) fn knows(&self, path: &str) -> bool {
        pattern_of(ROUTES, path).is_some()
    }

    /// A path as it may be logged: by its pattern, because the path itself may hold a secret.
    fn shown_path(&self, path: &str) -> String {
        pattern_of(ROUTES, path).map_or_else(|| self.shared.foreign_path(path), str::to_owned)
    }
}

impl Face for ContainerRoutes {
    fn accepts(&self, peer: IpAddr) -> bool {
        self.peers.contains(peer)
    }

    fn admit(&self, head: &Head, _: IpAddr) -> Result<usize, Reply> {
        Ok(body_limit(ROUTES, head.path()))
    }

    fn refused(&self, head: &Head, _: IpAddr, reply: &Reply) {
        let (method, path) = (Method::from_token(&head.method), || self.shown_path(head.path()));
        self.shared.request_log.completed(method, path, reply, Duration::ZERO);
    }

    fn handle(&self, request: &Req) -> anyhow::Result<Reply> {
        let (log, path) = (&self.shared.request_log, || self.shown_path(&request.path));
        let Some((route, params)) = find(ROUTES, request.method, &request.path) else {
            return Ok(log.around(request.method, path, not_found));
        };
        let asked = Asked { req: request, client: request.peer, params, stopping: &self.stopping };
        let answer = || (route.handler)(&self.shared, &asked).unwrap_or_else(|reply| reply);
        Ok(if route.pattern == health::PATH { answer() } else { log.around(request.method, path, answer) })
    }
}
