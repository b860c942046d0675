//! The tool calls of one message (agent-session.md §6.3).

use std::time::Instant;

use super::super::event::{Event, Notice, Role};
use super::super::message::{Assistant, Message, ToolCall, ToolResult};
use super::super::tools::Surroundings;
use super::super::{End, Owner, history, tools};
use super::Session;

/// How many results that look like missing permissions end a session.
pub const MOST_PERMISSION_ERRORS: u32 = 3;

/// What results of tools say, in lower case, when nothing the model can do will help.
const PERMISSION_TEXTS: [&str; 7] = [
    "permission denied",
    "could not read from remote repository",
    "resource not accessible by personal access token",
    "bad credentials",
    "authentication failed",
    "the requested url returned error: 403",
    "denied to ",
];

/// What follows a batch of tool calls.
pub(super) enum AfterTools {
    GoOn,
    End(End),
}

impl Session {
    pub(super) fn run_tools(&mut self, message: &Assistant, owner: &mut dyn Owner) -> (Vec<ToolResult>, AfterTools) {
        let mut results = Vec::new();
        let mut after = AfterTools::GoOn;
        for call in message.calls() {
            if let Some(end) = self.stopped() {
                after = AfterTools::End(end);
                break;
            }
            let result = self.run_tool(call, owner);
            let hopeless = self.tools.surroundings == Surroundings::Container && is_permission_error(&result);
            results.push(result);
            self.permission_hits += u32::from(hopeless);
            if self.permission_hits == MOST_PERMISSION_ERRORS {
                owner.hear(Event::Notice(Notice::RepeatedPermissionErrors));
                after = AfterTools::End(End::Aborted);
                break;
            }
        }
        if history::drop_old_images(&mut self.messages) {
            self.forget_bound_thinking();
        }
        let exit = || !results.is_empty() && self.exit_file.as_ref().is_some_and(|file| file.exists());
        if matches!(after, AfterTools::GoOn) && exit() {
            after = AfterTools::End(End::Completed);
        }
        (results, after)
    }

    fn run_tool(&mut self, call: &ToolCall, owner: &mut dyn Owner) -> ToolResult {
        owner.hear(Event::ToolStart(call));
        let started = Instant::now();
        self.budget.count_call();
        let result = tools::execute(call, &self.tools, &mut |target| owner.permit(call, target));
        owner.hear(Event::ToolEnd { call, result: &result, took: started.elapsed() });
        owner.hear(Event::MessageStart(Role::ToolResult));
        self.add(Message::ToolResult(result.clone()), &mut |event| owner.hear(event));
        result
    }
}

fn is_permission_error(result: &ToolResult) -> bool {
    result.is_error && is_permission_text(&result.text())
}

/// Whether the text of a failed call says that a permission is missing (agent-session.md §6.3).
pub fn is_permission_text(text: &str) -> bool {
    let text = text.to_lowercase();
    PERMISSION_TEXTS.iter().any(|pattern| text.contains(pattern))
}
