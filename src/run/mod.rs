//! What a run is: images, staging, prompt, life, outcome.

pub mod kill;
pub mod observer;
pub mod outcome;
pub mod prompt;
pub mod staging;
pub mod stream;
