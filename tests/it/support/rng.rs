//! Chance that can be repeated.

use std::ops::Range;
use std::time::{Duration, SystemTime};

/// A source of numbers that all follow from its seed (splitmix64).
pub(crate) struct Rng(u64);

impl Rng {
    /// From the seed in `AL_TEST_SEED`, else from the clock; prints it, which is seen when the test fails.
    pub(crate) fn from_env() -> Self {
        let given = std::env::var("AL_TEST_SEED").ok().and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970");
            now.as_nanos() as u64
        });
        eprintln!("to repeat it: AL_TEST_SEED={seed}");
        Self(seed)
    }

    /// A source of its own that follows from this one.
    pub(crate) fn split(&mut self) -> Self {
        Self(self.next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from a range.
    pub(crate) fn of(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    /// Whether something happens that happens so often in a hundred times.
    pub(crate) fn percent(&mut self, chance: u64) -> bool {
        self.of(0..100) < chance
    }

    /// A time from a range of milliseconds.
    pub(crate) fn millis(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.of(range))
    }
}
