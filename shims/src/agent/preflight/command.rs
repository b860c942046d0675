//! Runs a command of a step: stdin empty, own process group, the end of stderr kept for the error, stdout inherited or
//! into a file.

use std::io::{Read, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use crossbeam_channel::{Receiver, bounded};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::Step;
use super::output::OutputFile;

/// How much of stderr goes into an error.
const STDERR_TAIL: usize = 2000;
/// How long output is still read after the command has ended, when something it started holds the pipe.
const LINGER: Duration = Duration::from_millis(500);
const STACK_BYTES: usize = 128 << 10;

/// Runs a command to its end. Gives the size of its stdout when that went to `output`.
///
/// # Errors
/// It cannot be started, ends with a status that is not 0, by a signal, after the step's limit, or writes too much.
pub(super) fn run(mut command: Command, output: Option<OutputFile>, step: &Step<'_>) -> Result<Option<u64>> {
    step.environment.apply(&mut command);
    let stdout = if output.is_some() { Stdio::piped() } else { Stdio::inherit() };
    command.current_dir(step.tmp).stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped()).process_group(0);
    let program = command.get_program().display().to_string();
    let mut child = command.spawn().with_context(|| format!("start {program}"))?;
    let group = Pid::from_child(&child);

    let stderr = Drain::start(child.stderr.take().expect("stderr is piped"), group, Tail::default())?;
    let stdout = match (child.stdout.take(), output) {
        (Some(pipe), Some(file)) => Some(Drain::start(pipe, group, ToFile { file, failure: None })?),
        _ => None,
    };
    let (status, timed_out) = wait(&mut child, group, step.limit)?;
    let stderr = stderr.finish().text();
    let written = stdout.map(Drain::finish).map(ToFile::finish).transpose()?;
    if timed_out {
        bail!("stopped after {} seconds, the step's timeout{stderr}", step.limit.unwrap_or_default().as_secs());
    }
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(written.map(OutputFile::finish).transpose()?),
        (Some(code), _) => bail!("exited with status {code}{stderr}"),
        (None, signal) => bail!("killed by signal {}{stderr}", signal.unwrap_or_default()),
    }
}

/// Waits for a child; past the limit, its group is killed. Also tells whether that happened.
fn wait(child: &mut Child, group: Pid, limit: Option<Duration>) -> Result<(ExitStatus, bool)> {
    let Some(limit) = limit else { return Ok((child.wait().context("wait for the command")?, false)) };
    let (ended, end) = bounded::<()>(0);
    let timer = move || {
        let timed_out = end.recv_timeout(limit).is_err_and(|error| error.is_timeout());
        if timed_out {
            let _ = kill_process_group(group, Signal::KILL);
        }
        timed_out
    };
    let timer = thread::Builder::new().stack_size(STACK_BYTES).spawn(timer).context("start the step's timer")?;
    // Not reaped before the timer is gone: until then the number cannot belong to another process.
    let _ = waitid(WaitId::Pid(group), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
    drop(ended);
    let timed_out = timer.join().unwrap_or(false);
    Ok((child.wait().context("wait for the command")?, timed_out))
}

/// Takes what a pipe delivers.
trait Sink: Send + 'static {
    /// Whether more is wanted.
    fn take(&mut self, bytes: &[u8]) -> bool;
}

/// A pipe that is read by a thread of its own. It is read on after [`Drain::finish`], into nothing, so that a process
/// that goes on in the background does not stop at a full or closed pipe.
struct Drain<S> {
    sink: Arc<Mutex<Option<S>>>,
    done: Receiver<()>,
}

impl<S: Sink> Drain<S> {
    fn start(mut pipe: impl Read + Send + 'static, group: Pid, sink: S) -> Result<Self> {
        let sink = Arc::new(Mutex::new(Some(sink)));
        let shared = Arc::clone(&sink);
        let (finished, done) = bounded(0);
        let read = move || {
            let _finished = finished;
            let mut buffer = vec![0; 16 << 10];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                let mut sink = shared.lock().unwrap_or_else(PoisonError::into_inner);
                if !sink.as_mut().is_none_or(|sink| sink.take(&buffer[..count])) {
                    let _ = kill_process_group(group, Signal::KILL);
                }
            }
        };
        thread::Builder::new().stack_size(STACK_BYTES).spawn(read).context("start a thread for output")?;
        Ok(Self { sink, done })
    }

    /// What was delivered until the pipe was closed, or until a moment after the command's end.
    fn finish(self) -> S {
        let _ = self.done.recv_timeout(LINGER);
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        sink.take().expect("finish is called once")
    }
}

/// The last bytes.
#[derive(Default)]
struct Tail(Vec<u8>);

impl Sink for Tail {
    fn take(&mut self, bytes: &[u8]) -> bool {
        self.0.extend_from_slice(bytes);
        let surplus = self.0.len().saturating_sub(STDERR_TAIL);
        self.0.drain(..surplus);
        true
    }
}

impl Tail {
    /// The text for the end of an error message.
    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.0);
        if text.trim().is_empty() { String::new() } else { format!(": {}", text.trim()) }
    }
}

/// Writes into a file until that fails.
struct ToFile {
    file: OutputFile,
    failure: Option<std::io::Error>,
}

impl Sink for ToFile {
    fn take(&mut self, bytes: &[u8]) -> bool {
        if self.failure.is_none() {
            self.failure = self.file.write_all(bytes).err();
        }
        self.failure.is_none()
    }
}

impl ToFile {
    fn finish(self) -> Result<OutputFile> {
        match self.failure {
            Some(error) => Err(error).context("write the output"),
            None => Ok(self.file),
        }
    }
}
