//! Every command with its arguments and options, as data. The argument normaliser, usage errors, help and suggestions
//! are all made from this one table.

use crate::base::log_files::Pattern;

/// A command or a subcommand of a group.
pub(crate) struct Command {
    /// `["run"]`, or group and name: `["queue", "show"]`.
    pub(crate) path: &'static [&'static str],
    pub(crate) about: &'static str,
    pub(crate) arguments: &'static [Argument],
    pub(crate) options: &'static [Opt],
}

/// A positional argument. Mandatory ones come first; of one that may be given many times nothing comes after.
pub(crate) struct Argument {
    pub(crate) name: &'static str,
    pub(crate) mandatory: bool,
    pub(crate) many: bool,
    pub(crate) about: &'static str,
}

impl Argument {
    /// How usage lines name it: `<agent>`, `[id...]`.
    pub(crate) fn display(&self) -> String {
        let dots = if self.many { "..." } else { "" };
        if self.mandatory { format!("<{}{dots}>", self.name) } else { format!("[{}{dots}]", self.name) }
    }
}

/// An option.
pub(crate) struct Opt {
    pub(crate) short: Option<char>,
    pub(crate) long: &'static str,
    /// Name of its value; `None` for a switch.
    pub(crate) value: Option<&'static str>,
    /// Another long name.
    pub(crate) alias: Option<&'static str>,
    /// All values count, not only the last one.
    pub(crate) many: bool,
    /// What is wrong with a value, as a sentence, when something is.
    pub(crate) check: Option<fn(&str) -> Option<String>>,
    pub(crate) about: &'static str,
}

impl Opt {
    /// How messages name it: `-p, --project <dir>`.
    pub(crate) fn display(&self) -> String {
        let short = self.short.map(|short| format!("-{short}, ")).unwrap_or_default();
        let value = self.value.map(|value| format!(" <{value}>")).unwrap_or_default();
        format!("{short}--{}{value}", self.long)
    }
}

/// Commands with a first word in common.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// What is meant when the second word is none of the group's.
    pub(crate) default: Option<&'static str>,
}

/// All groups.
pub(crate) static GROUPS: &[Group] = &[
    Group { name: "agent", about: "agents of the project: new ones, changes, what there is", default: None },
    Group { name: "config", about: "the configuration of the project", default: None },
    Group { name: "creds", about: "stored credentials", default: None },
    Group { name: "env", about: "named environments", default: None },
    Group { name: "queue", about: "work items and dead letters", default: Some("ls") },
];

const fn must(name: &'static str, about: &'static str) -> Argument {
    Argument { name, mandatory: true, many: false, about }
}

const fn may(name: &'static str, about: &'static str) -> Argument {
    Argument { name, mandatory: false, many: false, about }
}

const fn switch(short: Option<char>, long: &'static str, about: &'static str) -> Opt {
    Opt { short, long, value: None, alias: None, many: false, check: None, about }
}

const fn value(short: Option<char>, long: &'static str, name: &'static str, about: &'static str) -> Opt {
    Opt { short, long, value: Some(name), alias: None, many: false, check: None, about }
}

const PROJECT: Opt = value(Some('p'), "project", "dir", "project directory (default: .)");
const ENV: Opt = value(Some('E'), "env", "name", "use a named environment");
const HEADLESS: Opt = switch(Some('H'), "headless", "never ask anything");
const JSON: Opt = switch(None, "json", "print JSON, one document or one object per line");

const fn pairs(long: &'static str, name: &'static str, about: &'static str) -> Opt {
    Opt { many: true, ..value(None, long, name, about) }
}

