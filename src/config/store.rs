//! How the databases of the store are written.

use caxton_shards::domain::DomainError;

use super::value::Setting;

/// How SQLite writes a shard's database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Vfs {
    /// Writes and syncs go through `io_uring`.
    #[default]
    Uring,
    /// Writes use ordinary system calls, by SQLite's own VFS.
    Unix,
}

impl Vfs {
    const ALL: [(Self, &str); 2] = [(Self::Uring, "uring"), (Self::Unix, "unix")];
}

impl Setting for Vfs {
    fn read(text: &str) -> Result<Self, DomainError> {
        let found = Self::ALL.into_iter().find(|(_, word)| *word == text.trim());
        found.map(|(vfs, _)| vfs).ok_or_else(|| DomainError::not_allowed("store vfs", text, "uring or unix"))
    }

    fn show(&self) -> String {
        let word = Self::ALL.into_iter().find(|(vfs, _)| vfs == self).map_or("", |(_, word)| word);
        format!("\"{word}\"")
    }
}
