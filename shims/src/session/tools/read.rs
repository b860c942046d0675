//! `read`: a range of lines of a text file, or an image (agent-session.md §7.3).
//!
//! A file is read once from start to end in small pieces, whatever its size: its lines are all counted, but only the
//! ones that go into the result are kept.

use std::fs::File;
use std::io::{self, Read};

use super::args::Args;
use super::paths::ToolPath;
use super::truncate::{BYTES, Cut, Head, size};
use super::{Answer, Context, image, text};
use crate::text::shell_quote;

/// A NUL in this many bytes at the start makes a file binary.
const PROBE: u64 = 8192;
const CHUNK: usize = 64 * 1024;

pub(super) fn run(args: &Args, context: &Context) -> Answer {
    let path = ToolPath::existing(args.text("path"), context);
    let bytes = path.regular("read")?.len();
    let mut file = File::open(path.full()).map_err(|error| path.failure("read", &error))?;
    let mut start = Vec::new();
    (&mut file).take(PROBE).read_to_end(&mut start).map_err(|error| path.failure("read", &error))?;
    if let Some(mime) = image::mime(&start) {
        return image(&path, mime, start, file);
    }
    if start.contains(&0) {
        return Err(format!("{path} is a binary file ({bytes} bytes)"));
    }
    let first = args.integer("offset").map_or(0, |offset| offset.max(1) as u64 - 1);
    let limit = args.integer("limit").map(|limit| limit.max(0) as u64);
    let mut range = Range::new(first, limit);
    range.feed(&start);
    let mut chunk = vec![0; CHUNK];
    loop {
        if context.cancel.is_cancelled() {
            return Err(format!("Reading {path} was aborted"));
        }
        match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => range.feed(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(path.failure("read", &error)),
        }
    }
    range.answer(&path, context)
}

fn image(path: &ToolPath, mime: &'static str, mut bytes: Vec<u8>, file: File) -> Answer {
    // One byte more than allowed tells that there is more.
    let room = image::BYTES_LIMIT + 1 - bytes.len() as u64;
    let known = file.metadata().map_or(0, |metadata| metadata.len());
    file.take(room).read_to_end(&mut bytes).map_err(|error| path.failure("read", &error))?;
    if bytes.len() as u64 > image::BYTES_LIMIT {
        return Err(image::too_large(&path.to_string(), known.max(bytes.len() as u64)));
    }
    image::content(&path.to_string(), mime, &bytes)
}

/// The lines from `first` to before `end`, collected from a stream of bytes.
struct Range {
    /// Counted from 0.
    first: u64,
    end: Option<u64>,
    head: Head,
    /// Finished lines seen so far.
    seen: u64,
    /// Start of the unfinished line: enough of it to know that it does not fit.
    line: Vec<u8>,
    /// Bytes of the unfinished line.
    line_bytes: u64,
    /// Size of the first line of the range, when it alone does not fit.
    too_long: Option<u64>,
}

impl Range {
    fn new(first: u64, limit: Option<u64>) -> Self {
        let end = limit.map(|limit| first.saturating_add(limit));
        Self { first, end, head: Head::default(), seen: 0, line: Vec::new(), line_bytes: 0, too_long: None }
    }

    /// Whether the unfinished line can become part of the result.
    fn wants_line(&self) -> bool {
        self.seen >= self.first && self.end.is_none_or(|end| self.seen < end) && self.head.cut().is_none()
    }

    fn feed(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let content = piece.strip_suffix(b"\n").unwrap_or(piece);
            if self.wants_line() {
                let room = (BYTES + 1).saturating_sub(self.line.len());
                self.line.extend_from_slice(&content[..content.len().min(room)]);
            }
            self.line_bytes += content.len() as u64;
            if content.len() < piece.len() {
                self.finish_line();
            }
        }
    }

    fn finish_line(&mut self) {
        if self.wants_line() {
            let line = String::from_utf8_lossy(&self.line);
            self.head.push(&line);
            if self.head.lines() == 0 {
                // Decoding never makes a text shorter, so a line that does not fit is at least this long.
                self.too_long = Some(self.line_bytes.max(line.len() as u64));
            }
        }
        self.seen += 1;
        self.line.clear();
        self.line_bytes = 0;
    }

    /// The result after the last byte.
    fn answer(mut self, path: &ToolPath, context: &Context) -> Answer {
        let empty_file = self.seen == 0 && self.line_bytes == 0;
        self.finish_line();
        let Self { first, end, seen: total, too_long, head, .. } = self;
        if first >= total {
            return Err(format!("Offset {} is beyond the end of {path} ({total} lines)", first + 1));
        }
        if empty_file {
            return text("(empty file)");
        }
        if let Some(bytes) = too_long {
            return text(too_long_notice(first + 1, bytes, path, context));
        }
        let (from, to, cut) = (first + 1, first + head.lines() as u64, head.cut());
        let notice = match (cut, end) {
            (Some(Cut::Lines), _) => {
                Some(format!("[Showing lines {from}-{to} of {total}. Use offset={} to continue.]", to + 1))
            }
            (Some(Cut::Bytes), _) => Some(format!(
                "[Showing lines {from}-{to} of {total} ({} limit). Use offset={} to continue.]",
                size(BYTES as u64),
                to + 1
            )),
            (None, Some(end)) if end < total => {
                Some(format!("[{} more lines in file. Use offset={} to continue.]", total - end, end + 1))
            }
            (None, _) => None,
        };
        let lines = head.into_text();
        text(match notice {
            Some(notice) if lines.is_empty() => notice,
            Some(notice) => format!("{lines}\n\n{notice}"),
            // Providers refuse empty texts.
            None if lines.is_empty() => "(empty line)".into(),
            None => lines,
        })
    }
}

