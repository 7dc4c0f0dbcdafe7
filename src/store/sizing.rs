//! The room needed by a start: everything left of an earlier run is rewritten before that is removed.

use std::path::Path;

use caxton_shards::journal::frame::{BLOCK_BYTES, FRAME_BYTES_MAX};
use caxton_shards::journal::record::{Lsn, Records};
use caxton_shards::shard::recovery::RecoveredState;
use rustix::process::{Resource, getrlimit};

use super::StoreError;

/// Besides the current segment, a journal has the next one ready.
const SPARE_SEGMENTS: u64 = 1;
/// The initial size of a shard's databases, in bytes.
const DATABASE_BYTES: u64 = 1 << 20;

/// Returns the number of segments of this length that a journal needs for what one shard recovers, including the spare
/// one.
pub fn segments_needed(share: &RecoveredState, segment_bytes: u64) -> u64 {
    let mut bytes = 0;
    let mut records = Records::after(Lsn(0));
    share.write_down(&mut records, |records| {
        bytes += records.bytes().len() as u64;
        records.clear();
    });
    bytes += records.bytes().len() as u64;
    // Frames end on whole blocks, and a frame that does not fit begins the next segment.
    let framed = bytes + bytes / (FRAME_BYTES_MAX / (2 * BLOCK_BYTES)) as u64;
    let usable = segment_bytes.saturating_sub(FRAME_BYTES_MAX as u64).max(segment_bytes / 2).max(1);
    framed.div_ceil(usable).max(1) + SPARE_SEGMENTS
}

/// Checks that there is room for this many segments, besides existing files, and that files may have their length.
///
/// # Errors
///
/// There is no room, or it cannot be determined. Nothing was changed.
pub fn check_room(directory: &Path, segments: u64, segment_bytes: u64, shards: u16) -> Result<(), StoreError> {
    let failed = |error: rustix::io::Errno| StoreError::Directory { path: directory.to_owned(), error: error.into() };
    let limit = getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX);
    if limit < segment_bytes {
        return Err(StoreError::FileSizeLimit { path: directory.to_owned(), limit, segment_bytes });
    }
    let space = rustix::fs::statvfs(directory).map_err(failed)?;
    let available = space.f_bavail.saturating_mul(space.f_frsize);
    let needed = segments.saturating_mul(segment_bytes).saturating_add(u64::from(shards) * DATABASE_BYTES);
    if available < needed {
        return Err(StoreError::NoRoom { path: directory.to_owned(), needed, available, segments, segment_bytes });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_refused_with_the_sizes() {
        let directory = tempfile::tempdir().expect("a directory");
        let segments = segments_needed(&RecoveredState::default(), 1 << 20);
        assert_eq!(segments, 2, "one to write and one in reserve");
        check_room(directory.path(), segments, 64 << 10, 1).expect("there is room for so little");
        let refused = check_room(directory.path(), 1 << 40, 1 << 20, 1).expect_err("no disk is so large");
        assert!(matches!(&refused, StoreError::NoRoom { segment_bytes: 1_048_576, .. }), "{refused}");
        assert!(refused.to_string().contains("free at least"), "{refused}");
    }
}
