//! The lines that the events of a session leave.

use std::time::Duration;

use super::*;
use crate::agent::report::tests::Lines;
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
    let content = vec![thinking, text(" Hello "), Block::ToolCall(ToolCall::from_raw("7", "read", r#"{"path":"a"}"#))];
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
