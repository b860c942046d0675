//! `al-agent` as a process: as PID 1, closed to what it starts, its command line, what it costs.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::agent_bed::{Bed, Ran, wait_until};

#[test]
fn as_pid_1_it_ends_with_the_status_of_the_run() {
    #[track_caller]
    fn case(script: &str, code: i32) {
        Ran::of(Bed::with_script(script).command_as_pid_1()).expect_code(code);
    }
    case("test $PPID != 1 && exit 3", 3);
    case("kill -9 $PPID", 137);
    case(": > $AL_SIGNAL_DIR/rerun", 42);
}

#[test]
fn orphans_do_not_stay_as_zombies() {
    let script = "
        n=0
        while [ $n -lt 100 ]; do (sh -c 'exit 0' & exit 0); n=$((n + 1)); done
        # Orphans that end after their parents are PID 1's to reap.
        tries=0
        while [ $tries -lt 200 ]; do
            zombies=$(cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z ')
            [ \"$zombies\" = 0 ] && break
            sleep 0.05
            tries=$((tries + 1))
        done
        echo zombies=$zombies";
    let ran = Ran::of(Bed::with_script(script).command_as_pid_1()).expect_code(0);
    assert_eq!(ran.plain(), ["zombies=0"]);
}

/// The child of a process.
fn child_of(pid: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

/// PID 1 below `unshare`, and the worker below it, as numbered outside.
fn supervisor_and_worker(unshare: &Child) -> (u32, u32) {
    let supervisor = child_of(unshare.id()).unwrap();
    (supervisor, child_of(supervisor).unwrap())
}

#[test]
fn pid_1_passes_sigterm_on() {
    let bed = Bed::with_script(": > ready; sleep 60");
    let child = bed.command_as_pid_1().spawn().unwrap();
    wait_until("the script is ready", || bed.path("tmp/ready").exists());
    let (supervisor, _) = supervisor_and_worker(&child);
    let pid = rustix::process::Pid::from_raw(supervisor.try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    let ran = Ran::from_output(child.wait_with_output().unwrap(), Instant::now()).expect_code(143);
    assert_eq!(ran.line("terminated by signal").fields["signal"], "SIGTERM");
}

#[test]
fn what_it_starts_can_neither_read_nor_impersonate_it() {
    let attack = "
        cat /proc/$PPID/environ && echo environ-open
        cat /proc/$PPID/maps > /dev/null && echo maps-open
        echo forged > /proc/$PPID/fd/1 && echo stdout-open
        grep NoNewPrivs /proc/self/status | tr -d '\\t'
        exit 0";
    let bed = Bed::with_script(attack).variable("AL_SECRET_a__default__token", "secret-of-the-run");
    let program = bed.path("al-agent");
    fs::copy(env!("AL_BIN_AL_AGENT"), &program).unwrap();
    let mut command = Command::new(program);
    bed.dress(&mut command);
    if rustix::process::geteuid().is_root() {
        // Root may look into everything; in a container nobody is root.
        bed.open_for(1000);
        command.uid(1000).gid(1000);
    }
    let ran = Ran::of(command).expect_code(0);
    assert_eq!(ran.plain(), ["NoNewPrivs:1"], "{}", ran.stderr);
    assert_eq!(ran.stderr.matches("Permission denied").count(), 3, "{}", ran.stderr);
}

#[test]
fn the_command_line() {
    #[track_caller]
    fn case(arguments: &[&str], code: i32, stdout: &str, stderr: &str) {
        let ran = Ran::of({
            let mut command = Command::new(env!("AL_BIN_AL_AGENT"));
            command.args(arguments).stdin(Stdio::null());
            command
        });
        assert_eq!(ran.code(), code);
        assert!(ran.stdout.starts_with(stdout) && ran.stdout.is_empty() == stdout.is_empty(), "{}", ran.stdout);
        assert!(ran.stderr.starts_with(stderr) && ran.stderr.is_empty() == stderr.is_empty(), "{}", ran.stderr);
    }
    case(&["--version"], 0, concat!(env!("CARGO_PKG_VERSION"), " ("), "");
    case(&["run"], 9, "", "usage: al-agent");
    case(&["check", "it"], 9, "", "usage: al-agent");
}

fn check(bed: &Bed, code: i32) -> Value {
    let mut command = bed.command();
    command.arg("check");
    let ran = Ran::of(command).expect_code(code);
    serde_json::from_str(&ran.stdout).unwrap()
}

#[test]
fn check_finds_model_and_key_without_a_request() {
    let model = json!({"provider": "anthropic", "model": "claude-opus-4-6", "thinkingLevel": "low"});
    let bed = Bed::new(&json!({"name": "dev", "credentials": [], "model": model}));
    let answer = check(&bed, 1);
    assert_eq!((&answer["ok"], &answer["credential"]), (&json!(false), &json!("missing")), "{answer}");
    bed.write("credentials/anthropic_key/default/token", "sk-ant-api-0123456789");
    let answer = check(&bed, 0);
    let keys: Vec<_> = answer.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        ["ok", "provider", "model", "api", "baseUrl", "contextWindow", "maxTokens", "thinking", "credential"]
    );
    assert_eq!(answer["ok"], true);
    assert_eq!(answer["api"], "anthropic");
    assert_eq!(answer["baseUrl"], "https://api.anthropic.com");
    assert_eq!(answer["thinking"], "low");
    assert_eq!(answer["credential"], "found");
    assert!(answer["contextWindow"].as_u64().is_some_and(|tokens| tokens >= 200_000), "{answer}");
}

#[test]
fn check_hides_name_and_password_of_a_url() {
    let url = "http://ann:hunter2pw@127.0.0.1:1/v1";
    let model = json!({"provider": "custom", "model": "m", "baseUrl": url});
    let bed = Bed::new(&json!({"name": "dev", "credentials": [], "model": model}));
    assert_eq!(check(&bed, 0)["baseUrl"], "http://***@127.0.0.1:1/v1");
}

#[test]
fn check_says_what_is_wrong_with_the_model() {
    let model = json!({"provider": "anthropic", "model": "m", "thinkingLevel": "max"});
    let bed = Bed::new(&json!({"name": "dev", "credentials": [], "model": model}));
    bed.write("credentials/anthropic_key/default/token", "sk-ant-api-0123456789");
    let answer = check(&bed, 1);
    assert!(answer["error"].as_str().unwrap().contains("model.thinkingLevel = \"max\""), "{answer}");
}

/// Kilobytes of memory that a process would give back.
fn pss_kb(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = rollup.lines().find(|line| line.starts_with("Pss:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
#[ignore = "needs root: the memory maps of these processes are closed to others"]
fn both_processes_are_small_while_a_script_waits() {
    let bed = Bed::with_script(": > ready; sleep 60");
    let mut child = bed.command_as_pid_1().spawn().unwrap();
    wait_until("the script is ready", || bed.path("tmp/ready").exists());
    let (supervisor, worker) = supervisor_and_worker(&child);
    let sizes = [pss_kb(supervisor), pss_kb(worker)];
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(sizes.iter().sum::<u64>() <= 6 << 10, "{sizes:?} kB");
}

#[test]
fn a_run_that_does_nothing_takes_no_time() {
    let bed = Bed::with_script("exit 0");
    let fastest = (0..5).map(|_| Ran::of(bed.command_as_pid_1()).expect_code(0).took).min().unwrap();
    assert!(fastest < Duration::from_millis(200), "{fastest:?}");
}
