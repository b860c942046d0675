//! The output of a command: counted whole, its end kept in memory, and saved to a file when it is long.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::super::truncate::{BYTES, Cut, LINES, Tail, last_bytes, size, tail};
use super::with_notice;
use crate::secret::Masker;

/// Bytes that stay in memory, the newest ones: more than are shown, so that a secret is whole where those begin.
const KEEP: usize = 102_400;
/// Bytes of the file.
const LOG_LIMIT: u64 = 20 * 1024 * 1024;

/// What a command has printed so far.
pub(super) struct Capture {
    dir: PathBuf,
    recent: VecDeque<u8>,
    bytes: u64,
    newlines: u64,
    /// Bytes after the last newline.
    line_bytes: u64,
    /// Size of the line before the last newline, without it.
    ended_line_bytes: u64,
    log: Log,
}

/// The file with everything.
enum Log {
    /// The output is short.
    None,
    Open {
        path: PathBuf,
        file: File,
        /// Bytes that may still be written.
        room: u64,
    },
    /// The limit is reached; the file ends with a line that says so.
    Full(PathBuf),
    Failed(String),
}

impl Capture {
    /// `dir` is where a file goes, should one be needed.
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            recent: VecDeque::new(),
            bytes: 0,
            newlines: 0,
            line_bytes: 0,
            ended_line_bytes: 0,
            log: Log::None,
        }
    }

    /// Takes the next bytes, at most [`KEEP`] at once.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.count(bytes);
        let over = (self.recent.len() + bytes.len()).saturating_sub(KEEP);
        match self.log {
            // Nothing has been dropped before the limits are passed, so the file gets everything.
            Log::None if self.is_long() => {
                self.recent.extend(bytes);
                self.open_log();
                self.recent.drain(..over);
            }
            _ => {
                self.recent.drain(..over.min(self.recent.len()));
                self.recent.extend(bytes);
                self.log.write(bytes);
            }
        }
    }

    /// The text for the model, with a notice when it is not everything; empty when nothing was printed. The text
    /// does not begin inside one of the secrets, which nobody would recognise any more.
    pub(super) fn finish(mut self, secrets: &Masker) -> String {
        let bytes: Vec<u8> = self.recent.iter().copied().collect();
        let decoded = String::from_utf8_lossy(&bytes);
        let total = self.lines();
        let (text, notice) = match tail(&decoded) {
            Tail::Whole => return without_nul(&decoded),
            Tail::Lines { text, lines, cut } => {
                let limit = match cut {
                    Cut::Lines => String::new(),
                    Cut::Bytes => format!(" ({} limit)", size(BYTES as u64)),
                };
                (text, format!("Showing lines {}-{total} of {total}{limit}", total - lines as u64 + 1))
            }
            Tail::LongLine(line) => {
                let text = last_bytes(line, secrets);
                let line = if self.line_bytes > 0 { self.line_bytes } else { self.ended_line_bytes };
                let (shown, line) = (size(text.len() as u64), size(line));
                (text, format!("Showing last {shown} of line {total} (line is {line})"))
            }
        };
        if matches!(self.log, Log::None) {
            // Replaced bytes made a short output long.
            self.open_log();
        }
        let saved = match &self.log {
            Log::Open { path, .. } | Log::Full(path) => format!("Full output: {}", path.display()),
            Log::Failed(reason) => format!("Full output could not be saved: {reason}"),
            Log::None => "Full output was not saved".into(),
        };
        with_notice(&without_nul(text), &format!("[{notice}. {saved}]"))
    }

    fn count(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.newlines += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        let newline = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte == b'\n');
        let Some(last) = newline(bytes) else {
            self.line_bytes += bytes.len() as u64;
            return;
        };
        self.ended_line_bytes = match newline(&bytes[..last]) {
            Some(previous) => (last - previous - 1) as u64,
            None => self.line_bytes + last as u64,
        };
        self.line_bytes = (bytes.len() - last - 1) as u64;
    }

    /// Lines of the whole output; a final newline ends the last one.
    fn lines(&self) -> u64 {
        self.newlines + u64::from(self.line_bytes > 0)
    }

    fn is_long(&self) -> bool {
        self.bytes > BYTES as u64 || self.lines() > LINES as u64
    }

    /// Starts the file with what is in memory.
    fn open_log(&mut self) {
        self.log = match create(&self.dir) {
            Ok((path, file)) => Log::Open { path, file, room: LOG_LIMIT },
            Err(error) => Log::Failed(error.to_string()),
        };
        let (front, back) = self.recent.as_slices();
        self.log.write(front);
        self.log.write(back);
    }
}

impl Log {
    fn write(&mut self, bytes: &[u8]) {
        let Self::Open { path, file, room } = self else { return };
        let fitting = bytes.len().min(usize::try_from(*room).unwrap_or(usize::MAX));
        let mut written = file.write_all(&bytes[..fitting]);
        *room -= fitting as u64;
        if written.is_ok() && fitting == bytes.len() {
            return;
        }
        if written.is_ok() {
            written = writeln!(file, "\n[the limit of {} is reached, what follows is not saved]", size(LOG_LIMIT));
        }
        *self = match written {
            Ok(()) => Self::Full(std::mem::take(path)),
            Err(error) => Self::Failed(format!("{}: {error}", path.display())),
        };
    }
}

