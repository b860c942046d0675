//! `al` as a user starts it: arguments, a small environment, three streams, an exit status.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use action_llama::base::text::shell_quote;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::project::{Project, tail};
use super::pty::Pty;
use super::tty::Tty;
use super::wait;

/// Width of a terminal that nobody says anything about.
const COLUMNS: u16 = 100;

/// How long a run of a test may take; whatever takes longer hangs.
const LIMIT: Duration = Duration::from_secs(90);

/// Whether SIGHUP means something to commands that are started from here: whoever is started with it ignored (`nohup`)
/// goes on ignoring it, and so do its children.
pub(crate) fn hangups_count() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap().trim();
    u64::from_str_radix(ignored, 16).unwrap() & 1 == 0
}

/// A command about to be run.
pub(crate) struct Al<'p> {
    project: &'p Project,
    command: Command,
    input: Input,
    /// Standard output is closed when it has written this.
    close_after: Option<&'static str>,
    /// Nobody reads what it writes before this is true.
    reading: Arc<AtomicBool>,
}

enum Input {
    Null,
    Bytes(Vec<u8>),
    /// A pipe that nobody writes to and that stays open.
    Open,
}

/// A command that is running.
pub(crate) struct Running<'p> {
    project: &'p Project,
    line: String,
    child: Child,
    stdin: Option<ChildStdin>,
    started: Instant,
    streams: [Arc<Mutex<Vec<u8>>>; 2],
    readers: Vec<JoinHandle<()>>,
    reading: Arc<AtomicBool>,
}

/// What came of a command.
pub(crate) struct Done {
    /// Exit status; a signal's number, negative, when it killed the process.
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

impl<'p> Al<'p> {
    pub(super) fn new(project: &'p Project, args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_al"));
        command.args(args);
        Self::of(project, command)
    }

    fn of(project: &'p Project, mut command: Command) -> Self {
        command.current_dir(project.root()).env_clear();
        command.env("PATH", std::env::var_os("PATH").expect("PATH is set"));
        command.env("HOME", project.home()).env("TMPDIR", project.temp()).env("TERM", "dumb");
        Self { project, command, input: Input::Null, close_after: None, reading: Arc::new(true.into()) }
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Input::Bytes(bytes.into());
        self
    }

    /// Gives it a pipe as standard input that nobody writes to and that stays open as long as it runs.
    pub(crate) fn open_stdin(mut self) -> Self {
        self.input = Input::Open;
        self
    }

    /// Has its reader go away after this text.
    pub(crate) fn read_until(mut self, text: &'static str) -> Self {
        self.close_after = Some(text);
        self
    }

    /// Leaves what it writes unread until [`Running::read_on`].
    pub(crate) fn unread(self) -> Self {
        self.reading.store(false, Ordering::SeqCst);
        self
    }

    /// Starts it through another program, whose arguments come before it.
    pub(crate) fn through(self, program: &str, args: &[&str], al: &OsStr) -> Self {
        let mut command = Command::new(program);
        command.args(args).arg(al).args(self.command.get_args());
        Self { input: self.input, ..Self::of(self.project, command) }
    }

    /// Starts it on a terminal of its own, so many columns wide, with everything it writes on standard output.
    pub(crate) fn on_terminal(self, columns: u32) -> Self {
        let words = std::iter::once(self.command.get_program()).chain(self.command.get_args());
        let words: Vec<String> = words.map(|word| shell_quote(word.to_str().unwrap()).into_owned()).collect();
        let line = format!("stty cols {columns} -echo; exec {}", words.join(" "));
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        let on_terminal = Self::of(self.project, command).env("TERM", "xterm").env("SHELL", "/bin/sh");
        Self { input: Input::Open, ..on_terminal }
    }

    /// Has it lead a session of its own, for [`Al::on_pty`]: there Ctrl-C is a signal as it is for people.
    pub(crate) fn in_own_session(self) -> Self {
        self.through("setsid", &["--ctty"], OsStr::new(env!("CARGO_BIN_EXE_al")))
    }

    /// Starts it on a terminal of its own, with keystrokes in and a screen out.
    pub(crate) fn on_pty(self) -> Pty<'p> {
        self.on_pty_of(COLUMNS)
    }

