//! Checking and preparing projects, credentials and environments.

pub mod creds;
pub mod doctor;
pub mod environments;
