//! What a run is: images, staging, prompt, life, outcome.

pub mod assemble;
pub mod daemon;
pub mod fingerprint;
pub mod image_maker;
pub mod images;
pub mod kill;
pub mod leftovers;
pub mod life;
pub mod network;
pub mod observer;
pub mod outcome;
pub mod private_dir;
pub mod prompt;
pub mod reachability;
pub mod staging;
pub mod stream;
