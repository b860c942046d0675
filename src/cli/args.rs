//! The typed arguments of every command, read by `argh` from the normalised words.

use argh::FromArgs;

/// `al run`.
#[derive(FromArgs, Debug)]
pub(crate) struct Run {
    /// project directory
    #[argh(option, default = "String::from(\".\")")]
    pub(crate) project: String,
    /// named environment
    #[argh(option)]
    pub(crate) env: Option<String>,
    /// never ask anything
    #[argh(switch)]
    pub(crate) headless: bool,
    /// file with the task
    #[argh(option)]
    pub(crate) prompt_file: Option<String>,
    /// file with a webhook
    #[argh(option)]
    pub(crate) webhook: Option<String>,
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

/// `al cron`.
#[derive(FromArgs, Debug)]
pub(crate) struct Cron {
    /// project directory
    #[argh(option, default = "String::from(\".\")")]
    pub(crate) project: String,
    /// named environment
    #[argh(option)]
    pub(crate) env: Option<String>,
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

/// `al doctor`.
#[derive(FromArgs, Debug)]
pub(crate) struct Doctor {
    /// project directory
    #[argh(option, default = "String::from(\".\")")]
    pub(crate) project: String,
    /// named environment
    #[argh(option)]
    pub(crate) env: Option<String>,
    /// never ask anything
    #[argh(switch)]
    #[expect(dead_code, reason = "accepted so that scripts can say it; nothing asks yet")]
    pub(crate) headless: bool,
    /// check as for an exposed gateway
    #[argh(switch)]
    pub(crate) expose: bool,
    /// warnings about keys are errors
    #[argh(switch)]
    pub(crate) strict: bool,
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