fn too_long_notice(line: u64, bytes: u64, path: &ToolPath, context: &Context) -> String {
    let given = path.to_string();
    // In the shell `~`, `@` and odd spaces would mean something else.
    let file = if context.dir.join(&given) == path.full() { given } else { path.full().display().to_string() };
    format!(
        "[Line {line} is {}, more than the limit of {}. Use bash: sed -n '{line}p' {} | head -c {BYTES}]",
        size(bytes),
        size(BYTES as u64),
        shell_quote(&file)
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use serde_json::{Value, json};

    use super::super::tests::{call, context};
    use super::super::truncate::LINES;
    use super::*;
    use crate::session::Permit;
    use crate::session::message::{Content, ToolCall};
    use crate::session::tools::execute;

    #[track_caller]
    fn case(content: impl AsRef<[u8]>, args: Value, expected: Result<&str, &str>) {
        let (base, context) = context();
        fs::write(base.path().join("f"), content).unwrap();
        let mut all = json!({"path": "f"});
        all.as_object_mut().unwrap().extend(args.as_object().unwrap().clone());
        let answer = call(&context, "read", all);
        assert_eq!(answer.as_ref().map(String::as_str).map_err(String::as_str), expected);
    }

    #[test]
    fn returns_lines() {
        case("a\nb\n", json!({}), Ok("a\nb\n"));
        case("a\nb", json!({}), Ok("a\nb"));
        case("a\r\nb\r\n", json!({}), Ok("a\r\nb\r\n"));
        case("a\nb\nc", json!({"offset": 2}), Ok("b\nc"));
        case("a\nb\nc", json!({"offset": 0}), Ok("a\nb\nc"));
        case("a\nb\nc", json!({"offset": -7}), Ok("a\nb\nc"));
        case("a\nb\nc", json!({"offset": "2", "limit": "5"}), Ok("b\nc"));
        case(b"a\xC3\nb", json!({}), Ok("a\u{FFFD}\nb"));
        case(b"a\xFFb\xF0\x9F\n", json!({}), Ok("a\u{FFFD}b\u{FFFD}\n"));
        case("", json!({}), Ok("(empty file)"));
        case("\n", json!({}), Ok("\n"));
        case("a\n", json!({"offset": 2}), Ok("(empty line)"));
    }

    #[test]
    fn tells_how_to_go_on() {
        case("a\nb\nc\n", json!({"limit": 2}), Ok("a\nb\n\n[2 more lines in file. Use offset=3 to continue.]"));
        case("a\nb\nc", json!({"limit": 2}), Ok("a\nb\n\n[1 more lines in file. Use offset=3 to continue.]"));
        case("a\nb\nc", json!({"offset": 2, "limit": 2}), Ok("b\nc"));
        case("a\nb", json!({"limit": 0}), Ok("[2 more lines in file. Use offset=1 to continue.]"));
        case("a\nb", json!({"offset": 3}), Err("Offset 3 is beyond the end of f (2 lines)"));
        case("", json!({"offset": 2}), Err("Offset 2 is beyond the end of f (1 lines)"));
    }

    #[test]
    fn stops_at_the_line_limit() {
        let numbers: Vec<_> = (1..=5000).map(|number| number.to_string()).collect();
        let expected =
            format!("{}\n\n[Showing lines 1-2000 of 5000. Use offset=2001 to continue.]", numbers[..LINES].join("\n"));
        case(numbers.join("\n"), json!({}), Ok(&expected));
        let expected = format!(
            "{}\n\n[Showing lines 11-2010 of 5000. Use offset=2011 to continue.]",
            numbers[10..2010].join("\n")
        );
        case(numbers.join("\n"), json!({"offset": 11, "limit": 4000}), Ok(&expected));
        case(numbers[..LINES].join("\n"), json!({}), Ok(&numbers[..LINES].join("\n")));
    }

    #[test]
    fn stops_at_the_size_limit() {
        // 512 lines of 100 bytes with their newlines are exactly the limit and one newline.
        let line = "x".repeat(99);
        let lines = vec![line.as_str(); 600].join("\n");
        let expected = format!(
            "{}\n\n[Showing lines 1-512 of 600 (50.0KB limit). Use offset=513 to continue.]",
            vec![line.as_str(); 512].join("\n")
        );
        case(lines, json!({}), Ok(&expected));
    }

    #[test]
    fn a_line_that_is_too_long_comes_with_a_command() {
        let long = "x".repeat(102_400);
        case(
            format!("a\n{long}\nb"),
            json!({"offset": 2}),
            Ok("[Line 2 is 100.0KB, more than the limit of 50.0KB. Use bash: sed -n '2p' f | head -c 51200]"),
        );
        case(
            format!("a\n{long}\nb"),
            json!({}),
            Ok("a\n\n[Showing lines 1-1 of 3 (50.0KB limit). Use offset=2 to continue.]"),
        );
        let (base, context) = context();
        fs::write(base.path().join("home/it's"), long).unwrap();
        let answer = call(&context, "read", json!({"path": "~/it's"})).unwrap();
        let quoted = shell_quote(base.path().join("home/it's").to_str().unwrap()).into_owned();
        assert!(answer.contains(&format!("sed -n '1p' {quoted} | head")), "{answer}");
    }

    #[test]
    fn lines_are_put_together_over_pieces() {
        let mut whole = Range::new(1, Some(2));
        let mut single = Range::new(1, Some(2));
        let content = "eins\nzwölf\n🦙\nvier\n";
        whole.feed(content.as_bytes());
        content.bytes().for_each(|byte| single.feed(&[byte]));
        assert_eq!(whole.head.into_text(), "zwölf\n🦙");
        assert_eq!(single.head.into_text(), "zwölf\n🦙");
    }

    #[test]
    fn huge_files_are_not_kept_in_memory() {
        let mut range = Range::new(0, None);
        let piece = vec![b'x'; 1 << 20];
        (0..64).for_each(|_| range.feed(&piece));
        assert!(range.line.capacity() < 4 * BYTES);
        assert_eq!(range.line_bytes, 64 << 20);
    }

    #[test]
    fn other_files_are_refused() {
        case(b"abc\0", json!({}), Err("f is a binary file (4 bytes)"));
        let (base, context) = context();
        let read = |path: &str| call(&context, "read", json!({"path": path})).unwrap_err();
        assert_eq!(read("gone"), "Cannot read gone: No such file or directory (os error 2)");
        assert_eq!(read("home"), "Cannot read home: it is a directory");
        assert_eq!(read("/dev/zero"), "Cannot read /dev/zero: it is not a regular file");
        assert!(read("a\0b").starts_with("Cannot read"), "NUL in a path");
        let locked = base.path().join("locked");
        fs::write(&locked, "x").unwrap();
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
        if fs::read(&locked).is_err() {
            assert_eq!(read("locked"), "Cannot read locked: Permission denied (os error 13)");
        }
    }

    #[test]
    fn images_are_returned_as_such_whatever_their_name() {
        let (base, context) = context();
        let read = |name: &str| {
            let call = ToolCall::from_raw("1", "read", json!({"path": name}).to_string());
            execute(&call, &context, &mut |_| Permit::Granted)
        };
        let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01".to_vec();
        fs::write(base.path().join("notes.txt"), &png).unwrap();
        let result = read("notes.txt");
        assert!(!result.is_error);
        assert_eq!(result.text(), "Read image file [image/png]");
        let [_, Content::Image(image)] = &result.content[..] else { panic!("{:?}", result.content) };
        assert_eq!((image.mime, image.base64.as_str()), ("image/png", "iVBORw0KGgoAAAANSUhEUgAAAAEAAAAB"));

        png.resize(4_718_592, 0);
        fs::write(base.path().join("full.png"), &png).unwrap();
        assert!(!read("full.png").is_error);
        png.push(0);
        fs::write(base.path().join("over.png"), &png).unwrap();
        let result = read("over.png");
        assert!(result.is_error && result.text().contains("4.5MB. Shrink it"), "{}", result.text());
        fs::write(base.path().join("wide.gif"), b"GIF89a\x41\x1f\x02\x00").unwrap();
        let result = read("wide.gif");
        assert!(result.is_error && result.text().contains("8001x2"), "{}", result.text());
    }
}
