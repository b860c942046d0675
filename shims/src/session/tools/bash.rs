//! `bash`: one shell per call, in its own process group, with a bounded memory of its output (agent-session.md §7.4).
//!
//! Three things happen at once and are waited for together: output comes (a thread reads the pipe), the shell ends (a
//! thread waits for it), and time passes or the session is cancelled.

use std::io::{self, PipeReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, at, bounded, never, select};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};

use super::args::Args;
use super::{Answer, Context, Surroundings, ToolGroups, text};
use crate::env::Environment;

mod capture;
mod lines;
mod variables;

use capture::Capture;
use lines::Lines;

/// How long output is still read when the shell has ended but something it started holds the pipe.
const LINGER: Duration = Duration::from_millis(500);
/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// How long a process may take to vanish after SIGKILL before the call goes on without it.
const VANISH: Duration = Duration::from_secs(2);
/// Bytes per read.
const CHUNK: usize = 32 * 1024;
/// Pieces of output that wait to be taken; when there are more, the command waits.
const WAITING: usize = 4;
/// Stack of the two helper threads, which call nothing deep.
const STACK: usize = 128 * 1024;

pub(super) fn run(args: &Args, context: &Context, on_line: &mut dyn FnMut(&str)) -> Answer {
    if !context.dir.is_dir() {
        return Err(format!("Cannot run commands: the working directory {} does not exist", context.dir.display()));
    }
    let wanted = args.integer("timeout").and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0);
    let limit = [wanted, context.bash_timeout].into_iter().flatten().min();
    let shell = Shell::start(args.text("command"), context).map_err(|error| spawn_failure(&error))?;
    let mut capture = Capture::new(&context.tmp_dir);
    let mut lines = context.stream.then(Lines::default);
    let end = shell.wait(limit, context, &mut |bytes| {
        capture.push(bytes);
        if let Some(lines) = &mut lines {
            lines.push(bytes, on_line);
        }
    });
    if let Some(lines) = &mut lines {
        lines.end(on_line);
    }
    let printed = capture.finish(&context.secrets);
    let output = if printed.is_empty() { "(no output)" } else { &printed };
    match end {
        End::Exited(status) if status.success() => text(output),
        End::Exited(status) => Err(with_notice(output, &describe(status))),
        End::TimedOut => {
            Err(with_notice(&printed, &format!("Command timed out after {} seconds", limit.unwrap_or_default())))
        }
        End::Aborted => Err(with_notice(&printed, "Command aborted")),
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("Command exited with code {code}"),
        (None, Some(signal)) => format!("Command killed by signal {signal}"),
        (None, None) => format!("Command ended: {status}"),
    }
}

/// A text, a blank line, and a notice.
fn with_notice(text: &str, notice: &str) -> String {
    match text.strip_suffix('\n').unwrap_or(text) {
        "" => notice.to_owned(),
        text => format!("{text}\n\n{notice}"),
    }
}

fn spawn_failure(error: &io::Error) -> String {
    let hint = match Errno::from_io_error(error) {
        Some(Errno::TOOBIG) => ". Put long content into a file with write first",
        _ => "",
    };
    format!("Cannot start the shell: {error}{hint}")
}

/// Why a call is over.
enum End {
    Exited(ExitStatus),
    TimedOut,
    Aborted,
}

/// A running shell.
struct Shell {
    child: Child,
    group: Pid,
    groups: ToolGroups,
    /// Output; disconnected when nobody holds the pipe any more.
    output: Receiver<Vec<u8>>,
    /// Disconnected when the shell has ended.
    ended: Receiver<()>,
}

