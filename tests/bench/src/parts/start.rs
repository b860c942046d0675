//! How long a start takes until it serves, with ten agents whose images are there.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::daemon::Project;
use crate::figure::{Limit, median, ms, print};
use crate::reference::docker_info;

const STARTS: usize = 15;

pub(crate) fn measure(al: &Path, dir: &Path) -> Result<()> {
    let project = Project::new(al, dir)?;
    for number in 0..10 {
        project.agent(&format!("bench-{number}"), "push", "exit 0")?;
    }
    let (mut daemon, _) = project.start()?;
    daemon.ready()?;
    daemon.stop()?;
    let (mut starts, mut infos) = (Vec::new(), Vec::new());
    // Alternately, so that both see the same machine.
    for _ in 0..STARTS {
        infos.push(docker_info()?);
        let (mut daemon, took) = project.start()?;
        starts.push(took);
        daemon.ready()?;
        daemon.stop()?;
    }
    let (start, info) = (median(&starts), median(&infos));
    let beyond = start.saturating_sub(info);
    let reference = format!("docker info {}, start in all {}", ms(info), ms(start));
    print(
        "start to /health beyond docker info",
        &ms(beyond),
        &reference,
        &Limit::time(beyond, Duration::from_millis(40)),
    );
    Ok(())
}
