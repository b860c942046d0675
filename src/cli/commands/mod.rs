//! One file per command.

pub(super) mod doctor;
pub(super) mod run;
