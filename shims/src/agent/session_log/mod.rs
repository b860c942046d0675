//! Session events as log lines (agent-session.md §16).

use std::time::Instant;

use serde_json::{Value, json};

use super::report::{Field, Reporter};
use super::throttle::Throttle;
use super::usage::{UsageSoFar, log_usage};
use crate::session::error::{Kind, ModelError};
use crate::session::event::{Compaction, Created, Event, Notice, Retry, RetryPhase, Role};
use crate::session::message::{Assistant, Block, Content, Message, Stop, ToolCall, ToolResult};
use crate::session::provider::Model;
use crate::wire::log::Level;
use crate::wire::usage::Usage;

#[cfg(test)]
mod tests;

/// Characters of a command line.
pub(super) const COMMAND_LIMIT: usize = 200;
/// Characters of a tool's error text, and of a line that a command prints.
pub(super) const RESULT_LIMIT: usize = 1000;
/// Characters of the JSON of messages and turns.
const CONTENT_LIMIT: usize = 500;

/// Logs the events of one session.
pub(super) struct SessionLog<'a> {
    report: &'a Reporter,
    usage: UsageSoFar,
    /// Characters of the user prompt.
    prompt_length: usize,
    events: u64,
    /// Lines of tools say which call they belong to.
    call_ids: bool,
    /// For what commands print.
    throttle: Throttle,
}

impl<'a> SessionLog<'a> {
    /// A log for a session that is about to begin.
    pub(super) fn new(report: &'a Reporter, usage: UsageSoFar, prompt_length: usize) -> Self {
        Self { report, usage, prompt_length, events: 0, call_ids: false, throttle: Throttle::new(Instant::now()) }
    }

    /// Names the call in the lines of tools, for sessions in which several may run at once.
    pub(super) fn with_call_ids(mut self) -> Self {
        self.call_ids = true;
        self
    }

    /// Events so far; streamed pieces of text do not count.
    pub(super) fn event_count(&self) -> u64 {
        self.events
    }

    /// Logs one event.
    pub(super) fn handle(&mut self, event: &Event<'_>) {
        match event {
            Event::Created(created) => self.created(created),
            Event::AgentStart => self.event("agent_start", vec![]),
            Event::TurnStart => self.event("turn_start", vec![]),
            Event::MessageStart(role) => self.event("message_start", vec![("role", role_word(*role).into())]),
            Event::MessageEnd(message) => self.message_end(message),
            Event::ToolStart(call) => self.tool_start(call),
            Event::ToolOutput { call, line } => self.tool_output(call, line),
            Event::ToolEnd { call, result, took: _ } => self.tool_end(call, result),
            Event::TurnEnd { message, results, usage } => self.turn_end(message, results, *usage),
            Event::RetryStart(retry) => self.retry(retry),
            Event::RetryEnd { success, attempt } => {
                let fields = vec![("success", json!(success).into()), ("attempt", json!(attempt).into())];
                self.event("auto_retry_end", fields);
            }
            Event::ModelSwitched { from, to: _, error } => self.model_switched(from, error),
            Event::CompactionStart(reason) => {
                self.event("auto_compaction_start", vec![("reason", reason.as_str().into())]);
            }
            Event::CompactionEnd(compaction) => self.compacted(compaction),
            Event::Notice(notice) => self.notice(notice),
            Event::AgentEnd => self.event("agent_end", vec![]),
            // Provisional; what stays is in `MessageEnd`.
            Event::TextDelta(_) | Event::ThinkingDelta(_) | Event::AttemptFailed(_) => {}
        }
    }

    fn created(&self, created: &Created<'_>) {
        self.usage.start();
        let mut fields = vec![("model", Field::Text(created.model))];
        if let Some(level) = created.thinking {
            fields.push(("thinking", level.into()));
        }
        fields.extend([
            ("provider", created.provider.into()),
            ("effectiveThinking", created.effective_thinking.into()),
            ("contextWindow", created.context_window.into()),
            ("maxTokens", created.max_tokens.into()),
        ]);
        self.report.info("creating agent session", &fields);
        let length = json!(self.prompt_length);
        self.report.info("session created, sending prompt", &[("promptLength", length.into())]);
    }

