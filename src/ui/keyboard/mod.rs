//! The keyboard of a terminal, and the modes in which it is read.

use std::collections::VecDeque;
use std::io::{PipeReader, Stdin};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::{QueueSelector, tcflush};

use super::raw_mode::{CtrlC, RawMode};
use crate::base::prompt::Interrupted;

mod decode;

use decode::{Bytes, Decoder};

pub(super) use decode::keys;

/// What a person pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    Enter,
    /// A line break that does not send: Alt+Enter, Shift+Enter where the terminal tells it apart, or one that is pasted.
    NewLine,
    Backspace,
    Delete,
    Left,
    Right,
    WordLeft,
    WordRight,
    Up,
    Down,
    Home,
    End,
    /// Ctrl-U: everything before the cursor is taken away.
    Clear,
    /// Ctrl-K: everything behind the cursor.
    ClearRest,
    /// Ctrl-W: the word before the cursor.
    ClearWord,
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-D.
    Eof,
    Escape,
    Tab,
    Other,
}

/// Keeps a terminal from showing what is typed while nobody reads it, for as long as it lives. Ctrl-C is a signal then.
pub(super) struct Quiet {
    mode: Arc<RawMode>,
}

impl Quiet {
    pub(super) fn begin() -> Result<Self> {
        Ok(Self { mode: Arc::new(RawMode::enter(CtrlC::Signal)?) })
    }

    /// Gives what puts the terminal back as it was, for the case that another thread ends the process.
    pub(super) fn restorer(&self) -> impl FnOnce() + Send + 'static {
        let mode = Arc::clone(&self.mode);
        move || mode.leave()
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        self.mode.leave();
    }
}

/// The keyboard. What was typed ahead is kept from question to question.
pub(super) struct Keyboard {
    input: Input,
    decoder: Decoder,
}

/// The keyboard while a question is open.
pub(super) struct Keys<'a> {
    _raw: RawMode,
    keyboard: &'a mut Keyboard,
}

impl Keyboard {
    pub(super) fn new() -> Self {
        Self::with(None)
    }

    /// As [`Keyboard::new`]; when the other end of `wake` is closed, keys are not waited for any more.
    pub(super) fn waking(wake: PipeReader) -> Self {
        Self::with(Some(wake))
    }

    fn with(wake: Option<PipeReader>) -> Self {
        let input = Input { stdin: std::io::stdin(), bytes: VecDeque::new(), wake };
        Self { input, decoder: Decoder::default() }
    }

    /// Opens it for a question.
    pub(super) fn open(&mut self) -> Result<Keys<'_>> {
        Ok(Keys { _raw: RawMode::enter(CtrlC::Key)?, keyboard: self })
    }

    /// Forgets what was typed before a question was shown, so that it is not taken for the answer.
    pub(super) fn forget_typed_ahead(&mut self) {
        self.input.bytes.clear();
        self.decoder = Decoder::default();
        let _ = tcflush(&self.input.stdin, QueueSelector::IFlush);
    }
}

impl Keys<'_> {
    /// Waits for a key.
    ///
    /// # Errors
    /// [`Interrupted`] when the terminal is gone or is not to be waited for any more.
    pub(super) fn next(&mut self) -> Result<Key> {
        self.keyboard.decoder.next(&mut self.keyboard.input)
    }

    /// Waits for a key of an answer.
    ///
    /// # Errors
    /// As [`Keys::next`], and [`Interrupted`] for Ctrl-C and Ctrl-D.
    pub(super) fn next_of_answer(&mut self) -> Result<Key> {
        match self.next()? {
            Key::Interrupt | Key::Eof => Err(Interrupted.into()),
            key => Ok(key),
        }
    }

    /// Whether the next key has come already.
    pub(super) fn has_next(&self) -> bool {
        !self.keyboard.input.bytes.is_empty()
    }
}

struct Input {
    stdin: Stdin,
    bytes: VecDeque<u8>,
    wake: Option<PipeReader>,
}

impl Input {
    /// Waits for bytes, as long as that is wanted.
    fn wait(&self) -> Result<()> {
        let Some(wake) = &self.wake else { return Ok(()) };
        loop {
            let mut ends = [PollFd::new(&self.stdin, PollFlags::IN), PollFd::new(wake, PollFlags::IN)];
            match poll(&mut ends, None) {
                Ok(_) if !ends[1].revents().is_empty() => return Err(Interrupted.into()),
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("wait for the terminal"),
            }
        }
    }
}

impl Bytes for Input {
    fn next(&mut self) -> Result<u8> {
        while self.bytes.is_empty() {
            self.wait()?;
            let mut buffer = [0; 1024];
            match rustix::io::read(&self.stdin, &mut buffer) {
                Ok(0) => return Err(Interrupted.into()),
                Ok(count) => self.bytes.extend(&buffer[..count]),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("read from the terminal"),
            }
        }
        Ok(self.bytes.pop_front().expect("there is one"))
    }

    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}
