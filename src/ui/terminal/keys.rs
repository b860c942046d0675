//! Bytes of a keyboard as keys. Pure.

/// A key that means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Up,
    Down,
    Enter,
    Escape,
    /// Ctrl-C.
    Interrupt,
    Char(char),
}

/// Gives the keys of what was typed. A sequence that is cut in the middle is one that the reader's buffer was too small
/// for, which no key of a terminal is; what is left of it means nothing.
pub(super) fn decode(bytes: &[u8]) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut rest = bytes;
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        match first {
            0x03 => keys.push(Key::Interrupt),
            b'\r' | b'\n' => keys.push(Key::Enter),
            0x1b => {
                let (key, length) = escape(behind);
                keys.extend(key);
                rest = &behind[length..];
            }
            b' '..=b'~' => keys.push(Key::Char(char::from(*first))),
            _ => {}
        }
    }
    keys
}

/// What follows an escape character: the key, when it means something, and its length.
fn escape(bytes: &[u8]) -> (Option<Key>, usize) {
    let Some(b'[' | b'O') = bytes.first() else { return (Some(Key::Escape), 0) };
    let is_last = |byte: &u8| (0x40..=0x7e).contains(byte);
    let Some(last) = bytes[1..].iter().position(is_last) else { return (None, bytes.len()) };
    let key = match bytes[1 + last] {
        b'A' => Some(Key::Up),
        b'B' => Some(Key::Down),
        _ => None,
    };
    (key, last + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_apart() {
        for (bytes, expected) in [
            (&b"\x1b[A\x1bOBr"[..], vec![Key::Up, Key::Down, Key::Char('r')]),
            (b"\x1b", vec![Key::Escape]),
            (b"\x1bx", vec![Key::Escape, Key::Char('x')]),
            (b"\x1b[1;5A\x1b[15~y", vec![Key::Up, Key::Char('y')]),
            (b"\x1b[15", vec![]),
            (b"\r \x03", vec![Key::Enter, Key::Char(' '), Key::Interrupt]),
            (b"\x1a\x00\xc3\xbc?", vec![Key::Char('?')]),
        ] {
            assert_eq!(decode(bytes), expected, "{bytes:?}");
        }
    }
}
