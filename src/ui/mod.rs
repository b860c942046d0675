//! What people look at. Pure layout where possible; only the consoles write to a stream.

pub mod console;
pub mod dialogs;
pub mod github;
pub mod headless;
pub mod json_events;
pub mod log_view;
pub mod queue;
pub mod queue_view;
pub mod stat_view;
pub mod summary;