impl Shell {
    fn start(line: &str, context: &Context) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let shell = shell(&context.environment);
        let mut command = command(&shell, context);
        command.args(variables::arguments(line, &shell, &context.tmp_dir)).current_dir(&context.dir);
        context.environment.apply(&mut command);
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        let child = context.groups.spawn(&mut command)?;
        // The command holds our ends of the pipe.
        drop(command);
        let group = Pid::from_child(&child);
        let helpers = drain(reader).and_then(|output| Ok((output, watch(group)?)));
        match helpers {
            Ok((output, ended)) => Ok(Self { child, group, groups: context.groups.clone(), output, ended }),
            Err(error) => {
                context.groups.signal(group, Signal::KILL);
                reap(child, group, &context.groups)?;
                Err(error)
            }
        }
    }

    /// Hands out output until the call is over.
    fn wait(self, limit: Option<u64>, context: &Context, take: &mut dyn FnMut(&[u8])) -> End {
        let limit = limit.and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds)));
        let mut output = self.output;
        let mut ended = self.ended;
        let mut cancelled = context.cancel.done().clone();
        let mut stage = Stage::Running;
        let mut timer = limit.map_or_else(never, at);
        let (mut open, mut running, mut why) = (true, true, None);
        while open || running {
            select! {
                recv(output) -> bytes => match bytes {
                    Ok(bytes) => take(&bytes),
                    Err(_) => (open, output) = (false, never()),
                },
                recv(ended) -> _ => {
                    (running, ended, stage) = (false, never(), Stage::Lingering);
                    timer = at(Instant::now() + LINGER);
                }
                recv(cancelled) -> _ => {
                    cancelled = never();
                    if stage == Stage::Lingering {
                        break;
                    }
                    why = why.or(Some(End::Aborted));
                    if stage == Stage::Running && context.surroundings == Surroundings::Container {
                        self.groups.signal(self.group, Signal::TERM);
                        (stage, timer) = (Stage::Terminated, at(Instant::now() + GRACE));
                    } else {
                        self.groups.signal(self.group, Signal::KILL);
                        (stage, timer) = (Stage::Killed, at(Instant::now() + VANISH));
                    }
                }
                recv(timer) -> _ => match stage {
                    Stage::Running | Stage::Terminated => {
                        why = why.or(Some(End::TimedOut));
                        self.groups.signal(self.group, Signal::KILL);
                        (stage, timer) = (Stage::Killed, at(Instant::now() + VANISH));
                    }
                    Stage::Lingering | Stage::Killed => break,
                },
            }
        }
        if why.is_some() {
            // The shell may have ended at the first signal and left behind what ignores it.
            self.groups.signal(self.group, Signal::KILL);
        }
        match why {
            // Not even SIGKILL ended it; waiting for it here could take for ever.
            Some(why) if running => why,
            why => match (reap(self.child, self.group, &self.groups), why) {
                (_, Some(why)) => why,
                (Ok(status), None) => End::Exited(status),
                (Err(_), None) => End::Aborted,
            },
        }
    }
}

/// What the timer of a call means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The time limit.
    Running,
    /// Patience after SIGTERM.
    Terminated,
    /// Patience after SIGKILL.
    Killed,
    /// The shell has ended, something else holds the pipe.
    Lingering,
}

/// The shell, detached from whatever terminal there is.
fn command(shell: &Path, context: &Context) -> Command {
    if context.surroundings == Surroundings::Terminal
        && let Some(setsid) = find_program("setsid", &context.environment)
    {
        let mut command = Command::new(setsid);
        command.arg(shell);
        return command;
    }
    let mut command = Command::new(shell);
    command.process_group(0);
    command
}

/// `/bin/bash`, else `bash` on `PATH`, else `sh`.
fn shell(environment: &Environment) -> PathBuf {
    let usual = Path::new("/bin/bash");
    if usual.exists() {
        return usual.to_owned();
    }
    find_program("bash", environment).or_else(|| find_program("sh", environment)).unwrap_or_else(|| "/bin/sh".into())
}

fn find_program(name: &str, environment: &Environment) -> Option<PathBuf> {
    let directories = environment.get("PATH").unwrap_or_default().split(':').filter(|directory| !directory.is_empty());
    directories.map(|directory| Path::new(directory).join(name)).find(|program| program.is_file())
}

