//! Whether containers can reach the gateway: asked once by a throw-away container, because a firewall of the host is the
//! one thing that nothing else would tell of (containers.md §5.3).

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use crossbeam_channel::{at, select};

use super::leftovers::Marker;
use super::life::{GatewayAddress, Host};
use crate::base::Cancel;
use crate::docker::launch::{self, LaunchSpec, Lifetime, Limits, Program};
use crate::docker::probe::Facts;
use crate::docker::{Docker, attach, inspect};
use crate::model::names::{AgentName, InstanceId, ProjectHash};

/// How long the container may take to ask.
const LIMIT: Duration = Duration::from_secs(5);
/// Name in the place of an agent's.
const NAME: &str = "gateway-check";

/// What the container is made with.
pub struct Place<'a> {
    pub docker: &'a Docker,
    pub facts: &'a Facts,
    pub project: &'a ProjectHash,
    /// Name of the network.
    pub network: &'a str,
    pub limits: Limits,
    /// Who is asked.
    pub gateway: GatewayAddress,
}

impl<'a> Place<'a> {
    /// Where the runs of this process are.
    pub fn of(host: &'a Host) -> Self {
        Self {
            docker: &host.docker,
            facts: &host.facts,
            project: &host.project,
            network: host.network.name(),
            limits: host.limits,
            gateway: host.gateway(),
        }
    }
}

/// Has a container from this image ask the gateway whether it is well; gives whether it got an answer. The container has
/// nothing of a run but its hardening, and is gone afterwards; with the token it is gone at once.
///
/// # Errors
/// When the container cannot be made or asked for, which says nothing about the gateway.
pub fn check(host: &Place<'_>, image_id: &str, marker_dir: &Path, cancel: &Cancel) -> Result<bool> {
    let name = AgentName::parse(NAME).map_err(anyhow::Error::msg)?;
    let instance = InstanceId::generate(&name);
    let container = instance.container_name();
    let marker = Marker::put(marker_dir, instance.as_str())?;
    let spec = LaunchSpec {
        project: host.project,
        instance: &instance,
        // Whoever finds it after a crash removes it.
        lifetime: Lifetime::Once,
        network: host.network,
        gateway: Some(host.gateway.host),
        gateway_url: Some(&host.gateway.url),
        limits: host.limits,
        stage: None,
        trace_parent: None,
        otlp_endpoint: None,
        program: Program::HealthCheck,
        image_id,
    };
    launch::create(host.docker, &spec, host.facts)?;
    let answered = ask(host, &container, cancel);
    inspect::remove(host.docker, &container).context("remove the container that asked the gateway")?;
    marker.take_away()?;
    answered
}

fn ask(host: &Place<'_>, container: &str, cancel: &Cancel) -> Result<bool> {
    let output = attach::start(host.docker, container)?;
    let timer = at(Instant::now() + LIMIT);
    loop {
        select! {
            recv(output.batches()) -> batch => if batch.is_err() { break },
            recv(timer) -> _ => return Ok(false),
            recv(cancel.done()) -> _ => bail!("interrupted"),
        }
    }
    output.finish();
    let state = inspect::state(host.docker, container)?.context("the container that asked the gateway is gone")?;
    Ok(state.exit_code == 0)
}
