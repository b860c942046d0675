//! The Docker that the tests use, looked at from outside `al`.

use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use super::project::Project;

/// Base image of all projects of the tests; nothing may have to be pulled.
pub(crate) const BASE: &str = "debian:bookworm-slim";

/// Fails with one sentence unless Docker can be used; the first caller has `al`'s own base image made, so that tests
/// do not do so side by side.
pub(crate) fn require() {
    static READY: OnceLock<Result<(), String>> = OnceLock::new();
    let ready = READY.get_or_init(|| {
        let answer = Command::new("docker").args(["image", "inspect", BASE]).output();
        match answer {
            Ok(output) if output.status.success() => Project::warm_up(),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ")),
            Err(error) => Err(error.to_string()),
        }
    });
    if let Err(why) = ready {
        panic!("this test needs Docker with the image {BASE}, or AL_TEST_NO_DOCKER=1 to be left out: {why}");
    }
}

/// Runs `docker` with these arguments and gives its standard output; fails when it fails.
#[track_caller]
pub(crate) fn docker(args: &[&str]) -> String {
    let (ok, stdout, stderr) = try_docker(args);
    assert!(ok, "docker {args:?}: {stderr}");
    stdout
}

/// Whether `docker` succeeded, and its two streams.
pub(crate) fn try_docker(args: &[&str]) -> (bool, String, String) {
    let output = Command::new("docker").args(args).stdin(Stdio::null()).output().expect("start docker");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

/// What the daemon knows about a container.
#[track_caller]
pub(crate) fn inspect(container: &str) -> Value {
    let text = docker(&["container", "inspect", "--format", "{{json .}}", container]);
    serde_json::from_str(&text).expect("docker inspect gives JSON")
}

/// Names of the containers with this label, in any state.
pub(crate) fn containers(label: &str) -> Vec<String> {
    let filter = format!("label={label}");
    let names = docker(&["ps", "-a", "--filter", &filter, "--format", "{{.Names}}"]);
    names.lines().map(str::to_owned).collect()
}
