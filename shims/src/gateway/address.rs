//! From the host name of the gateway to addresses.
//!
//! In a container the name `gateway` stands in `/etc/hosts`. That file is read here and not left to the C library:
//! a static program's `getaddrinfo` may need plug-ins that the image does not have, makes a dozen system calls more, and
//! knows no deadline.

use std::fs;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

const HOSTS_FILE: &str = "/etc/hosts";

/// The addresses of a host in the order in which they are to be tried; the error says why there are none.
pub(super) fn resolve(host: &str, port: u16, deadline: Instant) -> Result<Vec<SocketAddr>, String> {
    if let Ok(literal) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(literal, port)]);
    }
    let hosts = fs::read_to_string(HOSTS_FILE).unwrap_or_default();
    let listed: Vec<SocketAddr> = listed(&hosts, host).map(|ip| SocketAddr::new(ip, port)).collect();
    if listed.is_empty() { look_up(host, port, deadline) } else { Ok(listed) }
}

/// Addresses that a hosts file gives to a name.
fn listed<'a>(hosts: &'a str, name: &'a str) -> impl Iterator<Item = IpAddr> + 'a {
    hosts.lines().filter_map(move |line| {
        let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
    })
}

/// Asks the C library. It cannot be interrupted, so it works on a thread that is left to itself when the time is over.
fn look_up(host: &str, port: u16, deadline: Instant) -> Result<Vec<SocketAddr>, String> {
    let (result, answer) = mpsc::sync_channel(1);
    let name = host.to_owned();
    thread::Builder::new()
        .name("resolve".into())
        .spawn(move || {
            let found = (name.as_str(), port).to_socket_addrs().map(Iterator::collect);
            // Nobody listens any more when the time was over.
            let _ = result.send(found);
        })
        .map_err(|error| format!("start a thread to resolve the name: {error}"))?;
    match answer.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the name could not be resolved in time".into()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn reads_hosts_files() {
        let hosts = "127.0.0.1\tlocalhost\n# 1.1.1.1 gateway\n172.18.0.1 other Gateway # gateway2\n\
                     fe80::1%eth0 gateway\nfd00::1 gateway\nnonsense gateway\n\n";
        let of = |name| listed(hosts, name).map(|ip| ip.to_string()).collect::<Vec<_>>();
        assert_eq!(of("gateway"), ["172.18.0.1", "fd00::1"]);
        assert_eq!(of("localhost"), ["127.0.0.1"]);
        assert_eq!(of("gateway2"), [""; 0]);
    }

    #[test]
    fn takes_literals_as_they_are() {
        let soon = Instant::now() + Duration::from_secs(5);
        assert_eq!(resolve("::1", 80, soon), Ok(vec!["[::1]:80".parse().unwrap()]));
        assert_eq!(resolve("10.0.0.1", 81, soon), Ok(vec!["10.0.0.1:81".parse().unwrap()]));
    }

    #[test]
    fn unknown_names_are_an_error_within_the_deadline() {
        let started = Instant::now();
        assert!(resolve("no-such-host.invalid", 80, started + Duration::from_secs(2)).is_err());
        assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    }
}
