//! The heap of a process with many short threads.
//!
//! glibc gives threads heaps of their own, up to eight per core, and keeps what was freed in each. Under load there are a
//! hundred threads, and what they leave behind is several times what is in use. It also learns to keep large pieces once
//! one was freed, such as the programs that go into an image. Both are decided when a process starts, so the process
//! starts itself once more, which takes less than a millisecond.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// The variables that glibc reads. Heaps: one per core of a small machine. Pieces of 128 KiB and more are given back as
/// soon as they are freed, which is where glibc begins as well.
const VARIABLES: [(&str, &str); 3] =
    [("MALLOC_ARENA_MAX", "2"), ("MALLOC_MMAP_THRESHOLD_", "131072"), ("MALLOC_TRIM_THRESHOLD_", "131072")];

/// Starts this program once more with a small heap, unless somebody has said something about it. When that fails, all
/// goes on as it is.
pub(super) fn limit() {
    let is_said = VARIABLES.iter().any(|(name, _)| std::env::var_os(name).is_some());
    if cfg!(not(target_env = "gnu")) || is_said {
        return;
    }
    let mut words = std::env::args_os();
    let (Ok(program), Some(name)) = (std::env::current_exe(), words.next()) else { return };
    let _failed = Command::new(program).arg0(name).args(words).envs(VARIABLES).exec();
}
