//! What a scheduler costs that has nothing to do.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::daemon::{Daemon, Project};
use crate::figure::{Limit, mb, ms, print};
use crate::reference::{file_bytes, image_id, real_docker};

const MINUTE: Duration = Duration::from_secs(60);
/// What the start has begun is over then.
const SETTLE: Duration = Duration::from_secs(10);

pub(crate) fn measure(al: &Path, dir: &Path) -> Result<()> {
    let project = Project::new(al, dir)?;
    agents(&project, 10)?;
    let (mut daemon, _) = project.start()?;
    daemon.ready()?;
    let cpu = idle_cpu(&daemon)?;
    let memory = daemon.memory()?;
    let reference = format!("the program's file {}", mb(file_bytes(al)?));
    print("idle memory (PSS), 10 agents", &mb(memory), &reference, &Limit::bytes(memory, 6_000_000));
    print("idle CPU in 60 s, 10 agents", &ms(cpu), "-", &Limit::time(cpu, Duration::from_millis(20)));
    daemon.stop()
}

pub(crate) fn measure_many(al: &Path, dir: &Path) -> Result<()> {
    let project = Project::new(al, dir)?;
    agents(&project, 1000)?;
    pretend_to_build(&project)?;
    let (mut daemon, _) = project.start()?;
    daemon.ready()?;
    let cpu = idle_cpu(&daemon)?;
    let memory = daemon.memory()?;
    let reference = format!("CPU in 60 s {}", ms(cpu));
    print("idle memory (PSS), 1000 agents", &mb(memory), &reference, &Limit::bytes(memory, 20_000_000));
    daemon.stop()
}

/// So many agents that nothing starts.
pub(super) fn agents(project: &Project, count: usize) -> Result<()> {
    (0..count).try_for_each(|number| project.agent(&format!("bench-{number}"), "push", "exit 0"))
}

fn idle_cpu(daemon: &Daemon) -> Result<Duration> {
    thread::sleep(SETTLE);
    let before = daemon.cpu()?;
    thread::sleep(MINUTE);
    Ok(daemon.cpu()? - before)
}

/// A thousand images take very long to build, and nothing of this part runs from them: every build gives the same one.
pub(super) fn pretend_to_build(project: &Project) -> Result<()> {
    let path = project.dir.join("bin/docker");
    let script = format!(
        "#!/bin/sh\ncase $1 in\n\
         build) cat >/dev/null; while [ $# -gt 0 ]; do [ \"$1\" = --iidfile ] && echo {} >\"$2\"; shift; done; exit 0;;\n\
         tag) exit 0;;\n\
         create) exit 1;;\nesac\nexec {} \"$@\"\n",
        image_id("debian:bookworm-slim")?,
        real_docker()?.display()
    );
    fs::create_dir_all(path.parent().context("it is in a directory")?)?;
    fs::write(&path, script)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}
