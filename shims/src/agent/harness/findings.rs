//! What is known of a session that another program holds, and the lines that it leaves (agent-session.md §16).

use std::collections::HashMap;

use serde_json::json;

use super::LINE;
use crate::agent::report::{Field, Reporter};
use crate::agent::session_log::{COMMAND_LIMIT, RESULT_LIMIT};
use crate::agent::usage::UsageSoFar;
use crate::session::error::ModelError;
use crate::session::{Budget, MOST_PERMISSION_ERRORS, is_permission_text};
use crate::text::cut;
use crate::wire::usage::Usage;

/// Calls whose results are awaited; a program that never tells of results must not fill the memory.
const MOST_CALLS: usize = 1000;

/// Collects and logs.
pub(super) struct Findings<'a> {
    report: &'a Reporter,
    usage: UsageSoFar,
    totals: Usage,
    /// Calls by their id, until their results come.
    calls: HashMap<String, Call>,
    events: u64,
    output_length: usize,
    failure: Option<String>,
    permission_hits: u32,
    budget: Budget,
    used_up: Option<ModelError>,
}

/// A call of a tool, without secrets and no longer than a log line shows it.
struct Call {
    tool: String,
    /// Of a shell.
    command: Option<String>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(report: &'a Reporter, usage: UsageSoFar, budget: Budget) -> Self {
        Self {
            report,
            usage,
            totals: Usage::default(),
            calls: HashMap::new(),
            events: 0,
            output_length: 0,
            failure: None,
            permission_hits: 0,
            budget,
            used_up: None,
        }
    }

    /// The model has said something.
    pub(super) fn said(&mut self, text: &str) {
        self.events += 1;
        self.output_length += text.chars().count();
        if !text.trim().is_empty() {
            self.report.info("assistant", &[("text", text.trim().into())]);
        }
    }

    /// A tool is about to run; `command` is what a shell runs.
    pub(super) fn called(&mut self, id: &str, tool: &str, command: Option<&str>) {
        self.events += 1;
        self.budget.count_call();
        match command {
            Some(command) => self.report.info("bash", &[("cmd", Field::Cut(command, COMMAND_LIMIT))]),
            None => self.report.debug("tool start", &[("tool", tool.into())]),
        }
        if self.calls.len() < MOST_CALLS {
            let kept = |text: &str| cut(&self.report.masked(text), COMMAND_LIMIT).to_owned();
            let call = Call { tool: kept(tool), command: command.map(kept) };
            self.calls.insert(id.to_owned(), call);
        }
    }

    /// Whether a call was reported, and its result not yet.
    pub(super) fn awaits(&self, id: &str) -> bool {
        self.calls.contains_key(id)
    }

    /// A tool has run. When it was the last one of several, the model is asked next, unless a budget is used up.
    pub(super) fn gave(&mut self, id: &str, text: &str, is_error: bool) {
        self.log_result(id, text, is_error);
        if self.calls.is_empty() {
            self.used_up = self.budget.exceeded(&self.totals);
        }
    }

    fn log_result(&mut self, id: &str, text: &str, is_error: bool) {
        self.events += 1;
        let call = self.calls.remove(id).unwrap_or_else(|| Call { tool: "unknown".into(), command: None });
        let mut fields = vec![("tool", Field::Text(&call.tool))];
        if !is_error {
            fields.push(("resultLength", json!(text.chars().count()).into()));
            self.report.debug("tool done", &fields);
            return;
        }
        if let Some(command) = &call.command {
            fields.push(("cmd", Field::Cut(command, COMMAND_LIMIT)));
        }
        fields.push(("result", Field::Cut(text, RESULT_LIMIT)));
        self.report.error("tool error", &fields);
        self.permission_hits += u32::from(is_permission_text(text));
        if self.permission_hits == MOST_PERMISSION_ERRORS {
            self.report.error("Aborting: repeated auth/permission failures — check credentials", &[]);
        }
    }

    /// Adds to what was used.
    pub(super) fn used(&mut self, usage: Usage) {
        self.totals += usage;
        self.usage.set(self.totals);
    }

    /// Replaces what was used by the program's own account.
    pub(super) fn used_altogether(&mut self, usage: Usage) {
        self.totals = usage;
        self.usage.set(usage);
    }

    /// What was used so far.
    pub(super) fn usage(&self) -> Usage {
        self.totals
    }

    /// Something that no line stands for.
    pub(super) fn unknown(&mut self, line: &str) {
        self.report.debug("harness output", &[("text", Field::Cut(line.trim_end(), LINE))]);
    }

    /// Something has happened that no line stands for, but that counts.
    pub(super) fn event(&mut self) {
        self.events += 1;
    }

    /// The program says that it has failed.
    pub(super) fn fail(&mut self, why: &str) {
        let why = self.brief(why);
        self.failure = Some(if why.is_empty() { "the harness reports a failure".into() } else { why });
    }

    /// It goes on all the same.
    pub(super) fn recover(&mut self) {
        self.failure = None;
    }

    /// Why the program says it has failed.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Whether nothing that the model can do will help.
    pub(super) fn is_hopeless(&self) -> bool {
        self.permission_hits >= MOST_PERMISSION_ERRORS
    }

    /// The limit that has been reached while there was still something to do.
    pub(super) fn used_up(&self) -> Option<&ModelError> {
        self.used_up.as_ref()
    }

    pub(super) fn events(&self) -> u64 {
        self.events
    }

    /// Characters that the model has written.
    pub(super) fn output_length(&self) -> usize {
        self.output_length
    }

    pub(super) fn log_usage(&self) {
        self.usage.set(self.totals);
        self.usage.log(self.report);
    }

    /// The beginning of a text, without any secret.
    pub(super) fn brief(&self, text: &str) -> String {
        cut(&self.report.masked(text.trim()), LINE).to_owned()
    }

    /// The text without any secret.
    pub(super) fn masked<'t>(&self, text: &'t str) -> std::borrow::Cow<'t, str> {
        self.report.masked(text)
    }
}
