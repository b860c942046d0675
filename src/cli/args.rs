//! The typed arguments of every command, read by `argh` from the normalised words.

use argh::FromArgs;

/// Commands that can print JSON and take nothing else: `al version`, `al creds ls`, `al creds types`, `al env list`.
#[derive(FromArgs, Debug)]
pub(crate) struct OnlyJson {
    /// print JSON
    #[argh(switch)]
    pub(crate) json: bool,
}

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

/// `al stop`.
#[derive(FromArgs, Debug)]
pub(crate) struct Stop {
    /// project directory
    #[argh(option, default = "String::from(\".\")")]
    pub(crate) project: String,
    /// named environment
    #[argh(option)]
    pub(crate) env: Option<String>,
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

/// `al pause` and `al resume`.
#[derive(FromArgs, Debug)]
pub(crate) struct Pause {
    /// project directory
    #[argh(option, default = "String::from(\".\")")]
    pub(crate) project: String,
    /// named environment
    #[argh(option)]
    pub(crate) env: Option<String>,
    /// print JSON
    #[argh(switch)]
    pub(crate) json: bool,
    /// an agent
    #[argh(positional)]
    pub(crate) name: Option<String>,
}

/// `al kill`.
#[derive(FromArgs, Debug)]
pub(crate) struct Kill {
    /// project directory
    #[argh(option, default = "String::from(\".\")")]
    pub(crate) project: String,
    /// named environment
    #[argh(option)]
    pub(crate) env: Option<String>,
    /// print JSON
    #[argh(switch)]
    pub(crate) json: bool,
    /// an agent or an instance
    #[argh(positional)]
    pub(crate) target: String,
}

/// `al stat` and `al status`.
#[derive(FromArgs, Debug)]
pub(crate) struct Stat {
    /// project directory
    #[argh(option, default = "String::from(\".\")")]
    pub(crate) project: String,
    /// named environment
    #[argh(option)]
    pub(crate) env: Option<String>,
    /// print JSON
    #[argh(switch)]
    pub(crate) json: bool,
    /// an agent
    #[argh(positional)]
    pub(crate) agent: Option<String>,
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

/// `al logs`.
#[derive(FromArgs, Debug)]
pub(crate) struct Logs {
    /// project directory
    #[argh(option, default = "String::from(\".\")")]
    pub(crate) project: String,
    /// named environment
    #[argh(option)]
    pub(crate) env: Option<String>,
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

/// `al queue ls`.
#[derive(FromArgs, Debug)]
pub(crate) struct QueueList {
    /// project directory
    #[argh(option, default = "String::from(\".\")")]
    pub(crate) project: String,
    /// named environment
    #[argh(option)]
    pub(crate) env: Option<String>,
    /// states of items
    #[argh(option)]
    pub(crate) state: Option<String>,
    /// print JSON
    #[argh(switch)]
    pub(crate) json: bool,
    /// an agent
    #[argh(positional)]
    pub(crate) agent: Option<String>,
}

/// `al queue show`.
#[derive(FromArgs, Debug)]
pub(crate) struct QueueShow {
    /// project directory
    #[argh(option, default = "String::from(\".\")")]
    pub(crate) project: String,
    /// named environment
    #[argh(option)]
    pub(crate) env: Option<String>,
    /// print JSON
    #[argh(switch)]
    #[expect(dead_code, reason = "accepted as everywhere; an item is JSON in any case")]
    pub(crate) json: bool,
    /// number of an item
    #[argh(positional)]
    pub(crate) id: String,
}

/// `al queue retry`.
#[derive(FromArgs, Debug)]
pub(crate) struct QueueRetry {
    /// project directory
    #[argh(option, default = "String::from(\".\")")]
    pub(crate) project: String,
    /// named environment
    #[argh(option)]
    pub(crate) env: Option<String>,
    /// all dead letters
    #[argh(switch)]
    pub(crate) all_dead: bool,
    /// print JSON
    #[argh(switch)]
    pub(crate) json: bool,
    /// numbers of items
    #[argh(positional)]
    pub(crate) ids: Vec<String>,
}

/// `al queue drop`.
#[derive(FromArgs, Debug)]
pub(crate) struct QueueDrop {
    /// project directory
    #[argh(option, default = "String::from(\".\")")]
    pub(crate) project: String,
    /// named environment
    #[argh(option)]
    pub(crate) env: Option<String>,
    /// print JSON
    #[argh(switch)]
    pub(crate) json: bool,
    /// numbers of items
    #[argh(positional)]
    pub(crate) ids: Vec<String>,
}

/// `al queue clear`.
#[derive(FromArgs, Debug)]
pub(crate) struct QueueClear {
    /// project directory
    #[argh(option, default = "String::from(\".\")")]
    pub(crate) project: String,
    /// named environment
    #[argh(option)]
    pub(crate) env: Option<String>,
    /// print JSON
    #[argh(switch)]
    pub(crate) json: bool,
    /// an agent
    #[argh(positional)]
    pub(crate) agent: Option<String>,
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

/// `al start`.
#[derive(FromArgs, Debug)]
pub(crate) struct Start {
    /// project directory
    #[argh(option, default = "String::from(\".\")")]
    pub(crate) project: String,
    /// named environment
    #[argh(option)]
    pub(crate) env: Option<String>,
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

/// `al chat`.
#[derive(FromArgs, Debug)]
pub(crate) struct Chat {
    /// project directory
    #[argh(option, default = "String::from(\".\")")]
    pub(crate) project: String,
    /// named environment
    #[argh(option)]
    pub(crate) env: Option<String>,
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

/// `al agent new`.
#[derive(FromArgs, Debug)]
pub(crate) struct AgentNew {
    /// project directory
    #[argh(option, default = "String::from(\".\")")]
    pub(crate) project: String,
    /// named environment
    #[argh(option)]
    pub(crate) env: Option<String>,
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

/// `al agent config`.
#[derive(FromArgs, Debug)]
pub(crate) struct AgentConfig {
    /// project directory
    #[argh(option, default = "String::from(\".\")")]
    pub(crate) project: String,
    /// named environment
    #[argh(option)]
    pub(crate) env: Option<String>,
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

/// `al agent list`.
#[derive(FromArgs, Debug)]
pub(crate) struct AgentList {
    /// project directory
    #[argh(option, default = "String::from(\".\")")]
    pub(crate) project: String,
    /// named environment
    #[argh(option)]
    pub(crate) env: Option<String>,
    /// print JSON
    #[argh(switch)]
    pub(crate) json: bool,
}

/// `al agent show`.
#[derive(FromArgs, Debug)]
pub(crate) struct AgentShow {
    /// project directory
    #[argh(option, default = "String::from(\".\")")]
    pub(crate) project: String,
    /// named environment
    #[argh(option)]
    pub(crate) env: Option<String>,
    /// print JSON
    #[argh(switch)]
    pub(crate) json: bool,
    /// name of the agent
    #[argh(positional)]
    pub(crate) name: String,
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

/// `al config show`.
#[derive(FromArgs, Debug)]
pub(crate) struct ConfigShow {
    /// project directory
    #[argh(option, default = "String::from(\".\")")]
    pub(crate) project: String,
    /// named environment
    #[argh(option)]
    pub(crate) env: Option<String>,
    /// with the file of each value
    #[argh(switch)]
    pub(crate) origin: bool,
    /// print JSON
    #[argh(switch)]
    pub(crate) json: bool,
}

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

/// `al env show`.
#[derive(FromArgs, Debug)]
pub(crate) struct EnvShow {
    /// the merged configuration
    #[argh(switch)]
    pub(crate) merged: bool,
    /// project directory
    #[argh(option, default = "String::from(\".\")")]
    pub(crate) project: String,
    /// named environment
    #[argh(option)]
    pub(crate) env: Option<String>,
    /// print JSON
    #[argh(switch)]
    pub(crate) json: bool,
    /// name of the environment
    #[argh(positional)]
    pub(crate) name: Option<String>,
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
