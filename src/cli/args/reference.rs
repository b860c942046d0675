//! Arguments of the commands that explain: documents, manual pages, completions.

use argh::FromArgs;

/// `al completions`.
#[derive(FromArgs, Debug)]
pub(crate) struct Completions {
    /// name of the shell
    #[argh(positional)]
    pub(crate) shell: String,
}

/// `al docs`.
#[derive(FromArgs, Debug)]
pub(crate) struct Docs {
    /// name of a page
    #[argh(positional)]
    pub(crate) topic: Option<String>,
}

/// `al man`.
#[derive(FromArgs, Debug)]
pub(crate) struct Man {
    /// words of the command
    #[argh(positional)]
    pub(crate) command: Vec<String>,
}