/// All commands, in the order of the help.
pub(crate) static COMMANDS: &[Command] = &[
    Command {
        path: &["new"],
        about: "create a project and store the credential of its model",
        arguments: &[must("name", "directory of the project; its last part is the project's name")],
        options: &[
            value(None, "provider", "p", "provider of the model (default: anthropic)"),
            value(None, "model", "m", "id of the model (default: the provider's usual one)"),
            value(None, "thinking", "level", "off, minimal, low, medium, high or xhigh"),
            Opt { alias: Some("no-interactive"), ..HEADLESS },
        ],
    },
    Command {
        path: &["chat"],
        about: "talk with the model on this machine, about the project or about one agent",
        arguments: &[may("agent", "in this agent's directory, with its credentials (default: the project)")],
        options: &[
            PROJECT,
            ENV,
            value(Some('m'), "message", "text", "send this one message, print the answer and exit"),
            switch(None, "yes", "let the model run commands and change files without asking"),
        ],
    },
    Command {
        path: &["agent", "new"],
        about: "create an agent from a template",
        arguments: &[],
        options: &[
            PROJECT,
            ENV,
            value(None, "type", "t", "dev, reviewer, planner, reddit-moderator, devops or custom"),
            value(None, "name", "n", "name of the agent"),
            switch(None, "no-config", "do not go on with its configuration"),
        ],
    },
    Command {
        path: &["agent", "config"],
        about: "edit an agent's configuration",
        arguments: &[must("name", "name of the agent")],
        options: &[
            PROJECT,
            ENV,
            pairs("set", "key=value", "give a key a TOML value; may be repeated"),
            pairs("unset", "key", "take a key away; may be repeated"),
        ],
    },
    Command {
        path: &["agent", "list"],
        about: "list agents with schedule, webhook sources, scale and model",
        arguments: &[],
        options: &[PROJECT, ENV, JSON],
    },
    Command {
        path: &["agent", "show"],
        about: "print what counts for an agent, with the file of each value",
        arguments: &[must("name", "name of the agent")],
        options: &[PROJECT, ENV, JSON],
    },
    Command {
        path: &["agent", "rm"],
        about: "remove an agent's directory",
        arguments: &[must("name", "name of the agent")],
        options: &[PROJECT, switch(None, "yes", "ask nothing")],
    },
    Command {
        path: &["config", "show"],
        about: "print the merged configuration of the project",
        arguments: &[],
        options: &[PROJECT, ENV, switch(None, "origin", "with the file of each value"), JSON],
    },
    Command {
        path: &["doctor"],
        about: "check configuration and credentials",
        arguments: &[],
        options: &[
            PROJECT,
            ENV,
            Opt { alias: Some("check"), ..HEADLESS },
            switch(Some('e'), "expose", "check as for a gateway that is reachable from outside"),
            switch(None, "strict", "treat warnings as errors"),
            switch(Some('v'), "verbose", "also list stored credentials that nothing here names"),
            switch(None, "skip-creds", "do not look at credentials"),
            switch(None, "skip-host", "do not look at this machine: Docker, disk, ports"),
            switch(None, "online", "ask the providers of models whether they accept keys and know models"),
            JSON,
        ],
    },
    Command {
        path: &["creds", "ls"],
        about: "list stored credentials, never their values",
        arguments: &[],
        options: &[JSON],
    },
    Command {
        path: &["creds", "add"],
        about: "add a credential, or update one",
        arguments: &[REFERENCE],
        options: &[
            pairs("from-env", "field=VAR", "take a field from a variable; may be repeated"),
            pairs("from-file", "field=path", "take a field from a file; may be repeated"),
            switch(None, "stdin", "take the one field, or a JSON object of several, from standard input"),
            switch(None, "no-verify", "do not ask the provider whether it is accepted"),
        ],
    },
    Command { path: &["creds", "rm"], about: "remove a stored credential", arguments: &[REFERENCE], options: &[] },
    Command {
        path: &["creds", "check"],
        about: "ask providers whether they accept what is stored",
        arguments: &[Argument { many: true, ..may("ref", "stored credentials (default: all)") }],
        options: &[JSON],
    },
    Command { path: &["creds", "types"], about: "browse the types of credentials", arguments: &[], options: &[JSON] },
    Command {
        path: &["env", "init"],
        about: "write a skeleton environment file",
        arguments: &[must("name", "name of the new environment")],
        options: &[value(Some('t'), "type", "type", "type of environment: server (mandatory)")],
    },
    Command { path: &["env", "list"], about: "list environments", arguments: &[], options: &[JSON] },
    Command {
        path: &["env", "show"],
        about: "print an environment file, or the whole configuration",
        arguments: &[may("name", "the environment (with --merged by default the selected one)")],
        options: &[
            switch(None, "merged", "the merged configuration of the project with the file of each value"),
            PROJECT,
            ENV,
            JSON,
        ],
    },
    Command {
        path: &["env", "check"],
        about: "verify the server of an environment",
        arguments: &[must("name", "the environment")],
        options: &[JSON],
    },
    Command {
        path: &["env", "set"],
        about: "bind the project to an environment, or unbind it",
        arguments: &[may("name", "the environment (default: none)")],
        options: &[PROJECT],
    },
    Command {
        path: &["run"],
        about: "run one agent once and end with its exit status, or trigger it when a scheduler runs",
        arguments: &[must("agent", "name of the agent, a directory below agents/"), may("prompt", "task for this run")],
        options: &[
            PROJECT,
            ENV,
            HEADLESS,
            value(None, "prompt-file", "file", "take the task from a file, - for standard input"),
            value(
                None,
                "webhook",
                "file",
                "run as if this webhook (context or delivery, JSON) had come, - for standard input",
            ),
            switch(None, "wait", "follow a run of the scheduler and end with its exit status"),
            JSON,
        ],
    },
    Command {
        path: &["start"],
        about: "run scheduler and gateway until stopped",
        arguments: &[],
        options: &[
            PROJECT,
            ENV,
            HEADLESS,
            switch(Some('w'), "web-ui", "serve the dashboard"),
            switch(Some('e'), "expose", "serve on all addresses, not only on this machine"),
            value(None, "port", "number", "port of the gateway (default: gateway.port, else 8080)"),
        ],
    },
    Command {
        path: &["stop"],
        about: "stop the scheduler; its queued work goes to the dead letters",
        arguments: &[],
        options: &[
            PROJECT,
            ENV,
            switch(None, "keep-queue", "leave queued work queued"),
            switch(None, "kill", "kill running containers, which otherwise go on"),
            JSON,
        ],
    },
    Command {
        path: &["pause"],
        about: "pause the scheduler, or one agent",
        arguments: &[may("name", "the agent (default: the whole scheduler)")],
        options: &[PROJECT, ENV, JSON],
    },
    Command {
        path: &["resume"],
        about: "resume the scheduler, or one agent",
        arguments: &[may("name", "the agent (default: the whole scheduler)")],
        options: &[PROJECT, ENV, JSON],
    },
    Command {
        path: &["kill"],
        about: "kill all instances of an agent, or one instance",
        arguments: &[must("target", "an agent or the id of an instance")],
        options: &[PROJECT, ENV, JSON],
    },
    Command {
        path: &["stat"],
        about: "show the scheduler, its agents, running instances and locks",
        arguments: &[may("agent", "show this agent")],
        options: &[PROJECT, ENV, JSON],
    },
    Command {
        path: &["status"],
        about: "as stat, with the number of waiting items per agent",
        arguments: &[may("agent", "show this agent")],
        options: &[PROJECT, ENV, JSON],
    },
    Command {
        path: &["stats"],
        about: "show what ended runs came to: results, time, tokens, cost",
        arguments: &[may("agent", "list the latest runs of this agent")],
        options: &[
            PROJECT,
            value(Some('s'), "since", "span", "runs of so long: 24h, 7d or 30d (default: 7d; of an agent: all)"),
            value(Some('n'), "lines", "N", "list this many runs of the agent (default: 20)"),
            switch(None, "calls", "which agents call which, and how often"),
            JSON,
        ],
    },
    Command {
        path: &["logs"],
        about: "show the log of an agent or of the scheduler",
        arguments: &[may("agent", "an agent, the id of an instance, or gateway (default: scheduler)")],
        options: &[
            PROJECT,
            ENV,
            Opt { check: Some(check_lines), ..value(Some('n'), "lines", "N", "show the last N entries (default: 50)") },
            switch(Some('f'), "follow", "go on with new entries until Ctrl-C"),
            Opt { check: Some(check_date), ..value(Some('d'), "date", "YYYY-MM-DD", "entries of this day (UTC)") },
            switch(Some('r'), "raw", "one line per entry with everything in it"),
            value(Some('i'), "instance", "N", "entries of this instance: its id, or the part behind the agent's name"),
            Opt {
                check: Some(check_pattern),
                ..value(Some('g'), "grep", "regex", "entries whose JSON text this regular expression matches")
            },
            value(
                None,
                "after",
                "t",
                "entries from this instant on: 2026-01-31T09:00, 2026-01-31 (its beginning in UTC), 2h or 3d (ago)",
            ),
            value(None, "before", "t", "entries before this instant, in the same forms"),
            switch(Some('a'), "all", "hide nothing of the conversation, whatever its level"),
            switch(None, "json", "print every entry as it is stored, one per line"),
        ],
    },
    Command {
        path: &["queue", "ls"],
        about: "list work items, newest first",
        arguments: &[may("agent", "items of this agent")],
        options: &[
            PROJECT,
            ENV,
            Opt {
                check: Some(check_states),
                ..value(None, "state", "s", "queued, running, done, failed or dead (default: all but done)")
            },
            JSON,
        ],
    },
    Command {
        path: &["queue", "show"],
        about: "show an item with its context, as JSON",
        arguments: &[must("id", "number of the item")],
        options: &[PROJECT, ENV, JSON],
    },
    Command {
        path: &["queue", "retry"],
        about: "queue failed and dead items again",
        arguments: &[Argument { many: true, ..may("id", "numbers of items") }],
        options: &[PROJECT, ENV, switch(None, "all-dead", "all dead letters"), JSON],
    },
    Command {
        path: &["queue", "drop"],
        about: "move queued items to the dead letters",
        arguments: &[Argument { many: true, ..must("id", "numbers of items") }],
        options: &[PROJECT, ENV, JSON],
    },
    Command {
        path: &["queue", "clear"],
        about: "move all queued items to the dead letters",
        arguments: &[may("agent", "items of this agent")],
        options: &[PROJECT, ENV, JSON],
    },
    Command {
        path: &["cron"],
        about: "explain a schedule and list its next firings",
        arguments: &[must(
            "expression|agent",
            "a schedule in quotes, for example \"0 9 * * 1-5\", or the name of an agent that has one",
        )],
        options: &[
            PROJECT,
            ENV,
            value(None, "tz", "zone", "IANA time zone (default: that of TZ, else of this machine)"),
            value(
                None,
                "from",
                "instant",
                "list firings after this, for example 2031-05-01T09:00 or 2031-05-01T07:00:00Z (default: now)",
            ),
            value(Some('n'), "count", "N", "list this many, 1 to 1000 (default: 5)"),
            JSON,
        ],
    },
    Command {
        path: &["version"],
        about: "print version, revision and what is embedded",
        arguments: &[],
        options: &[JSON],
    },
    Command {
        path: &["completions"],
        about: "print the completion script of a shell, for example: source <(al completions bash)",
        arguments: &[must("shell", "bash, zsh or fish")],
        options: &[],
    },
    Command {
        path: &["docs"],
        about: "show the documentation, for example: al docs webhooks",
        arguments: &[may("topic", "a page (default: the list of all)")],
        options: &[],
    },
    Command {
        path: &["man"],
        about: "print a manual page, for example: al man run | man -l -",
        arguments: &[Argument { many: true, ..may("command", "the command (default: all)") }],
        options: &[],
    },
];

