//! Checking and preparing a project.
