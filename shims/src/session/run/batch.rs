//! The tool calls of one message (agent-session.md §6.3, §22.3).

use std::path::Path;
use std::time::Instant;

use super::super::event::{Event, Notice, Role};
use super::super::message::{Assistant, Message, ToolCall, ToolResult};
use super::super::tools::Surroundings;
use super::super::{End, Owner, Permit, history, tools};
use super::Session;
use super::crew::{Crew, Progress};

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
    /// Runs the calls of a message: those that only look and those that run commands at the same time when that is
    /// configured, all others one after another.
    pub(super) fn run_tools(&mut self, message: &Assistant, owner: &mut dyn Owner) -> (Vec<ToolResult>, AfterTools) {
        let calls: Vec<&ToolCall> = message.calls().collect();
        let (results, mut after) = match self.threads_for(&calls) {
            1 => self.run_in_turn(&calls, owner),
            threads => self.run_together(&calls, threads, owner),
        };
        if history::drop_old_images(&mut self.messages) {
            self.forget_bound_thinking();
        }
        let exit = || !results.is_empty() && self.exit_file.as_ref().is_some_and(|file| file.exists());
        if matches!(after, AfterTools::GoOn) && exit() {
            after = AfterTools::End(End::Completed);
        }
        (results, after)
    }

    /// In how many threads calls run. What changes files must not depend on luck, and who is asked about calls is asked
    /// about one after another.
    fn threads_for(&self, calls: &[&ToolCall]) -> usize {
        let nobody_is_asked = self.tools.surroundings == Surroundings::Container;
        let may_run_together = calls.iter().all(|call| matches!(call.name.as_str(), "read" | "bash"));
        if nobody_is_asked && may_run_together { self.threads.min(calls.len()).max(1) } else { 1 }
    }

    fn run_in_turn(&mut self, calls: &[&ToolCall], owner: &mut dyn Owner) -> (Vec<ToolResult>, AfterTools) {
        let mut results = Vec::new();
        for call in calls {
            if let Some(end) = self.stopped() {
                return (results, AfterTools::End(end));
            }
            let result = self.run_tool(call, owner);
            let end = self.hopeless(&result, owner);
            results.push(result);
            if let Some(end) = end {
                return (results, AfterTools::End(end));
            }
        }
        (results, AfterTools::GoOn)
    }

    fn run_tool(&mut self, call: &ToolCall, owner: &mut dyn Owner) -> ToolResult {
        owner.hear(Event::ToolStart(call));
        let started = Instant::now();
        self.budget.count_call();
        let mut result = tools::execute(call, &self.tools, &mut Asking { call, owner });
        self.guard.inspect(&mut result, &mut |event| owner.hear(event));
        owner.hear(Event::ToolEnd { call, result: &result, took: started.elapsed() });
        self.add_result(call, &result, owner);
        result
    }

    fn run_together(
        &mut self,
        calls: &[&ToolCall],
        threads: usize,
        owner: &mut dyn Owner,
    ) -> (Vec<ToolResult>, AfterTools) {
        let crew = Crew { calls, context: &self.tools, deadline: self.deadline };
        let (budget, guard) = (&mut self.budget, &mut self.guard);
        let done = crew.run(threads, &mut |progress| match progress {
            Progress::Started(index) => {
                budget.count_call();
                owner.hear(Event::ToolStart(calls[index]));
            }
            Progress::Printed { index, line } => owner.hear(Event::ToolOutput { call: calls[index], line }),
            Progress::Done { index, result, took } => {
                guard.inspect(result, &mut |event| owner.hear(event));
                owner.hear(Event::ToolEnd { call: calls[index], result, took });
            }
        });
        let Some(done) = done else {
            return self.run_in_turn(calls, owner);
        };
        let mut results = Vec::with_capacity(done.len());
        for (call, result) in calls.iter().zip(done) {
            results.extend(result.inspect(|result| self.add_result(call, result, owner)));
        }
        let hopeless = results.iter().find_map(|result| self.hopeless(result, owner));
        let stopped = || if results.len() < calls.len() { self.stopped() } else { None };
        let after = hopeless.or_else(stopped).map_or(AfterTools::GoOn, AfterTools::End);
        (results, after)
    }

    fn add_result(&mut self, call: &ToolCall, result: &ToolResult, owner: &mut dyn Owner) {
        self.budget.count_result(call, result);
        owner.hear(Event::MessageStart(Role::ToolResult));
        self.add(Message::ToolResult(result.clone()), &mut |event| owner.hear(event));
    }

    /// Counts a result that looks like a missing permission. In a container nobody is there to give it: too many of
    /// them are the end.
    fn hopeless(&mut self, result: &ToolResult, owner: &mut dyn Owner) -> Option<End> {
        if self.tools.surroundings != Surroundings::Container || !is_permission_error(result) {
            return None;
        }
        self.permission_hits += 1;
        if self.permission_hits < MOST_PERMISSION_ERRORS {
            return None;
        }
        owner.hear(Event::Notice(Notice::RepeatedPermissionErrors));
        Some(End::Aborted)
    }
}

/// Asks and tells the owner about one call.
struct Asking<'a> {
    call: &'a ToolCall,
    owner: &'a mut dyn Owner,
}

impl tools::Attendant for Asking<'_> {
    fn permit(&mut self, target: Option<&Path>) -> Permit {
        self.owner.permit(self.call, target)
    }

    fn printed(&mut self, line: &str) {
        self.owner.hear(Event::ToolOutput { call: self.call, line });
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
