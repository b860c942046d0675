//! The heap of a process with many short threads.
//!
//! glibc gives threads heaps of their own and keeps what was freed in each, and in a store of each thread besides. Under
//! load there are a hundred threads, and what they leave behind is several times what is in use. It also learns to keep
//! large pieces once one was freed, such as the programs that go into an image. All of that is decided when a process
//! starts, so the process starts itself once more, which takes less than a millisecond.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// The variable that glibc reads.
const VARIABLE: &str = "GLIBC_TUNABLES";
/// One heap, with a store of each thread for a few small pieces only: nine of ten are small, and without it threads
/// wait for each other at most of them. Pieces of 72 KiB and more, such as large bodies, are given back as soon as they
/// are freed; not those of 64 KiB, one of which SQLite takes and frees for every change.
const SMALL: &str = "glibc.malloc.arena_max=1:glibc.malloc.tcache_count=8:glibc.malloc.tcache_max=128:\
                     glibc.malloc.mmap_threshold=73728:glibc.malloc.trim_threshold=196608:glibc.malloc.top_pad=16384";

/// Starts this program once more with a small heap, unless somebody has said something about it. When that fails, all
/// goes on as it is.
pub(super) fn limit() {
    if cfg!(not(target_env = "gnu")) || std::env::var_os(VARIABLE).is_some() {
        return;
    }
    let mut words = std::env::args_os();
    let (Ok(program), Some(name)) = (std::env::current_exe(), words.next()) else { return };
    let _failed = Command::new(program).arg0(name).args(words).env(VARIABLE, SMALL).exec();
}