    fn event(&mut self, kind: &str, extra: Vec<(&str, Field<'_>)>) {
        self.events += 1;
        let mut fields = vec![("type", Field::Text(kind)), ("eventCount", self.events.into())];
        fields.extend(extra);
        self.report.debug("event", &fields);
    }

    fn message_end(&mut self, message: &Message) {
        let (role, content) = match message {
            Message::User(content) => (Role::User, content_json(content)),
            Message::Assistant(message) => (Role::Assistant, blocks_json(&message.content)),
            Message::ToolResult(result) => (Role::ToolResult, content_json(&result.content)),
        };
        let mut fields = vec![("role", role_word(role).into()), ("content", Field::CutJson(content, CONTENT_LIMIT))];
        if let Message::Assistant(message) = message {
            fields.push(("stopReason", stop_word(message.stop).into()));
        }
        self.event("message_end", fields);
        if let Message::Assistant(message) = message {
            self.usage.add_response(message.usage);
            let text = message.text();
            if !text.trim().is_empty() {
                self.report.info("assistant", &[("text", text.trim().into())]);
            }
        }
    }

    fn tool_start(&mut self, call: &ToolCall) {
        self.event("tool_execution_start", vec![]);
        let (level, msg, field) = match command(call) {
            Some(command) => (Level::Info, "bash", ("cmd", Field::Cut(command, COMMAND_LIMIT))),
            None => (Level::Debug, "tool start", ("tool", call.name.as_str().into())),
        };
        let fields: Vec<_> = std::iter::once(field).chain(self.call_id(call)).collect();
        self.report.log(level, msg, &fields);
    }

    /// The field that tells calls apart, where that is needed.
    fn call_id<'c>(&self, call: &'c ToolCall) -> Option<(&'static str, Field<'c>)> {
        self.call_ids.then(|| ("callId", call.id.as_str().into()))
    }

    fn tool_output(&mut self, call: &ToolCall, line: &str) {
        if self.throttle.admits(Instant::now()) {
            self.skipped_output();
            let field = ("text", Field::Cut(line, RESULT_LIMIT));
            let fields: Vec<_> = std::iter::once(field).chain(self.call_id(call)).collect();
            self.report.debug("bash output", &fields);
        }
    }

    /// Says how much of the output is not in the log, if that is so.
    fn skipped_output(&mut self) {
        let skipped = self.throttle.take_held_back();
        if skipped > 0 {
            self.report.debug("bash output skipped", &[("lines", skipped.into())]);
        }
    }

    fn tool_end(&mut self, call: &ToolCall, result: &ToolResult) {
        self.skipped_output();
        self.event("tool_execution_end", vec![]);
        let text = result.text();
        let mut fields = vec![("tool", Field::Text(&call.name))];
        fields.extend(self.call_id(call));
        if result.is_error {
            if let Some(command) = command(call) {
                fields.push(("cmd", Field::Cut(command, COMMAND_LIMIT)));
            }
            fields.push(("result", Field::Cut(&text, RESULT_LIMIT)));
            self.report.error("tool error", &fields);
        } else {
            fields.push(("resultLength", json!(text.chars().count()).into()));
            self.report.debug("tool done", &fields);
        }
    }

    fn turn_end(&mut self, message: &Assistant, results: &[ToolResult], usage: Usage) {
        let results = results.iter().map(|result| content_json(&result.content));
        let turn = json!({"message": blocks_json(&message.content), "toolResults": results.collect::<Vec<_>>()});
        self.event("turn_end", vec![("turnResult", Field::CutJson(turn, CONTENT_LIMIT))]);
        self.usage.set(usage);
        log_usage(&usage, Level::Debug, self.report);
    }

    fn retry(&mut self, retry: &Retry<'_>) {
        let attempt = || Field::Value(json!(retry.attempt));
        let delay = || Field::Value(json!(u64::try_from(retry.delay.as_millis()).unwrap_or(u64::MAX)));
        self.event(
            "auto_retry_start",
            vec![
                ("attempt", attempt()),
                ("maxAttempts", json!(retry.max_attempts).into()),
                ("delayMs", delay()),
                ("errorMessage", retry.error.message.as_str().into()),
            ],
        );
        let kind = retry.error.kind;
        let mut fields = vec![("attempt", attempt()), ("delayMs", delay())];
        match retry.phase {
            RetryPhase::Fast => {
                fields.push(("kind", kind.as_str().into()));
                if let Some(status) = retry.error.status {
                    fields.push(("status", json!(status).into()));
                }
                fields.push(("error", retry.error.message.as_str().into()));
                self.report.warn("retrying request", &fields);
            }
            RetryPhase::Slow if matches!(kind, Kind::RateLimit | Kind::Overloaded | Kind::Quota) => {
                self.report.warn("rate limited, retrying prompt", &fields);
            }
            RetryPhase::Slow => {
                fields.push(("kind", kind.as_str().into()));
                self.report.warn("provider unavailable, retrying", &fields);
            }
        }
    }

