//! The face that everybody sees: its routes, who may use them, how often.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::auth::authenticate;
use super::container_face::ContainerRoutes;
use super::public::Public;
use super::routes::{control, health, items, lock_status, login, logs, receipts, stats, webhooks};
use super::routing::{Asked, Auth, Route, body_limit, find, get, not_found, post, post_large};
use crate::http::{Face, Head, Headers, Method, Reply, Req};

const ROUTES: &[Route<Public>] = &[
    get("/health", Auth::Open, health::check),
    post_large("/webhooks/:source", Auth::Open, webhooks::receive),
    get("/login", Auth::Open, login::page),
    post("/login", Auth::Open, login::by_form),
    post("/logout", Auth::Open, login::log_out),
    post("/api/auth/login", Auth::Open, login::by_json),
    post("/api/auth/logout", Auth::Open, login::log_out_by_json),
    get("/api/auth/check", Auth::Key, login::check),
    get("/control/instances", Auth::Key, control::instances),
    get("/control/status", Auth::Key, control::status),
    post("/control/pause", Auth::Key, control::pause),
    post("/control/resume", Auth::Key, control::resume),
    post("/control/stop", Auth::Key, control::stop),
    post("/control/kill/:instanceId", Auth::Key, control::kill_instance),
    post("/control/trigger/:name", Auth::Key, control::trigger),
    post("/control/agents/:name/enable", Auth::Key, control::enable),
    post("/control/agents/:name/disable", Auth::Key, control::disable),
    post("/control/agents/:name/pause", Auth::Key, control::pause_agent),
    post("/control/agents/:name/resume", Auth::Key, control::resume_agent),
    post("/control/agents/:name/kill", Auth::Key, control::kill_agent),
    get("/control/queue", Auth::Key, items::list),
    post("/control/queue/clear", Auth::Key, items::clear),
    get("/control/queue/:name", Auth::Key, items::list_of_agent),
    post("/control/queue/:name/clear", Auth::Key, items::clear_of_agent),
    get("/control/items/:id", Auth::Key, items::show),
    post("/control/items/:id/retry", Auth::Key, items::retry),
    post("/control/items/:id/drop", Auth::Key, items::drop),
    get("/locks/status", Auth::Key, lock_status::overview),
    get("/api/webhooks", Auth::Key, receipts::list),
    post_large("/api/webhooks/simulate", Auth::Key, receipts::simulate),
    post("/api/webhooks/:receiptId/replay", Auth::Key, receipts::replay),
    get("/api/stats/webhooks/:receiptId", Auth::Key, receipts::show),
    get("/api/stats/activity", Auth::Key, stats::activity),
    get("/api/stats/summary", Auth::Key, stats::summary),
    get("/api/stats/calls", Auth::Key, stats::calls),
    get("/api/stats/agents/:name/runs", Auth::Key, stats::runs),
    get("/api/stats/agents/:name/runs/:instanceId", Auth::Key, stats::run),
    get("/api/stats/triggers/:instanceId", Auth::Key, stats::trigger),
    get("/api/logs/scheduler", Auth::Key, logs::scheduler),
    get("/api/logs/agents/:name", Auth::Key, logs::agent),
    get("/api/logs/agents/:name/:instanceId", Auth::Key, logs::instance),
];

/// Paths below which everything wants the key, known or not: nobody learns from an answer what there is.
const PROTECTED: [&str; 6] = ["/control", "/dashboard", "/api/logs", "/api/webhooks", "/api/stats", "/api/auth/check"];
/// A single path of that kind.
const PROTECTED_PATH: &str = "/locks/status";

/// Where the rate limit applies.
const WEBHOOKS: &str = "/webhooks/";

/// What the front of this face serves.
pub(super) struct PublicRoutes {
    pub(super) public: Public,
    pub(super) stopping: Arc<AtomicBool>,
}

impl Face for PublicRoutes {
    fn accepts(&self, _: IpAddr) -> bool {
        true
    }

