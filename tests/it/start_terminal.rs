//! `al start` on a terminal: what is seen, what keys do, and that the terminal is as before whatever ends it.

use std::net::TcpListener;

use rustix::process::Signal;

use crate::support::al::hangups_count;
use crate::support::daemon::free_port;
use crate::support::project::{GATE, HOOK, NEVER, ON_HOOK, Project};
use crate::support::pty::{CTRL_C, DOWN, ENTER};
use crate::support::tty::Tty;
use crate::support::wait;

const UP: &str = "\x1b[A";
const ESCAPE: &str = "\x1b";

fn start<'p>(project: &'p Project, args: &[&str], rows: u16, columns: u16) -> Tty<'p> {
    let port = free_port().to_string();
    project.al(&[&["start", "--port", &port], args].concat()).on_tty(rows, columns)
}

/// A project with an agent that runs at the start, until its gate is opened, and one that does nothing.
fn project() -> (Project, String, String) {
    let project = Project::with_settings(&format!("projectName = \"acme\"\n{HOOK}"));
    let dev = project.agent("dev", &format!("al-status 'at work'; echo said this; {GATE}; exit 0"));
    project.configure(&dev, NEVER);
    let other = idle(&project, "other");
    (project, dev, other)
}

/// An agent that runs when it is told to.
fn idle(project: &Project, name: &str) -> String {
    let agent = project.agent(name, "exit 0");
    project.configure(&agent, ON_HOOK);
    agent
}

/// A project with such agents.
fn idle_project(names: &[&str]) -> (Project, Vec<String>) {
    let project = Project::with_settings(HOOK);
    let agents = names.iter().map(|name| idle(&project, name)).collect();
    (project, agents)
}

#[test]
fn agents_are_seen_at_work_and_do_what_keys_say() {
    let (project, dev, other) = project();
    let tty = start(&project, &[], 24, 120);
    tty.see("Action Llama — acme — Initializing").see("Building Docker images... Ctrl+C to cancel");
    tty.see("Action Llama — acme (Docker mode) — 2 agents (2 enabled), 1 cron job").see("Gateway: :");
    tty.see_row(&["▶ ", &dev, "Running", "Enabled"]).see("  \"at work\"");

    tty.type_in(DOWN).see(&format!("▶ {other}"));
    tty.type_in(" ").see_row(&[&other, "Idle", "Disabled"]).see("(1 enabled, 1 disabled)");
    tty.type_in(" ").see_row(&[&other, "Idle", "Enabled"]).see("(2 enabled)");
    tty.type_in("l").see(&format!("Log of {other}:")).see("nothing yet");
    tty.type_in(UP).see(&format!("Log of {dev}:")).see("said this").see_no("Recent:");
    tty.type_in(ESCAPE).see("Recent:").see_no("said this");
    tty.type_in("?").see("Keys:").see("kill its runs").type_in("?").see_no("Keys:");
    tty.type_in("r").see(&format!("[{dev}] not run: no free runner"));

    let question = format!("Kill 1 run(s) of {dev}? y/n");
    tty.type_in("k").see(&question).see_no("Select agent");
    tty.type_in("n").see("Select agent").see_row(&[&dev, "Running"]);
    tty.type_in("k").see(&question).type_in("y").see_row(&[&dev, "Error", "Last: "]).see("(killed)");
    tty.type_in(DOWN).see(&format!("▶ {other}")).type_in("r").see_row(&[&other, "Last: "]);

    tty.type_in(CTRL_C);
    let left = tty.finish();
    assert_eq!(left.status, 0, "{:#?}", left.rows);
    let titles = left.rows.iter().filter(|row| row.contains("Action Llama")).count();
    assert_eq!(titles, 1, "the last frame stays, and nothing of the ones before: {:#?}", left.rows);
    assert!(left.rows.iter().any(|row| row.starts_with("↑/↓: Select agent")), "{:#?}", left.rows);
    project.assert_clean();
}

