//! One file per command, and what several of them share.

pub(super) mod agent;
pub(super) mod agents;
pub(super) mod completions;
pub(super) mod control;
pub(super) mod creds;
pub(super) mod cron;
pub(crate) mod docs;
pub(super) mod doctor;
pub(super) mod env;
mod heap;
pub(super) mod logs;
pub(super) mod man;
pub(super) mod new;
pub(super) mod queue;
pub(super) mod run;
pub(super) mod start;
pub(super) mod stat;
pub(super) mod stats;
pub(super) mod version;
