//! What comes to the terminal UI besides the state of the scheduler: keys, another size, being stopped and continued, and
//! what the process writes to standard error meanwhile. One thread waits for all of it.

use std::io::{IsTerminal as _, PipeReader, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};
use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Signal, getpid, kill_process};
use signal_hook::consts::{SIGCONT, SIGTSTP, SIGWINCH};
use signal_hook::low_level::pipe;

use crate::base::worker;
use crate::scheduler::handle::Handle;
use crate::ui::keyboard::{Decoder, Key};
use crate::ui::raw_mode::is_foreground;

/// Most that may wait to be looked at; what comes then is lost. Of keys nobody types so many ahead.
const WAITING: usize = 1000;

/// What of standard error may wait for the end of its line.
const MOST_WITHOUT_BREAK: usize = 64 << 10;

/// Something that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Input {
    Key(Key),
    /// A line on standard error.
    Line(String),
    /// The terminal may have another size, or may be ours again.
    Changed,
    /// Somebody wants the process to stop for a while.
    Suspend,
}

/// The thread.
pub(super) struct Inputs {
    came: Receiver<Input>,
    stopping: Arc<AtomicBool>,
    /// Wakes the thread.
    changed: UnixStream,
    signals: Vec<signal_hook::SigId>,
    stderr: Option<Stderr>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Inputs {
    /// Starts to listen; whoever waits for changes of the scheduler's state is woken when something comes.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn listen(handle: Handle) -> Result<Self> {
        let (changed, changes) = UnixStream::pair().context("make a pair of sockets")?;
        let (suspending, suspends) = UnixStream::pair().context("make a pair of sockets")?;
        let (stderr, lines) = Stderr::take_over()?.unzip();
        let (sender, came) = bounded(WAITING);
        let mut inputs = Self { came, stopping: Arc::default(), changed, signals: Vec::new(), stderr, thread: None };
        for signal in [SIGWINCH, SIGCONT] {
            let end = inputs.changed.try_clone().context("copy a socket")?;
            inputs.signals.push(pipe::register(signal, end).context("take over signals")?);
        }
        inputs.signals.push(pipe::register(SIGTSTP, suspending).context("take over signals")?);
        let listener = Listener {
            sender,
            handle,
            stopping: Arc::clone(&inputs.stopping),
            changes,
            suspends,
            lines: lines.map(|pipe| Lines { pipe, rest: Vec::new() }),
            has_keyboard: true,
            decoder: Decoder::default(),
        };
        inputs.thread = Some(worker::spawn("ui-input", move || listener.listen())?);
        Ok(inputs)
    }

    /// What has come since the last time.
    pub(super) fn take(&self) -> Vec<Input> {
        self.came.try_iter().collect()
    }

    /// Stops listening. What was written to standard error until now can still be taken.
    pub(super) fn stop(&mut self) {
        self.stderr = None;
        self.stopping.store(true, Ordering::SeqCst);
        self.signals.drain(..).for_each(|signal| _ = signal_hook::low_level::unregister(signal));
        let _ = self.changed.write_all(b"x");
        if let Some(thread) = self.thread.take() {
            let _ = worker::join(thread);
        }
    }
}

