//! Arguments of the commands about runs: one run, and what is recorded of them.

use argh::FromArgs;

project_command! {
    /// `al run`.
    struct Run {
        /// never ask anything
        #[argh(switch)]
        pub(crate) headless: bool,
        /// file with the task
        #[argh(option)]
        pub(crate) prompt_file: Option<String>,
        /// file with a webhook
        #[argh(option)]
        pub(crate) webhook: Option<String>,
        /// follow a run of the scheduler
        #[argh(switch)]
        pub(crate) wait: bool,
        /// print events as JSON
        #[argh(switch)]
        pub(crate) json: bool,
        /// name of the agent
        #[argh(positional)]
        pub(crate) agent: String,
        /// task for this run
        #[argh(positional)]
        pub(crate) prompt: Option<String>,
    }
}

/// `al stats`.
#[derive(FromArgs, Debug)]
pub(crate) struct Stats {
    /// project directory
    #[argh(option, default = "String::from(\".\")")]
    pub(crate) project: String,
    /// how far back
    #[argh(option)]
    pub(crate) since: Option<String>,
    /// number of runs
    #[argh(option)]
    pub(crate) lines: Option<String>,
    /// which agents call which
    #[argh(switch)]
    pub(crate) calls: bool,
    /// print JSON
    #[argh(switch)]
    pub(crate) json: bool,
    /// an agent
    #[argh(positional)]
    pub(crate) agent: Option<String>,
}

project_command! {
    /// `al logs`.
    struct Logs {
        /// number of entries
        #[argh(option, default = "50")]
        pub(crate) lines: usize,
        /// go on with new entries
        #[argh(switch)]
        pub(crate) follow: bool,
        /// entries of this day
        #[argh(option)]
        pub(crate) date: Option<String>,
        /// one line per entry
        #[argh(switch)]
        pub(crate) raw: bool,
        /// entries of this instance
        #[argh(option)]
        pub(crate) instance: Option<String>,
        /// entries with this pattern in them
        #[argh(option)]
        pub(crate) grep: Option<String>,
        /// entries from this instant on
        #[argh(option)]
        pub(crate) after: Option<String>,
        /// entries before this instant
        #[argh(option)]
        pub(crate) before: Option<String>,
        /// hide nothing
        #[argh(switch)]
        pub(crate) all: bool,
        /// print entries as they are stored
        #[argh(switch)]
        pub(crate) json: bool,
        /// an agent or an instance
        #[argh(positional, default = "String::from(\"scheduler\")")]
        pub(crate) agent: String,
    }
}
