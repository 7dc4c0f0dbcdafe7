//! Bounded values for configuration, and names.
//!
//! Values of these types are valid by construction: they can only be created through their check, so code that holds a
//! [`MailboxCapacity`] need not test for zero. All checks return the same [`DomainError`], which states the field, the
//! value and what is allowed.
//!
//! Create a number with `try_new`, `TryFrom` or, from text, `FromStr`. Its limits are the associated constants
//! `MINIMUM` and `MAXIMUM`. Units are part of the type's name or of its documentation.

mod error;
mod limits;
mod names;
mod number;
mod priority;
#[cfg(test)]
mod tests;

pub use error::{DomainError, DomainErrorKind, ERROR_VALUE_CHARACTERS_MAX};
pub use limits::*;
pub use names::{
    AGENT_NAME_BYTES_MAX, AgentName, CAPABILITY_NAME_CHARACTERS_MAX, CapabilityName, PLATFORM_NAME_BYTES_MAX,
    PlatformName,
};
pub use priority::Priority;
