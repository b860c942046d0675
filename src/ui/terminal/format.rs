//! Times, amounts and widths as the terminal UI writes them (scheduler.md §11.2). Pure.

use std::time::Duration;

use shims::wire::usage::Usage;

use crate::base::clock::UnixMs;
use crate::base::text::thousands;

/// How long ago something was: `12s ago`, `3m ago`, `50h ago`.
pub(super) fn ago(then: UnixMs, now: UnixMs) -> String {
    let seconds = now.since(then).as_secs();
    match seconds {
        0..60 => format!("{seconds}s ago"),
        60..3600 => format!("{}m ago", seconds / 60),
        _ => format!("{}h ago", seconds / 3600),
    }
}

/// `45s`, `2m5s`, `2m`.
pub(super) fn duration(taken: Duration) -> String {
    let (minutes, seconds) = (taken.as_secs() / 60, taken.as_secs() % 60);
    match (minutes, seconds) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, 0) => format!("{minutes}m"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}

/// How long until something is: `now`, `45s`, `12m`.
pub(super) fn until(then: UnixMs, now: UnixMs) -> String {
    let left = then.since(now);
    match left.as_secs() {
        _ if left.is_zero() => "now".to_owned(),
        seconds @ 0..60 => format!("{seconds}s"),
        seconds => format!("{}m", seconds / 60),
    }
}

/// `1,500tok $0.0123`
pub(super) fn usage(usage: Usage) -> String {
    format!("{}tok ${:.4}", thousands(usage.total_tokens), usage.cost)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = UnixMs(1_767_323_045_000);

    fn before(seconds: i64) -> UnixMs {
        UnixMs(NOW.0 - seconds * 1000)
    }

    #[test]
    fn times_have_the_unit_that_tells_most() {
        let ago = [0, 59, 60, 3599, 3600, 180_000, -5].map(|seconds| ago(before(seconds), NOW));
        assert_eq!(ago, ["0s ago", "59s ago", "1m ago", "59m ago", "1h ago", "50h ago", "0s ago"]);
        let taken = [0, 45, 60, 125, 7_200].map(|seconds| duration(Duration::from_secs(seconds)));
        assert_eq!(taken, ["0s", "45s", "1m", "2m5s", "120m"]);
        let until = [5, 0, -1, -45, -60, -7_200].map(|seconds| until(before(seconds), NOW));
        assert_eq!(until, ["now", "now", "1s", "45s", "1m", "120m"]);
    }

    #[test]
    fn amounts_can_be_read() {
        let of = |total_tokens, cost| usage(Usage { total_tokens, cost, ..Usage::default() });
        assert_eq!(of(1_234_567, 0.12345), "1,234,567tok $0.1235");
        assert_eq!(of(0, 0.0), "0tok $0.0000");
    }
}
