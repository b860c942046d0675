//! Classes of errors that people see, and how an error is printed (cli-config.md §2.4).
//!
//! Inside the program every error is an [`anyhow::Error`]. These three small types travel inside it where the class
//! matters to the reader; the command line finds them by downcasting.

use std::fmt;

/// Something is wrong in a configuration file.
#[derive(Debug)]
pub struct ConfigError(pub String);

/// Something is wrong with a credential.
#[derive(Debug)]
pub struct CredentialError(pub String);

/// An agent's run or image failed.
#[derive(Debug)]
pub struct AgentError(pub String);

/// A project has no agent of this name; the text is the whole message.
#[derive(Debug)]
pub struct UnknownAgent(pub String);

/// The command was typed wrongly; the text is the whole message.
#[derive(Debug)]
pub struct UsageError(pub String);

macro_rules! message_error {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl std::error::Error for $name {}
    )*};
}
message_error!(ConfigError, CredentialError, AgentError, UnknownAgent, UsageError);

/// Machine-readable name of an error's class (cli-config.md §14.4).
pub fn kind(error: &anyhow::Error) -> &'static str {
    if error.is::<ConfigError>() {
        "config"
    } else if error.is::<CredentialError>() {
        "credential"
    } else if error.is::<AgentError>() || error.is::<UnknownAgent>() {
        "agent"
    } else if error.is::<UsageError>() {
        "usage"
    } else {
        "internal"
    }
}

/// The block that is printed on stderr, without a final newline.
pub fn render(error: &anyhow::Error) -> String {
    let prefix = match kind(error) {
        "usage" => return error.to_string(),
        "config" => "Configuration error",
        "credential" => "Credential error",
        "agent" if error.is::<AgentError>() => "Agent error",
        _ => "Error",
    };
    let mut text = format!("{prefix}: {error}");
    for cause in error.chain().skip(1) {
        text.push_str(&format!("\nCause: {cause}"));
    }
    text
}

/// The whole chain in one line, for log entries and status displays.
pub fn one_line(error: &anyhow::Error) -> String {
    format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn the_class_decides_the_prefix() {
        let error = anyhow::Error::new(ConfigError("config.toml: scale: 0".into()));
        assert_eq!(render(&error), "Configuration error: config.toml: scale: 0");
        let error = anyhow::Error::new(UnknownAgent("Agent \"x\" not found.".into()));
        assert_eq!((render(&error).as_str(), kind(&error)), ("Error: Agent \"x\" not found.", "agent"));
        let error = Err::<(), _>(std::io::Error::other("disk full")).context("write x").unwrap_err();
        assert_eq!(render(&error), "Error: write x\nCause: disk full");
        assert_eq!(one_line(&error), "write x: disk full");
    }
}
