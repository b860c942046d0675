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
pub mod memory;
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
///
/// Without the question about itself when the daemon is remembered.
pub fn look_around(docker: &Docker, images: &[String], network: &str, memory: Option<&memory::Memory>) -> Surroundings {
    thread::scope(|scope| {
        let found = scope.spawn(|| image::inspect(docker, images));
        let net = scope.spawn(|| network::inspect(docker, network));
        let probe = match memory.and_then(memory::Memory::recall) {
            Some(probe) => Ok(probe),
            None => probe::probe(docker).inspect(|probe| {
                if let Some(memory) = memory {
                    memory.keep(probe);
                }
            }),
        };
        let panicked = "nothing in an inspection panics";
        let (images, network) = (found.join().expect(panicked), net.join().expect(panicked));
        // A daemon that was remembered and is not there any more: the answer to this question says what to do.
        let is_gone = |error: &anyhow::Error| failure(error) == Failure::DaemonDown;
        let probe = if images.as_ref().is_err_and(is_gone) { probe::probe(docker) } else { probe };
        Surroundings { probe, images, network }
    })
}
