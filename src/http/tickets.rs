//! Requests on their way through the inner server, which is given their numbers only. So nothing that a client sent is
//! read twice, and no body is copied.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::types::{Method, Req};

/// The requests that were left and not taken yet.
#[derive(Default)]
pub(super) struct Tickets(Mutex<State>);

#[derive(Default)]
struct State {
    next: u64,
    left: BTreeMap<u64, Req>,
}

/// Stands for a request that was left. When it is dropped its request goes, too, unless somebody has taken it.
pub(super) struct Ticket {
    tickets: Arc<Tickets>,
    number: u64,
    method: &'static str,
}

impl Tickets {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a request until it is taken.
    pub(super) fn leave(self: &Arc<Self>, request: Req) -> Ticket {
        // An answer to HEAD has no body, which only the inner server can leave out.
        let method = if request.method == Method::Head { "HEAD" } else { "GET" };
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state.left.insert(number, request);
        Ticket { tickets: Arc::clone(self), number, method }
    }

    /// The request whose ticket had this target; `None` when whoever left it does not wait any more.
    pub(super) fn take(&self, target: &str) -> Option<Req> {
        let number = target.strip_prefix('/')?.parse().ok()?;
        self.lock().left.remove(&number)
    }
}

impl Ticket {
    /// What the inner server is sent. It closes the connection afterwards: a thread of it that waits at an old connection
    /// cannot serve a new one.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        format!("{} /{} HTTP/1.1\r\nConnection: close\r\n\r\n", self.method, self.number).into_bytes()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.tickets.lock().left.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::types::{Headers, Query};

    fn request(method: Method) -> Req {
        let (query, headers) = (Query::default(), Headers::default());
        Req { method, path: "/x".into(), query, headers, body: vec![1], peer: [127, 0, 0, 1].into() }
    }

    #[test]
    fn a_request_is_taken_once_by_the_target_of_its_ticket() {
        let tickets = Arc::new(Tickets::default());
        let (first, second) = (tickets.leave(request(Method::Post)), tickets.leave(request(Method::Head)));
        assert_eq!(first.to_bytes(), b"GET /0 HTTP/1.1\r\nConnection: close\r\n\r\n");
        assert_eq!(second.to_bytes(), b"HEAD /1 HTTP/1.1\r\nConnection: close\r\n\r\n");
        assert_eq!(tickets.take("/1").map(|request| request.method), Some(Method::Head));
        for target in ["/1", "/2", "1", "/", "/x", "/-1", "/99999999999999999999"] {
            assert!(tickets.take(target).is_none(), "{target}");
        }
        assert_eq!(tickets.take("/0").map(|request| request.method), Some(Method::Post));
    }

    #[test]
    fn a_request_goes_with_its_ticket() {
        let tickets = Arc::new(Tickets::default());
        drop(tickets.leave(request(Method::Get)));
        assert!(tickets.take("/0").is_none());
        assert!(tickets.lock().left.is_empty());
    }
}
