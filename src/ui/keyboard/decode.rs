//! From the bytes that a terminal sends to keys. Pure but for where the bytes come from.

use std::collections::VecDeque;

use anyhow::{Context as _, Result};

use super::Key;

/// Where bytes come from.
pub(super) trait Bytes {
    /// Waits for one.
    fn next(&mut self) -> Result<u8>;

    /// Has one come again: it belongs to what is next.
    fn put_back(&mut self, byte: u8);

    /// Whether no other belongs to the last one: a terminal sends the bytes of a key at once.
    fn is_over(&mut self) -> bool;
}

/// Reads keys.
#[derive(Default)]
pub(in crate::ui) struct Decoder {
    /// Between the beginning and the end of what is pasted.
    pasting: bool,
    /// The last byte that was pasted was a carriage return.
    after_return: bool,
}

impl Bytes for VecDeque<u8> {
    fn next(&mut self) -> Result<u8> {
        self.pop_front().context("the bytes end in the middle of a key")
    }

    fn put_back(&mut self, byte: u8) {
        self.push_front(byte);
    }

    fn is_over(&mut self) -> bool {
        self.is_empty()
    }
}

/// What a terminal sends before and behind what is pasted.
const PASTE: [&[u8]; 2] = [b"\x1b[200~", b"\x1b[201~"];

const CTRL_C: u8 = 3;
const ESCAPE: u8 = 27;

/// Modifiers in a key's sequence, less one: Shift, Alt, Ctrl.
const SHIFT: u32 = 1;
const ALT: u32 = 2;
const CTRL: u32 = 4;

impl Decoder {
    /// Waits for a key. The beginning and the end of what is pasted count as one.
    pub(super) fn next(&mut self, bytes: &mut dyn Bytes) -> Result<Key> {
        Ok(match bytes.next()? {
            // Whatever else is pasted, there has to be a way out when its end never comes.
            CTRL_C => {
                self.pasting = false;
                Key::Interrupt
            }
            ESCAPE if !self.pasting && bytes.is_over() => Key::Escape,
            ESCAPE => self.sequence(bytes)?,
            byte if self.pasting => self.pasted(byte, bytes)?,
            byte @ (0..32 | 127) => control(byte),
            first => character(first, bytes)?,
        })
    }

    /// The keys of what was typed at once; one that was pasted is [`Key::Other`]. A sequence that is cut in the middle is one
    /// that the reader's buffer was too small for, which no key of a terminal is; what is left of it means nothing.
    pub(in crate::ui) fn keys(&mut self, bytes: &[u8]) -> Vec<Key> {
        let mut bytes: VecDeque<u8> = bytes.iter().copied().collect();
        let mut keys = Vec::new();
        while !bytes.is_empty() {
            match self.next(&mut bytes) {
                Ok(key) => keys.push(if self.pasting { Key::Other } else { key }),
                Err(_) => break,
            }
        }
        keys
    }

    /// Whether what comes is pasted, and the last key was, unless it was Ctrl-C.
    pub(super) fn is_pasting(&self) -> bool {
        self.pasting
    }

    /// Passes over bytes that nobody wants. What is left are those with which the beginning or the end of a paste may begin.
    pub(super) fn skip(&mut self, bytes: &mut VecDeque<u8>) {
        let skipped = bytes.make_contiguous();
        let last = |mark: &[u8]| skipped.windows(mark.len()).rposition(|bytes| bytes == mark);
        let [begin, end] = PASTE.map(last);
        if begin != end {
            (self.pasting, self.after_return) = (begin > end, false);
        }
        let is_begun =
            |at: &usize| PASTE.iter().any(|mark| *mark != &skipped[*at..] && mark.starts_with(&skipped[*at..]));
        let rest = skipped.iter().rposition(|byte| *byte == ESCAPE).filter(is_begun);
        bytes.drain(..rest.unwrap_or(bytes.len()));
    }

    /// What follows an escape character.
    fn sequence(&mut self, bytes: &mut dyn Bytes) -> Result<Key> {
        let second = bytes.next()?;
        if !matches!(second, b'[' | b'O') {
            return Ok(match second {
                ESCAPE | CTRL_C => another(second, bytes),
                _ if self.pasting => Key::Other,
                b'\r' | b'\n' => Key::NewLine,
                b'b' => Key::WordLeft,
                b'f' => Key::WordRight,
                8 | 127 => Key::ClearWord,
                _ => Key::Other,
            });
        }
        let mut parameters = String::new();
        let last = loop {
            match bytes.next()? {
                byte @ 0x40..0x7F => break byte,
                // No sequence has one. What was begun is given up, so that Ctrl-C is always one.
                byte @ 0..32 => return Ok(another(byte, bytes)),
                byte => parameters.push(char::from(byte)),
            }
        };
        match (last, parameters.as_str()) {
            (b'~', "200") => (self.pasting, self.after_return) = (true, false),
            (b'~', "201") => self.pasting = false,
            _ if self.pasting => {}
            _ => return Ok(special(last, &parameters)),
        }
        Ok(Key::Other)
    }

    /// A byte of what is pasted.
    fn pasted(&mut self, byte: u8, bytes: &mut dyn Bytes) -> Result<Key> {
        let after_return = std::mem::replace(&mut self.after_return, byte == b'\r');
        Ok(match byte {
            b'\n' if after_return => Key::Other,
            b'\r' | b'\n' => Key::NewLine,
            b'\t' => Key::Char('\t'),
            0..32 | 127 => Key::Other,
            first => character(first, bytes)?,
        })
    }
}

