//! The other side of a session: who hears what happens in it and has the last word about its tools.

use std::path::Path;

use super::event::Event;
use super::message::ToolCall;

/// Whom a session is held for.
pub trait Owner {
    /// Hears what happens.
    fn hear(&mut self, event: Event<'_>);

    /// Decides about a call just before it runs. Calls that would run nothing are not asked about. `target` is the file
    /// that `read`, `edit` and `write` are about: absolute, links not resolved.
    fn permit(&mut self, call: &ToolCall, target: Option<&Path>) -> Permit {
        let _ = (call, target);
        Permit::Granted
    }
}

/// Whether a call may run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permit {
    Granted,
    /// The model is told this as an error result.
    Refused(String),
}

/// Who only wants to hear permits everything.
impl<F: FnMut(Event<'_>)> Owner for F {
    fn hear(&mut self, event: Event<'_>) {
        self(event);
    }
}
