//! What happens to a message that finds its receiver's mailbox full.

use crate::domain::DomainError;

/// What happens to a message that finds its receiver's mailbox full.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum OverflowPolicy {
    /// It is refused: it becomes a dead letter of the reason `mailbox-full`, and its sender gets a `failure`.
    #[default]
    Reject,
    /// It waits, and so do those who go on sending to this receiver, each for as long as its message lives.
    BackPressure,
    /// The oldest waiting message of the lowest lane makes room, unless that lane is above the new message's: it becomes
    /// a dead letter of the reason `displaced`, and its sender gets a `failure`. If none may be displaced, the new one is
    /// refused.
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
            "overflow policy \"drop\" is not allowed: allowed is reject, back-pressure or drop-oldest"
        );
    }
}
