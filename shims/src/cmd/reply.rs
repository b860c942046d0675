//! What a command says: at most one line of JSON on standard output, details on standard error.

use std::io::{self, Write};

use super::Exit;
use crate::gateway::{Answer, Failure};

/// The end of a command.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    pub exit: Exit,
    /// Printed with a newline behind it; nothing at all when `None`.
    pub stdout: Option<Vec<u8>>,
    /// What a person needs to find the cause of a failure; may be empty.
    pub stderr: String,
}

/// The form in which a command reports its own failures.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    /// `{"ok":false,"reason":…}`
    Reason,
    /// `{"ok":false,"error":…}`
    Error,
    /// `{"status":"error","errorMessage":…}`
    State,
    /// `{"error":…}`
    Bare,
}

impl Shape {
    pub(super) fn render(self, text: &str) -> String {
        let text = json_text(text);
        match self {
            Self::Reason => format!(r#"{{"ok":false,"reason":{text}}}"#),
            Self::Error => format!(r#"{{"ok":false,"error":{text}}}"#),
            Self::State => format!(r#"{{"status":"error","errorMessage":{text}}}"#),
            Self::Bare => format!(r#"{{"error":{text}}}"#),
        }
    }
}

/// A text as JSON, quotes included.
pub(super) fn json_text(text: &str) -> String {
    serde_json::to_string(text).expect("a string can always be written as JSON")
}

impl Reply {
    /// Success with a line.
    pub(super) fn done(line: impl Into<Vec<u8>>) -> Self {
        Self { exit: Exit::Done, stdout: Some(line.into()), stderr: String::new() }
    }

    /// `{"ok":true}`.
    pub(super) fn ok() -> Self {
        Self::done(r#"{"ok":true}"#)
    }

    /// A failure of the command itself.
    pub(super) fn failure(exit: Exit, shape: Shape, text: &str) -> Self {
        Self { exit, stdout: Some(shape.render(text).into()), stderr: String::new() }
    }

    /// What the gateway answered, or that it did not.
    pub(super) fn of(result: Result<Answer, Failure>, shape: Shape) -> Self {
        match result {
            Ok(Answer { status, body }) if body.is_empty() => {
                Self::failure(Exit::of_http(status), shape, &format!("empty answer with status {status}"))
            }
            Ok(Answer { status, body }) => {
                Self { exit: Exit::of_http(status), stdout: Some(body), stderr: String::new() }
            }
            Err(failure) => {
                let exit = match failure {
                    Failure::Unreadable(_) => Exit::Unexpected,
                    Failure::Url(_) | Failure::Connect(_) | Failure::NoAnswer(_) => Exit::Unreachable,
                };
                Self::failure(exit, shape, &reason(&failure)).with_detail(failure.to_string())
            }
        }
    }

    /// The same with a line for standard error.
    pub(super) fn with_detail(self, detail: impl Into<String>) -> Self {
        Self { stderr: detail.into(), ..self }
    }

    /// The same with another exit status.
    pub(super) fn with_exit(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// The same with the name of the command before the details.
    pub(super) fn named(self, command: &str) -> Self {
        if self.stderr.is_empty() { self } else { Self { stderr: format!("{command}: {}", self.stderr), ..self } }
    }

    /// Prints it. Somebody who does not read what is printed is no reason for another exit status.
    pub fn print(mut self, stdout: &mut dyn Write, stderr: &mut dyn Write) -> Exit {
        let _ = self.try_print(stdout, stderr);
        self.exit
    }

    fn try_print(&mut self, stdout: &mut dyn Write, stderr: &mut dyn Write) -> io::Result<()> {
        if let Some(line) = &mut self.stdout {
            line.push(b'\n');
            stdout.write_all(line)?;
            stdout.flush()?;
        }
        if !self.stderr.is_empty() {
            writeln!(stderr, "{}", self.stderr)?;
        }
        Ok(())
    }
}

/// Why there is no answer, in the words that scripts look for.
pub(super) fn reason(failure: &Failure) -> String {
    match failure {
        Failure::Url(why) => format!("gateway unreachable: {why}"),
        Failure::Connect(_) | Failure::NoAnswer(_) => "gateway unreachable".into(),
        Failure::Unreadable(_) => "unreadable answer of the gateway".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_printed_as_it_is() {
        let reply = Reply::of(Ok(Answer { status: 409, body: b"{\"holder\":\"\xff\"}".to_vec() }), Shape::Reason);
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        assert_eq!(reply.print(&mut stdout, &mut stderr), Exit::Conflict);
        assert_eq!((stdout, stderr), (b"{\"holder\":\"\xff\"}\n".to_vec(), Vec::new()));
    }

    #[test]
    fn failures_have_their_status_and_line() {
        #[track_caller]
        fn case(failure: Failure, exit: Exit, line: &str) {
            let reply = Reply::of(Err(failure), Shape::State).named("al-check");
            assert_eq!((reply.exit, reply.stdout.as_deref()), (exit, Some(line.as_bytes())));
            assert!(reply.stderr.starts_with("al-check: why"), "{}", reply.stderr);
        }
        let unreachable = r#"{"status":"error","errorMessage":"gateway unreachable"}"#;
        case(Failure::Connect("why".into()), Exit::Unreachable, unreachable);
        case(Failure::NoAnswer("why".into()), Exit::Unreachable, unreachable);
        case(
            Failure::Url("why \"https\"".into()),
            Exit::Unreachable,
            r#"{"status":"error","errorMessage":"gateway unreachable: why \"https\""}"#,
        );
        case(
            Failure::Unreadable("why".into()),
            Exit::Unexpected,
            r#"{"status":"error","errorMessage":"unreadable answer of the gateway"}"#,
        );
    }

    #[test]
    fn an_empty_answer_is_not_an_empty_line() {
        let reply = Reply::of(Ok(Answer { status: 502, body: Vec::new() }), Shape::Reason);
        assert_eq!(reply.exit, Exit::BadGateway);
        assert_eq!(reply.stdout.as_deref(), Some(&br#"{"ok":false,"reason":"empty answer with status 502"}"#[..]));
    }

    #[test]
    fn a_reader_that_left_does_not_change_the_status() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        assert_eq!(Reply::ok().print(&mut Closed, &mut Closed), Exit::Done);
    }
}
