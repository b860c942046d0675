//! `edit`: replaces one piece of text in a file and leaves every other byte as it is (agent-session.md §7.5).
//!
//! Text is compared with line breaks as LF, and when that finds nothing, without trailing white space and with
//! typographic characters as plain ones. A match is mapped back to the file's own bytes, and only those are replaced.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Seek, Write};
use std::ops::Range;

use super::args::Args;
use super::paths::ToolPath;
use super::truncate::size;
use super::{Answer, Context, text};

/// Largest file; several copies of it are held in memory.
const FILE_LIMIT: u64 = 64 * 1024 * 1024;
const BOM: char = '\u{FEFF}';

pub(super) fn run(args: &Args, context: &Context) -> Answer {
    let path = ToolPath::new(args.text("path"), context);
    let missing = |error: &std::io::Error| match error.kind() {
        ErrorKind::NotFound => format!("File not found: {path}"),
        _ => path.failure("edit", error),
    };
    std::fs::metadata(path.full()).map_err(|error| missing(&error))?;
    let bytes = path.regular("edit")?.len();
    if bytes > FILE_LIMIT {
        return Err(format!("Cannot edit {path}: it has {}, the limit is {}", size(bytes), size(FILE_LIMIT)));
    }
    // Opened for writing from the start, so that an unwritable file is told before anything is compared.
    let mut file = OpenOptions::new().read(true).write(true).open(path.full()).map_err(|error| missing(&error))?;
    let mut content = Vec::new();
    file.read_to_end(&mut content).map_err(|error| path.failure("read", &error))?;
    let content = String::from_utf8(content).map_err(|_| format!("Cannot edit {path}: it is not UTF-8 text"))?;
    let edited = replace(&content, args.text("oldText"), args.text("newText"))
        .map_err(|problem| format!("Cannot edit {path}: {problem}"))?;
    file.rewind()
        .and_then(|()| file.write_all(edited.as_bytes()))
        .and_then(|()| file.set_len(edited.len() as u64))
        .map_err(|error| path.failure("write", &error))?;
    text(format!("Replaced text in {path}."))
}

/// The content of a file with `old` replaced by `new`; the error is what prevents it.
fn replace(content: &str, old: &str, new: &str) -> Result<String, String> {
    if old.is_empty() {
        return Err("oldText is empty".into());
    }
    let (bom, body) = match content.strip_prefix(BOM) {
        Some(body) => (content.len() - body.len(), body),
        None => (0, content),
    };
    let new = normalise(new, Matching::Exact);
    let span = find(body, old)?;
    if normalise(&body[span.clone()], Matching::Exact) == new {
        return Err("oldText and newText are the same, nothing would change".into());
    }
    let crlf = body.find('\n').is_some_and(|newline| body[..newline].ends_with('\r'));
    let new = if crlf { new.replace('\n', "\r\n") } else { new };
    Ok([&content[..bom], &body[..span.start], &new, &body[span.end..]].concat())
}

/// Where the one occurrence of `old` is, in bytes of `body`.
fn find(body: &str, old: &str) -> Result<Range<usize>, String> {
    for matching in [Matching::Exact, Matching::Fuzzy] {
        let (haystack, needle) = (normalise(body, matching), normalise(old, matching));
        if needle.is_empty() {
            break;
        }
        let Some(start) = haystack.find(&needle) else { continue };
        let next = start + haystack[start..].chars().next().map_or(1, char::len_utf8);
        if haystack[next..].contains(&needle) {
            // Occurrences that overlap are counted once by `matches`, but there is no telling which one is meant.
            let count = haystack.matches(&needle).count().max(2);
            return Err(format!("oldText occurs {count} times; add more of the text around it to make it unique"));
        }
        return Ok(original_span(body, matching, start..start + needle.len()));
    }
    Err("oldText was not found; it must match the file exactly, white space and line breaks included".into())
}

/// How alike two texts have to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Matching {
    /// Up to the form of line breaks.
    Exact,
    /// Also up to trailing white space of lines, and typographic quotes, dashes and spaces.
    Fuzzy,
}