    /// The same, on a terminal so many columns wide.
    pub(crate) fn on_pty_of(self, columns: u16) -> Pty<'p> {
        let al = self.env("TERM", "xterm");
        Pty::start(al.project, al.command, columns)
    }

    /// The same, on a terminal that can only print.
    pub(crate) fn on_dumb_pty(self) -> Pty<'p> {
        Pty::start(self.project, self.command, COLUMNS)
    }

    /// Starts it on a terminal that controls it, as that of a login does, with a screen of so many rows and columns.
    pub(crate) fn on_tty(mut self, rows: u16, columns: u16) -> Tty<'p> {
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(self.command.get_program()).args(self.command.get_args()).env_clear();
        command.envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("TERM", "xterm");
        command.current_dir(self.project.root());
        self.command = command;
        Tty::start(self.project, self.command, rows, columns)
    }

    /// Starts it.
    pub(crate) fn start(mut self) -> Running<'p> {
        let words = std::iter::once(self.command.get_program()).chain(self.command.get_args());
        let line =
            words.map(|word| word.to_string_lossy().chars().take(300).collect()).collect::<Vec<String>>().join(" ");
        let stdin = if matches!(self.input, Input::Null) { Stdio::null() } else { Stdio::piped() };
        self.command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().unwrap_or_else(|error| panic!("start {line}: {error}"));
        let mut stdin = child.stdin.take();
        if let Input::Bytes(bytes) = self.input {
            let mut pipe = stdin.take().expect("stdin is a pipe");
            // It is free not to read its input.
            thread::spawn(move || drop(pipe.write_all(&bytes)));
        }
        let streams: [Arc<Mutex<Vec<u8>>>; 2] = Default::default();
        let pipes: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().expect("a pipe")), Box::new(child.stderr.take().expect("a pipe"))];
        let readers = pipes.into_iter().zip(&streams).map(|(mut pipe, stream)| {
            let (stream, last, reading) = (Arc::clone(stream), self.close_after, Arc::clone(&self.reading));
            thread::spawn(move || {
                while !reading.load(Ordering::SeqCst) {
                    thread::sleep(Duration::from_millis(5));
                }
                let mut buffer = [0; 16 * 1024];
                while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                    let mut stream = stream.lock().unwrap();
                    stream.extend_from_slice(&buffer[..count]);
                    if last.is_some_and(|last| String::from_utf8_lossy(&stream).contains(last)) {
                        return;
                    }
                }
            })
        });
        let readers = readers.collect();
        Running {
            project: self.project,
            line,
            child,
            stdin,
            started: Instant::now(),
            streams,
            readers,
            reading: self.reading,
        }
    }

    /// Runs it to its end.
    #[track_caller]
    pub(crate) fn run(self) -> Done {
        self.start().finish()
    }
}

impl Running<'_> {
    /// What it has written so far, the streams one after the other.
    pub(crate) fn output(&self) -> String {
        self.streams.iter().map(|stream| String::from_utf8_lossy(&stream.lock().unwrap()).into_owned()).collect()
    }

    /// Waits until it has written this.
    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) -> &Self {
        wait::within(LIMIT, &format!("{text:?} in the output of `{}`", self.line), || {
            let has_ended = self.readers.iter().all(JoinHandle::is_finished);
            let output = self.output();
            if output.contains(text) {
                return Ok(());
            }
            assert!(!has_ended, "{text:?} is not in the output of `{}`: {output}", self.line);
            Err(format!("{} bytes of output", output.len()))
        });
        self
    }

    /// Reads what was left [`Al::unread`].
    pub(crate) fn read_on(&self) {
        self.reading.store(true, Ordering::SeqCst);
    }

    /// Types this on its terminal, or writes it into its open standard input.
    pub(crate) fn type_in(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("standard input is open");
        stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush()).expect("it reads");
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it is running");
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Done {
        let line = self.line.clone();
        let status = wait::within(LIMIT, &format!("end of `{line}`"), || {
            self.child.try_wait().unwrap().ok_or("it is still running")
        });
        let took = self.started.elapsed();
        // Something that it left running may still hold the pipes.
        let deadline = Instant::now() + Duration::from_secs(2);
        while self.readers.iter().any(|reader| !reader.is_finished()) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        let done = Done {
            status: status.code().unwrap_or_else(|| -status.signal().unwrap_or_default()),
            stdout: String::from_utf8_lossy(&self.streams[0].lock().unwrap()).into_owned(),
            stderr: String::from_utf8_lossy(&self.streams[1].lock().unwrap()).into_owned(),
            took,
        };
        self.project.note(&format!(
            "=== {line}\n--- status {} after {took:.1?}\n--- stdout\n{}\n--- stderr\n{}\n",
            done.status,
            tail(&done.stdout),
            tail(&done.stderr)
        ));
        done
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let output = self.output();
            self.project.note(&format!("=== {} (never ended)\n--- output\n{}\n", self.line, tail(&output)));
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Done {
    /// Fails unless it ended with this status.
    #[track_caller]
    pub(crate) fn expect(&self, status: i32) -> &Self {
        assert_eq!(self.status, status, "exit status");
        self
    }

    /// The last line of standard output.
    pub(crate) fn last_line(&self) -> &str {
        self.stdout.lines().last().unwrap_or_default()
    }

    /// The lines of `--json`; every line has to be an object with an `event`.
    #[track_caller]
    pub(crate) fn events(&self) -> Vec<Value> {
        assert!(self.stdout.is_empty() || self.stdout.ends_with('\n'), "the last line has an end");
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let events: Vec<Value> = self.stdout.lines().map(parse).collect();
        assert!(events.iter().all(|event| event["event"].is_string()));
        events
    }

    /// The events of a kind.
    #[track_caller]
    pub(crate) fn events_of(&self, kind: &str) -> Vec<Value> {
        self.events().into_iter().filter(|event| event["event"] == kind).collect()
    }

    /// The result line of `--json`, which has to be the last and the only one.
    #[track_caller]
    pub(crate) fn result(&self) -> Value {
        let events = self.events();
        assert_eq!(events.iter().filter(|event| event["event"] == "result").count(), 1, "result lines");
        events.last().filter(|event| event["event"] == "result").expect("the last line is the result").clone()
    }

    /// Texts that the agent wrote to its standard output.
    #[track_caller]
    pub(crate) fn said(&self) -> Vec<String> {
        let lines = self.events_of("log").into_iter().filter(|entry| entry["msg"] == "output");
        lines.map(|entry| entry["text"].as_str().unwrap_or_default().to_owned()).collect()
    }
}
