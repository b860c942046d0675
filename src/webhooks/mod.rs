//! Webhooks: who sends them, whether they are genuine, what they say, and whose they are (gateway.md §17–§21). Pure
//! functions of header, body, secrets and configuration; nothing here knows of HTTP, the store or the scheduler.
//!
//! ```text
//! header + body ─► signature ─► decode ─► provider ─► Context ─► bindings ─► agents
//!                      ▲                     │                       │
//!                   secrets         lenient (what is read)         filter
//! ```
//!
//! A further provider is one file in `providers` and a row in its table.

pub mod bindings;
mod decode;
pub mod delivery;
pub mod filter;
pub mod headers;
mod lenient;
pub mod provider;
pub mod providers;
pub mod raw;
pub mod secrets;
mod signature;

pub use bindings::Bindings;
pub use delivery::{Delivery, Genuine, Refusal, read};
pub use headers::Headers;
pub use provider::Provider;
pub use secrets::Secrets;
pub use signature::Unsigned;
