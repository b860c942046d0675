//! One thing that is wrong, or worth saying, about a project's files.

use std::fmt;

use crate::base::text::printable;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The project, or the agent it belongs to, cannot be used.
    Error,
    /// It works, but probably not as meant.
    Warning,
    /// Information; never an error, not even with `--strict`.
    Note,
}

/// Rules that somebody treats differently from the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// An agent has neither schedule nor trigger; a single run needs neither.
    NoTrigger,
    /// Triggers and webhook sources; reported under a line of their own.
    Webhook,
    /// An agent's scale against the project's; likewise. A single run ignores it.
    Scale,
    /// A key that nobody knows.
    UnknownKey,
    Other,
}

/// A finding. Shown to people by `Display`, which names file, key, agent, value and remedy.
#[derive(Clone, Debug)]
pub struct Finding {
    pub severity: Severity,
    pub rule: Rule,
    /// Relative to the project directory where it is in there.
    pub file: String,
    /// Dotted.
    pub key: Option<String>,
    /// The agent it belongs to; `None` for the project's own files.
    pub agent: Option<String>,
    /// An error that is only a warning because its agent is disabled.
    pub demoted: bool,
    /// What is wrong; without file, key and agent unless `is_whole`.
    pub message: String,
    /// The message says everything by itself, perhaps in several lines.
    is_whole: bool,
}

impl Finding {
    /// A finding about a key, shown as `<file>: <key>: <message>`.
    pub fn at(severity: Severity, file: &str, key: &str, message: impl Into<String>) -> Self {
        Self {
            severity,
            rule: Rule::Other,
            file: file.to_owned(),
            key: Some(key.to_owned()),
            agent: None,
            demoted: false,
            message: message.into(),
            is_whole: false,
        }
    }

    /// A finding about a file, whose message is shown as it is.
    pub fn whole(severity: Severity, file: &str, message: impl Into<String>) -> Self {
        Self { key: None, is_whole: true, ..Self::at(severity, file, "", message) }
    }

    /// The same, marked with a rule.
    pub fn of(self, rule: Rule) -> Self {
        Self { rule, ..self }
    }

    /// The same, with the key it is about.
    pub fn about(self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self }
    }

    /// Whether it is about a key that nobody knows.
    pub fn is_unknown_key(&self) -> bool {
        self.rule == Rule::UnknownKey
    }

    /// Whether it makes something unusable.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, message, .. } = self;
        let text = match (&self.key, &self.agent, self.is_whole) {
            (Some(key), Some(agent), false) => format!("{file}: {key}: {message} (agent \"{agent}\")"),
            (Some(key), None, false) => format!("{file}: {key}: {message}"),
            _ => message.clone(),
        };
        // Names and values come from files that somebody else may have written.
        f.write_str(&printable(&text))
    }
}
