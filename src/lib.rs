//! `al` runs language-model agents like scripts: a trigger starts an agent, each run is one fresh, hardened container,
//! and when the model is done the container is gone.
//!
//! Layers, lowest first; a module uses what is below it and nothing else:
//!
//! ```text
//! cli
//! gateway  ui  setup
//! scheduler
//! run
//! store  docker  http  webhooks  watch
//! config  credentials
//! model
//! base
//! (shims: what host and container share)
//! ```

pub mod base;
pub mod cli;
pub mod config;
pub mod credentials;
pub mod docker;
pub mod gateway;
pub mod http;
pub mod model;
pub mod run;
pub mod scheduler;
pub mod setup;
pub mod store;
pub mod ui;
pub mod watch;
pub mod webhooks;
