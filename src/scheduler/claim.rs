//! Taking work from the store: what the core wishes, oldest first, in one transaction; then what a full queue pushes
//! out (scheduler.md §5.2, §5.3).

use std::collections::BTreeMap;

use anyhow::Result;

use super::core::{Claim, Claimed, Reruns, Wish};
use crate::base::clock::UnixMs;
use crate::base::{Secret, ids};
use crate::model::names::{AgentName, InstanceId};
use crate::store::Tx;
use crate::store::containers::Identity;
use crate::store::items::{self, Buried, Eligible, Item, Kind};

/// Claims in one transaction: enough for every slot that is likely, few enough that nobody waits long for the commit.
const MOST_CLAIMS: usize = 64;

/// What may be taken, and what to push out afterwards.
pub(super) struct Order {
    pub(super) wish: Wish,
    /// Items that were accepted since the last time, by agent: as many of the oldest may be pushed out.
    pub(super) accepted: BTreeMap<String, u64>,
    /// Most queued items of an agent.
    pub(super) capacity: u64,
    /// Of runs by hand.
    pub(super) max_reruns: u32,
}

/// What was taken.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) claimed: Claimed,
    /// By id: who each claimed item runs as.
    pub(super) items: BTreeMap<i64, (Identity, Item)>,
    pub(super) pushed_out: Vec<Buried>,
}

/// Takes work. From the commit on every claimed item is running, as the instance made here.
///
/// # Errors
/// When the database fails.
pub(super) fn take(tx: &Tx<'_>, order: &Order, now: UnixMs) -> Result<Taken> {
    let mut taken = Taken::default();
    let mut line = Line::new(&order.wish);
    while let Some(next) = line.next(tx, now)? {
        if taken.claimed.claims.len() == MOST_CLAIMS {
            taken.claimed.more = true;
            break;
        }
        match next {
            Next::Tick { agent } => taken.claimed.claims.push(Claim::Tick { agent }),
            Next::Item { agent, id } => {
                let Some((identity, item)) = claim(tx, &agent, id, now)? else { continue };
                // A run by hand that had to wait is one like any other; its item is done with the first run of the chain.
                let reruns = if item.kind == Kind::Manual { Reruns::UpTo(order.max_reruns) } else { Reruns::Never };
                taken.claimed.claims.push(Claim::Item { agent, item: id, reruns });
                taken.items.insert(id, (identity, item));
            }
        }
    }
    taken.claimed.next_due = items::next_not_before(tx, now)?;
    for (agent, accepted) in &order.accepted {
        taken.pushed_out.extend(items::push_out(tx, agent, order.capacity, *accepted, now)?);
    }
    Ok(taken)
}

fn claim(tx: &Tx<'_>, agent: &str, id: i64, now: UnixMs) -> Result<Option<(Identity, Item)>> {
    let Ok(agent) = AgentName::parse(agent) else { return Ok(None) };
    let identity = new_identity(&agent);
    Ok(items::claim(tx, id, &identity, now)?.map(|item| (identity, item)))
}

/// A new instance of an agent.
pub(super) fn new_identity(agent: &AgentName) -> Identity {
    Identity { instance: InstanceId::generate(agent), secret: Secret::new(ids::uuid_v4()) }
}

/// The agents that may start something, as they stand in line.
struct Line {
    places: Vec<Place>,
    room: Option<u32>,
}

struct Place {
    agent: String,
    free: u32,
    tick: Option<UnixMs>,
    /// (enqueued at, id) of the item that is next; `None` when it was not looked for yet.
    item: Option<Option<(UnixMs, i64)>>,
}

enum Next {
    Item { agent: String, id: i64 },
    Tick { agent: String },
}

impl Line {
    fn new(wish: &Wish) -> Self {
        let tick = |agent: &str| wish.ticks.iter().find(|(name, _)| name == agent).map(|(_, instant)| *instant);
        let place =
            |(agent, free): &(String, u32)| Place { tick: tick(agent), agent: agent.clone(), free: *free, item: None };
        Self { places: wish.free.iter().map(place).collect(), room: wish.room }
    }

    fn next(&mut self, tx: &Tx<'_>, now: UnixMs) -> Result<Option<Next>> {
        let without_room = self.room == Some(0);
        let which = if without_room { Eligible::CallsOfLiveCallers } else { Eligible::Any };
        let mut oldest: Option<(UnixMs, bool, usize)> = None;
        for (at, place) in self.places.iter_mut().enumerate().filter(|(_, place)| place.free > 0) {
            if place.item.is_none() {
                place.item = Some(items::next_due(tx, &place.agent, now, which)?);
            }
            let item = place.item.flatten().map(|(since, _)| (since, false, at));
            let tick = place.tick.filter(|_| !without_room).map(|since| (since, true, at));
            oldest = [oldest, item, tick].into_iter().flatten().min();
        }
        let Some((_, is_tick, at)) = oldest else { return Ok(None) };
        let place = &mut self.places[at];
        place.free -= 1;
        let agent = place.agent.clone();
        let next = if is_tick {
            place.tick = None;
            Next::Tick { agent }
        } else {
            let id = place.item.take().flatten().map_or(0, |(_, id)| id);
            Next::Item { agent, id }
        };
        if let Some(room) = self.room.as_mut().filter(|room| **room > 0) {
            *room -= 1;
            if *room == 0 {
                // From here on only calls that somebody waits for.
                self.places.iter_mut().for_each(|place| place.item = None);
            }
        }
        Ok(Some(next))
    }
}
