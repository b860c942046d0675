//! Session events as log lines (agent-session.md §16).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};

use super::report::{Field, Reporter, members};
use super::throttle::Throttle;
use crate::session::error::{Kind, ModelError};
use crate::session::event::{Compaction, Created, Event, Notice, Retry, RetryPhase, Role};
use crate::session::message::{Assistant, Block, Content, Message, Stop, ToolCall, ToolResult};
use crate::session::provider::Model;
use crate::wire::log::Level;
use crate::wire::usage::Usage;

/// Characters of a command line.
pub(super) const COMMAND_LIMIT: usize = 200;
/// Characters of a tool's error text, and of a line that a command prints.
pub(super) const RESULT_LIMIT: usize = 1000;
/// Characters of the JSON of messages and turns.
const CONTENT_LIMIT: usize = 500;

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

    fn add_response(&self, usage: Usage) {
        if let Some(known) = self.lock().as_mut() {
            // Whether or not the provider counted it, this was one more response.
            known.open += Usage { turn_count: 1, ..usage };
        }
    }

    /// A summary is paid for, but is no response.
    fn add_summary(&self, usage: Usage) {
        if let Some(known) = self.lock().as_mut() {
            known.open += Usage { turn_count: 0, ..usage };
        }
    }

    /// Replaces everything known by the session's own totals.
    pub(super) fn set(&self, usage: Usage) {
        *self.lock() = Some(Known { turns: usage, open: Usage::default() });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn log_usage(usage: &Usage, level: Level, report: &Reporter) {
    let members = members(usage);
    let mut fields: Vec<(&str, Field<'_>)> =
        members.iter().map(|(name, value)| (name.as_str(), value.clone().into())).collect();
    if level == Level::Debug {
        fields.push(("partial", json!(true).into()));
    }
    report.log(level, "token-usage", &fields);
}

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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::report::tests::Lines;
    use super::*;
    use crate::session::event::CompactionReason;
    use crate::session::message::Image;
    use crate::session::registry::{Registry, Thinking};
    use crate::wire::config::ModelConfig;

    /// The lines that events leave.
    fn lines_of(events: &[Event<'_>]) -> Vec<String> {
        let (report, lines) = Lines::new();
        let mut log = SessionLog::new(&report, UsageSoFar::default(), 7);
        events.iter().for_each(|event| log.handle(event));
        lines.brief()
    }

    fn text(text: &str) -> Block {
        Block::Text { text: text.into(), signature: None }
    }

    fn result(text: &str, is_error: bool) -> ToolResult {
        let content = vec![Content::Text(text.into())];
        ToolResult { call_id: "1".into(), tool: "bash".into(), content, is_error }
    }

    fn created() -> Created<'static> {
        Created {
            provider: "mock",
            model: "echo",
            thinking: None,
            effective_thinking: "off",
            context_window: 200_000,
            max_tokens: 32_000,
        }
    }

    #[test]
    fn a_session_is_announced() {
        let rest = r#""provider":"mock","effectiveThinking":"off","contextWindow":200000,"maxTokens":32000}"#;
        let with_level = Created { thinking: Some("high"), ..created() };
        assert_eq!(
            lines_of(&[Event::Created(created()), Event::Created(with_level)]),
            [
                &format!(r#"info creating agent session {{"model":"echo",{rest}"#),
                r#"info session created, sending prompt {"promptLength":7}"#,
                &format!(r#"info creating agent session {{"model":"echo","thinking":"high",{rest}"#),
                r#"info session created, sending prompt {"promptLength":7}"#,
            ]
        );
    }

    #[test]
    fn simple_events_are_numbered() {
        let lines = lines_of(&[
            Event::AgentStart,
            Event::TurnStart,
            Event::TextDelta("x"),
            Event::MessageStart(Role::ToolResult),
            Event::RetryEnd { success: true, attempt: 2 },
            Event::AgentEnd,
        ]);
        assert_eq!(
            lines,
            [
                r#"debug event {"type":"agent_start","eventCount":1}"#,
                r#"debug event {"type":"turn_start","eventCount":2}"#,
                r#"debug event {"type":"message_start","eventCount":3,"role":"toolResult"}"#,
                r#"debug event {"type":"auto_retry_end","eventCount":4,"success":true,"attempt":2}"#,
                r#"debug event {"type":"agent_end","eventCount":5}"#,
            ]
        );
    }

    #[test]
    fn a_response_is_logged_without_its_thinking() {
        let thinking = Block::Thinking { text: "private".into(), signature: None, redacted: false };
        let content =
            vec![thinking, text(" Hello "), Block::ToolCall(ToolCall::from_raw("7", "read", r#"{"path":"a"}"#))];
        let message = Message::Assistant(Assistant { content, stop: Stop::ToolUse, ..Assistant::default() });
        let content = r#"[{\"type\":\"thinking\"},{\"type\":\"text\",\"text\":\" Hello \"},{\"type\":\"toolCall\",\"id\":\"7\",\"name\":\"read\",\"arguments\":{\"path\":\"a\"}}]"#;
        assert_eq!(
            lines_of(&[Event::MessageEnd(&message)]),
            [
                format!(
                    r#"debug event {{"type":"message_end","eventCount":1,"role":"assistant","content":"{content}","stopReason":"toolUse"}}"#
                ),
                r#"info assistant {"text":"Hello"}"#.to_owned(),
            ]
        );
    }

    #[test]
    fn image_data_never_reaches_the_log() {
        let image = Image { mime: "image/png", base64: "QUFBQQ".into() };
        let message = Message::User(vec![Content::Image(image)]);
        let lines = lines_of(&[Event::MessageEnd(&message)]);
        assert_eq!(
            lines,
            [
                r#"debug event {"type":"message_end","eventCount":1,"role":"user","content":"[{\"type\":\"image\",\"mimeType\":\"image/png\"}]"}"#
            ]
        );
    }

    #[test]
    fn tool_calls_have_lines_of_their_own() {
        let bash = ToolCall::from_raw("1", "bash", format!(r#"{{"command":"{}"}}"#, "x".repeat(300)));
        let read = ToolCall::from_raw("2", "read", "{}");
        let took = Duration::ZERO;
        let good = result("grün", false);
        let bad = result(&"e".repeat(2000), true);
        let lines = lines_of(&[
            Event::ToolStart(&bash),
            Event::ToolStart(&read),
            Event::ToolEnd { call: &bash, result: &bad, took },
            Event::ToolEnd { call: &read, result: &good, took },
            Event::ToolEnd { call: &read, result: &bad, took },
        ]);
        let lines: Vec<&String> = lines.iter().filter(|line| !line.starts_with("debug event")).collect();
        let command = "x".repeat(200);
        let error = "e".repeat(1000);
        assert_eq!(
            lines,
            [
                &format!(r#"info bash {{"cmd":"{command}"}}"#),
                r#"debug tool start {"tool":"read"}"#,
                &format!(r#"error tool error {{"tool":"bash","cmd":"{command}","result":"{error}"}}"#),
                r#"debug tool done {"tool":"read","resultLength":4}"#,
                &format!(r#"error tool error {{"tool":"read","result":"{error}"}}"#),
            ]
        );
    }

    #[test]
    fn calls_that_may_run_together_are_told_apart() {
        let (report, lines) = Lines::new();
        let mut log = SessionLog::new(&report, UsageSoFar::default(), 7).with_call_ids();
        let bash = ToolCall::from_raw("c1", "bash", r#"{"command":"x"}"#);
        let read = ToolCall::from_raw("c2", "read", "{}");
        let (took, good, bad) = (Duration::ZERO, result("ok", false), result("no", true));
        log.handle(&Event::ToolStart(&bash));
        log.handle(&Event::ToolStart(&read));
        log.handle(&Event::ToolEnd { call: &read, result: &good, took });
        log.handle(&Event::ToolEnd { call: &bash, result: &bad, took });
        let lines = lines.brief();
        let lines: Vec<&String> = lines.iter().filter(|line| !line.starts_with("debug event")).collect();
        assert_eq!(
            lines,
            [
                r#"info bash {"cmd":"x","callId":"c1"}"#,
                r#"debug tool start {"tool":"read","callId":"c2"}"#,
                r#"debug tool done {"tool":"read","callId":"c2","resultLength":2}"#,
                r#"error tool error {"tool":"bash","callId":"c1","cmd":"x","result":"no"}"#,
            ]
        );
    }

    #[test]
    fn what_a_command_prints_is_logged_in_part() {
        let bash = ToolCall::from_raw("1", "bash", "{}");
        let (took, good) = (Duration::ZERO, result("ok", false));
        let mut events: Vec<_> = (0..1000).map(|_| Event::ToolOutput { call: &bash, line: "line" }).collect();
        events.push(Event::ToolEnd { call: &bash, result: &good, took });
        let lines = lines_of(&events);
        let skipped = lines.iter().filter_map(|line| line.strip_prefix(r#"debug bash output skipped {"lines":"#));
        let skipped: usize = skipped.map(|number| number.trim_end_matches('}').parse::<usize>().unwrap()).sum();
        let logged = lines.iter().filter(|line| *line == r#"debug bash output {"text":"line"}"#).count();
        assert_eq!(logged + skipped, 1000);
        assert!((10..1000).contains(&logged), "{logged}");
    }

    #[test]
    fn retries_are_named_by_phase_and_kind() {
        #[track_caller]
        fn case(phase: RetryPhase, kind: Kind, expected: &str) {
            let error = ModelError { status: Some(529), ..ModelError::new(kind, "slow down") };
            let retry = Retry { phase, attempt: 1, max_attempts: 3, delay: Duration::from_millis(1500), error: &error };
            let lines = lines_of(&[Event::RetryStart(retry)]);
            assert_eq!(
                lines[0],
                r#"debug event {"type":"auto_retry_start","eventCount":1,"attempt":1,"maxAttempts":3,"delayMs":1500,"errorMessage":"slow down"}"#
            );
            assert_eq!(lines[1..], [expected]);
        }
        case(
            RetryPhase::Fast,
            Kind::Overloaded,
            r#"warn retrying request {"attempt":1,"delayMs":1500,"kind":"overloaded","status":529,"error":"slow down"}"#,
        );
        case(RetryPhase::Slow, Kind::RateLimit, r#"warn rate limited, retrying prompt {"attempt":1,"delayMs":1500}"#);
        case(
            RetryPhase::Slow,
            Kind::Network,
            r#"warn provider unavailable, retrying {"attempt":1,"delayMs":1500,"kind":"network"}"#,
        );
    }

    #[test]
    fn notices_have_their_own_messages() {
        let lines = lines_of(&[
            Event::Notice(Notice::ModelAlias { from: "a", to: "b" }),
            Event::Notice(Notice::UnknownModel { provider: "p", model: "m" }),
            Event::Notice(Notice::ParameterRejected { param: "store" }),
            Event::Notice(Notice::OutputLimit),
            Event::Notice(Notice::EmptyResponse),
            Event::Notice(Notice::SecretInToolOutput {
                kinds: &["github_token", "git_ssh"],
                tool: "bash",
                redacted: false,
            }),
            Event::Notice(Notice::Warning("careful")),
            Event::Notice(Notice::RepeatedPermissionErrors),
        ]);
        assert_eq!(
            lines,
            [
                r#"warn model alias applied {"from":"a","to":"b"}"#,
                r#"warn model not in registry, using defaults {"provider":"p","model":"m"}"#,
                r#"warn provider rejected parameter {"param":"store"}"#,
                "warn output limit reached {}",
                "warn empty response {}",
                r#"warn secret in tool output {"type":"github_token, git_ssh","tool":"bash"}"#,
                "warn careful {}",
                "error Aborting: repeated auth/permission failures — check credentials {}",
            ]
        );
    }

    #[test]
    fn another_model_is_announced_with_the_reason() {
        let from = Model {
            provider: "p".into(),
            id: "m".into(),
            api: "mock",
            base_url: None,
            thinking: Thinking::Off,
            facts: Registry::builtin().resolve(&ModelConfig::default()).facts,
        };
        let to = Model { id: "n".into(), ..from.clone() };
        let (limited, broken) = (ModelError::new(Kind::Quota, "no"), ModelError::new(Kind::Network, "no"));
        let lines = lines_of(&[
            Event::ModelSwitched { from: &from, to: &to, error: &limited },
            Event::ModelSwitched { from: &from, to: &to, error: &broken },
            Event::Notice(Notice::ModelsExhausted { pass: 1, delay: Duration::from_secs(60) }),
            Event::Notice(Notice::ModelsGivenUp),
        ]);
        assert_eq!(
            lines,
            [
                r#"warn rate limited, trying next model {"provider":"p","model":"m"}"#,
                r#"warn provider unavailable, trying next model {"provider":"p","model":"m","kind":"network"}"#,
                r#"warn all models exhausted, backing off {"pass":1,"delayMs":60000}"#,
                "error all models exhausted across all retry passes — every model was rate-limited or overloaded {}",
            ]
        );
    }

    #[test]
    fn a_summary_is_paid_for_but_is_no_turn() {
        let (report, lines) = Lines::new();
        let usage = UsageSoFar::default();
        let mut log = SessionLog::new(&report, usage.clone(), 7);
        log.handle(&Event::Created(created()));
        log.handle(&Event::CompactionStart(CompactionReason::Overflow));
        let paid = Usage { input_tokens: 5, total_tokens: 5, turn_count: 1, ..Usage::default() };
        log.handle(&Event::CompactionEnd(Compaction {
            reason: CompactionReason::Overflow,
            tokens_before: 900,
            tokens_after: 90,
            summary_length: 22,
            usage: paid,
        }));
        usage.log(&report);
        assert_eq!(
            lines.brief()[2..],
            [
                r#"debug event {"type":"auto_compaction_start","eventCount":1,"reason":"overflow"}"#,
                r#"debug event {"type":"auto_compaction_end","eventCount":2}"#,
                r#"info context compacted {"reason":"overflow","tokensBefore":900,"tokensAfter":90,"summaryLength":22}"#,
                r#"info token-usage {"inputTokens":5,"outputTokens":0,"cacheReadTokens":0,"cacheWriteTokens":0,"totalTokens":5,"cost":0.0,"turnCount":0}"#,
            ]
        );
    }

    #[test]
    fn usage_is_known_at_any_moment() {
        let (report, lines) = Lines::new();
        let usage = UsageSoFar::default();
        usage.log(&report);
        assert!(lines.brief().is_empty(), "there is no session yet");
        let mut log = SessionLog::new(&report, usage.clone(), 7);
        log.handle(&Event::Created(created()));
        let of_response = Usage { input_tokens: 10, total_tokens: 10, cost: 0.5, ..Usage::default() };
        let message = Assistant { usage: of_response, ..Assistant::default() };
        log.handle(&Event::MessageEnd(&Message::Assistant(message.clone())));
        usage.log(&report);
        let total = Usage { turn_count: 1, ..of_response };
        log.handle(&Event::TurnEnd { message: &message, results: &[], usage: total });
        usage.log(&report);
        let totals = r#""inputTokens":10,"outputTokens":0,"cacheReadTokens":0,"cacheWriteTokens":0,"totalTokens":10,"cost":0.5,"turnCount":1"#;
        let lines: Vec<String> = lines.brief().into_iter().filter(|line| line.contains("token-usage")).collect();
        assert_eq!(
            lines,
            [
                format!("info token-usage {{{totals}}}"),
                format!("debug token-usage {{{totals},\"partial\":true}}"),
                format!("info token-usage {{{totals}}}"),
            ]
        );
    }

    #[test]
    fn the_final_error_says_what_is_known() {
        let (report, lines) = Lines::new();
        let mut error = ModelError::new(Kind::Auth, "bad key");
        log_failure(&error, "openai", "m", &report);
        error.status = Some(401);
        error.request_id = Some("r".into());
        log_failure(&error, "openai", "m", &report);
        for limit in [("maxTurns", 3.0), ("maxCost", 0.5)] {
            let error = ModelError { limit: Some(limit), ..ModelError::new(Kind::Limit, "used up") };
            log_failure(&error, "openai", "m", &report);
        }
        assert_eq!(
            lines.brief(),
            [
                r#"error session error {"error":"bad key","kind":"auth","provider":"openai","model":"m"}"#,
                r#"error session error {"error":"bad key","kind":"auth","status":401,"provider":"openai","model":"m","requestId":"r"}"#,
                r#"error session error {"error":"used up","kind":"limit","provider":"openai","model":"m","limit":"maxTurns","value":3}"#,
                r#"error session error {"error":"used up","kind":"limit","provider":"openai","model":"m","limit":"maxCost","value":0.5}"#,
            ]
        );
    }
}
