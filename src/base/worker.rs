//! Named threads whose panics are reported instead of lost.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{Builder, JoinHandle};

use anyhow::{Context as _, Result};

/// Stack of a worker. Deep recursion happens nowhere; a small stack keeps many connections cheap.
const STACK_BYTES: usize = 512 * 1024;

/// Starts a thread. A panic in it ends that thread alone; [`join`] then gives an error with the panic's text.
///
/// # Errors
/// When the system refuses another thread.
pub fn spawn<T: Send + 'static>(
    name: impl Into<String>,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<Result<T>>> {
    let name = name.into();
    Builder::new()
        .name(name.clone())
        .stack_size(STACK_BYTES)
        .spawn(move || guarded(body))
        .with_context(|| format!("start thread {name}"))
}

/// Runs something and turns a panic into an error.
///
/// # Errors
/// The panic's message, prefixed `internal error:`.
pub fn guarded<T>(body: impl FnOnce() -> T) -> Result<T> {
    catch_unwind(AssertUnwindSafe(body)).map_err(|payload| anyhow::anyhow!("internal error: {}", panic_text(&*payload)))
}

/// Waits for a thread and gives what it returned.
///
/// # Errors
/// When the thread panicked.
pub fn join<T>(handle: JoinHandle<Result<T>>) -> Result<T> {
    handle.join().unwrap_or_else(|payload| Err(anyhow::anyhow!("internal error: {}", panic_text(&*payload))))
}

fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "panic".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error() {
        let handle = spawn("test", || -> u8 { panic!("boom {}", 1) }).unwrap();
        assert_eq!(join(handle).unwrap_err().to_string(), "internal error: boom 1");
        assert_eq!(join(spawn("test", || 7).unwrap()).unwrap(), 7);
    }
}