const REFERENCE: Argument = must("ref", "type or type:instance, for example github_token or git_ssh:bot");

/// States of work items.
pub(crate) const STATES: [&str; 5] = ["queued", "running", "done", "failed", "dead"];

fn check_lines(text: &str) -> Option<String> {
    let is_positive = text.parse::<usize>().is_ok_and(|lines| lines > 0) && !text.starts_with('+');
    (!is_positive).then(|| "It must be a positive integer.".to_owned())
}

fn check_date(text: &str) -> Option<String> {
    let is_date = text.len() == 10 && chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok();
    (!is_date).then(|| "It must be a date such as 2026-01-31.".to_owned())
}

fn check_pattern(text: &str) -> Option<String> {
    Pattern::parse(text).err().map(|reason| format!("It must be a regular expression: {reason}."))
}

fn check_states(text: &str) -> Option<String> {
    let wrong = text.split(',').any(|state| !STATES.contains(&state));
    wrong.then(|| format!("It must be one or more of {}, with commas between.", STATES.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_has_commands_and_its_default_is_one_of_them() {
        for group in GROUPS {
            let names: Vec<&str> = COMMANDS
                .iter()
                .filter(|command| command.path.len() == 2 && command.path[0] == group.name)
                .map(|command| command.path[1])
                .collect();
            assert!(
                !names.is_empty() && group.default.is_none_or(|default| names.contains(&default)),
                "{}",
                group.name
            );
        }
        let grouped = COMMANDS.iter().filter(|command| command.path.len() == 2);
        assert!(grouped.into_iter().all(|command| GROUPS.iter().any(|group| group.name == command.path[0])));
    }

    #[test]
    fn only_the_last_argument_may_be_given_many_times() {
        for command in COMMANDS {
            let many = command.arguments.iter().position(|argument| argument.many);
            assert!(many.is_none_or(|many| many + 1 == command.arguments.len()), "{:?}", command.path);
        }
    }

    #[test]
    fn values_are_checked() {
        assert!(["1", "007", "99999"].iter().all(|text| check_lines(text).is_none()));
        assert!(["0", "-5", "+5", "x", "", "1.5"].iter().all(|text| check_lines(text).is_some()));
        assert!(check_date("2024-02-29").is_none());
        assert!(["2025-13-40", "2025-02-29", "2025-1-1", "today", ""].iter().all(|text| check_date(text).is_some()));
        assert!(check_states("dead,failed").is_none() && check_states("dead, failed").is_some());
    }
}
