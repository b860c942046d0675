//! `al`: the command line program. Everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(action_llama::cli::run(std::env::args_os().skip(1)))
}
