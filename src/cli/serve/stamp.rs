//! What a file was like when it was read, to notice that it has changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use caxton_router::Config;

/// The size of a file and the time of its last change; `None` if it cannot be looked at.
pub type Stamp = Option<(u64, SystemTime)>;

/// Returns what a file is like now. Take it before the file is read, so that a later change is noticed.
pub fn stamp(file: &Path) -> Stamp {
    let metadata = fs::metadata(file).ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}

/// The files that settings name and that only a start reads.
pub struct StartFiles(Vec<(&'static str, PathBuf, Stamp)>);

impl StartFiles {
    /// Notes what they are like. Call it before the start.
    pub fn of(config: &Config) -> Self {
        let protocols = config.protocols.files.as_slice().iter().map(|file| ("protocols.files", file.as_path()));
        let plugins = config.plugins.files.iter().map(|(_, file)| ("plugins.files", file));
        let files = protocols.chain(plugins);
        Self(files.map(|(setting, file)| (setting, file.to_owned(), stamp(file))).collect())
    }

    /// Returns those that have changed since, with their settings.
    pub fn changed(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        self.0
            .iter()
            .filter(|(_, file, read)| stamp(file) != *read)
            .map(|(setting, file, _)| (*setting, file.as_path()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_named_with_its_setting() {
        let directory = tempfile::tempdir().expect("there is a place for files");
        let file = directory.path().join("protocols.toml");
        fs::write(&file, "").expect("it is written");
        let mut config = Config::default();
        config.set("protocols.files", &file.display().to_string(), "test").expect("a legal value");
        let files = StartFiles::of(&config);
        assert_eq!(files.changed().count(), 0);
        fs::write(&file, "# changed").expect("it is written");
        assert_eq!(files.changed().collect::<Vec<_>>(), [("protocols.files", file.as_path())]);
        fs::remove_file(&file).expect("it is removed");
        assert_eq!(files.changed().count(), 1);
    }
}
