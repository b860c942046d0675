//! The bridge network that runs share, and its address on this host.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::cli::{Docker, Failure};
use crate::base::subnet::Subnet;

/// Name of the network of all projects on a host.
pub const AL_NET: &str = "al-net";
/// One directory per network interface of this host.
const INTERFACES: &str = "/sys/class/net";
const NO_ICC: &str = "com.docker.network.bridge.enable_icc";

/// A network as the daemon describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    pub name: String,
    /// Differs for every network that is made, also under the same name.
    pub id: String,
    /// Address of the bridge on this host.
    pub gateway: Option<Ipv4Addr>,
    pub subnet: Option<Subnet>,
    /// Whether containers on it can reach each other.
    pub isolation: Isolation,
}

/// Whether containers on a network can reach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Isolation {
    Separated,
    /// Made by version 0.13.2 or by hand.
    Open,
}

impl Network {
    /// Whether this very network is certainly there: its bridge is named after its id. `false` proves nothing.
    pub fn has_bridge(&self) -> bool {
        self.id.len() >= 12 && Path::new(INTERFACES).join(format!("br-{}", &self.id[..12])).exists()
    }

    /// What people should know about it.
    pub fn warning(&self) -> Option<String> {
        let name = &self.name;
        (self.isolation == Isolation::Open).then(|| {
            format!(
                "agents can connect to each other: Docker network {name} was made without isolation; recreate it while \
                 nothing runs: docker network rm {name}"
            )
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawNetwork {
    name: String,
    #[serde(default)]
    id: String,
    #[serde(rename = "IPAM")]
    ipam: RawIpam,
    options: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct RawIpam {
    #[serde(rename = "Config")]
    config: Option<Vec<RawRange>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawRange {
    subnet: String,
    gateway: String,
}

fn parse(json: &str) -> Result<Network> {
    let raw: RawNetwork = serde_json::from_str(json).context("read what docker network inspect gave")?;
    let ranges = raw.ipam.config.unwrap_or_default();
    let found = ranges.iter().find_map(|range| Some((Subnet::parse(&range.subnet)?, range)));
    let gateway = found.map(|(subnet, range)| {
        let address = range.gateway.split('/').next().unwrap_or_default();
        address.parse().unwrap_or_else(|_| subnet.first_host())
    });
    let icc = raw.options.unwrap_or_default().remove(NO_ICC);
    let isolation = if icc.as_deref() == Some("false") { Isolation::Separated } else { Isolation::Open };
    Ok(Network { name: raw.name, id: raw.id, gateway, subnet: found.map(|(subnet, _)| subnet), isolation })
}

/// Looks at a network; `None` when there is none of that name.
///
/// # Errors
/// When the daemon does not answer or answers something else.
pub fn inspect(docker: &Docker, name: &str) -> Result<Option<Network>> {
    let output = docker.call_any_status(["network", "inspect", "--format", "{{json .}}", name])?;
    if !output.status.success() {
        let error = docker.error_of("network inspect", &output);
        let missing = error.failure == Failure::NetworkMissing || error.cause.stderr.contains("No such network");
        return if missing { Ok(None) } else { Err(error.into()) };
    }
    // What was asked for may also be the beginning of another network's id.
    Ok(Some(parse(&output.text())?).filter(|network| network.name == name))
}

/// Makes sure that the network exists.
///
/// # Errors
/// When it cannot be created; where addresses are the reason, the error names the key that chooses them.
pub fn ensure(docker: &Docker, name: &str, subnet: Option<&str>) -> Result<Network> {
    match inspect(docker, name)? {
        Some(network) => Ok(network),
        None => create(docker, name, subnet),
    }
}

/// Creates the network; when somebody else was faster, theirs is taken.
///
/// # Errors
/// As [`ensure`].
pub fn create(docker: &Docker, name: &str, subnet: Option<&str>) -> Result<Network> {
    match docker.call(create_args(name, subnet)) {
        Ok(_) => {}
        Err(error) if error.cause.stderr.contains("already exists") => {}
        Err(error) => {
            let text = &error.cause.stderr;
            if text.contains("non-overlapping") || text.contains("pool") || text.contains("overlap") {
                let hint = "choose free addresses in config.toml: local.subnet = \"10.123.0.0/24\"";
                return Err(error).with_context(|| format!("create Docker network {name}; {hint}"));
            }
            return Err(error).with_context(|| format!("create Docker network {name}"));
        }
    }
    match inspect(docker, name)? {
        Some(network) => Ok(network),
        None => bail!("Docker network {name} vanished after it was created"),
    }
}

fn create_args(name: &str, subnet: Option<&str>) -> Vec<String> {
    let mut args: Vec<String> =
        ["network", "create", "--driver", "bridge", "--opt"].into_iter().map(str::to_owned).collect();
    args.extend([format!("{NO_ICC}=false"), "--label".into(), "al.network=1".into()]);
    if let Some(subnet) = subnet {
        args.extend(["--subnet".into(), subnet.to_owned()]);
    }
    args.push(name.to_owned());
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn case(ranges: &str, options: &str, gateway: Option<&str>, subnet: Option<&str>, isolation: Isolation) {
        let json =
            format!(r#"{{"Name":"al-net","IPAM":{{"Driver":"default","Config":{ranges}}},"Options":{options}}}"#);
        let network = parse(&json).unwrap();
        assert_eq!(network.gateway.map(|address| address.to_string()).as_deref(), gateway);
        assert_eq!(network.subnet.map(|subnet| subnet.to_string()).as_deref(), subnet);
        assert_eq!(network.isolation, isolation);
    }

    #[test]
    fn descriptions_of_networks() {
        let separated = r#"{"com.docker.network.bridge.enable_icc":"false"}"#;
        let plain = r#"[{"Subnet":"172.18.0.0/16","Gateway":"172.18.0.1"}]"#;
        case(plain, separated, Some("172.18.0.1"), Some("172.18.0.0/16"), Isolation::Separated);
        case(plain, "{}", Some("172.18.0.1"), Some("172.18.0.0/16"), Isolation::Open);
        case(plain, "null", Some("172.18.0.1"), Some("172.18.0.0/16"), Isolation::Open);
        let both = r#"[{"Subnet":"fd00::/64","Gateway":"fd00::1"},{"Subnet":"10.9.0.0/24"}]"#;
        case(both, separated, Some("10.9.0.1"), Some("10.9.0.0/24"), Isolation::Separated);
        case("null", separated, None, None, Isolation::Separated);
    }

    #[test]
    fn an_open_network_comes_with_the_way_out() {
        let network = Network {
            name: "al-net".into(),
            id: String::new(),
            gateway: None,
            subnet: None,
            isolation: Isolation::Open,
        };
        assert!(network.warning().unwrap().contains("docker network rm al-net"));
        assert_eq!(Network { isolation: Isolation::Separated, ..network }.warning(), None);
    }

    #[test]
    fn created_without_traffic_between_containers() {
        assert_eq!(
            create_args("al-net", Some("10.1.0.0/24")).join(" "),
            "network create --driver bridge --opt com.docker.network.bridge.enable_icc=false --label al.network=1 \
             --subnet 10.1.0.0/24 al-net"
        );
    }
}
