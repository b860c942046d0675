//! One file per command, and what several of them share.

pub(super) mod control;
pub(super) mod cron;
pub(super) mod doctor;
mod heap;
pub(super) mod logs;
pub(super) mod queue;
pub(super) mod run;
pub(super) mod start;
pub(super) mod stat;