#[test]
fn a_log_is_followed_while_it_is_shown() {
    let (project, dev, _) = project();
    let tty = start(&project, &[], 30, 100);
    tty.see_row(&[&dev, "Running"]).type_in(ENTER).see("said this");
    let started = project.logged(&dev, "container launched");
    project.open_gate(started[0]["instance"].as_str().unwrap());
    tty.see("Run completed").see("Container finished").type_in(ENTER).see("Recent:");
    tty.signal(Signal::TERM);
    assert_eq!(tty.finish().status, 0);
}

#[test]
fn the_frame_follows_the_size_of_the_terminal() {
    let names: Vec<String> = (10..30).map(|number| format!("a{number}")).collect();
    let (project, agents) = idle_project(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let tty = start(&project, &[], 40, 100);
    let has_one_frame = |rows: &[String]| {
        let count = |text| rows.iter().filter(|row| row.contains(text)).count();
        count("Select agent") == 1 && count("Action Llama") == 1 && count("▶ ") == 1
    };
    tty.see("Docker mode").until("one frame", has_one_frame);
    tty.type_in(&DOWN.repeat(15)).see(&format!("▶ {}", agents[15]));
    tty.resize(14, 60).see("more").until("one frame", has_one_frame).see(&format!("▶ {}", agents[15]));
    tty.resize(40, 100)
        .see_no("more")
        .until("one frame", |rows| rows.iter().filter(|row| row.contains("▶")).count() == 1);
    agents.iter().for_each(|agent| _ = tty.see(agent));
    tty.type_in(CTRL_C);
    assert_eq!(tty.finish().status, 0);
}

/// Half of a number would be another number: `$0.` for a run that cost twelve dollars.
#[test]
fn what_a_run_cost_is_seen_whole_in_eighty_columns() {
    let project = Project::with_settings(HOOK);
    let dev = project.model_agent("dev", "version = 1\n[[turn]]\ntext = \"Done.\"\n");
    project.configure(&dev, &format!("{ON_HOOK}\n[model]\nprovider = \"mock\"\nmodel = \"default\"\n"));
    let tty = start(&project, &[], 24, 80);
    tty.see_row(&[&dev, "Idle"]).type_in("r").see_row(&[&dev, "Idle", "Last: ", "tok $0.0000"]);
    tty.type_in(CTRL_C);
    assert_eq!(tty.finish().status, 0);
}

#[test]
fn a_second_ctrl_c_kills_what_runs() {
    let (project, dev, _) = project();
    let tty = start(&project, &[], 24, 80);
    tty.see_row(&[&dev, "Running"]).type_in(CTRL_C).see("1 run goes on; the next `al start` takes over.");
    tty.type_in(CTRL_C);
    let left = tty.finish();
    assert_eq!(left.status, 130);
    let row = |text: &str| {
        left.rows.iter().position(|row| row.contains(text)).unwrap_or_else(|| panic!("{text}: {:#?}", left.rows))
    };
    assert!(row("1 run goes on") < row("Action Llama"), "what is said stands above the frame");
    project.assert_clean();
}

#[test]
fn signals_leave_the_terminal_as_it_was() {
    let (project, _) = idle_project(&["dev"]);
    let signals = [Signal::TERM, Signal::INT, Signal::HUP];
    for signal in signals.into_iter().filter(|signal| *signal != Signal::HUP || hangups_count()) {
        let tty = start(&project, &[], 24, 80);
        tty.see("Select agent").signal(signal);
        assert_eq!(tty.finish().status, 0, "{signal:?}");
    }
}

#[test]
fn sigquit_kills_a_scheduler_after_it_has_given_the_terminal_back() {
    let (project, _) = idle_project(&["dev"]);
    let tty = start(&project, &[], 24, 80);
    tty.see("Select agent").signal(Signal::QUIT);
    assert_eq!(tty.finish().status, -Signal::QUIT.as_raw());
}

#[test]
fn after_questions_signals_do_what_they_do_without_any() {
    let (project, agents) = idle_project(&["dev"]);
    project.configure(&agents[0], &format!("credentials = [\"mintlify_token\"]\n{ON_HOOK}"));
    let asked = start(&project, &[], 24, 80);
    asked.see("API Token:").signal(Signal::TERM);
    assert_eq!(asked.finish().status, -Signal::TERM.as_raw());
    let tty = start(&project, &[], 24, 80);
    tty.see("API Token:").type_in("tea").type_in(ENTER).see("Select agent").signal(Signal::TERM);
    assert_eq!(tty.finish().status, 0);
}

#[test]
fn ctrl_c_cancels_the_start_and_other_keys_do_nothing_yet() {
    let (project, _) = idle_project(&["dev"]);
    let path = project.docker_that("build) exec sleep 60");
    let port = free_port().to_string();
    let tty = project.al(&["start", "--port", &port]).env("PATH", path).on_tty(24, 80);
    tty.see_row(&["⠋"]).see_row(&["⠙"]);
    tty.type_in("?krl").type_in(CTRL_C);
    let left = tty.finish();
    assert_eq!((left.status, left.rows.iter().any(|row| row.contains("Keys:"))), (0, false));
}

#[test]
fn an_error_of_the_start_stands_below_the_frame() {
    let (project, _) = idle_project(&["dev"]);
    let port = free_port();
    let _taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let left = project.al(&["start", "--port", &port.to_string()]).on_tty(24, 80).finish();
    assert_eq!(left.status, 1);
    let row = |text: &str| {
        left.rows.iter().position(|row| row.contains(text)).unwrap_or_else(|| panic!("{text}: {:#?}", left.rows))
    };
    assert!(row("Initializing") < row(&format!("Error: port {port} on 127.0.0.1 is in use")), "{:#?}", left.rows);
}

#[test]
fn a_panic_of_the_main_thread_leaves_the_terminal_as_it_was() {
    let (project, _) = idle_project(&["dev"]);
    let port = free_port().to_string();
    let left = project.al(&["start", "--port", &port]).env("AL_TEST_PANIC_AT", "ready").on_tty(24, 100).finish();
    assert_eq!(left.status, 1);
    assert!(left.rows.iter().any(|row| row == "Error: internal error: at ready"), "{:#?}", left.rows);
}

#[test]
fn without_its_terminal_ui_a_scheduler_goes_on_with_lines() {
    let (project, _) = idle_project(&["dev"]);
    let port = free_port().to_string();
    let tty = project.al(&["start", "--port", &port]).env("AL_TEST_PANIC_AT", "frame").on_tty(24, 100);
    tty.see("scheduler started");
    wait::until("the terminal to be as before", || tty.is_as_before(), |is_so| *is_so);
    tty.type_in(CTRL_C);
    let left = tty.finish();
    assert_eq!(left.status, 0);
    assert!(left.bytes.contains("panicked") && left.bytes.contains("scheduler stopped"), "{}", left.bytes);
}

#[test]
fn a_process_that_is_stopped_gives_the_terminal_back_until_it_goes_on() {
    let (project, _) = idle_project(&["dev"]);
    let tty = start(&project, &[], 24, 80);
    tty.see("Select agent");
    assert!(!tty.is_as_before());
    tty.signal(Signal::TSTP);
    let state = || std::fs::read_to_string(format!("/proc/{}/stat", tty.pid().as_raw_nonzero())).unwrap();
    wait::until("it to be stopped", state, |stat| stat.contains(") T "));
    wait::until("the terminal to be as before", || tty.is_as_before(), |is_so| *is_so);
    tty.signal(Signal::CONT);
    tty.type_in("?").see("Keys:");
    tty.type_in(CTRL_C);
    assert_eq!(tty.finish().status, 0);
}

#[test]
fn lines_are_printed_where_nothing_can_be_drawn_or_is_wanted() {
    let (project, _) = idle_project(&["dev"]);
    for (args, env) in [(&["-H"][..], ("X", "")), (&[], ("NO_COLOR", "1"))] {
        let port = free_port().to_string();
        let tty = project.al(&[&["start", "--port", &port], args].concat()).env(env.0, env.1).on_tty(24, 200);
        tty.see("scheduler started").type_in(CTRL_C);
        let left = tty.finish();
        assert_eq!((left.status, left.bytes.contains('\x1b')), (0, false), "{args:?} {env:?}: {}", left.bytes);
    }
}
