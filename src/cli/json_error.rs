//! How a command says with `--json` that it failed (cli-config.md §14.4). The same is printed on stderr for people, as by
//! every command.

use std::io::Write as _;

use anyhow::anyhow;
use serde_json::json;

use super::spec::COMMANDS;
use crate::base::error::{UsageError, kind};

/// Prints the one document that there is on stdout. Whoever does not read it knows the exit status.
pub(crate) fn print(error: &anyhow::Error) {
    let document = json!({"ok": false, "error": {"kind": kind(error), "message": format!("{error:#}")}});
    let _ = writeln!(std::io::stdout(), "{document}");
}

/// The same for words that cannot be read, when `--json` is one of them and the command knows it.
pub(super) fn print_usage_error(words: &[String], message: &str) {
    if is_wanted(words) {
        print(&anyhow!(UsageError(message.to_owned())));
    }
}

fn is_wanted(words: &[String]) -> bool {
    // `al run` ends with its own result line.
    let is_ours = |path: &[&str]| {
        path != ["run"] && words.iter().zip(path).filter(|(word, name)| word == name).count() == path.len()
    };
    let mut options = words.iter().take_while(|word| *word != "--");
    let command = COMMANDS.iter().find(|command| is_ours(command.path));
    command.is_some_and(|command| command.options.iter().any(|option| option.long == "json"))
        && options.any(|word| word == "--json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_commands_that_print_json_say_so_in_json() {
        let is_wanted = |line: &str| is_wanted(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert!(is_wanted("cron --json x --bogus"));
        for line in ["cron x --bogus", "cron x -- --json", "run dev --json", "doctor --json", "--json", ""] {
            assert!(!is_wanted(line), "{line}");
        }
    }
}
