//! Every decision about what runs when. Others send events through a [`handle::Handle`] and read snapshots.

pub mod core;
pub mod handle;
pub mod lock;
pub mod once;
