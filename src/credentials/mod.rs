//! Stored credentials.
