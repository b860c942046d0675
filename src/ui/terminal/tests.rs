//! Frames as they are seen.

use std::sync::Arc;

use expect_test::{Expect, expect};
use ratatui::buffer::Buffer;
use ratatui::text::Line;
use shims::wire::usage::Usage;

use super::canvas::Canvas;
use super::controls::{Controls, Question};
use super::frame::{Scene, frame};
use crate::base::clock::UnixMs;
use crate::model::status::{AgentState, AgentStatus, RecentLine, SchedulerInfo};
use crate::scheduler::handle::Snapshot;
use crate::ui::keyboard::Key;

const NOW: UnixMs = UnixMs(1_767_323_045_000);

fn before(seconds: i64) -> Option<UnixMs> {
    Some(UnixMs(NOW.0 - seconds * 1000))
}

fn snapshot(info: SchedulerInfo, agents: impl IntoIterator<Item = AgentStatus>) -> Snapshot {
    let agents = agents.into_iter().map(|agent| (agent.name.clone(), Arc::new(agent))).collect();
    Snapshot { scheduler: Some(Arc::new(info)), agents, ..Snapshot::default() }
}

fn started() -> SchedulerInfo {
    SchedulerInfo {
        initializing: false,
        gateway_port: Some(8080),
        cron_job_count: 2,
        ..SchedulerInfo::new(Some("acme".into()), NOW)
    }
}

/// The agents of the specification's picture.
fn picture() -> Snapshot {
    let usage = |total_tokens, cost| Some(Usage { total_tokens, cost, ..Usage::default() });
    let dev = AgentStatus {
        state: AgentState::Running,
        running_count: 1,
        status_text: Some("reviewing PR #42".into()),
        last_run_at: before(120),
        last_run_duration: Some(45_210),
        next_run_at: before(-300),
        last_run_usage: usage(1500, 0.0123),
        ..AgentStatus::idle("dev", 2, 900)
    };
    let reviewer = AgentStatus {
        state: AgentState::Error,
        failed: true,
        last_error: Some("Container exited with code 1".into()),
        last_run_at: before(0),
        last_run_duration: Some(125_000),
        next_run_at: before(-720),
        last_run_usage: usage(1_234_567, 0.1235),
        ..AgentStatus::idle("reviewer", 1, 900)
    };
    let docs = AgentStatus { enabled: false, paused: true, ..AgentStatus::idle("docs", 3, 900) };
    snapshot(started(), [dev, reviewer, docs])
}

/// So many agents at rest.
fn many(count: usize) -> Snapshot {
    snapshot(started(), (0..count).map(|number| AgentStatus::idle(&format!("agent-{number:03}"), 1, 900)))
}

fn draw(snapshot: &Snapshot, controls: &Controls, size: (u16, u16)) -> Buffer {
    frame(&Scene { snapshot, project: Some("acme"), controls, log: &[], now: NOW }, size.0, size.1)
}

fn text(buffer: &Buffer) -> String {
    let rows = buffer.content().chunks(usize::from(buffer.area.width));
    let row = |cells: &[ratatui::buffer::Cell]| cells.iter().map(|cell| cell.symbol()).collect::<String>();
    rows.map(|cells| format!("{}\n", row(cells).trim_end())).collect()
}

/// Controls after these keys.
fn after(keys: &[Key], snapshot: &Snapshot) -> Controls {
    let mut controls = Controls::default();
    controls.follow(snapshot);
    for key in keys {
        controls.press(*key, snapshot);
    }
    controls
}

#[track_caller]
fn shows(snapshot: &Snapshot, keys: &[Key], size: (u16, u16), expected: Expect) {
    let frame = draw(snapshot, &after(keys, snapshot), size);
    assert!(frame.area.height <= size.1, "the frame is higher than the terminal");
    expected.assert_eq(&text(&frame));
}

