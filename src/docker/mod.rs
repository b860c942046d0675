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
pub mod launch;
pub mod network;
pub mod probe;
pub mod user_files;

use std::thread;

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
/// and three side by side take hardly longer than one.
pub fn look_around(docker: &Docker, images: &[String], network: &str) -> Surroundings {
    thread::scope(|scope| {
        let found = scope.spawn(|| image::inspect(docker, images));
        let net = scope.spawn(|| network::inspect(docker, network));
        let probe = probe::probe(docker);
        let panicked = "nothing in an inspection panics";
        Surroundings { probe, images: found.join().expect(panicked), network: net.join().expect(panicked) }
    })
}
