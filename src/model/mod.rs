//! Plain data that several layers speak about. No I/O.

pub mod event;
pub mod names;
pub mod outcome;
pub mod status;
pub mod webhook_context;

/// What host and container say to each other.
pub use shims::wire;
