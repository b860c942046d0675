//! Opening the project's database, and what is stored in it about the last process.

use std::sync::Arc;

use anyhow::{Context as _, Result};

use super::Plan;
use crate::base::log::{Entry, Level};
use crate::scheduler::outlet::Outlet;
use crate::scheduler::shell::Flags;
use crate::store::{Store, flags as keys};

/// The open database.
pub(super) struct Database {
    pub(super) store: Arc<Store>,
    pub(super) flags: Flags,
    /// Name of a corrupt file that was set aside.
    pub(super) set_aside: Option<String>,
}

/// Opens it. From now on it says that a scheduler runs.
pub(super) fn open(plan: &Plan, outlet: &Outlet) -> Result<Database> {
    let opened = Store::open(&plan.loaded.project.dir.join(".al"))?;
    let set_aside = opened.set_aside.map(|path| path.display().to_string());
    if let Some(path) = &set_aside {
        let entry = Entry::new(Level::Error, "database was corrupt and has been set aside");
        plan.log.write(&entry.field("file", path.as_str()));
    }
    if let Some(taken_over) = opened.taken_over {
        let entry = Entry::new(Level::Info, "state of release 0.13.2 taken over");
        plan.log.write(&entry.field("items", taken_over.items).field("unreadable", taken_over.unreadable));
    }
    let store = Arc::new(opened.store);
    let stored = store.read(keys::all).context("read the stored flags")?;
    let prefix = keys::disabled("");
    let disabled = stored.keys().filter_map(|key| key.strip_prefix(&prefix).map(str::to_owned)).collect();
    let flags =
        Flags { paused: stored.contains_key(keys::PAUSED), disabled, unclean: stored.contains_key(keys::UNCLEAN) };
    store.write(|tx| keys::set(tx, keys::UNCLEAN, "1")).context("write to the database")?;
    store.on_health(super::report_health(outlet));
    Ok(Database { store, flags, set_aside })
}
