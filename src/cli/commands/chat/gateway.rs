//! Whether the gateway of an agent's project is there.

use crate::cli::gateway_client::{Reach, reach};
use crate::cli::site::Site;

/// What to warn of, when it is not.
pub(super) fn problem(site: &Site) -> Option<String> {
    let port = site.loaded.project.settings.gateway.port;
    let local = format!("http://localhost:{port}");
    let (url, reason) = match reach(site) {
        Ok(Reach::NotRunning) => (local, "no scheduler of this project runs".to_owned()),
        Ok(Reach::Silent(holder)) => (local, format!("{} does not listen", holder.name())),
        Ok(Reach::At(client)) => (client.url().to_owned(), client.check_health().err()?.to_string()),
        Err(error) => (local, format!("{error:#}")),
    };
    Some(format!(
        "the gateway cannot be reached at {url}: {reason}\n  what the agent needs it for does not work here; start it with: \
         al start"
    ))
}