    /// Names the model that cannot be had.
    fn model_switched(&self, model: &Model, error: &ModelError) {
        let mut fields = vec![("provider", Field::Text(&model.provider)), ("model", Field::Text(&model.id))];
        let msg = match error.kind {
            Kind::RateLimit | Kind::Overloaded | Kind::Quota => "rate limited, trying next model",
            kind => {
                fields.push(("kind", kind.as_str().into()));
                "provider unavailable, trying next model"
            }
        };
        self.report.warn(msg, &fields);
    }

    fn compacted(&mut self, compaction: &Compaction) {
        self.usage.add_summary(compaction.usage);
        self.event("auto_compaction_end", vec![]);
        let fields = [
            ("reason", compaction.reason.as_str().into()),
            ("tokensBefore", compaction.tokens_before.into()),
            ("tokensAfter", compaction.tokens_after.into()),
            ("summaryLength", json!(compaction.summary_length).into()),
        ];
        self.report.info("context compacted", &fields);
    }

    fn notice(&self, notice: &Notice<'_>) {
        match *notice {
            Notice::ModelAlias { from, to } => {
                self.report.warn("model alias applied", &[("from", from.into()), ("to", to.into())]);
            }
            Notice::UnknownModel { provider, model } => {
                let fields = [("provider", provider.into()), ("model", model.into())];
                self.report.warn("model not in registry, using defaults", &fields);
            }
            Notice::ParameterRejected { param } => {
                self.report.warn("provider rejected parameter", &[("param", param.into())]);
            }
            Notice::OutputLimit => self.report.warn("output limit reached", &[]),
            Notice::EmptyResponse => self.report.warn("empty response", &[]),
            Notice::ModelsExhausted { pass, delay } => {
                let delay = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
                let fields = [("pass", json!(pass).into()), ("delayMs", delay.into())];
                self.report.warn("all models exhausted, backing off", &fields);
            }
            Notice::ModelsGivenUp => self.report.error(
                "all models exhausted across all retry passes — every model was rate-limited or overloaded",
                &[],
            ),
            Notice::SecretInToolOutput { kinds, tool, .. } => {
                let kinds = kinds.join(", ");
                self.report.warn("secret in tool output", &[("type", kinds.as_str().into()), ("tool", tool.into())]);
            }
            Notice::Warning(text) => self.report.warn(text, &[]),
            Notice::RepeatedPermissionErrors => {
                self.report.error("Aborting: repeated auth/permission failures — check credentials", &[]);
            }
        }
    }
}

/// Logs the error that ended a session.
pub(super) fn log_failure(error: &ModelError, provider: &str, model: &str, report: &Reporter) {
    let mut fields = vec![("error", Field::Text(&error.message)), ("kind", error.kind.as_str().into())];
    if let Some(status) = error.status {
        fields.push(("status", json!(status).into()));
    }
    fields.extend([("provider", provider.into()), ("model", model.into())]);
    if let Some(id) = &error.request_id {
        fields.push(("requestId", id.as_str().into()));
    }
    if let Some((limit, value)) = error.limit {
        let whole = value.fract() == 0.0;
        let value = if whole { json!(value as u64) } else { json!(value) };
        fields.extend([("limit", limit.into()), ("value", value.into())]);
    }
    report.error("session error", &fields);
}

fn role_word(role: Role) -> &'static str {
    match role {
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::ToolResult => "toolResult",
    }
}

fn stop_word(stop: Stop) -> &'static str {
    match stop {
        Stop::Stop => "stop",
        Stop::Length => "length",
        Stop::ToolUse => "toolUse",
    }
}

/// The command line of a bash call; `None` for other tools.
fn command(call: &ToolCall) -> Option<&str> {
    (call.name == "bash").then(|| call.args.get("command").and_then(Value::as_str).unwrap_or_default())
}

/// Blocks of a response. Thinking is the model's own business and stays out of logs.
fn blocks_json(blocks: &[Block]) -> Value {
    let block = |block: &Block| match block {
        Block::Text { text, .. } => json!({"type": "text", "text": text}),
        Block::Thinking { .. } => json!({"type": "thinking"}),
        Block::ToolCall(call) => {
            json!({"type": "toolCall", "id": call.id, "name": call.name, "arguments": call.args})
        }
    };
    blocks.iter().map(block).collect()
}

/// Parts of a message, without the data of images.
fn content_json(content: &[Content]) -> Value {
    let part = |part: &Content| match part {
        Content::Text(text) => json!({"type": "text", "text": text}),
        Content::Image(image) => json!({"type": "image", "mimeType": image.mime}),
    };
    content.iter().map(part).collect()
}
