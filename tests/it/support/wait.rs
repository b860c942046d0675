//! Waiting for something to happen, with a deadline: the alternative to sleeping for luck.

use std::fmt::Display;
use std::thread;
use std::time::{Duration, Instant};

/// How often it is looked.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks until it is `Ok`; fails after the limit with what was seen last (the `Err`).
#[track_caller]
pub(crate) fn until<T, E: Display>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if Instant::now() >= deadline => panic!("{what}: not within {limit:?}; seen last: {seen}"),
            Err(_) => thread::sleep(PAUSE),
        }
    }
}
