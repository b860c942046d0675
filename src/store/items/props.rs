//! The queue against a small model: random histories with restarts and crashes in them.

use std::collections::BTreeMap;
use std::fs;

use proptest::prelude::*;

use super::*;
use crate::model::outcome::{Class, Outcome, RunResult};
use crate::store::Store;
use crate::store::containers;
use crate::store::receipts::{Delivered, NewReceipt, accept_delivery};
use crate::store::runs::testing::{POLICY, identity, outcome};
use crate::store::runs::{ItemEnd, finish_run};
use crate::store::testing::{dir, new_item, new_receipt};

const AGENTS: [&str; 2] = ["dev", "docs"];
const CLASSES: [Class; 8] = [
    Class::Ok,
    Class::Lost,
    Class::LaunchFailure,
    Class::Interrupted,
    Class::AgentError,
    Class::Timeout,
    Class::Oom,
    Class::Killed,
];

#[derive(Clone, Debug)]
enum Op {
    Insert {
        agent: usize,
    },
    Deliver {
        id: usize,
        agents: usize,
    },
    Claim {
        agent: usize,
    },
    Finish {
        run: usize,
        class: usize,
    },
    Retry {
        item: usize,
    },
    Drop {
        item: usize,
    },
    Clear {
        agent: Option<usize>,
    },
    PushOut {
        agent: usize,
        capacity: u64,
        most: u64,
    },
    /// A change that does a lot and then fails.
    Fail,
    Wait {
        ms: i64,
    },
    /// The clock is set back.
    SetBack {
        ms: i64,
    },
    Reopen,
    /// Goes on with a copy of the files as they lie there.
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    let agent = 0usize..AGENTS.len();
    prop_oneof![
        5 => agent.clone().prop_map(|agent| Op::Insert { agent }),
        3 => (0usize..3, 1usize..4).prop_map(|(id, agents)| Op::Deliver { id, agents }),
        6 => agent.clone().prop_map(|agent| Op::Claim { agent }),
        6 => (any::<usize>(), 0..CLASSES.len()).prop_map(|(run, class)| Op::Finish { run, class }),
        2 => any::<usize>().prop_map(|item| Op::Retry { item }),
        1 => any::<usize>().prop_map(|item| Op::Drop { item }),
        1 => proptest::option::of(agent.clone()).prop_map(|agent| Op::Clear { agent }),
        1 => (agent, 0u64..3, 0u64..3).prop_map(|(agent, capacity, most)| Op::PushOut { agent, capacity, most }),
        1 => Just(Op::Fail),
        3 => (0i64..100_000).prop_map(|ms| Op::Wait { ms }),
        1 => (0i64..2_000_000).prop_map(|ms| Op::SetBack { ms }),
        1 => Just(Op::Reopen),
        1 => Just(Op::Crash),
    ]
}

/// An item as the rules want it.
#[derive(Clone, Debug, PartialEq)]
struct Expected {
    agent: String,
    state: State,
    attempts: u32,
    not_before: i64,
    enqueued_at: i64,
    delivery: Option<usize>,
}

/// What is expected, written down as the rules are.
#[derive(Default)]
struct Model {
    /// By id, from 1.
    items: Vec<Expected>,
    /// Live runs and the items that they work on.
    live: Vec<(String, i64)>,
    latest: i64,
    accepted: Vec<(i64, How)>,
}

impl Model {
    fn item(&mut self, id: i64) -> &mut Expected {
        &mut self.items[usize::try_from(id).unwrap() - 1]
    }

    fn insert(&mut self, agent: &str, delivery: Option<usize>, now: i64) {
        self.latest = self.latest.max(now);
        let (agent, enqueued_at) = (agent.to_owned(), self.latest);
        let (state, attempts, not_before) = (State::Queued, 0, 0);
        self.items.push(Expected { agent, state, attempts, not_before, enqueued_at, delivery });
        self.accepted.push((self.items.len() as i64, How::Inserted));
    }

