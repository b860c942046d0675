//! Arguments of `al env …` and `al config …`.

use argh::FromArgs;

project_command! {
    /// `al config show`.
    struct ConfigShow {
        /// with the file of each value
        #[argh(switch)]
        pub(crate) origin: bool,
        /// print JSON
        #[argh(switch)]
        pub(crate) json: bool,
    }
}

/// `al env init`.
#[derive(FromArgs, Debug)]
pub(crate) struct EnvInit {
    /// type of environment
    #[argh(option, long = "type")]
    pub(crate) kind: Option<String>,
    /// name of the environment
    #[argh(positional)]
    pub(crate) name: String,
}

project_command! {
    /// `al env show`.
    struct EnvShow {
        /// the merged configuration
        #[argh(switch)]
        pub(crate) merged: bool,
        /// print JSON
        #[argh(switch)]
        pub(crate) json: bool,
        /// name of the environment
        #[argh(positional)]
        pub(crate) name: Option<String>,
    }
}

/// `al env check`.
#[derive(FromArgs, Debug)]
pub(crate) struct EnvCheck {
    /// print JSON
    #[argh(switch)]
    pub(crate) json: bool,
    /// name of the environment
    #[argh(positional)]
    pub(crate) name: String,
}

/// `al env set`.
#[derive(FromArgs, Debug)]
pub(crate) struct EnvSet {
    /// project directory
    #[argh(option, default = "String::from(\".\")")]
    pub(crate) project: String,
    /// name of the environment
    #[argh(positional)]
    pub(crate) name: Option<String>,
}
