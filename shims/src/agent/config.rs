//! What the agent is: its configuration, instructions and time limit, from the image (containers.md §10.3).

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value};

use super::report::Reporter;
use super::setup::{Paths, read_if_there};
use crate::env::Environment;
use crate::wire::config::AgentConfig;
use crate::wire::paths;
use crate::wire::run_file::RunFile;

/// Limit of a run that nobody has set one for.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3600);
/// Member of `AGENT_CONFIG` that holds the instructions.
const INSTRUCTIONS_MEMBER: &str = "_agentsMd";

/// The agent of this run.
pub(super) struct Agent {
    pub config: AgentConfig,
    /// Never blank.
    pub instructions: String,
    pub timeout: Duration,
}

/// Loads the agent from the baked files, or else from the environment.
///
/// # Errors
/// There is neither, or it cannot be understood.
pub(super) fn load_agent(
    paths: &Paths,
    environment: &mut Environment,
    run_file: Option<&RunFile>,
    report: &Reporter,
) -> Result<Agent> {
    let mut agent = match load_baked(&paths.statics)? {
        Some(agent) => {
            report.info("loaded static files from image", &[]);
            agent
        }
        None => parse_variables(environment)?,
    };
    if let Some(run_file) = run_file
        && run_file.timeout_seconds > 0
    {
        agent.timeout = Duration::from_secs(run_file.timeout_seconds);
    }
    if agent.instructions.trim().is_empty() {
        report.warn("ACTIONS.md is empty, using a placeholder", &[]);
        agent.instructions = format!("# {} Agent\n\nCustom agent.\n", agent.config.name);
    }
    Ok(agent)
}

fn load_baked(statics: &Path) -> Result<Option<Agent>> {
    let path = statics.join(paths::CONFIG_NAME);
    let Some(config) = read_if_there(&path)? else { return Ok(None) };
    let text = |name| -> Result<String> {
        let content = read_if_there(&statics.join(name))?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&content).into_owned())
    };
    Ok(Some(Agent {
        config: serde_json::from_slice(&config).with_context(|| format!("parse {}", path.display()))?,
        instructions: text(paths::INSTRUCTIONS_NAME)?,
        timeout: parse_timeout(&text(paths::TIMEOUT_NAME)?),
    }))
}

/// The form of images without baked files.
fn parse_variables(environment: &mut Environment) -> Result<Agent> {
    let timeout = parse_timeout(environment.get("TIMEOUT_SECONDS").unwrap_or_default());
    let Some(config) = environment.remove("AGENT_CONFIG") else {
        bail!(
            "no agent configuration: there is no {} in /app/static/ and AGENT_CONFIG is not set; \
             build the agent's image again with al start",
            paths::CONFIG_NAME
        );
    };
    let config = config.into_string().ok().context("AGENT_CONFIG is not UTF-8")?;
    let mut members: Map<String, Value> = serde_json::from_str(&config).context("parse AGENT_CONFIG")?;
    let instructions = match members.remove(INSTRUCTIONS_MEMBER) {
        Some(Value::String(text)) => text,
        other => {
            ensure!(other.is_none_or(|value| value.is_null()), "AGENT_CONFIG: {INSTRUCTIONS_MEMBER} is not a text");
            String::new()
        }
    };
    let config = serde_json::from_value(Value::Object(members)).context("parse AGENT_CONFIG")?;
    Ok(Agent { config, instructions, timeout })
}

/// Seconds at the start of a text; anything but a positive number is the default.
fn parse_timeout(text: &str) -> Duration {
    let text = text.trim_start();
    let digits = &text[..text.bytes().take_while(u8::is_ascii_digit).count()];
    match digits.parse() {
        Ok(seconds) if seconds > 0 => Duration::from_secs(seconds),
        _ => DEFAULT_TIMEOUT,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::report::tests::Lines;
    use super::*;

    #[test]
    fn leading_seconds_of_the_timeout_file_count() {
        #[track_caller]
        fn case(text: &str, seconds: u64) {
            assert_eq!(parse_timeout(text), Duration::from_secs(seconds), "{text:?}");
        }
        case("900\n", 900);
        case(" 12s", 12);
        case("", 3600);
        case("0", 3600);
        case("-5", 3600);
        case("soon", 3600);
        case("99999999999999999999999", 3600);
    }

    fn paths(dir: &Path) -> Paths {
        Paths::of(&[("AL_STATIC_DIR", dir.as_os_str())].into_iter().collect())
    }

    #[test]
    fn baked_files_come_first_and_the_run_file_sets_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("agent-config.json"), r#"{"name":"dev","params":{"a":1}}"#).unwrap();
        fs::write(dir.path().join("timeout"), "70").unwrap();
        let mut environment: Environment = [("AGENT_CONFIG", r#"{"name":"other"}"#)].into_iter().collect();
        let (report, lines) = Lines::new();
        let agent = load_agent(&paths(dir.path()), &mut environment, None, &report).unwrap();
        assert_eq!((agent.config.name.as_str(), agent.timeout.as_secs()), ("dev", 70));
        assert_eq!(agent.instructions, "# dev Agent\n\nCustom agent.\n");
        assert_eq!(
            lines.brief(),
            ["info loaded static files from image {}", "warn ACTIONS.md is empty, using a placeholder {}"]
        );
    }

    #[test]
    fn the_environment_form_carries_the_instructions() {
        let dir = tempfile::tempdir().unwrap();
        let mut environment: Environment =
            [("AGENT_CONFIG", r##"{"name":"dev","_agentsMd":"# Do it"}"##), ("TIMEOUT_SECONDS", "60")]
                .into_iter()
                .collect();
        let (report, lines) = Lines::new();
        let agent = load_agent(&paths(dir.path()), &mut environment, None, &report).unwrap();
        assert_eq!((agent.instructions.as_str(), agent.timeout.as_secs()), ("# Do it", 60));
        assert!(!agent.config.other.contains_key("_agentsMd"));
        assert!(lines.brief().is_empty());
    }

    #[test]
    fn without_either_the_error_names_both() {
        let dir = tempfile::tempdir().unwrap();
        let (report, _) = Lines::new();
        let error = load_agent(&paths(dir.path()), &mut Environment::default(), None, &report).err().unwrap();
        let text = error.to_string();
        assert!(text.contains("AGENT_CONFIG") && text.contains("/app/static/"), "{text}");
    }
}