impl Drop for Inputs {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Standard error while it is ours: what is written there would end up in the middle of the frame.
struct Stderr {
    before: OwnedFd,
}

impl Stderr {
    /// `None` when it does not go to a terminal.
    fn take_over() -> Result<Option<(Self, PipeReader)>> {
        let stderr = std::io::stderr();
        if !stderr.is_terminal() {
            return Ok(None);
        }
        let before = stderr.as_fd().try_clone_to_owned().context("copy standard error")?;
        let (reader, writer) = std::io::pipe().context("make a pipe")?;
        rustix::io::ioctl_fionbio(&reader, true).context("make a pipe")?;
        rustix::stdio::dup2_stderr(&writer).context("replace standard error")?;
        Ok(Some((Self { before }, reader)))
    }
}

impl Drop for Stderr {
    fn drop(&mut self) {
        let _ = rustix::stdio::dup2_stderr(&self.before);
    }
}

/// What the thread has.
struct Listener {
    sender: Sender<Input>,
    handle: Handle,
    stopping: Arc<AtomicBool>,
    changes: UnixStream,
    suspends: UnixStream,
    lines: Option<Lines>,
    /// It has not been hung up.
    has_keyboard: bool,
    decoder: Decoder,
}

impl Listener {
    fn listen(mut self) {
        let stdin = std::io::stdin();
        loop {
            let is_stopping = self.stopping.load(Ordering::SeqCst);
            if is_stopping {
                self.read_lines();
                return;
            }
            // In the background keys are not for us, and reading them would stop us.
            let has_keys = self.has_keyboard && is_foreground();
            let ready = self.wait(has_keys.then(|| stdin.as_fd()));
            if ready.lines {
                self.read_lines();
            }
            for (is_ready, socket, input) in
                [(ready.changes, &self.changes, Input::Changed), (ready.suspends, &self.suspends, Input::Suspend)]
            {
                let mut bytes = [0; 64];
                // Nothing to read: it is about to stop, and nobody can send signals any more.
                if is_ready && matches!({ socket }.read(&mut bytes), Ok(1..)) {
                    self.push(input);
                }
            }
            if ready.keys && is_foreground() {
                self.read_keys(stdin.as_fd());
            }
            self.handle.wake();
        }
    }

    fn push(&self, input: Input) {
        let _ = self.sender.try_send(input);
    }

    fn wait(&self, stdin: Option<BorrowedFd<'_>>) -> Ready {
        let all = [
            Some(self.changes.as_fd()),
            Some(self.suspends.as_fd()),
            self.lines.as_ref().map(|lines| lines.pipe.as_fd()),
            stdin,
        ];
        let mut fds: Vec<PollFd<'_>> =
            all.iter().flatten().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        // Interrupted: there is a byte in one of the sockets at the next try.
        let _ = poll(&mut fds, None);
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        let [changes, suspends, lines, keys] = all.map(|fd| fd.is_some() && ready.next().unwrap_or(false));
        Ready { changes, suspends, lines, keys }
    }

    fn read_keys(&mut self, stdin: BorrowedFd<'_>) {
        let mut bytes = [0; 1024];
        match rustix::io::read(stdin, &mut bytes) {
            Ok(count @ 1..) => {
                let typed = self.decoder.keys(&bytes[..count]);
                // Nobody types two letters at once: this is pasted on a terminal that does not mark it, and not meant for
                // an agent.
                let is_pasted = typed.iter().filter(|key| matches!(key, Key::Char(_))).count() > 1;
                for key in typed.into_iter().filter(|key| !is_pasted || *key == Key::Interrupt) {
                    if key == Key::Interrupt {
                        // The same way as from anywhere else, whatever else is going on here.
                        let _ = kill_process(getpid(), Signal::INT);
                    } else {
                        self.push(Input::Key(key));
                    }
                }
            }
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Ok(_) | Err(_) => self.has_keyboard = false,
        }
    }

    fn read_lines(&mut self) {
        let Some(lines) = &mut self.lines else { return };
        let is_over = lines.read(&self.sender);
        if is_over {
            self.lines = None;
        }
    }
}

/// What there is something from.
struct Ready {
    changes: bool,
    suspends: bool,
    lines: bool,
    keys: bool,
}

/// Standard error, line by line.
struct Lines {
    pipe: PipeReader,
    rest: Vec<u8>,
}

impl Lines {
    /// Takes everything that is there; gives whether that is all there will ever be.
    fn read(&mut self, sender: &Sender<Input>) -> bool {
        let mut bytes = [0; 4096];
        let is_over = loop {
            match self.pipe.read(&mut bytes) {
                Ok(count @ 1..) => self.rest.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break false,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => break true,
            }
        };
        let is_endless = self.rest.len() > MOST_WITHOUT_BREAK && !self.rest.contains(&b'\n');
        let end = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let end = if is_over || is_endless { self.rest.len() } else { end };
        let whole: Vec<u8> = self.rest.drain(..end).collect();
        String::from_utf8_lossy(&whole).lines().for_each(|line| _ = sender.try_send(Input::Line(line.to_owned())));
        is_over
    }
}
