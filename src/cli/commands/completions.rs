//! `al completions`: the script for a shell, and what that script asks.

use std::io::Write as _;

use anyhow::{Result, bail};

use crate::base::error::UsageError;
use crate::base::term::stdout;
use crate::base::text::single_line;
use crate::cli::args::Completions;
use crate::cli::complete::{candidates, scripts};

/// Prints the script for a shell.
pub(crate) fn run(args: Completions) -> Result<u8> {
    let Some(script) = scripts::of(&args.shell) else {
        let shells = scripts::SHELLS.join(", ");
        bail!(UsageError(format!("error: argument 'shell' '{}' is invalid. It must be one of {shells}.", args.shell)));
    };
    stdout().write_all(script.as_bytes())?;
    Ok(0)
}

/// Prints what could be typed in the place of the last word.
pub(crate) fn complete(words: &[String]) -> Result<u8> {
    let mut text = String::new();
    for candidate in candidates(words) {
        text += &single_line(&candidate.word);
        if !candidate.about.is_empty() {
            text += &format!("\t{}", single_line(&candidate.about));
        }
        text += "\n";
    }
    stdout().write_all(text.as_bytes())?;
    Ok(0)
}