    /// Queued items of an agent, oldest first.
    fn queue(&self, agent: &str) -> Vec<i64> {
        let of_agent = |item: &Expected| item.agent == agent && item.state == State::Queued;
        let mut queue: Vec<_> = (1i64..).zip(&self.items).filter(|(_, item)| of_agent(item)).collect();
        queue.sort_by_key(|(id, item)| (item.enqueued_at, *id));
        queue.into_iter().map(|(id, _)| id).collect()
    }

    fn next(&mut self, agent: &str, now: i64) -> Option<i64> {
        let queue = self.queue(agent);
        queue.into_iter().find(|id| {
            let not_before = self.item(*id).not_before;
            not_before <= now || not_before > now + 900_000
        })
    }

    fn requeue(&mut self, id: i64) {
        let item = self.item(id);
        (item.state, item.attempts, item.not_before) = (State::Queued, 0, 0);
    }

    fn deliver(&mut self, delivery: usize, agents: &[&str], now: i64) -> (usize, bool) {
        let (mut matched, mut inserted) = (0, 0);
        for agent in agents {
            let had = |item: &&(i64, &Expected)| item.1.agent == *agent && item.1.delivery == Some(delivery);
            let earlier = (1i64..).zip(&self.items).find(|item| had(&item)).map(|(id, item)| (id, item.state));
            match earlier {
                None => {
                    (matched, inserted) = (matched + 1, inserted + 1);
                    self.insert(agent, Some(delivery), now);
                }
                Some((id, State::Failed | State::Dead)) => {
                    matched += 1;
                    self.requeue(id);
                    self.accepted.push((id, How::Redelivered));
                }
                Some(_) => {}
            }
        }
        // Those that were inserted come after those that were found again.
        self.accepted.sort_by_key(|(_, how)| *how == How::Inserted);
        (matched, matched == 0 && inserted == 0)
    }

    fn bury(&mut self, ids: impl IntoIterator<Item = i64>) {
        for id in ids {
            self.item(id).state = State::Dead;
        }
    }
}

/// What the database says: items, and the items of live runs.
fn found(store: &Store) -> (Vec<Expected>, Vec<(String, i64)>, i64) {
    store
        .read(|db| {
            let sql = "SELECT agent, state, attempts, not_before, enqueued_at FROM work_items ORDER BY id";
            let mut query = db.prepare(sql)?;
            let items = query.query_map([], |row| {
                let state: String = row.get(1)?;
                Ok(Expected {
                    agent: row.get(0)?,
                    state: State::parse(&state).unwrap(),
                    attempts: row.get(2)?,
                    not_before: row.get(3)?,
                    enqueued_at: row.get(4)?,
                    delivery: None,
                })
            })?;
            let live = containers::all(db)?.into_iter().map(|row| (row.instance, row.work_id.unwrap())).collect();
            let sql = "SELECT COUNT(*) FROM work_items
                       WHERE (state IN ('done', 'failed', 'dead')) <> (finished_at IS NOT NULL)";
            let unfinished = db.query_row(sql, [], |row| row.get(0))?;
            Ok((items.collect::<rusqlite::Result<_>>()?, live, unfinished))
        })
        .unwrap()
}

/// A run's outcome and what becomes of its item, by the table of scheduler.md §5.1.
fn ending(class: Class, attempts: u32) -> (Outcome, State) {
    let result = if class == Class::Ok { RunResult::Completed } else { RunResult::Error };
    let state = match class {
        Class::Ok => State::Done,
        Class::Lost | Class::LaunchFailure | Class::Interrupted if attempts < POLICY.max_attempts => State::Queued,
        Class::Lost | Class::LaunchFailure | Class::Interrupted => State::Dead,
        _ => State::Failed,
    };
    (Outcome { result, ..outcome(class, 1) }, state)
}

struct World {
    store: Option<Store>,
    dirs: Vec<tempfile::TempDir>,
    model: Model,
    now: i64,
}

