//! What lines of a log are searched for.

use regex_lite::{Regex, RegexBuilder};

/// Most memory of a compiled pattern. It bounds the time for a byte of a log, too: the engine tries every place in the
/// pattern at most once for each.
const MOST_BYTES: usize = 64 * 1024;

/// A regular expression. The time that it takes grows with the length of the line, never faster.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// In words, when it is malformed or too large.
    pub fn parse(text: &str) -> Result<Self, String> {
        RegexBuilder::new(text).size_limit(MOST_BYTES).build().map(Self).map_err(|error| error.to_string())
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether it matches somewhere in a line.
    pub(super) fn is_in(&self, line: &str) -> bool {
        self.0.is_match(line)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Pattern {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_have_limits() {
        for refused in ["(", "a{1000}{1000}", "[[:alpha:]]{9999}", &"(".repeat(100)] {
            assert!(Pattern::parse(refused).is_err(), "{refused}");
        }
        // Where others backtrack for ever.
        let hard = Pattern::parse("(a*)*(a|aa)+$").unwrap();
        assert!(!hard.is_in(&format!("{}b", "a".repeat(20_000))));
    }
}
