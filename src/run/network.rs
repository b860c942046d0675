//! The network of the runs, and its return after somebody removed it.

use std::sync::{PoisonError, RwLock};

use anyhow::Result;

use crate::docker::network;

/// Makes sure that the network is there, and that the gateway listens where it belongs.
pub type Restore = Box<dyn Fn() -> Result<network::Network> + Send + Sync>;

/// The network of the runs.
pub struct Network {
    name: String,
    /// As it was last seen; `None` when its bridge cannot be seen from here.
    seen: RwLock<Option<network::Network>>,
    restore: Restore,
}

impl Network {
    /// A network that is there.
    pub fn new(found: network::Network, restore: Restore) -> Self {
        Self { name: found.name.clone(), seen: RwLock::new(visible(found)), restore }
    }

    /// What the daemon knows it by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is certainly not the one any more that was last seen: it was removed, and perhaps made again by somebody
    /// else with other addresses. Costs one look at a directory, so it can be asked before each run.
    pub fn is_gone(&self) -> bool {
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        seen.as_ref().is_some_and(|network| !network.has_bridge())
    }

    /// Makes it again where it is missing; the gateway listens where it belongs when this returns.
    ///
    /// # Errors
    /// When the daemon cannot make it.
    pub fn restore(&self) -> Result<()> {
        let found = (self.restore)()?;
        *self.seen.write().unwrap_or_else(PoisonError::into_inner) = visible(found);
        Ok(())
    }
}

fn visible(network: network::Network) -> Option<network::Network> {
    Some(network).filter(network::Network::has_bridge)
}
