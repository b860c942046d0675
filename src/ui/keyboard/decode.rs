//! From the bytes that a terminal sends to keys. Pure but for where the bytes come from.

use std::collections::VecDeque;

use anyhow::{Context as _, Result};

use super::Key;

/// Where bytes come from.
pub(super) trait Bytes {
    /// Waits for one.
    fn next(&mut self) -> Result<u8>;

    /// Whether the next one would have to be waited for.
    fn is_empty(&self) -> bool;
}

/// Reads keys.
#[derive(Default)]
pub(super) struct Decoder {
    /// Between the beginning and the end of what is pasted.
    pasting: bool,
    /// The last byte that was pasted was a carriage return.
    after_return: bool,
}

/// The keys of what was typed at once. A sequence that is cut in the middle is one that the reader's buffer was too small
/// for, which no key of a terminal is; what is left of it means nothing.
pub(in crate::ui) fn keys(bytes: &[u8]) -> Vec<Key> {
    let mut bytes: VecDeque<u8> = bytes.iter().copied().collect();
    let mut decoder = Decoder::default();
    let mut keys = Vec::new();
    while !bytes.is_empty() {
        match decoder.next(&mut bytes) {
            Ok(key) => keys.push(key),
            Err(_) => break,
        }
    }
    keys
}

impl Bytes for VecDeque<u8> {
    fn next(&mut self) -> Result<u8> {
        self.pop_front().context("the bytes end in the middle of a key")
    }

    fn is_empty(&self) -> bool {
        self.is_empty()
    }
}

/// Modifiers in a key's sequence, less one: Shift, Alt, Ctrl.
const SHIFT: u32 = 1;
const ALT: u32 = 2;
const CTRL: u32 = 4;

impl Decoder {
    /// Waits for a key.
    pub(super) fn next(&mut self, bytes: &mut dyn Bytes) -> Result<Key> {
        loop {
            let byte = bytes.next()?;
            let key = match byte {
                // Whatever else is pasted, there has to be a way out when its end never comes.
                3 => {
                    self.pasting = false;
                    Key::Interrupt
                }
                27 if bytes.is_empty() && !self.pasting => Key::Escape,
                27 => match self.sequence(bytes)? {
                    Some(key) => key,
                    None => continue,
                },
                _ if self.pasting => match self.pasted(byte, bytes)? {
                    Some(key) => key,
                    None => continue,
                },
                0..32 | 127 => control(byte),
                first => character(first, bytes)?,
            };
            return Ok(key);
        }
    }

    /// What follows an escape character. `None`: the beginning or end of what is pasted.
    fn sequence(&mut self, bytes: &mut dyn Bytes) -> Result<Option<Key>> {
        let second = bytes.next()?;
        if !matches!(second, b'[' | b'O') {
            return Ok(Some(match second {
                _ if self.pasting => Key::Other,
                b'\r' | b'\n' => Key::NewLine,
                b'b' => Key::WordLeft,
                b'f' => Key::WordRight,
                8 | 127 => Key::ClearWord,
                _ => Key::Other,
            }));
        }
        let mut parameters = String::new();
        let last = loop {
            match bytes.next()? {
                byte @ 0x40..0x7F => break byte,
                // No sequence has one. What was begun is given up, so that Ctrl-C is always one.
                27 => return Ok(Some(Key::Other)),
                byte @ 0..32 => return Ok(Some(self.interrupting(byte))),
                byte => parameters.push(char::from(byte)),
            }
        };
        match (last, parameters.as_str()) {
            (b'~', "200") => (self.pasting, self.after_return) = (true, false),
            (b'~', "201") => self.pasting = false,
            _ if self.pasting => return Ok(Some(Key::Other)),
            _ => return Ok(Some(special(last, &parameters))),
        }
        Ok(None)
    }

