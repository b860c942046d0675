//! What the tests stand on: programs to run and other ends to talk to.

pub(crate) mod al;
pub(crate) mod command_table;
pub(crate) mod daemon;
pub(crate) mod docker;
pub(crate) mod fake_scheduler;
pub(crate) mod gateway;
pub(crate) mod http;
pub(crate) mod llm;
pub(crate) mod markdown;
pub(crate) mod project;
pub(crate) mod pty;
pub(crate) mod recorder;
pub(crate) mod rng;
pub(crate) mod screen;
pub(crate) mod shell_words;
pub(crate) mod shim;
pub(crate) mod state_db;
pub(crate) mod stub_gateway;
pub(crate) mod tty;
pub(crate) mod wait;
pub(crate) mod webhook;
pub(crate) mod workflow;
