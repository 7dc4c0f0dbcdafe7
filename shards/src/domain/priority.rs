//! The priority of a message.

use super::DomainError;
use std::fmt;
use std::str::FromStr;

/// The mailbox lane in which a message waits. Higher lanes are always served first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Priority {
    /// Served when all other lanes are empty.
    Low = 0,
    /// The default lane.
    #[default]
    Normal = 1,
    /// Served before normal messages.
    High = 2,
    /// Served before all other messages from agents.
    Urgent = 3,
}

impl Priority {
    /// The number of lanes.
    pub const LANES: usize = Self::ALL.len();

    /// All lanes, lowest first.
    pub const ALL: [Self; 4] = [Self::Low, Self::Normal, Self::High, Self::Urgent];

    /// Returns the lane's index in [`Priority::ALL`], for tables with one entry per lane.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Returns the lane's name, as accepted by [`FromStr`].
    pub const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
            Self::Urgent => "urgent",
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl FromStr for Priority {
    type Err = DomainError;

    /// Parses a lane's name, ignoring case.
    fn from_str(text: &str) -> Result<Self, DomainError> {
        Self::ALL
            .into_iter()
            .find(|priority| priority.name().eq_ignore_ascii_case(text.trim()))
            .ok_or_else(|| DomainError::not_allowed("priority", text, "low, normal, high or urgent"))
    }
}
