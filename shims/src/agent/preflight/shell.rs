//! `shell`: a command for `/bin/sh` (containers.md §12.2).

use std::process::Command;

use anyhow::Result;

use super::output::OutputFile;
use super::{LOG_LIMIT, Step, command, interpolate};
use crate::agent::report::Field;
use crate::user_info::hide_user_info;

/// Most bytes of stdout in a file.
const OUTPUT_LIMIT: u64 = 50 << 20;

/// Runs `command`; its stdout goes to the file `output` when that is given.
///
/// # Errors
/// A parameter is missing, or the command fails.
pub(super) fn run(step: &Step<'_>) -> Result<()> {
    let raw = step.raw_mandatory("command")?;
    step.report.info("preflight shell", &[("command", Field::Cut(&hide_user_info(raw), LOG_LIMIT))]);
    let output = match step.raw("output") {
        Some(_) => Some(OutputFile::create(step.path(&step.mandatory("output")?), OUTPUT_LIMIT)?),
        None => None,
    };
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(interpolate::command(raw, step.environment));
    if let Some(bytes) = command::run(shell, output, step)? {
        let path = step.raw("output").unwrap_or_default();
        step.report.info("preflight shell output written", &[("path", path.into()), ("bytes", bytes.into())]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::{Duration, Instant};

    use serde_json::{Value, json};

    use super::super::tests::run_steps;

    fn run(params: Value, tmp: &Path) -> (Option<String>, Vec<String>) {
        run_steps(
            json!([{"provider": "shell", "params": params}]),
            tmp,
            &[("WORD", "hello"), ("PROMPT", "$(touch pwned)")],
        )
    }

    #[test]
    fn stdout_goes_to_the_file_and_the_log_shows_the_command_as_written() {
        let dir = tempfile::tempdir().unwrap();
        let command = "printf '%s ' ${WORD} \"${PROMPT}\"; for f in a b; do printf ${f}; done; pwd; cat";
        let (error, lines) = run(json!({"command": command, "output": "sub/out.txt"}), dir.path());
        assert_eq!(error, None);
        let written = fs::read_to_string(dir.path().join("sub/out.txt")).unwrap();
        assert_eq!(written, format!("hello $(touch pwned) ab{}\n", dir.path().display()));
        assert!(!dir.path().join("pwned").exists());
        let bytes = written.len();
        assert_eq!(lines[1], format!("info preflight shell {}", json!({"command": command})));
        assert_eq!(
            lines[2],
            format!("info preflight shell output written {{\"path\":\"sub/out.txt\",\"bytes\":{bytes}}}")
        );
        assert_eq!(lines[3..], ["info preflight step [1/1] shell done {}", "info preflight complete {}"]);
    }

    #[test]
    fn failures_carry_the_end_of_stderr() {
        #[track_caller]
        fn case(command: &str, expected: &[&str]) {
            let dir = tempfile::tempdir().unwrap();
            let (error, _) = run(json!({"command": command, "output": "out"}), dir.path());
            let error = error.unwrap();
            assert!(expected.iter().all(|text| error.contains(text)), "{error}");
            assert!(error.len() < 2200, "{error}");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing half done is left");
        }
        case("echo oops >&2; exit 3", &["status 3", "oops"]);
        case("kill -9 $$", &["signal 9"]);
        case("head -c 100000 /dev/zero | tr '\\0' x >&2; echo last >&2; exit 1", &["xxx", "last"]);
    }

    #[test]
    fn too_much_output_ends_the_command() {
        let dir = tempfile::tempdir().unwrap();
        let (error, _) = run(json!({"command": "cat /dev/zero", "output": "out"}), dir.path());
        assert!(error.as_ref().unwrap().contains("larger than 50 MiB"), "{error:?}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_goes_on_in_the_background_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let started = Instant::now();
        let (error, _) = run(json!({"command": "echo now; sleep 30 & echo $! > pid", "output": "out"}), dir.path());
        assert_eq!(error, None);
        assert!(started.elapsed() < Duration::from_secs(10));
        assert_eq!(fs::read_to_string(dir.path().join("out")).unwrap(), "now\n");
        let pid = fs::read_to_string(dir.path().join("pid")).unwrap();
        let ended = std::process::Command::new("kill").arg(pid.trim()).status().unwrap();
        assert!(ended.success(), "it was still running");
    }

    #[test]
    fn the_limit_of_a_step_ends_its_whole_group() {
        let dir = tempfile::tempdir().unwrap();
        let started = Instant::now();
        let steps = json!([{"provider": "shell", "timeout": 1, "params": {"command": "sleep 30; true"}}]);
        let (error, _) = run_steps(steps, dir.path(), &[]);
        assert!(error.as_ref().unwrap().contains("after 1 seconds"), "{error:?}");
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}
