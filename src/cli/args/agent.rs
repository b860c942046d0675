//! Arguments of `al agent …`.

use argh::FromArgs;

project_command! {
    /// `al agent new`.
    struct AgentNew {
        /// template
        #[argh(option, long = "type")]
        pub(crate) kind: Option<String>,
        /// name of the agent
        #[argh(option)]
        pub(crate) name: Option<String>,
        /// do not go on with its configuration
        #[argh(switch)]
        pub(crate) no_config: bool,
    }
}

project_command! {
    /// `al agent config`.
    struct AgentConfig {
        /// keys with values
        #[argh(option)]
        pub(crate) set: Vec<String>,
        /// keys
        #[argh(option)]
        pub(crate) unset: Vec<String>,
        /// name of the agent
        #[argh(positional)]
        pub(crate) name: String,
    }
}

project_command! {
    /// `al agent list`.
    struct AgentList {
        /// print JSON
        #[argh(switch)]
        pub(crate) json: bool,
    }
}

project_command! {
    /// `al agent show`.
    struct AgentShow {
        /// print JSON
        #[argh(switch)]
        pub(crate) json: bool,
        /// name of the agent
        #[argh(positional)]
        pub(crate) name: String,
    }
}

/// `al agent rm`.
#[derive(FromArgs, Debug)]
pub(crate) struct AgentRemove {
    /// project directory
    #[argh(option, default = "String::from(\".\")")]
    pub(crate) project: String,
    /// ask nothing
    #[argh(switch)]
    pub(crate) yes: bool,
    /// name of the agent
    #[argh(positional)]
    pub(crate) name: String,
}
