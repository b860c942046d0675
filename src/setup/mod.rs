//! Checking and preparing projects, credentials and environments.

pub mod agents;
pub mod creds;
pub mod doctor;
pub mod editor;
pub mod environments;
pub mod models;
pub mod scaffold;
pub mod templates;
