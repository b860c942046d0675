//! Which entries are wanted.

use super::super::pattern::Pattern;
use super::super::stored::{Object, number};
use crate::base::clock::UnixMs;

/// Which entries are wanted. What is `None` wants all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this instance.
    pub instance: Option<String>,
    /// Later than this.
    pub after: Option<UnixMs>,
    /// Earlier than this.
    pub before: Option<UnixMs>,
    /// At this level or above; an entry without a level counts as `info`.
    pub least_level: Option<i64>,
    /// With this somewhere in its line, as it stands in the file.
    pub pattern: Option<Pattern>,
}

impl Filter {
    /// Whether an entry is wanted, but for the pattern: that is about its line.
    pub fn matches(&self, entry: &Object) -> bool {
        let level = || number(entry, "level").unwrap_or(30);
        let time = || number(entry, "time");
        self.instance.as_ref().is_none_or(|wanted| entry.get("instance").and_then(|id| id.as_str()) == Some(wanted))
            && self.least_level.is_none_or(|least| level() >= least)
            && self.after.is_none_or(|after| time().is_some_and(|time| time > after.0))
            && self.before.is_none_or(|before| time().is_some_and(|time| time < before.0))
    }

    /// Whether a line can have a wanted entry. Looking for the instance's id costs much less than reading the entry; ids
    /// are written as they are.
    pub(super) fn may_match(&self, line: &[u8]) -> bool {
        let is_plain = |id: &str| id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let id = self.instance.as_deref().filter(|id| is_plain(id));
        if id.is_none() && self.pattern.is_none() {
            return true;
        }
        let Ok(line) = std::str::from_utf8(line) else { return false };
        id.is_none_or(|id| line.contains(id)) && self.pattern.as_ref().is_none_or(|pattern| pattern.is_in(line))
    }
}
