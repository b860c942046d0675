//! Lines of a container that were dropped because it wrote faster than they could be taken: counted with every one, told
//! once in a while.

use std::time::{Duration, Instant};

use crate::base::log::{Entry, Level};

/// Least time between two entries about it.
const INTERVAL: Duration = Duration::from_secs(10);

/// Lines of one run that were dropped.
#[derive(Default)]
pub(super) struct Dropped {
    total: u64,
    /// Those that no entry tells of yet.
    untold: u64,
    told_at: Option<Instant>,
}

impl Dropped {
    /// Counts lines.
    pub(super) fn add(&mut self, lines: u64) {
        self.total += lines;
        self.untold += lines;
    }

    /// When the next entry is due; `None` when there is nothing to tell.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        (self.untold > 0).then(|| self.told_at.map_or(now, |at| at + INTERVAL))
    }

    /// The entry that is due.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Entry> {
        self.due(now).filter(|due| *due <= now).and_then(|_| self.take(now))
    }

    /// An entry about what is not told yet, whenever the last one was.
    pub(super) fn take(&mut self, now: Instant) -> Option<Entry> {
        let lines = Some(std::mem::take(&mut self.untold)).filter(|lines| *lines > 0)?;
        self.told_at = Some(now);
        Some(Entry::new(Level::Warn, "output lines dropped").field("dropped", lines).field("total", self.total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_told_once_in_an_interval_and_add_up() {
        let (start, mut dropped, mut told) = (Instant::now(), Dropped::default(), Vec::new());
        for tenth in 0..250 {
            let now = start + Duration::from_millis(100 * tenth);
            dropped.add(3);
            told.extend(dropped.take_due(now));
        }
        assert_eq!(told.len(), 3, "at once, and every ten seconds");
        let end = start + Duration::from_secs(25);
        assert!(dropped.take_due(end).is_none() && dropped.due(end).is_some());
        told.extend(dropped.take(end));
        assert!(dropped.take(end).is_none() && dropped.due(end).is_none());
        let sum: u64 = told.iter().map(|entry| entry.fields["dropped"].as_u64().unwrap()).sum();
        assert_eq!((sum, &told[3].fields["total"]), (750, &750.into()));
    }
}
