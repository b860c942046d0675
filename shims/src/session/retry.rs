//! When a failed request is sent again (agent-session.md §9.2).

use std::time::Duration;

use super::error::{Kind, ModelError};
use super::event::RetryPhase;

/// A longer hint is not waited for in the fast phase.
const LONGEST_FAST_HINT: Duration = Duration::from_secs(60);
/// No wait of the slow phase is longer.
const LONGEST: Duration = Duration::from_secs(300);
/// A wait must end at least this long before the run does, or it would be for nothing.
pub(super) const BEFORE_DEADLINE: Duration = Duration::from_secs(5);

/// One wait.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Wait {
    pub(super) phase: RetryPhase,
    /// From 1 within the phase.
    pub(super) attempt: u32,
    pub(super) max_attempts: u32,
    pub(super) delay: Duration,
}

/// Which waits there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phases {
    /// Another model can be asked instead of waiting long.
    FastOnly,
    Both,
}

/// The retries of one request.
#[derive(Default)]
pub(super) struct Schedule {
    limited: Counters,
    broken: Counters,
}

#[derive(Default)]
struct Counters {
    fast: u32,
    slow: u32,
}

impl Schedule {
    /// What to do about an error: how long to wait before the same request is sent again, or `None` when it is final for
    /// this model. `random` is from 0 to 1.
    pub(super) fn next(&mut self, error: &ModelError, random: f64, phases: Phases) -> Option<Wait> {
        let fast = error.should_retry != Some(false);
        let slow = phases == Phases::Both;
        match error.kind {
            Kind::RateLimit | Kind::Overloaded => {
                let fast = fast.then(|| self.limited.fast_limited(error.wait)).flatten();
                fast.or_else(|| slow.then(|| self.limited.slow(5, Some(error.wait.unwrap_or_default()))).flatten())
            }
            Kind::Server | Kind::Network => {
                let fast = fast.then(|| self.broken.fast_broken(random)).flatten();
                fast.or_else(|| slow.then(|| self.broken.slow(3, None)).flatten())
            }
            Kind::Malformed if fast => self.broken.fast_broken(random),
            _ if error.should_retry == Some(true) => self.broken.fast_broken(random),
            _ => None,
        }
    }

    /// How many retries there have been.
    pub(super) fn retries(&self) -> u32 {
        self.limited.fast + self.limited.slow + self.broken.fast + self.broken.slow
    }
}

impl Counters {
    fn fast_limited(&mut self, hint: Option<Duration>) -> Option<Wait> {
        let too_long = hint.is_some_and(|hint| hint > LONGEST_FAST_HINT);
        if too_long || self.fast == 2 {
            return None;
        }
        let delay = hint.unwrap_or(Duration::from_secs(2 << self.fast));
        Some(self.count_fast(2, delay))
    }

    fn fast_broken(&mut self, random: f64) -> Option<Wait> {
        if self.fast == 4 {
            return None;
        }
        // Many runs fail in the same moment; they should not come back in the same moment.
        let delay = Duration::from_millis(500 << self.fast).mul_f64(0.75 + 0.25 * random);
        Some(self.count_fast(4, delay))
    }

    fn count_fast(&mut self, max_attempts: u32, delay: Duration) -> Wait {
        self.fast += 1;
        Wait { phase: RetryPhase::Fast, attempt: self.fast, max_attempts, delay }
    }

    fn slow(&mut self, max_attempts: u32, hint: Option<Duration>) -> Option<Wait> {
        if self.slow == max_attempts {
            return None;
        }
        let delay = Duration::from_secs(30 << self.slow).max(hint.unwrap_or_default()).min(LONGEST);
        self.slow += 1;
        Some(Wait { phase: RetryPhase::Slow, attempt: self.slow, max_attempts, delay })
    }
}

/// A number from 0 to 1, good enough to spread retries.
pub(super) fn random() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    (RandomState::new().hash_one(0) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: Kind, hint: Option<u64>, should_retry: Option<bool>) -> ModelError {
        let mut error = ModelError::new(kind, "x");
        error.wait = hint.map(Duration::from_secs);
        error.should_retry = should_retry;
        error
    }

    /// All waits of a request that keeps failing in the same way, in seconds; fast and slow ones.
    fn waits(error: &ModelError) -> (Vec<f64>, Vec<f64>) {
        let (mut schedule, mut fast, mut slow) = (Schedule::default(), Vec::new(), Vec::new());
        while let Some(wait) = schedule.next(error, 1.0, Phases::Both) {
            let list = if wait.phase == RetryPhase::Fast { &mut fast } else { &mut slow };
            list.push(wait.delay.as_secs_f64());
            assert_eq!(wait.attempt as usize, list.len());
            assert!(wait.attempt <= wait.max_attempts);
        }
        assert_eq!(schedule.retries() as usize, fast.len() + slow.len());
        (fast, slow)
    }

    #[test]
    fn follows_the_schedule() {
        #[track_caller]
        fn case(error: &ModelError, fast: &[f64], slow: &[f64]) {
            assert_eq!(waits(error), (fast.to_vec(), slow.to_vec()), "{error:?}");
        }
        let slow = [30.0, 60.0, 120.0, 240.0, 300.0];
        for kind in [Kind::RateLimit, Kind::Overloaded] {
            case(&error(kind, None, None), &[2.0, 4.0], &slow);
            case(&error(kind, Some(45), None), &[45.0, 45.0], &[45.0, 60.0, 120.0, 240.0, 300.0]);
            case(&error(kind, Some(90), None), &[], &[90.0, 90.0, 120.0, 240.0, 300.0]);
            case(&error(kind, Some(9000), None), &[], &[300.0; 5]);
            case(&error(kind, None, Some(false)), &[], &slow);
        }
        for kind in [Kind::Server, Kind::Network] {
            case(&error(kind, None, None), &[0.5, 1.0, 2.0, 4.0], &[30.0, 60.0, 120.0]);
        }
        case(&error(Kind::Malformed, None, None), &[0.5, 1.0, 2.0, 4.0], &[]);
        case(&error(Kind::Malformed, None, Some(false)), &[], &[]);
        for kind in [Kind::Auth, Kind::Permission, Kind::Quota, Kind::Refusal, Kind::InvalidRequest, Kind::Limit] {
            case(&error(kind, Some(3), None), &[], &[]);
            case(&error(kind, None, Some(true)), &[0.5, 1.0, 2.0, 4.0], &[]);
        }
    }

    #[test]
    fn where_another_model_can_be_asked_nothing_waits_long() {
        #[track_caller]
        fn case(error: &ModelError, waits: usize) {
            let mut schedule = Schedule::default();
            let seen = std::iter::from_fn(|| schedule.next(error, 1.0, Phases::FastOnly));
            assert_eq!(seen.take_while(|wait| wait.phase == RetryPhase::Fast).count(), waits, "{error:?}");
        }
        case(&error(Kind::RateLimit, None, None), 2);
        case(&error(Kind::Overloaded, Some(61), None), 0);
        case(&error(Kind::Network, None, None), 4);
        case(&error(Kind::Quota, None, None), 0);
    }

    #[test]
    fn waits_for_broken_servers_are_spread() {
        let delay =
            |random| Schedule::default().next(&error(Kind::Server, None, None), random, Phases::Both).unwrap().delay;
        assert_eq!((delay(0.0), delay(1.0)), (Duration::from_millis(375), Duration::from_millis(500)));
        assert!((0..100).map(|_| random()).all(|number| (0.0..1.0).contains(&number)));
    }
}
