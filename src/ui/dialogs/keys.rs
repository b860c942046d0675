//! Keys of a terminal: raw mode for as long as a question is open, and bytes to keys.

use std::collections::VecDeque;
use std::io::Stdin;

use anyhow::{Context as _, Result};

use crate::base::prompt::Interrupted;
use crate::ui::raw_mode::RawMode;

/// What a person pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    Enter,
    Backspace,
    Delete,
    Left,
    Right,
    Up,
    Down,
    Home,
    End,
    /// Ctrl-U: everything before the cursor is taken away.
    Clear,
    Other,
}

/// The keyboard. What was typed ahead is kept from question to question.
pub(super) struct Keyboard {
    stdin: Stdin,
    bytes: VecDeque<u8>,
}

/// The keyboard while a question is open.
pub(super) struct Keys<'a> {
    _raw: RawMode,
    stdin: &'a Stdin,
    bytes: &'a mut VecDeque<u8>,
}

impl Keyboard {
    pub(super) fn new() -> Self {
        Self { stdin: std::io::stdin(), bytes: VecDeque::new() }
    }

    /// Opens it for a question.
    pub(super) fn open(&mut self) -> Result<Keys<'_>> {
        Ok(Keys { _raw: RawMode::enter()?, stdin: &self.stdin, bytes: &mut self.bytes })
    }
}

impl Keys<'_> {
    /// Waits for a key.
    ///
    /// # Errors
    /// [`Interrupted`] for Ctrl-C, Ctrl-D and when the terminal is gone.
    pub(super) fn next(&mut self) -> Result<Key> {
        let byte = self.byte()?;
        Ok(match byte {
            3 | 4 => return Err(Interrupted.into()),
            b'\r' | b'\n' => Key::Enter,
            8 | 127 => Key::Backspace,
            1 => Key::Home,
            5 => Key::End,
            21 => Key::Clear,
            27 if self.bytes.is_empty() => Key::Other,
            27 => self.sequence()?,
            b'\t' => Key::Char(' '),
            0..32 => Key::Other,
            first => self.character(first)?,
        })
    }

    fn sequence(&mut self) -> Result<Key> {
        if !matches!(self.byte()?, b'[' | b'O') {
            return Ok(Key::Other);
        }
        let mut number = Vec::new();
        loop {
            let byte = self.byte()?;
            if byte.is_ascii_digit() || byte == b';' {
                number.push(byte);
                continue;
            }
            return Ok(match (byte, number.as_slice()) {
                (b'A', _) => Key::Up,
                (b'B', _) => Key::Down,
                (b'C', _) => Key::Right,
                (b'D', _) => Key::Left,
                (b'H', _) | (b'~', b"1" | b"7") => Key::Home,
                (b'F', _) | (b'~', b"4" | b"8") => Key::End,
                (b'~', b"3") => Key::Delete,
                _ => Key::Other,
            });
        }
    }

    fn character(&mut self, first: u8) -> Result<Key> {
        let more = match first {
            0..0xC0 => 0,
            0xC0..0xE0 => 1,
            0xE0..0xF0 => 2,
            _ => 3,
        };
        let mut bytes = vec![first];
        for _ in 0..more {
            bytes.push(self.byte()?);
        }
        let text = std::str::from_utf8(&bytes).ok().and_then(|text| text.chars().next());
        Ok(text.map_or(Key::Other, Key::Char))
    }

    fn byte(&mut self) -> Result<u8> {
        while self.bytes.is_empty() {
            let mut buffer = [0; 1024];
            match rustix::io::read(self.stdin, &mut buffer) {
                Ok(0) => return Err(Interrupted.into()),
                Ok(count) => self.bytes.extend(&buffer[..count]),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("read from the terminal"),
            }
        }
        Ok(self.bytes.pop_front().expect("there is one"))
    }
}
