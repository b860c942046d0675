//! The heap of a process with many short threads.
//!
//! glibc gives threads heaps of their own, up to eight per core, and keeps what was freed in each. Under load there are a
//! hundred threads, and what they leave behind is several times what is in use. The number of heaps is fixed when a
//! process starts, so the process starts itself once more.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// The variable that glibc reads, and the number of heaps: one per core of a small machine.
const VARIABLE: &str = "MALLOC_ARENA_MAX";
const HEAPS: &str = "2";

/// Starts this program once more with few heaps, unless somebody has said how many. When that fails, all goes on as it is.
pub(super) fn limit() {
    if cfg!(not(target_env = "gnu")) || std::env::var_os(VARIABLE).is_some() {
        return;
    }
    let mut words = std::env::args_os();
    let (Ok(program), Some(name)) = (std::env::current_exe(), words.next()) else { return };
    let _failed = Command::new(program).arg0(name).args(words).env(VARIABLE, HEAPS).exec();
}
