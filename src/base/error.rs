//! Classes of errors that people see, and how an error is printed (cli-config.md §2.4).
//!
//! Inside the program every error is an [`anyhow::Error`]. These small types travel inside it where the class
//! matters to the reader; the command line finds them by downcasting.

use std::fmt;

use serde_json::{Value, json};

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

/// A gateway could not be asked, or would not.
#[derive(Debug)]
pub struct GatewayError {
    pub why: Trouble,
    /// The whole message.
    pub text: String,
}

/// What is wrong with a gateway, as far as somebody acts on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No scheduler of the project runs on this machine, so there is none to ask.
    NotRunning,
    /// Nobody listens there, or no way leads there. Nothing was sent.
    Refused,
    /// No usable connection, or no answer in time.
    Unreachable,
    /// The key is not the gateway's.
    KeyRefused,
    /// It answered with this status, which is no success.
    Status(u16),
    /// What answered with this status does not speak like a gateway.
    Foreign(u16),
}

impl fmt::Display for GatewayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for GatewayError {}

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
    } else if error.is::<GatewayError>() {
        "gateway"
    } else if error.is::<UsageError>() {
        "usage"
    } else {
        "internal"
    }
}

/// What `--json` prints of an error (cli-config.md §14.4). Further lines of its message are the items.
pub fn to_json(error: &anyhow::Error) -> Value {
    let text = format!("{error:#}");
    let mut lines = text.lines();
    let message = lines.next().unwrap_or_default().trim_start_matches("error: ");
    let items: Vec<&str> = lines.map(|line| line.trim().trim_start_matches("- ")).collect();
    let mut document = json!({"ok": false, "error": {"kind": kind(error), "message": message}});
    if !items.is_empty() {
        document["error"]["items"] = json!(items);
    }
    document
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
    let causes = causes(error);
    if !causes.is_empty() {
        text.push_str(&format!("\nCause: {causes}"));
    }
    text
}

/// All that is below the message; what a cause only repeats of the ones above it is left out.
fn causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            let joint = if text.is_empty() { "" } else { ": " };
            text.push_str(&format!("{joint}{cause}"));
        }
    }
    text
}

/// The first line of the chain, for places that have room for one.
pub fn first_line(error: &anyhow::Error) -> String {
    format!("{error:#}").lines().next().unwrap_or_default().trim().to_owned()
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

    #[test]
    fn all_causes_are_one_line_that_repeats_nothing() {
        let error = Err::<(), _>(std::io::Error::other("disk full")).context("save: disk full").unwrap_err();
        assert_eq!(render(&error.context("write x")), "Error: write x\nCause: save: disk full");
        let error = Err::<(), _>(std::io::Error::other("disk full")).context("save").unwrap_err();
        assert_eq!(render(&error.context("write x")), "Error: write x\nCause: save: disk full");
    }

    #[test]
    fn json_has_kind_message_and_items() {
        let gateway = GatewayError { why: Trouble::NotRunning, text: "no\n  - one\n  two".into() };
        assert_eq!(
            to_json(&gateway.into()).to_string(),
            r#"{"ok":false,"error":{"kind":"gateway","message":"no","items":["one","two"]}}"#
        );
    }
}
