//! A directory that a setting names.

use std::path::{Path, PathBuf};

use caxton_shards::domain::DomainError;

use super::value::Setting;

/// An optional directory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Directory(Option<PathBuf>);

impl Directory {
    /// Returns the directory, if there is one.
    pub fn path(&self) -> Option<&Path> {
        self.0.as_deref()
    }
}

impl From<PathBuf> for Directory {
    fn from(path: PathBuf) -> Self {
        Self(Some(path))
    }
}

impl Setting for Directory {
    fn read(text: &str) -> Result<Self, DomainError> {
        const ALLOWED: &str = "a path without quotes, backslashes and control characters, or nothing";
        let odd = |letter: char| letter.is_control() || matches!(letter, '"' | '\\');
        if text.contains(odd) {
            return Err(DomainError::not_allowed("directory", text, ALLOWED));
        }
        let text = text.trim();
        Ok(Self((!text.is_empty()).then(|| PathBuf::from(text))))
    }

    fn show(&self) -> String {
        format!("\"{}\"", self.0.as_deref().map(|path| path.display().to_string()).unwrap_or_default())
    }
}
