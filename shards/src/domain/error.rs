//! The error returned when a value is refused.

use std::convert::Infallible;
use std::fmt;

/// Maximum length of the excerpt of a refused value in an error, in characters.
pub const ERROR_VALUE_CHARACTERS_MAX: usize = 64;

/// A value was refused. States what would be accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {value} {kind}: expected {allowed}")]
pub struct DomainError {
    /// The name of the field, such as `mailbox capacity`.
    pub field: &'static str,
    /// The refused value, escaped and cut after [`ERROR_VALUE_CHARACTERS_MAX`] characters.
    pub value: String,
    /// The kind of error.
    pub kind: DomainErrorKind,
    /// The values that the field accepts, with their unit.
    pub allowed: String,
}

/// Why a value was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DomainErrorKind {
    /// The number is below the minimum or above the maximum.
    OutOfRange,
    /// The text is not a number.
    NotANumber,
    /// The text has the wrong length, contains forbidden characters, or is not one of the known words.
    NotAllowed,
}

impl fmt::Display for DomainErrorKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::OutOfRange => "is out of range",
            Self::NotANumber => "is not a number",
            Self::NotAllowed => "is not allowed",
        })
    }
}

/// For values that need no check.
impl From<Infallible> for DomainError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl DomainError {
    /// Creates the error for a number outside its limits; `allowed` includes the unit.
    pub fn out_of_range(field: &'static str, value: impl fmt::Display, allowed: impl Into<String>) -> Self {
        Self { field, value: excerpt(&value.to_string()), kind: DomainErrorKind::OutOfRange, allowed: allowed.into() }
    }

    /// Creates the error for text that is not a number; `allowed` includes the unit.
    pub fn not_a_number(field: &'static str, value: &str, allowed: impl Into<String>) -> Self {
        Self { field, value: quoted(value), kind: DomainErrorKind::NotANumber, allowed: allowed.into() }
    }

    /// Creates the error for text that the field does not accept.
    pub fn not_allowed(field: &'static str, value: &str, allowed: impl Into<String>) -> Self {
        Self { field, value: quoted(value), kind: DomainErrorKind::NotAllowed, allowed: allowed.into() }
    }
}

/// Cuts and escapes a value, so that a hostile one can neither flood a log nor control a terminal.
fn excerpt(value: &str) -> String {
    let mut characters = value.chars();
    let mut cut: String = characters.by_ref().take(ERROR_VALUE_CHARACTERS_MAX).collect();
    if characters.next().is_some() {
        // The ellipsis counts towards the limit.
        cut.pop();
        cut.push('…');
    }
    cut.chars().flat_map(char::escape_debug).collect()
}

fn quoted(value: &str) -> String {
    format!("\"{}\"", excerpt(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::AgentName;

    #[test]
    fn an_error_cuts_and_escapes_the_value() {
        let error = AgentName::try_new(format!("\u{1b}{}", "n".repeat(10_000))).expect_err("it is too long");
        assert!(error.value.starts_with("\"\\u{1b}n"), "{}", error.value);
        assert!(error.value.ends_with("n…\""), "{}", error.value);
        assert_eq!(excerpt(&"ä".repeat(65)).chars().count(), ERROR_VALUE_CHARACTERS_MAX);
        assert_eq!(excerpt(&"ä".repeat(64)), "ä".repeat(64));
    }
}
