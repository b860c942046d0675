//! The gateway of a one-shot run: the container face alone, on a free port of the bridge.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::base::files::ensure_private_dir;
use crate::base::ids;
use crate::base::log::Log;
use crate::base::subnet::Subnet;
use crate::config::Project;
use crate::docker::launch::GatewayHost;
use crate::docker::network::Network;
use crate::gateway::{ContainerListener, Gateway, Parts, bind, is_not_of_this_host};
use crate::run::leftovers::{Marker, marker_dir};
use crate::run::life::log_dir;
use crate::run::staging;
use crate::scheduler::handle::Handle;
use crate::store::Store;

/// The open face and how containers reach it.
pub(super) struct EphemeralGateway {
    gateway: Gateway,
    address: SocketAddr,
    host: GatewayHost,
    _socket_dir: SocketDir,
}

impl EphemeralGateway {
    /// Opens the face on the bridge; where the bridge is not on this host (an engine in a virtual machine), on loopback.
    ///
    /// # Errors
    /// When neither address can be used.
    pub(super) fn open(
        project: &Project,
        network: &Network,
        private_root: &Path,
        store: &Arc<Store>,
        handle: &Handle,
    ) -> Result<Self> {
        let settings = &project.settings.gateway;
        let socket_dir = SocketDir::create(private_root, project)?;
        // A fixed port, so that a firewall can let it through; another one when that is taken.
        let on_some_port = |address| match settings.container_port {
            Some(port) => bind((address, port).into()).or_else(|_| bind((address, 0).into())),
            None => bind((address, 0).into()),
        };
        let bridge = network.gateway.context("network al-net has no IPv4 gateway address")?;
        let address = settings.container_bind.unwrap_or(IpAddr::V4(bridge));
        let (listener, peers, host) = match on_some_port(address) {
            Ok(listener) => (listener, network.subnet.unwrap_or(Subnet::LOOPBACK), configured_host(project, address)),
            Err(error) if settings.container_bind.is_none() && is_not_of_this_host(&error) => {
                let listener = on_some_port(IpAddr::V4(Ipv4Addr::LOCALHOST))?;
                (listener, Subnet::LOOPBACK, GatewayHost::HostGateway)
            }
            Err(error) => return Err(error),
        };
        let gateway = Gateway::start(Parts {
            store: Arc::clone(store),
            handle: handle.clone(),
            log: Arc::new(Log::new(&log_dir(&project.dir), "gateway")),
            socket_dir: socket_dir.path.clone(),
            lock_timeout: Duration::from_secs(settings.lock_timeout),
        })?;
        let address = gateway.start_container_face(ContainerListener { listener, peers })?;
        Ok(Self { gateway, address, host, _socket_dir: socket_dir })
    }

    /// Where the name `gateway` leads in containers.
    pub(super) fn host(&self) -> GatewayHost {
        self.host
    }

    /// Base URL in containers.
    pub(super) fn url(&self) -> String {
        format!("http://gateway:{}", self.address.port())
    }

    /// Stops serving.
    pub(super) fn stop(self) {
        self.gateway.stop();
    }
}

fn configured_host(project: &Project, bind: IpAddr) -> GatewayHost {
    match project.settings.gateway.container_host.as_deref().map(str::parse) {
        None => GatewayHost::Address(bind),
        Some(Ok(address)) => GatewayHost::Address(address),
        // The only other value that the configuration allows.
        Some(Err(_)) => GatewayHost::HostGateway,
    }
}

/// Private directory of the socket behind the front; removed when dropped.
struct SocketDir {
    path: PathBuf,
    /// Lets the next run find the directory when this process is killed.
    marker: Option<Marker>,
}

impl SocketDir {
    fn create(private_root: &Path, project: &Project) -> Result<Self> {
        let name = format!("gateway-{}", ids::hex8());
        let marker = Some(Marker::put(&marker_dir(&project.dir), &name)?);
        let path = private_root.join(staging::dir_name(&project.hash, &name));
        ensure_private_dir(&path)?;
        Ok(Self { path, marker })
    }
}

impl Drop for SocketDir {
    fn drop(&mut self) {
        let removed = std::fs::remove_dir_all(&self.path);
        if let Some(marker) = self.marker.take().filter(|_| removed.is_ok()) {
            let _ = marker.take_away();
        }
    }
}
