//! Instants as the product writes them.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Local, SecondsFormat, Utc};

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMs(pub i64);

impl UnixMs {
    /// The wall clock.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// Reads an ISO 8601 instant with a zone.
    pub fn parse_iso(text: &str) -> Option<Self> {
        DateTime::parse_from_rfc3339(text).ok().map(|instant| Self(instant.timestamp_millis()))
    }

    /// Reads the date of an HTTP header, `Sun, 06 Nov 1994 08:49:37 GMT`.
    pub fn parse_http_date(text: &str) -> Option<Self> {
        DateTime::parse_from_rfc2822(text.trim()).ok().map(|instant| Self(instant.timestamp_millis()))
    }

    /// UTC ISO 8601 with milliseconds, `2026-01-02T03:04:05.000Z`.
    pub fn to_iso(self) -> String {
        self.utc().to_rfc3339_opts(SecondsFormat::Millis, true)
    }

    /// `YYYY-MM-DD` in UTC.
    pub fn utc_date(self) -> String {
        self.utc().format("%Y-%m-%d").to_string()
    }

    /// `HH:MM:SS` in the local zone.
    pub fn local_time(self) -> String {
        self.utc().with_timezone(&Local).format("%H:%M:%S").to_string()
    }

    /// How long ago `earlier` was; zero when the clock went back.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// This instant and `later` more.
    pub fn plus(self, later: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(later.as_millis()).unwrap_or(i64::MAX)))
    }

    fn utc(self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.0).unwrap_or_default()
    }
}

impl fmt::Display for UnixMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_iso())
    }
}

/// Seconds with one decimal, as log lines give durations: `12.3s`.
pub fn seconds(duration: Duration) -> String {
    format!("{:.1}s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_iso_with_milliseconds() {
        assert_eq!(UnixMs(1_767_323_045_007).to_iso(), "2026-01-02T03:04:05.007Z");
        assert_eq!(UnixMs(1_767_323_045_007).utc_date(), "2026-01-02");
        assert_eq!(UnixMs::parse_iso("2026-01-02T03:04:05.007Z"), Some(UnixMs(1_767_323_045_007)));
        assert_eq!(UnixMs::parse_iso("2026-01-02"), None);
    }

    #[test]
    fn reads_what_it_writes() {
        assert_eq!(UnixMs::parse_iso("2026-01-02T03:04:05.007Z"), Some(UnixMs(1_767_323_045_007)));
        assert_eq!(UnixMs::parse_iso("2026-01-02T04:04:05+01:00"), Some(UnixMs(1_767_323_045_000)));
        assert_eq!(UnixMs::parse_iso("yesterday"), None);
    }

    #[test]
    fn a_clock_set_back_gives_no_negative_time() {
        assert_eq!(UnixMs(5).since(UnixMs(9)), Duration::ZERO);
    }
}
