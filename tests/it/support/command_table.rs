//! The program's own table of commands and options, as its manual page shows it.

use super::project::Project;

/// A command.
pub(crate) struct Command {
    /// `["queue", "show"]`.
    pub(crate) path: Vec<String>,
    /// As usage lines name them: `<agent>`, `[id...]`.
    pub(crate) arguments: Vec<String>,
    /// As messages name them: `-p, --project <dir>`.
    pub(crate) options: Vec<String>,
}

/// All commands.
pub(crate) fn commands(project: &Project) -> Vec<Command> {
    let page = project.al(&["man"]).run().expect(0).stdout.replace("\\-", "-").replace("\\e", "\\");
    let mut commands: Vec<Command> = Vec::new();
    for line in page.lines() {
        if let Some(usage) = line.strip_prefix(".SS al ") {
            let is_argument = |word: &String| word.starts_with(['<', '[']);
            let (arguments, path) = usage.split_whitespace().map(str::to_owned).partition(is_argument);
            commands.push(Command { path, arguments, options: Vec::new() });
        } else if let (Some(option), Some(command)) = (line.strip_prefix(".B -"), commands.last_mut()) {
            command.options.push(format!("-{option}"));
        }
    }
    assert!(commands.len() > 20, "the manual page was not understood: {page}");
    commands
}

impl Command {
    /// As headings name it: `al queue show <id>`.
    pub(crate) fn usage(&self) -> String {
        [&["al".to_owned()], &self.path[..], &self.arguments[..]].concat().join(" ")
    }

    /// What is wrong with these words behind the path, if anything; `--help` asks for none.
    pub(crate) fn problem(&self, words: &[String]) -> Option<String> {
        let mut positional = 0;
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            if word == "--help" || word == "-h" {
                return None;
            }
            if word.len() < 2 || !word.starts_with('-') {
                positional += 1;
                continue;
            }
            let name = word.split('=').next().unwrap_or(word);
            // `display` is `-p, --project <dir>`.
            let named = |display: &&String| display.split([',', ' ']).any(|part| part == name);
            match self.options.iter().find(named) {
                Some(display) if display.ends_with('>') && !word.contains('=') => {
                    if rest.next().is_none() {
                        return Some(format!("{name} has no value"));
                    }
                }
                Some(_) => {}
                // Another name of an option is not in the manual; the program knows it.
                None if ["--check", "--no-interactive"].contains(&name) => {}
                None => return Some(format!("{} has no option {name}", self.usage())),
            }
        }
        let least = self.arguments.iter().filter(|argument| argument.starts_with('<')).count();
        let is_open = self.arguments.iter().any(|argument| argument.contains("..."));
        let fits = positional >= least && (is_open || positional <= self.arguments.len());
        (!fits).then(|| format!("{} arguments for `{}`", positional, self.usage()))
    }
}
