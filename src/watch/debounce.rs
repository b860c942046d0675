//! When to tell that an agent changed: not while it still does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// A directory in which something is written all the time, such as a log, is told of this often.
const LONGEST: Duration = Duration::from_secs(10);

/// Agents to which something happened.
pub(super) struct Debounce {
    /// How long it has to be quiet.
    quiet: Duration,
    pending: BTreeMap<String, Pending>,
}

struct Pending {
    first: Instant,
    last: Instant,
}

impl Pending {
    fn due(&self, quiet: Duration) -> Instant {
        (self.last + quiet).min(self.first + LONGEST)
    }
}

impl Debounce {
    /// Nothing has happened yet.
    pub(super) fn new(quiet: Duration) -> Self {
        Self { quiet, pending: BTreeMap::new() }
    }

    /// Something happened to these agents.
    pub(super) fn touch(&mut self, agents: BTreeSet<String>, now: Instant) {
        for agent in agents {
            self.pending.entry(agent).or_insert(Pending { first: now, last: now }).last = now;
        }
    }

    /// When the first of them has to be told.
    pub(super) fn due(&self) -> Option<Instant> {
        self.pending.values().map(|pending| pending.due(self.quiet)).min()
    }

    /// Takes out those that have to be told now.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<String> {
        let due: Vec<String> = self
            .pending
            .iter()
            .filter(|(_, pending)| pending.due(self.quiet) <= now)
            .map(|(agent, _)| agent.clone())
            .collect();
        self.pending.retain(|_, pending| pending.due(self.quiet) > now);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn agents(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn each_agent_is_told_half_a_second_after_its_own_last_event() {
        let begin = Instant::now();
        let mut debounce = Debounce::new(ms(500));
        debounce.touch(agents(&["a", "b"]), begin);
        debounce.touch(agents(&["a"]), begin + ms(400));
        assert_eq!(debounce.due(), Some(begin + ms(500)));
        assert_eq!(debounce.take_due(begin + ms(499)), [""; 0]);
        assert_eq!(debounce.take_due(begin + ms(500)), ["b"]);
        assert_eq!(debounce.take_due(begin + ms(899)), [""; 0]);
        assert_eq!(debounce.take_due(begin + ms(900)), ["a"]);
        assert_eq!(debounce.due(), None);
    }

    #[test]
    fn what_never_rests_is_told_every_ten_seconds() {
        let begin = Instant::now();
        let mut debounce = Debounce::new(ms(500));
        let mut told = Vec::new();
        for tick in 0..250 {
            let now = begin + ms(100 * tick);
            debounce.touch(agents(&["a"]), now);
            told.extend(debounce.take_due(now).into_iter().map(|_| tick));
        }
        assert_eq!(told, [100, 201]);
    }
}