/// A new file with a name that nobody can guess.
fn create(dir: &Path) -> io::Result<(PathBuf, File)> {
    // Every hasher of this kind starts from a random key.
    let path = dir.join(format!("al-bash-{:016x}.log", RandomState::new().hash_one(std::process::id())));
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    opened
        .map(|file| (path.clone(), file))
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// Models do not take U+0000.
fn without_nul(text: &str) -> String {
    text.replace('\0', "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    /// Feeds output in pieces of each size; the result must not depend on it. The path is replaced by `FILE`.
    #[track_caller]
    fn case(output: &[u8], expected: &str, saved: bool) {
        for piece in [1000, 32 * 1024] {
            let dir = tempfile::tempdir().unwrap();
            let mut capture = Capture::new(dir.path());
            for bytes in output.chunks(piece) {
                capture.push(bytes);
                assert!(capture.recent.len() <= KEEP);
            }
            let mut text = capture.finish(&Masker::default());
            let files: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
            assert_eq!(files.len(), usize::from(saved));
            for file in &files {
                text = text.replace(file.to_str().unwrap(), "FILE");
                assert_eq!(std::fs::read(file).unwrap(), output);
            }
            assert!(text == expected, "{} … {}", crate::text::cut(&text, 200), &text[text.len().saturating_sub(200)..]);
        }
    }

    #[test]
    fn short_output_is_returned_as_it_is() {
        case(b"", "", false);
        case(b"a\nb\n", "a\nb\n", false);
        case(b"a\0b", "ab", false);
        case("x\n".repeat(LINES).as_bytes(), &"x\n".repeat(LINES), false);
        case("x".repeat(BYTES).as_bytes(), &"x".repeat(BYTES), false);
    }

    #[test]
    fn many_lines_are_cut_and_saved() {
        let expected = format!("{}x\n\n[Showing lines 2-2001 of 2001. Full output: FILE]", "x\n".repeat(LINES - 1));
        case("x\n".repeat(LINES + 1).as_bytes(), &expected, true);
        case(format!("{}x", "x\n".repeat(LINES)).as_bytes(), &expected, true);
    }

    #[test]
    fn many_bytes_are_cut_and_saved() {
        // 512 lines of 100 bytes are exactly the limit.
        let line = format!("{}\n", "x".repeat(99));
        let expected = format!(
            "{}\n\n[Showing lines 1489-2000 of 2000 (50.0KB limit). Full output: FILE]",
            line.repeat(512).trim_end()
        );
        case(line.repeat(2000).as_bytes(), &expected, true);
    }

    #[test]
    fn a_huge_line_is_cut_and_saved() {
        let end = "x".repeat(BYTES);
        let notice = "Showing last 50.0KB of line 2 (line is 300.0KB). Full output: FILE";
        let output = format!("a\n{}", "x".repeat(300 * 1024));
        case(output.as_bytes(), &format!("{end}\n\n[{notice}]"), true);
        case(format!("{output}\n").as_bytes(), &format!("{end}\n\n[{notice}]"), true);
        let notice = "Showing lines 3-3 of 3 (50.0KB limit). Full output: FILE";
        case(format!("{output}\nb\n").as_bytes(), &format!("b\n\n[{notice}]"), true);
    }

    #[test]
    fn a_huge_line_is_not_cut_inside_a_secret() {
        let secrets = Masker::new(&[Secret::new("hunter2-secret")]);
        for behind in [BYTES - 13, BYTES - 7, BYTES - 1] {
            let dir = tempfile::tempdir().unwrap();
            let mut capture = Capture::new(dir.path());
            let output = format!("{}hunter2-secret{}", "x".repeat(BYTES), "y".repeat(behind));
            output.as_bytes().chunks(1000).for_each(|bytes| capture.push(bytes));
            let text = capture.finish(&secrets);
            assert!(text.starts_with(&format!("{}\n\n[Showing last 50.0KB of line 1", "y".repeat(behind))), "{behind}");
        }
    }

    #[test]
    fn replaced_bytes_count_in_the_limit() {
        let output = vec![0xFF; 40_000];
        let end = "\u{FFFD}".repeat(BYTES / 3);
        let notice = "Showing last 50.0KB of line 1 (line is 39.1KB). Full output: FILE";
        case(&output, &format!("{end}\n\n[{notice}]"), true);
    }

    #[test]
    fn the_file_ends_at_its_limit_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let mut capture = Capture::new(dir.path());
        let piece = vec![b'x'; 30_000];
        (0..1000).for_each(|_| capture.push(&piece));
        assert!(capture.finish(&Masker::default()).contains("(line is 28.6MB). Full output: "));
        let file = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
        let content = std::fs::read(file).unwrap();
        let (output, note) = content.split_at(LOG_LIMIT as usize);
        assert!(output.iter().all(|byte| *byte == b'x'));
        assert_eq!(note, b"\n[the limit of 20.0MB is reached, what follows is not saved]\n");
    }

    #[test]
    fn a_file_that_cannot_be_written_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut capture = Capture::new(&dir.path().join("missing"));
        capture.push("x\n".repeat(LINES + 1).as_bytes());
        let text = capture.finish(&Masker::default());
        assert!(text.contains("of 2001. Full output could not be saved: /"), "{text}");
        assert!(text.contains("/missing/al-bash-"), "{text}");
        assert!(text.ends_with("No such file or directory (os error 2)]"));
    }
}
