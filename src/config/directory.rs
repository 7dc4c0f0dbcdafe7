//! A directory or a file that a setting names.

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
        read_path("directory", text).map(Self)
    }

    fn show(&self) -> String {
        show_path(self.path())
    }
}

/// An optional file.
#[cfg(feature = "serve")]
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FilePath(Option<PathBuf>);

#[cfg(feature = "serve")]
impl FilePath {
    /// Returns the file, if there is one.
    pub fn path(&self) -> Option<&Path> {
        self.0.as_deref()
    }
}

#[cfg(feature = "serve")]
impl From<PathBuf> for FilePath {
    fn from(path: PathBuf) -> Self {
        Self(Some(path))
    }
}

#[cfg(feature = "serve")]
impl Setting for FilePath {
    fn read(text: &str) -> Result<Self, DomainError> {
        read_path("file", text).map(Self)
    }

    fn show(&self) -> String {
        show_path(self.path())
    }
}

/// Reads a path; an empty text is none.
pub(super) fn read_path(field: &'static str, text: &str) -> Result<Option<PathBuf>, DomainError> {
    const ALLOWED: &str = "a path without quotes, backslashes and control characters, or nothing";
    let odd = |letter: char| letter.is_control() || matches!(letter, '"' | '\\');
    if text.contains(odd) {
        return Err(DomainError::not_allowed(field, text, ALLOWED));
    }
    let text = text.trim();
    Ok((!text.is_empty()).then(|| PathBuf::from(text)))
}

/// Formats a path in TOML.
pub(super) fn show_path(path: Option<&Path>) -> String {
    format!("\"{}\"", path.map(|path| path.display().to_string()).unwrap_or_default())
}
