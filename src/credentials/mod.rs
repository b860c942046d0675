//! Stored credentials. Their types are in `shims::credential_types`, which of them somebody needs is in
//! `config::needs`.

pub mod api_key;
pub mod flow;
pub mod format;
pub mod pi;
pub mod private_key;
pub mod store;
pub mod verify;

pub use store::{Status, Store};
