//! Checking and preparing projects, credentials and environments.

pub mod agents;
pub mod creds;
pub mod creds_check;
pub mod doctor;
pub mod editor;
pub mod env_check;
pub mod environments;
pub mod host;
pub mod models;
pub mod online;
pub mod project_docs;
mod providers;
pub mod remote_start;
pub mod repair;
pub mod scaffold;
pub mod server;
pub mod templates;
pub mod unreferenced;
