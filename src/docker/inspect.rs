//! State of containers: one, or all; and what ends or removes them.

use std::time::Duration;

use anyhow::{Context as _, Result};
use chrono::{DateTime, Datelike as _};
use serde::Deserialize;

use super::cli::{Docker, DockerError, Failure, classify};
use crate::base::clock::UnixMs;
use crate::model::names::ProjectHash;

/// State of a container as the daemon tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// `created`, `running`, `paused`, `restarting`, `removing`, `exited`, `dead`.
    pub status: String,
    /// Meaningful once [`State::has_ended`].
    pub exit_code: i32,
    /// Also set when only a child was killed for want of memory.
    pub oom_killed: bool,
    /// Why a start failed; else mostly empty.
    pub error: String,
    /// `None`: never started.
    pub started_at: Option<UnixMs>,
    pub finished_at: Option<UnixMs>,
}

impl State {
    /// Whether its program is there, frozen or not.
    pub fn is_running(&self) -> bool {
        matches!(self.status.as_str(), "running" | "paused" | "restarting")
    }

    /// Whether it ran and came to an end.
    pub fn has_ended(&self) -> bool {
        self.started_at.is_some() && !self.is_running()
    }

    /// What a failed start means.
    pub fn start_failure(&self) -> Failure {
        classify(&self.error)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawState {
    status: String,
    exit_code: i32,
    #[serde(rename = "OOMKilled", default)]
    oom_killed: bool,
    #[serde(default)]
    error: String,
    #[serde(default)]
    started_at: String,
    #[serde(default)]
    finished_at: String,
}

fn parse_state(json: &str) -> Result<State> {
    let raw: RawState =
        serde_json::from_str(json.trim()).context("read the container's state that docker inspect gave")?;
    let started_at = instant(&raw.started_at);
    Ok(State {
        status: raw.status,
        exit_code: raw.exit_code,
        oom_killed: raw.oom_killed,
        error: raw.error,
        started_at,
        // Of a very short run the daemon can note the end before the start.
        finished_at: instant(&raw.finished_at).map(|end| started_at.map_or(end, |start| end.max(start))),
    })
}

/// The daemon writes the year 1 for "never".
fn instant(text: &str) -> Option<UnixMs> {
    let time = DateTime::parse_from_rfc3339(text).ok()?;
    (time.year() > 1).then(|| UnixMs(time.timestamp_millis()))
}

/// State of a container; `None` when there is none of that name.
///
/// # Errors
/// When the daemon does not answer or answers something else.
pub fn state(docker: &Docker, container: &str) -> Result<Option<State>> {
    match docker.call(["container", "inspect", "--format", "{{json .State}}", container]) {
        Ok(output) => parse_state(&output.text()).map(Some),
        Err(error) if error.failure == Failure::ContainerMissing => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A container in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub name: String,
    /// As in [`State::status`].
    pub status: String,
    /// Our labels; empty when the container has none of them.
    pub project: String,
    pub agent: String,
    pub instance: String,
    /// Made by a one-shot run.
    pub once: bool,
}

impl Listed {
    /// As [`State::is_running`].
    pub fn is_running(&self) -> bool {
        matches!(self.status.as_str(), "running" | "paused" | "restarting")
    }

    /// Whether it looks like a container that version 0.13.2 made for this agent: named `al-<agent>-<8 hex>`, without
    /// our label. Such containers are reported and never touched.
    pub fn is_legacy_of(&self, agent: &str) -> bool {
        let suffix = self.name.strip_prefix("al-").and_then(|rest| rest.strip_prefix(agent)?.strip_prefix('-'));
        let is_hex = |text: &str| text.len() == 8 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        self.project.is_empty() && suffix.is_some_and(is_hex)
    }
}

/// Which containers to list; in every state.
#[derive(Clone, Copy, Debug)]
pub enum Which<'a> {
    OfProject(&'a ProjectHash),
    /// Foreign ones too: to find those of earlier versions, and those that a project made under another path.
    All,
}

/// One JSON array per line: text in a label can hold any character.
const LIST_FORMAT: &str = concat!(
    "[{{json .Names}},{{json .State}},{{json (.Label \"al.project\")}},{{json (.Label \"al.agent\")}},",
    "{{json (.Label \"al.instance\")}},{{json (.Label \"al.once\")}}]"
);

/// Containers in every state, newest first.
///
/// # Errors
/// When the daemon does not answer.
pub fn list(docker: &Docker, which: Which<'_>) -> Result<Vec<Listed>> {
    let mut args = vec!["ps".to_owned(), "-a".into(), "--no-trunc".into(), "--format".into(), LIST_FORMAT.into()];
    if let Which::OfProject(project) = which {
        args.extend(["--filter".into(), format!("label=al.project={project}")]);
    }
    let output = docker.call(args)?;
    String::from_utf8_lossy(&output.stdout).lines().map(parse_listed).collect()
}

fn parse_listed(line: &str) -> Result<Listed> {
    let (names, status, project, agent, instance, once): (String, String, String, String, String, String) =
        serde_json::from_str(line).with_context(|| format!("read what docker ps gave: {line}"))?;
    // Containers that are linked to have several names.
    let name = names.split(',').next().unwrap_or_default().to_owned();
    Ok(Listed { name, status, project, agent, instance, once: once == "1" })
}

/// How a container is told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// SIGKILL.
    Kill,
    /// SIGTERM.
    Terminate,
}

/// Sends a signal to a container; one that is gone or has ended is no error.
///
/// # Errors
/// When the daemon does not answer or refuses.
pub fn kill(docker: &Docker, container: &str, stop: Stop) -> Result<(), DockerError> {
    let signal = match stop {
        Stop::Kill => "KILL",
        Stop::Terminate => "TERM",
    };
    match docker.call(["kill", "--signal", signal, container]) {
        Ok(_) => Ok(()),
        Err(error) if error.failure == Failure::ContainerMissing => Ok(()),
        Err(error) if error.cause.stderr.contains("is not running") => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes a container, running or not; a missing one is no error.
///
/// # Errors
/// When the daemon does not answer or cannot remove it.
pub fn remove(docker: &Docker, container: &str) -> Result<(), DockerError> {
    match docker.call(["rm", "-f", container]) {
        Ok(_) => Ok(()),
        Err(error) if error.failure == Failure::ContainerMissing => Ok(()),
        Err(error) if is_being_removed(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Somebody else is at it: a client of a process that was killed, say.
fn is_being_removed(error: &DockerError) -> bool {
    error.cause.stderr.contains("is already in progress")
}

/// What became of a container that should be removed unless it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It is gone, or was.
    Removed,
    /// It runs, and goes on.
    Runs,
}

/// Removes a container that was created and never started, but not one that runs meanwhile.
///
/// # Errors
/// When the daemon does not answer or cannot remove it.
pub fn remove_unless_running(docker: &Docker, container: &str) -> Result<Removal, DockerError> {
    match docker.call(["rm", container]) {
        Ok(_) => Ok(Removal::Removed),
        Err(error) if error.failure == Failure::ContainerMissing || is_being_removed(&error) => Ok(Removal::Removed),
        Err(error) if error.cause.stderr.contains("running") => Ok(Removal::Runs),
        Err(error) => Err(error),
    }
}

/// Pause before asking a daemon again that did not answer: 1, 2, 5, 10, 10 … seconds. `attempt` counts from 0.
pub fn pause_before_retry(attempt: u32) -> Duration {
    Duration::from_secs([1, 2, 5].get(attempt as usize).copied().unwrap_or(10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_never_started() {
        let json = r#"{"Status":"created","Running":false,"OOMKilled":false,"Dead":false,"Pid":0,"ExitCode":127,
            "Error":"network al-net not found","StartedAt":"0001-01-01T00:00:00Z","FinishedAt":"0001-01-01T00:00:00Z"}"#;
        let state = parse_state(json).unwrap();
        assert_eq!((state.started_at, state.finished_at), (None, None));
        assert!(!state.has_ended() && !state.is_running());
        assert_eq!(state.start_failure(), Failure::NetworkMissing);
    }

    #[test]
    fn a_container_that_ended() {
        let json = r#"{"Status":"exited","Running":false,"OOMKilled":true,"ExitCode":137,"Error":"",
            "StartedAt":"2026-01-02T03:04:05.007999Z","FinishedAt":"2026-01-02T03:04:06.5+00:00"}"#;
        let early = parse_state(&json.replace("06.5+", "05.001+")).unwrap();
        assert_eq!(early.finished_at, early.started_at);
        let state = parse_state(json).unwrap();
        assert!(state.has_ended() && state.oom_killed);
        assert_eq!(state.exit_code, 137);
        assert_eq!(state.started_at.unwrap().to_iso(), "2026-01-02T03:04:05.007Z");
        assert_eq!(state.finished_at.unwrap().to_iso(), "2026-01-02T03:04:06.500Z");
        assert!(parse_state("").is_err(), "no answer is no exit status");
    }

    #[track_caller]
    fn legacy(name: &str, project: &str, expected: bool) {
        let line = serde_json::to_string(&(name, "running", project, "", "", "")).unwrap();
        assert_eq!(parse_listed(&line).unwrap().is_legacy_of("dev"), expected, "{name}");
    }

    #[test]
    fn containers_of_earlier_versions() {
        legacy("al-dev-1a2b3c4d", "", true);
        legacy("al-dev-1a2b3c4d", "0123456789ab", false);
        legacy("portal-dev-1", "", false);
        legacy("al-dev-x-1a2b3c4d", "", false);
        legacy("al-dev-1A2B3C4D", "", false);
        legacy("al-dev-1a2b3c4d5", "", false);
    }

    #[test]
    fn labels_may_hold_anything() {
        let listed = parse_listed(r#"["al-a-12345678,x/y","exited","p\"q,r=s","a","a-12345678","1"]"#).unwrap();
        assert_eq!((listed.name.as_str(), listed.project.as_str(), listed.once), ("al-a-12345678", "p\"q,r=s", true));
    }
}
