//! Waiting for something to become true.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// Looks again until `observe` gives what `wanted` accepts. After ten seconds it fails with the last observation.
#[track_caller]
pub(crate) fn until<T: Debug>(what: &str, mut observe: impl FnMut() -> T, wanted: impl Fn(&T) -> bool) -> T {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let seen = observe();
        if wanted(&seen) {
            return seen;
        }
        assert!(Instant::now() < end, "{what}: still {seen:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
