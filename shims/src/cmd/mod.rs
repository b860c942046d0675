//! The in-container commands: `al-shim`, linked under the names of [`crate::wire::paths::COMMANDS`] (containers.md §14).
//!
//! A command is a function from its invocation to a [`Reply`]: nothing below this module prints or ends the process, so
//! every command can be called from a test.

mod call;
mod check;
mod exit;
mod health;
mod locks;
mod reply;
mod shutdown;
mod signals;
mod wait;

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::path::Path;

pub use self::exit::Exit;
pub use self::reply::Reply;
use self::reply::Shape;
use crate::env::Environment;
use crate::gateway::Gateway;
use crate::secret::Secret;

/// One command.
struct Command {
    name: &'static str,
    /// The usage line without the word `usage`.
    usage: &'static str,
    /// What it does and what its exit status means, in a few words.
    help: &'static str,
    /// Where `--help` may stand; everywhere else it is an ordinary argument.
    help_at: HelpAt,
    run: fn(&Invocation<'_>, &mut Stdin<'_>) -> Reply,
}

#[derive(Clone, Copy, PartialEq)]
enum HelpAt {
    First,
    /// The command takes free text: only when it is the whole of it.
    Alone,
    Anywhere,
}

#[rustfmt::skip]
const COMMANDS: [Command; 12] = [
    Command { name: "rlock", usage: "rlock <resourceKey>", help_at: HelpAt::First, run: locks::acquire,
        help: "Takes the lock on a resource. Exit 0: it is yours. Exit 1: another run holds it, or you hold another lock." },
    Command { name: "runlock", usage: "runlock <resourceKey>", help_at: HelpAt::First, run: locks::release,
        help: "Gives a lock back. Exit 1: another run holds it. Exit 2: nobody holds it." },
    Command { name: "rlock-heartbeat", usage: "rlock-heartbeat <resourceKey>", help_at: HelpAt::First, run: locks::heartbeat,
        help: "Prolongs a lock. Exit 1: another run holds it. Exit 2: it has expired." },
    Command { name: "al-call", usage: call::USAGE, help_at: HelpAt::First, run: call::run,
        help: "Calls another agent with the text on standard input as its context and prints the callId. Exit 1: rejected." },
    Command { name: "al-check", usage: "al-check <callId>", help_at: HelpAt::First, run: check::run,
        help: "Prints the state of a call: pending, running, completed or error. Exit 2: there is no such call." },
    Command { name: "al-wait", usage: wait::USAGE, help_at: HelpAt::Anywhere, run: wait::run,
        help: "Waits until every call has ended, with --any until one has, at most N seconds (900), and prints their states.\n\
               Exit 0: ended. Exit 8: the time is over." },
    Command { name: "al-status", usage: "al-status \"<text>\"", help_at: HelpAt::Alone, run: signals::status,
        help: "Shows what the run is doing." },
    Command { name: "al-return", usage: "al-return [value...]", help_at: HelpAt::Alone, run: signals::return_value,
        help: "Sets the value that the run returns; without arguments it is read from standard input. The last one wins." },
    Command { name: "al-rerun", usage: "al-rerun", help_at: HelpAt::First, run: signals::rerun,
        help: "Asks for another run as soon as this one has ended." },
    Command { name: "al-exit", usage: "al-exit [0-255]", help_at: HelpAt::First, run: signals::exit,
        help: "Ends the run with an exit code (15)." },
    Command { name: "al-shutdown", usage: "al-shutdown [reason]", help_at: HelpAt::First, run: shutdown::run,
        help: "Emergency stop: the host kills this container at once." },
    Command { name: "health", usage: "al-shim health", help_at: HelpAt::First, run: health::run,
        help: "Asks whether the gateway can be reached. Exit 0: yes. Exit 6: no." },
];

/// What a command is given.
struct Invocation<'a> {
    command: &'static Command,
    args: &'a [String],
    env: &'a Environment,
}

