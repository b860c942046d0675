//! `al-agent` with a `test-script.sh`: exit codes, environment, output, signal files, limits.

use std::fs;
use std::io::Read as _;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::agent_bed::{Bed, Ran, is_running, signal, wait_until};

/// Waits in the shell itself, so that no process is left when the shell is killed.
const WAIT: &str = "while :; do read line; done < \"$AL_TMP_DIR/fifo\"";

#[test]
fn the_status_of_the_script_is_that_of_the_run() {
    #[track_caller]
    fn case(script: &str, code: i32) {
        Bed::with_script(script).run().expect_code(code);
    }
    case("exit 0", 0);
    case("exit 3", 3);
    case("exit 255", 255);
    case("kill -9 $$", 137);
    case("kill -15 $$", 143);
    case("no-such-command", 127);
}

#[test]
fn a_quiet_run_leaves_these_lines() {
    let ran = Bed::with_script("echo plain").run().expect_code(0);
    assert_eq!(
        ran.brief(),
        [
            "info loaded static files from image {}",
            "info container starting {\"agentName\":\"dev\",\"modelId\":null}",
            "info script mode: running test-script.sh instead of LLM {}",
            "info run completed {\"outputLength\":0}",
        ]
    );
    assert_eq!(ran.plain(), ["plain"]);
    let numbers: Vec<_> = ran.log().iter().map(|line| line.seq).collect();
    assert_eq!(numbers, [Some(1), Some(2), Some(3), Some(4)]);
    assert_eq!(ran.stderr, "");
}

#[test]
fn the_script_sees_the_run_and_its_credentials_and_nothing_private() {
    let config = json!({"name": "dev", "credentials": ["github_token", "git_ssh:bot"]});
    let bed = Bed::new(&config)
        .variable("AL_AGENT_CHILD", "1")
        .variable("AL_SECRET_other__default__token", "leaked-other")
        .variable("GATEWAY_URL", "http://old");
    bed.write("static/test-script.sh", "env; pwd; ls -la .ssh/id_rsa");
    bed.write("credentials/github_token/default/token", "ghp_0123456789\n");
    bed.write("credentials/git_ssh/bot/id_rsa", "-----BEGIN KEY-----\n");
    bed.write("credentials/git_ssh/bot/email", "bot@example.com\n");
    bed.write("credentials/anthropic_key/default/token", "sk-ant-unseen\n");
    let run_file = json!({
        "v": 1, "agentName": "dev", "instanceId": "dev-1a2b3c4d", "gatewayUrl": null, "shutdownSecret": "run-secret-1",
        "timeoutSeconds": 60, "trigger": {"type": "webhook", "source": "github"}, "callDepth": 0,
    });
    bed.write("run.json", &run_file.to_string());
    let run_file = bed.path("run.json").display().to_string();
    let bed = bed.variable("AL_RUN_FILE", run_file);
    let ran = bed.run().expect_code(0);
    let plain = ran.plain();
    let tmp = bed.path("tmp").display().to_string();
    for expected in [
        format!("HOME={tmp}"),
        format!("AL_SIGNAL_DIR={tmp}/signals"),
        format!("PATH={}:{}", bed.path("bin").display(), std::env::var("PATH").unwrap()),
        "SHUTDOWN_SECRET=run-secret-1".into(),
        "AL_INSTANCE_ID=dev-1a2b3c4d".into(),
        "AL_TRIGGER_TYPE=webhook".into(),
        "GITHUB_TOKEN=ghp_0123456789".into(),
        "GH_TOKEN=ghp_0123456789".into(),
        "GIT_AUTHOR_EMAIL=bot@example.com".into(),
        tmp.clone(),
    ] {
        assert!(plain.contains(&expected.as_str()), "{expected} in {plain:#?}");
    }
    assert!(plain.iter().any(|line| line.starts_with("-rw------- ")), "{plain:#?}");
    for absent in ["AL_AGENT_CHILD", "AL_SECRET_", "leaked-other", "GATEWAY_URL", "sk-ant-unseen"] {
        assert!(!ran.stdout.contains(absent), "{absent} in {}", ran.stdout);
    }
    assert!(ran.brief().contains(&"info credentials loaded from volume {}".to_owned()));
    assert!(ran.brief().contains(&"info SSH key configured for git {}".to_owned()));
}

