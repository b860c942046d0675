//! From what was typed to a command with options and arguments. Pure.
//!
//! `argh` reads only `--option value` and reports mistakes in its own words. This normaliser accepts every usual form
//! (cli-config.md §2.1), words the usage errors as specified, and hands `argh` a vector that it cannot misread.

use super::spec::{Argument, COMMANDS, Command, GROUPS, Group, Opt};
use crate::base::term::width;
use crate::base::text::suggestion;

/// Widest first column of a help text; what is wider has a line of its own.
const WIDEST_NAME: usize = 34;
/// Narrowest second column, whatever the terminal.
const NARROWEST_ABOUT: usize = 30;

/// What the words on the command line ask for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Run a command: its path and the words for `argh` (`--option value …`, then `--` and the arguments).
    Command { path: &'static [&'static str], words: Vec<String> },
    /// Help was asked for.
    Help(String),
    /// A command is missing: help, but as a failure.
    HelpInstead(String),
    /// The bare version number was asked for.
    Version,
}

/// Reads the command line without the program's name.
///
/// # Errors
/// The text of a usage error, ready to print.
pub(crate) fn read(words: &[String]) -> Result<Request, String> {
    let mut rest = words.iter();
    let first = match rest.next().map(String::as_str) {
        None => return Ok(Request::HelpInstead(help_overview())),
        Some("-h" | "--help") => return Ok(Request::Help(help_overview())),
        Some("-V" | "--version") if rest.as_slice().iter().any(|word| word == "--verbose") => {
            return read(&["version".to_owned()]);
        }
        Some("-V" | "--version") => return Ok(Request::Version),
        Some("help") => return help_about(rest.as_slice()),
        Some(first) => first,
    };
    if first.starts_with('-') {
        return Err(unknown_option(first, &[]));
    }
    if let Some(command) = COMMANDS.iter().find(|command| command.path == [first]) {
        return read_command(command, rest.as_slice());
    }
    match GROUPS.iter().find(|group| group.name == first) {
        Some(group) => read_group(group, rest.as_slice()),
        None => Err(unknown_command(first, top_level())),
    }
}

fn read_group(group: &Group, words: &[String]) -> Result<Request, String> {
    let second = words.first().map(String::as_str);
    if let Some(command) = second.and_then(|second| find(&[group.name, second])) {
        return read_command(command, &words[1..]);
    }
    match (second, group.default.and_then(|name| find(&[group.name, name]))) {
        (Some("help" | "-h" | "--help"), _) => Ok(Request::Help(help_group(group))),
        (_, Some(default)) => read_command(default, words),
        (None, None) => Ok(Request::HelpInstead(help_group(group))),
        (Some(option), None) if option.starts_with('-') => Err(unknown_option(option, &[])),
        (Some(word), None) => Err(unknown_command(word, commands_of(group).map(|command| command.path[1]))),
    }
}

fn find(path: &[&str]) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.path == path)
}

fn commands_of(group: &Group) -> impl Iterator<Item = &'static Command> {
    COMMANDS.iter().filter(|command| command.path.len() == 2 && command.path[0] == group.name)
}

/// Words that may come first.
pub(super) fn top_level() -> impl Iterator<Item = &'static str> {
    let commands = COMMANDS.iter().filter(|command| command.path.len() == 1).map(|command| command.path[0]);
    commands.chain(GROUPS.iter().map(|group| group.name)).chain(["help"])
}

