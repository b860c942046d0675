//! Keys that another program, pi, keeps in its own file (agent-session.md §3.3). The file is only ever read.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::{Map, Value};
use shims::env::Environment;

use crate::base::clock::UnixMs;
use crate::base::error::CredentialError;
use crate::base::files::read_optional;
use crate::base::process::{Cmd, Limit};
use crate::base::{Cancel, Secret};

/// How long a command may take that prints a key.
const PATIENCE: Duration = Duration::from_secs(10);

/// A key for a provider.
pub struct Key {
    pub value: Secret,
    /// Whether it is a token of a subscription.
    pub is_oauth: bool,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Entry {
    ApiKey {
        key: String,
    },
    Oauth {
        access: String,
        /// Milliseconds since 1970.
        #[serde(default)]
        expires: f64,
    },
}

/// Finds the key of a provider: in the file, or else in the variables that such programs read. `cancel` ends a command that
/// prints it.
///
/// # Errors
/// There is none, or it cannot be used; the text names the file and what else can be done.
pub fn key(provider: &str, environment: &Environment, now: UnixMs, cancel: &Cancel) -> Result<Key> {
    let file = file(environment)?;
    let wrong = |what: &str| CredentialError(format!("{}: {provider}: {what}", file.display()));
    if let Some(entry) = entry(&file, provider)? {
        return match entry {
            Entry::Oauth { access, expires } if expires > now.0 as f64 => {
                Ok(Key { value: Secret::new(access), is_oauth: true })
            }
            Entry::Oauth { .. } => {
                bail!(wrong("the token has expired\n  run pi once: it renews the token in its file"))
            }
            Entry::ApiKey { key } => {
                let value = resolve(&key, environment, cancel).map_err(|problem| wrong(&problem))?;
                Ok(Key { value, is_oauth: false })
            }
        };
    }
    let variables = variables(provider);
    let set = variables.iter().find_map(|name| Some((*name, environment.get_non_empty(name)?)));
    match set {
        Some((name, value)) => Ok(Key { value: Secret::new(value), is_oauth: name == "ANTHROPIC_OAUTH_TOKEN" }),
        None => bail!(CredentialError(format!(
            "pi_auth: no key for {provider} in {}\n  log in with pi{}, or store a key with `al creds add {provider}_key` and \
             write authType = \"api_key\"",
            file.display(),
            variables.iter().map(|name| format!(", or set {name}")).collect::<String>()
        ))),
    }
}

fn file(environment: &Environment) -> Result<PathBuf> {
    let dir = match environment.get_non_empty("PI_CODING_AGENT_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(environment.get_non_empty("HOME").context("HOME is not set")?).join(".pi/agent"),
    };
    Ok(dir.join("auth.json"))
}

/// What the file says about a provider. Errors never quote it.
fn entry(file: &Path, provider: &str) -> Result<Option<Entry>> {
    let Some(text) = read_optional(file)? else { return Ok(None) };
    let malformed = || CredentialError(format!("{}: is not the JSON object that pi writes", file.display()));
    let mut entries: Map<String, Value> = serde_json::from_str(&text).ok().with_context(malformed)?;
    let Some(entry) = entries.remove(provider) else { return Ok(None) };
    match serde_json::from_value(entry) {
        Ok(entry) => Ok(Some(entry)),
        Err(_) => bail!(CredentialError(format!(
            "{}: {provider}: is neither an API key nor a token of a subscription",
            file.display()
        ))),
    }
}

/// The key itself: printed by a command, in a variable, or as it stands there.
fn resolve(key: &str, environment: &Environment, cancel: &Cancel) -> Result<Secret, String> {
    let value = match key.strip_prefix('!') {
        Some(command) => {
            let output = Cmd::new("sh").args(["-c", command]).cancel(cancel).run_any_status(Limit::Within(PATIENCE));
            let output = output.map_err(|error| format!("the command for the key: {error}"))?;
            if !output.status.success() {
                return Err(format!("the command for the key failed with {}", output.status));
            }
            output.text()
        }
        None => environment.get_non_empty(key).unwrap_or(key).trim().to_owned(),
    };
    if value.is_empty() { Err("the key is empty".to_owned()) } else { Ok(Secret::new(value)) }
}

/// Where a key is when the file has none, best first.
fn variables(provider: &str) -> &'static [&'static str] {
    match provider {
        "anthropic" => &["ANTHROPIC_OAUTH_TOKEN", "ANTHROPIC_API_KEY"],
        "openai" => &["OPENAI_API_KEY"],
        "google" => &["GEMINI_API_KEY"],
        "groq" => &["GROQ_API_KEY"],
        "xai" => &["XAI_API_KEY"],
        "mistral" => &["MISTRAL_API_KEY"],
        "openrouter" => &["OPENROUTER_API_KEY"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = UnixMs(1_700_000_000_000);

    fn find(file: Option<&str>, provider: &str, variables: &[(&str, &str)]) -> Result<(String, bool), String> {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join(".pi/agent");
        std::fs::create_dir_all(&dir).unwrap();
        if let Some(text) = file {
            std::fs::write(dir.join("auth.json"), text).unwrap();
        }
        let mut environment: Environment = variables.iter().copied().collect();
        environment.set("HOME", home.path());
        let found = key(provider, &environment, NOW, &Cancel::new()).map_err(|error| error.to_string())?;
        Ok((found.value.expose().to_owned(), found.is_oauth))
    }

    #[test]
    fn keys_come_from_the_file_a_variable_or_a_command() {
        let file = r#"{
            "anthropic": {"type": "oauth", "access": "sk-ant-oat01-X", "refresh": "r", "expires": 1800000000000},
            "openai": {"type": "api_key", "key": "MY_KEY"},
            "groq": {"type": "api_key", "key": "!echo ' gsk '; echo noise >&2"}
        }"#;
        assert_eq!(find(Some(file), "anthropic", &[]), Ok(("sk-ant-oat01-X".into(), true)));
        assert_eq!(find(Some(file), "openai", &[("MY_KEY", "sk-1")]), Ok(("sk-1".into(), false)));
        assert_eq!(find(Some(file), "openai", &[]), Ok(("MY_KEY".into(), false)));
        assert_eq!(find(Some(file), "groq", &[]), Ok(("gsk".into(), false)));
        assert_eq!(find(Some(file), "google", &[("GEMINI_API_KEY", "g")]), Ok(("g".into(), false)));
        let both = [("ANTHROPIC_API_KEY", "k"), ("ANTHROPIC_OAUTH_TOKEN", "t")];
        assert_eq!(find(None, "anthropic", &both), Ok(("t".into(), true)));
        assert_eq!(find(None, "anthropic", &both[..1]), Ok(("k".into(), false)));
    }

    #[test]
    fn what_is_wrong_names_the_file_and_no_secret() {
        #[track_caller]
        fn case(file: Option<&str>, provider: &str, expected: &[&str]) {
            let error = find(file, provider, &[]).unwrap_err();
            for part in expected.iter().chain(&[".pi/agent/auth.json"]) {
                assert!(error.contains(part), "{error}");
            }
            assert!(!error.contains("geheim"), "{error}");
        }
        let expired = r#"{"anthropic": {"type": "oauth", "access": "geheim", "expires": 1600000000000}}"#;
        case(Some(expired), "anthropic", &["anthropic: the token has expired", "run pi once"]);
        case(Some("{geheim"), "xai", &["JSON"]);
        case(Some(r#"{"xai": {"type": "geheim"}}"#), "xai", &["xai: is neither"]);
        case(Some(r#"{"xai": {"type": "api_key", "key": "!false"}}"#), "xai", &["the command for the key failed"]);
        case(Some(r#"{"xai": {"type": "api_key", "key": "!true"}}"#), "xai", &["the key is empty"]);
        case(None, "mistral", &["no key for mistral", "MISTRAL_API_KEY", "al creds add mistral_key"]);
    }
}
