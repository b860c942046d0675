//! `al-shim`: all in-container commands in one program; the name it is called by says which.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use shims::cmd::{self, Source, Stdin};
use shims::env::Environment;

fn main() -> ExitCode {
    let mut stdin = io::stdin().lock();
    let source = if stdin.is_terminal() { Source::Terminal } else { Source::Other };
    let reply = cmd::run(std::env::args_os(), &Environment::of_process(), &mut Stdin::new(&mut stdin, source));
    reply.print(&mut io::stdout().lock(), &mut io::stderr().lock()).into()
}
