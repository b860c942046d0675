//! The typed arguments of every command, read by `argh` from the normalised words.

use argh::FromArgs;

/// A command of a project: `--project` and `--env`, which `argh` cannot take in from another struct, and what it has of
/// its own.
macro_rules! project_command {
    ($(#[$about:meta])* struct $name:ident { $($own:tt)* }) => {
        $(#[$about])*
        #[derive(FromArgs, Debug)]
        pub(crate) struct $name {
            /// project directory
            #[argh(option, default = "String::from(\".\")")]
            pub(crate) project: String,
            /// named environment
            #[argh(option)]
            pub(crate) env: Option<String>,
            $($own)*
        }
    };
}

mod agent;
mod creds;
mod env;
mod project;
mod queue;
mod reference;
mod runs;
mod scheduler;

pub(crate) use agent::{AgentConfig, AgentList, AgentNew, AgentRemove, AgentShow};
pub(crate) use creds::{CredsAdd, CredsCheck, CredsRemove};
pub(crate) use env::{ConfigShow, EnvCheck, EnvInit, EnvSet, EnvShow};
pub(crate) use project::{Chat, Cron, Doctor, New};
pub(crate) use queue::{QueueClear, QueueDrop, QueueList, QueueRetry, QueueShow};
pub(crate) use reference::{Completions, Docs, Man};
pub(crate) use runs::{Logs, Run, Stats};
pub(crate) use scheduler::{Kill, Pause, Start, Stat, Stop};

/// Commands that can print JSON and take nothing else: `al version`, `al creds ls`, `al creds types`, `al env list`.
#[derive(FromArgs, Debug)]
pub(crate) struct OnlyJson {
    /// print JSON
    #[argh(switch)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::argv::{Request, read};

    #[test]
    fn argh_reads_what_the_normaliser_writes() {
        let line = ["run", "-Hpd", "dev", "help", "--json"].map(str::to_owned);
        let Ok(Request::Command { path, words }) = read(&line) else { panic!("a command") };
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let run = Run::from_args(path, &words).unwrap();
        assert_eq!((run.project.as_str(), run.agent.as_str(), run.prompt.as_deref()), ("d", "dev", Some("help")));
        assert!(run.headless && run.json);
    }
}
