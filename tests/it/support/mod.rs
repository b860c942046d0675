//! What the tests stand on: programs to run and other ends to talk to.

pub(crate) mod shim;
pub(crate) mod stub_gateway;
