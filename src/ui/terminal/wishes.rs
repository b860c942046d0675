//! Wishes of the person at the terminal. They take as long as a commit takes, so they are fulfilled on another thread.

use anyhow::Result;
use crossbeam_channel::{Sender, bounded};

use crate::base::worker;
use crate::scheduler::handle::{Control, Handle};

/// Wishes that may wait. A key that is held down makes more of them than are meant.
const WAITING: usize = 4;

/// The way to the thread; it ends when this is dropped and nothing waits any more. Nobody waits for that: when the scheduler
/// ends, so do its answers.
pub(super) struct Wishes {
    sender: Sender<Control>,
}

impl Wishes {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system refuses one.
    pub(super) fn start(handle: Handle) -> Result<Self> {
        let (sender, wishes) = bounded::<Control>(WAITING);
        worker::spawn("ui-wishes", move || {
            for wish in wishes {
                let refused = told(&wish);
                if let (Err(refusal), Some((agent, what))) = (handle.control(wish), refused) {
                    handle.note(&agent, format!("{what}: {refusal}"));
                }
            }
        })?;
        Ok(Self { sender })
    }

    /// Has a wish fulfilled; a refusal becomes a line of recent activity.
    pub(super) fn send(&self, wish: Control) {
        let _ = self.sender.try_send(wish);
    }
}

/// The agent that a wish is about, and what is said when it is refused.
fn told(wish: &Control) -> Option<(String, &'static str)> {
    let (agent, what) = match wish {
        Control::Trigger { agent, .. } => (agent, "not run"),
        Control::KillAgent { agent } => (agent, "not killed"),
        Control::Enable { agent } => (agent, "not enabled"),
        Control::Disable { agent } => (agent, "not disabled"),
        _ => return None,
    };
    Some((agent.clone(), what))
}
