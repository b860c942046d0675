//! What host and container say to each other. One definition, used by both ends.

pub mod config;
pub mod exit;
pub mod log;
pub mod paths;
pub mod requests;
pub mod run_file;
pub mod secret_variable;
pub mod usage;
