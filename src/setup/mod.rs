//! Checking and preparing a project.

pub mod doctor;
