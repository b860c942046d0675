//! One door for every program that `al` starts.
//!
//! A child never meets a shell, never waits for our input, never sees Ctrl-C typed at our terminal (it has a process
//! group of its own), and never blocks on a full pipe (both are drained by threads). Every call says how long it may
//! take.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Result;
use crossbeam_channel::{Receiver, bounded, select};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::text::{printable, shell_quote, tail};
use super::{Cancel, worker};

/// What is kept of each end of a captured stream; the middle of a longer one is dropped.
const CAPTURE_END_BYTES: usize = 64 * 1024;
/// Time between SIGTERM and SIGKILL when a child has to go.
const GRACE: Duration = Duration::from_secs(2);
/// How long a pipe may stay open after the child ended (something it started holds it).
const PIPE_GRACE: Duration = Duration::from_millis(500);
/// What an error shows of stderr.
const ERROR_TAIL_BYTES: usize = 2000;

/// How long a child may run.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// Killed afterwards.
    Within(Duration),
    /// No limit, for the reason given.
    None(&'static str),
}

/// A command line about to be run.
#[derive(Clone)]
pub struct Cmd {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, Option<OsString>)>,
    input: Option<Vec<u8>>,
    cancel: Option<Cancel>,
    capture_end_bytes: usize,
}

/// What a finished child left.
#[derive(Debug)]
pub struct Output {
    pub status: ExitStatus,
    /// Whole when short, else both ends with the cut marked.
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub took: Duration,
}

impl Output {
    /// stdout as text, trimmed.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }
}

/// Why a command did not succeed.
#[derive(Debug)]
pub struct CmdError {
    /// Program and first word of the arguments, `docker create`.
    pub what: String,
    pub reason: Reason,
    /// End of its stderr, printable, without notices.
    pub stderr: String,
}

/// What happened to a command.
#[derive(Debug)]
pub enum Reason {
    /// The program is not on `PATH`.
    NotFound,
    /// It could not be started for another reason.
    Start(io::Error),
    /// It ended with another status than 0.
    Status(ExitStatus),
    /// It did not end in time and was killed.
    TimedOut(Duration),
    /// The cancel token was used.
    Cancelled,
}

impl fmt::Display for CmdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = &self.what;
        match &self.reason {
            Reason::NotFound => {
                let program = what.split(' ').next().unwrap_or(what);
                return write!(f, "program `{program}` not found in PATH");
            }
            Reason::Start(error) => return write!(f, "cannot start `{what}`: {error}"),
            Reason::Cancelled => return write!(f, "`{what}` was interrupted"),
            Reason::TimedOut(limit) => write!(f, "`{what}` did not finish within {} s", limit.as_secs())?,
            Reason::Status(status) => match status.signal() {
                Some(signal) => write!(f, "`{what}` was killed by signal {signal}")?,
                None => write!(f, "`{what}` failed with exit status {}", status.code().unwrap_or(-1))?,
            },
        }
        if self.stderr.is_empty() { Ok(()) } else { write!(f, ": {}", self.stderr) }
    }
}

impl std::error::Error for CmdError {}

