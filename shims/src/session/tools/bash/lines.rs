//! The output of a command as lines, while it runs.

/// A longer line is not shown: cut anywhere, it could end in the middle of a secret that nobody would recognise.
const LONGEST: usize = 64 * 1024;

/// Puts pieces of output together to lines.
#[derive(Default)]
pub(super) struct Lines {
    /// The beginning of a line; nothing is added once it is too long.
    line: Vec<u8>,
}

impl Lines {
    /// Takes the next bytes; lines that are complete go to `on_line`, without their ends.
    pub(super) fn push(&mut self, bytes: &[u8], on_line: &mut dyn FnMut(&str)) {
        let mut pieces = bytes.split(|byte| *byte == b'\n');
        self.add(pieces.next().unwrap_or_default());
        for piece in pieces {
            self.end(on_line);
            self.add(piece);
        }
    }

    /// No more is coming: what is left is a line.
    pub(super) fn end(&mut self, on_line: &mut dyn FnMut(&str)) {
        let line = std::mem::take(&mut self.line);
        if line.len() > LONGEST {
            on_line(&format!("(a line of more than {LONGEST} bytes)"));
        } else if !line.trim_ascii().is_empty() {
            on_line(String::from_utf8_lossy(&line).trim_end());
        }
    }

    fn add(&mut self, piece: &[u8]) {
        let room = (LONGEST + 1).saturating_sub(self.line.len());
        self.line.extend_from_slice(&piece[..piece.len().min(room)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut seen) = (Lines::default(), Vec::new());
        pieces.iter().for_each(|piece| lines.push(piece, &mut |line| seen.push(line.to_owned())));
        lines.end(&mut |line| seen.push(line.to_owned()));
        seen
    }

    #[test]
    fn any_pieces_give_the_same_lines() {
        let text = "one\r\n\n  two\nthr\u{fc}ee\n \nfour";
        for size in 1..text.len() {
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            assert_eq!(lines(&pieces), ["one", "  two", "thr\u{fc}ee", "four"], "pieces of {size} bytes");
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_not_shown_in_part() {
        let long = vec![b'x'; LONGEST];
        assert_eq!(lines(&[&long, b"\nnext\n"])[0].len(), LONGEST);
        assert_eq!(lines(&[&long, b"y", &long, b"\nnext\n"]), ["(a line of more than 65536 bytes)", "next"]);
    }
}
