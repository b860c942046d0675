//! What `al run` shows: to a pipe, to a terminal, to GitHub Actions (scheduler.md §14, §15.3 item 4).

use std::fs;

use crate::support::project::Project;
use crate::support::screen::{Runner, on_screen};

/// Output that a terminal would obey, and a line that pretends to be another one.
const HOSTILE: &str = r#"printf '\033[2J\033[31mred\033]0;title\007\n'
printf 'before\rafter\n'
printf 'right\342\200\256to left\n'
printf '{"_log":true,"level":"info","msg":"\\u001b[2Jcleared"}\n'
printf '{"_log":true,"level":"error","msg":"tool error","tool":"\\u001b[1m","cmd":"\\u001b[1m","result":"\\u001b[1m"}\n'
al-status "$(printf 'status \033[2J\r\n next')"
al-return "$(printf 'value \033[2J\r')"
printf '\033[2Jerr\n' >&2
"#;

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn without_a_terminal_there_is_no_escape_whatever_the_agent_prints() {
    let project = Project::new();
    let agent = project.worker("dev");
    for (name, value) in [("TERM", "xterm"), ("NO_COLOR", "1")] {
        let done = project.al(&["run", &agent, &format!("{HOSTILE}exit 7")]).env(name, value).run();
        done.expect(7);
        let hostile = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!done.stdout.contains(hostile) && !done.stderr.contains(hostile), "{:?}", done.stdout);
        assert!(
            done.stdout.contains("red")
                && done.stdout.contains("right")
                && done.stdout.contains("WARN: container stderr")
        );
    }
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn output_that_goes_nowhere_is_told_and_stops_no_run() {
    let project = Project::new();
    let agent = project.worker("dev");
    for option in ["--headless", "--json"] {
        let al = project.al(&["run", &agent, "echo one; echo two; exit 7", option]);
        let done = al.through("sh", &["-c", "exec \"$0\" \"$@\" >/dev/full"], env!("CARGO_BIN_EXE_al").as_ref()).run();
        done.expect(7);
        assert_eq!(done.stderr.matches("Warning: cannot write to standard output: ").count(), 1, "{}", done.stderr);
        // A success that nobody was told of is none.
        let al = project.al(&["run", &agent, "al-return ok", option]);
        al.through("sh", &["-c", "exec \"$0\" \"$@\" >/dev/full"], env!("CARGO_BIN_EXE_al").as_ref()).run().expect(1);
    }
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_status_text_is_one_line_and_shown_once() {
    let project = Project::new();
    let agent = project.worker("dev");
    let done =
        project.run(&agent, &["al-status 'at work'; al-status 'at work'; al-status \"$(printf 'two\\nlines')\""]);
    done.expect(0);
    let lines: Vec<&str> =
        done.stdout.lines().filter_map(|line| line.split_once("  status: ")).map(|(_, text)| text).collect();
    assert_eq!(lines, ["at work", "two lines"]);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_terminal_shows_a_status_line_and_is_left_clean() {
    let project = Project::new();
    let agent = project.worker("dev");
    let done =
        project.al(&["run", &agent, &format!("{HOSTILE}al-status at-work; sleep 2; echo bye")]).on_terminal(60).run();
    done.expect(0);
    let instance = project.log(&agent)[0]["instance"].as_str().unwrap().to_owned();
    assert!(done.stdout.contains(&format!("● {instance} 0:01")), "the clock moves: {:?}", done.stdout);
    assert!(done.stdout.contains("⋯ "), "the build is shown: {:?}", done.stdout);
    let screen = on_screen(&done.stdout);
    assert!(!screen.iter().any(|line| line.contains(['●', '⋯'])), "{screen:#?}");
    assert!(screen.iter().any(|line| line.ends_with("] bye")));
    let [.., last, empty] = &screen[..] else { panic!("{screen:?}") };
    assert!(last.starts_with(&format!("{instance} completed (")) && empty.is_empty(), "{screen:#?}");
    // No live line is longer than the terminal is wide: it could not be erased.
    let live =
        done.stdout.split('●').skip(1).map(|rest| rest.split(['\r', '\n', '\x1b']).next().unwrap().chars().count());
    assert!(live.max().unwrap() < 59);
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_terminal_is_left_clean_when_the_image_does_not_build() {
    let project = Project::new();
    let agent = project.worker("dev");
    project.write(&format!("agents/{agent}/Dockerfile"), "FROM al-agent:latest\nRUN echo the reason; exit 3\n");
    let done = project.al(&["run", &agent]).on_terminal(80).run();
    done.expect(1);
    let screen = on_screen(&done.stdout);
    assert!(screen.iter().any(|line| line.starts_with("Agent error: ")), "{screen:#?}");
    assert!(screen.iter().any(|line| line.starts_with("the reason")), "{screen:#?}");
    assert!(!screen.iter().any(|line| line.contains(['●', '⋯'])), "{screen:#?}");
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_terminal_without_colour_or_live_line_on_request() {
    let project = Project::new();
    let agent = project.worker("dev");
    let done = project.al(&["run", &agent, "echo hello"]).on_terminal(80).env("NO_COLOR", "1").run();
    done.expect(0);
    assert!(!done.stdout.contains(['\x1b', '●']), "{:?}", done.stdout);
    let done = project.al(&["run", &agent, "-H", "echo hello"]).on_terminal(80).run();
    done.expect(0);
    assert!(!done.stdout.contains(['●', '⋯']) && !done.stdout.contains("\x1b[2K"), "{:?}", done.stdout);
}

/// Tries to have commands obeyed in every place that a run can write to. `FOREIGN` marks what is not ours.
const COMMANDS: &str = r###"
for text in '::error::FOREIGN' '::set-env name=A::FOREIGN' '##[error]FOREIGN' '::stop-commands::FOREIGN' '::endgroup::' \
    '::add-mask::FOREIGN' '  ::warning::FOREIGN'; do
  echo "$text"; echo "$text" >&2; al-status "FOREIGN $text"
done
printf '{"_log":true,"level":"error","msg":"FOREIGN\\n::error::FOREIGN"}\n'
al-return "::error::FOREIGN"
"###;

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_github_runner_obeys_nothing_that_an_agent_prints() {
    let project = Project::new();
    let (agent, called) = (project.worker("dev"), project.agent("called", &format!("sleep 1{COMMANDS}exit 3")));
    let summary = project.outer().join("summary.md");
    fs::write(&summary, "# Job\n").unwrap();
    // The called run goes on when the group of its caller is closed already.
    let task = format!("{COMMANDS}\necho FOREIGN | al-call {called} >/dev/null; exit 7");
    let al = project.al(&["run", &agent, &task]).env("GITHUB_ACTIONS", "true").env("GITHUB_STEP_SUMMARY", &summary);
    let done = al.run();
    done.expect(7);
    let runner = Runner::read(&[&done.stdout, &done.stderr]);
    assert!(!runner.obeyed.iter().any(|line| line.contains("FOREIGN")), "{:#?}", runner.obeyed);
    assert!(done.stdout.contains("FOREIGN"), "it is shown");
    let [groups @ .., error] = &runner.commands[..] else { panic!("{runner:?}") };
    assert_eq!(*error, format!("::error title={agent}::Container exited with code 7"));
    for pair in groups.chunks(2) {
        assert!(pair.len() == 2 && pair[0].starts_with("::group::") && pair[1] == "::endgroup::", "{groups:?}");
    }
    assert!(groups.contains(&"::group::Images".to_owned()), "{groups:?}");
    let instance = project.log(&agent)[0]["instance"].as_str().unwrap().to_owned();
    assert!(groups.contains(&format!("::group::{instance}")), "{groups:?}");

    let summary = fs::read_to_string(summary).unwrap();
    for part in [
        "# Job\n",
        &format!("## {agent}: error\n"),
        &format!("| Instance | {instance} |"),
        "| Trigger | manual |",
        "| Exit status | 7 |",
        "```text\nContainer exited with code 7\n```",
        "```text\n::error::FOREIGN\n```",
    ] {
        assert!(summary.contains(part), "{part:?} is not in {summary}");
    }
}

#[test]
fn the_summary_of_a_run_that_was_not_started_has_no_empty_cell() {
    let project = Project::without_docker("");
    let path = project.outer().join("summary.md");
    let al = project.al(&["run", "nobody"]).env("GITHUB_ACTIONS", "true").env("GITHUB_STEP_SUMMARY", &path);
    al.run().expect(1);
    let summary = fs::read_to_string(path).unwrap();
    for row in ["| Instance | – |", "| Trigger | manual |", "| Elapsed | 0.0s |", "| Exit status | – |"] {
        assert!(summary.lines().any(|line| line == row), "{row}: {summary}");
    }
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_github_runner_obeys_nothing_that_a_build_prints() {
    let project = Project::new();
    let agent = project.worker("dev");
    let dockerfile = "FROM al-agent:latest\nRUN echo '::error::FOREIGN' >&2; echo '##[error]FOREIGN'; echo '::error::FOREIGN'; exit 3\n";
    project.write(&format!("agents/{agent}/Dockerfile"), dockerfile);
    let done = project.al(&["run", &agent]).env("GITHUB_ACTIONS", "true").run();
    done.expect(1);
    let runner = Runner::read(&[&done.stdout, &done.stderr]);
    let [.., error] = &runner.commands[..] else { panic!("{runner:?}") };
    assert!(error.starts_with(&format!("::error title={agent}::")) && error.contains("FOREIGN"), "{error}");
    let others: Vec<&String> = runner.obeyed.iter().filter(|line| *line != error && line.contains("FOREIGN")).collect();
    assert!(others.is_empty(), "{others:#?}");
    assert!(
        runner.commands[..runner.commands.len() - 1]
            .iter()
            .all(|line| line.starts_with("::group::") || line == "::endgroup::")
    );
}

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn a_summary_that_cannot_be_written_is_a_warning_and_json_wins() {
    let project = Project::new();
    let agent = project.worker("dev");
    let github = |args: &[&str]| {
        let al = project.al(&[&["run", &agent], args].concat()).env("GITHUB_ACTIONS", "true");
        al.env("GITHUB_STEP_SUMMARY", "/nonexistent/summary.md").run()
    };
    let done = github(&["al-return \"$(printf 'a\\n```\\nb')\""]);
    done.expect(0);
    let commands = Runner::read(&[&done.stdout, &done.stderr]).commands;
    assert!(commands.last().unwrap().starts_with("::warning::") && commands.last().unwrap().contains("/nonexistent"));
    assert!(!commands.iter().any(|command| command.starts_with("::error")));
    let done = github(&["exit 0", "--json"]);
    done.expect(0);
    assert_eq!(done.result()["result"], "completed");
    // Only the value `true` means that it runs there.
    let done = project.al(&["run", &agent, "exit 0"]).env("GITHUB_ACTIONS", "false").run();
    assert!(!done.stdout.contains("::group::"));
}