    /// A control character in the middle of something else.
    fn interrupting(&mut self, byte: u8) -> Key {
        self.pasting &= byte != 3;
        if self.pasting { Key::Other } else { control(byte) }
    }

    /// A byte of what is pasted. `None`: the rest of a line break.
    fn pasted(&mut self, byte: u8, bytes: &mut dyn Bytes) -> Result<Option<Key>> {
        let after_return = std::mem::replace(&mut self.after_return, byte == b'\r');
        Ok(match byte {
            b'\n' if after_return => None,
            b'\r' | b'\n' => Some(Key::NewLine),
            b'\t' => Some(Key::Char('\t')),
            0..32 | 127 => Some(Key::Other),
            first => Some(character(first, bytes)?),
        })
    }
}

/// The key of a control character.
fn control(byte: u8) -> Key {
    match byte {
        1 => Key::Home,
        2 => Key::Left,
        3 => Key::Interrupt,
        4 => Key::Eof,
        5 => Key::End,
        6 => Key::Right,
        b'\t' => Key::Tab,
        b'\r' | b'\n' => Key::Enter,
        8 | 127 => Key::Backspace,
        11 => Key::ClearRest,
        14 => Key::Down,
        16 => Key::Up,
        21 => Key::Clear,
        23 => Key::ClearWord,
        _ => Key::Other,
    }
}

/// The key of a sequence: its last byte and what is before that.
fn special(last: u8, parameters: &str) -> Key {
    let numbers: Vec<u32> =
        parameters.split(';').map(|part| part.split(':').next().unwrap_or_default().parse().unwrap_or(1)).collect();
    let modifiers = |at: usize| numbers.get(at).map_or(0, |number| number.saturating_sub(1));
    let by_word = modifiers(1) & (CTRL | ALT) != 0;
    match (last, numbers[0]) {
        (b'A', _) => Key::Up,
        (b'B', _) => Key::Down,
        (b'C', _) if by_word => Key::WordRight,
        (b'D', _) if by_word => Key::WordLeft,
        (b'C', _) => Key::Right,
        (b'D', _) => Key::Left,
        (b'H', _) | (b'~', 1 | 7) => Key::Home,
        (b'F', _) | (b'~', 4 | 8) => Key::End,
        (b'~', 3) => Key::Delete,
        // Two forms in which terminals tell modified keys apart when they are asked to.
        (b'u', code) => modified(code, modifiers(1)),
        (b'~', 27) => modified(numbers.get(2).copied().unwrap_or(0), modifiers(1)),
        _ => Key::Other,
    }
}

/// A key with modifiers. `code` is its character without them.
fn modified(code: u32, modifiers: u32) -> Key {
    let Some(plain) = char::from_u32(code) else { return Key::Other };
    match plain {
        '\r' if modifiers & (SHIFT | ALT) != 0 => Key::NewLine,
        'b' if modifiers == ALT => Key::WordLeft,
        'f' if modifiers == ALT => Key::WordRight,
        '\u{7F}' if modifiers & (ALT | CTRL) != 0 => Key::ClearWord,
        'a'..='z' if modifiers == CTRL => control(plain as u8 & 0x1F),
        '\r' | '\t' | '\u{7F}' => control(plain as u8),
        c if modifiers & (ALT | CTRL) == 0 && !c.is_control() => Key::Char(c),
        _ => Key::Other,
    }
}

