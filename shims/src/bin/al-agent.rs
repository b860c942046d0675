//! `al-agent`: the entry program of every container. Everything is in the library.

use std::process::exit;

fn main() {
    exit(shims::agent::main(std::env::args_os()));
}
