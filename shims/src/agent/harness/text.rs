//! A program that prints nothing but what its model says.

use super::findings::Findings;

/// Bytes of one log line, about.
const PIECE: usize = 4096;
/// So much more is waited for when there is no end of a line, so that a secret is never logged in two halves.
const MARGIN: usize = 64 << 10;

/// Collects the output.
#[derive(Default)]
pub(super) struct Reading {
    text: Vec<u8>,
}

impl super::Reading for Reading {
    fn line(&mut self, line: &[u8], findings: &mut Findings<'_>) {
        if self.text.len() + line.len() >= PIECE && !self.text.is_empty() {
            self.log(0, findings);
        }
        self.text.extend_from_slice(line);
        if self.text.len() > PIECE + MARGIN {
            self.log(MARGIN, findings);
        }
    }

    fn end(&mut self, findings: &mut Findings<'_>) {
        self.log(0, findings);
    }
}

impl Reading {
    /// Logs what has come, in pieces, but for about so many bytes at its end.
    fn log(&mut self, keep: usize, findings: &mut Findings<'_>) {
        let text = String::from_utf8_lossy(&std::mem::take(&mut self.text)).into_owned();
        let masked = findings.masked(&text).into_owned();
        let mut rest = masked.as_str();
        while rest.len() > keep {
            let mut end = PIECE.min(rest.len());
            while !rest.is_char_boundary(end) {
                end -= 1;
            }
            findings.said(&rest[..end]);
            rest = &rest[end..];
        }
        self.text = rest.as_bytes().to_vec();
    }
}
