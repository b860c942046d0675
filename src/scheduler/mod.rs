//! Every decision about what runs when. Others send events through a [`handle::Handle`] and read snapshots.

pub mod handle;
