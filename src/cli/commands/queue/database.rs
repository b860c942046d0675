//! Work items of a project whose scheduler does not run: straight from its database, under the scheduler's lock, with the
//! answers that the scheduler would give.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::{Wanted, WorkItems};
use crate::base::clock::UnixMs;
use crate::base::error::{GatewayError, Trouble};
use crate::gateway::item_json;
use crate::scheduler::lock::ProjectLock;
use crate::store::Store;
use crate::store::items::{self, Cleared, Filter, Refusal, State};

/// States that are shown when none is asked for, and how many items.
const USUAL_STATES: [State; 4] = [State::Queued, State::Running, State::Failed, State::Dead];
const USUAL_ITEMS: usize = 50;

/// The items in a project's database; no scheduler starts while this is open.
pub(super) struct OfDatabase {
    store: Store,
    _lock: ProjectLock,
}

impl OfDatabase {
    /// Opens the database of a project; `None` when it has none yet.
    ///
    /// # Errors
    /// When somebody holds the project's lock, or the database cannot be used.
    pub(super) fn open(project: &Path) -> Result<Option<Self>> {
        let dir = project.join(".al");
        if !dir.join("state.db").exists() {
            return Ok(None);
        }
        let lock = ProjectLock::for_scheduler(project)?;
        Ok(Some(Self { store: Store::open_undamaged(&dir)?, _lock: lock }))
    }

    fn refused(id: u64, refusal: &Refusal) -> anyhow::Error {
        let (status, text) = match refusal {
            Refusal::NotFound => (404, format!("Item {id} not found")),
            Refusal::State(state) => (409, format!("Item {id} is {}", state.as_str())),
        };
        GatewayError { why: Trouble::Status(status), text }.into()
    }

    fn done(message: String) -> Value {
        json!({ "success": true, "message": message })
    }
}

fn row(id: u64) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}

impl WorkItems for OfDatabase {
    fn list(&self, wanted: &Wanted<'_>) -> Result<Value> {
        let states = match wanted.state {
            None => USUAL_STATES.to_vec(),
            // Checked with the other arguments.
            Some(words) => words.split(',').filter_map(|word| State::parse(word.trim())).collect(),
        };
        let limit = u32::try_from(wanted.limit.unwrap_or(USUAL_ITEMS)).unwrap_or(u32::MAX);
        let filter = Filter { agent: wanted.agent, states: &states, limit };
        let page = self.store.read(|db| items::list(db, &filter))?;
        let items: Vec<Value> = page.items.iter().map(|item| Value::Object(item_json(item))).collect();
        Ok(json!({ "items": items, "total": page.total }))
    }

    fn show(&self, id: u64) -> Result<Value> {
        let found = self.store.read(|db| items::show(db, row(id)))?;
        let Some((item, context)) = found else { return Err(Self::refused(id, &Refusal::NotFound)) };
        let mut item = item_json(&item);
        item.insert("context".into(), context);
        Ok(Value::Object(item))
    }

    fn retry(&self, id: u64) -> Result<Value> {
        let retried = self.store.write(move |tx| items::retry(tx, row(id), UnixMs::now()))?;
        retried.map_err(|refusal| Self::refused(id, &refusal))?;
        Ok(Self::done(format!("Item {id} queued")))
    }

    fn drop_item(&self, id: u64) -> Result<Value> {
        let dropped = self.store.write(move |tx| items::drop(tx, row(id), UnixMs::now()))?;
        dropped.map_err(|refusal| Self::refused(id, &refusal))?;
        Ok(Self::done(format!("Item {id} dropped")))
    }

    fn clear(&self, agent: Option<&str>) -> Result<Value> {
        let agent = agent.map(str::to_owned);
        let cleared =
            self.store.write(move |tx| items::clear(tx, agent.as_deref(), Cleared::ByOperator, UnixMs::now()))?.len();
        Ok(json!({ "success": true, "message": format!("Cleared {cleared} item(s)"), "cleared": cleared }))
    }
}