fn read_command(command: &'static Command, words: &[String]) -> Result<Request, String> {
    if words.first().is_some_and(|word| word == "help") {
        return Ok(Request::Help(help_command(command)));
    }
    let mut given: Vec<(&'static Opt, Option<String>)> = Vec::new();
    let mut arguments: Vec<String> = Vec::new();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        if word == "--" {
            arguments.extend(rest.by_ref().cloned());
        } else if let Some(long) = word.strip_prefix("--") {
            let (name, inline) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            if name == "help" {
                return Ok(Request::Help(help_command(command)));
            }
            let found = command.options.iter().find(|option| option.long == name || option.alias == Some(name));
            let option = found.ok_or_else(|| unknown_option(&format!("--{name}"), command.options))?;
            let value = value_of(option, inline, &mut rest)?;
            given.push((option, value));
        } else if word.len() > 1 && word.starts_with('-') {
            let mut shorts = word[1..].chars();
            while let Some(short) = shorts.next() {
                if short == 'h' {
                    return Ok(Request::Help(help_command(command)));
                }
                let found = command.options.iter().find(|option| option.short == Some(short));
                let option = found.ok_or_else(|| unknown_option(&format!("-{short}"), command.options))?;
                let joined = shorts.as_str();
                let is_joined = option.value.is_some() && !joined.is_empty();
                let joined = is_joined.then(|| joined.strip_prefix('=').unwrap_or(joined).to_owned());
                let value = value_of(option, joined, &mut rest)?;
                given.push((option, value));
                if is_joined {
                    break;
                }
            }
        } else {
            arguments.push(word.clone());
        }
    }
    check_count(command, &arguments)?;
    Ok(Request::Command { path: command.path, words: normalised(&given, arguments) })
}

fn value_of(
    option: &Opt,
    inline: Option<String>,
    rest: &mut std::slice::Iter<'_, String>,
) -> Result<Option<String>, String> {
    match (option.value, inline) {
        (None, None) => Ok(None),
        (None, Some(value)) => {
            Err(format!("error: option '{}' argument '{value}' is invalid. It takes no value.", option.display()))
        }
        (Some(_), Some(value)) => checked(option, value).map(Some),
        (Some(_), None) => match rest.next() {
            Some(value) => checked(option, value.clone()).map(Some),
            None => Err(format!("error: option '{}' argument missing", option.display())),
        },
    }
}

fn checked(option: &Opt, value: String) -> Result<String, String> {
    match option.check.and_then(|check| check(&value)) {
        Some(reason) => Err(format!("error: option '{}' argument '{value}' is invalid. {reason}", option.display())),
        None => Ok(value),
    }
}

fn check_count(command: &Command, arguments: &[String]) -> Result<(), String> {
    let expected = command.arguments.len();
    if let Some(missing) = command.arguments.iter().skip(arguments.len()).find(|argument| argument.mandatory) {
        return Err(format!("error: missing required argument '{}'", missing.name));
    }
    if arguments.len() > expected && !command.arguments.last().is_some_and(|argument| argument.many) {
        let plural = if expected == 1 { "" } else { "s" };
        return Err(format!(
            "error: too many arguments for '{}'. Expected {expected} argument{plural} but got {}.",
            command.path.join(" "),
            arguments.len()
        ));
    }
    Ok(())
}

