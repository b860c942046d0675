//! Lines of a file, from its end or from a place in it, in pieces. Only what a newline ends is a line.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Bytes of one read.
pub(super) const PIECE: usize = 64 * 1024;
/// Longest line that is kept. Entries are far shorter; what is longer is passed over, not loaded.
pub(super) const LONGEST: usize = 4 * 1024 * 1024;

/// How much is read at once and kept at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) piece: usize,
    pub(super) longest: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { piece: PIECE, longest: LONGEST }
    }
}

/// A line without its newline.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Where it begins.
    pub(super) at: u64,
    /// `None` when it is too long.
    pub(super) bytes: Option<Vec<u8>>,
}

/// Lines from the last one to the first.
pub(super) struct Backward<'f> {
    file: &'f File,
    sizes: Sizes,
    /// Where the buffer begins in the file.
    start: u64,
    /// Ends with the newline of the line that comes next, or is empty.
    buffer: Vec<u8>,
}

impl<'f> Backward<'f> {
    /// The lines that end at `end` or before it.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn new(file: &'f File, end: u64, sizes: Sizes) -> io::Result<Self> {
        let mut lines = Self { file, sizes, start: end, buffer: Vec::new() };
        // A last line without its end is not one yet.
        while lines.buffer.is_empty() && lines.start > 0 {
            lines.read_piece()?;
            let end = lines.buffer.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
            lines.buffer.truncate(end);
        }
        Ok(lines)
    }

    /// Where the next line to come ends: behind its newline.
    pub(super) fn end(&self) -> u64 {
        self.start + self.buffer.len() as u64
    }

    /// The next line towards the beginning.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn next(&mut self) -> io::Result<Option<Line>> {
        let Some(mut unsearched) = self.buffer.len().checked_sub(1) else { return Ok(None) };
        let mut too_long = false;
        loop {
            if let Some(newline) = self.buffer[..unsearched].iter().rposition(|byte| *byte == b'\n') {
                let bytes = self.buffer.split_off(newline + 1);
                return Ok(Some(Line { at: self.end(), bytes: keep(bytes, too_long) }));
            }
            if self.start == 0 {
                let bytes = std::mem::take(&mut self.buffer);
                return Ok(Some(Line { at: 0, bytes: keep(bytes, too_long) }));
            }
            if self.buffer.len() > self.sizes.longest {
                too_long = true;
                self.buffer.clear();
            }
            unsearched = self.read_piece()?;
        }
    }

    /// Puts the piece before the buffer in front of it; gives its length.
    fn read_piece(&mut self) -> io::Result<usize> {
        let length = usize::try_from(self.start).unwrap_or(usize::MAX).min(self.sizes.piece);
        let mut piece = vec![0; length];
        self.file.read_exact_at(&mut piece, self.start - length as u64)?;
        piece.append(&mut self.buffer);
        self.buffer = piece;
        self.start -= length as u64;
        Ok(length)
    }
}

/// A line's bytes without the newline.
fn keep(mut bytes: Vec<u8>, too_long: bool) -> Option<Vec<u8>> {
    bytes.pop_if(|byte| *byte == b'\n');
    (!too_long).then_some(bytes)
}

/// Lines from a place on.
pub(super) struct Forward<'f> {
    file: &'f File,
    sizes: Sizes,
    /// Where the next line begins.
    at: u64,
    buffer: Vec<u8>,
    /// What of the buffer is used up.
    used: usize,
}

impl<'f> Forward<'f> {
    pub(super) fn new(file: &'f File, at: u64, sizes: Sizes) -> Self {
        Self { file, sizes, at, buffer: Vec::new(), used: 0 }
    }

    /// Where the next line begins, or will begin.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// The next line; `None` when there is none that has its end.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn next(&mut self) -> io::Result<Option<Line>> {
        let mut searched = self.used;
        // Bytes of a line that is too long and no longer in the buffer.
        let mut dropped = 0;
        loop {
            if let Some(newline) = self.buffer[searched..].iter().position(|byte| *byte == b'\n') {
                let bytes = self.buffer[self.used..searched + newline].to_vec();
                let at = self.at;
                self.at += dropped + bytes.len() as u64 + 1;
                self.used = searched + newline + 1;
                return Ok(Some(Line { at, bytes: (dropped == 0).then_some(bytes) }));
            }
            if self.buffer.len() - self.used > self.sizes.longest {
                dropped += (self.buffer.len() - self.used) as u64;
                self.used = self.buffer.len();
            }
            self.buffer.drain(..self.used);
            self.used = 0;
            searched = self.buffer.len();
            self.buffer.resize(searched + self.sizes.piece, 0);
            let count = read_at(self.file, &mut self.buffer[searched..], self.at + dropped + searched as u64)?;
            self.buffer.truncate(searched + count);
            if count == 0 {
                if dropped > 0 {
                    self.buffer.clear();
                }
                return Ok(None);
            }
        }
    }
}

fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    loop {
        match file.read_at(buffer, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod props {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    /// The lines of a text, the simple way.
    fn naive(content: &[u8], longest: usize) -> Vec<Line> {
        let mut at = 0;
        let complete = content.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
        complete
            .map(|line| {
                let bytes = line[..line.len() - 1].to_vec();
                let found = Line { at, bytes: (bytes.len() <= longest).then_some(bytes) };
                at += line.len() as u64;
                found
            })
            .collect()
    }

    /// Whether a line is kept is only sure when it is clearly shorter or longer than the limit.
    fn is_same(found: &Line, expected: &Line, sizes: Sizes) -> bool {
        found == expected
            || (found.at == expected.at
                && expected.bytes.as_ref().is_none_or(|bytes| bytes.len() + sizes.piece > sizes.longest)
                && found.bytes.is_none() != expected.bytes.is_none())
    }

    fn content() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![4 => Just(b'x'), 2 => any::<u8>(), 2 => Just(b'\n'), 1 => Just(0xC3), 1 => Just(0xBC)];
        prop::collection::vec(byte, 0..200)
    }

    proptest! {
        #[test]
        fn both_directions_give_every_line_once(
            content in content(), piece in 1usize..20, longest in prop_oneof![1usize..40, Just(1000usize)]
        ) {
            let (file, sizes) = (file(&content), Sizes { piece, longest });
            let expected = naive(&content, longest);
            let mut forward = Forward::new(&file, 0, sizes);
            let mut found = Vec::new();
            while let Some(line) = forward.next().unwrap() {
                found.push(line);
            }
            prop_assert_eq!(found.len(), expected.len());
            prop_assert!(found.iter().zip(&expected).all(|(a, b)| is_same(a, b, sizes)), "{found:?} {expected:?}");
            let mut backward = Backward::new(&file, content.len() as u64, sizes).unwrap();
            prop_assert_eq!(backward.end(), forward.at());
            let mut found = Vec::new();
            while let Some(line) = backward.next().unwrap() {
                found.push(line);
            }
            found.reverse();
            prop_assert_eq!(found.len(), expected.len());
            prop_assert!(found.iter().zip(&expected).all(|(a, b)| is_same(a, b, sizes)), "{found:?} {expected:?}");
        }

        #[test]
        fn a_line_that_grows_is_given_when_it_has_its_end(
            parts in prop::collection::vec(content(), 0..6), piece in 1usize..20
        ) {
            let mut file = tempfile::tempfile().unwrap();
            let (mut at, mut found, mut all) = (0, Vec::new(), Vec::new());
            let sizes = Sizes { piece, longest: 10_000 };
            for part in parts {
                file.write_all(&part).unwrap();
                all.extend(part);
                let mut lines = Forward::new(&file, at, sizes);
                while let Some(line) = lines.next().unwrap() {
                    found.push(line);
                }
                // And once more with the same reader, which has something in its buffer.
                prop_assert!(lines.next().unwrap().is_none());
                at = lines.at();
            }
            prop_assert_eq!(found, naive(&all, 10_000));
        }
    }

    #[test]
    fn the_end_of_a_file_of_any_size_is_read_without_the_rest() {
        let mut file = tempfile::tempfile().unwrap();
        file.set_len(1 << 40).unwrap();
        io::Seek::seek(&mut file, io::SeekFrom::End(0)).unwrap();
        file.write_all("\none\nzwölf\nhal".as_bytes()).unwrap();
        let mut lines = Backward::new(&file, file.metadata().unwrap().len(), Sizes::default()).unwrap();
        let mut next = || String::from_utf8(lines.next().unwrap().unwrap().bytes.unwrap()).unwrap();
        assert_eq!([next(), next()], ["zwölf", "one"]);
    }
}