impl Cmd {
    /// A program from `PATH`. stdin is `/dev/null`, messages are in English.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            env: vec![("LC_ALL".into(), Some("C".into()))],
            input: None,
            cancel: None,
            capture_end_bytes: CAPTURE_END_BYTES,
        }
    }

    /// Adds an argument. Never a secret: others can read it.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable on top of the inherited environment.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), Some(value.as_ref().to_owned())));
        self
    }

    /// Takes a variable out of the inherited environment.
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), None));
        self
    }

    /// Bytes for its stdin.
    pub fn input(mut self, bytes: Vec<u8>) -> Self {
        self.input = Some(bytes);
        self
    }

    /// Ends it like a limit when the token is used.
    pub fn cancel(mut self, token: &Cancel) -> Self {
        self.cancel = Some(token.clone());
        self
    }

    /// How much of each end of its output is kept; by default 64 KiB.
    pub fn capture_end_bytes(mut self, bytes: usize) -> Self {
        self.capture_end_bytes = bytes;
        self
    }

    /// The command line, shell-quoted, for logs and tests.
    pub fn display(&self) -> String {
        let words = std::iter::once(&self.program).chain(&self.args);
        words.map(|word| shell_quote(&word.to_string_lossy()).into_owned()).collect::<Vec<_>>().join(" ")
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// A [`CmdError`] for everything but exit status 0.
    pub fn run(self, limit: Limit) -> Result<Output, CmdError> {
        let what = self.what();
        let output = self.run_any_status(limit)?;
        if output.status.success() {
            return Ok(output);
        }
        Err(CmdError { what, reason: Reason::Status(output.status), stderr: error_tail(&output.stderr) })
    }

    /// Runs it to its end, whatever the exit status.
    ///
    /// # Errors
    /// A [`CmdError`] when it could not be started, was killed by the limit, or was cancelled.
    pub fn run_any_status(self, limit: Limit) -> Result<Output, CmdError> {
        let end_bytes = self.capture_end_bytes;
        let mut captured = [Capture::new(end_bytes), Capture::new(end_bytes)];
        let (status, took) = self.run_with(limit, &mut |stream, bytes| {
            captured[stream as usize].push(bytes);
            Watch::Continue
        })?;
        let [stdout, stderr] = captured.map(Capture::into_bytes);
        Ok(Output { status, stdout, stderr, took })
    }

    /// Runs it to its end and hands out what it writes as it comes. The sink may extend a limit on silence: see
    /// [`Watch`].
    ///
    /// # Errors
    /// As [`Cmd::run_any_status`]; its `stderr` is empty because the sink had it.
    pub fn run_with(
        self,
        limit: Limit,
        sink: &mut dyn FnMut(Pipe, &[u8]) -> Watch,
    ) -> Result<(ExitStatus, Duration), CmdError> {
        let what = self.what();
        let fail = |reason| CmdError { what: what.clone(), reason, stderr: String::new() };
        let started = Instant::now();
        let cancel = self.cancel.clone().unwrap_or_default();
        let mut child = self.spawn()?;
        let (chunks, exited) = watch(&mut child).map_err(|error| fail(Reason::Start(io::Error::other(error))))?;
        let deadline = match limit {
            Limit::Within(duration) => Some(started + duration),
            Limit::None(_) => None,
        };
        let mut silence_deadline: Option<(Instant, Duration)> = None;
        let mut stopped: Option<Reason> = None;
        let no_chunks = crossbeam_channel::never();
        let mut open_pipes = 2;
        let mut has_exited = false;
        let mut kill_at: Option<Instant> = None;
        let mut pipes_until: Option<Instant> = None;
        while !(has_exited && (open_pipes == 0 || pipes_until.is_some_and(|until| Instant::now() >= until))) {
            let next = [deadline.filter(|_| stopped.is_none()), kill_at, pipes_until]
                .into_iter()
                .chain([silence_deadline.filter(|_| stopped.is_none()).map(|(at, _)| at)])
                .flatten()
                .min();
            let timer = next.map_or_else(crossbeam_channel::never, crossbeam_channel::at);
            let (never_cancelled, never_exits) = (crossbeam_channel::never(), crossbeam_channel::never());
            let cancelled = if stopped.is_none() { cancel.done() } else { &never_cancelled };
            let ended = if has_exited { &never_exits } else { &exited };
            // Closed pipes make their channel ready for ever.
            let pending = if open_pipes > 0 { &chunks } else { &no_chunks };
            select! {
                recv(pending) -> chunk => match chunk {
                    Ok((_, bytes)) if bytes.is_empty() => open_pipes -= 1,
                    Ok((pipe, bytes)) => match sink(pipe, &bytes) {
                        Watch::Continue => {}
                        Watch::SilenceFor(limit) => silence_deadline = Some((Instant::now() + limit, limit)),
                    },
                    Err(_) => open_pipes = 0,
                },
                recv(ended) -> _ => {
                    has_exited = true;
                    kill_at = None;
                    pipes_until = Some(Instant::now() + PIPE_GRACE);
                }
                recv(cancelled) -> _ => {
                    stopped = Some(Reason::Cancelled);
                    kill_at = Some(terminate(&child));
                }
                recv(timer) -> _ => {
                    let now = Instant::now();
                    if kill_at.is_some_and(|at| now >= at) {
                        signal(&child, Signal::KILL);
                        kill_at = None;
                    } else if stopped.is_none() && !has_exited {
                        let silent = silence_deadline.filter(|(at, _)| now >= *at).map(|(_, limit)| limit);
                        if let Some(limit) = silent.or_else(|| deadline.filter(|at| now >= *at).map(|at| at - started)) {
                            stopped = Some(Reason::TimedOut(limit));
                            kill_at = Some(terminate(&child));
                        }
                    }
                }
            }
        }
        // The watching thread looked without reaping: until here the pid was certainly ours to signal.
        let status = child.wait().map_err(|error| fail(Reason::Start(error)))?;
        match stopped {
            Some(reason) => Err(fail(reason)),
            None => Ok((status, started.elapsed())),
        }
    }

    /// Starts it with piped stdout and stderr and leaves everything else to the caller, who must drain both and wait.
    ///
    /// # Errors
    /// A [`CmdError`] when it cannot be started.
    pub fn spawn(self) -> Result<Child, CmdError> {
        let what = self.what();
        let mut command = Command::new(&self.program);
        command.args(&self.args).process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(if self.input.is_some() { Stdio::piped() } else { Stdio::null() });
        for (name, value) in &self.env {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let mut child = command.spawn().map_err(|error| {
            let reason = if error.kind() == io::ErrorKind::NotFound { Reason::NotFound } else { Reason::Start(error) };
            CmdError { what: what.clone(), reason, stderr: String::new() }
        })?;
        if let (Some(bytes), Some(mut stdin)) = (self.input, child.stdin.take()) {
            // On a thread, because the child may write before it has read everything. A child that does not want the
            // rest closes its end; its exit status says whether that was an error.
            let feed = move || {
                let _ = stdin.write_all(&bytes);
            };
            worker::spawn("stdin", feed).map_err(|error| CmdError {
                what,
                reason: Reason::Start(io::Error::other(error)),
                stderr: String::new(),
            })?;
        }
        Ok(child)
    }

    fn what(&self) -> String {
        let first = self.args.first().map(|arg| format!(" {}", arg.to_string_lossy())).unwrap_or_default();
        format!("{}{first}", self.program.to_string_lossy())
    }
}

/// Which of a child's pipes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pipe {
    Stdout = 0,
    Stderr = 1,
}

