//! Values of options that are wrong (cli-config.md §2.1).

use std::ops::RangeInclusive;

use crate::base::clock::UnixMs;
use crate::base::error::UsageError;

/// Letters for how long ago something is, in milliseconds.
const UNITS: [(char, i64); 3] = [('m', 60_000), ('h', 3_600_000), ('d', 86_400_000)];

/// The usage error for a value. `option` as help shows it: `-n, --lines <N>`; `reason` is a sentence.
pub(crate) fn invalid(option: &str, value: &str, reason: &str) -> UsageError {
    UsageError(format!("error: option '{option}' argument '{value}' is invalid. {reason}"))
}

/// A whole number from a range.
///
/// # Errors
/// A usage error with the range.
pub(crate) fn number(option: &str, value: &str, range: RangeInclusive<usize>) -> Result<usize, UsageError> {
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let number = if is_number { value.parse().ok() } else { None };
    number.filter(|number| range.contains(number)).ok_or_else(|| {
        invalid(option, value, &format!("It has to be a whole number from {} to {}.", range.start(), range.end()))
    })
}

/// The instant as long ago as a text says: `90m`, `2h`, `3d`; `None` when it says something else.
pub(crate) fn ago(text: &str, now: UnixMs) -> Option<UnixMs> {
    let (unit, milliseconds) = UNITS.into_iter().find(|(unit, _)| text.ends_with(*unit))?;
    let count = text.strip_suffix(unit)?;
    let is_count = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
    let ago = is_count.then(|| count.parse::<i64>().ok()).flatten()?.checked_mul(milliseconds)?;
    now.0.checked_sub(ago).map(UnixMs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_numbers_in_the_range_are_numbers() {
        assert_eq!(number("-n", "7", 1..=10).unwrap(), 7);
        for wrong in ["", "0", "11", "+7", "-7", "7.0", "x", "99999999999999999999999"] {
            let error = number("-n, --lines <N>", wrong, 1..=10).unwrap_err().to_string();
            let expected = format!(
                "error: option '-n, --lines <N>' argument '{wrong}' is invalid. It has to be a whole number from 1 to 10."
            );
            assert_eq!(error, expected);
        }
    }
}
