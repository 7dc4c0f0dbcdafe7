//! How a number with limits is declared: macros for the types of [`limits`](super::limits), and the checks that these
//! types share.

use super::DomainError;
use std::fmt;
use std::num::IntErrorKind;

/// Declares a whole number with limits: the nutype, the constants for its limits, and `FromStr`.
macro_rules! whole_number {
    (
        $(#[$documentation:meta])*
        $name:ident($inner:ident): $field:literal, $minimum:literal to $maximum:literal $unit:literal
        $(, $default_trait:ident = $default:literal)?
    ) => {
        $(#[$documentation])*
        #[nutype(
            validate(with = $name::check, error = DomainError),
            $(default = $default,)?
            derive(
                Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Display, AsRef, Deref, Into, TryFrom
                $(, $default_trait)?
            )
        )]
        pub struct $name($inner);

        impl $name {
            /// The smallest value accepted.
            pub const MINIMUM: $inner = $minimum;
            /// The largest value accepted.
            pub const MAXIMUM: $inner = $maximum;
            /// The name of the value in errors.
            pub const FIELD: &'static str = $field;
            /// Describes the accepted values, with their unit.
            pub fn allowed() -> String {
                allowed_range(Self::MINIMUM, Self::MAXIMUM, $unit)
            }

            fn check(value: &$inner) -> Result<(), DomainError> {
                check_range(Self::FIELD, *value, Self::MINIMUM, Self::MAXIMUM, $unit)
            }
        }

        impl FromStr for $name {
            type Err = DomainError;

            /// Parses a decimal number without unit, sign or separators.
            fn from_str(text: &str) -> Result<Self, DomainError> {
                let text = text.trim();
                match text.parse::<$inner>() {
                    Ok(value) => Self::try_new(value),
                    Err(error) => Err(whole_number_error(Self::FIELD, text, *error.kind(), Self::allowed())),
                }
            }
        }
    };
}

/// Declares a fractional number with limits: the nutype, the constants for its limits, and `FromStr`.
macro_rules! real_number {
    ($(#[$documentation:meta])* $name:ident: $field:literal, $minimum:literal to $maximum:literal) => {
        $(#[$documentation])*
        #[nutype(
            validate(with = $name::check, error = DomainError),
            derive(Debug, Clone, Copy, PartialEq, Display, AsRef, Deref, Into, TryFrom)
        )]
        pub struct $name(f64);

        impl $name {
            /// The smallest value accepted.
            pub const MINIMUM: f64 = $minimum;
            /// The largest value accepted.
            pub const MAXIMUM: f64 = $maximum;
            /// The name of the value in errors.
            pub const FIELD: &'static str = $field;

            /// Describes the accepted values.
            pub fn allowed() -> String {
                allowed_range(Self::MINIMUM, Self::MAXIMUM, "")
            }

            fn check(value: &f64) -> Result<(), DomainError> {
                check_range(Self::FIELD, *value, Self::MINIMUM, Self::MAXIMUM, "")
            }
        }

        /// The range excludes NaN, so equality is total.
        impl Eq for $name {}

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                self.into_inner().total_cmp(&other.into_inner())
            }
        }

        impl FromStr for $name {
            type Err = DomainError;

            /// Parses a decimal number such as `1.5`.
            fn from_str(text: &str) -> Result<Self, DomainError> {
                let text = text.trim();
                match text.parse::<f64>() {
                    Ok(value) => Self::try_new(value),
                    Err(_) => Err(DomainError::not_a_number(Self::FIELD, text, Self::allowed())),
                }
            }
        }
    };
}

/// Adds a conversion to `usize`; only for types that fit into a 32-bit `usize`.
macro_rules! usable_as_size {
    ($($name:ident),+ $(,)?) => {
        $(impl $name {
            /// Returns the value as a number of elements.
            pub fn as_usize(self) -> usize {
                self.into_inner() as usize
            }
        })+
    };
}

/// Adds a conversion to `Duration`.
macro_rules! usable_as_duration {
    ($($name:ident: $from_unit:ident),+ $(,)?) => {
        $(impl $name {
            /// Returns the value as a `Duration`.
            pub fn as_duration(self) -> Duration {
                Duration::$from_unit(u64::from(self.into_inner()))
            }
        })+
    };
}

pub(super) use {real_number, usable_as_duration, usable_as_size, whole_number};

/// Returns the error for a number outside its limits.
pub(super) fn check_range<Number>(
    field: &'static str,
    value: Number,
    minimum: Number,
    maximum: Number,
    unit: &str,
) -> Result<(), DomainError>
where
    Number: PartialOrd + fmt::Display + Copy,
{
    if (minimum..=maximum).contains(&value) {
        Ok(())
    } else {
        Err(DomainError::out_of_range(field, value, allowed_range(minimum, maximum, unit)))
    }
}

/// Describes a range with its unit, for errors and documentation.
pub(super) fn allowed_range<Number: fmt::Display>(minimum: Number, maximum: Number, unit: &str) -> String {
    let separator = if unit.is_empty() { "" } else { " " };
    format!("{minimum} to {maximum}{separator}{unit}")
}

/// Distinguishes a number that is too large or negative, and so out of range, from text that is not a number.
pub(super) fn whole_number_error(field: &'static str, text: &str, kind: IntErrorKind, allowed: String) -> DomainError {
    let negative = text
        .strip_prefix('-')
        .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()));
    match kind {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => DomainError::out_of_range(field, text, allowed),
        _ if negative => DomainError::out_of_range(field, text, allowed),
        _ => DomainError::not_a_number(field, text, allowed),
    }
}
