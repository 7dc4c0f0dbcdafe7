//! The durable message that a shard's handler is processing, in a file that survives the process.
//!
//! The file is mapped into memory, so recording an attempt is writing eight bytes there, and after the process was
//! killed or has killed itself they are read from the file: the kernel keeps what was written. After a power cut the
//! file may be out of date. It is compared with the journal, so it can be wrong about at most one attempt, of a message
//! that still exists.

#![allow(unsafe_code)] // A file is mapped into memory.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use caxton_shards::api::{Attempt, AttemptMark};
use caxton_shards::journal::record::Lsn;
use memmap2::MmapMut;

use super::files::FILE_MODE;

/// The name of the file in a shard's directory.
const FILE: &str = "attempt";
/// Its length in bytes: one page, of which the first eight bytes are used.
const BYTES: usize = 4096;
/// The record's number is stored above the attempt's.
const NUMBER_BITS: u32 = 8;

/// The file, as written by a shard.
#[derive(Debug)]
pub struct AttemptFile {
    map: MmapMut,
}

impl AttemptFile {
    /// Creates a shard's file anew, without an attempt.
    ///
    /// # Errors
    ///
    /// The file system refuses, or cannot map files.
    pub fn create(directory: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(true).mode(FILE_MODE).open(directory.join(FILE))?;
        // The page is allocated on disk before it is written through the map.
        file.write_all(&[0; BYTES])?;
        file.sync_all()?;
        // SAFETY: the file is as long as the map, and is in a data directory that this process has to itself, as its
        // lock ensures: nobody shortens it while it is mapped. Anything another process might write there is only
        // compared with the journal.
        let map = unsafe { MmapMut::map_mut(&file)? };
        Ok(Self { map })
    }
}

impl AttemptMark for AttemptFile {
    fn set(&mut self, attempt: Option<Attempt>) {
        let word = attempt.map_or(0, |Attempt { record, number }| record.0 << NUMBER_BITS | u64::from(number));
        if let Some(place) = self.map.first_chunk_mut() {
            *place = word.to_le_bytes();
        }
    }
}

/// Returns the attempt in progress when the process that wrote this shard's directory ended.
pub fn read(directory: &Path) -> Option<Attempt> {
    let bytes = fs::read(directory.join(FILE)).ok()?;
    let word = u64::from_le_bytes(*bytes.first_chunk()?);
    let [number, ..] = word.to_le_bytes();
    let record = Lsn(word >> NUMBER_BITS);
    (word != 0).then_some(Attempt { record, number })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_marked_last_is_read() {
        let directory = tempfile::tempdir().expect("a directory");
        assert_eq!(read(directory.path()), None, "there is no file");
        let mut mark = AttemptFile::create(directory.path()).expect("the file can be made");
        assert_eq!(read(directory.path()), None);
        for attempt in [Attempt { record: Lsn(1 << 40), number: 255 }, Attempt { record: Lsn(1), number: 1 }] {
            mark.set(Some(attempt));
            assert_eq!(read(directory.path()), Some(attempt));
        }
        mark.set(None);
        assert_eq!(read(directory.path()), None);
        std::fs::write(directory.path().join(FILE), "short").expect("it can be written");
        assert_eq!(read(directory.path()), None);
    }
}