fn character(first: u8, bytes: &mut dyn Bytes) -> Result<Key> {
    let more = match first {
        0..0xC0 => 0,
        0xC0..0xE0 => 1,
        0xE0..0xF0 => 2,
        _ => 3,
    };
    let mut encoded = vec![first];
    for _ in 0..more {
        match bytes.next()? {
            byte @ 0x80..0xC0 => encoded.push(byte),
            // A terminal with another encoding: what comes next is a key of its own.
            byte @ (0..32 | 127) => return Ok(control(byte)),
            byte => return Ok(if byte.is_ascii() { Key::Char(char::from(byte)) } else { Key::Other }),
        }
    }
    let text = std::str::from_utf8(&encoded).ok().and_then(|text| text.chars().next());
    Ok(text.map_or(Key::Other, Key::Char))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn case(bytes: &str, expected: &[Key]) {
        assert_eq!(keys(bytes.as_bytes()), expected);
    }

    #[test]
    fn characters_and_control_characters() {
        case("aü€🙂", &[Key::Char('a'), Key::Char('ü'), Key::Char('€'), Key::Char('🙂')]);
        case("\r\n\t", &[Key::Enter, Key::Enter, Key::Tab]);
        case("\x01\x05\x15\x17\x0B", &[Key::Home, Key::End, Key::Clear, Key::ClearWord, Key::ClearRest]);
        case("\x03\x04\x7F\x08", &[Key::Interrupt, Key::Eof, Key::Backspace, Key::Backspace]);
        case("\x1B", &[Key::Escape]);
    }

    #[test]
    fn ctrl_c_and_enter_are_keys_wherever_they_come() {
        case("\x1B[\x03a", &[Key::Interrupt, Key::Char('a')]);
        case("\x1B[12\r", &[Key::Enter]);
        case("\x1B[200~ab\x1B[\x03", &[Key::Char('a'), Key::Char('b'), Key::Interrupt]);
        // Latin-1.
        for (bytes, expected) in
            [(&b"\xE9\x03"[..], Key::Interrupt), (b"\xE9\r", Key::Enter), (b"\xE9t", Key::Char('t'))]
        {
            assert_eq!(keys(bytes), [expected]);
        }
    }

    #[test]
    fn sequences() {
        case("\x1B[A\x1B[B\x1B[C\x1B[D", &[Key::Up, Key::Down, Key::Right, Key::Left]);
        case(
            "\x1BOA\x1B[H\x1B[F\x1B[3~\x1B[1~\x1B[8~",
            &[Key::Up, Key::Home, Key::End, Key::Delete, Key::Home, Key::End],
        );
        case("\x1B[1;5C\x1B[1;3D\x1Bb\x1Bf", &[Key::WordRight, Key::WordLeft, Key::WordLeft, Key::WordRight]);
        case("\x1B[15~\x1B[200;1;1H\x1Bz", &[Key::Other, Key::Home, Key::Other]);
    }

    #[test]
    fn line_breaks_that_do_not_send() {
        case("\x1B\r\x1B[13;2u\x1B[27;2;13~\x1B[13;3u", &[Key::NewLine; 4]);
        case("\x1B[13u\x1B[27;5;13~", &[Key::Enter, Key::Enter]);
    }

    #[test]
    fn keys_of_terminals_that_tell_all_modified_keys_apart() {
        case("\x1B[99;5u\x1B[100;5u\x1B[97;5u", &[Key::Interrupt, Key::Eof, Key::Home]);
        case("\x1B[98;3u\x1B[102;3u\x1B[127;3u", &[Key::WordLeft, Key::WordRight, Key::ClearWord]);
        case("\x1B[97:65;2u\x1B[27u\x1B[57441;2u", &[Key::Char('a'), Key::Other, Key::Char('\u{E061}')]);
    }

    #[test]
    fn what_is_pasted_never_sends() {
        let expected = [Key::Char('a'), Key::NewLine, Key::Char('\t'), Key::NewLine, Key::NewLine, Key::Char('b')];
        case("\x1B[200~a\r\t\r\n\nb\x1B[201~", &expected);
        case("\x1B[200~x\x1B[201~\r", &[Key::Char('x'), Key::Enter]);
        case("\x1B[200~x\x15\x04\x1B[A", &[Key::Char('x'), Key::Other, Key::Other, Key::Other]);
        case("\x1B[200~x\x03\r", &[Key::Char('x'), Key::Interrupt, Key::Enter]);
    }
}
