//! Stored credentials. Their types are in `shims::credential_types`, which of them somebody needs is in
//! `config::needs`.

pub mod api_key;
pub mod store;

pub use store::{Status, Store};
