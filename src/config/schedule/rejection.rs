//! Why a text is no schedule (scheduler.md §3.6).

use std::fmt;

use super::field::Field;
use crate::base::text::printable;

/// Why a text is no schedule. Its `Display` is a sentence with the whole text, the field, the term and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// All of it, as it was written.
    pub text: String,
    /// Where it is wrong, if that is one field.
    pub field: Option<Field>,
    /// The part that is wrong, as it was written, if not all of it is.
    pub term: Option<String>,
    pub reason: String,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" is not a schedule: ", printable(&self.text))?;
        if let Some(field) = self.field {
            write!(f, "{field} ")?;
        }
        if let Some(term) = &self.term {
            write!(f, "\"{}\": ", printable(term))?;
        }
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Rejection {}

/// A rejection that does not know yet what it is part of.
#[derive(Debug)]
pub(super) struct Fault {
    field: Option<Field>,
    term: Option<String>,
    reason: String,
}

impl Fault {
    /// Something is wrong with the text as a whole.
    pub(super) fn whole(reason: impl Into<String>) -> Self {
        Self { field: None, term: None, reason: reason.into() }
    }

    /// Something is wrong with a term of a field.
    pub(super) fn at(field: Field, term: &str, reason: impl Into<String>) -> Self {
        Self { field: Some(field), term: Some(term.to_owned()), reason: reason.into() }
    }

    /// The rejection of a text that contains this.
    pub(super) fn within(self, text: &str) -> Rejection {
        Rejection { text: text.to_owned(), field: self.field, term: self.term, reason: self.reason }
    }
}
