//! Names that are parsed once and trusted afterwards.

use std::fmt;
use std::path::Path;

use crate::base::ids;

/// Name of an agent: the name of its directory. 1–63 characters of `a-z`, `0-9` and inner hyphens; not `default`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentName(String);

impl AgentName {
    /// Checks a name.
    ///
    /// # Errors
    /// A sentence that says which rule is broken and contains the name in quotes.
    pub fn parse(name: &str) -> Result<Self, String> {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let outer = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let bytes = name.as_bytes();
        if name.is_empty() || name.chars().count() > 63 {
            return Err(format!("agent name \"{name}\" must have 1-63 characters"));
        }
        if !outer(bytes.first()) || !outer(bytes.last()) || !bytes.iter().all(|byte| inner(*byte)) {
            return Err(format!(
                "agent name \"{name}\" may contain only lowercase letters, numbers and hyphens, and must begin and end \
                 with a letter or number"
            ));
        }
        if name == "default" {
            return Err(format!("agent name \"{name}\" is reserved"));
        }
        Ok(Self(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AgentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Identity of one run, `<agent>-<8 hex digits>`. It is also the holder of its locks; its container is called
/// `al-<instance id>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId {
    text: String,
    agent_len: usize,
}

impl InstanceId {
    /// A new one.
    pub fn generate(agent: &AgentName) -> Self {
        Self { text: format!("{agent}-{}", ids::hex8()), agent_len: agent.as_str().len() }
    }

    /// A known one of this agent.
    pub fn known(agent: &AgentName, text: &str) -> Self {
        Self { text: text.to_owned(), agent_len: agent.as_str().len().min(text.len()) }
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Name of the agent.
    pub fn agent(&self) -> &str {
        &self.text[..self.agent_len]
    }

    /// Name of the run's container.
    pub fn container_name(&self) -> String {
        format!("al-{}", self.text)
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A credential reference, `type` or `type:instance` (cli-config.md §4.1). Its parts can be used as path components.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CredentialRef {
    kind: String,
    instance: String,
}

impl CredentialRef {
    /// The instance that a reference without one means.
    pub const DEFAULT_INSTANCE: &str = "default";

    /// Parses a reference; blanks around both parts are ignored.
    ///
    /// # Errors
    /// A sentence that contains the reference in quotes.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (kind, instance) = match text.split_once(':') {
            Some((kind, instance)) => (kind.trim(), instance.trim()),
            None => (text.trim(), Self::DEFAULT_INSTANCE),
        };
        if !is_type(kind) || !is_instance(instance) {
            return Err(format!(
                "\"{text}\" is not a credential reference; write \"type\" or \"type:instance\", for example \
                 \"github_token\" or \"git_ssh:bot\""
            ));
        }
        Ok(Self { kind: kind.to_owned(), instance: instance.to_owned() })
    }

    /// The default instance of a type of ours.
    pub fn default_of(kind: &str) -> Self {
        Self { kind: kind.to_owned(), instance: Self::DEFAULT_INSTANCE.to_owned() }
    }

    /// The type.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The instance.
    pub fn instance(&self) -> &str {
        &self.instance
    }
}

/// The canonical form: without the instance when it is the default one.
impl fmt::Display for CredentialRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.instance == Self::DEFAULT_INSTANCE {
            f.write_str(&self.kind)
        } else {
            write!(f, "{}:{}", self.kind, self.instance)
        }
    }
}

fn is_type(text: &str) -> bool {
    let bytes = text.as_bytes();
    let lower = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=63).contains(&bytes.len()) && lower(&bytes[0]) && bytes.iter().all(|byte| lower(byte) || *byte == b'_')
}

fn is_instance(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    (1..=127).contains(&bytes.len())
        && bytes[0].is_ascii_alphanumeric()
        && bytes.iter().all(inner)
        && !text.contains("..")
}

/// Identity of a project on its host: the first 12 hex digits of SHA-256 of its absolute, lexical path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ProjectHash(String);

impl ProjectHash {
    /// The hash of an absolute path (`base::files::absolute_lexically`).
    pub fn of(path: &Path) -> Self {
        use std::os::unix::ffi::OsStrExt as _;
        Self(ids::sha256_hex(path.as_os_str().as_bytes())[..12].to_owned())
    }

    /// The twelve digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProjectHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn agent(name: &str, complaint: Option<&str>) {
        match (AgentName::parse(name), complaint) {
            (Ok(_), None) => {}
            (Err(text), Some(part)) => assert!(text.contains(part) && text.contains(name), "{text}"),
            (parsed, _) => panic!("{name}: {parsed:?}"),
        }
    }

    #[test]
    fn agent_names() {
        agent("dev", None);
        agent("a", None);
        agent("dev-2", None);
        agent("", Some("1-63"));
        agent(&"a".repeat(64), Some("1-63"));
        agent("Dev", Some("lowercase"));
        agent("dev_1", Some("hyphens"));
        agent("-dev", Some("numbers"));
        agent("dev-", Some("numbers"));
        agent("default", Some("reserved"));
    }

    #[track_caller]
    fn reference(text: &str, canonical: Option<&str>) {
        let parsed = CredentialRef::parse(text).map(|parsed| parsed.to_string());
        match canonical {
            Some(canonical) => assert_eq!(parsed.as_deref(), Ok(canonical)),
            None => assert!(parsed.unwrap_err().contains(&format!("\"{text}\""))),
        }
    }

    #[test]
    fn credential_references() {
        reference("github_token", Some("github_token"));
        reference("github_token:default", Some("github_token"));
        reference(" git_ssh : botty ", Some("git_ssh:botty"));
        for bad in
            ["", ":", "github_token:", ":x", "a:b:c", "a/b:c", "..:environments", "../x", "a:../b", "a:x..y", "A"]
        {
            reference(bad, None);
        }
    }

    #[test]
    fn instances_know_their_agent_and_container() {
        let id = InstanceId::generate(&AgentName::parse("dev-2").unwrap());
        assert_eq!(id.agent(), "dev-2");
        assert_eq!(id.container_name(), format!("al-{id}"));
        assert_eq!(id.as_str().len(), "dev-2-".len() + 8);
    }
}