fn normalise(text: &str, matching: Matching) -> String {
    let mut normal = String::with_capacity(text.len());
    walk(text, matching, &mut |character, _| normal.push(character));
    normal
}

/// The bytes of `text` that make up these bytes of its normal form.
fn original_span(text: &str, matching: Matching, span: Range<usize>) -> Range<usize> {
    let mut at = 0;
    let mut original = 0..0;
    walk(text, matching, &mut |character, source| {
        if at == span.start {
            original.start = source.start;
        }
        at += character.len_utf8();
        if at == span.end {
            original.end = source.end;
        }
    });
    original
}

/// Visits every character of the normal form of a text, with the bytes it stands for.
fn walk(text: &str, matching: Matching, visit: &mut dyn FnMut(char, Range<usize>)) {
    // Start of white space that is dropped if the line ends after it.
    let mut blank = None;
    let mut characters = text.char_indices().peekable();
    while let Some((start, character)) = characters.next() {
        let mut end = start + character.len_utf8();
        if matches!(character, '\r' | '\n') {
            if character == '\r' && characters.next_if(|(_, next)| *next == '\n').is_some() {
                end += 1;
            }
            blank = None;
            visit('\n', start..end);
        } else if matching == Matching::Exact {
            visit(character, start..end);
        } else if character.is_whitespace() {
            blank.get_or_insert(start);
        } else {
            if let Some(first) = blank.take() {
                for (offset, space) in text[first..start].char_indices() {
                    visit(plain(space), first + offset..first + offset + space.len_utf8());
                }
            }
            visit(plain(character), start..end);
        }
    }
}

