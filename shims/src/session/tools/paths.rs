//! Paths that models write (agent-session.md §7.1), and what goes wrong with files.

use std::fmt;
use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::Context;

/// A path as given by a model and the file that is meant.
#[derive(Debug)]
pub(super) struct ToolPath {
    given: String,
    full: PathBuf,
}

impl ToolPath {
    /// Applies the rules for all tools: a leading `@` goes, typographic spaces become plain ones, `~` is `HOME`,
    /// relative paths start at the tool directory.
    pub(super) fn new(given: &str, context: &Context) -> Self {
        let plain = given.strip_prefix('@').unwrap_or(given).replace(is_odd_space, " ");
        Self { given: given.to_owned(), full: context.dir.join(expand_home(&plain, context)) }
    }

    /// The same, and when that does not exist, the file whose name has a typographic apostrophe instead.
    pub(super) fn existing(given: &str, context: &Context) -> Self {
        let path = Self::new(given, context);
        if path.full.exists() {
            return path;
        }
        let typographic = Self::new(&given.replace('\'', "\u{2019}"), context);
        if typographic.full.exists() { Self { full: typographic.full, ..path } } else { path }
    }

    /// The file that is meant, absolute.
    pub(super) fn full(&self) -> &Path {
        &self.full
    }

    /// Metadata of an existing file to work on. Anything but a regular file is refused: opening a FIFO blocks, and
    /// devices have no end.
    pub(super) fn regular(&self, operation: &str) -> Result<Metadata, String> {
        let metadata = std::fs::metadata(&self.full).map_err(|error| self.failure(operation, &error))?;
        if metadata.is_dir() {
            Err(format!("Cannot {operation} {self}: it is a directory"))
        } else if metadata.is_file() {
            Ok(metadata)
        } else {
            Err(format!("Cannot {operation} {self}: it is not a regular file"))
        }
    }

    /// The text for a failed operation on this file.
    pub(super) fn failure(&self, operation: &str, error: &io::Error) -> String {
        failure(operation, &self.given, error)
    }
}

impl fmt::Display for ToolPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.given)
    }
}

/// The text for a failed operation: operation, path, the system's reason, and what can be done about it.
pub(super) fn failure(operation: &str, path: &str, error: &io::Error) -> String {
    let hint = match Errno::from_io_error(error) {
        Some(Errno::ROFS) => ". Only /tmp is writable",
        _ => "",
    };
    format!("Cannot {operation} {path}: {error}{hint}")
}

fn expand_home(path: &str, context: &Context) -> PathBuf {
    let below = match path.strip_prefix('~') {
        Some("") => "",
        Some(rest) if rest.starts_with('/') => rest.trim_start_matches('/'),
        _ => return path.into(),
    };
    match context.environment.get_non_empty("HOME") {
        Some(home) => Path::new(home).join(below),
        None => path.into(),
    }
}

fn is_odd_space(character: char) -> bool {
    matches!(character, '\u{A0}' | '\u{2000}'..='\u{200A}' | '\u{202F}' | '\u{205F}' | '\u{3000}')
}

#[cfg(test)]
mod tests {
    use super::super::tests::context;
    use super::*;

    #[test]
    fn paths_are_resolved_by_the_rules() {
        let (base, context) = context();
        #[track_caller]
        fn case(context: &Context, given: &str, expected: PathBuf) {
            assert_eq!(ToolPath::new(given, context).full(), expected, "{given}");
        }
        let base = base.path();
        case(&context, "a/b", base.join("a/b"));
        case(&context, "@a", base.join("a"));
        case(&context, "@@a", base.join("@a"));
        case(&context, "/etc/hosts", "/etc/hosts".into());
        case(&context, "@/etc/hosts", "/etc/hosts".into());
        case(&context, "~", base.join("home"));
        case(&context, "~/x", base.join("home/x"));
        case(&context, "@~//x", base.join("home/x"));
        case(&context, "~ann/x", base.join("~ann/x"));
        case(&context, "a\u{A0}b\u{2003}c\u{202F}d\u{205F}e\u{3000}f", base.join("a b c d e f"));
    }

    #[test]
    fn without_a_home_the_tilde_stays() {
        let (base, mut context) = context();
        context.environment.remove("HOME");
        assert_eq!(ToolPath::new("~/x", &context).full(), base.path().join("~/x"));
    }

    #[test]
    fn a_typographic_apostrophe_is_tried() {
        let (base, context) = context();
        let odd = base.path().join("it\u{2019}s");
        std::fs::write(&odd, "").unwrap();
        assert_eq!(ToolPath::existing("it's", &context).full(), odd);
        assert_eq!(ToolPath::existing("that's", &context).full(), base.path().join("that's"));
        let plain = base.path().join("it's");
        std::fs::write(&plain, "").unwrap();
        assert_eq!(ToolPath::existing("it's", &context).full(), plain);
    }

    #[test]
    fn a_read_only_file_system_says_where_to_write() {
        let text = failure("write", "/app/x", &io::Error::from(Errno::ROFS));
        assert!(text.starts_with("Cannot write /app/x: Read-only file system"), "{text}");
        assert!(text.ends_with("Only /tmp is writable"), "{text}");
    }
}
