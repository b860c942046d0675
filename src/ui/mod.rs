//! What people look at. Pure layout where possible; only the consoles write to a stream.

use std::io::{self, Write as _};
use std::sync::Once;

pub mod console;
pub mod dialogs;
pub mod github;
pub mod headless;
pub mod json_events;
pub mod log_view;
pub mod queue;
pub mod queue_view;
pub mod stat_view;
pub mod stats_view;
pub mod summary;
pub mod table;

/// Says once that standard output takes nothing any more, unless its reader is just gone. It does not stop the run, whose
/// result is in the exit status and the log.
fn output_failed(error: &io::Error) {
    static TOLD: Once = Once::new();
    if error.kind() != io::ErrorKind::BrokenPipe {
        TOLD.call_once(|| drop(writeln!(io::stderr(), "Warning: cannot write to standard output: {error}")));
    }
}
