//! Every decision about what runs when. Others send events through a [`handle::Handle`] and read snapshots.
//!
//! [`core`] decides, as a pure state machine. Around it there are two shells that carry out what it says: [`shell`] for
//! `al start`, [`once`] for `al run`.

mod allocation;
mod builds;
mod claim;
pub mod core;
pub mod handle;
pub mod lock;
pub mod once;
pub mod outlet;
pub mod recover;
mod runs;
pub mod shell;
mod status;
