//! The two listeners of `al start`: where they are bound, how containers find theirs, and what happens when the network
//! of the containers gets another address (gateway.md §2, containers.md §5.3).

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use anyhow::{Context as _, Result, bail};

use super::Plan;
use crate::base::files::ensure_private_dir;
use crate::base::ids;
use crate::base::log::{Entry, Level, Log};
use crate::base::subnet::{AddressRange, Subnet};
use crate::config::Project;
use crate::config::webhook::Exposure;
use crate::docker::launch::GatewayHost;
use crate::docker::network::{self, AL_NET, Network};
use crate::gateway::{ContainerListener, Containers, Gateway, Parts, PublicListener, PublicSettings, bind};
use crate::run::life::{GatewayAddress, Host, log_dir};
use crate::run::staging;

/// Listeners that are bound and not served yet: clients can connect, and wait.
pub(super) struct Bound {
    public: TcpListener,
    /// `None`: containers use the public one.
    containers: Option<ContainerListener>,
    pub(super) address: GatewayAddress,
    port: u16,
}

impl Bound {
    /// Binds both.
    ///
    /// # Errors
    /// Address, port and cause of the one that cannot be bound.
    pub(super) fn bind(plan: &Plan, network: &Network) -> Result<Self> {
        let project = &plan.loaded.project;
        let is_exposed = plan.exposure == Exposure::Exposed;
        let open = if is_exposed { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
        let public = listen(SocketAddr::new(open.into(), project.settings.gateway.port), "gateway.port or --port")?;
        let port = public.local_addr().context("find the port of the gateway")?.port();
        let given_url = plan.environment.get_non_empty("GATEWAY_URL").map(str::to_owned);
        let (containers, host, container_port) = bind_containers(project, network, port, is_exposed)?;
        let url = given_url.unwrap_or_else(|| format!("http://gateway:{container_port}"));
        Ok(Self { public, containers, address: GatewayAddress { host, url }, port })
    }

    /// Port of the public listener.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Serves both.
    ///
    /// # Errors
    /// When the system refuses sockets or threads.
    pub(super) fn serve(self, plan: &Plan, host: &Arc<Host>, network: &Network, serving: Serving) -> Result<Listeners> {
        let project = &plan.loaded.project;
        let Serving { handle, private_root, api_key } = serving;
        let socket_dir = SocketDir::create(&private_root, project)?;
        let log = Arc::new(Log::new(&log_dir(&project.dir), "gateway"));
        let settings = &project.settings.gateway;
        let gateway = Gateway::start(Parts {
            store: Arc::clone(&host.store),
            handle,
            log: Arc::clone(&log),
            socket_dir: socket_dir.0.clone(),
            lock_timeout: std::time::Duration::from_secs(settings.lock_timeout),
        })?;
        let own_face = self.containers.is_some();
        if let Some(containers) = self.containers {
            gateway.start_container_face(containers)?;
        }
        gateway.start_public_face(PublicListener {
            listener: self.public,
            containers: if own_face { Containers::OwnFace } else { Containers::Loopback },
            settings: PublicSettings {
                credentials: plan.credentials.clone(),
                api_key,
                log_dir: log_dir(&project.dir),
                scheduler_log: Arc::clone(&plan.log),
                // All of them were checked with the configuration.
                trusted_proxies: settings.trusted_proxies.iter().filter_map(|text| AddressRange::parse(text)).collect(),
                webhook_rate_limit: settings.webhook_rate_limit as usize,
            },
        })?;
        Ok(Listeners {
            gateway: Some(gateway),
            port: self.port,
            host: Arc::clone(host),
            bridge: network.gateway.filter(|_| own_face && settings.container_bind.is_none()),
            log: Arc::clone(&plan.log),
            _socket_dir: socket_dir,
        })
    }
}

/// What serving needs besides.
pub(super) struct Serving {
    pub(super) handle: crate::scheduler::handle::Handle,
    pub(super) private_root: PathBuf,
    pub(super) api_key: crate::base::Secret,
}

fn listen(address: SocketAddr, setting: &str) -> Result<TcpListener> {
    bind(address).map_err(|error| match io_kind(&error) {
        Some(ErrorKind::AddrInUse) => anyhow::anyhow!(
            "port {} on {} is in use\n  stop what uses it, or choose another one: {setting}",
            address.port(),
            address.ip()
        ),
        _ => error,
    })
}

fn io_kind(error: &anyhow::Error) -> Option<ErrorKind> {
    error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind)
}

