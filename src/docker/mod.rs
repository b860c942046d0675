//! The only place that knows the `docker` program.
//!
//! Everything here is either a pure function (text in, arguments or findings out) or one start of the client with a
//! limit on its time. What is needed before a run is asked for in as few starts as possible and side by side:
//! [`look_around`].

pub mod attach;
pub mod cli;
pub mod context;
pub mod dockerfile;
pub mod image;
pub mod inspect;
pub mod jumps;
pub mod launch;
pub mod memory;
pub mod network;
pub mod probe;
pub mod user_files;

use std::thread;

use memory::{Known, Memory};

pub use cli::{Docker, DockerError, Failure, failure};

/// What was found before anything is built or started.
#[derive(Debug)]
pub struct Surroundings {
    pub probe: Result<probe::Probe, probe::Unusable>,
    pub images: anyhow::Result<image::Images>,
    /// `None` when there is no network of that name.
    pub network: anyhow::Result<Option<network::Network>>,
}

/// Asks the daemon about itself, the named images and the network, all at once: the start of a client takes 20–50 ms,
/// and three side by side take hardly longer than one. What is remembered for certain is not asked.
pub fn look_around(docker: &Docker, images: &[String], network: &str, memory: Option<&Memory>) -> Surroundings {
    let known = memory.map(|memory| memory.recall(network)).unwrap_or_default();
    let found = thread::scope(|scope| {
        let net = known.network.is_none().then(|| scope.spawn(|| network::inspect(docker, network)));
        let probe = known.probe.is_none().then(|| scope.spawn(|| probe::probe(docker)));
        let images = image::inspect(docker, images);
        let panicked = "nothing in an inspection panics";
        let network = net.map_or(Ok(known.network.clone()), |net| net.join().expect(panicked));
        let probe = match (&known.probe, probe) {
            (_, Some(probe)) => probe.join().expect(panicked),
            (Some(probe), None) => Ok(probe.clone()),
            (None, None) => probe::probe(docker),
        };
        Surroundings { probe, images, network }
    });
    // What is remembered cannot be true any more: the answer to the question about itself says what to do.
    if known.probe.is_some() && found.images.is_err() {
        return Surroundings { probe: probe::probe(docker), ..found };
    }
    if let (Some(memory), Ok(probe), Ok(network)) = (memory, &found.probe, &found.network) {
        let now = Known { probe: Some(probe.clone()), network: network.clone() };
        if now != known {
            memory.keep(now);
        }
    }
    found
}
