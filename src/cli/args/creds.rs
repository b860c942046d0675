//! Arguments of `al creds …`.

use argh::FromArgs;

/// `al creds check`.
#[derive(FromArgs, Debug)]
pub(crate) struct CredsCheck {
    /// print JSON
    #[argh(switch)]
    pub(crate) json: bool,
    /// stored credentials
    #[argh(positional)]
    pub(crate) references: Vec<String>,
}

/// `al creds add`.
#[derive(FromArgs, Debug)]
pub(crate) struct CredsAdd {
    /// fields from variables
    #[argh(option)]
    pub(crate) from_env: Vec<String>,
    /// fields from files
    #[argh(option)]
    pub(crate) from_file: Vec<String>,
    /// fields from standard input
    #[argh(switch)]
    pub(crate) stdin: bool,
    /// do not ask the provider
    #[argh(switch)]
    pub(crate) no_verify: bool,
    /// type or type:instance
    #[argh(positional)]
    pub(crate) reference: String,
}

/// `al creds rm`.
#[derive(FromArgs, Debug)]
pub(crate) struct CredsRemove {
    /// type or type:instance
    #[argh(positional)]
    pub(crate) reference: String,
}
