//! What is measured, part by part.

pub(crate) mod commands;
pub(crate) mod idle;
pub(crate) mod load;
pub(crate) mod runs;
pub(crate) mod session;
pub(crate) mod start;
pub(crate) mod terminal;
