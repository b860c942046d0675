//! Arguments of the commands about a project as a whole: made, checked, talked about.

use argh::FromArgs;

/// `al new`.
#[derive(FromArgs, Debug)]
pub(crate) struct New {
    /// provider of the model
    #[argh(option)]
    pub(crate) provider: Option<String>,
    /// id of the model
    #[argh(option)]
    pub(crate) model: Option<String>,
    /// thinking level
    #[argh(option)]
    pub(crate) thinking: Option<String>,
    /// never ask anything
    #[argh(switch)]
    pub(crate) headless: bool,
    /// directory of the project
    #[argh(positional)]
    pub(crate) name: String,
}

project_command! {
    /// `al chat`.
    struct Chat {
        /// the only message
        #[argh(option)]
        pub(crate) message: Option<String>,
        /// run tools without asking
        #[argh(switch)]
        pub(crate) yes: bool,
        /// an agent
        #[argh(positional)]
        pub(crate) agent: Option<String>,
    }
}

project_command! {
    /// `al cron`.
    struct Cron {
        /// time zone
        #[argh(option)]
        pub(crate) tz: Option<String>,
        /// first instant
        #[argh(option)]
        pub(crate) from: Option<String>,
        /// number of firings
        #[argh(option)]
        pub(crate) count: Option<String>,
        /// print JSON
        #[argh(switch)]
        pub(crate) json: bool,
        /// schedule or agent
        #[argh(positional)]
        pub(crate) schedule: String,
    }
}

project_command! {
    /// `al doctor`.
    struct Doctor {
        /// never ask anything
        #[argh(switch)]
        pub(crate) headless: bool,
        /// check as for an exposed gateway
        #[argh(switch)]
        pub(crate) expose: bool,
        /// warnings are errors
        #[argh(switch)]
        pub(crate) strict: bool,
        /// print JSON
        #[argh(switch)]
        pub(crate) json: bool,
        /// also what is no trouble
        #[argh(switch)]
        pub(crate) verbose: bool,
        /// leave credentials out
        #[argh(switch)]
        pub(crate) skip_creds: bool,
        /// leave this machine out
        #[argh(switch)]
        pub(crate) skip_host: bool,
        /// ask the providers of models
        #[argh(switch)]
        pub(crate) online: bool,
    }
}

impl Doctor {
    /// The check after something was changed.
    pub(crate) fn of_project(project: &str, env: Option<String>) -> Self {
        Self {
            project: project.to_owned(),
            env,
            headless: false,
            expose: false,
            strict: false,
            json: false,
            verbose: false,
            skip_creds: false,
            skip_host: false,
            online: false,
        }
    }
}
