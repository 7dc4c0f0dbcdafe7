//! Why a value was refused, in words for whoever gave it.

use std::fmt;

/// How much of a refused value an error repeats, in characters.
pub const ERROR_VALUE_CHARACTERS_MAX: usize = 64;

/// Why a value was refused, with what would be accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {value} {fault}: allowed is {allowed}")]
pub struct DomainError {
    /// What the value was meant for, such as `mailbox capacity`.
    pub field: &'static str,
    /// The refused value, escaped, and cut after [`ERROR_VALUE_CHARACTERS_MAX`] characters.
    pub value: String,
    /// What is wrong with the value.
    pub fault: Fault,
    /// What the field accepts, with its unit.
    pub allowed: String,
}

/// What is wrong with a refused value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A number that lies below the minimum or above the maximum.
    OutOfRange,
    /// Text where a number is expected.
    NotANumber,
    /// Text of the wrong length, with forbidden characters, or not one of the known words.
    NotAllowed,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::OutOfRange => "is out of range",
            Self::NotANumber => "is not a number",
            Self::NotAllowed => "is not allowed",
        })
    }
}

impl DomainError {
    /// A number outside its limits; `allowed` includes the unit.
    pub fn out_of_range(field: &'static str, value: impl fmt::Display, allowed: impl Into<String>) -> Self {
        Self { field, value: excerpt(&value.to_string()), fault: Fault::OutOfRange, allowed: allowed.into() }
    }

    /// Text that cannot be read as a number; `allowed` includes the unit.
    pub fn not_a_number(field: &'static str, value: &str, allowed: impl Into<String>) -> Self {
        Self { field, value: quoted(value), fault: Fault::NotANumber, allowed: allowed.into() }
    }

    /// Text that the field does not accept.
    pub fn not_allowed(field: &'static str, value: &str, allowed: impl Into<String>) -> Self {
        Self { field, value: quoted(value), fault: Fault::NotAllowed, allowed: allowed.into() }
    }
}

/// Cuts and escapes, so that a hostile value can neither flood a log nor drive a terminal.
fn excerpt(value: &str) -> String {
    let mut characters = value.chars();
    let mut cut: String = characters.by_ref().take(ERROR_VALUE_CHARACTERS_MAX).collect();
    if characters.next().is_some() {
        // The mark of the cut counts too, so the promise of the constant holds.
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
