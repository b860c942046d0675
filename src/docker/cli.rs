//! How the `docker` program is called, and what its failures mean.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::time::Duration;

use crate::base::Cancel;
use crate::base::process::{Cmd, CmdError, Limit, Output, Reason, error_tail};

/// Limit of `info` and `version`.
pub(crate) const PROBE_LIMIT: Duration = Duration::from_secs(10);
/// Limit of every call that does not load or build something.
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(30);
/// Limit of a pull.
pub(crate) const PULL_LIMIT: Duration = Duration::from_secs(300);
/// Threads of the client's runtime. It does one thing at a time, and preparing for more costs a tenth of its start.
const CLIENT_THREADS: &str = "GOMAXPROCS";
/// What is kept of each end of an answer. Answers are JSON: a cut one would be useless.
const ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// The docker client. Cheap to clone; holds no connection.
#[derive(Clone)]
pub struct Docker {
    program: OsString,
    env: Vec<(String, String)>,
    cancel: Option<Cancel>,
}

/// What went wrong, as far as somebody decides on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The daemon does not answer at all.
    DaemonDown,
    /// Another container has the name.
    NameTaken,
    NoSpace,
    ImageMissing,
    /// A container is made of it.
    ImageInUse,
    NetworkMissing,
    ContainerMissing,
    /// The cancel token was used.
    Cancelled,
    Other,
}

/// A failed call of the client.
#[derive(Debug)]
pub struct DockerError {
    pub failure: Failure,
    pub cause: CmdError,
}

impl fmt::Display for DockerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}

impl std::error::Error for DockerError {}

/// The failure inside an error; [`Failure::Other`] for errors that do not come from the client.
pub fn failure(error: &anyhow::Error) -> Failure {
    error.downcast_ref::<DockerError>().map_or(Failure::Other, |error| error.failure)
}

/// What a text of the client or the daemon means.
pub(crate) fn classify(text: &str) -> Failure {
    let text = text.to_ascii_lowercase();
    let has = |part: &str| text.contains(part);
    if has("cannot connect to the docker daemon")
        || has("error during connect")
        || has("failed to connect to the docker api")
        || has("connection refused")
    {
        Failure::DaemonDown
    } else if has("is already in use by container") {
        Failure::NameTaken
    } else if has("no space left on device") {
        Failure::NoSpace
    } else if has("no such image") {
        Failure::ImageMissing
    } else if has("image is being used by") {
        Failure::ImageInUse
    } else if has("no such container") || has("no such object") {
        Failure::ContainerMissing
    } else if text.find("network ").is_some_and(|start| text[start..].contains("not found")) {
        Failure::NetworkMissing
    } else {
        Failure::Other
    }
}

impl Default for Docker {
    fn default() -> Self {
        Self::new("docker")
    }
}

