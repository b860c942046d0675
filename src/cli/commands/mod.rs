//! One file per command.

pub(super) mod cron;
pub(super) mod doctor;
pub(super) mod run;
