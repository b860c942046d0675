//! Instants on the command line of `al logs`: in the forms of ISO 8601, or as long ago.

use shims::env::Environment;

use crate::base::clock::UnixMs;
use crate::base::error::UsageError;
use crate::base::log_files::Day;
use crate::cli::option;
use crate::config::schedule::{Timestamp, Zone};

/// The instant that a text means. A day is that of the log files, in UTC; a time without a zone is that of this machine,
/// in which entries are shown.
///
/// # Errors
/// A usage error that names `option`.
pub(super) fn instant(option: &str, text: &str, now: UnixMs, environment: &Environment) -> Result<UnixMs, UsageError> {
    let of_day = || Day::parse(text).and_then(|day| day.start());
    let at_time = || Some(Timestamp::parse(text)?.instant(&Zone::system(environment).zone));
    option::ago(text, now).or_else(of_day).or_else(at_time).ok_or_else(|| {
        let reason =
            "It must be an instant such as 2026-01-31T09:00, 2026-01-31T08:00:00Z, 2026-01-31, or 2h or 3d ago.";
        option::invalid(option, text, reason)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read_in_all_their_forms() {
        let now = UnixMs(1_772_409_600_000);
        let environment: Environment = [("TZ", "Europe/Berlin")].into_iter().collect();
        let read = |text: &str| instant("--after <t>", text, now, &environment).map(UnixMs::to_iso);
        for (text, expected) in [
            ("2h", "2026-03-01T22:00:00.000Z"),
            ("3d", "2026-02-27T00:00:00.000Z"),
            ("90m", "2026-03-01T22:30:00.000Z"),
            ("2026-02-01", "2026-02-01T00:00:00.000Z"),
            ("2026-02-01T09:00", "2026-02-01T08:00:00.000Z"),
            ("2026-02-01T09:00:01.5Z", ""),
            ("2026-02-01T09:00:01Z", "2026-02-01T09:00:01.000Z"),
            ("2026-02-01t09:00-05:00", "2026-02-01T14:00:00.000Z"),
        ] {
            assert_eq!(read(text).unwrap_or_default(), expected, "{text}");
        }
        for wrong in
            ["", "h", "-2h", "2", "2 h", "yesterday", "2026-02-30", "99999999999999999h", "9223372036854775807m"]
        {
            let error = read(wrong).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("error: option '--after <t>' argument '{wrong}' is invalid. ")),
                "{error}"
            );
        }
    }
}
