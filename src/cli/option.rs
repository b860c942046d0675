//! Values of options that are wrong (cli-config.md §2.1).

use std::ops::RangeInclusive;

use crate::base::error::UsageError;

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
