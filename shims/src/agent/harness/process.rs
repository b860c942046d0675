//! The program while it runs: its prompt goes in, its lines come out, and it leaves nothing running.

use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::plan::Plan;

/// Longest line; what is longer comes in pieces.
const LINE: usize = 16 << 20;
/// How long output is still read when the program has ended but something it started holds the pipe.
const LINGER: Duration = Duration::from_millis(500);
/// Lines that may wait; when there are more, the program waits.
const WAITING: usize = 2;
const STACK: usize = 128 << 10;

/// What a program does.
pub(super) enum Happening<'l> {
    /// A line on stdout, with its end.
    Printed(&'l [u8]),
    /// A line on stderr.
    Complained(&'l [u8]),
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    Code(i32),
    Signal(i32),
}

impl Exit {
    /// As a shell counts it.
    pub(super) fn status(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

enum Event {
    Out(Vec<u8>),
    Err(Vec<u8>),
    /// One of the two pipes is at its end.
    Closed,
    Exited,
}

/// The running program.
pub(super) struct Process {
    child: Child,
    group: Pid,
    events: Receiver<Event>,
}

impl Process {
    /// Starts it in a process group of its own, so that it can be ended together with what it has started.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn start(plan: &Plan) -> Result<Self> {
        let mut command = Command::new(&plan.argv[0]);
        plan.environment.apply(&mut command);
        let stdin = if plan.stdin.is_some() { Stdio::piped() } else { Stdio::null() };
        command.args(&plan.argv[1..]).current_dir(&plan.dir).process_group(0);
        let mut child = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let group = Pid::from_child(&child);
        let (sender, events) = bounded(WAITING);
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (stdin, text) = (child.stdin.take(), plan.stdin.clone());
        let helpers = || -> Result<()> {
            read(stdout.context("stdout is piped")?, Event::Out, sender.clone())?;
            read(stderr.context("stderr is piped")?, Event::Err, sender.clone())?;
            if let (Some(mut stdin), Some(text)) = (stdin, text) {
                // A program that does not want to hear everything is free to.
                helper("harness-prompt", move || drop(stdin.write_all(text.as_bytes())))?;
            }
            helper("harness-wait", move || {
                let ended = || waitid(WaitId::Pid(group), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
                while ended().is_err_and(|error| error == Errno::INTR) {}
                let _ = sender.send(Event::Exited);
            })
        };
        match helpers() {
            Ok(()) => Ok(Self { child, group, events }),
            Err(error) => {
                let _ = kill_process_group(group, Signal::KILL);
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// Reports what it does until it ends, or until it shall not go on.
    ///
    /// # Errors
    /// The system does not tell how it ended.
    pub(super) fn watch(mut self, mut report: impl FnMut(Happening<'_>) -> bool) -> io::Result<Exit> {
        let (mut open, mut until) = (2, None);
        while open > 0 || until.is_none() {
            let event = match until {
                None => self.events.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(until) => self.events.recv_deadline(until),
            };
            let goes_on = match event {
                Ok(Event::Out(line)) => report(Happening::Printed(&line)),
                Ok(Event::Err(line)) => report(Happening::Complained(&line)),
                Ok(Event::Closed) => {
                    open -= 1;
                    true
                }
                Ok(Event::Exited) => {
                    until = Some(Instant::now() + LINGER);
                    true
                }
                Err(_) => false,
            };
            if !goes_on {
                break;
            }
        }
        // Nothing that it has started outlives it.
        let _ = kill_process_group(self.group, Signal::KILL);
        let status = self.child.wait()?;
        Ok(match (status.code(), status.signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, signal) => Exit::Signal(signal.unwrap_or_default()),
        })
    }
}

fn helper(name: &str, body: impl FnOnce() + Send + 'static) -> Result<()> {
    thread::Builder::new().name(name.into()).stack_size(STACK).spawn(body).context("start a thread")?;
    Ok(())
}

/// Hands over the lines of a pipe. When nobody wants them any more they are read on and dropped.
fn read(pipe: impl Read + Send + 'static, event: fn(Vec<u8>) -> Event, sender: Sender<Event>) -> Result<()> {
    helper("harness-output", move || {
        let mut pipe = BufReader::new(pipe);
        loop {
            let mut line = Vec::new();
            match pipe.by_ref().take(LINE as u64).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            let _ = sender.send(event(line));
        }
        let _ = sender.send(Event::Closed);
    })
}
