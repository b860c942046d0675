//! From the configuration to what runs need: what is baked into an image, what limits hold, how often to try again.

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use shims::wire::paths;

use super::images::{AgentImage as ImageContent, UserDockerfile};
use super::life::{Agent, ImageSource, log_dir};
use super::prompt::Skeleton;
use crate::base::files::{open_regular, read_optional};
use crate::base::log::Log;
use crate::config::{self, Project};
use crate::docker::launch::Limits;
use crate::store::runs::RetryPolicy;

/// What all runs of an agent have in common.
pub fn agent(project: &Project, agent: &config::Agent, image: ImageSource) -> Agent {
    Agent {
        name: agent.name.clone(),
        credentials: agent.run_credentials(),
        timeout: Duration::from_secs(agent.timeout),
        log: Log::new(&log_dir(&project.dir), agent.name.as_str()),
        image,
    }
}

/// What a run may use.
pub fn limits(project: &Project) -> Limits {
    let local = &project.settings.local;
    Limits {
        memory_bytes: local.memory_bytes(),
        tmp_bytes: local.tmp_size_bytes(),
        pids: local.pids_limit,
        cpus: local.cpus,
    }
}

/// How often work is tried again.
pub fn retry_policy(project: &Project) -> RetryPolicy {
    let settings = &project.settings;
    RetryPolicy {
        max_attempts: settings.work_max_attempts,
        delay_seconds: settings.work_retry_delay,
        retry_errors: settings.work_retry_errors,
    }
}

/// What is baked into an agent's image. `others`: the agents that it can call. `tmp_bytes`: size of its `/tmp`.
///
/// # Errors
/// When a file of the agent cannot be read.
pub fn image_content(
    project: &Project,
    agent: &config::Agent,
    others: &[&str],
    tmp_bytes: u64,
) -> Result<ImageContent> {
    let settings = &project.settings;
    let skeleton = Skeleton {
        params: &agent.params,
        credentials: &agent.credentials,
        tmp_size: &binary_size(tmp_bytes),
        timeout_seconds: agent.timeout,
        lock_timeout_seconds: settings.gateway.lock_timeout,
        max_call_depth: settings.max_call_depth,
        other_agents: others,
    };
    Ok(ImageContent {
        agent: agent.name.clone(),
        config_json: serde_json::to_string(&agent.baked()).context("write the agent's configuration")?,
        instructions: agent.instructions.clone().into_bytes(),
        skeleton: skeleton.render(),
        timeout_seconds: agent.timeout,
        script: read_bytes(&agent.dir.join(paths::SCRIPT_NAME))?,
        files: mock_scripts(&agent.dir)?,
        dockerfile: user_dockerfile(&agent.dir, &format!("agents/{}/Dockerfile", agent.name))?,
    })
}

/// `mock.toml` and `mock/*.toml`, by their path below the agent's directory.
fn mock_scripts(dir: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    files.extend(read_bytes(&dir.join("mock.toml"))?.map(|bytes| ("mock.toml".to_owned(), bytes)));
    for entry in std::fs::read_dir(dir.join("mock")).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".toml") {
            files.extend(read_bytes(&entry.path())?.map(|bytes| (format!("mock/{name}"), bytes)));
        }
    }
    files.sort();
    Ok(files)
}

/// A Dockerfile of the user's in this directory; `name` is how errors call it.
///
/// # Errors
/// When it is there and cannot be read.
pub fn user_dockerfile(directory: &Path, name: &str) -> Result<Option<UserDockerfile>> {
    let Some(text) = read_optional(&directory.join("Dockerfile"))? else { return Ok(None) };
    Ok(Some(UserDockerfile { text, name: name.to_owned(), directory: directory.to_owned() }))
}

fn read_bytes(path: &Path) -> Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    match open_regular(path).and_then(|mut file| file.read_to_end(&mut bytes)) {
        Ok(_) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

/// `3 GiB`, `512 MiB`.
fn binary_size(bytes: u64) -> String {
    const GIB: u64 = 1 << 30;
    if bytes >= GIB && bytes.is_multiple_of(GIB) {
        format!("{} GiB", bytes / GIB)
    } else {
        format!("{} MiB", bytes >> 20)
    }
}