#[test]
fn git_gives_the_token_to_github_only() {
    let bed = Bed::new(&json!({"name": "dev", "credentials": ["github_token"]}));
    bed.write("credentials/github_token/default/token", "ghp_0123456789");
    bed.write(
        "static/test-script.sh",
        "for host in github.com evil.example github.com.evil.example; do
           echo \"host $host\"
           printf 'protocol=https\\nhost=%s\\n\\n' $host | git credential fill 2>/dev/null
         done; exit 0",
    );
    let ran = bed.run().expect_code(0);
    let passwords: Vec<_> =
        ran.plain().into_iter().filter(|line| line.starts_with("host ") || line.starts_with("password")).collect();
    assert_eq!(
        passwords,
        ["host github.com", "password=ghp_0123456789", "host evil.example", "host github.com.evil.example"]
    );
}

#[test]
fn signal_files_count_when_the_script_succeeds() {
    let ran =
        Bed::with_script("printf ' PR #42\\n' > $AL_SIGNAL_DIR/return; : > $AL_SIGNAL_DIR/rerun").run().expect_code(42);
    let brief = ran.brief();
    assert_eq!(
        brief[brief.len() - 3..],
        [
            r#"info signal-result {"type":"return","value":"PR #42"}"#,
            r#"info run completed, rerun requested {"outputLength":0}"#,
            r#"info signal-result {"type":"rerun"}"#,
        ]
    );
    let ran = Bed::with_script("echo 11 > $AL_SIGNAL_DIR/exit").run().expect_code(11);
    assert_eq!(ran.line("agent terminated with exit signal").fields["reason"], "Permission/access denied");
    let ran = Bed::with_script(": > $AL_SIGNAL_DIR/rerun; exit 7").run().expect_code(7);
    assert!(!ran.stdout.contains("signal-result"), "{}", ran.stdout);
}

#[test]
fn signal_files_of_an_earlier_run_do_not_count() {
    let bed = Bed::with_script("exit 0");
    bed.write("tmp/signals/exit", "12");
    bed.write("tmp/signals/rerun", "");
    bed.run().expect_code(0);
}

#[test]
fn a_prompt_too_long_for_a_variable_reaches_the_script() {
    let bed =
        Bed::with_script("test -z \"${PROMPT+set}\" && wc -c < \"$AL_PROMPT_FILE\" && stat -c %a \"$AL_PROMPT_FILE\"");
    bed.write("prompt.txt", &"x".repeat(200_000));
    bed.write("prompt.txt.1", &"y".repeat(100_000));
    let file = bed.path("prompt.txt").display().to_string();
    let ran = bed.variable("AL_PROMPT_FILE", file).run().expect_code(0);
    assert_eq!(ran.plain(), ["300000", "400"]);
}

#[test]
fn a_hundred_megabytes_pass_through_unharmed() {
    let bed = Bed::with_script("head -c 100000000 /dev/zero | tr '\\0' x; echo; echo end");
    let mut child = bed.command().spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let (mut buffer, mut count, mut tail) = (vec![0; 1 << 16], 0_usize, Vec::new());
    loop {
        let read = out.read(&mut buffer).unwrap();
        if read == 0 {
            break;
        }
        count += buffer[..read].iter().filter(|byte| **byte == b'x').count();
        tail.extend_from_slice(&buffer[..read]);
        tail.drain(..tail.len().saturating_sub(2000));
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!((100_000_000..100_000_010).contains(&count), "{count}");
    let tail = String::from_utf8(tail).unwrap();
    assert!(tail.contains("x\nend\n\n{\"_log\":true,\"level\":\"info\",\"msg\":\"run completed\""), "{tail}");
}

fn with_timeout(script: &str, seconds: &str) -> Bed {
    let bed = Bed::with_script(script);
    bed.write("static/timeout", seconds);
    bed
}

#[test]
fn the_time_limit_ends_a_script_that_ignores_sigterm_with_its_children() {
    let bed = with_timeout(
        "trap '' TERM INT HUP; sleep 60 & echo $! > child; (sleep 60; true) & : > $AL_SIGNAL_DIR/rerun; sleep 60; wait",
        "1",
    );
    let ran = bed.run().expect_code(124);
    assert!(ran.took < Duration::from_secs(4), "{:?}", ran.took);
    assert_eq!(ran.line("container timeout reached, self-terminating").fields["timeoutSeconds"], 1);
    wait_until("the child is gone", || !is_running(&bed.path("tmp/child")));
    assert!(!ran.stdout.contains("signal-result") && !ran.stdout.contains("token-usage"), "{}", ran.stdout);
}

#[test]
fn the_time_limit_holds_when_nobody_reads_the_output() {
    let bed = with_timeout("trap '' PIPE; while :; do echo yes; done", "1");
    let started = Instant::now();
    let mut child = bed.command().spawn().unwrap();
    // The pipe is open and full, as with a host that hangs.
    let out = child.stdout.take().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(124));
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    drop(out);
}

