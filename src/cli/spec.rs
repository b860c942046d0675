//! Every command with its arguments and options, as data. The argument normaliser, usage errors, help and suggestions
//! are all made from this one table.

/// A command or a subcommand of a group.
pub(crate) struct Command {
    /// `["run"]`, or group and name: `["env", "show"]`.
    pub(crate) path: &'static [&'static str],
    pub(crate) about: &'static str,
    pub(crate) arguments: &'static [Argument],
    pub(crate) options: &'static [Opt],
}

/// A positional argument. Mandatory ones come first.
pub(crate) struct Argument {
    pub(crate) name: &'static str,
    pub(crate) mandatory: bool,
    pub(crate) about: &'static str,
}

/// An option.
pub(crate) struct Opt {
    pub(crate) short: Option<char>,
    pub(crate) long: &'static str,
    /// Name of its value; `None` for a switch.
    pub(crate) value: Option<&'static str>,
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

const PROJECT: Opt =
    Opt { short: Some('p'), long: "project", value: Some("dir"), about: "project directory (default: .)" };
const ENV: Opt = Opt { short: Some('E'), long: "env", value: Some("name"), about: "use a named environment" };
const HEADLESS: Opt = Opt { short: Some('H'), long: "headless", value: None, about: "never ask anything" };
const JSON: Opt =
    Opt { short: None, long: "json", value: None, about: "print JSON, one document or one object per line" };

/// All commands, in the order of the help.
pub(crate) static COMMANDS: &[Command] = &[
    Command {
        path: &["run"],
        about: "run one agent once and end with its exit status",
        arguments: &[
            Argument { name: "agent", mandatory: true, about: "name of the agent, a directory below agents/" },
            Argument { name: "prompt", mandatory: false, about: "task for this run" },
        ],
        options: &[
            PROJECT,
            ENV,
            HEADLESS,
            Opt {
                short: None,
                long: "prompt-file",
                value: Some("file"),
                about: "take the task from a file, - for standard input",
            },
            Opt {
                short: None,
                long: "webhook",
                value: Some("file"),
                about: "run as if this webhook (context or delivery, JSON) had come, - for standard input",
            },
            JSON,
        ],
    },
    Command {
        path: &["cron"],
        about: "explain a schedule and list its next firings",
        arguments: &[Argument {
            name: "expression|agent",
            mandatory: true,
            about: "a schedule in quotes, for example \"0 9 * * 1-5\", or the name of an agent that has one",
        }],
        options: &[
            PROJECT,
            ENV,
            Opt {
                short: None,
                long: "tz",
                value: Some("zone"),
                about: "IANA time zone (default: that of TZ, else of this machine)",
            },
            Opt {
                short: None,
                long: "from",
                value: Some("instant"),
                about: "list firings after this, for example 2031-05-01T09:00 or 2031-05-01T07:00:00Z (default: now)",
            },
            Opt { short: Some('n'), long: "count", value: Some("N"), about: "list this many, 1 to 1000 (default: 5)" },
            JSON,
        ],
    },
    Command {
        path: &["doctor"],
        about: "check configuration and credentials",
        arguments: &[],
        options: &[
            PROJECT,
            ENV,
            HEADLESS,
            Opt {
                short: Some('e'),
                long: "expose",
                value: None,
                about: "check as for a gateway that is reachable from outside",
            },
            Opt { short: None, long: "strict", value: None, about: "treat warnings about keys as errors" },
        ],
    },
];