    fn admit(&self, head: &Head, peer: IpAddr) -> Result<usize, Reply> {
        let path = head.path();
        if path.starts_with(WEBHOOKS)
            && !self.public.webhook_rate.admit(self.public.proxies.client(peer, &head.headers))
        {
            return Err(Reply::error(429, "too many requests").with_header("Retry-After", "60"));
        }
        Ok(body_limit(ROUTES, path))
    }

    fn refused(&self, head: &Head, _: IpAddr, reply: &Reply) {
        let shared = &self.public.shared;
        let path = || shared.foreign_path(head.path());
        shared.request_log.completed(Method::from_token(&head.method), path, reply, Duration::ZERO);
        if let Some(source) = head.path().strip_prefix(WEBHOOKS) {
            webhooks::note_refusal(&self.public, source, reply);
        }
    }

    fn handle(&self, request: &Req) -> anyhow::Result<Reply> {
        let answer = || self.answer(request).unwrap_or_else(|reply| reply);
        if request.path == health::PATH {
            return Ok(answer());
        }
        let path = || self.public.shared.foreign_path(&request.path);
        Ok(self.public.shared.request_log.around(request.method, path, answer))
    }
}

impl PublicRoutes {
    fn answer(&self, request: &Req) -> Result<Reply, Reply> {
        let found = find(ROUTES, request.method, &request.path);
        if is_protected(&request.path) || found.as_ref().is_some_and(|(route, _)| route.auth == Auth::Key) {
            authenticate(&self.public, request)?;
        }
        let (route, params) = found.ok_or_else(not_found)?;
        let client = self.public.proxies.client(request.peer, &request.headers);
        let asked = Asked { req: request, client, params, stopping: &self.stopping };
        (route.handler)(&self.public, &asked)
    }
}

fn is_protected(path: &str) -> bool {
    let is_below =
        |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    path == PROTECTED_PATH || PROTECTED.into_iter().any(is_below)
}

/// Both faces on the public listener, for hosts whose containers reach us through loopback only (Docker in a virtual
/// machine). Other peers see nothing of the container routes.
pub(super) struct CombinedRoutes {
    pub(super) public: PublicRoutes,
    /// Their peers are those of loopback.
    pub(super) containers: ContainerRoutes,
}

impl CombinedRoutes {
    /// Whether this may be a container: a proxy on this host, too, comes from loopback, but speaks for others.
    fn is_container(&self, peer: IpAddr, headers: &Headers) -> bool {
        self.containers.accepts(peer) && self.containers.accepts(self.public.public.proxies.client(peer, headers))
    }
}

impl Face for CombinedRoutes {
    fn accepts(&self, _: IpAddr) -> bool {
        true
    }

    fn admit(&self, head: &Head, peer: IpAddr) -> Result<usize, Reply> {
        let public = self.public.admit(head, peer)?;
        if self.is_container(peer, &head.headers) {
            return Ok(public.max(self.containers.admit(head, peer)?));
        }
        Ok(public)
    }

    fn refused(&self, head: &Head, peer: IpAddr, reply: &Reply) {
        if self.is_container(peer, &head.headers) && self.containers.knows(head.path()) {
            self.containers.refused(head, peer, reply);
        } else {
            self.public.refused(head, peer, reply);
        }
    }

    fn handle(&self, request: &Req) -> anyhow::Result<Reply> {
        if self.is_container(request.peer, &request.headers) && self.containers.has(request) {
            self.containers.handle(request)
        } else {
            self.public.handle(request)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_that_wants_the_key_is_protected_and_no_other() {
        for route in ROUTES {
            let path = route.pattern;
            assert_eq!(route.auth == Auth::Key, is_protected(path), "{path}");
            assert!(route.auth != Auth::Secret, "{path}");
        }
    }

    #[test]
    fn prefixes_end_at_a_slash() {
        for path in ["/control", "/control/", "/control/x/y", "/locks/status", "/api/logs", "/dashboard/x"] {
            assert!(is_protected(path), "{path}");
        }
        for path in ["/", "/controls", "/locks", "/locks/acquire", "/locks/status/", "/api", "/login", "/Control"] {
            assert!(!is_protected(path), "{path}");
        }
    }
}