impl Docker {
    /// A client by name or path; [`Docker::default`] is `docker` from `PATH`.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self { program: program.into(), env: Vec::new(), cancel: None }
    }

    /// Sets a variable for the client, on top of the environment that it inherits.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A client whose calls end when the token is used.
    pub fn cancelled_by(&self, token: &Cancel) -> Self {
        Self { cancel: Some(token.clone()), ..self.clone() }
    }

    /// A variable as the client sees it; `None` when it is unset or empty.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        let own = self.env.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        own.or_else(|| std::env::var(name).ok()).filter(|value| !value.is_empty())
    }

    /// A command line of the client.
    pub(crate) fn cmd<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Cmd {
        let mut cmd = Cmd::new(&self.program).args(args).capture_end_bytes(ANSWER_BYTES);
        if self.variable(CLIENT_THREADS).is_none() {
            cmd = cmd.env(CLIENT_THREADS, "1");
        }
        for (name, value) in &self.env {
            cmd = cmd.env(name, value);
        }
        match &self.cancel {
            Some(token) => cmd.cancel(token),
            None => cmd,
        }
    }

    /// A short call that has to succeed.
    pub(crate) fn call<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Result<Output, DockerError> {
        self.call_within(CALL_LIMIT, args)
    }

    /// A call that has to succeed within the limit.
    pub(crate) fn call_within<A: AsRef<OsStr>>(
        &self,
        limit: Duration,
        args: impl IntoIterator<Item = A>,
    ) -> Result<Output, DockerError> {
        self.cmd(args).run(Limit::Within(limit)).map_err(|cause| self.error(cause))
    }

    /// A short call whose answer counts even when its status is not 0.
    pub(crate) fn call_any_status<A: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = A>,
    ) -> Result<Output, DockerError> {
        self.cmd(args).run_any_status(Limit::Within(CALL_LIMIT)).map_err(|cause| self.error(cause))
    }

    /// The error of a call that ended with another status than 0.
    pub(crate) fn error_of(&self, what: &str, output: &Output) -> DockerError {
        let reason = Reason::Status(output.status);
        self.error(CmdError { what: format!("docker {what}"), reason, stderr: error_tail(&output.stderr) })
    }

    /// Says what a failed call means. A daemon is only called down when it does not answer a second question: a
    /// registry can refuse a connection, and one call can take too long.
    pub(crate) fn error(&self, cause: CmdError) -> DockerError {
        let suspected = match cause.reason {
            Reason::Cancelled => Failure::Cancelled,
            Reason::TimedOut(_) => Failure::DaemonDown,
            Reason::NotFound | Reason::Start(_) => Failure::Other,
            Reason::Status(_) => classify(&cause.stderr),
        };
        let failure = match suspected {
            Failure::DaemonDown if self.daemon_answers() => Failure::Other,
            other => other,
        };
        DockerError { failure, cause }
    }

    /// Whether the daemon answers.
    pub fn daemon_answers(&self) -> bool {
        let asked = Self { cancel: None, ..self.clone() }.cmd(["version", "--format", "{{.Server.Version}}"]);
        asked.run(Limit::Within(PROBE_LIMIT)).is_ok_and(|output| !output.text().is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn case(text: &str, expected: Failure) {
        assert_eq!(classify(text), expected, "{text}");
    }

    #[test]
    fn texts_of_the_client_and_the_daemon() {
        case(
            "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
            Failure::DaemonDown,
        );
        case("error during connect: Get \"http://x/v1.41/info\": EOF", Failure::DaemonDown);
        case("dial tcp 127.0.0.1:2375: connect: connection refused", Failure::DaemonDown);
        case("failed to connect to the docker API at unix:///var/run/docker.sock", Failure::DaemonDown);
        case(
            "Error response from daemon: Conflict. The container name \"/al-dev-1a2b3c4d\" is already in use by \
             container \"5f\". You have to remove (or rename) that container",
            Failure::NameTaken,
        );
        case("mkdir /var/lib/docker/overlay2/x: no space left on device", Failure::NoSpace);
        case("Error response from daemon: No such image: al-dev:1a2b3c4d", Failure::ImageMissing);
        case("Error response from daemon: no such image: nope: No such image: nope:latest", Failure::ImageMissing);
        case(
            "Error response from daemon: conflict: unable to delete 5955062e6f39 (cannot be forced) - image is being used by \
             running container 67e7a3630ebc",
            Failure::ImageInUse,
        );
        case(
            "Error response from daemon: conflict: unable to delete 24d7022739d5 (cannot be forced) - image has dependent \
             child images",
            Failure::Other,
        );
        case("Error response from daemon: network al-net not found", Failure::NetworkMissing);
        case("Error: No such network: al-net\nnetwork al-net not found", Failure::NetworkMissing);
        case("Error response from daemon: No such container: al-dev-1a2b3c4d", Failure::ContainerMissing);
        case("Error: No such object: al-dev-1a2b3c4d", Failure::ContainerMissing);
        case(
            "Got permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock",
            Failure::Other,
        );
        case("exec: \"/app/bin/al-agent\": stat /app/bin/al-agent: no such file or directory", Failure::Other);
        case("", Failure::Other);
    }

    #[test]
    fn a_daemon_is_down_only_when_it_does_not_answer_a_second_time() {
        let failing = |stderr: &str, version_status: i32| {
            let script =
                format!("case $1 in version) echo 1; exit {version_status};; *) echo '{stderr}' >&2; exit 1;; esac");
            let dir = tempfile::tempdir().unwrap();
            let program = dir.path().join("docker");
            crate::base::files::create_new(&program, format!("#!/bin/sh\n{script}\n").as_bytes(), 0o755).unwrap();
            Docker::new(program).call(["info"]).unwrap_err().failure
        };
        assert_eq!(failing("connection refused", 1), Failure::DaemonDown);
        assert_eq!(failing("connection refused", 0), Failure::Other);
        assert_eq!(failing("network x not found", 1), Failure::NetworkMissing);
    }
}