impl World {
    fn begin() -> Self {
        let dir = dir();
        let store = Store::open(dir.path()).unwrap().store;
        Self { store: Some(store), dirs: vec![dir], model: Model::default(), now: 10_000_000 }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn open(&mut self) {
        let opened = Store::open(self.dirs.last().unwrap().path()).unwrap();
        assert_eq!(opened.set_aside, None);
        self.store = Some(opened.store);
        self.model.accepted.clear();
    }

    fn carry_out(&mut self, op: Op) {
        let (now, at) = (self.now, UnixMs(self.now));
        match op {
            Op::Insert { agent } => {
                self.model.insert(AGENTS[agent], None, now);
                self.store().write(move |tx| insert(tx, &new_item(AGENTS[agent]), at)).unwrap();
            }
            Op::Deliver { id, agents } => self.deliver(id, agents),
            Op::Claim { agent } => self.claim(AGENTS[agent]),
            Op::Finish { run, class } => self.finish(run, CLASSES[class]),
            Op::Retry { item } => self.retry(item),
            Op::Drop { item } => self.drop(item),
            Op::Clear { agent } => {
                let agents = agent.map_or(AGENTS.to_vec(), |agent| vec![AGENTS[agent]]);
                let queued: Vec<_> = agents.iter().flat_map(|agent| self.model.queue(agent)).collect();
                let agent = agent.map(|agent| AGENTS[agent]);
                let buried = self.store().write(move |tx| clear(tx, agent, Cleared::ByOperator, at)).unwrap();
                assert_eq!(buried.len(), queued.len());
                self.model.bury(queued);
            }
            Op::PushOut { agent, capacity, most } => {
                let queue = self.model.queue(AGENTS[agent]);
                let excess = (queue.len() as u64).saturating_sub(capacity).min(most);
                let out = self.store().write(move |tx| push_out(tx, AGENTS[agent], capacity, most, at)).unwrap();
                let oldest = &queue[..usize::try_from(excess).unwrap()];
                assert_eq!(out.iter().map(|item| item.id).collect::<Vec<_>>(), oldest);
                self.model.bury(oldest.iter().copied());
            }
            Op::Fail => self.fail(),
            Op::Wait { ms } => self.now += ms,
            Op::SetBack { ms } => self.now -= ms,
            Op::Reopen => {
                self.store().close().unwrap();
                self.open();
            }
            Op::Crash => {
                let copy = dir();
                for name in ["state.db", "state.db-wal"] {
                    let from = self.dirs.last().unwrap().path().join(name);
                    fs::copy(from, copy.path().join(name)).unwrap();
                }
                self.dirs.push(copy);
                self.open();
            }
        }
    }

    fn deliver(&mut self, id: usize, agents: usize) {
        let at = UnixMs(self.now);
        let agents: Vec<_> = (0..AGENTS.len()).filter(|n| agents >> n & 1 == 1).map(|n| AGENTS[n]).collect();
        let receipt = NewReceipt { delivery_id: Some(id.to_string()), ..new_receipt(None, at) };
        let items = agents.iter().map(|agent| new_item(agent)).collect();
        let delivered = self.store().write(move |tx| accept_delivery(tx, receipt, items, 0, at)).unwrap();
        let Delivered { matched, is_duplicate, .. } = delivered;
        assert_eq!((matched, is_duplicate), self.model.deliver(id, &agents, self.now));
    }

    fn claim(&mut self, agent: &'static str) {
        let at = UnixMs(self.now);
        let identity = identity(agent);
        let instance = identity.instance.to_string();
        let claimed = self.store().write(move |tx| claim_next(tx, agent, &identity, at)).unwrap();
        let next = self.model.next(agent, self.now);
        assert_eq!(claimed.as_ref().map(|item| item.id), next, "first in, first out");
        if let Some(claimed) = claimed {
            let item = self.model.item(claimed.id);
            (item.state, item.attempts) = (State::Running, item.attempts + 1);
            assert_eq!(claimed.attempts, item.attempts);
            self.model.live.push((instance, claimed.id));
        }
    }

    fn finish(&mut self, run: usize, class: Class) {
        if self.model.live.is_empty() {
            return;
        }
        let (instance, id) = self.model.live.remove(run % self.model.live.len());
        let (outcome, state) = ending(class, self.model.item(id).attempts);
        let at = UnixMs(self.now);
        let ended = self.store().write(move |tx| finish_run(tx, &instance, &outcome, &POLICY, at)).unwrap().unwrap();
        let item = self.model.item(id);
        (item.state, item.not_before) = (state, 0);
        if let Some((_, ItemEnd::Queued { not_before })) = ended.item {
            assert_eq!(not_before.0, self.now + [30_000, 120_000][item.attempts as usize - 1]);
            item.not_before = not_before.0;
        }
    }

    /// An id, perhaps of an item that does not exist.
    fn pick(&self, item: usize) -> i64 {
        (item % (self.model.items.len() + 1)) as i64 + 1
    }

    fn refusal(&self, id: i64) -> Refusal {
        let item = self.model.items.get(usize::try_from(id).unwrap() - 1);
        item.map_or(Refusal::NotFound, |item| Refusal::State(item.state))
    }

    fn retry(&mut self, item: usize) {
        let (id, at) = (self.pick(item), UnixMs(self.now));
        let expected = match self.refusal(id) {
            Refusal::State(State::Failed | State::Dead) => Ok(()),
            refusal => Err(refusal),
        };
        assert_eq!(self.store().write(move |tx| retry(tx, id, at)).unwrap(), expected);
        if expected.is_ok() {
            self.model.requeue(id);
        }
    }

    fn drop(&mut self, item: usize) {
        let (id, at) = (self.pick(item), UnixMs(self.now));
        let expected = match self.refusal(id) {
            Refusal::State(State::Queued) => Ok(id),
            refusal => Err(refusal),
        };
        let dropped = self.store().write(move |tx| super::drop(tx, id, at)).unwrap();
        assert_eq!(dropped.map(|item| item.id), expected);
        if expected.is_ok() {
            self.model.bury([id]);
        }
    }

    fn fail(&self) {
        let (identity, at) = (identity("dev"), UnixMs(0));
        let failed: Result<()> = self.store().write(move |tx| {
            insert(tx, &new_item("docs"), at)?;
            claim_next(tx, "dev", &identity, at)?;
            clear(tx, None, Cleared::ByStop, at)?;
            anyhow::bail!("no")
        });
        assert_eq!(failed.unwrap_err().to_string(), "no");
    }

    fn check(&mut self) {
        let (items, mut live, unfinished) = found(self.store());
        let without_delivery = |item: &Expected| Expected { delivery: None, ..item.clone() };
        assert_eq!(items, self.model.items.iter().map(without_delivery).collect::<Vec<_>>());
        assert!(items.iter().all(|item| item.attempts <= POLICY.max_attempts));
        assert_eq!(unfinished, 0, "an item has an end exactly when it is over");
        live.sort();
        self.model.live.sort();
        assert_eq!(live, self.model.live);
        let running = (1i64..).zip(&items).filter(|(_, item)| item.state == State::Running).map(|(id, _)| id);
        let mut worked_on: Vec<_> = live.iter().map(|(_, id)| *id).collect();
        worked_on.sort_unstable();
        assert_eq!(running.collect::<Vec<_>>(), worked_on, "exactly the items with a run are running");
        let mut counts = BTreeMap::new();
        for item in items.iter().filter(|item| item.state == State::Queued) {
            *counts.entry(item.agent.clone()).or_insert(0) += 1;
        }
        assert_eq!(self.store().queued_counts(), counts);
        let accepted = self.store().take_accepted().into_iter().map(|item| (item.id, item.how));
        assert_eq!(accepted.collect::<Vec<_>>(), std::mem::take(&mut self.model.accepted));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn no_item_is_lost_and_each_is_where_the_rules_want_it(ops in proptest::collection::vec(op(), 1..60)) {
        let mut world = World::begin();
        for op in ops {
            world.carry_out(op);
            world.check();
        }
    }
}
