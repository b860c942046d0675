//! The programs that run inside an agent's container, and what they share with the host.
//!
//! * [`wire`] is the one definition of everything that host and container say to each other: files, HTTP bodies, log
//!   lines, exit codes. Both ends use it.
//! * [`session`] is the conversation with a language model; it knows nothing of containers.
//! * [`agent`] is `al-agent`, the entry program: it prepares a run and then holds a session or runs a script.
//! * [`cmd`] are the eleven commands a model or script types inside a container; [`gateway`] is their HTTP client.
//!
//! Nothing here writes to the process environment: what children see is a value ([`env::Environment`]) that is handed
//! to them.

pub mod agent;
pub mod cancel;
pub mod cmd;
pub mod credential_types;
pub mod env;
pub mod gateway;
pub mod secret;
pub mod session;
pub mod text;
pub mod tool_environment;
pub mod user_info;
pub mod wire;

/// Version of the product, the same for all its programs.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Short git revision that the programs were built from, `dev` when unknown (`AL_REVISION` at build time).
pub const REVISION: &str = match option_env!("AL_REVISION") {
    Some(revision) => revision,
    None => "dev",
};
