//! What every layer may use and what knows nothing of agents.

pub mod clock;
pub mod crash;
pub mod error;
pub mod files;
pub mod ids;
mod known_secrets;
pub mod log;
pub mod log_files;
mod masked_stream;
pub mod packed;
pub mod process;
pub mod prompt;
pub mod signals;
pub mod subnet;
pub mod term;
pub mod text;
pub mod web;
pub mod worker;

pub use known_secrets::KnownSecrets;
pub use masked_stream::MaskedStream;
pub use shims::cancel::Cancel;
pub use shims::secret::{Masker, Secret};
pub use shims::user_info::hide_user_info;
