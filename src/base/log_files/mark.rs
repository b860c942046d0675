//! What tells the file of a day from another one that takes its place, and where the first one went.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::position::Day;
use crate::base::ids::sha256_hex;

/// Most bytes of a file's first line that are looked at. An entry begins with its time and its process.
const LONGEST: usize = 4096;
/// Digits of the digest.
const DIGITS: usize = 16;

/// Day and digest of the first line of a file. A file that is renamed or copied keeps it, one that is written anew has
/// another one; neither the number of a file nor its name would be as good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark(String);

impl Mark {
    /// The mark of a day's file; `None` as long as it has no line.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn of(day: &Day, file: &File) -> io::Result<Option<Self>> {
        let mut head = vec![0; LONGEST];
        let mut length = 0;
        while length < head.len() {
            match file.read_at(&mut head[length..], length as u64) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let newline = head[..length].iter().position(|byte| *byte == b'\n');
        let end = newline.or_else(|| (length == LONGEST).then_some(length));
        Ok(end.map(|end| Self(format!("{day}.{}", &sha256_hex(&head[..end])[..DIGITS]))))
    }

    /// A mark that was given away as text. One that is malformed is that of no file.
    pub fn from_text(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Whether it is that of a file of this day.
    pub(super) fn is_of(&self, day: &Day) -> bool {
        self.0.strip_prefix(day.as_str()).is_some_and(|rest| rest.starts_with('.'))
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The file with this mark among those that were put aside: beside the day's own, with something behind its name
/// (`dev-2026-03-05.log.1`).
///
/// # Errors
/// When the directory cannot be read.
pub(super) fn put_aside(dir: &Path, name: &str, day: &Day, mark: &Mark) -> io::Result<Option<File>> {
    let own = format!("{name}-{day}.log");
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let is_beside =
            entry.file_name().to_str().is_some_and(|found| found.len() > own.len() && found.starts_with(&own));
        if is_beside
            // Opening something else, a pipe, could wait for ever.
            && entry.metadata().is_ok_and(|found| found.is_file())
            && let Ok(file) = File::open(entry.path())
            && Mark::of(day, &file)?.as_ref() == Some(mark)
        {
            return Ok(Some(file));
        }
    }
    Ok(None)
}
