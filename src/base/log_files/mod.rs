//! Log files as data (scheduler.md §13, gateway.md §16): which there are of a log, what stands in them, which may go.
//!
//! Nothing here loads a file whole: whoever wants the last entries of a log gets them from its end, however large it is.

mod lines;
mod mark;
mod pattern;
mod position;
mod prune;
mod read;
mod stored;

pub use mark::Mark;
pub use pattern::Pattern;
pub use position::{Day, Position};
pub use prune::{Pruned, prune};
pub use read::{Filter, LogFiles, Page, Query};
pub use stored::{Object, level_number};

/// Name and day of a log file, when it is one: `<name>-<YYYY-MM-DD>.log`.
fn name_and_day(file: &str) -> Option<(&str, Day)> {
    let stem = file.strip_suffix(".log")?;
    let (name, day) = stem.split_at_checked(stem.len().checked_sub(Day::LENGTH)?)?;
    let name = name.strip_suffix('-').filter(|name| !name.is_empty())?;
    Some((name, Day::parse(day)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_only_begins_the_same_is_another_log() {
        let name = |file| name_and_day(file).map(|(name, day)| format!("{name} {day}"));
        assert_eq!(name("dev-2026-01-02.log").as_deref(), Some("dev 2026-01-02"));
        assert_eq!(name("dev-ops-2026-01-02.log").as_deref(), Some("dev-ops 2026-01-02"));
        assert_eq!(name("a-2025-01-01-2026-01-02.log").as_deref(), Some("a-2025-01-01 2026-01-02"));
        for other in ["dev-2026-01-02.log.gz", "-2026-01-02.log", "2026-01-02.log", "dev-2026-1-02.log", "dév.log"] {
            assert_eq!(name(other), None, "{other}");
        }
    }
}
