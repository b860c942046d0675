//! Serving HTTP safely: our own front before `tiny_http`.
//!
//! ```text
//! client ──TCP──► front: limits, time-outs, one thread per connection; reads and checks the whole request, keeps it
//!               ──its ticket, by a Unix socket in a private directory──► tiny_http
//!               ──► one thread per request, which takes what the ticket stands for ──► Face::handle
//! client ◄──── the answer's bytes as they come, with `Connection: close`
//! ```
//!
//! `tiny_http` alone has neither limits nor time-outs, and single requests can end its accept loop or the process.
//! Behind the front it only ever sees requests that we wrote ourselves, one per connection; not a byte of them is a
//! client's.

mod body;
mod client;
mod front;
mod head;
mod pool;
mod server;
mod table;
mod tickets;
mod types;

pub use front::{Face, Front, Limits, Options};
pub use head::Head;
pub use types::{Headers, Method, Query, Reply, Req};