/// The last of repeated options wins; everything positional stands behind `--`, where nothing is an option any more.
fn normalised(given: &[(&'static Opt, Option<String>)], arguments: Vec<String>) -> Vec<String> {
    let mut words = Vec::new();
    for (index, (option, value)) in given.iter().enumerate() {
        if !option.many && given[index + 1..].iter().any(|(later, _)| later.long == option.long) {
            continue;
        }
        words.push(format!("--{}", option.long));
        words.extend(value.clone());
    }
    words.push("--".to_owned());
    words.extend(arguments);
    words
}

fn unknown_command(word: &str, known: impl Iterator<Item = &'static str>) -> String {
    with_suggestion(format!("error: unknown command '{word}'"), word, known.map(str::to_owned))
}

fn unknown_option(word: &str, options: &[Opt]) -> String {
    let mut names: Vec<String> = options.iter().map(|option| format!("--{}", option.long)).collect();
    names.push("--help".to_owned());
    with_suggestion(format!("error: unknown option '{word}'"), word, names.into_iter())
}

/// Adds a line with the nearest name that is within distance 3 and not mostly different.
fn with_suggestion(message: String, word: &str, names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.collect();
    match suggestion(word, names.iter().map(String::as_str)) {
        Some(name) => format!("{message}\n(Did you mean {name}?)"),
        None => message,
    }
}

fn help_about(words: &[String]) -> Result<Request, String> {
    let Some(name) = words.first() else { return Ok(Request::Help(help_overview())) };
    if let Some(command) = find(&[name]) {
        return Ok(Request::Help(help_command(command)));
    }
    let Some(group) = GROUPS.iter().find(|group| group.name == name) else {
        return Err(unknown_command(name, top_level()));
    };
    match words.get(1) {
        None => Ok(Request::Help(help_group(group))),
        Some(second) => match find(&[name, second]) {
            Some(command) => Ok(Request::Help(help_command(command))),
            None => Err(unknown_command(second, commands_of(group).map(|command| command.path[1]))),
        },
    }
}

fn help_group(group: &Group) -> String {
    let commands: Vec<(String, &str)> =
        commands_of(group).map(|command| (usage_words(command), command.about)).collect();
    let default = group.default.map(|name| format!(" Without a command: {name}.")).unwrap_or_default();
    format!(
        "Usage: al {} <command> [arguments] [options]\n\n{}.{default}\n\nCommands:\n{}\nMore about one: al help {} \
         <command>\n",
        group.name,
        sentence(group.about),
        rows(&commands),
        group.name
    )
}

fn help_overview() -> String {
    let commands: Vec<(String, &str)> = COMMANDS.iter().map(|command| (usage_words(command), command.about)).collect();
    format!(
        "Usage: al <command> [arguments] [options]\n\nRuns language-model agents like scripts, each in a hardened Docker \
         container.\n\nCommands:\n{}\nOptions:\n{}\nMore about one: al help <command>\n",
        rows(&commands),
        rows(&[("-V, --version".to_owned(), "print the version"), ("-h, --help".to_owned(), "print help")]),
    )
}

fn help_command(command: &Command) -> String {
    let about = wrapped(&format!("{}.", sentence(command.about)), width()).join("\n");
    let mut text = format!("Usage: al {} [options]\n\n{about}\n", usage_words(command));
    if !command.arguments.is_empty() {
        let arguments: Vec<_> =
            command.arguments.iter().map(|argument| (argument.name.to_owned(), argument.about)).collect();
        text += &format!("\nArguments:\n{}", rows(&arguments));
    }
    let mut options: Vec<_> = command.options.iter().map(|option| (option.display(), option.about)).collect();
    options.push(("-h, --help".to_owned(), "print help"));
    text += &format!("\nOptions:\n{}", rows(&options));
    text
}

fn usage_words(command: &Command) -> String {
    let arguments = command.arguments.iter().map(Argument::display);
    command.path.iter().map(|word| (*word).to_owned()).chain(arguments).collect::<Vec<_>>().join(" ")
}

fn sentence(about: &str) -> String {
    let mut chars = about.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// Two columns, the second one wrapped to the width of the terminal.
fn rows(rows: &[(String, &str)]) -> String {
    let widest = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).min(WIDEST_NAME);
    let room = width().saturating_sub(widest + 4).max(NARROWEST_ABOUT);
    let mut text = String::new();
    for (name, about) in rows {
        // A name that is too wide has a line of its own.
        let is_wide = name.chars().count() > widest;
        text += &if is_wide { format!("  {name}\n{:1$}", "", widest + 4) } else { format!("  {name:widest$}  ") };
        text += &wrapped(about, room).join(&format!("\n{:1$}", "", widest + 4));
        text += "\n";
    }
    text
}

/// A text in lines of at most so many characters, broken between words.
fn wrapped(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("there is a line");
        if !last.is_empty() && last.chars().count() + 1 + word.chars().count() > room {
            lines.push(word.to_owned());
        } else {
            *last = if last.is_empty() { word.to_owned() } else { format!("{last} {word}") };
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[&str]) -> Vec<String> {
        line.iter().map(|word| (*word).to_owned()).collect()
    }

    #[track_caller]
    fn reads(line: &[&str], expected: &[&str]) {
        match read(&words(line)) {
            Ok(Request::Command { words: got, .. }) => assert_eq!(got, expected),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn refuses(line: &[&str], expected: &str) {
        assert_eq!(read(&words(line)).unwrap_err(), expected);
    }

    #[test]
    fn accepts_every_form_of_an_option() {
        for form in [&["--project", "d"][..], &["--project=d"], &["-p", "d"], &["-pd"], &["-p=d"]] {
            reads(&[&["run"], form, &["dev"]].concat(), &["--project", "d", "--", "dev"]);
        }
        reads(&["run", "dev", "-Hp", "d"], &["--headless", "--project", "d", "--", "dev"]);
        reads(&["run", "-p", "a", "dev", "-p", "b"], &["--project", "b", "--", "dev"]);
        reads(&["run", "dev", "--prompt-file", "-"], &["--prompt-file", "-", "--", "dev"]);
        reads(&["run", "dev", "--", "--help"], &["--", "dev", "--help"]);
        reads(&["run", "dev", "help"], &["--", "dev", "help"]);
        reads(&["run", "-p", "-5", "dev"], &["--project", "-5", "--", "dev"]);
    }

    #[test]
    fn usage_errors_are_worded_as_specified() {
        refuses(&["bogus"], "error: unknown command 'bogus'\n(Did you mean logs?)");
        refuses(&["frobnicate"], "error: unknown command 'frobnicate'");
        refuses(&["docter"], "error: unknown command 'docter'\n(Did you mean doctor?)");
        refuses(&["run", "dev", "--jsn"], "error: unknown option '--jsn'\n(Did you mean --json?)");
        refuses(&["run"], "error: missing required argument 'agent'");
        refuses(&["doctor", "x"], "error: too many arguments for 'doctor'. Expected 0 arguments but got 1.");
        refuses(&["run", "dev", "-p"], "error: option '-p, --project <dir>' argument missing");
        let lines = "error: option '-n, --lines <N>' argument";
        for form in [&["-n", "-5"][..], &["-n=-5"], &["-n-5"], &["-fn-5"], &["--lines", "-5"], &["--lines=-5"]] {
            let expected = format!("{lines} '-5' is invalid. It must be a positive integer.");
            refuses(&[&["logs"], form].concat(), &expected);
        }
        refuses(&["queue", "drop"], "error: missing required argument 'id'");
    }

    #[test]
    fn a_group_takes_what_is_none_of_its_commands_for_its_default() {
        let path = |line: &[&str]| match read(&words(line)) {
            Ok(Request::Command { path, words }) => format!("{path:?} {words:?}"),
            other => panic!("{other:?}"),
        };
        assert_eq!(path(&["queue"]), r#"["queue", "ls"] ["--"]"#);
        assert_eq!(path(&["queue", "ls", "show"]), r#"["queue", "ls"] ["--", "show"]"#);
        assert_eq!(path(&["queue", "dev", "--json"]), r#"["queue", "ls"] ["--json", "--", "dev"]"#);
        assert_eq!(path(&["queue", "--state", "dead"]), r#"["queue", "ls"] ["--state", "dead", "--"]"#);
        assert_eq!(path(&["queue", "retry", "1", "2", "3"]), r#"["queue", "retry"] ["--", "1", "2", "3"]"#);
        for line in [&["queue", "help"][..], &["queue", "-h"], &["help", "queue"]] {
            assert!(matches!(read(&words(line)), Ok(Request::Help(text)) if text.contains("al queue <command>")));
        }
        for line in [&["queue", "show", "-h"][..], &["help", "queue", "show"], &["queue", "show", "help"]] {
            assert!(
                matches!(read(&words(line)), Ok(Request::Help(text)) if text.starts_with("Usage: al queue show <id>"))
            );
        }
        refuses(&["help", "queue", "shw"], "error: unknown command 'shw'\n(Did you mean show?)");
    }

    #[test]
    fn help_is_a_success_only_when_asked_for() {
        assert!(
            matches!(read(&words(&["help", "run"])), Ok(Request::Help(text)) if text.starts_with("Usage: al run <agent> [prompt]"))
        );
        assert!(matches!(read(&words(&["run", "help"])), Ok(Request::Help(_))));
        assert!(matches!(read(&words(&["run", "dev", "-h"])), Ok(Request::Help(_))));
        assert!(matches!(read(&[]), Ok(Request::HelpInstead(_))));
        assert_eq!(read(&words(&["-V"])), Ok(Request::Version));
    }
}
