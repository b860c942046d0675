//! Keeps what could be endless down to some lines per second.

use std::time::{Duration, Instant};

/// Lines that pass in one second.
const MOST: u32 = 10;
const SECOND: Duration = Duration::from_secs(1);

/// Lets the first lines of every second pass and counts the others.
pub(super) struct Throttle {
    /// When the current second began.
    since: Instant,
    passed: u32,
    held_back: u64,
}

impl Throttle {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, passed: 0, held_back: 0 }
    }

    /// Whether a line may pass.
    pub(super) fn admits(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.since) >= SECOND {
            (self.since, self.passed) = (now, 0);
        }
        let admits = self.passed < MOST;
        if admits {
            self.passed += 1;
        } else {
            self.held_back += 1;
        }
        admits
    }

    /// How many lines have been held back since this was last asked.
    pub(super) fn take_held_back(&mut self) -> u64 {
        std::mem::take(&mut self.held_back)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_lines_pass_in_every_second() {
        let start = Instant::now();
        let mut throttle = Throttle::new(start);
        let mut passed = |milliseconds: u64, lines: usize| {
            let now = start + Duration::from_millis(milliseconds);
            (0..lines).filter(|_| throttle.admits(now)).count()
        };
        assert_eq!(
            [passed(0, 7), passed(999, 7), passed(1000, 100), passed(1500, 1), passed(9000, 3)],
            [7, 3, 10, 0, 3]
        );
        assert_eq!((throttle.take_held_back(), throttle.take_held_back()), (4 + 90 + 1, 0));
    }
}