#[test]
fn the_table_is_as_specified_where_there_is_room() {
    shows(
        &picture(),
        &[],
        (120, 40),
        expect![[r#"

        Action Llama — acme (Docker mode) — 3 agents (2 enabled, 1 disabled), 2 cron jobs
        Gateway: :8080
        ──────────────────────────────────────────────────

        ▶ dev       Running 1/2     Enabled   Last: 2m ago (45s)            1,500tok $0.0123         Next: 5m
          "reviewing PR #42"
          docs      Idle (×3)       Disabled
          reviewer  Error           Enabled   Last: 0s ago (2m5s)           1,234,567tok $0.1235     Next: 12m
          Container exited with code 1

        ──────────────────────────────────────────────────
        ↑/↓: Select agent • Space: Enable/Disable • Ctrl+C: Stop • ?: Help
    "#]],
    );
}

#[test]
fn lines_are_cut_where_there_is_less() {
    shows(
        &picture(),
        &[],
        (80, 24),
        expect![[r#"

        Action Llama — acme (Docker mode) — 3 agents (2 enabled, 1 disabled), 2 cron job
        Gateway: :8080
        ──────────────────────────────────────────────────

        ▶ dev       Running 1/2  Enabled   Last: 2m ago (45s)   1,500tok $0.0123
          "reviewing PR #42"
          docs      Idle (×3)    Disabled
          reviewer  Error        Enabled   Last: 0s ago (2m5s)  1,234,567tok $0.1235
          Container exited with code 1

        ──────────────────────────────────────────────────
        ↑/↓: Select agent • Space: Enable/Disable • Ctrl+C: Stop • ?: Help
    "#]],
    );
    shows(
        &picture(),
        &[],
        (20, 24),
        expect![[r#"

        Action Llama — acme
        Gateway: :8080
        ────────────────────

        ▶ dev       Running
          "reviewing PR #42"
          docs      Idle (×3
          reviewer  Error
          Container exited w

        ────────────────────
        ↑/↓: Select agent •
    "#]],
    );
}

#[test]
fn everything_that_a_scheduler_can_say_of_itself_is_said() {
    let info = SchedulerInfo {
        cron_job_count: 1,
        paused: true,
        webhooks_active: true,
        webhook_urls: vec!["http://localhost:8080/webhooks/github".into()],
        dashboard_url: Some("http://localhost:8080/dashboard".into()),
        project_name: None,
        ..started()
    };
    let mut snapshot = snapshot(info, [AgentStatus::idle("dev", 1, 900)]);
    let line = |number: u64| {
        let message = format!("dev-a1b2c3d{number} started (webhook) {}", "x".repeat(80));
        Arc::new(RecentLine { timestamp: NOW, agent: "dev".into(), message, number })
    };
    snapshot.recent = (0..7).map(line).collect();
    let frame = draw(&snapshot, &after(&[], &snapshot), (120, 40));
    // Their times are local.
    let shown = text(&frame).replace(&NOW.local_time(), "HH:MM:SS");
    expect![[r#"

        Action Llama — acme (Docker mode) — 1 agent (1 enabled), 1 cron job
        ▐▐ Scheduler paused
        Gateway: :8080 | Webhooks: active
          http://localhost:8080/webhooks/github
        Dashboard: http://localhost:8080/dashboard
        ──────────────────────────────────────────────────

        ▶ dev       Idle            Enabled

        ──────────────────────────────────────────────────
        Recent:
          HH:MM:SS [dev] dev-a1b2c3d2 started (webhook) xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
          HH:MM:SS [dev] dev-a1b2c3d3 started (webhook) xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
          HH:MM:SS [dev] dev-a1b2c3d4 started (webhook) xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
          HH:MM:SS [dev] dev-a1b2c3d5 started (webhook) xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
          HH:MM:SS [dev] dev-a1b2c3d6 started (webhook) xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
        ──────────────────────────────────────────────────
        ↑/↓: Select agent • Space: Enable/Disable • Ctrl+C: Stop • ?: Help
    "#]]
    .assert_eq(&shown);
}

#[test]
fn the_selected_agent_is_seen_in_a_terminal_of_any_height() {
    let many = many(200);
    shows(
        &many,
        &[],
        (60, 14),
        expect![[r#"

        Action Llama — acme (Docker mode) — 200 agents (200 enabled)
        Gateway: :8080
        ──────────────────────────────────────────────────

        ▶ agent-000 Idle     Enabled
          agent-001 Idle     Enabled
          agent-002 Idle     Enabled
          agent-003 Idle     Enabled
          agent-004 Idle     Enabled
          agent-005 Idle     Enabled
          ↓ 194 more
        ──────────────────────────────────────────────────
        ↑/↓: Select agent • Space: Enable/Disable • Ctrl+C: Stop • ?
    "#]],
    );
    shows(
        &many,
        &[Key::Down; 100],
        (60, 14),
        expect![[r#"

        Action Llama — acme (Docker mode) — 200 agents (200 enabled)
        Gateway: :8080
        ──────────────────────────────────────────────────
          ↑ 98 more
          agent-098 Idle     Enabled
          agent-099 Idle     Enabled
        ▶ agent-100 Idle     Enabled
          agent-101 Idle     Enabled
          agent-102 Idle     Enabled
          agent-103 Idle     Enabled
          ↓ 96 more
        ──────────────────────────────────────────────────
        ↑/↓: Select agent • Space: Enable/Disable • Ctrl+C: Stop • ?
    "#]],
    );
    shows(
        &many,
        &[Key::Down; 300],
        (60, 14),
        expect![[r#"

        Action Llama — acme (Docker mode) — 200 agents (200 enabled)
        Gateway: :8080
        ──────────────────────────────────────────────────
          ↑ 194 more
          agent-194 Idle     Enabled
          agent-195 Idle     Enabled
          agent-196 Idle     Enabled
          agent-197 Idle     Enabled
          agent-198 Idle     Enabled
        ▶ agent-199 Idle     Enabled

        ──────────────────────────────────────────────────
        ↑/↓: Select agent • Space: Enable/Disable • Ctrl+C: Stop • ?
    "#]],
    );
    for rows in 1..40 {
        let frame = draw(&many, &after(&[Key::Down; 100], &many), (60, rows));
        let shown = text(&frame);
        assert!(frame.area.height <= rows && (rows == 1 || shown.contains("▶ agent-100")), "{rows} rows: {shown}");
    }
}

#[test]
fn a_small_terminal_shows_what_matters_most() {
    shows(
        &picture(),
        &[],
        (80, 6),
        expect![[r#"
        ▶ dev       Running 1/2  Enabled   Last: 2m ago (45s)   1,500tok $0.0123
          "reviewing PR #42"
          docs      Idle (×3)    Disabled
          reviewer  Error        Enabled   Last: 0s ago (2m5s)  1,234,567tok $0.1235
          Container exited with code 1
        ↑/↓: Select agent • Space: Enable/Disable • Ctrl+C: Stop • ?: Help
    "#]],
    );
    shows(
        &picture(),
        &[],
        (80, 2),
        expect![[r#"
        ▶ dev       Running 1/2  Enabled  Last: 2m ago (45s)   1,500tok $0.0123
        ↑/↓: Select agent • Space: Enable/Disable • Ctrl+C: Stop • ?: Help
    "#]],
    );
}

#[test]
fn a_heading_and_its_rule_go_with_their_last_line() {
    let mut snapshot = picture();
    let line = |number| RecentLine { timestamp: NOW, agent: "dev".into(), message: "started".into(), number };
    snapshot.recent = (0..5).map(|number| Arc::new(line(number))).collect();
    for rows in 1..30 {
        let shown = text(&draw(&snapshot, &after(&[], &snapshot), (80, rows)));
        let has_lines = shown.contains("[dev] started");
        assert_eq!(shown.contains("Recent:"), has_lines, "{rows} rows: {shown}");
        assert!(shown.matches("──\n").count() <= if has_lines { 3 } else { 2 }, "{rows} rows: {shown}");
    }
}

#[test]
fn the_start_shows_every_image() {
    let building = |name: &str, text: Option<&str>| AgentStatus {
        state: AgentState::Building,
        status_text: text.map(Into::into),
        ..AgentStatus::idle(name, 1, 900)
    };
    let mut snapshot = snapshot(
        SchedulerInfo::new(Some("acme".into()), NOW),
        [
            building("dev", Some("Building agent image")),
            building("docs", None),
            AgentStatus::idle("reviewer", 1, 900),
            AgentStatus {
                state: AgentState::Error,
                last_error: Some("Image build failed: no space".into()),
                ..AgentStatus::idle("broken", 1, 900)
            },
        ],
    );
    snapshot.base_image = Some("Step 2/8: RUN apk add git".into());
    shows(
        &snapshot,
        &[],
        (80, 24),
        expect![[r#"

        Action Llama — acme — Initializing
        ──────────────────────────────────────────────────

        ⠋ Base image: Step 2/8: RUN apk add git
        ✗   broken        Image build failed: no space
        ⠋   dev           Building agent image
        ⠋   docs          Waiting to build
        ○   reviewer      Waiting

        ──────────────────────────────────────────────────
        Building Docker images... Ctrl+C to cancel
    "#]],
    );
    snapshot.base_image = None;
    shows(
        &snapshot,
        &[],
        (80, 24),
        expect![[r#"

        Action Llama — acme — Initializing
        ──────────────────────────────────────────────────

        ✗   broken        Image build failed: no space
        ⠋   dev           Building agent image
        ⠋   docs          Waiting to build
        ✓   reviewer      Ready

        ──────────────────────────────────────────────────
        Building Docker images... Ctrl+C to cancel
    "#]],
    );
    shows(
        &Snapshot::default(),
        &[],
        (80, 24),
        expect![[r#"

        Action Llama — acme — Initializing
        ──────────────────────────────────────────────────


        ──────────────────────────────────────────────────
        Building Docker images... Ctrl+C to cancel
    "#]],
    );
}

#[test]
fn a_question_and_the_keys_have_their_places() {
    shows(
        &picture(),
        &[Key::Char('k')],
        (80, 24),
        expect![[r#"

        Action Llama — acme (Docker mode) — 3 agents (2 enabled, 1 disabled), 2 cron job
        Gateway: :8080
        ──────────────────────────────────────────────────

        ▶ dev       Running 1/2  Enabled   Last: 2m ago (45s)   1,500tok $0.0123
          "reviewing PR #42"
          docs      Idle (×3)    Disabled
          reviewer  Error        Enabled   Last: 0s ago (2m5s)  1,234,567tok $0.1235
          Container exited with code 1

        ──────────────────────────────────────────────────
        Kill 1 run(s) of dev? y/n
    "#]],
    );
    shows(
        &picture(),
        &[Key::Char('?')],
        (80, 24),
        expect![[r#"

        Action Llama — acme (Docker mode) — 3 agents (2 enabled, 1 disabled), 2 cron job
        Gateway: :8080
        ──────────────────────────────────────────────────

        ▶ dev       Running 1/2  Enabled   Last: 2m ago (45s)   1,500tok $0.0123
          "reviewing PR #42"
          docs      Idle (×3)    Disabled
          reviewer  Error        Enabled   Last: 0s ago (2m5s)  1,234,567tok $0.1235
          Container exited with code 1

        ──────────────────────────────────────────────────
        Keys:
          ↑/↓       select an agent
          Space     enable or disable it
          r         run it now
          k         kill its runs
          l, Enter  its log
          ?         these keys
          Esc       back
          Ctrl+C    stop the scheduler; runs go on, unless it is pressed again
        ──────────────────────────────────────────────────
        ↑/↓: Select agent • Space: Enable/Disable • Ctrl+C: Stop • ?: Help
    "#]],
    );
}

#[test]
fn a_log_takes_the_place_of_what_was_recent_and_gets_the_rest_of_the_screen() {
    let snapshot = picture();
    let controls = after(&[Key::Enter], &snapshot);
    let lines: Vec<Line<'static>> = (0..100).map(|number| Line::from(format!("12:00:00  line {number}"))).collect();
    let shown = |log: &[Line<'static>], rows| {
        let scene = Scene { snapshot: &snapshot, project: None, controls: &controls, log, now: NOW };
        text(&frame(&scene, 80, rows))
    };
    expect![[r#"

        Action Llama — acme (Docker mode) — 3 agents (2 enabled, 1 disabled), 2 cron job
        Gateway: :8080
        ──────────────────────────────────────────────────

        ▶ dev       Running 1/2  Enabled   Last: 2m ago (45s)   1,500tok $0.0123
          "reviewing PR #42"
          docs      Idle (×3)    Disabled
          reviewer  Error        Enabled   Last: 0s ago (2m5s)  1,234,567tok $0.1235
          Container exited with code 1

        ──────────────────────────────────────────────────
        Log of dev:
          12:00:00  line 95
          12:00:00  line 96
          12:00:00  line 97
          12:00:00  line 98
          12:00:00  line 99
        ──────────────────────────────────────────────────
        ↑/↓: Select agent • Space: Enable/Disable • Ctrl+C: Stop • ?: Help
    "#]]
    .assert_eq(&shown(&lines, 20));
    assert_eq!(shown(&lines, 50).lines().count(), 50);
    assert!(shown(&[], 24).contains("nothing yet"));
}

#[test]
fn colours_are_those_of_the_specification() {
    let snapshot = picture();
    let mut canvas = Canvas::default();
    let bytes = canvas.draw(draw(&snapshot, &after(&[Key::Down, Key::Down], &snapshot), (110, 40)));
    let shown = bytes.replace("\r\n", "").replace('\r', "\n").replace("\x1b[", "^");
    expect![[r#"
        ^?7l

        ^0;1mAction Llama — acme (Docker mode) — 3 agents (2 enabled, 1 disabled), 2 cron jobs^0m
        ^0;2mGateway: :8080^0m
        ^0;2m──────────────────────────────────────────────────^0m

        ^0;1m  dev       ^0;32mRunning 1/2     Enabled   ^0;2mLast: 2m ago (45s)            1,500tok $0.0123         Next: 5m^0m
          "reviewing PR #42"
        ^0;1m  docs      ^0;37mIdle (×3)       ^0;33mDisabled^0m
        ^0;1;37;44m▶ reviewer  ^0;37;44mError           Enabled   Last: 0s ago (2m5s)           1,234,567tok $0.1235     Next: 12m        ^0m
        ^0;31m  Container exited with code 1^0m

        ^0;2m──────────────────────────────────────────────────^0m
        ^0;2m↑/↓: Select agent • Space: Enable/Disable • Ctrl+C: Stop • ?: Help^0m
        ^?7h"#]].assert_eq(&shown);
}

#[test]
fn foreign_text_cannot_do_anything_to_a_terminal() {
    let hostile = "a\x1b[2J\u{9b}31m\u{202e}b\nc\td\x07";
    let mut snapshot = picture();
    for agent in snapshot.agents.values_mut() {
        let agent = Arc::make_mut(agent);
        agent.status_text = agent.status_text.as_ref().map(|_| hostile.to_owned());
        agent.last_error = agent.last_error.as_ref().map(|_| hostile.to_owned());
    }
    let line = RecentLine { timestamp: NOW, agent: "dev".into(), message: hostile.into(), number: 0 };
    snapshot.recent = [Arc::new(line)].into();
    snapshot.base_image = Some(hostile.into());
    for initializing in [false, true] {
        Arc::make_mut(snapshot.scheduler.as_mut().unwrap()).initializing = initializing;
        let bytes = Canvas::default().draw(draw(&snapshot, &Controls::default(), (80, 24)));
        assert!(bytes.contains("a\u{FFFD}[2J\u{FFFD}31m\u{FFFD}b c d\u{FFFD}"), "{bytes:?}");
        assert!(!bytes.contains("\x1b[2J") && !bytes.contains(['\u{9b}', '\u{202e}', '\x07', '\t']));
    }
}

#[test]
fn a_question_outlives_neither_its_answer_nor_its_agent() {
    let mut snapshot = picture();
    let mut controls = after(&[Key::Char('k')], &snapshot);
    assert_eq!(controls.question, Some(Question { agent: "dev".into(), runs: 1, is_shown: false }));
    snapshot.agents.remove("dev");
    controls.follow(&snapshot);
    assert_eq!(controls.question, None);
}
