//! Values that the router chooses itself unless they are configured.

use caxton_shards::domain::DomainError;
use std::fmt::{self, Display};
use std::str::FromStr;

/// The word that leaves the choice to the router.
const AUTOMATIC: &str = "auto";

/// A configured value: a number, or `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AutoOr<T> {
    /// The router chooses a value that suits the machine.
    #[default]
    Automatic,
    /// This value.
    Exactly(T),
}

impl<T> AutoOr<T> {
    /// Returns the configured value, or computes the automatic one.
    pub fn unwrap_or_else(self, automatic: impl FnOnce() -> T) -> T {
        match self {
            Self::Automatic => automatic(),
            Self::Exactly(value) => value,
        }
    }
}

impl<T: Display> Display for AutoOr<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Automatic => formatter.pad(AUTOMATIC),
            Self::Exactly(value) => value.fmt(formatter),
        }
    }
}

impl<T: FromStr<Err = DomainError>> FromStr for AutoOr<T> {
    type Err = DomainError;

    fn from_str(text: &str) -> Result<Self, DomainError> {
        if text.trim() == AUTOMATIC {
            return Ok(Self::Automatic);
        }
        text.parse().map(Self::Exactly).map_err(|mut error: DomainError| {
            error.allowed = format!("{AUTOMATIC}, or {}", error.allowed);
            error
        })
    }
}
