//! Named places at which tests have the process die as by `kill -9`: what is promised about crashes has to hold at each.

use rustix::process::{Signal, getpid, kill_process};

/// Names the place, one of those that [`point`] is called with.
const VARIABLE: &str = "AL_TEST_CRASH_AT";

/// Ends the process without any clean-up when this is the place that the environment names. Only builds for testing look.
pub fn point(name: &str) {
    if cfg!(debug_assertions) && std::env::var_os(VARIABLE).is_some_and(|wished| wished == name) {
        let _ = kill_process(getpid(), Signal::KILL);
        // The signal may take a moment, in which nothing must happen any more.
        loop {
            std::thread::park();
        }
    }
}
