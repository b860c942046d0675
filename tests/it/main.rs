//! Black-box tests: the real programs, driven from outside.

mod shims_requests;
mod shims_signals;
mod shims_wait;
mod support;
