//! What could come next on a command line. The shells ask `al __complete <words…>`, the last word being the one that is
//! typed just now; they get one candidate a line, with a tab and a description where there is one.

use super::argv::top_level;
use super::spec::{COMMANDS, Command, GROUPS, Opt};

mod names;
pub(crate) mod scripts;

/// A word that could be typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) word: String,
    pub(crate) about: String,
}

/// What is expected at a place: a fixed set of words, or names that somebody has to look up.
enum Expected {
    Words(Vec<Candidate>),
    /// Value of the argument or option with this name, of this command.
    Named(&'static Command, &'static str),
}

/// The candidates for the last of these words.
pub(crate) fn candidates(words: &[String]) -> Vec<Candidate> {
    let typed = words.last().map_or("", String::as_str);
    let mut found = match expected(words) {
        Expected::Words(found) => found,
        Expected::Named(command, name) => names::of(command, name, words),
    };
    found.retain(|candidate| candidate.word.starts_with(typed));
    found
}

fn expected(words: &[String]) -> Expected {
    let (typed, before) = words.split_last().map_or(("", &[][..]), |(typed, before)| (typed.as_str(), before));
    let first = before.first().map(String::as_str);
    let Some(first) = first.filter(|first| *first != "help") else {
        return Expected::Words(top_level().map(|name| Candidate { word: name.into(), about: about(name) }).collect());
    };
    if let Some(command) = COMMANDS.iter().find(|command| command.path == [first]) {
        return inside(command, &before[1..], typed);
    }
    let second = before.get(1).map(String::as_str);
    match second.and_then(|second| COMMANDS.iter().find(|command| command.path == [first, second])) {
        Some(command) => inside(command, &before[2..], typed),
        None if second.is_none() => {
            let members = COMMANDS.iter().filter(|command| command.path.len() == 2 && command.path[0] == first);
            let member = |command: &Command| Candidate { word: command.path[1].into(), about: command.about.into() };
            Expected::Words(members.map(member).collect())
        }
        None => Expected::Words(Vec::new()),
    }
}

/// What a command or group is for.
fn about(name: &str) -> String {
    let command = COMMANDS.iter().find(|command| command.path == [name]).map(|command| command.about);
    let group = GROUPS.iter().find(|group| group.name == name).map(|group| group.about);
    command.or(group).unwrap_or("print help").to_owned()
}

/// Behind the name of a command: a value of an option, an option, or an argument.
fn inside(command: &'static Command, before: &[String], typed: &str) -> Expected {
    let mut arguments = 0;
    let mut rest = before.iter();
    let mut only_arguments = false;
    while let Some(word) = rest.next() {
        if only_arguments || !word.starts_with('-') || word == "-" {
            arguments += 1;
        } else if word == "--" {
            only_arguments = true;
        } else if let Some(option) = option_of(command, word).filter(|option| option.value.is_some())
            && !word.contains('=')
            && rest.next().is_none()
        {
            return Expected::Named(command, option.long);
        }
    }
    if typed.starts_with('-') && !only_arguments {
        let option = |option: &Opt| Candidate { word: format!("--{}", option.long), about: option.about.into() };
        let help = Candidate { word: "--help".into(), about: "print help".into() };
        return Expected::Words(command.options.iter().map(option).chain([help]).collect());
    }
    let last = command.arguments.last().filter(|argument| argument.many);
    match command.arguments.get(arguments).or(last) {
        Some(argument) => Expected::Named(command, argument.name),
        None => Expected::Words(Vec::new()),
    }
}

fn option_of(command: &'static Command, word: &str) -> Option<&'static Opt> {
    match word.strip_prefix("--") {
        Some(long) => command.options.iter().find(|option| option.long == long.split('=').next().unwrap_or_default()),
        None => command.options.iter().find(|option| option.short.is_some() && word.chars().last() == option.short),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn expects(line: &[&str], expected: &[&str]) {
        let words: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
        let found: Vec<String> = candidates(&words).into_iter().map(|candidate| candidate.word).collect();
        assert_eq!(found, expected, "{line:?}");
    }

    #[test]
    fn commands_options_and_fixed_values_are_completed() {
        expects(&["res"], &["resume"]);
        expects(&["creds", ""], &["ls", "add", "rm", "check", "types"]);
        expects(&["creds", "nothing", ""], &[]);
        expects(&["stop", "--k"], &["--keep-queue", "--kill"]);
        expects(&["help", "sta"], &["start", "stat", "status", "stats"]);
        expects(&["queue", "ls", "--state", "d"], &["done", "dead"]);
        expects(&["agent", "new", "-p", "x", "--type", "de"], &["dev", "devops"]);
        expects(&["completions", "f"], &["fish"]);
        expects(&["creds", "add", "git"], &["github_token", "git_ssh", "github_webhook_secret"]);
        expects(&["stop", "--", "--k"], &[]);
    }
}
