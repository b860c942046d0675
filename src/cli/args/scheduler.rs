//! Arguments of the commands to and about the scheduler.

use argh::FromArgs;

project_command! {
    /// `al start`.
    struct Start {
        /// no terminal UI, no questions
        #[argh(switch)]
        pub(crate) headless: bool,
        /// serve the dashboard
        #[argh(switch)]
        pub(crate) web_ui: bool,
        /// serve on all addresses
        #[argh(switch)]
        pub(crate) expose: bool,
        /// port of the gateway
        #[argh(option)]
        pub(crate) port: Option<String>,
    }
}

project_command! {
    /// `al stop`.
    struct Stop {
        /// leave queued work queued
        #[argh(switch)]
        pub(crate) keep_queue: bool,
        /// kill running containers
        #[argh(switch)]
        pub(crate) kill: bool,
        /// print JSON
        #[argh(switch)]
        pub(crate) json: bool,
    }
}

project_command! {
    /// `al pause` and `al resume`.
    struct Pause {
        /// print JSON
        #[argh(switch)]
        pub(crate) json: bool,
        /// an agent
        #[argh(positional)]
        pub(crate) name: Option<String>,
    }
}

project_command! {
    /// `al kill`.
    struct Kill {
        /// print JSON
        #[argh(switch)]
        pub(crate) json: bool,
        /// an agent or an instance
        #[argh(positional)]
        pub(crate) target: String,
    }
}

project_command! {
    /// `al stat` and `al status`.
    struct Stat {
        /// print JSON
        #[argh(switch)]
        pub(crate) json: bool,
        /// an agent
        #[argh(positional)]
        pub(crate) agent: Option<String>,
    }
}
