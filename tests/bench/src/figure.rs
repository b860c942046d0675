//! Figures and how they are printed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::load::Measured;

/// Figures that were printed, and those of them that miss their limit.
static FIGURES: AtomicUsize = AtomicUsize::new(0);
static MISSES: AtomicUsize = AtomicUsize::new(0);

/// One line: what it is, what came out, what to compare it with, what it is to keep, and whether it does.
#[expect(clippy::print_stdout, reason = "this is what the program is for")]
pub(crate) fn print(what: &str, value: &str, reference: &str, limit: &Limit) {
    FIGURES.fetch_add(1, Ordering::Relaxed);
    MISSES.fetch_add(usize::from(!limit.is_kept), Ordering::Relaxed);
    let miss = if limit.is_kept { "" } else { "  <-- not kept" };
    println!("{what:<46} {value:>26}   {reference} (limit: {}){miss}", limit.text);
}

/// Prints the last line: whether all limits were kept, which is also the answer.
#[expect(clippy::print_stdout, reason = "this is what the program is for")]
pub(crate) fn conclude() -> bool {
    let (figures, misses) = (FIGURES.load(Ordering::Relaxed), MISSES.load(Ordering::Relaxed));
    match misses {
        0 => println!("all {figures} limits are kept"),
        misses => println!("{misses} of {figures} limits are NOT kept"),
    }
    misses == 0
}

/// What a figure is to keep.
pub(crate) struct Limit {
    text: String,
    is_kept: bool,
}

impl Limit {
    /// A time that is not to be exceeded.
    pub(crate) fn time(value: Duration, most: Duration) -> Self {
        Self { text: ms(most), is_kept: value <= most }
    }

    /// Percent of a core that are not to be exceeded.
    pub(crate) fn percent(value: f64, most: f64) -> Self {
        Self { text: percent(most), is_kept: value <= most }
    }

    /// Bytes that are not to be exceeded.
    pub(crate) fn bytes(value: u64, most: u64) -> Self {
        Self { text: mb(most), is_kept: value <= most }
    }

    /// Bytes a second that are to be reached.
    pub(crate) fn at_least(value: f64, least: f64) -> Self {
        Self { text: format!("{:.0} MB/s", least / 1e6), is_kept: value >= least }
    }

    /// Requests a second that are to be reached, and the time within which 99 of 100 are to be answered.
    pub(crate) fn rate(value: &Measured, least: f64, most: Duration) -> Self {
        let is_kept = value.failed == 0 && value.per_second() >= least && value.percentile(99.0) <= most;
        Self { text: format!("{least:.0}/s, p99 {}", ms(most)), is_kept }
    }
}

/// `1.2 ms`
pub(crate) fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// `1.20 % of a core`
pub(crate) fn percent(value: f64) -> String {
    format!("{value:.2} % of a core")
}

/// `1.2 MB`
pub(crate) fn mb(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// `5000/s, p99 1.2 ms`
pub(crate) fn rate(measured: &Measured) -> String {
    let failed = if measured.failed > 0 { format!(", {} FAILED", measured.failed) } else { String::new() };
    format!("{:.0}/s, p99 {}{failed}", measured.per_second(), ms(measured.percentile(99.0)))
}

/// The one in the middle.
pub(crate) fn median(times: &[Duration]) -> Duration {
    Measured::of(times.to_vec()).percentile(50.0)
}
