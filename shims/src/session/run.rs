//! The loop (agent-session.md §6): model request, tool calls, model request, until the model is done.

use super::event::Event;
use super::{End, Input, Outcome};
use crate::wire::usage::Usage;

/// Holds one session. Everything that happens is reported to `sink`; nothing is logged.
pub fn run(input: Input, sink: &mut dyn FnMut(Event<'_>)) -> Outcome {
    let _ = (input, sink);
    let end = End::NotStarted { reason: "no provider is available in this build".into() };
    Outcome { end, text: String::new(), usage: Usage::default() }
}
