//! What happens to a message that finds its receiver's mailbox full.

use crate::domain::DomainError;

/// How a full mailbox treats a message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum OverflowPolicy {
    /// Refuses it: it is dead-lettered with the reason `mailbox-full`, and its sender gets a `failure`.
    #[default]
    Reject,
    /// Makes it and later messages to this receiver wait, each for at most its lifetime.
    BackPressure,
    /// Drops the oldest waiting message of the lowest lane, unless that lane is above the new message's: the dropped
    /// one is dead-lettered with the reason `displaced`, and its sender gets a `failure`. If none can be
    /// displaced, the new one is refused.
    DropOldest,
}

impl OverflowPolicy {
    /// All policies.
    pub const ALL: [Self; 3] = [Self::Reject, Self::BackPressure, Self::DropOldest];
    /// What is accepted as text.
    pub const ALLOWED: &str = "reject, back-pressure or drop-oldest";

    /// The policy as one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::BackPressure => "back-pressure",
            Self::DropOldest => "drop-oldest",
        }
    }
}

impl std::fmt::Display for OverflowPolicy {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl std::str::FromStr for OverflowPolicy {
    type Err = DomainError;

    fn from_str(text: &str) -> Result<Self, DomainError> {
        let found = Self::ALL.into_iter().find(|policy| policy.as_str() == text.trim());
        found.ok_or_else(|| DomainError::not_allowed("overflow policy", text, Self::ALLOWED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_by_their_words() {
        for policy in OverflowPolicy::ALL {
            assert_eq!(policy.as_str().parse(), Ok(policy));
        }
        assert_eq!(
            "drop".parse::<OverflowPolicy>().unwrap_err().to_string(),
            "overflow policy \"drop\" is not allowed: expected reject, back-pressure or drop-oldest"
        );
    }
}
