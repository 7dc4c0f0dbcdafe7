//! Lists of files with definitions.

use std::path::{Path, PathBuf};

use caxton_shards::domain::DomainError;

use super::error::{ConfigError, ConfigErrors};
use super::file::read;
use super::value::{Setting, entries, is_plain};

/// Maximum number of files listed by one key.
pub const FILES_MAX: usize = 64;

/// Files, in the order in which they are read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileList(Vec<PathBuf>);

impl FileList {
    /// Returns the files.
    pub fn as_slice(&self) -> &[PathBuf] {
        &self.0
    }

    /// Returns what `parse` reads from all of the files, in order. `parse` adds the errors in a file to the list passed
    /// to it.
    pub(super) fn read_all<T>(
        &self,
        parse: impl Fn(&Path, &str, &mut Vec<ConfigError>) -> Vec<T>,
    ) -> Result<Vec<T>, ConfigErrors> {
        let (mut found, mut errors) = (Vec::new(), Vec::new());
        for path in &self.0 {
            match read(path) {
                Ok(text) => found.extend(parse(path, &text, &mut errors)),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(found) } else { Err(ConfigErrors::new(errors)) }
    }
}

impl Setting for FileList {
    fn read(text: &str) -> Result<Self, DomainError> {
        const ALLOWED: &str =
            "up to 64 paths with commas between them, without quotes, backslashes and control characters";
        const { assert!(FILES_MAX == 64, "the text says so") };
        let files: Vec<PathBuf> = entries(text).map(PathBuf::from).collect();
        if files.len() > FILES_MAX || !is_plain(text) {
            return Err(DomainError::not_allowed("files", text, ALLOWED));
        }
        Ok(Self(files))
    }

    fn show(&self) -> String {
        let files: Vec<_> = self.0.iter().map(|file| file.display().to_string()).collect();
        format!("\"{}\"", files.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_files_read_back() {
        let files = FileList::read("house.toml, /etc/caxton/more.toml").expect("two files");
        assert_eq!(files.as_slice().len(), 2);
        assert_eq!(FileList::read(files.show().trim_matches('"')), Ok(files));
        for text in ["a\"b", "a\\b", "a\nb"] {
            let error = FileList::read(text).expect_err(text).to_string();
            assert!(error.contains("up to 64 paths"), "{error}");
        }
        let many = vec!["rules.toml"; FILES_MAX + 1];
        assert!(FileList::read(&many.join(",")).is_err() && FileList::read(&many[1..].join(",")).is_ok());
    }
}