impl Invocation<'_> {
    /// The first argument; an empty one counts as missing.
    fn first(&self) -> Option<&str> {
        self.args.first().map(String::as_str).filter(|arg| !arg.is_empty())
    }

    fn gateway(&self) -> Option<Gateway> {
        Gateway::from_env(self.env)
    }

    /// What authorises the run at the gateway; empty when it has none, and then the gateway refuses the request.
    fn secret(&self) -> Secret {
        Secret::new(self.env.get("SHUTDOWN_SECRET").unwrap_or_default())
    }

    /// The answer to missing or wrong arguments.
    fn wrong_usage(&self, shape: Shape) -> Reply {
        Reply::failure(Exit::Usage, shape, &format!("usage: {}", self.command.usage))
    }

    fn wants_help(&self) -> bool {
        match self.command.help_at {
            HelpAt::First => self.args.first().is_some_and(|arg| arg == "--help"),
            HelpAt::Alone => self.args == ["--help"],
            HelpAt::Anywhere => self.args.iter().any(|arg| arg == "--help"),
        }
    }
}

/// Standard input of a command.
pub struct Stdin<'a> {
    reader: &'a mut dyn Read,
    source: Source,
}

/// Where standard input comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A person; nobody is kept waiting for them, it counts as empty.
    Terminal,
    Other,
}

/// More than the allowed number of bytes.
struct TooLarge;

impl<'a> Stdin<'a> {
    /// Standard input that reads from `reader`.
    pub fn new(reader: &'a mut dyn Read, source: Source) -> Self {
        Self { reader, source }
    }

    /// Everything up to the end, without the newlines there; bytes that are not UTF-8 are replaced. The limit is on
    /// the bytes of the text (with up to a thousand newlines behind it).
    fn read_text(&mut self, limit: usize) -> io::Result<Result<String, TooLarge>> {
        const NEWLINES: u64 = 1000;
        let mut bytes = Vec::new();
        if self.source != Source::Terminal {
            (&mut *self.reader).take(limit as u64 + NEWLINES).read_to_end(&mut bytes)?;
        }
        let length = bytes.iter().rposition(|&byte| byte != b'\n').map_or(0, |last| last + 1);
        if bytes.len() as u64 >= limit as u64 + NEWLINES || length > limit {
            return Ok(Err(TooLarge));
        }
        bytes.truncate(length);
        Ok(Ok(into_text(bytes)))
    }
}

/// Text of any bytes; what is not UTF-8 is replaced.
fn into_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Runs the command that a program name or, failing that, the first argument stands for.
///
/// `argv` is the whole vector, the program's name included.
pub fn run(argv: impl IntoIterator<Item = OsString>, env: &Environment, stdin: &mut Stdin<'_>) -> Reply {
    let mut argv = argv.into_iter();
    let program = argv.next().unwrap_or_default();
    let linked = Path::new(&program).file_name().and_then(find).filter(|found| found.name != "health");
    let args = argv.map(|arg| into_text(arg.into_encoded_bytes()));
    match linked {
        Some(command) => run_command(command, &args.collect::<Vec<_>>(), env, stdin),
        None => run_named(&args.collect::<Vec<_>>(), env, stdin),
    }
}

/// `al-shim <command> …`.
fn run_named(args: &[String], env: &Environment, stdin: &mut Stdin<'_>) -> Reply {
    match args.split_first() {
        Some((name, rest)) if name == "--help" && rest.is_empty() => {
            let names: Vec<&str> = COMMANDS.iter().map(|command| command.name).collect();
            Reply::done(format!("usage: al-shim <command> [argument...]\ncommands: {}", names.join(" ")))
        }
        Some((name, rest)) if name == "--version" && rest.is_empty() => {
            Reply::done(format!("al-shim {} ({})", crate::VERSION, crate::REVISION))
        }
        Some((name, rest)) => match find(OsStr::new(name)) {
            Some(command) => run_command(command, rest, env, stdin),
            None => Reply::failure(Exit::Usage, Shape::Error, &format!("unknown command {name:?}, see al-shim --help")),
        },
        None => Reply::failure(Exit::Usage, Shape::Error, "usage: al-shim <command> [argument...]"),
    }
}

fn run_command(command: &'static Command, args: &[String], env: &Environment, stdin: &mut Stdin<'_>) -> Reply {
    let invocation = Invocation { command, args, env };
    if invocation.wants_help() {
        return Reply::done(format!("usage: {}\n{}", command.usage, command.help));
    }
    (command.run)(&invocation, stdin).named(command.name)
}

fn find(name: &OsStr) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name)
}

#[cfg(test)]
mod testing {
    use super::*;

    /// Runs a command as it is typed, with these variables and this standard input.
    pub(super) fn run_with(argv: &[&str], env: &[(&str, &str)], stdin: &[u8]) -> Reply {
        run(
            argv.iter().map(OsString::from),
            &env.iter().copied().collect(),
            &mut Stdin::new(&mut &*stdin, Source::Other),
        )
    }