#[test]
fn the_limit_of_the_run_file_wins() {
    let bed = with_timeout("sleep 60", "3600");
    let run_file = json!({
        "v": 1, "agentName": "dev", "instanceId": "i", "gatewayUrl": null, "shutdownSecret": null,
        "timeoutSeconds": 1, "trigger": {"type": "manual", "source": null}, "callDepth": 0,
    });
    bed.write("run.json", &run_file.to_string());
    let file = bed.path("run.json").display().to_string();
    bed.variable("AL_RUN_FILE", file).run().expect_code(124);
}

/// Starts a run, sends a signal once the script has written `ready`, and waits for the end.
fn interrupt(bed: &Bed, with: Signal) -> Ran {
    assert!(std::process::Command::new("mkfifo").arg(bed.path("tmp/fifo")).status().unwrap().success());
    // Kept open for both, so that reading it neither fails nor ends.
    let _fifo = fs::OpenOptions::new().read(true).write(true).open(bed.path("tmp/fifo")).unwrap();
    let child = bed.command().spawn().unwrap();
    wait_until("the script is ready", || bed.path("tmp/ready").exists());
    let started = Instant::now();
    signal(&child, with);
    Ran::from_output(child.wait_with_output().unwrap(), started)
}

#[test]
fn sigterm_lets_the_script_clean_up_and_ends_with_143() {
    #[track_caller]
    fn case(with: Signal, name: &str) {
        let bed = Bed::with_script(&format!("trap 'echo cleaned > cleaned; exit 0' TERM; : > ready; {WAIT}"));
        let ran = interrupt(&bed, with).expect_code(143);
        assert!(ran.took < Duration::from_secs(2), "{:?}", ran.took);
        assert_eq!(bed.read("tmp/cleaned"), "cleaned\n");
        assert_eq!(ran.line("terminated by signal").fields["signal"], name);
        assert!(!ran.stdout.contains("run completed"), "{}", ran.stdout);
    }
    case(Signal::TERM, "SIGTERM");
    case(Signal::INT, "SIGINT");
}

#[test]
fn sigterm_does_not_wait_for_a_script_that_ignores_it() {
    let bed = Bed::with_script(&format!("trap '' TERM; echo $$ > pid; : > ready; {WAIT}"));
    let ran = interrupt(&bed, Signal::TERM).expect_code(143);
    assert!(ran.took >= Duration::from_secs(2) && ran.took < Duration::from_secs(5), "{:?}", ran.took);
    wait_until("the script is gone", || !is_running(&bed.path("tmp/pid")));
}

#[test]
fn start_up_errors_end_with_1_and_a_reason() {
    #[track_caller]
    fn case(bed: &Bed, expected: &[&str]) {
        let ran = bed.run().expect_code(1);
        let error = ran.line("container entry error");
        let text = error.fields["error"].as_str().unwrap();
        assert!(expected.iter().all(|part| text.contains(part)), "{text}");
        assert!(error.fields.contains_key("stack"));
    }
    let bed = Bed::with_script("exit 0");
    fs::remove_file(bed.path("static/agent-config.json")).unwrap();
    case(&bed, &["AGENT_CONFIG", "/app/static/"]);
    let bed = Bed::with_script("exit 0");
    bed.write("static/agent-config.json", "{");
    case(&bed, &["agent-config.json"]);
    case(&Bed::new(&json!({"name": "dev", "credentials": ["github_token"]})), &["no credentials available"]);
    let bed = Bed::new(&json!({"name": "dev", "credentials": ["github_token"]}));
    bed.write("credentials/github_token/default/token", "t");
    case(&bed, &["no model configured"]);
    let model = json!({"provider": "anthropic", "model": "claude-opus-5-5"});
    let bed = Bed::new(&json!({"name": "dev", "credentials": ["anthropic_key:team"], "model": model}));
    bed.write("credentials/github_token/default/token", "t");
    case(&bed, &["missing anthropic_key credential", "anthropic_key:team", "al doctor"]);
}

#[test]
fn the_configuration_may_come_from_variables() {
    let bed = Bed::with_script("exit 5");
    fs::remove_file(bed.path("static/agent-config.json")).unwrap();
    let config = json!({"name": "other", "credentials": [], "_agentsMd": "Do it."});
    let ran = bed.variable("AGENT_CONFIG", config.to_string()).run().expect_code(5);
    assert_eq!(ran.line("container starting").fields["agentName"], "other");
    assert!(!ran.stdout.contains("loaded static files"), "{}", ran.stdout);
}
