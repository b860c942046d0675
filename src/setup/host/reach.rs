//! Whether a container on this host can reach a listener of ours, as runs have to reach the gateway.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;

use crate::base::files::{ensure_private_dir, in_temporary_dir};
use crate::base::ids::hex32;
use crate::base::{Cancel, worker};
use crate::config::Project;
use crate::docker::Docker;
use crate::docker::launch::GatewayHost;
use crate::docker::network::Network;
use crate::docker::probe::Facts;
use crate::run::assemble;
use crate::run::life::GatewayAddress;
use crate::run::reachability::{self, Place};

/// How long a client may take to send its question.
const PATIENCE: Duration = Duration::from_secs(5);
/// What every question is answered with.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\nConnection: close\r\n\r\n{\"status\":\"ok\"}";

/// Has a throw-away container ask a listener that is opened for it; what is wrong, if anything.
pub(super) fn problem(
    project: &Project,
    docker: &Docker,
    facts: &Facts,
    network: &Network,
    image_id: &str,
) -> Option<String> {
    let settings = &project.settings.gateway;
    let bridge = network.gateway.map(IpAddr::V4);
    let Some(address) = settings.container_bind.or(bridge) else {
        return Some(format!("Docker network {} has no address on this host", network.name));
    };
    let listener = match TcpListener::bind(SocketAddr::new(address, 0)) {
        Ok(listener) => listener,
        Err(error) => return Some(format!("the address {address} for containers cannot be used: {error}")),
    };
    let port = match listener.local_addr() {
        Ok(local) => local.port(),
        Err(error) => return Some(format!("the address {address} for containers cannot be used: {error}")),
    };
    if worker::spawn("doctor-gateway", move || answer_all(&listener)).is_err() {
        return None;
    }
    let host = match settings.container_host.as_deref() {
        Some("host-gateway") => GatewayHost::HostGateway,
        Some(text) => GatewayHost::Address(text.parse().unwrap_or(address)),
        None => GatewayHost::Address(address),
    };
    let place = Place {
        docker,
        facts,
        project: &project.hash,
        network: &network.name,
        limits: assemble::limits(project),
        gateway: GatewayAddress { host, url: format!("http://gateway:{port}") },
    };
    // Nothing is written into the project.
    let markers = in_temporary_dir(|temp| {
        let markers = temp.join(format!("al-doctor-{}", hex32()));
        ensure_private_dir(&markers).map(|()| markers)
    });
    let checked = markers.and_then(|markers| {
        let checked = reachability::check(&place, image_id, &markers, &Cancel::new());
        let _ = std::fs::remove_dir_all(&markers);
        checked
    });
    match checked {
        Ok(true) => None,
        Ok(false) => Some(format!(
            "containers cannot reach {address}, where the gateway listens for them: a firewall of this host may be in the way"
        )),
        Err(error) => Some(format!("whether containers can reach the gateway is not known: {error:#}")),
    }
}

/// Answers until the process ends, which it does soon.
fn answer_all(listener: &TcpListener) {
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { return };
        let _ = stream.set_read_timeout(Some(PATIENCE));
        let mut question = [0; 1024];
        let _ = stream.read(&mut question);
        let _ = stream.write_all(ANSWER);
    }
}
