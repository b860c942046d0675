//! The keyboard of a terminal, and the modes in which it is read.

use std::collections::VecDeque;
use std::io::{PipeReader, Stdin};
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::raw_mode::{CtrlC, RawMode};
use crate::base::prompt::Interrupted;

mod decode;

use decode::Bytes;

pub(super) use decode::Decoder;

/// How long the bytes of a key may take: a lone escape character is the key of that name.
const WITHIN_KEY: Duration = Duration::from_millis(25);
/// How long the parts of a paste may take.
const WITHIN_PASTE: Duration = Duration::from_millis(50);

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

    /// As [`Keyboard::new`]. What comes from the other end of `wake` is as if it was typed; when that is closed, keys are not
    /// waited for any more.
    pub(super) fn waking(wake: PipeReader) -> Self {
        Self::with(Some(wake))
    }

    fn with(wake: Option<PipeReader>) -> Self {
        let input = Input { stdin: std::io::stdin(), bytes: VecDeque::new(), wake };
        Self { input, decoder: Decoder::default() }
    }

    /// Opens it for a question.
    pub(super) fn open(&mut self) -> Result<Keys<'_>> {
        // What comes next on the terminal is not the answer.
        Ok(Keys { _raw: RawMode::enter(CtrlC::Key, || "\n".to_owned())?, keyboard: self })
    }

    /// Forgets what was typed before a question was shown, so that it is not taken for the answer. A paste that has begun
    /// goes on being one.
    pub(super) fn forget_typed_ahead(&mut self) {
        while self.input.wait(Some(Duration::ZERO)).is_ok_and(|ready| ready.terminal) && self.input.read().is_ok() {}
        self.decoder.skip(&mut self.input.bytes);
    }

    /// Forgets what has come from the other end of `wake`.
    pub(super) fn forget_woken(&mut self) {
        let typed = self.input.bytes.len();
        while self.input.wait(Some(Duration::ZERO)).is_ok_and(|ready| ready.wake) && self.input.read_wake().is_ok() {}
        self.input.bytes.truncate(typed);
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

    /// Waits for a key; one that was pasted is [`Key::Other`].
    ///
    /// # Errors
    /// As [`Keys::next`].
    pub(super) fn next_typed(&mut self) -> Result<Key> {
        let key = self.next()?;
        Ok(if self.keyboard.decoder.is_pasting() { Key::Other } else { key })
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

    /// Whether the next key has come already. In a paste that is waited for a little.
    pub(super) fn has_next(&mut self) -> bool {
        let Keyboard { input, decoder } = &mut *self.keyboard;
        let patience = if decoder.is_pasting() { WITHIN_PASTE } else { Duration::ZERO };
        input.has_more(patience)
    }
}

struct Input {
    stdin: Stdin,
    bytes: VecDeque<u8>,
    wake: Option<PipeReader>,
}

/// Where there is something to read.
struct Ready {
    terminal: bool,
    wake: bool,
}

impl Input {
    /// Waits until there is something to read, at most for so long.
    fn wait(&self, patience: Option<Duration>) -> Result<Ready> {
        let patience = patience.map(|patience| Timespec::try_from(patience).expect("it is short"));
        let wake = self.wake.as_ref().map(|wake| PollFd::new(wake, PollFlags::IN));
        let mut ends: Vec<PollFd<'_>> = [PollFd::new(&self.stdin, PollFlags::IN)].into_iter().chain(wake).collect();
        while let Err(error) = poll(&mut ends, patience.as_ref()) {
            if error != Errno::INTR {
                return Err(error).context("wait for the terminal");
            }
        }
        let is_ready = |end: Option<&PollFd<'_>>| end.is_some_and(|end| !end.revents().is_empty());
        Ok(Ready { terminal: is_ready(ends.first()), wake: is_ready(ends.get(1)) })
    }

    /// Takes what has come, waiting for it, at most for so long. Gives whether something has.
    fn fill(&mut self, patience: Option<Duration>) -> Result<bool> {
        match self.wait(patience)? {
            Ready { wake: true, .. } => self.read_wake()?,
            Ready { terminal: true, .. } => self.read()?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn read(&mut self) -> Result<()> {
        take(&self.stdin, &mut self.bytes)
    }

    fn read_wake(&mut self) -> Result<()> {
        self.wake.as_ref().map_or(Ok(()), |wake| take(wake, &mut self.bytes))
    }

    fn has_more(&mut self, patience: Duration) -> bool {
        // What is wrong is said by whoever waits for it.
        !self.bytes.is_empty() || self.fill(Some(patience)).unwrap_or(false)
    }
}

/// Reads what is there.
fn take(source: impl AsFd, bytes: &mut VecDeque<u8>) -> Result<()> {
    let mut buffer = [0; 4096];
    match rustix::io::read(source, &mut buffer) {
        Ok(0) => return Err(Interrupted.into()),
        Ok(count) => bytes.extend(&buffer[..count]),
        Err(Errno::INTR) => {}
        Err(error) => return Err(error).context("read from the terminal"),
    }
    Ok(())
}

impl Bytes for Input {
    fn next(&mut self) -> Result<u8> {
        loop {
            if let Some(byte) = self.bytes.pop_front() {
                return Ok(byte);
            }
            self.fill(None)?;
        }
    }

    fn put_back(&mut self, byte: u8) {
        self.bytes.push_front(byte);
    }

    fn is_over(&mut self) -> bool {
        !self.has_more(WITHIN_KEY)
    }
}