    /// Exit status and standard output without a gateway.
    pub(super) fn without_gateway(argv: &[&str]) -> (u8, String) {
        let reply = run_with(argv, &[], b"");
        (reply.exit as u8, reply.stdout.map(into_text).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{run_with, without_gateway};
    use super::*;
    use crate::wire::paths;

    #[test]
    fn every_name_has_a_command() {
        let mut table: Vec<&str> =
            COMMANDS.iter().map(|command| command.name).filter(|name| *name != "health").collect();
        let mut names = paths::COMMANDS.to_vec();
        table.sort_unstable();
        names.sort_unstable();
        assert_eq!(table, names);
    }

    #[test]
    fn the_command_is_the_last_component_or_the_first_argument() {
        let help = |argv: &[&str]| {
            let (exit, stdout) = without_gateway(argv);
            (exit, stdout.lines().next().unwrap_or_default().to_owned())
        };
        assert_eq!(help(&["/app/bin/rlock", "--help"]), (0, "usage: rlock <resourceKey>".into()));
        assert_eq!(help(&["rlock", "--help"]), (0, "usage: rlock <resourceKey>".into()));
        assert_eq!(help(&["/x/al-shim", "runlock", "--help"]), (0, "usage: runlock <resourceKey>".into()));
        assert_eq!(help(&["", "al-exit", "--help"]), (0, "usage: al-exit [0-255]".into()));
        assert_eq!(help(&["/bin/health", "health", "--help"]), (0, "usage: al-shim health".into()));
        assert_eq!(help(&["al-shim", "--help"]), (0, "usage: al-shim <command> [argument...]".into()));
        assert_eq!(help(&["al-shim", "--version"]).1, format!("al-shim {} ({})", crate::VERSION, crate::REVISION));
    }

    #[test]
    fn an_unknown_command_is_a_usage_error() {
        assert_eq!(
            without_gateway(&[]),
            (9, r#"{"ok":false,"error":"usage: al-shim <command> [argument...]"}"#.into())
        );
        assert_eq!(without_gateway(&["al-shim"]).0, 9);
        let (exit, stdout) = without_gateway(&["al-shim", "ls\"\n"]);
        assert_eq!(exit, 9);
        assert_eq!(stdout, r#"{"ok":false,"error":"unknown command \"ls\\\"\\n\", see al-shim --help"}"#);
    }

    #[test]
    fn help_wins_where_it_is_not_text() {
        for name in paths::COMMANDS {
            let (exit, stdout) = without_gateway(&[name, "--help"]);
            assert!(exit == 0 && stdout.starts_with("usage: "), "{name}: {stdout}");
        }
        assert!(without_gateway(&["al-wait", "a", "--help"]).1.starts_with("usage: "));
        assert_eq!(without_gateway(&["rlock", "key", "--help"]), (0, r#"{"ok":true}"#.into()));
    }

    #[test]
    fn standard_input_loses_its_last_newlines_and_nothing_else() {
        #[track_caller]
        fn case(bytes: &[u8], expected: Option<&str>) {
            let mut bytes = bytes;
            let text = Stdin::new(&mut bytes, Source::Other).read_text(8).unwrap();
            assert_eq!(text.ok().as_deref(), expected);
        }
        case(b"", Some(""));
        case(b"\n\n", Some(""));
        case(b"\n a\nb \r\n\n", Some("\n a\nb \r"));
        case(b"12345678\n\n", Some("12345678"));
        case(b"123456789", None);
        case(b"1234567\n9", None);
        case(&[b'\n'; 5000], None);
        case(b"a\xff\xc3", Some("a\u{fffd}\u{fffd}"));
        let typed: &mut &[u8] = &mut &b"typed"[..];
        assert_eq!(Stdin::new(typed, Source::Terminal).read_text(8).unwrap().ok().as_deref(), Some(""));
    }

    #[test]
    fn a_wrong_scheme_is_named() {
        let reply = run_with(&["rlock", "key"], &[("GATEWAY_URL", "https://gateway:3000")], b"");
        assert_eq!(reply.exit, Exit::Unreachable);
        let stdout = into_text(reply.stdout.unwrap());
        assert!(stdout.starts_with(r#"{"ok":false,"reason":"gateway unreachable: "#), "{stdout}");
        assert!(stdout.contains("https"), "{stdout}");
    }
}