fn bind_containers(
    project: &Project,
    network: &Network,
    public_port: u16,
    is_exposed: bool,
) -> Result<(Option<ContainerListener>, GatewayHost, u16)> {
    let settings = &project.settings.gateway;
    let Some(bridge) = network.gateway else { bail!("network {} has no IPv4 gateway address", network.name) };
    let port = match settings.container_port {
        Some(port) => port,
        // A wildcard and a specific listener on one port collide.
        None if is_exposed => {
            public_port.checked_add(1).context("no port is left for containers: choose gateway.port")?
        }
        None => public_port,
    };
    let address = settings.container_bind.unwrap_or(IpAddr::V4(bridge));
    let listener = match bind(SocketAddr::new(address, port)) {
        Ok(listener) => listener,
        Err(error) if io_kind(&error) == Some(ErrorKind::AddrNotAvailable) && settings.container_bind.is_none() => {
            // The engine is in a virtual machine: its bridge is not on this host.
            return Ok((None, GatewayHost::HostGateway, public_port));
        }
        Err(error) if io_kind(&error) == Some(ErrorKind::AddrInUse) => bail!(
            "port {port} on {address} is in use; containers are served there\n  stop what uses it, or choose another \
             one: gateway.containerPort"
        ),
        Err(error) => return Err(error),
    };
    let host = match settings.container_host.as_deref().map(str::parse) {
        None => GatewayHost::Address(address),
        Some(Ok(address)) => GatewayHost::Address(address),
        // The only other value that the configuration allows.
        Some(Err(_)) => GatewayHost::HostGateway,
    };
    let peers = network.subnet.unwrap_or(Subnet::LOOPBACK);
    let port = listener.local_addr().map_or(port, |address| address.port());
    Ok((Some(ContainerListener { listener, peers }), host, port))
}

/// Both listeners, being served.
pub(super) struct Listeners {
    gateway: Option<Gateway>,
    port: u16,
    host: Arc<Host>,
    /// The bridge's address that the container listener is bound to; `None`: it does not depend on the bridge.
    bridge: Option<Ipv4Addr>,
    log: Arc<Log>,
    _socket_dir: SocketDir,
}

impl Listeners {
    /// Port of the public listener.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Stops serving; a second time nothing happens.
    pub(super) fn close(&mut self) {
        if let Some(gateway) = self.gateway.take() {
            gateway.stop();
        }
    }

    /// Moves the container listener when the network was made again with another address.
    pub(super) fn follow_network(&mut self) {
        let (Some(before), Some(gateway)) = (self.bridge, &self.gateway) else { return };
        let network = match network::inspect(&self.host.docker, AL_NET) {
            Ok(Some(network)) => network,
            // It is made again with the next run.
            Ok(None) | Err(_) => return,
        };
        let Some(now) = network.gateway.filter(|now| *now != before) else { return };
        let address = SocketAddr::new(now.into(), self.port_of_containers());
        let moved = bind(address).and_then(|listener| {
            gateway
                .start_container_face(ContainerListener { listener, peers: network.subnet.unwrap_or(Subnet::LOOPBACK) })
        });
        match moved {
            Ok(address) => {
                self.bridge = Some(now);
                let mut gateway = self.host.gateway.write().unwrap_or_else(PoisonError::into_inner);
                gateway.host = GatewayHost::Address(now.into());
                let entry = Entry::new(Level::Info, "container listener moved");
                self.log.write(&entry.field("address", address.to_string()));
            }
            Err(error) => {
                let entry = Entry::new(Level::Error, "container listener could not move: runs go on without gateway");
                self.log.write(&entry.field("address", address.to_string()).field("err", format!("{error:#}")));
            }
        }
    }

    fn port_of_containers(&self) -> u16 {
        let url = self.host.gateway().url;
        url.rsplit(':').next().and_then(|port| port.trim_end_matches('/').parse().ok()).unwrap_or(self.port)
    }
}

/// Private directory of the sockets behind the fronts; removed when dropped, or by the next start.
struct SocketDir(PathBuf);

impl SocketDir {
    fn create(private_root: &Path, project: &Project) -> Result<Self> {
        let path = private_root.join(staging::dir_name(&project.hash, &format!("gateway-{}", ids::hex8())));
        ensure_private_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for SocketDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
