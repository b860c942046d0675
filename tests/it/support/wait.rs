//! Waiting for something to happen, with a deadline: the alternative to sleeping for luck.

use std::fmt::{Debug, Display};
use std::thread;
use std::time::{Duration, Instant};

/// How often it is looked.
const PAUSE: Duration = Duration::from_millis(10);
/// How long [`until`] waits: long enough for a machine with much else to do.
const LIMIT: Duration = Duration::from_secs(30);

/// Looks again until `observe` gives what `wanted` accepts. After half a minute it fails with the last observation.
#[track_caller]
pub(crate) fn until<T: Debug>(what: &str, mut observe: impl FnMut() -> T, wanted: impl Fn(&T) -> bool) -> T {
    within(LIMIT, what, || {
        let seen = observe();
        if wanted(&seen) { Ok(seen) } else { Err(format!("{seen:?}")) }
    })
}

/// Looks until it is `Ok`; fails after the limit with what was seen last (the `Err`).
#[track_caller]
pub(crate) fn within<T, E: Display>(limit: Duration, what: &str, mut look: impl FnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if Instant::now() >= deadline => panic!("{what}: not within {limit:?}; seen last: {seen}"),
            Err(_) => thread::sleep(PAUSE),
        }
    }
}
