//! A directory or a file that a setting names.

use std::path::{Path, PathBuf};

use caxton_shards::domain::DomainError;

use super::value::{Setting, is_plain};

macro_rules! path {
    ($(#[$attribute:meta])* $type:ident, $what:literal) => {
        #[doc = concat!("An optional ", $what, ".")]
        $(#[$attribute])*
        #[derive(Debug, Clone, PartialEq, Eq, Default)]
        pub struct $type(Option<PathBuf>);

        $(#[$attribute])*
        impl $type {
            #[doc = concat!("Returns the ", $what, ", if there is one.")]
            pub fn path(&self) -> Option<&Path> {
                self.0.as_deref()
            }
        }

        $(#[$attribute])*
        impl From<PathBuf> for $type {
            fn from(path: PathBuf) -> Self {
                Self(Some(path))
            }
        }

        $(#[$attribute])*
        impl Setting for $type {
            fn read(text: &str) -> Result<Self, DomainError> {
                read_path($what, text).map(Self)
            }

            fn show(&self) -> String {
                show_path(self.path())
            }
        }
    };
}

path!(Directory, "directory");
path!(
    #[cfg(feature = "serve")]
    FilePath,
    "file"
);

/// Reads a path; an empty text is none.
pub(super) fn read_path(field: &'static str, text: &str) -> Result<Option<PathBuf>, DomainError> {
    const ALLOWED: &str = "a path without quotes, backslashes and control characters, or nothing";
    if !is_plain(text) {
        return Err(DomainError::not_allowed(field, text, ALLOWED));
    }
    let text = text.trim();
    Ok((!text.is_empty()).then(|| PathBuf::from(text)))
}

/// Formats a path in TOML.
pub(super) fn show_path(path: Option<&Path>) -> String {
    format!("\"{}\"", path.map(|path| path.display().to_string()).unwrap_or_default())
}
