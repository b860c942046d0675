//! What a stream can show: colour, width, rewriting a line (cli-config.md §2.3).

use std::io::{self, IsTerminal as _, Write};

/// Which of our streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// How a stream is written to; decided once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Escape sequences for colour are allowed.
    pub colour: bool,
    /// The stream is a terminal on which a line can be rewritten.
    pub live: bool,
}

impl Style {
    /// Neither colour nor rewriting.
    pub const PLAIN: Self = Self { colour: false, live: false };

    /// The decision for a stream of this process.
    pub fn of(stream: Stream) -> Self {
        let terminal = match stream {
            Stream::Stdout => std::io::stdout().is_terminal(),
            Stream::Stderr => std::io::stderr().is_terminal(),
        };
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let forced = std::env::var_os("CLICOLOR_FORCE").is_some_and(|value| value == "1");
        Self::decide(terminal, set("NO_COLOR"), dumb, forced)
    }

    fn decide(terminal: bool, no_color: bool, dumb: bool, forced: bool) -> Self {
        let able = terminal && !dumb;
        Self { colour: !no_color && (able || forced), live: able && !no_color }
    }

    /// A text in a colour or weight, when colour is allowed. `code` is the SGR parameter.
    pub fn paint(self, code: &str, text: &str) -> String {
        if self.colour && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Standard output, for what a command was asked for.
pub fn stdout() -> Stdout {
    Stdout(io::stdout())
}

/// Standard output with errors that name it. Their kind stays: a reader who has enough is told by it.
#[derive(Debug)]
pub struct Stdout(io::Stdout);

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(unwritten)
    }

    // Locked as a whole, so that lines of several threads do not mix.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).map_err(unwritten)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(unwritten)
    }
}

fn unwritten(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot write to standard output: {error}"))
}

/// Columns of the terminal behind stderr or stdout, 80 when there is none.
pub fn width() -> usize {
    size().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(80)
}

/// Rows of the terminal, 24 when there is none.
pub fn height() -> usize {
    size().map(|size| usize::from(size.ws_row)).filter(|rows| *rows > 0).unwrap_or(24)
}

fn size() -> Option<rustix::termios::Winsize> {
    use rustix::termios::tcgetwinsize;
    tcgetwinsize(std::io::stdout()).or_else(|_| tcgetwinsize(std::io::stderr())).ok()
}

/// SGR parameters.
pub mod sgr {
    pub const BOLD: &str = "1";
    pub const DIM: &str = "2";
    pub const RED: &str = "31";
    pub const GREEN: &str = "32";
    pub const YELLOW: &str = "33";
    pub const BLUE: &str = "34";
    pub const MAGENTA: &str = "35";
    pub const CYAN: &str = "36";
    pub const WHITE: &str = "37";
    pub const GRAY: &str = "90";
    pub const BOLD_RED: &str = "1;31";
    pub const BOLD_GREEN: &str = "1;32";
    pub const BOLD_WHITE: &str = "1;37";
    pub const BOLD_MAGENTA: &str = "1;35";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_needs_a_terminal_unless_forced() {
        assert_eq!(Style::decide(true, false, false, false), Style { colour: true, live: true });
        assert_eq!(Style::decide(false, false, false, false), Style::PLAIN);
        assert_eq!(Style::decide(true, true, false, true), Style::PLAIN);
        assert_eq!(Style::decide(true, false, true, false), Style::PLAIN);
        assert!(Style::decide(false, false, false, true).colour);
    }
}
