//! `al man`: a manual page, made from the table of commands. Read it with `al man | man -l -`.

use std::io::Write as _;

use anyhow::{Result, bail};

use crate::base::error::UsageError;
use crate::base::term::stdout;
use crate::cli::args::Man;
use crate::cli::spec::{COMMANDS, Command};

/// Prints the page of a command, or that of the program.
pub(crate) fn run(args: Man) -> Result<u8> {
    let path: Vec<&str> = args.command.iter().flat_map(|word| word.split_whitespace()).collect();
    let text = match path.as_slice() {
        [] => page(&[], "runs language-model agents like scripts", &COMMANDS.iter().collect::<Vec<_>>()),
        path => {
            let matching: Vec<&Command> = COMMANDS.iter().filter(|command| command.path.starts_with(path)).collect();
            let Some(first) = matching.first() else {
                bail!(UsageError(format!("error: unknown command '{}'", path.join(" "))));
            };
            page(path, first.about, &matching)
        }
    };
    stdout().write_all(text.as_bytes())?;
    Ok(0)
}

/// The page of the commands below a path.
fn page(path: &[&str], about: &str, commands: &[&Command]) -> String {
    let words = [&["al"], path].concat();
    let name = words.join("-");
    let synopsis = match commands {
        [only] if only.path == path => arguments(only),
        _ => "<command> [arguments]".to_owned(),
    };
    let mut text = format!(
        ".TH {} 1 \"{}\" \"al {}\" \"User Commands\"\n.SH NAME\n{} \\- {}\n.SH SYNOPSIS\n.B {}\n{}\n.SH COMMANDS\n",
        escaped(&name.to_uppercase()),
        env!("AL_BUILD_DATE"),
        env!("CARGO_PKG_VERSION"),
        escaped(&name),
        escaped(about),
        escaped(&words.join(" ")),
        escaped(format!("{synopsis} [options]").trim())
    );
    for command in commands {
        let words = [&["al"], command.path].concat().join(" ");
        text += &format!(".SS {}\n", escaped(format!("{words} {}", arguments(command)).trim()));
        text += &format!("{}.\n", escaped(command.about));
        for argument in command.arguments {
            text += &format!(".TP\n.I {}\n{}\n", escaped(argument.name), escaped(argument.about));
        }
        for option in command.options {
            text += &format!(".TP\n.B {}\n{}\n", escaped(&option.display()), escaped(option.about));
        }
    }
    text + ".SH EXIT STATUS\n0 success; 1 failure; 130 interrupted. \"al run\" ends with the status of the run.\n.SH FILES\n.TP\n.I \
            ~/.action\\-llama/\ncredentials and environments of the user\n.TP\n.I config.toml, .env.toml, agents/\nthe project\n"
}

/// The arguments of a command as usage lines name them.
fn arguments(command: &Command) -> String {
    command.arguments.iter().map(|argument| argument.display()).collect::<Vec<_>>().join(" ")
}

/// Text that roff shows as it is.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}
