//! What a session has used so far, for whoever has to report it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;

use super::report::{Field, Reporter, members};
use crate::wire::log::Level;
use crate::wire::usage::Usage;

/// What the session has used, shared with the watchdog, which may have to report it in the session's place. Without a
/// session there is nothing to report.
#[derive(Clone, Default)]
pub(super) struct UsageSoFar(Arc<Mutex<Option<Known>>>);

#[derive(Clone, Copy, Default)]
struct Known {
    /// Of all complete turns.
    turns: Usage,
    /// Of the responses of the turn that is going on.
    open: Usage,
}

impl UsageSoFar {
    /// Logs `token-usage`, if there is a session.
    pub(super) fn log(&self, report: &Reporter) {
        if let Some(mut known) = *self.lock() {
            known.turns += known.open;
            log_usage(&known.turns, Level::Info, report);
        }
    }

    /// From now on there is a session.
    pub(super) fn start(&self) {
        *self.lock() = Some(Known::default());
    }

    pub(super) fn add_response(&self, usage: Usage) {
        if let Some(known) = self.lock().as_mut() {
            // Whether or not the provider counted it, this was one more response.
            known.open += Usage { turn_count: 1, ..usage };
        }
    }

    /// A summary is paid for, but is no response.
    pub(super) fn add_summary(&self, usage: Usage) {
        if let Some(known) = self.lock().as_mut() {
            known.open += Usage { turn_count: 0, ..usage };
        }
    }

    /// Replaces everything known by the session's own totals.
    pub(super) fn set(&self, usage: Usage) {
        *self.lock() = Some(Known { turns: usage, open: Usage::default() });
    }

    fn lock(&self) -> MutexGuard<'_, Option<Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Logs `token-usage`: of the session at `info`, of what it has used so far at `debug`.
pub(super) fn log_usage(usage: &Usage, level: Level, report: &Reporter) {
    let members = members(usage);
    let mut fields: Vec<(&str, Field<'_>)> =
        members.iter().map(|(name, value)| (name.as_str(), value.clone().into())).collect();
    if level == Level::Debug {
        fields.push(("partial", json!(true).into()));
    }
    report.log(level, "token-usage", &fields);
}
