//! The three presets.

use caxton_shards::domain::DomainError;
use std::fmt;
use std::str::FromStr;

/// A value for every key, for a purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Preset {
    /// Small queues and long time limits: mistakes show early, and a debugger does not run into timeouts.
    #[default]
    Development,
    /// Short time limits, so that automated tests end soon.
    Testing,
    /// Large queues and patient retries.
    Production,
}

impl Preset {
    /// All presets, in the order of the columns in the table of keys.
    pub const ALL: [Self; 3] = [Self::Development, Self::Testing, Self::Production];

    /// Returns the name by which a file, the environment and the command line choose it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Testing => "testing",
            Self::Production => "production",
        }
    }

    /// Returns the names of all presets, as text.
    pub const fn allowed() -> &'static str {
        "development, testing or production"
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl FromStr for Preset {
    type Err = DomainError;

    fn from_str(text: &str) -> Result<Self, DomainError> {
        Self::ALL
            .into_iter()
            .find(|preset| preset.name() == text.trim())
            .ok_or_else(|| DomainError::not_allowed("preset", text, Self::allowed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_read_by_their_names() {
        for preset in Preset::ALL {
            assert_eq!(preset.to_string().parse(), Ok(preset));
        }
        assert_eq!(
            "prod".parse::<Preset>().expect_err("names are not shortened").to_string(),
            "preset \"prod\" is not allowed: expected development, testing or production"
        );
    }
}
