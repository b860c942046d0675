//! What the terminal of a conversation is told to do differently, and when.

use std::sync::atomic::{AtomicBool, Ordering};

/// Has the terminal mark what is pasted: as long as the conversation is held, because a paste may reach into a question.
const MARK_PASTE: [&str; 2] = ["\x1b[?2004h", "\x1b[?2004l"];
/// Has it tell Shift+Enter from Enter, in the two ways that terminals have: while a message is typed, because Ctrl-C is no
/// signal then.
const TELL_KEYS: [&str; 2] = ["\x1b[>1u", "\x1b[<u"];
const TELL_KEYS_OF_XTERM: [&str; 2] = ["\x1b[>4;1m", "\x1b[>4;0m"];

/// The modes of a terminal. What is returned has to be written to it.
#[derive(Default)]
pub(super) struct Modes {
    marks: [&'static str; 2],
    keys: [&'static str; 2],
    /// A message is typed.
    is_typing: AtomicBool,
}

impl Modes {
    /// The modes of a terminal with cursor control. `variable` gives the environment. Only terminals that are known to
    /// understand it are asked to tell keys apart: others move the cursor or change colours instead.
    pub(super) fn of(variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let is = |name: &str, values: &[&str]| variable(name).is_some_and(|value| values.contains(&value.as_str()));
        let knows = is("TERM", &["xterm-kitty", "xterm-ghostty", "foot", "foot-extra", "alacritty"])
            || is("TERM_PROGRAM", &["WezTerm", "iTerm.app", "ghostty"]);
        let keys = match knows {
            true => TELL_KEYS,
            false if variable("XTERM_VERSION").is_some() => TELL_KEYS_OF_XTERM,
            false => [""; 2],
        };
        Self { marks: MARK_PASTE, keys, is_typing: AtomicBool::new(false) }
    }

    /// The conversation begins.
    pub(super) fn begin(&self) -> &'static str {
        self.marks[0]
    }

    /// A message is to be typed.
    pub(super) fn begin_message(&self) -> &'static str {
        self.is_typing.store(true, Ordering::SeqCst);
        self.keys[0]
    }

    /// It has been.
    pub(super) fn end_message(&self) -> &'static str {
        if self.is_typing.swap(false, Ordering::SeqCst) { self.keys[1] } else { "" }
    }

    /// The conversation is over, wherever it was.
    pub(super) fn end(&self) -> String {
        format!("{}{}", self.end_message(), self.marks[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_terminals_that_understand_it_are_asked_to_tell_keys_apart() {
        let keys = |name: &str, value: &str| {
            let modes = Modes::of(&|wanted| (wanted == name).then(|| value.to_owned()));
            assert_eq!(modes.begin(), "\x1b[?2004h");
            modes.begin_message()
        };
        assert_eq!(keys("TERM", "xterm-256color"), "");
        assert_eq!(keys("TERM", "xterm-kitty"), "\x1b[>1u");
        assert_eq!(keys("XTERM_VERSION", "XTerm(380)"), "\x1b[>4;1m");
    }

    #[test]
    fn what_was_begun_is_ended_once() {
        let modes = Modes::of(&|name| (name == "TERM").then(|| "foot".to_owned()));
        assert_eq!(modes.end(), "\x1b[?2004l");
        modes.begin_message();
        assert_eq!(modes.end_message(), "\x1b[<u");
        modes.begin_message();
        assert_eq!(modes.end(), "\x1b[<u\x1b[?2004l");
        assert_eq!(Modes::default().end(), "");
    }
}