/// Reads a pipe to its end on a thread of its own.
///
/// When nobody takes the output any more, it is read on and dropped: what runs in the background must neither block on
/// a full pipe nor die of a closed one. The thread ends with the last process that holds the pipe.
fn drain(mut pipe: PipeReader) -> io::Result<Receiver<Vec<u8>>> {
    // Full: the thread waits, and with it the command.
    let (sender, receiver) = bounded(WAITING);
    let body = move || {
        let mut wanted = Some(sender);
        let mut chunk = vec![0; CHUNK];
        loop {
            match pipe.read(&mut chunk) {
                Ok(0) => return,
                Ok(count) => {
                    let taken = |sender: &Sender<Vec<u8>>| sender.send(chunk[..count].to_vec()).is_ok();
                    wanted = wanted.filter(taken);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    };
    thread::Builder::new().name("bash-output".into()).stack_size(STACK).spawn(body)?;
    Ok(receiver)
}

/// A channel that is disconnected when a child has ended. The child is left to be reaped by somebody else, so until
/// then its number stays taken and signals cannot hit a stranger.
fn watch(child: Pid) -> io::Result<Receiver<()>> {
    let (sender, receiver) = bounded(0);
    let body = move || {
        let _sender = sender;
        let ended = || waitid(WaitId::Pid(child), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        while ended().is_err_and(|error| error == Errno::INTR) {}
    };
    thread::Builder::new().name("bash-wait".into()).stack_size(STACK).spawn(body)?;
    Ok(receiver)
}

fn reap(mut child: Child, group: Pid, groups: &ToolGroups) -> io::Result<ExitStatus> {
    let status = child.wait();
    groups.reaped(group);
    status
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::super::tests::{call, context};
    use super::*;

    /// Far more than anything here takes, far less than the commands' own sleeps.
    const SOON: Duration = Duration::from_secs(10);

    #[track_caller]
    fn case(command: &str, expected: Result<&str, &str>) {
        let (_base, context) = context();
        let answer = call(&context, "bash", json!({"command": command}));
        assert_eq!(answer.as_ref().map(String::as_str).map_err(String::as_str), expected);
    }

    /// Waits until no process has this id any more.
    #[track_caller]
    fn wait_gone(pid: &str) {
        let start = Instant::now();
        let state = || fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        let alive = |stat: &str| stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']));
        while alive(&state()) {
            assert!(start.elapsed() < SOON, "{pid} is still there: {}", state());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until a file has content.
    #[track_caller]
    fn wait_content(file: &Path) -> String {
        let start = Instant::now();
        loop {
            match fs::read_to_string(file) {
                Ok(content) if content.ends_with('\n') => return content,
                _ => assert!(start.elapsed() < SOON, "{} stays empty", file.display()),
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn output_and_status_are_reported() {
        case("echo mock agent run", Ok("mock agent run\n"));
        case("printf a; printf b >&2; printf c", Ok("abc"));
        case("true", Ok("(no output)"));
        case("echo not found; exit 3", Err("not found\n\nCommand exited with code 3"));
        case("printf x >&2; false", Err("x\n\nCommand exited with code 1"));
        case("exit 7", Err("(no output)\n\nCommand exited with code 7"));
        case("kill -9 $$", Err("(no output)\n\nCommand killed by signal 9"));
        case("printf 'a\\377b\\0c'", Ok("a\u{FFFD}bc"));
        case("cat; echo end", Ok("end\n"));
        case("[ \"$(ps -o pgid= $$)\" -eq $$ ] && echo leader", Ok("leader\n"));
    }

    #[test]
    fn shells_get_directory_and_environment_and_nothing_else() {
        let (base, mut context) = context();
        context.environment =
            [("PATH", "/usr/bin:/bin"), ("HOME", "/tmp"), ("GREETING", "hello")].into_iter().collect();
        let answer = call(&context, "bash", json!({"command": "pwd; echo $GREETING; env | grep -c CARGO"}));
        assert_eq!(
            answer.unwrap_err(),
            format!("{}\nhello\n0\n\nCommand exited with code 1", base.path().canonicalize().unwrap().display())
        );
        call(&context, "bash", json!({"command": "cd /; GREETING=bye"})).unwrap();
        assert!(call(&context, "bash", json!({"command": "pwd; echo $GREETING"})).unwrap().ends_with("hello\n"));
        call(&context, "bash", json!({"command": "setenv GREETING bye"})).unwrap();
        assert_eq!(call(&context, "bash", json!({"command": "echo $GREETING"})).unwrap(), "bye\n");
        assert!(context.tmp_dir.join("env.sh").is_file());
    }

    #[test]
    fn commands_that_cannot_start_say_why() {
        let (base, mut context) = context();
        let start = |context: &Context, command: &str| call(context, "bash", json!({"command": command})).unwrap_err();
        assert!(start(&context, "echo a\0b").starts_with("Cannot start the shell: "));
        assert!(start(&context, &format!("echo {}", "x".repeat(200_000))).ends_with("with write first"));
        context.dir = base.path().join("gone");
        assert!(start(&context, "pwd").contains("gone does not exist"));
    }

    #[test]
    fn long_output_is_cut_and_saved() {
        let (_base, context) = context();
        let answer = call(&context, "bash", json!({"command": "seq 3000; exit 1"})).unwrap_err();
        let (body, notices) = answer.split_once("\n\n[").unwrap();
        assert_eq!(body, (1001..=3000).map(|line| line.to_string()).collect::<Vec<_>>().join("\n"));
        let file = notices.strip_prefix("Showing lines 1001-3000 of 3000. Full output: ").unwrap();
        let file = file.strip_suffix("]\n\nCommand exited with code 1").unwrap();
        let name = Path::new(file).file_name().unwrap().to_str().unwrap();
        let digits = name.strip_prefix("al-bash-").unwrap().strip_suffix(".log").unwrap();
        assert!(digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
        let all = (1..=3000).map(|line| format!("{line}\n")).collect::<String>();
        assert_eq!(fs::read_to_string(file).unwrap(), all);
    }

    #[test]
    fn endless_output_needs_little_memory_and_disk() {
        let resident = || -> u64 {
            let status = fs::read_to_string("/proc/self/statm").unwrap();
            status.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
        };
        let (_base, context) = context();
        let before = resident();
        let answer = call(&context, "bash", json!({"command": "yes 0123456789abcde | head -c 100000000"})).unwrap();
        assert!(resident() < before + 64_000_000, "grew from {before} to {}", resident());
        assert!(answer.len() < 52_000);
        let notice = answer.rsplit_once("\n\n").unwrap().1;
        assert!(notice.starts_with("[Showing lines 6248001-6250000 of 6250000. Full output: "), "{notice}");
        let file = notice.rsplit_once(": ").unwrap().1.strip_suffix(']').unwrap();
        assert!(fs::metadata(file).unwrap().len() < 20 * 1024 * 1024 + 200);
    }

    #[test]
    fn the_time_limit_kills_grandchildren() {
        let (base, context) = context();
        let start = Instant::now();
        let command = "echo started; (sleep 300 & echo $! > pid; wait)";
        let answer = call(&context, "bash", json!({"command": command, "timeout": 1}));
        assert_eq!(answer.unwrap_err(), "started\n\nCommand timed out after 1 seconds");
        assert!(start.elapsed() < SOON);
        wait_gone(&wait_content(&base.path().join("pid")));
        let answer = call(&context, "bash", json!({"command": "sleep 300", "timeout": "1.9"}));
        assert_eq!(answer.unwrap_err(), "Command timed out after 1 seconds");
    }

    #[test]
    fn without_a_positive_limit_there_is_none() {
        for limit in [json!(0), json!(-5), json!(null), json!(1e300)] {
            let (_base, context) = context();
            assert_eq!(call(&context, "bash", json!({"command": "echo x", "timeout": limit})).unwrap(), "x\n");
        }
    }

    #[test]
    fn a_background_process_does_not_hold_the_call_and_lives_until_the_end() {
        let (base, context) = context();
        let start = Instant::now();
        // It prints when the call is over: were the pipe full or closed, the process id would never come.
        let background =
            "(sleep 1; for i in $(seq 20000); do echo 0123456789; done; echo $BASHPID > pid; exec sleep 300) &";
        let answer = call(&context, "bash", json!({"command": format!("{background} echo now")}));
        assert_eq!(answer.unwrap(), "now\n");
        assert!(start.elapsed() < SOON);
        let pid = wait_content(&base.path().join("pid"));
        assert!(Path::new("/proc").join(pid.trim()).exists());
        context.groups.kill_all();
        wait_gone(&pid);
    }

    #[test]
    fn output_of_the_background_is_waited_for_half_a_second() {
        let (_base, context) = context();
        let answer = call(&context, "bash", json!({"command": "(sleep 0.1; echo late) & echo now"}));
        assert_eq!(answer.unwrap(), "now\nlate\n");
        let start = Instant::now();
        call(&context, "bash", json!({"command": "sleep 300 &"})).unwrap();
        let took = start.elapsed();
        assert!(took >= LINGER && took < SOON, "{took:?}");
        context.groups.kill_all();
    }

    #[test]
    fn a_shell_that_closes_its_output_is_still_waited_for() {
        case("exec >&- 2>&-; sleep 0.2; exit 4", Err("(no output)\n\nCommand exited with code 4"));
    }

    /// Cancels a call as soon as it has written its process id; the result text and how long the call went on.
    fn cancel(context: &Context, dir: &Path, command: &str) -> (String, Duration) {
        thread::scope(|scope| {
            let running = scope.spawn(|| call(context, "bash", json!({"command": command})));
            wait_content(&dir.join("pid"));
            let start = Instant::now();
            context.cancel.cancel();
            (running.join().unwrap().unwrap_err(), start.elapsed())
        })
    }

    #[test]
    fn cancelling_asks_first() {
        let (base, context) = context();
        let command = "trap 'echo cleaned; exit 1' TERM; echo $$ > pid; while :; do sleep 0.01; done";
        let (answer, took) = cancel(&context, base.path(), command);
        // The shell may also report the end of its `sleep`.
        assert!(answer.ends_with("cleaned\n\nCommand aborted"), "{answer}");
        assert!(took < GRACE, "{took:?}");
    }

    #[test]
    fn cancelling_kills_what_does_not_listen() {
        let (base, context) = context();
        let (answer, took) = cancel(&context, base.path(), "trap '' TERM; sleep 300 & echo $! > pid; wait; sleep 300");
        assert_eq!(answer, "Command aborted");
        assert!(took >= GRACE && took < SOON, "{took:?}");
        wait_gone(&wait_content(&base.path().join("pid")));
    }

    #[test]
    fn at_a_terminal_cancelling_kills_at_once() {
        let (base, mut context) = context();
        context.surroundings = Surroundings::Terminal;
        let command = "trap '' TERM; ps -o sid= $$ > sid; echo $$ > pid; sleep 300";
        let (answer, took) = cancel(&context, base.path(), command);
        assert_eq!(answer, "Command aborted");
        assert!(took < GRACE, "{took:?}");
        let pid = wait_content(&base.path().join("pid"));
        assert_eq!(wait_content(&base.path().join("sid")).trim(), pid.trim(), "it has a session of its own");
        wait_gone(&pid);
    }

    #[test]
    fn cancelling_while_variables_are_read_runs_no_command() {
        let (base, context) = context();
        let shown = base.path().display();
        fs::write(context.tmp_dir.join("env.sh"), format!("echo $$ > {shown}/pid; sleep 300")).unwrap();
        let (_, took) = cancel(&context, base.path(), "touch ran");
        assert!(took < SOON, "{took:?}");
        assert!(!base.path().join("ran").exists());
    }

    #[test]
    fn the_watchdog_ends_a_running_call() {
        let (base, context) = context();
        thread::scope(|scope| {
            let running = scope.spawn(|| call(&context, "bash", json!({"command": "echo $$ > pid; sleep 300"})));
            wait_content(&base.path().join("pid"));
            context.groups.close();
            assert_eq!(running.join().unwrap().unwrap_err(), "(no output)\n\nCommand killed by signal 9");
        });
        assert!(call(&context, "bash", json!({"command": "echo"})).unwrap_err().contains("the run is ending"));
    }

    #[test]
    fn another_shell_is_found_on_the_path() {
        let (base, _context) = context();
        let path = base.path().join("home");
        let environment: Environment = [("PATH", format!(":/nowhere:{}", path.display()))].into_iter().collect();
        assert_eq!(find_program("bash", &environment), None);
        fs::write(path.join("bash"), "").unwrap();
        assert_eq!(find_program("bash", &environment), Some(path.join("bash")));
    }
}
