//! Named places at which tests have the process die as by `kill -9`, or the thread panic: what is promised about crashes has
//! to hold at each.

use rustix::process::{Signal, getpid, kill_process};

/// Names the place, one of those that [`point`] is called with.
const DEATH: &str = "AL_TEST_CRASH_AT";
/// The same for a panic.
const PANIC: &str = "AL_TEST_PANIC_AT";

/// Ends the process without any clean-up, or panics, when this is the place that the environment names. Only builds for
/// testing look.
///
/// # Panics
/// When it is to.
pub fn point(name: &str) {
    let is_wished = |variable| std::env::var_os(variable).is_some_and(|wished| wished == name);
    if cfg!(debug_assertions) && is_wished(PANIC) {
        panic!("at {name}");
    }
    if cfg!(debug_assertions) && is_wished(DEATH) {
        let _ = kill_process(getpid(), Signal::KILL);
        // The signal may take a moment, in which nothing must happen any more.
        loop {
            std::thread::park();
        }
    }
}