/// The key of a control character.
fn control(byte: u8) -> Key {
    match byte {
        1 => Key::Home,
        2 => Key::Left,
        CTRL_C => Key::Interrupt,
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

/// What was begun is no key: this byte belongs to the next one. That may be the end of what is pasted.
fn another(byte: u8, bytes: &mut dyn Bytes) -> Key {
    bytes.put_back(byte);
    Key::Other
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
            // A terminal with another encoding.
            byte => return Ok(another(byte, bytes)),
        }
    }
    let text = std::str::from_utf8(&encoded).ok().and_then(|text| text.chars().next());
    Ok(text.map_or(Key::Other, Key::Char))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All keys, pasted ones as well.
    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut bytes: VecDeque<u8> = bytes.iter().copied().collect();
        let mut decoder = Decoder::default();
        std::iter::from_fn(|| (!bytes.is_empty()).then(|| decoder.next(&mut bytes).unwrap())).collect()
    }

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
        case("\x1B[\x03a", &[Key::Other, Key::Interrupt, Key::Char('a')]);
        case("\x1B[12\r", &[Key::Other, Key::Enter]);
        case("\x1B[200~ab\x1B[\x03", &[Key::Other, Key::Char('a'), Key::Char('b'), Key::Other, Key::Interrupt]);
        // Latin-1.
        for (bytes, expected) in
            [(&b"\xE9\x03"[..], Key::Interrupt), (b"\xE9\r", Key::Enter), (b"\xE9t", Key::Char('t'))]
        {
            assert_eq!(keys(bytes), [Key::Other, expected]);
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

    #[track_caller]
    fn pasted(bytes: &str, expected: &[Key]) {
        case(&format!("\x1B[200~{bytes}"), &[&[Key::Other], expected].concat());
    }

    #[test]
    fn what_is_pasted_never_sends() {
        let (x, other) = (Key::Char('x'), Key::Other);
        pasted("x\r\t\r\n\nx", &[x, Key::NewLine, Key::Char('\t'), Key::NewLine, other, Key::NewLine, x]);
        pasted("x\x1B[201~\r", &[x, other, Key::Enter]);
        pasted("x\x15\x04\x1B[A", &[x, other, other, other]);
        pasted("x\x03\r", &[x, Key::Interrupt, Key::Enter]);
    }

    #[test]
    fn a_paste_ends_whatever_stands_before_its_end() {
        let (x, other) = (Key::Char('x'), Key::Other);
        for before in ["\x1B", "\x1B\x1B", "\x1B[", "\x1BO", "\x1B[20", "\x1B[200", "\x1B[201", "\x1B[201\x1B"] {
            let keys = keys(format!("\x1B[200~x{before}\x1B[201~x\r").as_bytes());
            let seen: Vec<Key> = keys.into_iter().filter(|key| *key != other).collect();
            assert_eq!(seen, [x, x, Key::Enter], "{before:?}");
        }
        for cut in [&b"\xC3"[..], b"\xE2\x82", b"\xF0\x9F\x99"] {
            let keys = keys(&[b"\x1B[200~x", cut, b"\x1B[201~x\r"].concat());
            assert_eq!(keys.last(), Some(&Key::Enter), "{cut:?}");
        }
        // Latin-1.
        assert_eq!(keys(b"\x1B[200~\xE9\r"), [other, other, Key::NewLine]);
        pasted("\x1B\x03", &[other, Key::Interrupt]);
    }

    #[test]
    fn an_escape_character_in_the_middle_of_a_key_begins_another() {
        case("\x1B[\x1B[A", &[Key::Other, Key::Up]);
        case("\x1B\x1B[A", &[Key::Other, Key::Up]);
        assert_eq!(keys(b"\xC3\x1B[A"), [Key::Other, Key::Up]);
    }

    #[test]
    fn a_paste_in_pieces_is_no_key() {
        let mut decoder = Decoder::default();
        let mut keys = |bytes: &str| decoder.keys(bytes.as_bytes());
        assert_eq!(keys("k\x1B[200~y"), [Key::Char('k'), Key::Other, Key::Other]);
        assert_eq!(keys("y"), [Key::Other]);
        assert_eq!(keys("\x1B[201~y"), [Key::Other, Key::Char('y')]);
        assert_eq!(keys("\x1B["), []);
    }

    #[test]
    fn what_is_passed_over_may_be_the_beginning_of_a_paste() {
        for (before, skipped, is_pasting, rest) in [
            (false, "ab\r", false, ""),
            (false, "ab\x1B[200~cd", true, ""),
            (true, "ab", true, ""),
            (true, "ab\x1B[201~y", false, ""),
            (false, "\x1B[200~ab\x1B[201~\x1B[200~", true, ""),
            (false, "\x1B[200~ab\x1B[201~c", false, ""),
            (false, "ab\x1B[20", false, "\x1B[20"),
            (true, "ab\x1B", true, "\x1B"),
            (false, "ab\x1B[A", false, ""),
        ] {
            let mut decoder = Decoder { pasting: before, after_return: false };
            let mut bytes: VecDeque<u8> = skipped.bytes().collect();
            decoder.skip(&mut bytes);
            assert_eq!((decoder.is_pasting(), bytes), (is_pasting, rest.bytes().collect()), "{skipped:?}");
        }
    }
}