/// What a sink wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    Continue,
    /// Kill the child when it writes nothing for this long from now.
    SilenceFor(Duration),
}

/// Sends a signal to a child's process group; nothing happens when it is gone. Only before the child was waited for.
pub fn signal(child: &Child, signal: Signal) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(pid, signal);
    }
}

fn terminate(child: &Child) -> Instant {
    signal(child, Signal::TERM);
    Instant::now() + GRACE
}

type Chunks = Receiver<(Pipe, Vec<u8>)>;

/// Starts the threads that drain the pipes and the one that sees the end. An empty chunk is the end of a pipe.
fn watch(child: &mut Child) -> Result<(Chunks, Receiver<()>)> {
    let (sender, chunks) = bounded(16);
    let stdout = child.stdout.take().map(|pipe| (Pipe::Stdout, Box::new(pipe) as Box<dyn Read + Send>));
    let stderr = child.stderr.take().map(|pipe| (Pipe::Stderr, Box::new(pipe) as Box<dyn Read + Send>));
    for (pipe, mut source) in [stdout, stderr].into_iter().flatten() {
        let sender = sender.clone();
        worker::spawn("pipe", move || {
            let mut buffer = vec![0; 16 * 1024];
            loop {
                match source.read(&mut buffer) {
                    Ok(count) if count > 0 => {
                        if sender.send((pipe, buffer[..count].to_vec())).is_err() {
                            return;
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    _ => {
                        let _ = sender.send((pipe, Vec::new()));
                        return;
                    }
                }
            }
        })?;
    }
    let (exit_sender, exited) = bounded(1);
    let pid = child.id();
    worker::spawn("wait", move || {
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            while let Err(rustix::io::Errno::INTR) =
                waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
            {}
        }
        let _ = exit_sender.send(());
    })?;
    Ok((chunks, exited))
}

/// Both ends of a stream.
struct Capture {
    end_bytes: usize,
    head: Vec<u8>,
    tail: Vec<u8>,
    dropped: u64,
}

impl Capture {
    fn new(end_bytes: usize) -> Self {
        Self { end_bytes, head: Vec::new(), tail: Vec::new(), dropped: 0 }
    }

    fn push(&mut self, bytes: &[u8]) {
        let to_head = bytes.len().min(self.end_bytes - self.head.len());
        self.head.extend_from_slice(&bytes[..to_head]);
        self.tail.extend_from_slice(&bytes[to_head..]);
        if self.tail.len() > 2 * self.end_bytes {
            let excess = self.tail.len() - self.end_bytes;
            self.tail.drain(..excess);
            self.dropped += excess as u64;
        }
    }

    fn into_bytes(mut self) -> Vec<u8> {
        if self.tail.len() > self.end_bytes {
            let excess = self.tail.len() - self.end_bytes;
            self.tail.drain(..excess);
            self.dropped += excess as u64;
        }
        if self.dropped > 0 {
            self.head.extend_from_slice(format!("\n[… {} bytes left out …]\n", self.dropped).as_bytes());
        }
        self.head.append(&mut self.tail);
        self.head
    }
}

/// The part of stderr that belongs into an error: its end, without notices that are no errors.
pub fn error_tail(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let relevant = |line: &&str| !line.starts_with("DEPRECATED:") && !line.starts_with("WARNING:");
    let kept = text.lines().filter(relevant).collect::<Vec<_>>().join("\n");
    printable(tail(kept.trim(), ERROR_TAIL_BYTES)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Cmd {
        Cmd::new("sh").args(["-c", script])
    }

    const SOON: Limit = Limit::Within(Duration::from_secs(10));

    #[test]
    fn gives_output_and_status() {
        let output = sh("cat; echo e >&2; exit 3").input(b"hello".to_vec()).run_any_status(SOON).unwrap();
        assert_eq!((output.status.code(), output.text()), (Some(3), "hello".to_owned()));
        assert_eq!(output.stderr, b"e\n");
    }

    #[test]
    fn errors_name_command_status_and_stderr() {
        let error = sh("echo 'DEPRECATED: old' >&2; echo broken >&2; exit 4").run(SOON).unwrap_err();
        assert_eq!(error.to_string(), "`sh -c` failed with exit status 4: broken");
        let error = Cmd::new("al-no-such-program").run(SOON).unwrap_err();
        assert_eq!(error.to_string(), "program `al-no-such-program` not found in PATH");
    }

    #[test]
    fn the_limit_kills_grandchildren_too() {
        let started = Instant::now();
        let error = sh("sleep 60 & sleep 60").run(Limit::Within(Duration::from_millis(50))).unwrap_err();
        assert!(matches!(error.reason, Reason::TimedOut(_)));
        assert!(started.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn silence_can_be_limited() {
        let quick = |_: Pipe, _: &[u8]| Watch::SilenceFor(Duration::from_millis(50));
        let error = sh("echo x; sleep 60").run_with(SOON, &mut { quick }).unwrap_err();
        assert!(matches!(error.reason, Reason::TimedOut(limit) if limit == Duration::from_millis(50)));
    }

    #[test]
    fn cancelling_ends_it() {
        let token = Cancel::new();
        token.cancel();
        let error = sh("sleep 60").cancel(&token).run(SOON).unwrap_err();
        assert!(matches!(error.reason, Reason::Cancelled));
    }

    #[test]
    fn a_process_left_behind_does_not_hold_the_caller() {
        let output = sh("sleep 60 & echo $!").run(SOON).unwrap();
        let pid = Pid::from_raw(output.text().parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
    }

    #[test]
    fn both_ends_of_long_output_are_kept() {
        let output = sh("echo first; head -c 1000000 /dev/zero | tr '\\0' x; echo; echo last").run(SOON).unwrap();
        let text = output.text();
        assert!(text.starts_with("first\n") && text.ends_with("\nlast") && text.contains("bytes left out"));
        assert!(text.len() < 3 * CAPTURE_END_BYTES);
    }
}