/// The ASCII character that a typographic one stands for.
fn plain(character: char) -> char {
    match character {
        '\u{2018}'..='\u{201B}' => '\'',
        '\u{201C}'..='\u{201F}' => '"',
        '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
        '\u{A0}' | '\u{2002}'..='\u{200A}' | '\u{202F}' | '\u{205F}' | '\u{3000}' => ' ',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use serde_json::json;

    use super::super::tests::{call, context};
    use super::*;

    #[track_caller]
    fn case(content: &str, old: &str, new: &str, expected: &str) {
        assert_eq!(replace(content, old, new).as_deref(), Ok(expected));
    }

    #[track_caller]
    fn refused(content: &str, old: &str, new: &str, why: &str) {
        let problem = replace(content, old, new).unwrap_err();
        assert!(problem.contains(why), "{problem}");
    }

    #[test]
    fn the_one_occurrence_is_replaced() {
        case("a b c", "b", "x", "a x c");
        case("a b c", "a b c", "", "");
        case("a\nb\nc\n", "a\nb\n", "x\n", "x\nc\n");
        refused("a b a b", "b", "x", "occurs 2 times");
        refused("aaa", "aa", "x", "occurs 2 times");
        refused("abc", "", "x", "empty");
        refused("abc", "x", "y", "not found");
        refused("", "x", "y", "not found");
        refused("abc", "b", "b", "nothing would change");
    }

    #[test]
    fn line_breaks_and_bom_stay() {
        case("a\r\nb\r\nc\r\n", "a\nb", "x\ny\nz", "x\r\ny\r\nz\r\nc\r\n");
        case("a\r\nb\r\n", "a\r\nb", "x\r\ny", "x\r\ny\r\n");
        case("a\nb\n", "a\r\nb", "x\r\ny", "x\ny\n");
        case("a\rb\n", "a\nb", "x", "x\n");
        case("\u{FEFF}a\r\nb", "a", "x", "\u{FEFF}x\r\nb");
        case("a\r\nb\nc\rd\r\n", "c", "x\ny", "a\r\nb\nx\r\ny\rd\r\n");
        refused("a\nb", "a\nb", "a\r\nb", "nothing would change");
    }

    #[test]
    fn a_similar_text_is_found_when_the_exact_one_is_not() {
        case("say \u{201C}hi\u{201D} \u{2014} it\u{2019}s\n", "\"hi\" - it's", "bye", "say bye\n");
        case("a  \t\nb\u{A0}c  \nd \n", "a\nb c\n", "x\n", "x\nd \n");
        case("keep   \na  \nb \u{2019} \n", "a\nb", "x", "keep   \nx \u{2019} \n");
        case("a\r\nb \r\nc\r\n", "a\nb\nc", "x\ny", "x\r\ny\r\n");
        refused("\u{2018}a\u{2019} \u{201B}a'", "'a'", "x", "occurs 2 times");
        refused("a b", "  \n ", "x", "not found");
        refused("a b", "   ", "x", "not found");
    }

    #[test]
    fn an_exact_match_counts_although_a_similar_one_exists() {
        case("it\u{2019}s it's", "it's", "x", "it\u{2019}s x");
    }

    #[test]
    fn files_are_changed_in_place() {
        let (base, context) = context();
        let file = base.path().join("run.sh");
        fs::write(&file, "a long line\nb\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        let answer = call(&context, "edit", json!({"path": "run.sh", "oldText": "a long line", "newText": "a"}));
        assert_eq!(answer.unwrap(), "Replaced text in run.sh.");
        assert_eq!(fs::read_to_string(&file).unwrap(), "a\nb\n");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o755);
    }

    #[test]
    fn files_that_cannot_be_edited_say_why() {
        let (base, context) = context();
        let edit =
            |path: &str| call(&context, "edit", json!({"path": path, "oldText": "a", "newText": "b"})).unwrap_err();
        assert_eq!(edit("gone"), "File not found: gone");
        assert_eq!(edit("home"), "Cannot edit home: it is a directory");
        fs::write(base.path().join("binary"), b"a\xFF").unwrap();
        assert_eq!(edit("binary"), "Cannot edit binary: it is not UTF-8 text");
        fs::write(base.path().join("other"), "x").unwrap();
        assert!(edit("other").starts_with("Cannot edit other: oldText was not found"));
        let locked = base.path().join("locked");
        fs::write(&locked, "a").unwrap();
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o444)).unwrap();
        if OpenOptions::new().write(true).open(&locked).is_err() {
            assert_eq!(edit("locked"), "Cannot edit locked: Permission denied (os error 13)");
        }
    }
}

#[cfg(test)]
mod props {
    use proptest::prelude::*;

    use super::*;

    /// Short texts in which exact and similar matches are likely.
    fn texts(longest: usize) -> impl Strategy<Value = String> {
        prop::collection::vec(
            prop::sample::select(vec!["a", "b", " ", "\u{A0}", "'", "\u{2019}", "\n", "\r\n"]),
            0..longest,
        )
        .prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn only_one_span_changes(content in texts(30), old in texts(6), new in texts(6)) {
            let Ok(edited) = replace(&content, &old, &new) else { return Ok(()) };
            let span = find(&content, &old).unwrap();
            prop_assert!(edited.starts_with(&content[..span.start]) && edited.ends_with(&content[span.end..]));
            let inserted = &edited[span.start..edited.len() - (content.len() - span.end)];
            prop_assert_eq!(normalise(inserted, Matching::Exact), normalise(&new, Matching::Exact));
            prop_assert!(edited != content);
        }

        #[test]
        fn what_is_found_is_what_was_asked_for(content in texts(30), old in texts(6)) {
            let Ok(span) = find(&content, &old) else { return Ok(()) };
            let (found, wanted) = (normalise(&content[span], Matching::Fuzzy), normalise(&old, Matching::Fuzzy));
            prop_assert_eq!(found.trim(), wanted.trim());
        }

        #[test]
        fn a_text_that_occurs_once_is_always_found(before in "[a-c\n]{0,20}", after in "[a-c\n]{0,20}") {
            let content = format!("{before}X{after}");
            prop_assert_eq!(replace(&content, "X", "Y"), Ok(format!("{before}Y{after}")));
        }
    }
}
