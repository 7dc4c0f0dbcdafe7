//! Read-only access to the host's files: needs only read permission.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use super::Files;

/// Reads files through the page cache.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostFiles;

impl Files for HostFiles {
    fn names(&self, directory: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(directory)? {
            names.extend(entry?.file_name().into_string());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        let found = fs::metadata(path)?;
        if found.is_file() { Ok(found.len()) } else { Err(io::Error::new(io::ErrorKind::InvalidData, "it is no file")) }
    }

    fn read(&self, path: &Path, length: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(usize::try_from(length).map_err(io::Error::other)?);
        File::open(path)?.take(length).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}
